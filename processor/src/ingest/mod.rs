//! Ingest: messages of the queues into the log and the fold, in one
//! transaction, duplicates and dead letters included.

mod check;
mod commit;
mod contents;
mod streams;

use std::{sync::Arc, time::Duration};

use contracts::v1::{IngestResult, QueueMessage};
use deadpool::managed::{PoolError, TimeoutType};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use crate::{
    domain::changes::Descriptors,
    store::pool::{Pool, Pooled},
};
pub use check::{Content, Message};

/// Most messages of one call.
pub const MAX_MESSAGES: usize = 1000;
/// How often a transaction that lost a race is tried again.
const RACES: u32 = 4;

/// After this a transaction is given up: PostgreSQL itself ends any statement
/// after 20 s, so its connection is half open. Longer than a collector waits.
const LONGEST_COMMIT: Duration = Duration::from_secs(40);

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Every connection is busy.
    #[error("the database pool is busy")]
    Busy,
    /// The database cannot be reached.
    #[error("no connection to the database: {0}")]
    Unreachable(String),
    /// The transaction failed; it may succeed later.
    #[error("the transaction failed: {0}")]
    Failed(#[from] QueryError),
    /// The database does not answer; what it did is for the next attempt to find.
    #[error("no answer of the database within {} s", LONGEST_COMMIT.as_secs())]
    Silent,
    /// The task that ran the transaction died.
    #[error("the transaction's task ended: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// What ingest counts.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    /// Messages committed for the first time.
    pub committed: Counter,
    /// Messages that were committed before.
    pub duplicates: Counter,
    /// Messages kept as dead letters.
    pub dead_letters: Counter,
    /// Rows appended to the log.
    pub events: Counter,
    /// Duration of a transaction.
    pub seconds: Histogram,
}

impl IngestMetrics {
    /// Makes and registers them.
    pub fn register(metrics: &kit::metrics::Metrics) -> Self {
        let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.001, 2.0, 15);
        let made = Self {
            committed: Counter::default(),
            duplicates: Counter::default(),
            dead_letters: Counter::default(),
            events: Counter::default(),
            seconds: Histogram::new(buckets),
        };
        metrics.register(|registry| {
            let own = registry.sub_registry_with_prefix("ingest");
            own.register(
                "messages_committed",
                "Messages committed for the first time",
                made.committed.clone(),
            );
            own.register("messages_duplicate", "Messages committed before", made.duplicates.clone());
            own.register(
                "messages_dead_lettered",
                "Messages kept as dead letters",
                made.dead_letters.clone(),
            );
            own.register("events", "Rows appended to the log", made.events.clone());
            own.register("transaction_seconds", "Duration of a transaction", made.seconds.clone());
        });
        made
    }
}

/// Commits messages.
#[derive(Clone)]
pub struct Ingest {
    pool: Pool,
    descriptors: Arc<Descriptors>,
    metrics: IngestMetrics,
}

impl Ingest {
    /// Takes the pool to commit to.
    pub fn new(pool: Pool, descriptors: Arc<Descriptors>, metrics: IngestMetrics) -> Self {
        Self { pool, descriptors, metrics }
    }

    /// Commits messages, all or none, and tells what became of each.
    ///
    /// # Errors
    /// Nothing was committed; see [`IngestError`].
    pub async fn commit(&self, messages: Vec<QueueMessage>) -> Result<Vec<IngestResult>, IngestError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection().await?;
        let messages: Vec<Message> = messages.into_iter().map(check::check).collect();
        let this = self.clone();
        // A task of its own: a caller that goes away must not leave a pooled
        // connection inside a transaction, with its locks.
        tokio::spawn(async move {
            let commit = this.commit_checked(connection, messages);
            tokio::time::timeout(LONGEST_COMMIT, commit).await.unwrap_or_else(|_| {
                // Idle connections have gone the same way.
                this.pool.retain(|_, _| false);
                Err(IngestError::Silent)
            })
        })
        .await?
    }

    async fn connection(&self) -> Result<Pooled, IngestError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => IngestError::Busy,
            other => IngestError::Unreachable(other.to_string()),
        })
    }

    async fn commit_checked(
        &self,
        mut connection: Pooled,
        messages: Vec<Message>,
    ) -> Result<Vec<IngestResult>, IngestError> {
        let started = std::time::Instant::now();
        let outcome = match self.attempt(&mut connection, &messages).await {
            Err(error) if is_refused_data(&error) => self.isolate(&mut connection, messages, &error).await?,
            outcome => outcome?,
        };
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.events.inc_by(outcome.events);
        for result in &outcome.results {
            match result {
                IngestResult::Duplicate => self.metrics.duplicates.inc(),
                IngestResult::DeadLettered => self.metrics.dead_letters.inc(),
                _ => self.metrics.committed.inc(),
            };
        }
        Ok(outcome.results)
    }

    /// One transaction, tried again if it lost a race.
    async fn attempt(
        &self,
        connection: &mut Pooled,
        messages: &[Message],
    ) -> Result<commit::Outcome, QueryError> {
        let mut race = 0;
        loop {
            match commit::commit(connection, messages, &self.descriptors).await {
                Err(error) if race < RACES && lost_a_race(&error) => {
                    race += 1;
                    tracing::warn!(race, %error, "transaction lost a race, trying again");
                    let pause = Duration::from_millis(rand::random_range(5..50) << race);
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Finds the messages whose data PostgreSQL refuses, keeps them as dead
    /// letters, and commits their neighbours, all in one transaction again.
    async fn isolate(
        &self,
        connection: &mut Pooled,
        mut messages: Vec<Message>,
        first: &QueryError,
    ) -> Result<commit::Outcome, QueryError> {
        tracing::warn!(error = %first, messages = messages.len(), "data refused, looking for the message");
        for message in &mut messages {
            match commit::rehearse(connection, message, &self.descriptors).await {
                Ok(()) => {}
                Err(error) if is_refused_data(&error) => message.refuse(&error.to_string()),
                Err(error) => return Err(error),
            }
        }
        self.attempt(connection, &messages).await
    }
}

/// Whether the transaction met another and may simply be run again. PostgreSQL
/// says 40001 or 40P01; diesel passes on no more than the first, and texts.
fn lost_a_race(error: &QueryError) -> bool {
    match error {
        QueryError::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        QueryError::DatabaseError(_, information) => information.message().contains("deadlock detected"),
        _ => false,
    }
}

/// Whether the data itself can never be stored. A closed list: what is not on
/// it (a broken constraint is our own mistake) is tried again, for ever if need
/// be, and never given up.
fn is_refused_data(error: &QueryError) -> bool {
    const REFUSALS: [&str; 6] = [
        "invalid byte sequence",
        "unsupported Unicode escape sequence",
        "value too long",
        "index row size",
        "index row requires",
        "timestamp out of range",
    ];
    match error {
        QueryError::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            REFUSALS.iter().any(|refusal| information.message().contains(refusal))
        }
        _ => false,
    }
}
