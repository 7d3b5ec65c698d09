//! Why the store cannot do what it is asked.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

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
        source: io::Error,
    },
    /// A read or write of an open store failed.
    #[error("store: {0}")]
    Database(#[source] redb::Error),
    /// What it holds cannot be read back.
    #[error("store: an entry cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The database code panicked over what it read.
    #[error("store: the file is damaged")]
    Panicked,
}

impl StoreError {
    /// Whether the disk is at fault, and not what is on it.
    #[must_use]
    pub fn is_of_disk(&self) -> bool {
        match self {
            Self::Unusable { .. } | Self::Database(redb::Error::PreviousIo) => true,
            Self::Database(redb::Error::Io(error)) => !means_damage(error.kind()),
            _ => false,
        }
    }

    /// Whether waiting does not help: a folder that is none, or no permission. A
    /// disk that is full, read-only or failing may get well.
    pub(super) fn is_lasting(&self) -> bool {
        let Self::Unusable { source, .. } = self else { return false };
        !matches!(
            source.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
        ) && source.raw_os_error() != Some(nix::libc::EIO)
    }
}

/// Errors by which a reader says that a file is not what it should be.
pub(super) fn means_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput)
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}

from_redb!(Error, DatabaseError, TransactionError, TableError, StorageError, CommitError);
