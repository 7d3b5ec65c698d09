//! The tailer: reads what is settled, once for all followers of the process, and
//! only while there are any.

use std::{sync::Arc, time::Duration};

use diesel_async::AsyncPgConnection;
use tokio::time::Instant;

use super::{Feed, Head, Page};
use crate::{
    domain::feed::{Edge, Place, Since},
    store::{
        change::{Change, PAGE, page},
        feed::{edge, holder, lag},
        pool::{DatabaseError, connect},
    },
};

/// Between two looks while changes come …
const BUSY: Duration = Duration::from_millis(40);
/// … and after a while without any.
const QUIET: Duration = Duration::from_millis(100);
/// That while.
const QUIET_AFTER: Duration = Duration::from_secs(5);
/// Between two attempts while the database fails.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at how far behind the feed is, and two words about a place
/// that moves without rows.
const TELL: Duration = Duration::from_secs(1);
/// From this lag on it is told who holds the feed back.
const LONG_LAG: f64 = 5.0;
/// Bytes of a page that is handed on: what is kept is bounded by these.
const PAGE_BYTES: usize = 128 * 1024;
/// Values are known when a query is planned, so that old days are not even locked.
const SESSION: &str = "SET application_name = 'assettrack-feed'; SET plan_cache_mode = force_custom_plan";

impl Feed {
    /// Reads for followers until the process ends.
    pub async fn run(self) {
        let mut failing = false;
        let shutdown = self.shutdown().clone();
        while !shutdown.is_cancelled() {
            if self.rests() {
                tokio::select! {
                    () = self.shared.opened.notified() => continue,
                    () = shutdown.cancelled() => return,
                }
            }
            self.metrics().tailing.set(1);
            let tailed = tokio::select! {
                tailed = self.tail(&mut failing) => tailed,
                // The connection goes with the read.
                () = shutdown.cancelled() => return,
            };
            self.metrics().tailing.set(0);
            if let Err(error) = tailed {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "the feed cannot be read; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    }

    /// Until nobody follows any more.
    async fn tail(&self, failing: &mut bool) -> Result<(), DatabaseError> {
        let mut connection = connect(&self.shared.url, SESSION).await?;
        let first = edge(&mut connection).await?;
        // After a failure it goes on where it was, if that is the same database.
        let known = self.head().clone().filter(|head| head.cluster == first.cluster);
        let mut tail = Tail::at(known.map_or(first.place(None), |head| head.place));
        if std::mem::take(failing) {
            tracing::info!("the feed can be read again");
        }
        let mut at = first;
        loop {
            let more = self.step(&mut connection, &mut tail, &at).await?;
            if self.rests() {
                self.metrics().lag_rows.set(0);
                self.metrics().lag_seconds.set(0.0);
                return Ok(());
            }
            if !more {
                let quiet = tail.moved.elapsed() > QUIET_AFTER;
                tokio::time::sleep(if quiet { QUIET } else { BUSY }).await;
            }
            let now = edge(&mut connection).await?;
            if now.cluster != at.cluster {
                tail = Tail::at(now.place(None));
            }
            at = now;
        }
    }

    /// One look; tells whether there is more to be read at once.
    async fn step(
        &self,
        connection: &mut AsyncPgConnection,
        tail: &mut Tail,
        edge: &Edge,
    ) -> Result<bool, DatabaseError> {
        let since = tail.since.pass(edge);
        let mut more = false;
        if tail.place.is_before(&edge.place(None)) {
            let rows = page(connection, &tail.place, edge, None).await?;
            self.metrics().rows.inc_by(rows.len() as u64);
            more = rows.len() == PAGE;
            let end = match rows.last().filter(|_| more) {
                Some(last) => Place { xid: last.xid, id: last.row.id, since: tail.place.since },
                None => edge.place(since),
            };
            if !rows.is_empty() {
                tail.moved = Instant::now();
            }
            self.hand_on(tail, rows, edge, end);
        } else {
            // Also of a database that is another one now.
            self.hand_on(tail, Vec::new(), edge, tail.place);
        }
        if tail.looked.elapsed() >= TELL {
            tail.looked = Instant::now();
            self.look_at_lag(connection, tail, edge).await?;
        }
        Ok(more)
    }

    /// Hands rows on in pages, and moves the head along with them.
    fn hand_on(&self, tail: &mut Tail, rows: Vec<Change>, edge: &Edge, end: Place) {
        let mut head = self.head();
        let unsettled = head.as_ref().and_then(|head| head.unsettled);
        let mut pages: Vec<Vec<Change>> = Vec::new();
        let mut bytes = usize::MAX;
        for row in rows {
            bytes = bytes.saturating_add(row.size());
            match pages.last_mut() {
                Some(page) if bytes <= PAGE_BYTES => page.push(row),
                _ => {
                    bytes = row.size();
                    pages.push(vec![row]);
                }
            }
        }
        let changed = head.as_ref().is_some_and(|head| head.cluster != edge.cluster);
        if pages.is_empty() && (changed || tail.told.elapsed() >= TELL) {
            pages.push(Vec::new());
        }
        let count = pages.len();
        let start = tail.place;
        for (index, rows) in pages.into_iter().enumerate() {
            tail.told = Instant::now();
            let last = rows.last().filter(|_| index + 1 < count);
            let end = last.map_or(end, |last| Place { xid: last.xid, id: last.row.id, since: start.since });
            // Nobody may be there just now.
            let _ = self.shared.pages.send(Arc::new(Page::new(rows, edge.cluster.clone(), start, end)));
        }
        tail.place = end;
        *head = Some(Head { cluster: edge.cluster.clone(), place: end, unsettled });
    }

    async fn look_at_lag(
        &self,
        connection: &mut AsyncPgConnection,
        tail: &mut Tail,
        edge: &Edge,
    ) -> Result<(), DatabaseError> {
        let lag = lag(connection, edge, tail.place.since).await?;
        let seconds = lag.oldest.map_or(0.0, |oldest| (edge.now - oldest).as_seconds_f64().max(0.0));
        self.metrics().lag_rows.set(lag.rows);
        self.metrics().lag_seconds.set(seconds);
        if let Some(head) = self.head().as_mut() {
            head.unsettled = lag.oldest.map(|oldest| (oldest, edge.now));
        }
        let long = seconds > LONG_LAG;
        if long && !tail.held {
            let holder = holder(connection).await?;
            let (who, application, database, age) = holder.map_or_else(Default::default, |held| {
                (held.who, held.application, held.database, held.seconds)
            });
            tracing::warn!(
                rows = lag.rows,
                seconds,
                %who,
                %application,
                %database,
                transaction_seconds = age,
                "watches are behind: a transaction that began before what is recorded has not ended"
            );
        } else if !long && tail.held {
            tracing::info!("watches are not behind any more");
        }
        tail.held = long;
        Ok(())
    }
}

/// Where the tailer is.
struct Tail {
    place: Place,
    since: Since,
    /// When rows came.
    moved: Instant,
    /// When something was handed on.
    told: Instant,
    /// When the lag was looked at.
    looked: Instant,
    /// Somebody holds it back, and that was said.
    held: bool,
}

impl Tail {
    fn at(place: Place) -> Self {
        let now = Instant::now();
        Self { place, since: Since::of(&place), moved: now, told: now, looked: now, held: false }
    }
}
