//! What is needed to look into other trees below the host root: the layers of
//! images, the roots of processes.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use rustix::fs::FileType;

use super::{HostRoot, MAX_ENTRIES, each_entry, path_flags};

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A character device 0/0: in a layer of overlayfs, the sign that the name
    /// is gone (kernel, filesystems/overlayfs, "whiteouts").
    Whiteout,
    /// A device, pipe or socket.
    Other,
}

impl HostRoot {
    /// What a name stands for, a link not followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn entry(&self, path: impl AsRef<Path>) -> io::Result<Entry> {
        let path = path.as_ref();
        let Some(name) = path.file_name() else { return Ok(Entry::Folder) };
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = self.open_at(parent, path_flags() | OFlag::O_DIRECTORY)?;
        let stat = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Entry::File,
            SFlag::S_IFDIR => Entry::Folder,
            SFlag::S_IFLNK => Entry::Link,
            SFlag::S_IFCHR if stat.st_rdev == 0 => Entry::Whiteout,
            _ => Entry::Other,
        })
    }

    /// Names of the folders in a folder, links to folders left out, sorted.
    ///
    /// # Errors
    /// As [`HostRoot::list`].
    pub fn folders(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let folder = self.open_folder(path.as_ref())?;
        let mut names = Vec::new();
        each_entry(&folder, |name, kind| {
            let is_folder = match kind {
                // File systems need not say (readdir(3)).
                FileType::Unknown => fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
                }),
                kind => kind == FileType::Directory,
            };
            if !is_folder {
                return Ok(());
            }
            if names.len() == MAX_ENTRIES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "folder has too many entries"));
            }
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    /// An extended attribute of a folder; `None` when it has none, or none that
    /// may be seen (xattr(7): `trusted.*` needs CAP_SYS_ADMIN).
    #[must_use]
    pub fn attribute(&self, folder: impl AsRef<Path>, name: &CStr) -> Option<Vec<u8>> {
        let folder = self.open_folder(folder.as_ref()).ok()?;
        let mut value = [0; 256];
        let length = rustix::fs::fgetxattr(&folder, name, &mut value).ok()?;
        Some(value[..length].to_vec())
    }

    /// A descriptor that stands for what is there (open(2), `O_PATH`), links
    /// followed, so that what wants a path can be given `/proc/self/fd/N` and
    /// stays below the root.
    ///
    /// # Errors
    /// What the system says.
    pub fn handle(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open_at(path.as_ref(), path_flags())
    }

    /// A folder below this root as a root of its own.
    ///
    /// # Errors
    /// When it cannot be opened as a folder.
    pub fn below(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let dir = self.open_at(path, path_flags() | OFlag::O_DIRECTORY)?;
        let path = self.path.join(path.strip_prefix("/").unwrap_or(path));
        Ok(Self { dir, path, kernel_resolves: self.kernel_resolves })
    }

    /// The root that a process sees, as a root of its own; `belongs` is shown
    /// the process's cgroup(7) file and decides whether it is the one that is
    /// meant. Needs the right to trace it (ptrace(2), `PTRACE_MODE_READ`).
    ///
    /// `root` of a process is a link that the kernel follows to wherever it
    /// leads, which `RESOLVE_IN_ROOT` refuses; so it is followed only where
    /// procfs itself has it, for a process that cannot be exchanged meanwhile
    /// (its folder stays open), and never to the host's own root.
    ///
    /// # Errors
    /// What the system says, or that it is not the one that is meant.
    pub fn process_root(&self, pid: u32, belongs: impl FnOnce(&[u8]) -> bool) -> io::Result<Self> {
        let path = format!("proc/{pid}");
        let process = self.below(&path)?;
        if fstatfs(&process.dir)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Errno::ENOTSUP.into());
        }
        if !belongs(&process.read("cgroup", 64 * 1024)?) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process is another one now"));
        }
        let dir = openat(&process.dir, "root", path_flags() | OFlag::O_DIRECTORY, Mode::empty())?;
        let (there, here) = (fstat(&dir)?, fstat(&self.dir)?);
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the process has the node's own root"));
        }
        Ok(Self { dir, path: self.path.join(path).join("root"), kernel_resolves: self.kernel_resolves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_are_told_apart_without_following_links() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/file"), "x").unwrap();
        symlink("b", root.path().join("a/link")).unwrap();
        nix::unistd::mkfifo(&root.path().join("a/pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        for (path, expected) in [
            ("a", Entry::Folder),
            ("a/file", Entry::File),
            ("a/link", Entry::Link),
            ("a/pipe", Entry::Other),
            ("", Entry::Folder),
        ] {
            assert_eq!(host.entry(path).unwrap(), expected, "{path}");
        }
        assert_eq!(host.entry("a/none").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(host.folders("a").unwrap(), ["b"]);
        assert_eq!(host.attribute("a", c"user.none"), None);
    }

    #[test]
    fn a_root_below_cannot_be_left() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("layer/etc")).unwrap();
        fs::write(root.path().join("secret"), "outside").unwrap();
        symlink("/secret", root.path().join("layer/etc/link")).unwrap();
        symlink("layer", root.path().join("short")).unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        for path in ["layer", "/layer", "short"] {
            let below = host.below(path).unwrap();
            assert!(below.entry("etc").is_ok());
            for outside in ["../secret", "etc/link", "/secret"] {
                assert!(below.read(outside, 100).is_err(), "{outside}");
            }
        }
        assert!(host.below("secret").is_err());
    }

    #[test]
    fn the_root_of_a_process_is_taken_from_procfs_alone_and_never_the_nodes_own() {
        let own = std::process::id();
        let refused = HostRoot::new("/").unwrap().process_root(own, |_| true).unwrap_err();
        assert!(refused.to_string().contains("node's own root"), "{refused}");
        let other = HostRoot::new("/").unwrap().process_root(own, |_| false).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::NotFound);
        // A tree that only looks like /proc.
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        fs::write(root.path().join("proc/7/cgroup"), "0::/\n").unwrap();
        symlink("/", root.path().join("proc/7/root")).unwrap();
        assert!(HostRoot::new(root.path()).unwrap().process_root(7, |_| true).is_err());
    }
}
