//! The watches that the kernel holds for us (inotify(7)), and what their events
//! mean for the targets.
//!
//! Of a path, each folder on the way is watched for the next name alone, and
//! what it leads to for anything: so a file that is replaced by rename, a folder
//! that is made anew and a path that appears later are all seen. A watch is set
//! on an open `O_PATH` descriptor, by its name in `/proc/self/fd`, so that no
//! link leads out of the host root.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::{self, FsType, fstatfs};

use super::target::Target;
use crate::host::HostRoot;

/// Watches in all: each takes about a kilobyte of the kernel's memory.
pub(super) const MAX_WATCHES: usize = 4096;
/// Reads of one turn, some hundred events each; the rest waits for the next.
const MAX_READS: usize = 256;

/// File systems that change without anybody writing through this kernel's own
/// files: inotify is silent there.
const SILENT: [FsType; 10] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::NFS_SUPER_MAGIC,
    statfs::SMB_SUPER_MAGIC,
    FsType(0xff53_4d42), // CIFS
    FsType(0xfe53_4d42), // SMB2
    FsType(0x00c3_6400), // Ceph
    FsType(0x0102_1997), // 9P
    statfs::FUSE_SUPER_MAGIC,
    statfs::CODA_SUPER_MAGIC,
];

/// Why a target must be looked at instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwatchable {
    #[error("no watches are left (fs.inotify.max_user_watches)")]
    NoneLeft,
    #[error("it is on a file system that does not tell of changes")]
    Silent,
    #[error("it cannot be watched: {0}")]
    Refused(Errno),
}

/// What a turn of events said, by the targets' places.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) changed: BTreeSet<usize>,
    /// Targets whose watches no longer fit.
    pub(super) rearm: BTreeSet<usize>,
    /// Events were lost: all may have changed.
    pub(super) lost: bool,
    /// More is waiting.
    pub(super) more: bool,
}

struct Interest {
    target: usize,
    /// Only this entry of the folder; any if there is none.
    name: Option<OsString>,
}

/// How the paths of a target are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// By the kernel; `true` if only a part of it is.
    Watched { partly: bool },
    /// Not at all.
    Polled(Unwatchable),
}

pub(super) struct Armed {
    inotify: Inotify,
    host: Arc<HostRoot>,
    targets: Arc<[Target]>,
    interests: HashMap<WatchDescriptor, Vec<Interest>>,
    modes: Vec<Mode>,
    limit: usize,
}

impl Armed {
    /// Nothing is watched yet.
    pub(super) fn new(inotify: Inotify, host: Arc<HostRoot>, targets: Arc<[Target]>, limit: usize) -> Self {
        let modes = vec![Mode::Watched { partly: false }; targets.len()];
        Self { inotify, host, targets, interests: HashMap::new(), modes, limit }
    }

    pub(super) fn modes(&self) -> &[Mode] {
        &self.modes
    }

    pub(super) fn watches(&self) -> usize {
        self.interests.len()
    }

    /// Watches these targets as they are now. Answers with those that lead to
    /// other files or folders than before.
    pub(super) fn arm(&mut self, targets: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut changed = BTreeSet::new();
        for &target in targets {
            let before = self.watches_of(target);
            self.forget(target);
            self.modes[target] = match self.arm_one(target) {
                Ok(partly) => Mode::Watched { partly },
                Err(reason) => {
                    self.forget(target);
                    Mode::Polled(reason)
                }
            };
            if self.watches_of(target) != before {
                changed.insert(target);
            }
            // Only now: a watch that is given up and set again would lose events.
            self.release_unused();
        }
        changed
    }

    fn watches_of(&self, target: usize) -> BTreeSet<WatchDescriptor> {
        let of = |interests: &Vec<Interest>| interests.iter().any(|interest| interest.target == target);
        self.interests.iter().filter(|(_, interests)| of(interests)).map(|(wd, _)| *wd).collect()
    }

