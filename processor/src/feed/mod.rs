//! The log as a feed: one tailer a process reads what is settled and hands it to
//! all who follow. Whoever is behind reads for itself, page by page, until it is
//! at the head; so nobody is waited for, and nothing is kept for the slow but the
//! newest pages, which all share.

mod follower;
mod metrics;
mod page;
mod tail;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use chrono::{DateTime, Utc};
use deadpool::managed::PoolError;
use diesel::result::Error as QueryError;
use diesel_async::pooled_connection::PoolError as Inner;
use kit::{settings::Secret, shutdown::CancellationToken};
use tokio::sync::{Notify, Semaphore, broadcast};

use crate::{
    domain::feed::{Cluster, Edge, Place},
    store::{
        feed::edge,
        pool::{Pool, Pooled},
    },
};
pub use follower::{Follower, Step};
pub use metrics::{FeedMetrics, WatchLabel};
pub use page::{Item, Page};

/// Pages at the head that are kept for those who are a moment late.
const KEPT_PAGES: usize = 32;
/// Reads of the log and of snapshots at a time, so that those who come back after
/// a restart leave connections for others.
const READS: usize = 2;

/// Why a watch ends.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The client went away.
    #[error("the client went away")]
    Gone,
    /// The process ends.
    #[error("the processor is shutting down")]
    ShuttingDown,
    /// The client takes nothing.
    #[error("the client takes nothing")]
    Stalled,
    /// Places mean something else now.
    #[error("the database was restored or failed over")]
    Restored,
    /// Retention dropped what comes next.
    #[error("what comes next was dropped")]
    Dropped,
    /// No connection to the database.
    #[error("no connection to the database: {0}")]
    Pool(#[from] PoolError<Inner>),
    /// A query failed.
    #[error("{0}")]
    Query(#[from] QueryError),
}

/// The feed of this process. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    url: Secret,
    pool: Pool,
    metrics: FeedMetrics,
    shutdown: CancellationToken,
    pages: broadcast::Sender<Arc<Page>>,
    /// Where the tailer is; none while it does not run.
    head: Mutex<Option<Head>>,
    followers: AtomicUsize,
    opened: Notify,
    reads: Semaphore,
}

#[derive(Clone, Debug)]
struct Head {
    cluster: Cluster,
    place: Place,
    /// Since when what is recorded cannot be told.
    unsettled: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Feed {
    /// Over a database; `pool` is for those who are behind. Ends with `shutdown`.
    pub fn new(url: Secret, pool: Pool, metrics: FeedMetrics, shutdown: CancellationToken) -> Self {
        let shared = Shared {
            url,
            pool,
            metrics,
            shutdown,
            pages: broadcast::Sender::new(KEPT_PAGES),
            head: Mutex::default(),
            followers: AtomicUsize::new(0),
            opened: Notify::new(),
            reads: Semaphore::new(READS),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is counted.
    pub fn metrics(&self) -> &FeedMetrics {
        &self.shared.metrics
    }

    /// When the process ends.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    /// A connection to read with, when it is this reader's turn.
    ///
    /// # Errors
    /// There is none.
    pub async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&mut Pooled) -> Result<T, QueryError>,
    ) -> Result<T, Ending> {
        // Never closed.
        let _turn = self.shared.reads.acquire().await;
        let mut connection = self.shared.pool.get().await?;
        Ok(read(&mut connection).await?)
    }

    /// How far the feed is settled now.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn edge(&self) -> Result<Edge, Ending> {
        self.read(async |connection| edge(connection).await).await
    }

    /// How long the oldest row is recorded that cannot be told yet, by the
    /// database's clock.
    pub fn lag(&self) -> Option<chrono::TimeDelta> {
        let (oldest, now) = self.head().as_ref()?.unsettled?;
        Some(now - oldest).filter(|lag| *lag > chrono::TimeDelta::zero())
    }

    fn head(&self) -> MutexGuard<'_, Option<Head>> {
        self.shared.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes after the head, and where that is; none while the tailer does not
    /// run.
    fn subscribe(&self) -> Option<(broadcast::Receiver<Arc<Page>>, Head)> {
        let head = self.head();
        head.as_ref().map(|head| (self.shared.pages.subscribe(), head.clone()))
    }

    fn enter(&self) -> Following {
        self.shared.followers.fetch_add(1, Ordering::SeqCst);
        self.shared.opened.notify_one();
        Following { feed: self.clone() }
    }

    /// Whether nobody follows. Then there is no head any more: looked at under its
    /// lock, as who subscribes has been counted before.
    fn rests(&self) -> bool {
        let mut head = self.head();
        let rests = self.shared.followers.load(Ordering::SeqCst) == 0;
        if rests {
            *head = None;
        }
        rests
    }
}

/// Keeps the tailer running.
struct Following {
    feed: Feed,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.feed.shared.followers.fetch_sub(1, Ordering::SeqCst);
    }
}
