//! Notices changes of files without reading them, so that a probe can run at
//! once instead of with the next full scan.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::host::{Fingerprint, HostRoot};

/// A change counts once it has been quiet for as long as a look takes to come
/// round, or after this: a package manager writes its database several times.
const LONGEST_UNREST: Duration = Duration::from_secs(2);

/// Watches the files of one probe.
pub struct Watch {
    files: Vec<Watched>,
    unrest_since: Option<Instant>,
}

enum Watched {
    Stat(&'static str, Option<Fingerprint>),
    /// The kernel tells of changes of a mount table by poll(2) (proc_pid_mounts(5));
    /// its size and times say nothing.
    Mounts(File),
}

impl Watch {
    /// Watches `paths` below the host root from now on.
    pub fn new(host: &HostRoot, paths: &[&'static str]) -> Self {
        let watched = |path: &&'static str| {
            if path.ends_with("/mountinfo") {
                let file = host.open(path).or_else(|_| host.open("proc/self/mountinfo"));
                file.map_or(Watched::Stat(path, None), Watched::Mounts)
            } else {
                Watched::Stat(path, host.fingerprint(path))
            }
        };
        Self { files: paths.iter().map(watched).collect(), unrest_since: None }
    }

    /// Looks once; true when something changed and has come to rest.
    pub fn look(&mut self, host: &HostRoot, now: Instant) -> bool {
        let mut changed = false;
        for file in &mut self.files {
            changed |= match file {
                Watched::Stat(path, before) => {
                    let fingerprint = host.fingerprint(*path);
                    std::mem::replace(before, fingerprint) != fingerprint
                }
                Watched::Mounts(file) => mounts_changed(file),
            };
        }
        match (changed, self.unrest_since) {
            (true, None) => {
                self.unrest_since = Some(now);
                false
            }
            (true, Some(since)) if now.duration_since(since) < LONGEST_UNREST => false,
            (false, None) => false,
            (_, Some(_)) => {
                self.unrest_since = None;
                true
            }
        }
    }
}

fn mounts_changed(file: &File) -> bool {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..))
        && polled[0]
            .revents()
            .is_some_and(|events| events.intersects(PollFlags::POLLPRI | PollFlags::POLLERR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_counts_once_it_is_quiet_or_takes_long() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        let path = root.path().join("file");
        let write = |text: &str| {
            fs::write(path.with_extension("new"), text).unwrap();
            fs::rename(path.with_extension("new"), &path).unwrap();
        };
        let mut watch = Watch::new(&host, &["file"]);
        let start = Instant::now();
        assert!(!watch.look(&host, start), "nothing happened");
        write("a");
        assert!(!watch.look(&host, start), "still changing");
        assert!(watch.look(&host, start), "at rest");
        assert!(!watch.look(&host, start), "reported once");

        write("b");
        assert!(!watch.look(&host, start));
        write("c");
        assert!(!watch.look(&host, start + LONGEST_UNREST / 2));
        write("d");
        assert!(watch.look(&host, start + LONGEST_UNREST), "too long a wait");
        fs::remove_file(&path).unwrap();
        assert!(!watch.look(&host, start));
        assert!(watch.look(&host, start), "a file that is gone has changed");
    }

    #[test]
    fn a_mount_table_at_rest_is_quiet() {
        let host = HostRoot::new("/").unwrap();
        let mut watch = Watch::new(&host, &["proc/1/mountinfo"]);
        assert!(matches!(watch.files[0], Watched::Mounts(_)));
        assert!(!watch.look(&host, Instant::now()));
    }
}
