//! Asks the broker, every 5 s, how long the queues are, and every 30 s again
//! for the whole topology.

use std::{sync::Arc, time::Duration};

use contracts::v1::QueueStats;
use lapin::{Channel, Connection, options::QueueDeclareOptions, types::FieldTable};
use tokio_util::sync::CancellationToken;

use super::{
    Parts, SessionError,
    problems::{Problem, Source},
    topology::{self, Declared, Unbinding},
};

const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Measurements from one look at the topology to the next.
const MEASUREMENTS_A_LOOK: u32 = 6;

/// Measures until `stop`. `version` is that of the broker.
///
/// # Errors
/// The connection failed, a queue is gone, or there are other queues to consume
/// than `declared` has: in each case all is to be declared and consumed anew.
pub async fn measure(
    connection: Arc<Connection>,
    declared: Declared,
    version: String,
    parts: Arc<Parts>,
    stop: CancellationToken,
) -> Result<(), SessionError> {
    let mut queues = declared.event_queues.clone();
    queues.extend(declared.heartbeats.then(|| parts.wanted.topology.heartbeat_queue()));
    let mut channel = connection.create_channel().await?;
    let mut ticks = tokio::time::interval(MEASURE_EVERY);
    for measurement in 0_u32.. {
        if stop.run_until_cancelled(ticks.tick()).await.is_none() {
            break;
        }
        let mut stats = Vec::with_capacity(queues.len());
        for name in &queues {
            if !channel.status().connected() {
                channel = connection.create_channel().await?;
            }
            let Some(one) = depth(&channel, name).await? else { continue };
            parts.observed.queue_depth(name, u32::try_from(one.depth).unwrap_or(u32::MAX));
            stats.push(one);
        }
        let holds = stats.iter().filter(|one| one.depth > 0 && declared.left_over.contains(&one.queue));
        let text = "left from a larger number of queues, and still holds messages";
        let left_over = holds.map(|one| Problem::new(&one.queue, text)).collect();
        parts.problems.set(Source::LeftOver, left_over);
        parts.status.measured(stats);

        if measurement > 0 && measurement % MEASUREMENTS_A_LOOK == 0 {
            // Collectors that begin together with different numbers of queues
            // can undo each other's bindings: seen to again, ever more seldom.
            let often = (measurement / MEASUREMENTS_A_LOOK).is_power_of_two();
            let unbinding = if often { Unbinding::Too } else { Unbinding::Not };
            let now = topology::declare(&connection, &version, &parts.wanted, unbinding).await?;
            if !now.same_queues(&declared) {
                return Err(SessionError::TopologyChanged);
            }
            parts.problems.set(Source::Declared, now.problems);
        }
    }
    channel.close(200, "done".into()).await?;
    Ok(())
}

/// `None` if the broker does not tell.
async fn depth(channel: &Channel, queue: &str) -> Result<Option<QueueStats>, lapin::Error> {
    let options = QueueDeclareOptions::durable().passive();
    match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
        Ok(found) => Ok(Some(QueueStats {
            queue: queue.to_owned(),
            depth: found.message_count().into(),
            consumers: found.consumer_count(),
            measure_time: Some(kit::time::now()),
        })),
        Err(error) if topology::is_missing(&error) || topology::refusal(&error).is_none() => Err(error),
        Err(_) => Ok(None),
    }
}
