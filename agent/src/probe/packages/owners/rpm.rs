//! Files of rpm's packages: of each its name and the number of its folder, and
//! the names of the folders.

use std::collections::BTreeSet;

use super::super::rpm::{self, Database, Listed, Value, tag};
use super::{Owner, Wanted};
use crate::host::HostRoot;
use crate::probe::ProbeError;

/// Most files of one package that are looked through; far above any real one's.
const MAX_FILES: usize = 2_000_000;
/// Most files of one package that have a name that is looked for.
const MAX_NAMESAKES: usize = 10_000;

/// What one package says of its files.
#[derive(Default)]
struct Names {
    folder_of: Vec<u32>,
    /// Place of a file, and its name.
    files: Vec<(u32, String)>,
    /// Place of a folder, and its name.
    folders: Vec<(u32, String)>,
}

impl Names {
    fn take(
        &mut self,
        bases: &BTreeSet<&str>,
        folders: &BTreeSet<&str>,
        tag: u32,
        place: u32,
        value: &Value<'_>,
    ) {
        match (tag, value) {
            (tag::DIR_INDEXES, Value::Number(folder)) if self.folder_of.len() < MAX_FILES => {
                self.folder_of.push(*folder as u32);
            }
            (tag::BASE_NAMES, Value::Text(name)) if self.files.len() < MAX_NAMESAKES => {
                if let Ok(name) = std::str::from_utf8(name)
                    && bases.contains(name)
                {
                    self.files.push((place, name.to_owned()));
                }
            }
            (tag::DIR_NAMES, Value::Text(name)) if self.folders.len() < MAX_NAMESAKES => {
                if let Ok(name) = std::str::from_utf8(name)
                    && folders.contains(name)
                {
                    self.folders.push((place, name.to_owned()));
                }
            }
            _ => {}
        }
    }

    /// Whole paths of the files that may be looked for.
    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (file, name) in &self.files {
            let Some(folder) = self.folder_of.get(*file as usize) else { continue };
            if let Some((_, folder)) = self.folders.iter().find(|(place, _)| place == folder) {
                paths.push(format!("{folder}{name}"));
            }
        }
        paths
    }
}

/// The packages, and the place of that which has a file that was asked for.
#[derive(Default)]
struct Files {
    listed: Listed,
    hits: Vec<(usize, String)>,
}

pub(super) fn find(host: &HostRoot, wanted: &mut Wanted) -> Result<(), ProbeError> {
    let split = |name: &'_ String| name.rfind('/').map_or(0, |slash| slash + 1);
    let names = wanted.names.clone();
    let folders: BTreeSet<&str> = names.keys().map(|name| &name[..split(name)]).collect();
    let bases: BTreeSet<&str> = names.keys().map(|name| &name[split(name)..]).collect();
    for database in Database::find(host)? {
        let mut files = database.read(host, &mut |files: &mut Files, number, header, length| {
            let mut own = Names::default();
            let listed = rpm::add(
                &mut files.listed,
                &database,
                number,
                header,
                length,
                &[tag::DIR_INDEXES, tag::BASE_NAMES, tag::DIR_NAMES],
                &mut |tag, place, value| own.take(&bases, &folders, tag, place, &value),
            )?;
            if let Some(package) = listed {
                let hits = own.paths().into_iter().filter_map(|path| names.get(&path));
                files.hits.extend(hits.map(|path| (package, path.clone())));
            }
            Ok(())
        })?;
        rpm::give_keys(&mut files.listed);
        for (package, path) in files.hits {
            let (details, natural_key) = &files.listed.found.packages[package];
            wanted.found(path, Owner { natural_key: natural_key.clone(), name: details.package.clone() });
        }
    }
    Ok(())
}
