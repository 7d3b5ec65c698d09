//! The node's file system as the agent sees it: everything is read below one
//! root, and nothing outside it, whatever symbolic links say.
//!
//! In a container the node's `/` is mounted at, say, `/host`. An absolute link
//! in there (`/etc/localtime -> /usr/share/…`) means the node's path, not the
//! container's, so links are resolved as if the root were `/`
//! (`openat2(RESOLVE_IN_ROOT)`; by hand on kernels or sandboxes without it).

mod tree;

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::statvfs::fstatvfs;
use rustix::fs::{FileType, RawDir};

pub use tree::Entry;

/// Links followed for one path before it counts as a loop; the kernel's own
/// limit (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Races lost to mounts and renames after which a path is resolved by hand.
const MAX_RACES: usize = 16;

/// Entries of one folder that are read; more is an error, so that a hostile
/// folder cannot take the memory.
const MAX_ENTRIES: usize = 200_000;

/// Files of up to this size are read with one call.
const MAX_AT_ONCE: u64 = 64 * 1024;

/// Of a folder's entries this much is read with one call.
const FOLDER_BYTES: usize = 16 * 1024;

/// What most files of /proc fit into.
const PAGE: u64 = 4096;

/// Root below which the node's files are read.
#[derive(Debug)]
pub struct HostRoot {
    dir: OwnedFd,
    path: PathBuf,
    kernel_resolves: bool,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl HostRoot {
    /// Opens the root.
    ///
    /// # Errors
    /// When `path` cannot be opened as a folder.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let dir = openat(nix::fcntl::AT_FDCWD, path, path_flags() | OFlag::O_DIRECTORY, Mode::empty())?;
        let mut root = Self { dir, path: path.to_owned(), kernel_resolves: true };
        // ENOSYS: kernel older than 5.6. EPERM: a sandbox that does not know it.
        root.kernel_resolves =
            !matches!(root.open_by_kernel(Path::new("."), path_flags()), Err(Errno::ENOSYS | Errno::EPERM));
        Ok(root)
    }

    /// The same root, resolving links without the kernel's help.
    #[cfg(test)]
    fn without_openat2(mut self) -> Self {
        self.kernel_resolves = false;
        self
    }

