//! The agent's memory: what was last recorded of each asset, and the batches
//! that the broker has not confirmed. Both change in one durable transaction,
//! so that a crash at any moment leaves them in agreement.
//!
//! One redb file. A store has a random stream ID; a store that is lost, damaged
//! or another node's is set aside and a new one begins a new stream with a
//! snapshot of each kind. While the disk cannot be written, a store in memory
//! takes its place (docs/ARCHITECTURE.md, "The agent's store").

mod errors;
mod file;
mod marker;
mod memory;
mod parcel;
mod record;
mod tables;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contracts::v1::{AssetDetails, AssetKind, NodeIdentity};
use kit::digest::Digest;
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use tokio::sync::watch;
use uuid::Uuid;

use crate::asset::ScannedAsset;
use crate::probe::ImageContents;

pub use errors::StoreError;
pub use file::SetAside;
pub use parcel::{Parcel, Position, Receipt};
use tables::{CONTENTS, META, Meta, OUTBOX, SNAPSHOTS, STATE};

/// Where the store is and whose it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder that holds it, and nothing else; made if it is not there.
    pub folder: PathBuf,
    /// The node that it belongs to.
    pub node: NodeIdentity,
    /// UUID of that node.
    pub node_uid: Uuid,
    /// Bytes of unconfirmed batches at which no more changes are taken; at most
    /// 4 MiB count while the store is in memory.
    pub outbox_limit_bytes: u64,
}

/// How a store stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its stream.
    pub stream: Uuid,
    /// Place of the newest batch; its sequence is 0 for none.
    pub newest: Position,
    /// Batches that are not confirmed.
    pub outbox_batches: u64,
    /// Bytes of these, as they are sent.
    pub outbox_bytes: u64,
    /// When the oldest of these was made, in milliseconds since the epoch.
    pub oldest_millis: Option<i64>,
    /// Digest of each kind that was scanned, as of the newest batch.
    pub digests: Vec<(AssetKind, Digest)>,
    /// Why it is in memory; `None` while it is on the disk.
    pub in_memory: Option<String>,
    /// How often kinds were asked to be listed in full since this process began.
    pub resyncs: u64,
    /// Why stores were set aside since this process began, oldest first.
    pub set_aside: Vec<SetAside>,
}

/// What became of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    /// It is in the store.
    Taken {
        /// Observations that it made: differences, or all of a snapshot.
        observations: usize,
        /// Natural keys that more than one asset had.
        doubled: Vec<String>,
    },
    /// The outbox is full. The recorded state stays, so that a later scan
    /// reports the newest state.
    OutboxFull,
}

/// An asset as it was last recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAsset {
    /// Its kind.
    pub kind: AssetKind,
    /// Its natural key.
    pub natural_key: String,
    /// Its name for people.
    pub display_name: String,
    /// Its state.
    pub details: AssetDetails,
}

/// Place in the order of kind and natural key.
pub type Place = (i32, String);

/// The store. All calls block for the disk.
pub struct Store {
    settings: Settings,
    open: Mutex<Open>,
    figures: watch::Sender<Figures>,
}

#[derive(Default)]
struct Open {
    /// `None` after a failure, until the next call opens it anew.
    database: Option<Database>,
    memory: Option<memory::Memory>,
    /// Highest generation that this process has seen.
    generation: u32,
    /// Snapshots asked for since this process began.
    resyncs: u64,
}

