//! Streams to collectors: commands for agents, each to one of them, and whether
//! to consume. One poller a process, and none while no stream is open.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::v1::{AgentCommand, Consumption, StreamCommandsResponse};
use deadpool::managed::PoolError;
use diesel::result::Error as QueryError;
use diesel_async::pooled_connection::PoolError as Inner;
use kit::shutdown::CancellationToken;
use prost::Message;
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

use super::{CommandLabel, DeliveryMetrics, command::name};
use crate::{
    store::{
        command::{self, ClaimedRow, ConsumptionRow},
        pool::Pool,
    },
    timestamp::timestamp,
};

/// How often commands are looked for, and so how long one waits at most.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The same while the database fails.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Answers that a stream may have waiting; one that has more gets none.
const WAITING_ANSWERS: usize = 4;
/// Most commands in one answer: some 30 KiB.
const ANSWER_COMMANDS: usize = 128;
/// Streams above which no more are taken.
const MAX_STREAMS: usize = 256;

/// How patient the streams are.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A stream on which nothing was said for this long gets an empty answer,
    /// so that its reader knows that it lives.
    pub keepalive: Duration,
    /// A stream that takes nothing for this long is ended.
    pub stalled: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { keepalive: Duration::from_secs(15), stalled: Duration::from_secs(60) }
    }
}

