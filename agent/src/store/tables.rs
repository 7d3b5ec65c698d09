//! Tables of the store. A change of their form needs another `FORMAT`.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition};
use uuid::Uuid;

use super::StoreError;
use crate::asset::StateHash;
use crate::diff::Recorded;

/// Version of the form below.
pub(super) const FORMAT: u64 = 2;

/// Name → value; see [`Meta`].
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Kind and natural key → hash, display name, encoded `AssetDetails`.
pub(super) const STATE: TableDefinition<(i32, &str), (&StateHash, &str, &[u8])> =
    TableDefinition::new("state");

/// Message ID, whether the body is compressed, body.
pub(super) type Row<'a> = (&'a [u8; 16], bool, &'a [u8]);

/// Sequence → batch ready to be sent.
pub(super) const OUTBOX: TableDefinition<i64, Row<'static>> = TableDefinition::new("outbox");

/// Kind → last sequence of its snapshot in this stream.
pub(super) const SNAPSHOTS: TableDefinition<i32, i64> = TableDefinition::new("snapshots");

/// Digest of an image → hash of its contents, as they were sent in this stream.
pub(super) const CONTENTS: TableDefinition<&str, &StateHash> = TableDefinition::new("contents");

/// The one row of the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) format: u64,
    pub(super) stream: Uuid,
    pub(super) node_uid: Uuid,
    pub(super) last_sequence: i64,
    pub(super) outbox_bytes: u64,
}

const NAME: &str = "meta";
const BYTES: usize = 8 + 16 + 16 + 8 + 8;

impl Meta {
    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Self::of(&transaction.open_table(META).map_err(redb::Error::from)?)
    }

    pub(super) fn of(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Self, StoreError> {
        let value = table.get(NAME).map_err(redb::Error::from)?;
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
        table.insert(NAME, value.as_slice()).map_err(redb::Error::from)?;
        Ok(())
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let value: &[u8; BYTES] = value.try_into().ok()?;
        let number = |at: usize| Some(u64::from_be_bytes(value[at..at + 8].try_into().ok()?));
        Some(Self {
            format: number(0)?,
            stream: Uuid::from_slice(&value[8..24]).ok()?,
            node_uid: Uuid::from_slice(&value[24..40]).ok()?,
            last_sequence: i64::try_from(number(40)?).ok()?,
            outbox_bytes: number(48)?,
        })
    }
}

/// Hashes recorded of one kind.
pub(super) fn hashes(transaction: &ReadTransaction, kind: i32) -> Result<Recorded, StoreError> {
    let state = transaction.open_table(STATE).map_err(redb::Error::from)?;
    let mut recorded = Recorded::new();
    for row in state.range((kind, "")..(kind + 1, "")).map_err(redb::Error::from)? {
        let (key, value) = row.map_err(redb::Error::from)?;
        recorded.insert(key.value().1.to_owned(), *value.value().0);
    }
    Ok(recorded)
}
