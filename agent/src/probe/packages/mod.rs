//! Installed packages, in the databases of dpkg, rpm and apk. They are read below
//! any root: the node's, or that of a container image.

mod apk;
mod dpkg;
mod lines;
mod owners;
mod rpm;

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use contracts::v1::{PackageDetails, asset_details::Details};

pub use self::owners::{Owner, Owners};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::truncate;

pub(super) const WATCHED: &[&str] = &[
    dpkg::STATUS,
    dpkg::STATUS_FOLDER,
    apk::DATABASES[0],
    apk::DATABASES[1],
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/share/rpm/rpmdb.sqlite",
    "usr/share/rpm/rpmdb.sqlite-wal",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite-wal",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
];

/// What the packages below one root may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    packages: usize,
    /// In memory, all together.
    bytes: usize,
}

impl Limits {
    /// Far above any distribution's archive; that of Debian, installed at once,
    /// takes half of the memory.
    pub const NODE: Self = Self { packages: 200_000, bytes: 48 * 1024 * 1024 };
    /// Images come from anyone and are read while a scan of the node is kept;
    /// the largest have some thousand packages.
    pub const IMAGE: Self = Self { packages: 20_000, bytes: 8 * 1024 * 1024 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::NODE
    }
}

/// Most bytes of one text that are kept: more than any asset may have, so that
/// the asset's own limit still says that it was cut.
const MAX_TEXT_BYTES: usize = 5000;
/// Most warnings that are kept.
const MAX_WARNINGS: usize = 100;

/// A tree of files that databases are looked for in. Paths are relative to its
/// root, without a leading `/`.
pub trait Files {
    /// Opens a regular file for reading; it can be read at any offset.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when nothing has that name; any other error
    /// says that it cannot be told.
    fn open(&self, path: &str) -> io::Result<File>;

    /// Names in a folder, without `.` and `..`.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn list(&self, path: &str) -> io::Result<Vec<OsString>>;
}

impl Files for HostRoot {
    fn open(&self, path: &str) -> io::Result<File> {
        Self::open(self, path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<OsString>> {
        Self::list(self, path)
    }
}

/// All packages below a root, sorted by manager, name, architecture and version,
/// and what was left out of them. A root without a database has none.
///
/// # Errors
/// A database that is there cannot be read, or is too large: what it holds is
/// then not known.
pub fn read_all(files: &dyn Files) -> Result<(Vec<PackageDetails>, Vec<String>), ProbeError> {
    read_within(files, Limits::NODE)
}

/// As [`read_all`], with other limits.
///
/// # Errors
/// As [`read_all`].
pub fn read_within(
    files: &dyn Files,
    limits: Limits,
) -> Result<(Vec<PackageDetails>, Vec<String>), ProbeError> {
    let mut found = Found { limits, ..Found::default() };
    read(files, &mut found)?;
    let (packages, warnings) = found.finish();
    Ok((packages.into_iter().map(|(package, _)| package).collect(), warnings))
}

fn read(files: &dyn Files, found: &mut Found) -> Result<(), ProbeError> {
    dpkg::read(files, found)?;
    rpm::read(files, found)?;
    apk::read(files, found)
}

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut found = Found::default();
    read(host, &mut found)?;
    let (packages, warnings) = found.finish();
    let assets = packages
        .into_iter()
        .map(|(package, natural_key)| {
            let name = package.package.clone();
            ScannedAsset::new(natural_key, name, Details::Package(package))
        })
        .collect();
    Ok(Scan { assets, warnings, ..Scan::default() })
}

/// What the databases are read into; bounded, whatever they hold.
#[derive(Debug, Default)]
struct Found {
    /// Each with its natural key.
    packages: Vec<(PackageDetails, String)>,
    bytes: usize,
    limits: Limits,
    warnings: Vec<String>,
    warnings_more: usize,
}

impl Found {
    fn add(&mut self, path: &str, natural_key: String, package: PackageDetails) -> Result<(), ProbeError> {
        let texts = [
            &package.package,
            &package.version,
            &package.architecture,
            &package.source,
            &package.source_version,
            &package.maintainer,
            &package.section,
            &package.status,
            &package.summary,
            &package.license,
            &package.homepage,
        ];
        let text: usize = texts.into_iter().map(String::capacity).sum();
        self.bytes += size_of::<(PackageDetails, String)>() + text + natural_key.capacity();
        self.packages.push((package, natural_key));
        self.within_bounds(path)
    }

    /// Takes over what was read of another database.
    fn append(&mut self, path: &str, other: Self) -> Result<(), ProbeError> {
        self.bytes += other.bytes;
        self.packages.extend(other.packages);
        for warning in other.warnings {
            self.warn(warning);
        }
        self.warnings_more += other.warnings_more;
        self.within_bounds(path)
    }

    fn within_bounds(&self, path: &str) -> Result<(), ProbeError> {
        let Limits { packages, bytes } = self.limits;
        let problem = if self.packages.len() > packages {
            format!("more than {packages} packages")
        } else if self.bytes > bytes {
            format!("its packages take more than {} MiB", bytes >> 20)
        } else {
            return Ok(());
        };
        Err(ProbeError::Malformed { path: path.to_owned(), problem })
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else {
            self.warnings_more += 1;
        }
    }

    fn finish(mut self) -> (Vec<(PackageDetails, String)>, Vec<String>) {
        // Of one that two files list, the first read counts.
        self.packages.sort_by(|(one, _), (other, _)| name(one).cmp(&name(other)));
        self.packages.dedup_by(|later, first| later.1 == first.1);
        self.packages
            .sort_by(|(one, _), (other, _)| (name(one), &one.version).cmp(&(name(other), &other.version)));
        if self.warnings_more > 0 {
            self.warnings.push(format!("and {} more", self.warnings_more));
        }
        (self.packages, self.warnings)
    }
}

fn name(package: &PackageDetails) -> (&str, &str, &str) {
    (&package.manager, &package.package, &package.architecture)
}

/// What tells one state of a file from another without reading it: where it is,
/// its size and its times. `None` for one that is not there.
type FileState = Option<[i64; 6]>;

fn file_state(metadata: &Metadata) -> [i64; 6] {
    [
        metadata.ino().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

/// A name from a database, short enough for a warning.
fn shown(name: &str) -> String {
    let mut name = name.to_owned();
    truncate(&mut name, 100);
    name
}

#[cfg(test)]
pub(super) use rpm::tests as samples;
