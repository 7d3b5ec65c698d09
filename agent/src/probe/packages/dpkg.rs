//! Packages in dpkg's database: `/var/lib/dpkg/status`, and one file a package
//! in `status.d` as distroless images have it. Format: deb-control(5), dpkg(1).

use std::io::{self, Read};

use contracts::v1::PackageDetails;

use super::lines::Lines;
use super::{Files, Found, MAX_TEXT_BYTES, shown};
use crate::probe::{ProbeError, is_absent, unless_absent};
use crate::text::clean;

pub(super) const STATUS: &str = "var/lib/dpkg/status";
pub(super) const STATUS_FOLDER: &str = "var/lib/dpkg/status.d";

pub(super) fn read(files: &dyn Files, found: &mut Found) -> Result<(), ProbeError> {
    match files.open(STATUS) {
        Ok(file) => collect(Stanzas::new(file), STATUS, false, found)?,
        // A node without dpkg has no packages of dpkg.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ProbeError::read(STATUS)(error)),
    }
    for name in unless_absent(STATUS_FOLDER, files.list(STATUS_FOLDER))? {
        let Some(name) = name.to_str() else {
            found.warn(format!("{STATUS_FOLDER}: a name that is not UTF-8 is left out"));
            continue;
        };
        if name.ends_with(".md5sums") {
            continue;
        }
        let path = format!("{STATUS_FOLDER}/{name}");
        match files.open(&path) {
            Ok(file) => collect(Stanzas::new(file), &path, true, found)?,
            Err(error) if is_absent(&error) => found.warn(format!("cannot read {path}: {error}")),
            Err(error) => return Err(ProbeError::read(&path)(error)),
        }
    }
    Ok(())
}

/// `implied`: files of `status.d` hold installed packages and state no status.
fn collect(
    stanzas: Stanzas<impl Read>,
    path: &str,
    implied: bool,
    found: &mut Found,
) -> Result<(), ProbeError> {
    for stanza in stanzas {
        let mut stanza = stanza.map_err(ProbeError::read(path))?;
        if implied && stanza.status.is_empty() {
            stanza.status = "install ok installed".to_owned();
        }
        match stanza.into_details() {
            Ok(Some(details)) => {
                let key = format!("dpkg/{}:{}", details.package, details.architecture);
                found.add(path, key, details)?;
            }
            Ok(None) => {}
            Err(problem) => found.warn(format!("{path}: {problem}")),
        }
    }
    Ok(())
}

/// The fields of one stanza that are reported.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stanza {
    package: String,
    status: String,
    version: String,
    architecture: String,
    source: String,
    maintainer: String,
    section: String,
    installed_size: String,
    description: String,
    homepage: String,
}

impl Stanza {
    pub(super) fn name(&self) -> &str {
        &self.package
    }

    fn field(&mut self, name: &[u8]) -> Option<&mut String> {
        // Field names are not case-sensitive. The longest here has 14 characters.
        let mut lower = [0; 14];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"package" => &mut self.package,
            b"status" => &mut self.status,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            b"source" => &mut self.source,
            b"maintainer" => &mut self.maintainer,
            b"section" => &mut self.section,
            b"installed-size" => &mut self.installed_size,
            b"description" => &mut self.description,
            b"homepage" => &mut self.homepage,
            _ => return None,
        })
    }

    /// The package; `None` for one that is not there.
    pub(super) fn into_details(self) -> Result<Option<PackageDetails>, String> {
        if self.package.is_empty() {
            return Err("a stanza without Package is left out".to_owned());
        }
        // `Status: want flag state`; only the last says what is on the disk.
        let state = self.status.split_whitespace().nth(2).unwrap_or_default();
        if state.is_empty() {
            return Err(format!("{} states no Status and is left out", shown(&self.package)));
        }
        if matches!(state, "not-installed" | "config-files") {
            return Ok(None);
        }
        // `Source: name (version)`, the version only when it is another.
        let (source, source_version) = match self.source.split_once(" (") {
            Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (self.source.clone(), String::new()),
        };
        let kibibytes: u64 = self.installed_size.parse().unwrap_or(0);
        Ok(Some(PackageDetails {
            package: self.package,
            version: self.version,
            architecture: self.architecture,
            manager: "dpkg".to_owned(),
            source,
            source_version,
            maintainer: self.maintainer,
            section: self.section,
            installed_size_bytes: kibibytes.saturating_mul(1024),
            status: state.to_owned(),
            summary: self.description,
            homepage: self.homepage,
            ..PackageDetails::default()
        }))
    }
}

pub(super) struct Stanzas<R> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: Read> Stanzas<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), ended: false }
    }
}

impl<R: Read> Iterator for Stanzas<R> {
    type Item = io::Result<Stanza>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stanza = Stanza::default();
        let mut any = false;
        while !self.ended {
            let line = match self.lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            };
            if line.trim_ascii_start().is_empty() {
                if any {
                    break;
                }
                continue;
            }
            any = true;
            // A line that begins with a space continues the field before; of
            // the fields here none has more than its first line.
            if line.first().is_some_and(u8::is_ascii_whitespace) {
                continue;
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            if let Some(field) = stanza.field(&line[..colon]) {
                let value = line[colon + 1..].trim_ascii();
                *field = clean(&value[..value.len().min(MAX_TEXT_BYTES)]);
            }
        }
        any.then_some(Ok(stanza))
    }
}

#[cfg(test)]
mod tests;
