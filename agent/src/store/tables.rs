//! Tables of the store. A change of their form needs another `FORMAT`.

use contracts::v1::AssetKind;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::StoreError;
use crate::diff::Recorded;
use kit::digest::{Digest, StateHash};

/// Version of the form below.
pub(super) const FORMAT: u64 = 2;

/// Name → value; see [`Meta`].
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Kind and natural key → hash, display name, encoded `AssetDetails`.
pub(super) const STATE: TableDefinition<(i32, &str), (&StateHash, &str, &[u8])> =
    TableDefinition::new("state");

/// Stream, message ID, milliseconds since the epoch when it was made, whether
/// the body is compressed, body.
pub(super) type Row<'a> = (&'a [u8; 16], &'a [u8; 16], i64, bool, &'a [u8]);

/// Generation and sequence → batch ready to be sent. A new stream is a new
/// generation; what is left of older ones is sent first.
pub(super) const OUTBOX: TableDefinition<(u32, i64), Row<'static>> = TableDefinition::new("outbox");

/// Kind → last sequence of its snapshot in this stream. A kind that is not here
/// is listed with its next scan.
pub(super) const SNAPSHOTS: TableDefinition<i32, i64> = TableDefinition::new("snapshots");

/// Kind → count and sum of the hashes in `STATE`.
pub(super) const DIGESTS: TableDefinition<i32, (u64, u128)> = TableDefinition::new("digests");

/// Digest of an image → hash of its contents, as they were sent in this stream.
pub(super) const CONTENTS: TableDefinition<&str, &StateHash> = TableDefinition::new("contents");

/// The one row of the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) format: u64,
    pub(super) stream: Uuid,
    pub(super) generation: u32,
    pub(super) node_uid: Uuid,
    pub(super) last_sequence: i64,
    pub(super) outbox_bytes: u64,
}

const NAME: &str = "meta";
const BYTES: usize = 8 + 16 + 16 + 8 + 8 + 4;

impl Meta {
    /// Of a stream that begins now.
    pub(super) fn begin(node_uid: Uuid, generation: u32, outbox_bytes: u64) -> Self {
        Self { format: FORMAT, stream: Uuid::new_v4(), generation, node_uid, last_sequence: 0, outbox_bytes }
    }

    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Self::of(&transaction.open_table(META)?)
    }

    pub(super) fn of(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Self, StoreError> {
        let value = table.get(NAME)?;
        value
            .and_then(|value| Self::parse(value.value()))
            .ok_or_else(|| redb::Error::Corrupted("no row of the store as a whole".to_owned()).into())
    }

    pub(super) fn write(&self, table: &mut Table<'_, &'static str, &'static [u8]>) -> Result<(), StoreError> {
        let mut value = Vec::with_capacity(BYTES);
        value.extend(self.format.to_be_bytes());
        value.extend(self.stream.as_bytes());
        value.extend(self.node_uid.as_bytes());
        value.extend(self.last_sequence.to_be_bytes());
        value.extend(self.outbox_bytes.to_be_bytes());
        value.extend(self.generation.to_be_bytes());
        table.insert(NAME, value.as_slice())?;
        Ok(())
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let format = u64::from_be_bytes(value.first_chunk::<8>().copied()?);
        if format != FORMAT {
            // Whatever it is, it is told by its number.
            let (stream, node_uid) = (Uuid::nil(), Uuid::nil());
            return Some(Self { format, stream, generation: 0, node_uid, last_sequence: 0, outbox_bytes: 0 });
        }
        let value: &[u8; BYTES] = value.try_into().ok()?;
        let number = |at: usize| Some(u64::from_be_bytes(value[at..at + 8].try_into().ok()?));
        Some(Self {
            format,
            stream: Uuid::from_slice(&value[8..24]).ok()?,
            node_uid: Uuid::from_slice(&value[24..40]).ok()?,
            last_sequence: i64::try_from(number(40)?).ok()?,
            outbox_bytes: number(48)?,
            generation: u32::from_be_bytes(value[56..60].try_into().ok()?),
        })
    }
}

/// Makes the tables and the row of a new store.
pub(super) fn create(write: &WriteTransaction, meta: &Meta) -> Result<(), StoreError> {
    meta.write(&mut write.open_table(META)?)?;
    write.open_table(STATE)?;
    write.open_table(OUTBOX)?;
    write.open_table(SNAPSHOTS)?;
    write.open_table(DIGESTS)?;
    write.open_table(CONTENTS)?;
    Ok(())
}

/// Forgets everything but the outbox, and begins a new stream.
pub(super) fn begin_stream(write: &WriteTransaction, meta: &Meta) -> Result<(), StoreError> {
    meta.write(&mut write.open_table(META)?)?;
    write.delete_table(STATE)?;
    write.delete_table(SNAPSHOTS)?;
    write.delete_table(DIGESTS)?;
    write.delete_table(CONTENTS)?;
    create(write, meta)
}

/// Hashes recorded of one kind.
pub(super) fn hashes(transaction: &ReadTransaction, kind: i32) -> Result<Recorded, StoreError> {
    let state = transaction.open_table(STATE)?;
    let mut recorded = Recorded::new();
    for row in state.range((kind, "")..(kind + 1, ""))? {
        let (key, value) = row?;
        recorded.insert(key.value().1.to_owned(), *value.value().0);
    }
    Ok(recorded)
}

/// Digest of one kind; `None` before its first scan.
pub(super) fn digest(
    table: &impl ReadableTable<i32, (u64, u128)>,
    kind: i32,
) -> Result<Option<Digest>, StoreError> {
    Ok(table.get(kind)?.map(|row| {
        let (count, sum) = row.value();
        Digest { count, sum }
    }))
}

/// Digests of all kinds that were scanned.
pub(super) fn digests(transaction: &ReadTransaction) -> Result<Vec<(AssetKind, Digest)>, StoreError> {
    let table = transaction.open_table(DIGESTS)?;
    let mut digests = Vec::new();
    for row in table.range::<i32>(..)? {
        let (kind, value) = row?;
        let (count, sum) = value.value();
        digests.push((AssetKind::try_from(kind.value()).unwrap_or_default(), Digest { count, sum }));
    }
    Ok(digests)
}
