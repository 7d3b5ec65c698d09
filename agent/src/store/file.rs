//! Opens the store's file, and sets aside one that is damaged or not ours.

use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};

use super::errors::means_damage;
use super::tables::{CONTENTS, DIGESTS, FORMAT, META, Meta, OUTBOX, SNAPSHOTS, STATE, begin_stream, create};
use super::{Settings, StoreError, marker};

const FILE: &str = "store.redb";
/// A store set aside is for a person to look at; older ones are deleted.
const KEPT: usize = 3;
/// The store is read in order and seldom: a cache would only cost memory.
const CACHE_BYTES: usize = 1024 * 1024;

/// Why a store was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAside {
    /// Its checksums do not fit, or it is no store.
    Damaged,
    /// It has the form of another version.
    OtherFormat,
    /// It belongs to another node: the disk was copied.
    OtherNode,
}

impl SetAside {
    /// One word for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::OtherFormat => "other_format",
            Self::OtherNode => "other_node",
        }
    }
}

/// A store that has been opened.
pub(super) struct Opened {
    pub(super) database: Database,
    /// Why another one was set aside for it.
    pub(super) set_aside: Option<SetAside>,
}

/// Opens the file or makes a new one. A stream that begins here has a higher
/// generation than `last_generation`.
pub(super) fn open(settings: &Settings, last_generation: u32) -> Result<Opened, StoreError> {
    let folder = &settings.folder;
    let unusable = |source| StoreError::Unusable { path: folder.clone(), source };
    fs::create_dir_all(folder).map_err(unusable)?;
    let path = folder.join(FILE);
    let reason = match open_file(&path)? {
        Some(database) => match owner(&database, settings, last_generation) {
            Ok(None) => {
                resume(&database, settings, last_generation)?;
                return Ok(Opened { database, set_aside: None });
            }
            Ok(Some(reason)) => reason,
            Err(error) if error.is_of_disk() => return Err(error),
            Err(_) => SetAside::Damaged,
        },
        None => SetAside::Damaged,
    };
    let kept_as = set_aside(folder).map_err(unusable)?;
    tracing::error!(reason = reason.name(), kept_as = %kept_as.display(), "store set aside, a new stream begins");
    match open_file(&path)? {
        Some(database) => {
            owner(&database, settings, last_generation)?;
            marker::write(folder, marker::CURRENT);
            Ok(Opened { database, set_aside: Some(reason) })
        }
        None => Err(unusable(io::Error::new(ErrorKind::InvalidData, "a new store is damaged at once"))),
    }
}

/// A stream that another one, kept in memory, has followed must not go on: the
/// processor takes it for an old one. What its outbox holds is still sent.
fn resume(database: &Database, settings: &Settings, last_generation: u32) -> Result<(), StoreError> {
    if marker::is_superseded(&settings.folder) {
        tracing::warn!("a stream in memory has followed the store's, a new stream begins");
        let write = database.begin_write()?;
        let old = Meta::of(&write.open_table(META)?)?;
        let generation = old.generation.max(last_generation) + 1;
        begin_stream(&write, &Meta::begin(settings.node_uid, generation, old.outbox_bytes))?;
        write.commit()?;
    }
    marker::write(&settings.folder, marker::CURRENT);
    Ok(())
}

/// `None` for a damaged file.
fn open_file(path: &Path) -> Result<Option<Database>, StoreError> {
    // The check reads all pages, so that later reads do not meet torn ones.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path)
    }));
    match opened {
        Ok(Ok(database)) => Ok(Some(database)),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::Locked { path: path.to_owned() }),
        Ok(Err(DatabaseError::Storage(StorageError::Io(source)))) if !means_damage(source.kind()) => {
            Err(StoreError::Unusable { path: path.to_owned(), source })
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, path = %path.display(), "store is damaged");
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

/// Fills an empty database; else says why it is not ours, if it is not.
fn owner(
    database: &Database,
    settings: &Settings,
    last_generation: u32,
) -> Result<Option<SetAside>, StoreError> {
    let is_empty = database.begin_read()?.list_tables()?.next().is_none();
    if is_empty {
        let write = database.begin_write()?;
        create(&write, &Meta::begin(settings.node_uid, last_generation + 1, 0))?;
        write.commit()?;
        return Ok(None);
    }
    let read = database.begin_read()?;
    let meta = Meta::read(&read)?;
    if meta.format != FORMAT {
        return Ok(Some(SetAside::OtherFormat));
    }
    if meta.node_uid != settings.node_uid {
        return Ok(Some(SetAside::OtherNode));
    }
    read.open_table(STATE)?;
    read.open_table(OUTBOX)?;
    read.open_table(SNAPSHOTS)?;
    read.open_table(DIGESTS)?;
    read.open_table(CONTENTS)?;
    Ok(None)
}

/// Renames the file to `store.redb.damaged-<n>` with the next number.
fn set_aside(folder: &Path) -> io::Result<PathBuf> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("store.redb.damaged-"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let name = |number: u64| folder.join(format!("{FILE}.damaged-{number}"));
    let next = name(numbers.last().map_or(1, |last| last + 1));
    fs::rename(folder.join(FILE), &next)?;
    let surplus = (numbers.len() + 1).saturating_sub(KEPT);
    for number in numbers.into_iter().take(surplus) {
        fs::remove_file(name(number))?;
    }
    Ok(next)
}
