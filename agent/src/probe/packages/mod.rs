//! Installed packages, in the databases of dpkg, rpm and apk. They are read below
//! any root: the node's, or that of a container image.

mod dpkg;

use std::ffi::OsString;
use std::fs::File;
use std::io;

use contracts::v1::{PackageDetails, asset_details::Details};

use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::truncate;

pub(super) const WATCHED: &[&str] = &[dpkg::STATUS, dpkg::STATUS_FOLDER];

/// Most packages below one root; far above any distribution's archive.
const MAX_PACKAGES: usize = 200_000;
/// Most bytes of one text that are kept: more than any asset may have, so that
/// the asset's own limit still says that it was cut.
const MAX_TEXT_BYTES: usize = 5000;
/// Most bytes that all packages together may take in memory; the whole archive
/// of Debian, installed at once, takes half of it.
const MAX_BYTES: usize = 48 * 1024 * 1024;
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
    let mut found = Found::default();
    dpkg::read(files, &mut found)?;
    Ok(found.finish())
}

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let (packages, warnings) = read_all(host)?;
    let assets = packages
        .into_iter()
        .map(|package| {
            let name = package.package.clone();
            ScannedAsset::new(natural_key(&package), name, Details::Package(package))
        })
        .collect();
    Ok(Scan { assets, warnings, ..Scan::default() })
}

fn natural_key(package: &PackageDetails) -> String {
    format!("{}/{}:{}", package.manager, package.package, package.architecture)
}

/// What the databases are read into; bounded, whatever they hold.
#[derive(Debug, Default)]
struct Found {
    packages: Vec<PackageDetails>,
    bytes: usize,
    warnings: Vec<String>,
    warnings_more: usize,
}

impl Found {
    fn add(&mut self, path: &str, package: PackageDetails) -> Result<(), ProbeError> {
        let problem = |problem: String| ProbeError::Malformed { path: path.to_owned(), problem };
        if self.packages.len() == MAX_PACKAGES {
            return Err(problem(format!("more than {MAX_PACKAGES} packages")));
        }
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
        self.bytes += size_of::<PackageDetails>() + texts.into_iter().map(String::capacity).sum::<usize>();
        if self.bytes > MAX_BYTES {
            return Err(problem(format!("its packages take more than {} MiB", MAX_BYTES >> 20)));
        }
        self.packages.push(package);
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else {
            self.warnings_more += 1;
        }
    }

    fn finish(mut self) -> (Vec<PackageDetails>, Vec<String>) {
        // Of one that two files list, the first read counts; only rpm lets
        // several of one name be installed.
        self.packages.sort_by(|one, other| name(one).cmp(&name(other)));
        self.packages.dedup_by(|later, first| later.manager != "rpm" && name(later) == name(first));
        self.packages.sort_by(|one, other| (name(one), &one.version).cmp(&(name(other), &other.version)));
        if self.warnings_more > 0 {
            self.warnings.push(format!("and {} more", self.warnings_more));
        }
        (self.packages, self.warnings)
    }
}

fn name(package: &PackageDetails) -> (&str, &str, &str) {
    (&package.manager, &package.package, &package.architecture)
}

/// A name from a database, short enough for a warning.
fn shown(name: &str) -> String {
    let mut name = name.to_owned();
    truncate(&mut name, 100);
    name
}
