//! Packages in rpm's database, in the three forms that distributions have had it:
//! SQLite (Fedora, RHEL 9 and later), ndb (SUSE) and Berkeley DB (RHEL 8 and
//! older).

mod bdb;
mod header;
mod ndb;
mod sqlite;

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use contracts::v1::PackageDetails;

use self::header::Fault;
pub(super) use self::header::{Value, tag};
use super::{Files, Found};
use crate::probe::{ProbeError, is_absent};
use crate::text::clean;

/// Where distributions keep the database; often one is a link to another.
const FOLDERS: [&str; 3] = ["usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpm"];

/// How often a database that changes while it is read is read again.
const ATTEMPTS: usize = 3;

const TAGS: [u32; 15] = [
    tag::NAME,
    tag::VERSION,
    tag::RELEASE,
    tag::EPOCH,
    tag::SUMMARY,
    tag::SIZE,
    tag::VENDOR,
    tag::LICENSE,
    tag::PACKAGER,
    tag::GROUP,
    tag::URL,
    tag::ARCH,
    tag::SOURCE_RPM,
    tag::PROVIDE_NAME,
    tag::LONG_SIZE,
];

/// Told of each package: its number in the database, its header and how long
/// that is.
type OnHeader<'a> = dyn FnMut(u32, &mut dyn Read, u64) -> io::Result<()> + 'a;

/// The same, with what the packages are read into.
type OnPackage<'a, T> = dyn FnMut(&mut T, u32, &mut dyn Read, u64) -> io::Result<()> + 'a;

/// A database does not have the form that it should.
fn broken(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Packages of one database.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) found: Found,
    /// Of each package its number, and whether it may be installed in several
    /// versions at once.
    order: Vec<(u32, bool)>,
}

pub(super) fn read(files: &dyn Files, found: &mut Found) -> Result<(), ProbeError> {
    let limits = found.limits;
    for database in Database::find(files)? {
        let mut listed = database.read(files, &mut |listed: &mut Listed, number, header, length| {
            // Read anew, if the database changes meanwhile.
            listed.found.limits = limits;
            add(listed, &database, number, header, length, &[], &mut |_, _, _| {})?;
            Ok(())
        })?;
        give_keys(&mut listed);
        found.append(&database.path, listed.found)?;
    }
    Ok(())
}

