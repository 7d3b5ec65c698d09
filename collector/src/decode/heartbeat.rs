//! Heartbeats: small, never compressed, unsequenced.

use contracts::v1::{DeadLetterReason, Heartbeat};
use kit::{identity::parse_uuid, queue::heartbeat_key};
use prost::Message;
use uuid::Uuid;

use super::{Decoder, Envelope, Rejection, known_version, rules};

/// Most bytes of a heartbeat; its digests, of at most 36 bytes each, are its
/// largest part.
const MAX_HEARTBEAT_BYTES: usize = 8192;
/// Longest interval that is taken seriously: a day.
const MAX_INTERVAL_SECONDS: u32 = 86_400;
/// Most bytes of an agent's version.
const MAX_VERSION_BYTES: usize = 128;

impl Decoder {
    /// Decodes the body of the heartbeat queue's message; answers the node too.
    ///
    /// # Errors
    /// Why it cannot be used. Heartbeats are not kept, so neither are bad ones.
    pub fn heartbeat(&mut self, envelope: &Envelope, body: &[u8]) -> Result<(Uuid, Heartbeat), Rejection> {
        if body.len() > MAX_HEARTBEAT_BYTES {
            let detail = format!("body: {} bytes, a heartbeat has at most {MAX_HEARTBEAT_BYTES}", body.len());
            return Err(Rejection::new(DeadLetterReason::TooLarge, detail));
        }
        let plain = self.unpacker.unpack(envelope.content_encoding.as_deref(), body)?;
        let heartbeat = Heartbeat::decode(plain)
            .map_err(|error| Rejection::new(DeadLetterReason::Undecodable, format!("body: {error}")))?;
        known_version(heartbeat.schema_version)?;
        let node = rules::node(heartbeat.node.as_ref())?;
        let key = heartbeat_key(node);
        if envelope.routing_key != key {
            let found = &envelope.routing_key;
            return Err(Rejection::node("routing_key", format!("is {found:?}, must be {key}")));
        }
        if parse_uuid(&heartbeat.stream).is_none() {
            return Err(Rejection::field("stream", "is not a UUID of 36 characters in lower case"));
        }
        if heartbeat.last_sequence < 0 {
            return Err(Rejection::field("last_sequence", "is negative"));
        }
        if !(1..=MAX_INTERVAL_SECONDS).contains(&heartbeat.interval_seconds) {
            return Err(Rejection::field("interval_seconds", format!("must be 1 to {MAX_INTERVAL_SECONDS}")));
        }
        for (field, number) in
            [("outbox_batches", heartbeat.outbox_batches), ("outbox_bytes", heartbeat.outbox_bytes)]
        {
            // PostgreSQL has no unsigned integers.
            if i64::try_from(number).is_err() {
                return Err(Rejection::field(field, "is more than 2^63-1"));
            }
        }
        if heartbeat.agent_version.len() > MAX_VERSION_BYTES || heartbeat.agent_version.contains('\0') {
            return Err(Rejection::field(
                "agent_version",
                format!("must have at most {MAX_VERSION_BYTES} bytes and no NUL"),
            ));
        }
        rules::digests(&heartbeat.digests)?;
        Ok((node, heartbeat))
    }
}
