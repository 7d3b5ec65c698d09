//! The agent's memory: what was last recorded of each asset, and the batches
//! that the broker has not confirmed. Both change in one durable transaction,
//! so that a crash at any moment leaves them in agreement.
//!
//! One redb file. A store has a random stream ID; a store that is lost, damaged
//! or another node's is set aside and a new one begins a new stream with a
//! snapshot of each kind (docs/ARCHITECTURE.md, "Events and the queue").

mod file;
mod parcel;
mod tables;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contracts::v1::{AssetDetails, AssetKind, NodeIdentity};
use prost::Message;
use redb::{Database, ReadableDatabase};
use tokio::sync::watch;
use uuid::Uuid;

use crate::asset::ScannedAsset;
use crate::batch::pack;
use crate::diff::{Change, Recorded, diff, entries, observe};

pub use file::SetAside;
pub use parcel::Parcel;
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
    /// Bytes of unconfirmed batches at which no more changes are taken.
    pub outbox_limit_bytes: u64,
}

/// Why the store cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent has it open.
    #[error("{path} is in use by another agent: give each its own folder")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The folder or the file cannot be used.
    #[error("cannot use {path}: {source}")]
    Unusable {
        /// The folder or the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A read or write of an open store failed.
    #[error("store: {0}")]
    Database(#[from] redb::Error),
    /// What it holds cannot be read back.
    #[error("store: an entry cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The database code panicked over what it read.
    #[error("store: the file is damaged")]
    Panicked,
}

/// How a store stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its stream.
    pub stream: Uuid,
    /// Newest sequence; 0 for none.
    pub last_sequence: i64,
    /// Batches that are not confirmed.
    pub outbox_batches: u64,
    /// Bytes of these, as they are sent.
    pub outbox_bytes: u64,
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
    /// `None` after a failure, until the next call opens it anew.
    database: Mutex<Option<Database>>,
    figures: watch::Sender<Figures>,
}

