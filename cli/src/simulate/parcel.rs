//! A message made ready to be sent: each attempt sends the same bytes under the
//! same message ID. Pure.

use uuid::Uuid;

/// Bodies larger than this are compressed, if that makes them smaller.
const COMPRESS_ABOVE_BYTES: usize = 4 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// What is in a message, for the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A batch with so many observations of each presence.
    Batch(Observations),
    /// One that no collector can apply.
    Corrupt,
    /// A sign of life: nothing waits for its confirm.
    Heartbeat,
}

/// Observations by presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// New or changed.
    pub present: u32,
    /// Gone.
    pub absent: u32,
    /// In a full listing.
    pub listed: u32,
}

impl Observations {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.present + self.absent + self.listed
    }
}

/// A message ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Number of the agent that sends it.
    pub agent: u32,
    /// UUID of its node.
    pub node: Uuid,
    /// Stream of its store.
    pub stream: Uuid,
    /// Number in the stream; 0 for what has none.
    pub sequence: i64,
    /// ID of the message, UUIDv7.
    pub message_id: Uuid,
    /// Whether the body is compressed by zstd.
    pub compressed: bool,
    /// What is sent.
    pub body: Vec<u8>,
    /// What it says.
    pub content: Content,
}

/// The body of a batch as agents send it, and whether it is compressed.
pub fn pack(encoded: Vec<u8>) -> (Vec<u8>, bool) {
    let smaller = (encoded.len() > COMPRESS_ABOVE_BYTES)
        .then(|| zstd::bulk::compress(&encoded, ZSTD_LEVEL).ok())
        .flatten()
        .filter(|compressed| compressed.len() < encoded.len());
    match smaller {
        Some(compressed) => (compressed, true),
        None => (encoded, false),
    }
}
