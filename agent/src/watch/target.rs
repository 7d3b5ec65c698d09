//! A path that probes watch, and what can be seen of it without inotify.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::host::HostRoot;
use crate::probe::Probe;

/// Folders of one target that are watched. The rest is left to the scans.
pub(super) const MAX_FOLDERS: usize = 256;
/// Levels of folders below a target that ends in `/**`.
const MAX_DEPTH: usize = 8;

/// A path of `Probe::watched`. One that ends in `/*` means a folder and the
/// folders in it, `/**` all folders below too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As the probes name it.
    pub(super) named: &'static str,
    /// Without the ending.
    pub(super) path: &'static Path,
    /// Levels of folders below `path` that count.
    depth: usize,
    /// Places of the probes that name it.
    pub(super) places: Vec<usize>,
}

/// What the probes watch, each path once.
pub(super) fn targets(probes: &[Probe]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for (place, probe) in probes.iter().enumerate() {
        for &named in probe.watched {
            match targets.iter_mut().find(|target| target.named == named) {
                Some(known) => known.places.push(place),
                None => targets.push(Target::new(named, place)),
            }
        }
    }
    targets
}

impl Target {
    pub(super) fn new(named: &'static str, place: usize) -> Self {
        let (path, depth) = match named.strip_suffix("/**") {
            Some(path) => (path, MAX_DEPTH),
            None => named.strip_suffix("/*").map_or((named, 0), |path| (path, 1)),
        };
        Self { named, path: Path::new(path), depth, places: vec![place] }
    }

    pub(super) fn is_tree(&self) -> bool {
        self.depth > 0
    }

    /// The folders below it that count, nearest first, and whether there are
    /// more. What cannot be read holds none.
    pub(super) fn folders(&self, host: &HostRoot) -> (Vec<PathBuf>, bool) {
        let mut found = Vec::new();
        let mut level = vec![self.path.to_owned()];
        for _ in 0..self.depth {
            let mut next = Vec::new();
            for folder in level {
                for name in host.folders(&folder).unwrap_or_default() {
                    if found.len() == MAX_FOLDERS {
                        return (found, true);
                    }
                    found.push(folder.join(&name));
                    next.push(folder.join(&name));
                }
            }
            level = next;
        }
        (found, false)
    }

    /// Tells one state of it from another, as far as inodes, sizes and times do.
    pub(super) fn fingerprint(&self, host: &HostRoot) -> u64 {
        let mut hasher = DefaultHasher::new();
        host.fingerprint(self.path).hash(&mut hasher);
        for folder in self.folders(host).0 {
            (host.fingerprint(&folder), folder).hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_ending_says_how_deep_a_target_goes() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/a/b/c")).unwrap();
        fs::create_dir_all(root.path().join("etc/d")).unwrap();
        fs::write(root.path().join("etc/file"), "").unwrap();
        std::os::unix::fs::symlink("..", root.path().join("etc/a/up")).unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        for (named, expected) in [
            ("etc", &[][..]),
            ("etc/*", &["etc/a", "etc/d"]),
            ("etc/**", &["etc/a", "etc/d", "etc/a/b", "etc/a/b/c"]),
            ("none/**", &[]),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(Target::new(named, 0).folders(&host), (expected, false), "{named}");
        }
    }

    #[test]
    fn the_folders_of_a_target_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..=MAX_FOLDERS {
            fs::create_dir(root.path().join(n.to_string())).unwrap();
        }
        let mut deep = root.path().join("0");
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        let (folders, more) = Target::new("/**", 0).folders(&host);
        assert_eq!((folders.len(), more), (MAX_FOLDERS, true));
        assert_eq!(Target::new("0/**", 0).folders(&host).0.len(), MAX_DEPTH);
    }

    #[test]
    fn a_replaced_file_and_a_deep_folder_show() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/a/b")).unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        let (file, tree) = (Target::new("etc/file", 0), Target::new("etc/**", 0));
        let before = (file.fingerprint(&host), tree.fingerprint(&host));
        assert_eq!(before, (file.fingerprint(&host), tree.fingerprint(&host)));
        fs::write(root.path().join("etc/a/b/new"), "").unwrap();
        assert_eq!(file.fingerprint(&host), before.0);
        assert_ne!(tree.fingerprint(&host), before.1);
        fs::write(root.path().join("etc/file"), "").unwrap();
        assert_ne!(file.fingerprint(&host), before.0);
    }
}
