//! A batch made ready to be sent: each attempt sends the same bytes under the
//! same message ID.

use contracts::v1::EventBatch;
use prost::Message;
use uuid::Uuid;

use super::tables::Row;

/// Bodies larger than this are compressed, if that makes them smaller.
const COMPRESS_ABOVE_BYTES: usize = 4 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// A batch ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Stream that it belongs to.
    pub stream: Uuid,
    /// Its sequence.
    pub sequence: i64,
    /// ID of the message, UUIDv7.
    pub message_id: Uuid,
    /// Whether the body is compressed by zstd.
    pub compressed: bool,
    /// Encoded `EventBatch`.
    pub body: Vec<u8>,
}

impl Parcel {
    pub(super) fn new(batch: &EventBatch) -> Self {
        let encoded = batch.encode_to_vec();
        let smaller = (encoded.len() > COMPRESS_ABOVE_BYTES)
            .then(|| zstd::bulk::compress(&encoded, ZSTD_LEVEL).ok())
            .flatten()
            .filter(|compressed| compressed.len() < encoded.len());
        Self {
            stream: batch.stream.parse().unwrap_or_default(),
            sequence: batch.sequence,
            message_id: Uuid::now_v7(),
            compressed: smaller.is_some(),
            body: smaller.unwrap_or(encoded),
        }
    }

    pub(super) fn to_row(&self) -> Row<'_> {
        (self.message_id.as_bytes(), self.compressed, &self.body)
    }

    pub(super) fn from_row(stream: Uuid, sequence: i64, (message_id, compressed, body): Row<'_>) -> Self {
        Self { stream, sequence, message_id: Uuid::from_bytes(*message_id), compressed, body: body.to_vec() }
    }

    /// Bytes of the body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64
    }
}

pub(super) fn row_bytes((_, _, body): Row<'_>) -> u64 {
    body.len() as u64
}
