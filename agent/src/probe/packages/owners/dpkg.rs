//! Files of dpkg's packages: `info/<name>.list` or `info/<name>:<architecture>.list`
//! has one path a line (dpkg-query(1)); dpkg-divert(1) says which are elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::super::dpkg::{STATUS, Stanzas};
use super::super::lines::Lines;
use super::{Owner, Wanted};
use crate::host::HostRoot;
use crate::probe::{ProbeError, is_absent, unless_absent};
use crate::text::clean;

pub(super) const INFO: &str = "var/lib/dpkg/info";
pub(super) const DIVERSIONS: &str = "var/lib/dpkg/diversions";

/// Most bytes of the list of diversions.
const MAX_DIVERSIONS_BYTES: u64 = 4 * 1024 * 1024;

/// A package has its file elsewhere, so that another can have its place.
#[derive(Debug, PartialEq)]
struct Diversion {
    from: String,
    to: String,
    /// The package that has the place; `:` for an administrator.
    by: String,
}

pub(super) fn find(host: &HostRoot, wanted: &mut Wanted) -> Result<(), ProbeError> {
    let text = unless_absent(DIVERSIONS, host.read(DIVERSIONS, MAX_DIVERSIONS_BYTES))?;
    let diversions: Vec<Diversion> = parse_diversions(&clean(&text))
        .into_iter()
        .filter(|diversion| {
            wanted.names.contains_key(&diversion.from) || wanted.names.contains_key(&diversion.to)
        })
        .collect();
    // Package → paths that were asked for.
    let mut hits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let places = Places::new(
        wanted.names.keys().chain(diversions.iter().map(|diversion| &diversion.from)).map(String::as_str),
    );
    let mut buffer = Vec::new();
    for file in unless_absent(INFO, host.list(INFO))? {
        let Some(package) = file.to_str().and_then(|file| file.strip_suffix(".list")) else { continue };
        let path = format!("{INFO}/{package}.list");
        let file = match host.open(&path) {
            Ok(file) => file,
            // It is being removed.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(ProbeError::read(&path)(error)),
        };
        let name = package.split(':').next().unwrap_or(package);
        let mut lines = Lines::reusing(file, buffer);
        while let Some(line) = lines.next().map_err(ProbeError::read(&path))? {
            if !places.contains(line) {
                continue;
            }
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let diverted = diversions.iter().find(|diversion| diversion.from == line && diversion.by != name);
            let place = diverted.map_or(line, |diversion| &diversion.to);
            if let Some(path) = wanted.names.get(place) {
                hits.entry(package.to_owned()).or_default().insert(path.clone());
            }
        }
        buffer = lines.into_buffer();
    }
    // The name of a list has no architecture unless several may be installed.
    if hits.keys().any(|package| !package.contains(':')) {
        add_architectures(host, &mut hits)?;
    }
    for (package, paths) in hits {
        let Some((name, _)) = package.split_once(':') else { continue };
        let owner = Owner { natural_key: format!("dpkg/{package}"), name: name.to_owned() };
        for path in paths {
            wanted.found(path, owner.clone());
        }
    }
    Ok(())
}

/// Names that lines may have, by their length: few of a hundred thousand lines
/// need a closer look.
struct Places<'a>(Vec<Vec<&'a [u8]>>);

impl<'a> Places<'a> {
    fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let mut by_length: Vec<Vec<&[u8]>> = Vec::new();
        for name in names {
            if by_length.len() <= name.len() {
                by_length.resize(name.len() + 1, Vec::new());
            }
            by_length[name.len()].push(name.as_bytes());
        }
        Self(by_length)
    }

    fn contains(&self, line: &[u8]) -> bool {
        self.0.get(line.len()).is_some_and(|names| names.contains(&line))
    }
}

fn add_architectures(
    host: &HostRoot,
    hits: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<(), ProbeError> {
    let file = match host.open(STATUS) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(ProbeError::read(STATUS)(error)),
    };
    for stanza in Stanzas::new(file) {
        let stanza = stanza.map_err(ProbeError::read(STATUS))?;
        if !hits.contains_key(stanza.name()) {
            continue;
        }
        if let Ok(Some(package)) = stanza.into_details()
            && let Some(paths) = hits.remove(&package.package)
        {
            hits.insert(format!("{}:{}", package.package, package.architecture), paths);
        }
    }
    Ok(())
}

/// Three lines each: the place, where the others' file is, the package.
fn parse_diversions(text: &str) -> Vec<Diversion> {
    let lines: Vec<&str> = text.lines().collect();
    let (whole, _) = lines.as_chunks::<3>();
    let diversion =
        |[from, to, by]: &[&str; 3]| Diversion { from: (*from).into(), to: (*to).into(), by: (*by).into() };
    whole.iter().map(diversion).collect()
}
