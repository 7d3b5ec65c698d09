//! The broker's side: one connection, its channels and their consumers. If one
//! of them fails all are given up and built anew, after a pause.

mod depth;
mod envelope;
mod events;
mod heartbeats;
mod plan;
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

pub use topology::Wanted;

use crate::{backoff::Backoff, decode::Contract, observed::Observed, processor::Processor, status::Status};

/// A connection that lasted this long was a good one: the next pause is short.
const GOOD_AFTER: Duration = Duration::from_secs(10);
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
    /// Metrics.
    pub observed: Observed,
}

/// Conditions that this side answers for.
pub struct Conditions {
    /// There is a connection.
    pub broker: Condition,
    /// Exchange and queues are as they should be.
    pub topology: Condition,
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
    #[error("the topology has changed")]
    TopologyChanged,
    #[error("a task of the connection ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Keeps a connection and consumes by it, until `shutdown`.
pub async fn supervise(
    broker: Broker,
    parts: Arc<Parts>,
    conditions: Conditions,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(250), LONGEST_PAUSE);
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        let ended = session(&broker, &parts, &conditions, &shutdown).await;
        let Err(error) = ended else { break };
        conditions.broker.fails(error.to_string());
        parts.status.disconnected(error.to_string());
        if began.elapsed() >= GOOD_AFTER {
            backoff.reset();
        }
        let pause = backoff.pause(rand::random());
        let (broker, pause_seconds) = (broker.address(), pause.as_secs_f64());
        tracing::warn!(%error, broker, pause_seconds, "the connection to the broker is given up, trying again");
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    conditions.broker.fails("shut down");
    parts.status.disconnected("shut down".to_owned());
}

/// One connection, from connecting to its end.
async fn session(
    broker: &Broker,
    parts: &Arc<Parts>,
    conditions: &Conditions,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let connecting = async { Ok::<_, SessionError>((broker.version().await?, broker.connect().await?)) };
    let Some(connected) = shutdown.run_until_cancelled(connecting).await else { return Ok(()) };
    let (version, connection) = connected?;
    let connection = Arc::new(connection);
    let served = serve(&connection, &version, parts, conditions, shutdown).await;
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
    conditions: &Conditions,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let declaring = topology::declare(connection, version, &parts.wanted);
    let Some(declared) = shutdown.run_until_cancelled(declaring).await else { return Ok(()) };
    let declared = declared?;
    if declared.problems.is_empty() {
        conditions.topology.holds();
    } else {
        let problems: Vec<String> = declared.problems.iter().map(ToString::to_string).collect();
        let problems = problems.join("; ");
        tracing::error!(problems, "the broker's topology is not as it should be");
        conditions.topology.fails(problems);
    }

    let mut tasks = JoinSet::new();
    let mut queues = declared.event_queues;
    for queue in &queues {
        tasks.spawn(events::consume(connection.clone(), queue.clone(), parts.clone(), shutdown.clone()));
    }
    if declared.heartbeats {
        let queue = parts.wanted.topology.heartbeat_queue();
        tasks.spawn(heartbeats::consume(connection.clone(), queue.clone(), parts.clone(), shutdown.clone()));
        queues.push(queue);
    }
    let measured = depth::Measured { queues, problems: declared.problems, version: version.to_owned() };
    tasks.spawn(depth::measure(connection.clone(), measured, parts.clone(), shutdown.clone()));

    conditions.broker.holds();
    parts.status.connected();
    tracing::info!(version, tasks = tasks.len(), "connected to the broker");
    // The first error ends them all: dropping the set aborts the others.
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// A consumer on a channel of its own.
async fn open_consumer(
    connection: &Connection,
    queue: &str,
    prefetch: u16,
) -> Result<(Channel, Consumer), lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    Ok((channel, consumer))
}