impl Store {
    /// Opens the store, or makes a new one.
    ///
    /// # Errors
    /// [`StoreError::Locked`] and [`StoreError::Unusable`].
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        let figures = watch::Sender::new(Figures::default());
        let store = Self { settings, database: Mutex::new(None), figures };
        drop(store.opened()?);
        Ok(store)
    }

    /// Compares a full scan of one kind with what is recorded, and records the
    /// differences together with the batches that report them. The first scan
    /// of a kind in a stream is a snapshot.
    ///
    /// # Errors
    /// The store fails; then nothing of the scan is recorded.
    pub fn record(&self, kind: AssetKind, scanned: &[ScannedAsset]) -> Result<Recording, StoreError> {
        let (entries, doubled) = entries(kind, scanned);
        self.with(|database| {
            let read = database.begin_read().map_err(redb::Error::from)?;
            let meta = Meta::read(&read)?;
            let number = kind as i32;
            let snapshot = {
                let table = read.open_table(SNAPSHOTS).map_err(redb::Error::from)?;
                table.get(number).map_err(redb::Error::from)?.is_none()
            };
            let recorded: Recorded = tables::hashes(&read, number)?;
            let changes = diff(&recorded, &entries, snapshot);
            if changes.is_empty() && !snapshot {
                return Ok(Recording::Taken { observations: 0, doubled: doubled.clone() });
            }
            let mut observations = Vec::with_capacity(changes.len());
            for change in &changes {
                observations.push(observe(kind, *change, Uuid::now_v7(), kit::time::now())?);
            }
            let listed = snapshot.then_some(kind);
            let batches =
                pack(&self.settings.node, meta.stream, meta.last_sequence + 1, observations, listed);
            let parcels: Vec<Parcel> = batches.iter().map(Parcel::new).collect();
            let bytes: u64 = parcels.iter().map(Parcel::bytes).sum();
            if meta.outbox_bytes > 0 && meta.outbox_bytes + bytes > self.settings.outbox_limit_bytes {
                return Ok(Recording::OutboxFull);
            }

            let write = database.begin_write().map_err(redb::Error::from)?;
            {
                let mut state = write.open_table(STATE).map_err(redb::Error::from)?;
                for change in &changes {
                    match change {
                        Change::Present(entry) | Change::Listed(entry) => {
                            let value = (&entry.hash, entry.display_name.as_str(), entry.details.as_slice());
                            state
                                .insert((number, entry.natural_key.as_str()), value)
                                .map_err(redb::Error::from)?;
                        }
                        Change::Absent(key) => {
                            state.remove((number, *key)).map_err(redb::Error::from)?;
                        }
                    }
                }
                let mut outbox = write.open_table(OUTBOX).map_err(redb::Error::from)?;
                for parcel in &parcels {
                    outbox.insert(parcel.sequence, parcel.to_row()).map_err(redb::Error::from)?;
                }
                let last_sequence = parcels.last().map_or(meta.last_sequence, |parcel| parcel.sequence);
                if snapshot {
                    let mut snapshots = write.open_table(SNAPSHOTS).map_err(redb::Error::from)?;
                    snapshots.insert(number, last_sequence).map_err(redb::Error::from)?;
                }
                let meta = Meta { last_sequence, outbox_bytes: meta.outbox_bytes + bytes, ..meta };
                meta.write(&mut write.open_table(META).map_err(redb::Error::from)?)?;
            }
            write.commit().map_err(redb::Error::from)?;
            Ok(Recording::Taken { observations: changes.len(), doubled: doubled.clone() })
        })
    }

    /// The oldest batches after a sequence, in order: at most `count`, and at
    /// most `bytes` but for the first.
    ///
    /// # Errors
    /// The store fails.
    pub fn parcels(&self, after: i64, count: usize, bytes: u64) -> Result<Vec<Parcel>, StoreError> {
        self.with(|database| {
            let read = database.begin_read().map_err(redb::Error::from)?;
            let stream = Meta::read(&read)?.stream;
            let outbox = read.open_table(OUTBOX).map_err(redb::Error::from)?;
            let mut parcels: Vec<Parcel> = Vec::new();
            let mut total = 0;
            for row in outbox.range(after.saturating_add(1)..).map_err(redb::Error::from)? {
                let (sequence, row) = row.map_err(redb::Error::from)?;
                let parcel = Parcel::from_row(stream, sequence.value(), row.value());
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
    /// another stream are none of ours any more.
    ///
    /// # Errors
    /// The store fails; then they are sent again, and known to be duplicates.
    pub fn confirm(&self, stream: Uuid, sequences: &[i64]) -> Result<(), StoreError> {
        self.with(|database| {
            let write = database.begin_write().map_err(redb::Error::from)?;
            {
                let mut table = write.open_table(META).map_err(redb::Error::from)?;
                let mut meta = Meta::of(&table)?;
                if meta.stream != stream {
                    return Ok(());
                }
                let mut outbox = write.open_table(OUTBOX).map_err(redb::Error::from)?;
                for sequence in sequences {
                    if let Some(row) = outbox.remove(sequence).map_err(redb::Error::from)? {
                        meta.outbox_bytes = meta.outbox_bytes.saturating_sub(parcel::row_bytes(row.value()));
                    }
                }
                meta.write(&mut table)?;
            }
            Ok(write.commit().map_err(redb::Error::from)?)
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
        self.with(|database| {
            let read = database.begin_read().map_err(redb::Error::from)?;
            let state = read.open_table(STATE).map_err(redb::Error::from)?;
            let first = kind.map_or((0, ""), |kind| (kind as i32, ""));
            let start = after.map_or(first, |(number, key)| (*number, key.as_str()));
            let mut assets = Vec::new();
            for row in state.range(start..).map_err(redb::Error::from)? {
                let (key, value) = row.map_err(redb::Error::from)?;
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
        self.with(|database| {
            let read = database.begin_read().map_err(redb::Error::from)?;
            let contents = read.open_table(CONTENTS).map_err(redb::Error::from)?;
            Ok(contents.get(digest).map_err(redb::Error::from)?.is_some())
        })
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
    /// closed, and the next call opens it anew, which sets it aside if it is
    /// damaged.
    fn with<T>(&self, act: impl Fn(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut database = self.opened()?;
        let result = match database.as_ref() {
            // The database may panic over pages that were changed behind its back.
            Some(open) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let result = act(open)?;
                Ok((result, file::figures(open)?))
            }))
            .unwrap_or(Err(StoreError::Panicked)),
            None => Err(StoreError::Panicked),
        };
        match result {
            Ok((value, figures)) => {
                self.publish(figures);
                Ok(value)
            }
            Err(error) => {
                *database = None;
                Err(error)
            }
        }
    }

    fn opened(&self) -> Result<MutexGuard<'_, Option<Database>>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let (opened, set_aside) = file::open(&self.settings)?;
            let figures = file::figures(&opened)?;
            *database = Some(opened);
            if let Some(reason) = set_aside {
                self.figures.send_modify(|figures| figures.set_aside.push(reason));
            }
            self.publish(figures);
        }
        Ok(database)
    }

    fn publish(&self, new: Figures) {
        self.figures.send_if_modified(|figures| {
            let before = std::mem::replace(figures, new);
            figures.set_aside.clone_from(&before.set_aside);
            *figures != before
        });
    }
}

#[cfg(test)]
mod tests;
