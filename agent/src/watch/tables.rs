//! Tables of the kernel that tell of changes by poll(2): the mounts
//! (proc_pid_mounts(5)), the swap areas (proc_swaps(5)) and the RAID arrays.
//! Nothing else below /proc and /sys tells anything by inotify or by its times.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use tokio::io::Interest;
use tokio::sync::Notify;

use super::ready::registered;
use super::target::Target;
use super::wake::{Source, WakeSender};
use crate::host::{HostRoot, is_absent};

/// Pause after an event: each start of a container changes the mounts.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a table that is not there is looked for.
const APPEARANCE: Duration = Duration::from_secs(30);

/// Whether the kernel tells of changes of what is at this path, if it is in a
/// real /proc.
pub(super) fn is_table(host: &HostRoot, path: &Path) -> bool {
    is_table_name(path)
        && host
            .handle("proc")
            .is_ok_and(|fd| fstatfs(&fd).is_ok_and(|stat| stat.filesystem_type() == PROC_SUPER_MAGIC))
}

/// Whether it would be, in a real /proc.
pub(super) fn is_table_name(path: &Path) -> bool {
    path == Path::new("proc/swaps")
        || path == Path::new("proc/mdstat")
        || (path.starts_with("proc") && (path.ends_with("mountinfo") || path.ends_with("mounts")))
}

/// Waits for changes of one table.
pub(super) async fn watch(
    host: &HostRoot,
    target: &Target,
    wakes: &WakeSender,
    remounted: &Arc<Notify>,
) -> io::Result<Infallible> {
    let is_mounts = !target.path.ends_with("swaps") && !target.path.ends_with("mdstat");
    let file = loop {
        match open(host, target.path) {
            // A kernel without swap, or without RAID as long as its module is
            // not loaded: there is nothing to tell, so the source is not down.
            Err(error) if !is_mounts && is_absent(&error) => tokio::time::sleep(APPEARANCE).await,
            opened => break opened?,
        }
    };
    let table = registered(file.into(), Interest::PRIORITY)?;
    wakes.up(Source::Tables);
    // What changed before it was open may have been seen by nobody.
    wakes.changed(&target.places, Source::Tables, target.named);
    loop {
        table.ready(Interest::PRIORITY).await?.clear_ready();
        wakes.changed(&target.places, Source::Tables, target.named);
        if is_mounts {
            remounted.notify_one();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn open(host: &HostRoot, path: &Path) -> io::Result<File> {
    host.open(path).or_else(|error| {
        // Another process's may be hidden (proc(5), hidepid).
        if path.ends_with("mountinfo") { host.open("proc/self/mountinfo") } else { Err(error) }
    })
}
