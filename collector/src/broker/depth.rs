//! Asks the broker, every 5 s, how long the queues are, and again whether the
//! topology is as it should be while it is not.

use std::{sync::Arc, time::Duration};

use contracts::v1::QueueStats;
use lapin::{Connection, options::QueueDeclareOptions, types::FieldTable};
use tokio_util::sync::CancellationToken;

use super::{
    Parts, SessionError,
    topology::{self, Problem},
};

const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Measurements from one look at a faulty topology to the next.
const LOOKS: u32 = 6;

/// What there is to measure.
pub struct Measured {
    /// Names of the queues.
    pub queues: Vec<String>,
    /// What was not as it should be.
    pub problems: Vec<Problem>,
    /// Version of the broker.
    pub version: String,
}

/// Measures until `stop`.
///
/// # Errors
/// The connection failed, a queue is gone, or the topology has other problems
/// than it had: in each case all is to be declared and consumed anew.
pub async fn measure(
    connection: Arc<Connection>,
    measured: Measured,
    parts: Arc<Parts>,
    stop: CancellationToken,
) -> Result<(), SessionError> {
    let channel = connection.create_channel().await?;
    let mut ticks = tokio::time::interval(MEASURE_EVERY);
    for look in 1_u32.. {
        if stop.run_until_cancelled(ticks.tick()).await.is_none() {
            break;
        }
        let mut stats = Vec::with_capacity(measured.queues.len());
        for name in &measured.queues {
            let options = QueueDeclareOptions::durable().passive();
            let queue = channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await?;
            parts.observed.queue_depth(name, queue.message_count());
            stats.push(QueueStats {
                queue: name.clone(),
                depth: queue.message_count().into(),
                consumers: queue.consumer_count(),
                measure_time: Some(kit::time::now()),
            });
        }
        parts.status.measured(stats);
        if !measured.problems.is_empty() && look % LOOKS == 0 {
            let now = topology::declare(&connection, &measured.version, &parts.wanted).await?;
            if now.problems != measured.problems {
                return Err(SessionError::TopologyChanged);
            }
        }
    }
    channel.close(200, "done".into()).await?;
    Ok(())
}