/// Why a stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process ends.
    #[error("the processor is shutting down")]
    Ending,
    /// There are too many.
    #[error("{MAX_STREAMS} streams are open")]
    TooMany,
    /// No connection to the database.
    #[error("no connection to the database: {0}")]
    Pool(#[from] PoolError<Inner>),
    /// The query failed.
    #[error("{0}")]
    Query(#[from] QueryError),
}

/// All streams of this process. Cheap to clone.
#[derive(Clone)]
pub struct CommandStreams {
    pool: Pool,
    metrics: DeliveryMetrics,
    patience: Patience,
    open: Arc<Mutex<Open>>,
    opened: Arc<Notify>,
}

#[derive(Default)]
struct Open {
    streams: Vec<Stream>,
    /// Which one is next to get a command.
    next: usize,
    /// No more are taken.
    ended: bool,
}

struct Stream {
    collector: String,
    answers: mpsc::Sender<StreamCommandsResponse>,
    /// What it was last told.
    told: Consumption,
    /// When it was last told something, if only that it lives. It had room then.
    spoke: Instant,
}

impl CommandStreams {
    /// Takes the pool to poll with; two connections suffice.
    #[must_use]
    pub fn new(pool: Pool, metrics: DeliveryMetrics, patience: Patience) -> Self {
        Self { pool, metrics, patience, open: Arc::default(), opened: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream for a collector; the first answer says whether to consume.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn add(&self, collector: String) -> Result<mpsc::Receiver<StreamCommandsResponse>, OpenError> {
        let mut connection = self.pool.get().await?;
        let told = consumption(command::consumption(&mut connection).await?);
        let (answers, receiver) = mpsc::channel(WAITING_ANSWERS);
        let first = StreamCommandsResponse { commands: Vec::new(), consumption: Some(told.clone()) };
        let mut open = self.open();
        if open.ended {
            return Err(OpenError::Ending);
        }
        if open.streams.len() >= MAX_STREAMS {
            return Err(OpenError::TooMany);
        }
        // It is empty.
        let _ = answers.try_send(first);
        tracing::info!(%collector, "a collector listens for commands");
        open.streams.push(Stream { collector, answers, told, spoke: Instant::now() });
        self.metrics.streams.set(i64::try_from(open.streams.len()).unwrap_or(i64::MAX));
        self.opened.notify_one();
        Ok(receiver)
    }

    /// Sets whether collectors consume; all replicas' streams say so at their
    /// next poll.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn set_consumption(&self, paused: bool, reason: &str) -> Result<Consumption, OpenError> {
        let mut connection = self.pool.get().await?;
        Ok(consumption(command::set_consumption(&mut connection, paused, reason).await?))
    }

    /// Hands out commands until `shutdown`; then all streams end.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failing = false;
        while !shutdown.is_cancelled() {
            if self.prune() == 0 {
                tokio::select! {
                    () = self.opened.notified() => continue,
                    () = shutdown.cancelled() => break,
                }
            }
            // Never dropped midway: what it has taken would be lost.
            let polled = self.poll().await;
            match &polled {
                Err(failure) if !failing => {
                    tracing::error!(error = %failure, "commands cannot be looked for");
                }
                Ok(()) if failing => tracing::info!("commands can be looked for again"),
                _ => {}
            }
            failing = polled.is_err();
            tokio::select! {
                () = tokio::time::sleep(if failing { RETRY_INTERVAL } else { POLL_INTERVAL }) => {}
                () = shutdown.cancelled() => break,
            }
        }
        let mut open = self.open();
        open.ended = true;
        open.streams.clear();
        self.metrics.streams.set(0);
    }

    /// Forgets streams whose reader went away, and ends those whose reader takes
    /// nothing. Tells how many are left.
    fn prune(&self) -> usize {
        let mut open = self.open();
        open.streams.retain(|stream| {
            if stream.answers.is_closed() {
                tracing::info!(collector = %stream.collector, "a collector listens no more");
                return false;
            }
            let stalled = stream.answers.capacity() == 0 && stream.spoke.elapsed() > self.patience.stalled;
            if stalled {
                tracing::warn!(collector = %stream.collector, "a collector takes no commands: its stream is ended");
            }
            !stalled
        });
        self.metrics.streams.set(i64::try_from(open.streams.len()).unwrap_or(i64::MAX));
        open.streams.len()
    }

    async fn poll(&self) -> Result<(), OpenError> {
        let mut connection = self.pool.get().await?;
        let current = consumption(command::consumption(&mut connection).await?);
        let free = self.open().streams.iter().filter(|stream| stream.answers.capacity() > 0).count();
        let mut claimed = Vec::new();
        // What nobody can take stays where other replicas find it.
        if free > 0 {
            let limit = i64::try_from(free.saturating_mul(ANSWER_COMMANDS)).unwrap_or(i64::MAX);
            claimed = command::claim(&mut connection, limit).await?;
        }
        drop(connection);
        let commands = self.decode(claimed);
        self.hand_out(commands, &current);
        Ok(())
    }

    fn decode(&self, claimed: Vec<ClaimedRow>) -> Vec<AgentCommand> {
        let mut commands = Vec::with_capacity(claimed.len());
        for row in claimed {
            if row.expired {
                self.metrics.expired.inc();
                continue;
            }
            match AgentCommand::decode(row.command.as_slice()) {
                Ok(command) => commands.push(command),
                Err(error) => {
                    self.metrics.lost.inc();
                    tracing::error!(%error, "a command that is kept cannot be decoded");
                }
            }
        }
        commands
    }

    /// Gives each command to one stream that has room, in turn, and says to all
    /// what has changed, or that they live.
    fn hand_out(&self, commands: Vec<AgentCommand>, current: &Consumption) {
        let mut open = self.open();
        let Open { streams, next, .. } = &mut *open;
        let mut shares: Vec<Vec<AgentCommand>> = streams.iter().map(|_| Vec::new()).collect();
        // Only this task sends, so that room does not vanish in between.
        let free: Vec<usize> =
            (0..streams.len()).filter(|place| streams[*place].answers.capacity() > 0).collect();
        let mut lost = 0;
        for command in commands {
            if free.is_empty() {
                lost += 1;
                continue;
            }
            shares[free[*next % free.len()]].push(command);
            *next = next.wrapping_add(1);
        }
        // What a stream that has just closed does not take is the next one's.
        let mut left: Vec<AgentCommand> = Vec::new();
        for (stream, mut share) in streams.iter_mut().zip(shares) {
            share.append(&mut left);
            left = self.tell(stream, share, current);
        }
        for stream in streams.iter_mut() {
            if left.is_empty() {
                break;
            }
            left = self.tell(stream, left, current);
        }
        lost += left.len();
        if lost > 0 {
            self.metrics.lost.inc_by(lost as u64);
            tracing::warn!(
                commands = lost,
                "commands are lost: the collectors that had room for them went away"
            );
        }
    }

    /// One answer to one stream, if there is something to say. Commands that it
    /// does not take come back.
    fn tell(
        &self,
        stream: &mut Stream,
        commands: Vec<AgentCommand>,
        current: &Consumption,
    ) -> Vec<AgentCommand> {
        let changed = stream.told != *current;
        if commands.is_empty() && !changed && stream.spoke.elapsed() < self.patience.keepalive {
            return commands;
        }
        let names: Vec<&'static str> = commands.iter().map(name).collect();
        let answer = StreamCommandsResponse { commands, consumption: changed.then(|| current.clone()) };
        match stream.answers.try_send(answer) {
            Ok(()) => {
                stream.told.clone_from(current);
                stream.spoke = Instant::now();
                for command in names {
                    self.metrics.sent.get_or_create(&CommandLabel { command }).inc();
                }
                Vec::new()
            }
            Err(TrySendError::Full(answer) | TrySendError::Closed(answer)) => answer.commands,
        }
    }
}

fn consumption(row: ConsumptionRow) -> Consumption {
    let change_time = row.change_time.map(timestamp);
    Consumption { paused: row.paused, reason: row.reason, change_time }
}