/// Adds the package of a header; its place, or `None` if it is broken and left
/// out. `on` is told what it has of the tags `also`.
pub(super) fn add(
    listed: &mut Listed,
    database: &Database,
    number: u32,
    header: &mut dyn Read,
    length: u64,
    also: &[u32],
    on: &mut dyn FnMut(u32, u32, Value<'_>),
) -> io::Result<Option<usize>> {
    match package(header, length, also, on) {
        Ok((package, several)) => {
            listed.found.add(&database.path, plain_key(&package), package).map_err(io::Error::other)?;
            listed.order.push((number, several));
            Ok(Some(listed.order.len() - 1))
        }
        Err(Fault::Read(error)) => Err(error),
        Err(Fault::Malformed(problem)) => {
            listed.found.warn(format!("{}: package {number} is left out: {problem}", database.path));
            Ok(None)
        }
    }
}

/// The key is `rpm/name.architecture`. Packages that are made to be installed in
/// several versions at once, as kernels and public keys are, have the version in
/// it, always: so no key depends on what else is installed. Of others two can
/// only be there while one replaces the other, or when that was cut off: then
/// the one that came last has the key, and the older ones get their version.
pub(super) fn give_keys(listed: &mut Listed) {
    let mut newest_first: Vec<usize> = (0..listed.order.len()).collect();
    newest_first.sort_by_key(|place| std::cmp::Reverse(listed.order[*place].0));
    let mut taken = BTreeSet::new();
    for place in newest_first {
        let (details, key) = &mut listed.found.packages[place];
        let several = listed.order[place].1;
        if several || !taken.insert(key.clone()) {
            *key = format!("{key}/{}", details.version);
        }
    }
}

fn plain_key(package: &PackageDetails) -> String {
    // A public key has no architecture.
    let dot = if package.architecture.is_empty() { "" } else { "." };
    format!("rpm/{}{dot}{}", package.package, package.architecture)
}

/// The package, and whether it may be installed in several versions at once.
fn package(
    header: &mut dyn Read,
    length: u64,
    also: &[u32],
    on: &mut dyn FnMut(u32, u32, Value<'_>),
) -> Result<(PackageDetails, bool), Fault> {
    let mut package =
        PackageDetails { manager: "rpm".to_owned(), status: "installed".to_owned(), ..Default::default() };
    let (mut version, mut release, mut epoch) = (String::new(), String::new(), None);
    let (mut vendor, mut source) = (String::new(), String::new());
    let mut several = false;
    let wanted = [&TAGS[..], also].concat();
    header::walk(header, length, &wanted, &mut |tag, place, value| match value {
        value if also.contains(&tag) => on(tag, place, value),
        Value::Text(text) if tag == tag::PROVIDE_NAME => several |= allows_several(text),
        // Of translations the first is in the language C; others are one anyway.
        Value::Text(text) if place == 0 => {
            let text = clean(text);
            match tag {
                tag::NAME => package.package = text,
                tag::VERSION => version = text,
                tag::RELEASE => release = text,
                tag::SUMMARY => package.summary = text,
                tag::VENDOR => vendor = text,
                tag::LICENSE => package.license = text,
                tag::PACKAGER => package.maintainer = text,
                tag::GROUP => package.section = text,
                tag::URL => package.homepage = text,
                tag::ARCH => package.architecture = text,
                tag::SOURCE_RPM => source = text,
                _ => {}
            }
        }
        Value::Number(number) if place == 0 => match tag {
            tag::EPOCH => epoch = Some(number),
            tag::SIZE | tag::LONG_SIZE => package.installed_size_bytes = number,
            _ => {}
        },
        _ => {}
    })?;
    if package.package.is_empty() || version.is_empty() {
        return Err(Fault::Malformed("it has no name or no version"));
    }
    several |= package.package == "gpg-pubkey";
    let whole = format!("{version}-{release}");
    package.version = epoch.map_or_else(|| whole.clone(), |epoch| format!("{epoch}:{whole}"));
    if package.maintainer.is_empty() {
        package.maintainer = vendor;
    }
    if let Some((name, version)) = source_package(&source)
        && (name != package.package || version != whole)
    {
        if version != whole {
            version.clone_into(&mut package.source_version);
        }
        name.clone_into(&mut package.source);
    }
    package.summary = package.summary.lines().next().unwrap_or_default().to_owned();
    Ok((package, several))
}

/// What dnf (`installonlypkgs`) and zypper (`multiversion`) go by, as they are
/// set unless an administrator says otherwise.
fn allows_several(provides: &[u8]) -> bool {
    matches!(provides, b"kernel" | b"kernel-PAE")
        || provides.starts_with(b"installonlypkg(")
        || provides.starts_with(b"multiversion(")
}

/// Name and version in `openssl-3.0.7-27.el9.src.rpm`.
fn source_package(file: &str) -> Option<(&str, &str)> {
    let stem = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
    let release = stem.rfind('-')?;
    let version = stem[..release].rfind('-')?;
    Some((&stem[..version], &stem[version + 1..]))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Sqlite,
    Ndb,
    BerkeleyDb,
}

/// A database that is there.
#[derive(Debug)]
pub(super) struct Database {
    path: String,
    format: Format,
}

impl Database {
    /// All that are there, each once, however many paths lead to it. In a folder
    /// with a newer one that of Berkeley DB is a relic.
    pub(super) fn find(files: &dyn Files) -> Result<Vec<Self>, ProbeError> {
        let mut databases = Vec::new();
        let mut seen = BTreeSet::new();
        for folder in FOLDERS {
            for (name, format) in [
                ("rpmdb.sqlite", Format::Sqlite),
                ("Packages.db", Format::Ndb),
                ("Packages", Format::BerkeleyDb),
            ] {
                let path = format!("{folder}/{name}");
                let identity = match files.open(&path).and_then(|file| file.metadata()) {
                    Ok(metadata) => (metadata.dev(), metadata.ino()),
                    Err(error) if is_absent(&error) => continue,
                    Err(error) => return Err(ProbeError::read(&path)(error)),
                };
                if seen.insert(identity) {
                    databases.push(Self { path, format });
                }
                break;
            }
        }
        Ok(databases)
    }

    /// Reads it whole into a `T`; again if it changes meanwhile, as no lock is
    /// taken.
    pub(super) fn read<T: Default>(
        &self,
        files: &dyn Files,
        on: &mut OnPackage<'_, T>,
    ) -> Result<T, ProbeError> {
        for _ in 0..ATTEMPTS {
            let before = self.state(files)?;
            let mut into = T::default();
            let read = self.each(files, &mut |number, header, length| on(&mut into, number, header, length));
            if self.state(files)? == before {
                return match read {
                    Ok(()) => Ok(into),
                    Err(error) => Err(self.error(error)),
                };
            }
        }
        Err(self.error(broken("changes while it is read")))
    }

    fn error(&self, error: io::Error) -> ProbeError {
        match error.downcast::<ProbeError>() {
            Ok(error) => error,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                ProbeError::Malformed { path: self.path.clone(), problem: error.to_string() }
            }
            Err(error) => ProbeError::read(&self.path)(error),
        }
    }

    fn each(&self, files: &dyn Files, on: &mut OnHeader<'_>) -> io::Result<()> {
        let file = files.open(&self.path)?;
        match self.format {
            Format::Sqlite => {
                let [wal, journal] = ["-wal", "-journal"].map(|suffix| self.beside(files, suffix));
                sqlite::each(file, wal?, journal?, on)
            }
            Format::Ndb => ndb::each(&file, on),
            Format::BerkeleyDb => bdb::each(&file, on),
        }
    }

    /// A file that belongs to the database; `None` if there is none.
    fn beside(&self, files: &dyn Files, suffix: &str) -> io::Result<Option<File>> {
        match files.open(&format!("{}{suffix}", self.path)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What tells one state of the database from another without reading it.
    fn state(&self, files: &dyn Files) -> Result<Vec<super::FileState>, ProbeError> {
        let mut state = Vec::new();
        for suffix in ["", "-wal", "-journal"] {
            let file = self.beside(files, suffix).map_err(ProbeError::read(&self.path))?;
            let metadata = file.map(|file| file.metadata()).transpose();
            let metadata: Option<Metadata> = metadata.map_err(ProbeError::read(&self.path))?;
            state.push(metadata.as_ref().map(super::file_state));
        }
        Ok(state)
    }
}

#[cfg(test)]
pub(in crate::probe) mod tests;
