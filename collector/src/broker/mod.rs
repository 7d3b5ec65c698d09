//! The broker's side: one connection, its channels and their consumers. If one
//! of them fails all are given up and built anew, after a pause.

mod arguments;
mod commands;
mod depth;
mod envelope;
mod events;
mod heartbeats;
mod plan;
mod problems;
mod topology;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kit::{amqp::Broker, readiness::Condition};
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use commands::publish as publish_commands;
pub use problems::Problems;
pub use topology::Wanted;

use problems::{Problem, Source};
use topology::Unbinding;

use crate::{backoff::Backoff, decode::Contract, observed::Observed, processor::Processor, status::Status};

/// A connection that lasted this long was a good one: the next pause is short.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// Pause before a queue that may not be consumed is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Short enough that what is fresh is seen within 10 s of the broker's return.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How long the broker may take to say goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What the tasks of a connection work with.
pub struct Parts {
    /// What is to be declared.
    pub wanted: Wanted,
    /// What messages are checked against.
    pub contract: Contract,
    /// Messages that the broker may hand over a queue.
    pub prefetch: u16,
    /// How long deliveries under way may take to end after the shutdown began.
    pub drain: Duration,
    /// Where messages go.
    pub processor: Arc<Processor>,
    /// What is being done.
    pub status: Arc<Status>,
    /// What the broker has otherwise than it should be.
    pub problems: Arc<Problems>,
    /// Metrics.
    pub observed: Observed,
}

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] kit::amqp::ConnectError),
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("the broker cancelled the consumer of {0}")]
    Cancelled(String),
    #[error("there are other queues than before")]
    TopologyChanged,
    #[error("a task of the connection ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Keeps a connection and consumes by it, until `shutdown`. `connected` is the
/// condition that there is one.
pub async fn supervise(broker: Broker, parts: Arc<Parts>, connected: Condition, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(250), LONGEST_PAUSE);
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        let ended = session(&broker, &parts, &connected, &shutdown).await;
        let Err(error) = ended else { break };
        connected.fails(error.to_string());
        parts.status.disconnected(error.to_string());
        if began.elapsed() >= GOOD_AFTER {
            backoff.reset();
        }
        let pause = backoff.pause(rand::random());
        let (broker, pause_seconds) = (broker.address(), pause.as_secs_f64());
        tracing::warn!(%error, broker, pause_seconds, "the connection to the broker is given up, trying again");
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    connected.fails("shut down");
    parts.status.disconnected("shut down".to_owned());
}

/// One connection, from connecting to its end.
async fn session(
    broker: &Broker,
    parts: &Arc<Parts>,
    condition: &Condition,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let connecting = async { Ok::<_, SessionError>((broker.version().await?, broker.connect().await?)) };
    let Some(connected) = shutdown.run_until_cancelled(connecting).await else { return Ok(()) };
    let (version, connection) = connected?;
    let connection = Arc::new(connection);
    let served = serve(&connection, &version, parts, condition, shutdown).await;
    // Whatever happened, nothing of this connection is used any more.
    let closing = connection.close(200, "done".into());
    if !matches!(tokio::time::timeout(CLOSE_DEADLINE, closing).await, Ok(Ok(()))) {
        tracing::debug!("the broker did not confirm the end of the connection");
    }
    served
}

async fn serve(
    connection: &Arc<Connection>,
    version: &str,
    parts: &Arc<Parts>,
    condition: &Condition,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let declaring = topology::declare(connection, version, &parts.wanted, Unbinding::Too);
    let Some(declared) = shutdown.run_until_cancelled(declaring).await else { return Ok(()) };
    let declared = declared?;
    parts.problems.begin(declared.problems.clone());

    let mut tasks = JoinSet::new();
    for queue in &declared.event_queues {
        tasks.spawn(events::consume(connection.clone(), queue.clone(), parts.clone(), shutdown.clone()));
    }
    if declared.heartbeats {
        let queue = parts.wanted.topology.heartbeat_queue();
        tasks.spawn(heartbeats::consume(connection.clone(), queue, parts.clone(), shutdown.clone()));
    }
    let (version, parts_of_depth) = (version.to_owned(), parts.clone());
    parts.status.connected(version.clone());
    let measuring =
        depth::measure(connection.clone(), declared, version.clone(), parts_of_depth, shutdown.clone());
    tasks.spawn(measuring);

    condition.holds();
    tracing::info!(version, tasks = tasks.len(), "connected to the broker");
    // The first error ends them all: dropping the set aborts the others.
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// A consumer on a channel of its own; `None` if `stop` came first. One that the
/// broker refuses, by lack of permission or because another consumes alone, is a
/// problem, and tried again: the other queues go on.
async fn open_consumer(
    connection: &Connection,
    queue: &str,
    prefetch: u16,
    parts: &Parts,
    stop: &CancellationToken,
) -> Result<Option<(Channel, Consumer)>, lapin::Error> {
    let source = || Source::Consumer(queue.to_owned());
    loop {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let error = match channel.basic_consume(queue.into(), "".into(), options, none).await {
            Ok(consumer) => {
                parts.problems.set(source(), Vec::new());
                return Ok(Some((channel, consumer)));
            }
            Err(error) => error,
        };
        let refusal = topology::refusal(&error).filter(|_| !topology::is_missing(&error));
        let refusal = refusal.ok_or(error)?;
        parts.problems.set(source(), vec![Problem::refused(queue, &format!("not consumed: {refusal}"))]);
        if stop.run_until_cancelled(tokio::time::sleep(REFUSED_PAUSE)).await.is_none() {
            return Ok(None);
        }
    }
}
