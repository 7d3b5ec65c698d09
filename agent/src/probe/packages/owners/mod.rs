//! Which package installed a file. All files that are asked for are looked for
//! in one pass over the databases, and again only when these have changed or
//! another file is asked for.

mod apk;
mod dpkg;
mod rpm;

use std::collections::{BTreeMap, BTreeSet};

use contracts::v1::{AssetKind, RelationType, asset_details::Details};

use super::{ProbeError, Scan, WATCHED};
use crate::host::{Fingerprint, HostRoot};

/// What else than the databases of packages decides who installed a file.
const ALSO_READ: [&str; 2] = [dpkg::INFO, dpkg::DIVERSIONS];

/// Folders that distributions have made links, after packages were built that
/// have files in them.
const MERGED: [&str; 8] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr/sbin", "usr/lib64"];

/// The package that installed a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Natural key of the package.
    pub natural_key: String,
    /// Its name.
    pub name: String,
}

/// Remembers who installed the files that were last asked for.
#[derive(Debug, Default)]
pub struct Owners {
    databases: Vec<Option<Fingerprint>>,
    known: BTreeMap<String, Option<Owner>>,
}

impl Owners {
    /// Who installed each of these files, given by their absolute paths without
    /// links; those that no package has installed are left out.
    ///
    /// # Errors
    /// A database cannot be read. What was known before stays known.
    pub fn find(
        &mut self,
        host: &HostRoot,
        paths: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Owner>, ProbeError> {
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let databases: Vec<_> = WATCHED.iter().chain(&ALSO_READ).map(|path| host.fingerprint(path)).collect();
        if databases != self.databases || paths.iter().any(|path| !self.known.contains_key(path)) {
            let mut wanted = Wanted::new(host, paths);
            dpkg::find(host, &mut wanted)?;
            rpm::find(host, &mut wanted)?;
            apk::find(host, &mut wanted)?;
            let owner = |path: &String| (path.clone(), wanted.found.get(path).cloned());
            self.known = paths.iter().map(owner).collect();
            self.databases = databases;
        }
        Ok(self.last_known(paths))
    }

    fn last_known(&self, paths: &BTreeSet<String>) -> BTreeMap<String, Owner> {
        let known = |path: &String| Some((path.clone(), self.known.get(path)?.clone()?));
        paths.iter().filter_map(known).collect()
    }

    /// Says of listening sockets which package installed their program. A
    /// program in a container is none of the node's packages'. If a database
    /// cannot be read, that is a warning and the last answers count.
    pub(in crate::probe) fn attribute(&mut self, host: &HostRoot, scan: &mut Scan) {
        let mut paths = BTreeSet::new();
        for asset in &scan.assets {
            if let Details::ListeningSocket(socket) = &asset.details
                && socket.container.is_empty()
                && !socket.executable.is_empty()
            {
                paths.insert(socket.executable.clone());
            }
        }
        let owners = self.find(host, &paths).unwrap_or_else(|error| {
            scan.warnings.push(format!("packages of programs: {error}"));
            self.last_known(&paths)
        });
        for asset in std::mem::take(&mut scan.assets) {
            let mut asset = asset;
            if let Details::ListeningSocket(socket) = &mut asset.details
                && socket.container.is_empty()
                && let Some(owner) = owners.get(&socket.executable)
            {
                socket.package.clone_from(&owner.name);
                asset = asset.related(RelationType::InstalledBy, AssetKind::Package, &owner.natural_key);
            }
            scan.assets.push(asset);
        }
    }
}

/// The files that are looked for, under every name that a package may have them.
struct Wanted {
    /// Name in a package → path that was asked for.
    names: BTreeMap<String, String>,
    found: BTreeMap<String, Owner>,
}

impl Wanted {
    fn new(host: &HostRoot, paths: &BTreeSet<String>) -> Self {
        let links: Vec<(String, String)> = MERGED
            .iter()
            .filter_map(|folder| {
                let target = host.read_link(folder).ok()?;
                let target = target.to_str()?.trim_end_matches('/');
                let target = match target.strip_prefix('/') {
                    Some(absolute) => format!("/{absolute}/"),
                    // `usr/sbin -> bin` is `/usr/bin`.
                    None => {
                        format!("/{}{target}/", &folder[..folder.rfind('/').map_or(0, |slash| slash + 1)])
                    }
                };
                Some((format!("/{folder}/"), target))
            })
            .collect();
        let mut names = BTreeMap::new();
        for path in paths {
            let mut aliases = vec![path.clone()];
            let mut next = 0;
            while next < aliases.len() {
                let alias = aliases[next].clone();
                for (link, target) in &links {
                    if let Some(rest) = alias.strip_prefix(target.as_str()) {
                        let other = format!("{link}{rest}");
                        if !aliases.contains(&other) && aliases.len() <= MERGED.len() {
                            aliases.push(other);
                        }
                    }
                }
                next += 1;
            }
            for alias in aliases {
                names.insert(alias, path.clone());
            }
        }
        Self { names, found: BTreeMap::new() }
    }

    /// Of several packages with one file always the same counts.
    fn found(&mut self, path: String, owner: Owner) {
        match self.found.get_mut(&path) {
            Some(before) if owner < *before => *before = owner,
            Some(_) => {}
            None => {
                self.found.insert(path, owner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