impl Store {
    /// Opens the store, or makes a new one; in memory if the disk is full,
    /// read-only or fails.
    ///
    /// # Errors
    /// [`StoreError::Locked`] and [`StoreError::Unusable`].
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        let figures = watch::Sender::new(Figures::default());
        let store = Self { settings, open: Mutex::default(), figures };
        let mut open = store.lock();
        store.ensure(&mut open, StoreError::is_lasting)?;
        drop(open);
        Ok(store)
    }

    /// Compares a full scan of one kind with what is recorded, and records the
    /// differences together with the batches that report them. The first scan
    /// of a kind in a stream is a snapshot.
    ///
    /// # Errors
    /// The store fails; then nothing of the scan is recorded.
    pub fn record(
        &self,
        kind: AssetKind,
        scanned: &[ScannedAsset],
        contents: &[ImageContents],
    ) -> Result<Recording, StoreError> {
        let scan = record::Prepared::new(kind, scanned, contents);
        self.with(|database, in_memory| {
            let limit = self.settings.outbox_limit_bytes;
            let limit = if in_memory { limit.min(memory::OUTBOX_LIMIT_BYTES) } else { limit };
            record::record(database, &self.settings.node, &scan, limit)
        })
    }

    /// The oldest batches after a position, in order: at most `count`, and at
    /// most `bytes` but for the first.
    ///
    /// # Errors
    /// The store fails.
    pub fn parcels(&self, after: Position, count: usize, bytes: u64) -> Result<Vec<Parcel>, StoreError> {
        self.with(|database, _| {
            let read = database.begin_read()?;
            let outbox = read.open_table(OUTBOX)?;
            let mut parcels: Vec<Parcel> = Vec::new();
            let mut total = 0;
            for row in outbox.range((after.0, after.1.saturating_add(1))..)? {
                let (position, row) = row?;
                let parcel = Parcel::from_row(position.value(), row.value());
                total += parcel.bytes();
                if parcels.len() == count || (total > bytes && !parcels.is_empty()) {
                    break;
                }
                parcels.push(parcel);
            }
            Ok(parcels)
        })
    }

    /// Takes batches out of the outbox, which the broker has confirmed. Those of
    /// a store that was set aside are none of ours any more.
    ///
    /// # Errors
    /// The store fails; then they are sent again, and known to be duplicates.
    pub fn confirm(&self, receipts: &[Receipt]) -> Result<(), StoreError> {
        kit::failpoint::pass("confirm_before_commit");
        self.with(|database, _| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(META)?;
                let mut meta = Meta::of(&table)?;
                let mut outbox = write.open_table(OUTBOX)?;
                for receipt in receipts {
                    let is_ours = outbox
                        .get(receipt.position)?
                        .is_some_and(|row| row.value().0 == receipt.stream.as_bytes());
                    if is_ours && let Some(row) = outbox.remove(receipt.position)? {
                        let bytes = row.value().4.len() as u64;
                        meta.outbox_bytes = meta.outbox_bytes.saturating_sub(bytes);
                    }
                }
                meta.write(&mut table)?;
            }
            Ok(write.commit()?)
        })?;
        kit::failpoint::pass("confirm_after_commit");
        Ok(())
    }

    /// Has kinds listed in full with their next scan; no kind means all.
    ///
    /// # Errors
    /// The store fails.
    pub fn resync(&self, kinds: &[AssetKind]) -> Result<(), StoreError> {
        self.lock().resyncs += 1;
        self.with(|database, _| {
            let write = database.begin_write()?;
            {
                let mut snapshots = write.open_table(SNAPSHOTS)?;
                snapshots.retain(|kind, _| {
                    !kinds.is_empty() && !kinds.iter().any(|asked| *asked as i32 == kind)
                })?;
            }
            Ok(write.commit()?)
        })
    }

    /// Begins a new stream. What the outbox holds is still sent.
    ///
    /// # Errors
    /// The store fails; then the old stream goes on.
    pub fn new_stream(&self) -> Result<(), StoreError> {
        let node_uid = self.settings.node_uid;
        self.with(|database, _| {
            let write = database.begin_write()?;
            let old = Meta::of(&write.open_table(META)?)?;
            let meta = Meta::begin(node_uid, old.generation + 1, old.outbox_bytes);
            tables::begin_stream(&write, &meta)?;
            Ok(write.commit()?)
        })
    }

    /// Recorded assets in order of kind and natural key, after a place.
    ///
    /// # Errors
    /// The store fails.
    pub fn assets(
        &self,
        kind: Option<AssetKind>,
        after: Option<&Place>,
        count: usize,
    ) -> Result<Vec<RecordedAsset>, StoreError> {
        self.with(|database, _| {
            let read = database.begin_read()?;
            let state = read.open_table(STATE)?;
            let first = kind.map_or((0, ""), |kind| (kind as i32, ""));
            let start = after.map_or(first, |(number, key)| (*number, key.as_str()));
            let mut assets = Vec::new();
            for row in state.range(start..)? {
                let (key, value) = row?;
                let (number, natural_key) = key.value();
                let is_start =
                    after.is_some_and(|(kind, key)| (*kind, key.as_str()) == (number, natural_key));
                if is_start {
                    continue;
                }
                if assets.len() == count || kind.is_some_and(|kind| kind as i32 != number) {
                    break;
                }
                let (_, display_name, details) = value.value();
                assets.push(RecordedAsset {
                    kind: AssetKind::try_from(number).unwrap_or_default(),
                    natural_key: natural_key.to_owned(),
                    display_name: display_name.to_owned(),
                    details: AssetDetails::decode(details)?,
                });
            }
            Ok(assets)
        })
    }

    /// Whether the contents of an image were sent in this stream.
    ///
    /// # Errors
    /// The store fails.
    pub fn knows_image(&self, digest: &str) -> Result<bool, StoreError> {
        self.with(|database, _| Ok(database.begin_read()?.open_table(CONTENTS)?.get(digest)?.is_some()))
    }

    /// Goes back to the disk, if the store is in memory and the disk can be
    /// written again. Answers whether the store is on the disk.
    ///
    /// # Errors
    /// The disk still fails; the store stays in memory.
    pub fn return_to_disk(&self) -> Result<bool, StoreError> {
        let generation = {
            let open = self.lock();
            if open.memory.is_none() {
                return Ok(open.database.is_some());
            }
            open.generation
        };
        // Without the lock: a disk that is dying may take minutes to answer, and
        // the store in memory goes on meanwhile.
        let file::Opened { database, set_aside } = file::open(&self.settings, generation)?;
        let mut open = self.lock();
        let Open { database: Some(in_memory), memory: Some(memory), .. } = &*open else {
            return Ok(open.database.is_some());
        };
        memory::move_to_file(in_memory, &memory.copied, &database, self.settings.node_uid)?;
        marker::write(&self.settings.folder, marker::CURRENT);
        tracing::info!("the store is on the disk again, a new stream begins");
        let figures = figures_of(&database)?;
        (open.database, open.memory) = (Some(database), None);
        self.publish(&mut open, figures, set_aside);
        Ok(true)
    }

    /// How the store stands.
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }

    /// Follows how the store stands. No call to the store may be made while a
    /// value of it is borrowed.
    pub fn watch(&self) -> watch::Receiver<Figures> {
        self.figures.subscribe()
    }

    /// Bytes of unconfirmed batches at which no more changes are taken.
    pub fn outbox_limit_bytes(&self) -> u64 {
        self.settings.outbox_limit_bytes
    }

    /// The node whose store it is.
    pub fn node(&self) -> &NodeIdentity {
        &self.settings.node
    }

    /// UUID of that node.
    pub fn node_uid(&self) -> Uuid {
        self.settings.node_uid
    }

    /// Does something with the open database. After a failure the database is
    /// closed and opened anew, which sets it aside if it is damaged, and it is
    /// tried once more. A disk that fails is left for memory, and it is done there.
    fn with<T>(&self, act: impl Fn(&Database, bool) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut open = self.lock();
        self.ensure(&mut open, |_| false)?;
        match self.attempt(&mut open, &act) {
            Err(error) if error.is_of_disk() && open.memory.is_none() => {
                self.leave_disk(&mut open, &error)?;
                self.attempt(&mut open, &act)
            }
            Err(error) => {
                tracing::error!(%error, "the store fails and is opened anew");
                (open.database, open.memory) = (None, None);
                self.ensure(&mut open, |_| false)?;
                self.attempt(&mut open, &act)
            }
            done => done,
        }
        .inspect_err(|_| (open.database, open.memory) = (None, None))
    }

    fn attempt<T>(
        &self,
        open: &mut Open,
        act: &impl Fn(&Database, bool) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = open.database.as_ref().ok_or(StoreError::Panicked)?;
        let in_memory = open.memory.is_some();
        // The database may panic over pages that were changed behind its back.
        let (value, figures) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Ok::<_, StoreError>((act(database, in_memory)?, figures_of(database)?))
        }))
        .unwrap_or(Err(StoreError::Panicked))?;
        self.publish(open, figures, None);
        Ok(value)
    }

    /// Opens the database if it is not. `refuse` says which failures of the disk
    /// are the caller's to hear.
    fn ensure(&self, open: &mut Open, refuse: impl Fn(&StoreError) -> bool) -> Result<(), StoreError> {
        if open.database.is_some() {
            return Ok(());
        }
        match file::open(&self.settings, open.generation) {
            Ok(file::Opened { database, set_aside }) => {
                let figures = figures_of(&database)?;
                open.database = Some(database);
                self.publish(open, figures, set_aside);
                Ok(())
            }
            Err(error) if error.is_of_disk() && !refuse(&error) => self.leave_disk(open, &error),
            Err(error) => Err(error),
        }
    }

    fn leave_disk(&self, open: &mut Open, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "the store's disk fails, a new stream begins in memory");
        // A database that failed may refuse to be read as well.
        let read = || open.database.as_ref().map(|file| memory::oldest(file, memory::OUTBOX_LIMIT_BYTES));
        let outbox = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
        let outbox = outbox.ok().flatten().and_then(Result::ok).unwrap_or_default();
        open.database = None;
        marker::write(&self.settings.folder, marker::SUPERSEDED);
        let (database, copied) = memory::create_store(&self.settings, open.generation + 1, &outbox)?;
        let figures = figures_of(&database)?;
        open.database = Some(database);
        open.memory = Some(memory::Memory { reason: error.to_string(), copied });
        self.publish(open, figures, None);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, open: &mut Open, mut new: Figures, set_aside: Option<SetAside>) {
        open.generation = open.generation.max(new.newest.0);
        new.in_memory = open.memory.as_ref().map(|memory| memory.reason.clone());
        new.resyncs = open.resyncs;
        self.figures.send_if_modified(|figures| {
            new.set_aside = std::mem::take(&mut figures.set_aside);
            let before = std::mem::replace(figures, new);
            let unchanged = Figures { set_aside: figures.set_aside.clone(), ..before } == *figures;
            figures.set_aside.extend(set_aside);
            !unchanged || set_aside.is_some()
        });
    }
}

fn figures_of(database: &Database) -> Result<Figures, StoreError> {
    let read = database.begin_read()?;
    let meta = Meta::read(&read)?;
    let outbox = read.open_table(OUTBOX)?;
    Ok(Figures {
        stream: meta.stream,
        newest: (meta.generation, meta.last_sequence),
        outbox_batches: outbox.len()?,
        outbox_bytes: meta.outbox_bytes,
        oldest_millis: outbox.first()?.map(|(_, row)| row.value().2),
        digests: tables::digests(&read)?,
        ..Figures::default()
    })
}

#[cfg(test)]
mod tests;
