//! Replays: dead letters through ingest again, each in a transaction of its own.

use std::{collections::HashMap, time::Duration};

use contracts::v1::{
    DeadLetterReason, EventBatch, IngestResult, QueueMessage, queue_message::Content as Wire,
};
use deadpool::managed::{PoolError, TimeoutType};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use kit::{
    decode::{Claims, Contract, KEPT_ENCODING, NulFinder, Rejection, Unpacker, agrees, known_version, rules},
    shutdown::CancellationToken,
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    Ingest, IngestError, LONGEST_COMMIT, RACES,
    check::{Content, Message, check},
    commit, is_refused_data, lost_a_race,
};
use crate::store::{
    dead_letter::{
        ClaimedRow, Selection, begin, claim_in_txn, delete_in_txn, keep_replayed_in_txn, next_chunk,
    },
    ingest::small,
    pool::{Pool, Pooled},
};

/// Letters whose names are held at once.
const CHUNK: i64 = 500;
/// How far a replay may fall behind its rate and catch up again: what timers
/// are late by.
const LATE: Duration = Duration::from_millis(5);

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Letters that were there at the beginning.
    pub total: i64,
    /// Applied.
    pub committed: i64,
    /// Had come another way.
    pub duplicates: i64,
    /// Stay.
    pub still_dead: i64,
    /// Were gone when their turn came.
    pub gone: i64,
}

impl Progress {
    fn turns(&self) -> i64 {
        self.committed + self.duplicates + self.still_dead + self.gone
    }
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Committed { events: u64 },
    Duplicate,
    StillDead,
    Gone,
}

/// Replays dead letters.
#[derive(Clone)]
pub struct Replay {
    ingest: Ingest,
    pool: Pool,
    contract: Contract,
}

impl Replay {
    /// Takes what commits, and connections apart from those for what arrives.
    ///
    /// # Panics
    /// When the descriptors are not those of the contracts.
    pub fn new(ingest: Ingest, pool: Pool) -> Self {
        let contract = Contract::of_pool(ingest.descriptors.details().parent_pool())
            .expect("the build made these descriptors");
        Self { ingest, pool, contract }
    }

    /// Replays the letters of a selection that are there now, the oldest first,
    /// at most so many a second, and tells how far it is. Stops after the letter
    /// at hand when `stop` says so.
    ///
    /// # Errors
    /// The database cannot be used; what was replayed before stays done.
    pub async fn run(
        &self,
        selection: Selection,
        per_second: u32,
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let metrics = &self.ingest.metrics.letters;
        metrics.replays.inc();
        let ended = self.walk(selection, per_second, progress, stop).await;
        metrics.replays.dec();
        ended
    }

    async fn walk(
        &self,
        selection: Selection,
        per_second: u32,
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let mut decoder = Decoder::new(&self.contract);
        let mut connection = self.connection().await?;
        let begun = timeout(LONGEST_COMMIT, begin(&mut connection, selection)).await;
        let mut walk = begun.map_err(|_| silent(connection))??;
        progress.send_modify(|progress| progress.total = walk.total);
        let mut pace = Pace::new(per_second);
        loop {
            let mut connection = self.connection().await?;
            let chunk = timeout(LONGEST_COMMIT, next_chunk(&mut connection, &mut walk, CHUNK)).await;
            let chunk = chunk.map_err(|_| silent(connection))??;
            if chunk.is_empty() {
                break;
            }
            for uid in chunk {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    () = pace.wait() => {}
                }
                let turn = self.turn(uid, &mut decoder).await?;
                progress.send_modify(|progress| {
                    match turn {
                        Turn::Committed { .. } => progress.committed += 1,
                        Turn::Duplicate => progress.duplicates += 1,
                        Turn::StillDead => progress.still_dead += 1,
                        Turn::Gone => progress.gone += 1,
                    }
                    // One whose transaction ended after the count.
                    progress.total = progress.total.max(progress.turns());
                });
            }
        }
        // Some were gone before the walk came to them.
        progress.send_modify(|progress| progress.gone += progress.total - progress.turns());
        Ok(())
    }

    async fn connection(&self) -> Result<Pooled, IngestError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => IngestError::Busy,
            other => IngestError::Unreachable(other.to_string()),
        })
    }

    async fn turn(&self, uid: Uuid, decoder: &mut Decoder) -> Result<Turn, IngestError> {
        let mut connection = self.connection().await?;
        let turn = timeout(LONGEST_COMMIT, self.turn_on(&mut connection, uid, decoder)).await;
        let turn = turn.map_err(|_| silent(connection))??;
        self.count(turn);
        Ok(turn)
    }

    /// One letter, in a transaction that is tried again if it lost a race.
    async fn turn_on(
        &self,
        connection: &mut Pooled,
        uid: Uuid,
        decoder: &mut Decoder,
    ) -> Result<Turn, QueryError> {
        let mut race = 0;
        loop {
            let turn = connection
                .transaction(async |connection| self.turn_in_txn(connection, uid, decoder).await)
                .await;
            match turn {
                Err(error) if race < RACES && (lost_a_race(&error) || is_kept_meanwhile(&error)) => {
                    race += 1;
                    tracing::warn!(race, %error, letter = %uid, "replay lost a race, trying again");
                    tokio::time::sleep(Duration::from_millis(rand::random_range(5..50) << race)).await;
                }
                turn => return turn,
            }
        }
    }

    fn count(&self, turn: Turn) {
        let metrics = &self.ingest.metrics;
        match turn {
            Turn::Committed { events } => {
                metrics.committed.inc();
                metrics.events.inc_by(events);
                metrics.letters.replayed("COMMITTED");
            }
            Turn::Duplicate => {
                metrics.duplicates.inc();
                metrics.letters.replayed("DUPLICATE");
            }
            Turn::StillDead => metrics.letters.replayed("STILL_DEAD"),
            Turn::Gone => metrics.letters.replayed("GONE"),
        }
    }

    async fn turn_in_txn(
        &self,
        connection: &mut AsyncPgConnection,
        uid: Uuid,
        decoder: &mut Decoder,
    ) -> Result<Turn, QueryError> {
        // Another replay may hold it: wait, and see what it left.
        let Some(letter) = claim_in_txn(connection, uid).await? else { return Ok(Turn::Gone) };
        let message = match decoder.message(&letter) {
            Ok(message) => check(message),
            Err(Rejection { reason, detail }) => {
                keep_replayed_in_txn(connection, &letter, small(reason as i32), &detail).await?;
                return Ok(Turn::StillDead);
            }
        };
        if let Content::Dead(dead) = &message.content {
            keep_replayed_in_txn(connection, &letter, dead.reason, &dead.detail).await?;
            return Ok(Turn::StillDead);
        }
        match self.apply_in_txn(connection, &message).await {
            Ok(turn) => {
                delete_in_txn(connection, uid).await?;
                Ok(turn)
            }
            Err(error) if is_refused_data(&error) => {
                let reason = small(DeadLetterReason::RefusedByStore as i32);
                keep_replayed_in_txn(connection, &letter, reason, &error.to_string()).await?;
                Ok(Turn::StillDead)
            }
            Err(error) if is_our_mistake(&error) => {
                // Kept as it is, and in no other one's way.
                tracing::error!(%error, letter = %uid, "a dead letter breaks a constraint");
                let detail = "the inventory cannot take it; the processor's log says why";
                keep_replayed_in_txn(connection, &letter, letter.reason, detail).await?;
                Ok(Turn::StillDead)
            }
            Err(error) => Err(error),
        }
    }

    /// Ingests a message under a savepoint, so that the letter's transaction
    /// outlives what PostgreSQL refuses.
    async fn apply_in_txn(
        &self,
        connection: &mut AsyncPgConnection,
        message: &Message,
    ) -> Result<Turn, QueryError> {
        let messages = std::slice::from_ref(message);
        let outcome = commit::commit(connection, messages, &self.ingest.descriptors).await?;
        Ok(match outcome.results.first() {
            Some(IngestResult::Duplicate) => Turn::Duplicate,
            _ => Turn::Committed { events: outcome.events },
        })
    }
}

