//! The queue's names and rules, which agents and collectors must share to the
//! letter. docs/ARCHITECTURE.md, "Events and the queue".

use uuid::Uuid;

/// Fixed routing slots that nodes hash to. Never changes, so that the number
/// of queues can.
pub const SHARDS: u8 = 64;
/// Schema version of batches and heartbeats.
pub const SCHEMA_VERSION: u32 = 1;
/// Most observations in a batch.
pub const MAX_OBSERVATIONS: usize = 500;
/// Most bytes of a batch, decompressed.
pub const MAX_BATCH_BYTES: usize = 64 * 1024;
/// Most bytes of a natural key.
pub const MAX_NATURAL_KEY_BYTES: usize = 4096;
/// Most bytes of an asset's display name.
pub const MAX_DISPLAY_NAME_BYTES: usize = 1024;
/// Most bytes of a cluster's or a node's name.
pub const MAX_NODE_NAME_BYTES: usize = 253;
/// Bytes of a state hash.
pub const STATE_HASH_BYTES: usize = 16;
/// How long a heartbeat is worth anything, in milliseconds: three intervals.
pub const HEARTBEAT_TTL_MILLIS: u32 = 45_000;

/// How long a command waits for its agent, in milliseconds.
pub const COMMAND_TTL_MILLIS: u32 = 60_000;
/// Most packages in the image contents of a batch.
pub const MAX_CONTENT_PACKAGES: usize = 500;
/// Most parts of the contents of an image.
pub const MAX_CONTENT_PARTS: u32 = 1000;
/// Most digests of kinds in a heartbeat.
pub const MAX_DIGESTS: usize = 64;

/// AMQP header: UUID of the node, 36 characters.
pub const HEADER_NODE: &str = "assettrack-node";
/// AMQP header: UUID of the stream, 36 characters.
pub const HEADER_STREAM: &str = "assettrack-stream";
/// AMQP header: sequence, a long integer.
pub const HEADER_SEQUENCE: &str = "assettrack-sequence";
/// AMQP header: when it was published, milliseconds since the epoch by the
/// agent's clock, a long integer.
pub const HEADER_PUBLISHED: &str = "assettrack-published-ms";
/// Content encoding of a compressed body.
pub const ENCODING_ZSTD: &str = "zstd";
/// Content type of every message.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// Names of exchanges and queues within one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    namespace: String,
}

impl Topology {
    /// The topology below a prefix; `assettrack` unless several installations
    /// share a virtual host.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into() }
    }

    /// Topic exchange that agents publish to: batches and heartbeats.
    pub fn exchange(&self) -> String {
        format!("{}.events", self.namespace)
    }

    /// Quorum queue number `index`, from 0.
    pub fn event_queue(&self, index: u8) -> String {
        format!("{}.events.{index}", self.namespace)
    }

    /// Direct exchange of commands to agents, by [`command_key`].
    pub fn command_exchange(&self) -> String {
        format!("{}.commands", self.namespace)
    }

    /// Exclusive queue of the commands to one node's agent, which declares it.
    pub fn command_queue(&self, node: Uuid) -> String {
        format!("{}.commands.{node}", self.namespace)
    }

    /// Classic queue of the heartbeats.
    pub fn heartbeat_queue(&self) -> String {
        format!("{}.heartbeats", self.namespace)
    }
}

/// Shard of a node: the low 6 bits of its UUID, which is a hash already.
pub fn shard(node: Uuid) -> u8 {
    node.as_bytes()[15] % SHARDS
}

/// Routing key of a node's batches: `shard.<0..63>.<node>`.
pub fn batch_key(node: Uuid) -> String {
    format!("shard.{}.{node}", shard(node))
}

/// Routing key of a node's heartbeats: `heartbeat.<node>`.
pub fn heartbeat_key(node: Uuid) -> String {
    format!("heartbeat.{node}")
}

/// Routing key of the commands to a node's agent: `command.<node>`.
pub fn command_key(node: Uuid) -> String {
    format!("command.{node}")
}

/// Which of `queues` queues takes a shard: contiguous ranges of equal length.
pub fn queue_of_shard(shard: u8, queues: u8) -> u8 {
    let queue = u16::from(shard) * u16::from(queues) / u16::from(SHARDS);
    u8::try_from(queue).unwrap_or(u8::MAX)
}

/// Checks a namespace: 1 to 64 characters `[A-Za-z0-9_.-]`.
///
/// # Errors
/// It is not one; the text says what would be.
pub fn check_namespace(namespace: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&namespace.len())
        && namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    fits.then(|| namespace.to_owned())
        .ok_or_else(|| "must be 1 to 64 characters of A-Z a-z 0-9 _ . -".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_one_queue_and_each_queue_its_share() {
        for queues in [1, 2, 3, 4, 7, 64] {
            let mut shards = vec![0_u32; usize::from(queues)];
            for shard in 0..SHARDS {
                shards[usize::from(queue_of_shard(shard, queues))] += 1;
            }
            let least = u32::from(SHARDS / queues);
            assert!(shards.iter().all(|n| (least..=least + 1).contains(n)), "{queues}: {shards:?}");
        }
    }

    #[test]
    fn namespaces_are_checked() {
        assert!(check_namespace("assettrack").is_ok());
        for wrong in ["", "a b", "ä", &"x".repeat(65)] {
            assert!(check_namespace(wrong).is_err(), "{wrong}");
        }
    }
}
