//! A scan into the store: the differences, and the batches that report them, in
//! one transaction.

use contracts::v1::{AssetKind, ImageContent, NodeIdentity};
use kit::digest::StateHash;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use uuid::Uuid;

use super::parcel::Parcel;
use super::tables::{self, CONTENTS, DIGESTS, META, Meta, OUTBOX, SNAPSHOTS, STATE};
use super::{Recording, StoreError};
use crate::asset::ScannedAsset;
use crate::batch::pack;
use crate::contents::parts;
use crate::diff::{Change, Entry, Recorded, diff, entries, observe};
use crate::probe::ImageContents;

/// A scan, ready to be compared.
pub(super) struct Prepared {
    kind: AssetKind,
    entries: Vec<Entry>,
    doubled: Vec<String>,
    /// Contents of images, each with its hash.
    contents: Vec<(StateHash, Vec<ImageContent>)>,
}

impl Prepared {
    pub(super) fn new(kind: AssetKind, scanned: &[ScannedAsset], contents: &[ImageContents]) -> Self {
        let (entries, doubled) = entries(kind, scanned);
        Self { kind, entries, doubled, contents: contents.iter().map(parts).collect() }
    }

    /// Parts of the contents that were not sent in this stream.
    fn new_contents(&self, read: &ReadTransaction) -> Result<Vec<ImageContent>, StoreError> {
        let known = read.open_table(CONTENTS)?;
        let mut new = Vec::new();
        for (_, parts) in &self.contents {
            let Some(first) = parts.first() else { continue };
            if known.get(first.image_digest.as_str())?.is_none() {
                new.extend(parts.iter().cloned());
            }
        }
        Ok(new)
    }
}

/// Records a scan, unless the outbox has no room for what it reports.
pub(super) fn record(
    database: &Database,
    node: &NodeIdentity,
    scan: &Prepared,
    outbox_limit_bytes: u64,
) -> Result<Recording, StoreError> {
    let read = database.begin_read()?;
    let meta = Meta::read(&read)?;
    let number = scan.kind as i32;
    let snapshot = read.open_table(SNAPSHOTS)?.get(number)?.is_none();
    let recorded: Recorded = tables::hashes(&read, number)?;
    let changes = diff(&recorded, &scan.entries, snapshot);
    let contents = scan.new_contents(&read)?;
    let taken = Recording::Taken { observations: changes.len(), doubled: scan.doubled.clone() };
    if changes.is_empty() && contents.is_empty() && !snapshot {
        return Ok(taken);
    }
    let mut observations = Vec::with_capacity(changes.len());
    for change in &changes {
        observations.push(observe(scan.kind, *change, Uuid::now_v7(), kit::time::now())?);
    }
    let listed = snapshot.then_some(scan.kind);
    let batches = pack(node, meta.stream, meta.last_sequence + 1, observations, listed, contents);
    let parcels: Vec<Parcel> = batches.iter().map(|batch| Parcel::new(meta.generation, batch)).collect();
    drop(batches);
    let bytes: u64 = parcels.iter().map(Parcel::bytes).sum();
    if meta.outbox_bytes > 0 && meta.outbox_bytes + bytes > outbox_limit_bytes {
        return Ok(Recording::OutboxFull);
    }
    drop(read);
    let last_sequence = parcels.last().map_or(meta.last_sequence, |parcel| parcel.sequence);
    let meta = Meta { last_sequence, outbox_bytes: meta.outbox_bytes + bytes, ..meta };
    write(database, scan, &recorded, &changes, &parcels, &meta, snapshot)?;
    Ok(taken)
}

fn write(
    database: &Database,
    scan: &Prepared,
    recorded: &Recorded,
    changes: &[Change<'_>],
    parcels: &[Parcel],
    meta: &Meta,
    snapshot: bool,
) -> Result<(), StoreError> {
    let number = scan.kind as i32;
    let write = database.begin_write()?;
    {
        let mut state = write.open_table(STATE)?;
        let mut digests = write.open_table(DIGESTS)?;
        let mut digest = tables::digest(&digests, number)?.unwrap_or_default();
        for change in changes {
            if let Some(before) = recorded.get(change.natural_key()) {
                digest.subtract(before);
            }
            match change {
                Change::Present(entry) | Change::Listed(entry) => {
                    digest.add(&entry.hash);
                    let value = (&entry.hash, entry.display_name.as_str(), entry.details.as_slice());
                    state.insert((number, entry.natural_key.as_str()), value)?;
                }
                Change::Absent(key) => {
                    state.remove((number, *key))?;
                }
            }
        }
        digests.insert(number, (digest.count, digest.sum))?;
        let mut outbox = write.open_table(OUTBOX)?;
        for parcel in parcels {
            outbox.insert(parcel.position(), parcel.to_row())?;
        }
        if snapshot {
            write.open_table(SNAPSHOTS)?.insert(number, meta.last_sequence)?;
        }
        let mut known = write.open_table(CONTENTS)?;
        for (hash, parts) in &scan.contents {
            if let Some(part) = parts.first()
                && known.get(part.image_digest.as_str())?.is_none()
            {
                known.insert(part.image_digest.as_str(), hash)?;
            }
        }
        meta.write(&mut write.open_table(META)?)?;
    }
    kit::failpoint::pass("record_before_commit");
    write.commit()?;
    kit::failpoint::pass("record_after_commit");
    Ok(())
}
