//! Consumes the heartbeats and forwards the newest of each node every second;
//! at least every 5 s, with none if there is none: that heartbeats get through
//! at all is news too.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::v1::{Heartbeat, ReceivedHeartbeat, RecordHeartbeatsRequest};
use futures::StreamExt;
use kit::queue::HEARTBEAT_TTL_MILLIS;
use lapin::{Channel, Connection, message::Delivery, options::BasicAckOptions};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Parts, SessionError, envelope, open_consumer};
use crate::decode::Decoder;

/// Heartbeats that the broker may hand over before they are forwarded: those of
/// 10,000 nodes within some seconds.
const PREFETCH: u16 = 4096;
const FORWARD_EVERY: Duration = Duration::from_secs(1);
const FORWARD_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const WORTHLESS_AFTER: Duration = Duration::from_millis(HEARTBEAT_TTL_MILLIS as u64);

/// Consumes the heartbeat queue until `stop`.
///
/// # Errors
/// The channel or the connection failed.
pub async fn consume(
    connection: Arc<Connection>,
    queue: String,
    parts: Arc<Parts>,
    stop: CancellationToken,
) -> Result<(), SessionError> {
    let mut decoder = Decoder::new(&parts.contract);
    let Some((channel, mut consumer)) = open_consumer(&connection, &queue, PREFETCH, &parts, &stop).await?
    else {
        return Ok(());
    };
    let mut pending = Pending::default();
    let mut forwarded: Option<Instant> = None;
    let mut ticks = tokio::time::interval(FORWARD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {
                let quiet = forwarded.is_none_or(|at| at.elapsed() >= FORWARD_AT_LEAST_EVERY);
                if quiet || !pending.newest.is_empty() {
                    forwarded = Some(Instant::now());
                    let forward = forward(&parts, &channel, &mut pending);
                    match stop.run_until_cancelled(forward).await {
                        Some(forwarded) => forwarded?,
                        None => break,
                    }
                }
            }
            delivery = consumer.next() => {
                let delivery = delivery.ok_or_else(|| SessionError::Cancelled(queue.clone()))??;
                pending.take(&parts, &mut decoder, &delivery);
            }
        }
    }
    channel.close(200, "done".into()).await?;
    Ok(())
}

/// Heartbeats that are not forwarded yet: the newest of each node. As many as
/// the broker hands over at most.
#[derive(Default)]
struct Pending {
    newest: HashMap<Uuid, (Instant, Heartbeat)>,
    /// The newest delivery; all up to it are here, superseded or bad.
    last_tag: Option<u64>,
}

impl Pending {
    fn take(&mut self, parts: &Parts, decoder: &mut Decoder, delivery: &Delivery) {
        self.last_tag = Some(delivery.delivery_tag);
        let along = envelope::envelope(delivery);
        match decoder.heartbeat(&along, &delivery.data) {
            Ok((node, mut heartbeat)) => {
                if let Some((_, superseded)) = self.newest.get(&node) {
                    // Of two agents with one identity perhaps only one knows.
                    heartbeat.identity_conflict |= superseded.identity_conflict;
                    parts.observed.heartbeats("superseded", 1);
                }
                self.newest.insert(node, (Instant::now(), heartbeat));
            }
            Err(rejection) => {
                parts.observed.heartbeats("rejected", 1);
                let (reason, detail) = (rejection.reason.as_str_name(), rejection.detail);
                tracing::warn!(routing_key = along.routing_key, reason, detail, "a heartbeat cannot be used");
            }
        }
    }

    /// Drops what has become worthless, as the broker does in the queue.
    fn expire(&mut self, parts: &Parts) {
        let before = self.newest.len();
        self.newest.retain(|_, (received, _)| received.elapsed() < WORTHLESS_AFTER);
        parts.observed.heartbeats("expired", before - self.newest.len());
    }
}

async fn forward(parts: &Parts, channel: &Channel, pending: &mut Pending) -> Result<(), SessionError> {
    let held = |(received, heartbeat): &(Instant, Heartbeat)| ReceivedHeartbeat {
        heartbeat: Some(heartbeat.clone()),
        held_for: received.elapsed().try_into().ok(),
    };
    let heartbeats: Vec<ReceivedHeartbeat> = pending.newest.values().map(held).collect();
    let count = heartbeats.len();
    let request = RecordHeartbeatsRequest { collector: parts.status.collector().to_owned(), heartbeats };
    if parts.processor.record_heartbeats(request).await.is_err() {
        // Told by the gate. The next tick tries again.
        pending.expire(parts);
        if !pending.newest.is_empty() {
            return Ok(());
        }
    } else {
        parts.observed.heartbeats("forwarded", count);
        pending.newest.clear();
    }
    if let Some(tag) = pending.last_tag.take() {
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}