    /// True if only a part of it is watched.
    fn arm_one(&mut self, target: usize) -> Result<bool, Unwatchable> {
        let path = self.targets[target].path;
        let mut here = PathBuf::new();
        // A folder that may be passed and not read cannot be watched; what is
        // below it may.
        let mut refused = None;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            match self.add(&here, target, Some(name.to_owned())) {
                Ok(true) => refused = None,
                Ok(false) => return refused.map_or(Ok(false), Err),
                Err(Unwatchable::Refused(error)) => refused = Some(Unwatchable::Refused(error)),
                Err(error) => return Err(error),
            }
            here.push(name);
        }
        if !self.add(&here, target, None)? {
            return refused.map_or(Ok(false), Err);
        }
        let targets = self.targets.clone();
        let (folders, mut partly) = targets[target].folders(&self.host);
        for folder in folders {
            match self.add(&folder, target, None) {
                Ok(_) => {}
                Err(Unwatchable::Refused(_)) => partly = true,
                Err(error) => return Err(error),
            }
        }
        Ok(partly)
    }

    /// False if nothing is there.
    fn add(&mut self, path: &Path, target: usize, name: Option<OsString>) -> Result<bool, Unwatchable> {
        let fd = match self.host.handle(path) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => {
                return Err(Unwatchable::Refused(Errno::from_raw(error.raw_os_error().unwrap_or(0))));
            }
        };
        if fstatfs(&fd).is_ok_and(|stat| SILENT.contains(&stat.filesystem_type())) {
            return Err(Unwatchable::Silent);
        }
        let named = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let wd = match self.inotify.add_watch(named.as_str(), mask()) {
            Ok(wd) => wd,
            Err(Errno::ENOSPC) => return Err(Unwatchable::NoneLeft),
            Err(error) => return Err(Unwatchable::Refused(error)),
        };
        if self.interests.len() >= self.limit && !self.interests.contains_key(&wd) {
            self.release(wd);
            return Err(Unwatchable::NoneLeft);
        }
        self.interests.entry(wd).or_default().push(Interest { target, name });
        Ok(true)
    }

    fn forget(&mut self, target: usize) {
        for interests in self.interests.values_mut() {
            interests.retain(|interest| interest.target != target);
        }
    }

    fn release_unused(&mut self) {
        let unused =
            |(wd, interests): (&WatchDescriptor, &Vec<Interest>)| interests.is_empty().then_some(*wd);
        let unused: Vec<WatchDescriptor> = self.interests.iter().filter_map(unused).collect();
        for wd in unused {
            self.release(wd);
        }
    }

    fn release(&mut self, wd: WatchDescriptor) {
        self.interests.remove(&wd);
        // What it watched may be gone, and the watch with it.
        let _ = self.inotify.rm_watch(wd);
    }

    /// Takes the events that have arrived; never waits.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn read(&mut self) -> io::Result<News> {
        let mut news = News::default();
        for _ in 0..MAX_READS {
            match self.inotify.read_events() {
                Ok(events) => events.iter().for_each(|event| self.take(event, &mut news)),
                Err(Errno::EAGAIN) => return Ok(news),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        news.more = true;
        Ok(news)
    }

    fn take(&mut self, event: &InotifyEvent, news: &mut News) {
        use AddWatchFlags as Flag;
        if event.mask.contains(Flag::IN_Q_OVERFLOW) {
            news.lost = true;
            return;
        }
        let gone = Flag::IN_DELETE_SELF | Flag::IN_MOVE_SELF | Flag::IN_UNMOUNT | Flag::IN_IGNORED;
        let is_gone = event.mask.intersects(gone);
        let moved =
            Flag::IN_CREATE | Flag::IN_DELETE | Flag::IN_MOVED_FROM | Flag::IN_MOVED_TO | Flag::IN_ATTRIB;
        for interest in self.interests.get(&event.wd).into_iter().flatten() {
            let concerns = match &interest.name {
                None => true,
                Some(name) => event.name.as_ref() == Some(name),
            };
            if !concerns && !is_gone {
                continue;
            }
            news.changed.insert(interest.target);
            let other_folders =
                self.targets[interest.target].is_tree() && event.mask.contains(Flag::IN_ISDIR);
            let on_the_way = interest.name.is_some() || other_folders;
            if is_gone || (on_the_way && event.mask.intersects(moved)) {
                news.rearm.insert(interest.target);
            }
        }
        if event.mask.contains(Flag::IN_IGNORED) {
            self.interests.remove(&event.wd);
        }
    }
}

/// One mask for all: a second watch of one inode takes the place of the first.
/// `IN_CLOSE_WRITE` tells of what is written by mmap(2), which nothing else does.
fn mask() -> AddWatchFlags {
    use AddWatchFlags as Flag;
    Flag::IN_MODIFY
        | Flag::IN_CLOSE_WRITE
        | Flag::IN_ATTRIB
        | Flag::IN_CREATE
        | Flag::IN_DELETE
        | Flag::IN_MOVE
        | Flag::IN_DELETE_SELF
        | Flag::IN_MOVE_SELF
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP))
}

#[cfg(test)]
mod tests;
