//! Opens the store's file, and sets aside one that is damaged or not ours.

use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTableMetadata, StorageError};
use uuid::Uuid;

use super::tables::{CONTENTS, FORMAT, META, Meta, OUTBOX, SNAPSHOTS, STATE};
use super::{Figures, Settings, StoreError};

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

/// Opens the file or makes a new one; also says whether one was set aside.
pub(super) fn open(settings: &Settings) -> Result<(Database, Option<SetAside>), StoreError> {
    let folder = &settings.folder;
    let unusable = |source| StoreError::Unusable { path: folder.clone(), source };
    fs::create_dir_all(folder).map_err(unusable)?;
    let path = folder.join(FILE);
    let reason = match open_file(&path)? {
        Some(database) => match owner(&database, settings) {
            Ok(None) => return Ok((database, None)),
            Ok(Some(reason)) => reason,
            Err(_) => SetAside::Damaged,
        },
        None => SetAside::Damaged,
    };
    let kept_as = set_aside(folder).map_err(unusable)?;
    tracing::error!(reason = reason.name(), kept_as = %kept_as.display(), "store set aside, a new stream begins");
    match open_file(&path)? {
        Some(database) => {
            owner(&database, settings)?;
            Ok((database, Some(reason)))
        }
        None => Err(unusable(io::Error::new(ErrorKind::InvalidData, "a new store is damaged at once"))),
    }
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

fn means_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput)
}

/// Fills an empty database; else says why it is not ours, if it is not.
fn owner(database: &Database, settings: &Settings) -> Result<Option<SetAside>, StoreError> {
    let is_empty = {
        let read = database.begin_read().map_err(redb::Error::from)?;
        read.list_tables().map_err(redb::Error::from)?.next().is_none()
    };
    if is_empty {
        let meta = Meta {
            format: FORMAT,
            stream: Uuid::new_v4(),
            node_uid: settings.node_uid,
            last_sequence: 0,
            outbox_bytes: 0,
        };
        let write = database.begin_write().map_err(redb::Error::from)?;
        meta.write(&mut write.open_table(META).map_err(redb::Error::from)?)?;
        write.open_table(STATE).map_err(redb::Error::from)?;
        write.open_table(OUTBOX).map_err(redb::Error::from)?;
        write.open_table(SNAPSHOTS).map_err(redb::Error::from)?;
        write.open_table(CONTENTS).map_err(redb::Error::from)?;
        write.commit().map_err(redb::Error::from)?;
        return Ok(None);
    }
    let read = database.begin_read().map_err(redb::Error::from)?;
    read.open_table(STATE).map_err(redb::Error::from)?;
    read.open_table(OUTBOX).map_err(redb::Error::from)?;
    read.open_table(SNAPSHOTS).map_err(redb::Error::from)?;
    let meta = Meta::read(&read)?;
    Ok(if meta.format != FORMAT {
        Some(SetAside::OtherFormat)
    } else if meta.node_uid != settings.node_uid {
        Some(SetAside::OtherNode)
    } else {
        None
    })
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

/// How an open store stands.
pub(super) fn figures(database: &Database) -> Result<Figures, StoreError> {
    let read = database.begin_read().map_err(redb::Error::from)?;
    let meta = Meta::read(&read)?;
    let outbox = read.open_table(OUTBOX).map_err(redb::Error::from)?;
    Ok(Figures {
        stream: meta.stream,
        last_sequence: meta.last_sequence,
        outbox_batches: outbox.len().map_err(redb::Error::from)?,
        outbox_bytes: meta.outbox_bytes,
        set_aside: Vec::new(),
    })
}
