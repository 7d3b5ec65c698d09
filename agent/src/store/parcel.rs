//! A batch made ready to be sent: each attempt sends the same bytes under the
//! same message ID.

use contracts::v1::EventBatch;
use kit::time::unix_millis;
use prost::Message;
use uuid::Uuid;

use super::tables::Row;

/// Bodies larger than this are compressed, if that makes them smaller.
const COMPRESS_ABOVE_BYTES: usize = 4 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// Place in the outbox: generation of the stream, and sequence in it. Grows with
/// each batch for as long as the process lives.
pub type Position = (u32, i64);

/// A batch ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Stream that it belongs to.
    pub stream: Uuid,
    /// Generation of that stream in its store.
    pub generation: u32,
    /// Its sequence.
    pub sequence: i64,
    /// ID of the message, UUIDv7.
    pub message_id: Uuid,
    /// When it was made, in milliseconds since the epoch.
    pub made_millis: i64,
    /// Whether the body is compressed by zstd.
    pub compressed: bool,
    /// Encoded `EventBatch`.
    pub body: Vec<u8>,
}

/// Says that the broker has a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Stream of the batch.
    pub stream: Uuid,
    /// Its place in the outbox.
    pub position: Position,
}

impl Parcel {
    pub(super) fn new(generation: u32, batch: &EventBatch) -> Self {
        let encoded = batch.encode_to_vec();
        let smaller = (encoded.len() > COMPRESS_ABOVE_BYTES)
            .then(|| zstd::bulk::compress(&encoded, ZSTD_LEVEL).ok())
            .flatten()
            .filter(|compressed| compressed.len() < encoded.len());
        Self {
            stream: batch.stream.parse().unwrap_or_default(),
            generation,
            sequence: batch.sequence,
            message_id: Uuid::now_v7(),
            made_millis: unix_millis(),
            compressed: smaller.is_some(),
            body: smaller.unwrap_or(encoded),
        }
    }

    pub(super) fn to_row(&self) -> Row<'_> {
        (self.stream.as_bytes(), self.message_id.as_bytes(), self.made_millis, self.compressed, &self.body)
    }

    pub(super) fn from_row((generation, sequence): Position, row: Row<'_>) -> Self {
        let (stream, message_id, made_millis, compressed, body) = row;
        Self {
            stream: Uuid::from_bytes(*stream),
            generation,
            sequence,
            message_id: Uuid::from_bytes(*message_id),
            made_millis,
            compressed,
            body: body.to_vec(),
        }
    }

    /// Its place in the outbox.
    #[must_use]
    pub fn position(&self) -> Position {
        (self.generation, self.sequence)
    }

    /// What tells the store that the broker has it.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt { stream: self.stream, position: self.position() }
    }

    /// Bytes of the body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64
    }
}