/// The database does not answer on a connection: nobody is to have it again.
fn silent(connection: Pooled) -> IngestError {
    drop(Pooled::take(connection));
    IngestError::Silent
}

/// Reads letters by the rules that collectors go by.
struct Decoder {
    unpacker: Unpacker,
    nul: NulFinder,
}

impl Decoder {
    fn new(contract: &Contract) -> Self {
        Self { unpacker: Unpacker::default(), nul: NulFinder::new(contract) }
    }

    /// The message that a letter was.
    fn message(&mut self, letter: &ClaimedRow) -> Result<QueueMessage, Rejection> {
        let body = &letter.content.body;
        if usize::try_from(letter.body_size_bytes) != Ok(body.len()) {
            let detail = format!("body: of {} bytes only {} were kept", letter.body_size_bytes, body.len());
            return Err(Rejection::new(DeadLetterReason::TooLarge, detail));
        }
        let headers: HashMap<String, String> =
            serde_json::from_value(letter.content.headers.clone()).unwrap_or_default();
        let encoding = headers.get(KEPT_ENCODING).map(String::as_str);
        let plain = self.unpacker.unpack(encoding, body)?;
        let mut batch = EventBatch::decode(plain)
            .map_err(|error| Rejection::new(DeadLetterReason::Undecodable, format!("body: {error}")))?;
        known_version(batch.schema_version)?;
        let node = rules::node(batch.node.as_ref())?;
        // One without headers came decoded: its collector had compared them.
        if !headers.is_empty() {
            agrees(&Claims::of_kept(&headers), node, &batch)?;
        }
        rules::batch(&mut batch, &mut self.nul)?;
        Ok(QueueMessage {
            message_id: letter.message_id.clone(),
            queue: letter.queue.clone(),
            content: Some(Wire::Batch(batch)),
        })
    }
}

/// Whether the same letter was kept by somebody else between two statements.
fn is_kept_meanwhile(error: &QueryError) -> bool {
    matches!(error, QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

/// Whether the data breaks a constraint that no message should be able to.
fn is_our_mistake(error: &QueryError) -> bool {
    use DatabaseErrorKind::{
        CheckViolation, ExclusionViolation, ForeignKeyViolation, NotNullViolation, RestrictViolation,
        UniqueViolation,
    };
    matches!(
        error,
        QueryError::DatabaseError(
            CheckViolation
                | ExclusionViolation
                | ForeignKeyViolation
                | NotNullViolation
                | RestrictViolation
                | UniqueViolation,
            _
        )
    )
}

/// When the next letter may have its turn.
struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { period: Duration::from_secs(1) / per_second.max(1), next: Instant::now() }
    }

    /// Waits for the next turn; takes none if it is given up.
    async fn wait(&mut self) {
        tokio::time::sleep_until(self.next).await;
        let late = Instant::now().checked_sub(LATE).unwrap_or(self.next);
        self.next = self.next.max(late) + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_what_was_missed_is_not_caught_up() {
        let begin = Instant::now();
        let mut pace = Pace::new(100);
        for _ in 0..101 {
            pace.wait().await;
        }
        assert_eq!(begin.elapsed().as_millis(), 1000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begin = Instant::now();
        for _ in 0..101 {
            pace.wait().await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(985), "{:?}", begin.elapsed());
    }
}
