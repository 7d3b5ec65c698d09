//! Says beside the store whether a stream in memory has followed the one in the
//! file. It is written while there is room, and only overwritten in place when
//! there may be none.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

const FILE: &str = "store.stream";
/// The store's stream is the newest.
pub(super) const CURRENT: &[u8] = b"current   \n";
/// Another one has followed it. Of the same length, so that no block is needed.
pub(super) const SUPERSEDED: &[u8] = b"superseded\n";

/// Writes the marker. On a disk that cannot be written at all it stays as it
/// is: the file's stream then goes on after a restart, and the processor makes
/// it the current one again when heartbeats name it.
pub(super) fn write(folder: &Path, state: &[u8]) {
    if fs::read(folder.join(FILE)).is_ok_and(|before| before == state) {
        return;
    }
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(FILE))
        .and_then(|file| file.write_all_at(state, 0).and_then(|()| file.sync_data()));
    if let Err(error) = written {
        tracing::warn!(%error, "cannot write which stream is the newest");
    }
}

pub(super) fn is_superseded(folder: &Path) -> bool {
    fs::read(folder.join(FILE)).is_ok_and(|state| state == SUPERSEDED)
}