    /// Where the root is in the agent's own view.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a regular file whole.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::FileTooLarge`] when it holds more
    /// than `limit` bytes; [`io::ErrorKind::InvalidInput`] for a pipe, device
    /// or socket, which could block for ever.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        let (mut file, stat) = self.open_file(path.as_ref())?;
        let expected = u64::try_from(stat.st_size).unwrap_or(0);
        let mut bytes = Vec::new();
        if (1..=MAX_AT_ONCE.min(limit)).contains(&expected) {
            // With one byte more than there should be, the end is seen at once.
            bytes.resize(expected as usize + 1, 0);
            let read = read_some(&mut file, &mut bytes)?;
            bytes.truncate(read);
        } else {
            // Of what /proc holds no size is known.
            bytes.reserve(PAGE.min(limit) as usize + 1);
        }
        if expected == 0 || bytes.len() as u64 != expected {
            let rest = (limit + 1).saturating_sub(bytes.len() as u64);
            file.take(rest).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a small file of one line, as /sys has them: trimmed, cleaned, and
    /// `None` when it is absent, unreadable or empty.
    #[must_use]
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = self.read(path, 64 * 1024).ok()?;
        let line = crate::text::clean(bytes.trim_ascii());
        (!line.is_empty()).then_some(line)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// As [`Self::read`], but for the size.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        Ok(self.open_file(path.as_ref())?.0)
    }

    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
    }

    fn open_file(&self, path: &Path) -> io::Result<(File, FileStat)> {
        // O_NONBLOCK: opening a pipe must not wait for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = self.open_at(path, flags)?;
        let stat = fstat(&fd)?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Ok((File::from(fd), stat)),
            SFlag::S_IFDIR => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    /// Names in a folder, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::FileTooLarge`] for a folder of
    /// more than 200,000 entries.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let folder = self.open_folder(path.as_ref())?;
        let mut names = Vec::new();
        each_entry(&folder, |name, _| {
            if names.len() == MAX_ENTRIES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "folder has too many entries"));
            }
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    /// Target of a symbolic link, as it stands in the link.
    ///
    /// # Errors
    /// What the system says; `EINVAL` when it is no link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent =
            self.open_at(path.parent().unwrap_or(Path::new("")), path_flags() | OFlag::O_DIRECTORY)?;
        Ok(PathBuf::from(readlinkat(&parent, name)?))
    }

    /// Names and targets of the symbolic links in a folder, in no order; what
    /// is no link or is gone meanwhile is left out.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn links(&self, path: impl AsRef<Path>) -> io::Result<Vec<(OsString, OsString)>> {
        let folder = self.open_folder(path.as_ref())?;
        let mut links = Vec::new();
        each_entry(&folder, |name, kind| {
            // File systems need not say (readdir(3)).
            if !matches!(kind, FileType::Symlink | FileType::Unknown) {
                return Ok(());
            }
            if links.len() == MAX_ENTRIES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "folder has too many entries"));
            }
            match readlinkat(&folder, name) {
                Ok(target) => links.push((OsStr::from_bytes(name.to_bytes()).to_owned(), target)),
                Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })?;
        Ok(links)
    }

    /// Whether something is there, links followed.
    ///
    /// # Errors
    /// What says nothing of what is there: no right to look, no descriptor left.
    pub fn exists(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        match self.open_at(path.as_ref(), path_flags()) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Inode, size and times of a file or folder; `None` when it is not there.
    #[must_use]
    pub fn fingerprint(&self, path: impl AsRef<Path>) -> Option<Fingerprint> {
        let fd = self.open_at(path.as_ref(), path_flags()).ok()?;
        let stat: FileStat = fstat(&fd).ok()?;
        Some(Fingerprint {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        })
    }

    /// Capacity of the file system mounted at `path`, in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn capacity(&self, path: impl AsRef<Path>) -> io::Result<u64> {
        let fd = self.open_at(path.as_ref(), path_flags())?;
        let stat = fstatvfs(&fd)?;
        Ok(stat.blocks().saturating_mul(stat.fragment_size()))
    }

    /// Whether this thread's network namespace is that of process 1. Files below
    /// /proc/PID/net are their namespace's own, with one inode in every mount of
    /// procfs, so this needs no privilege, unlike /proc/1/ns/net.
    ///
    /// # Errors
    /// What the system says of /proc/1/net/dev; process 1 may be hidden
    /// (`hidepid` of proc(5)).
    pub fn shares_network(&self) -> io::Result<bool> {
        let nodes = self.open("proc/1/net/dev")?.metadata()?.ino();
        Ok(std::fs::metadata("/proc/thread-self/net/dev").is_ok_and(|own| own.ino() == nodes))
    }

    fn open_at(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let path = match path.strip_prefix("/").unwrap_or(path) {
            empty if empty.as_os_str().is_empty() => Path::new("."),
            relative => relative,
        };
        let opened = if self.kernel_resolves {
            // A mount or rename anywhere while `..` is resolved: the kernel cannot
            // tell whether it stayed below the root, and asks to be asked again
            // (openat2(2), EAGAIN). It is no word on what is there.
            let mut opened = self.open_by_kernel(path, flags);
            for _ in 0..MAX_RACES {
                if opened.as_ref().err() != Some(&Errno::EAGAIN) {
                    break;
                }
                opened = self.open_by_kernel(path, flags);
            }
            match opened {
                Err(Errno::EAGAIN) => self.open_by_hand(path, flags),
                opened => opened,
            }
        } else {
            self.open_by_hand(path, flags)
        };
        Ok(opened?)
    }

    fn open_by_kernel(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        openat2(&self.dir, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT))
    }

    /// Walks `path` one name at a time, never letting the kernel follow a link.
    /// `walked` holds the folders from the root to here, so that `..` at the
    /// root stays at the root.
    fn open_by_hand(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let mut walked: Vec<OwnedFd> = Vec::new();
        let mut pending = names_reversed(path);
        let mut links = 0;
        while let Some(name) = pending.pop() {
            match name.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    walked.pop();
                    continue;
                }
                _ => {}
            }
            let here = walked.last().unwrap_or(&self.dir);
            let stat = fstatat(here, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFLNK {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let target = readlinkat(here, name.as_os_str())?;
                if target.as_bytes().starts_with(b"/") {
                    walked.clear();
                }
                pending.extend(names_reversed(Path::new(&target)));
            } else if pending.is_empty() {
                return openat(here, name.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty());
            } else {
                let next = openat(here, name.as_os_str(), path_flags() | OFlag::O_NOFOLLOW, Mode::empty())?;
                walked.push(next);
            }
        }
        openat(walked.last().unwrap_or(&self.dir).as_fd(), ".", flags, Mode::empty())
    }
}

/// Whether an error says that nothing is there to be read: no such name, a link
/// that leads nowhere or in a circle, or what is no regular file or no folder.
/// Any other (no file descriptor left, a failing disk, no permission) says
/// nothing of the node, and a probe that took it for an absence would report
/// as removed what is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidInput)
        || error.raw_os_error() == Some(nix::libc::ELOOP)
}

/// Shows the name of each entry of a folder and what the file system says that
/// it is, `.` and `..` left out.
fn each_entry(folder: &OwnedFd, mut show: impl FnMut(&CStr, FileType) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(FOLDER_BYTES);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            show(name, entry.file_type())?;
        }
    }
    Ok(())
}

/// What one call reads, which a signal may have to be repeated for.
fn read_some(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn path_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_CLOEXEC
}

fn names_reversed(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .as_os_str()
        .as_bytes()
        .split(|&byte| byte == b'/')
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests;
