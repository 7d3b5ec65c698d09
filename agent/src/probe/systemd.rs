//! systemd units: the unit files and the links that enable them
//! (systemd.unit(5), "Unit File Load Path"; states as systemctl(1),
//! `list-unit-files`). No D-Bus: what the files say.

mod unit_file;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use contracts::v1::{AssetKind, RelationType, SystemdUnitDetails, asset_details::Details};

use self::unit_file::{UnitFile, read_unit_file};
use super::{ProbeError, Scan, is_absent, unless_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

/// Folders of unit files; the first that has a name wins.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Folders whose links enable a unit; those of a vendor only order it.
const CONFIGURED: [&str; 2] = ["etc/systemd/system", "run/systemd/system"];

pub(super) const WATCHED: &[&str] = &[
    "etc/systemd/system",
    "etc/systemd/system/multi-user.target.wants",
    "etc/systemd/system/sockets.target.wants",
    "etc/systemd/system/sysinit.target.wants",
    "etc/systemd/system/timers.target.wants",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

const MAX_UNIT_BYTES: u64 = 1024 * 1024;

/// Suffixes of units (systemd.unit(5)).
const TYPES: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    let mut units: BTreeMap<String, Found> = BTreeMap::new();
    let mut links = Links::default();
    let mut drop_ins = DropIns::default();
    for folder in FOLDERS {
        let names = match host.list(folder) {
            Ok(names) => names,
            // No systemd, or a folder that this distribution does not use.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ProbeError::read(folder)(error)),
        };
        // What is no link is a file of its own.
        let mut targets: HashMap<_, _> = unless_absent(folder, host.links(folder))?.into_iter().collect();
        for name in names {
            let target = targets.remove(&name).map(PathBuf::from);
            let name = clean(name.as_encoded_bytes());
            let path = format!("{folder}/{name}");
            if let Some(unit) = name.strip_suffix(".d") {
                drop_ins.read(host, unit, &path)?;
            } else if [".wants", ".requires", ".upholds"].iter().any(|suffix| name.ends_with(suffix)) {
                if CONFIGURED.contains(&folder) {
                    links.read_enabling(host, &path)?;
                }
            } else if unit_type(&name).is_some() {
                if let (Some(target), true) = (&target, CONFIGURED.contains(&folder)) {
                    links.aliases.entry(base_name(target)).or_default().insert(name.clone());
                }
                units.entry(name).or_insert(Found { path, target });
            }
        }
    }
    for (name, found) in units {
        let mut unit = UnitFile::default();
        let empty = match host.read(&found.path, MAX_UNIT_BYTES) {
            Ok(text) => {
                read_unit_file(&mut unit, &text);
                text.is_empty()
            }
            // Masked by a link to /dev/null, which is no regular file.
            Err(_) if found.is_masked() => true,
            // A link that leads nowhere: systemd has no such unit either.
            Err(error) if is_absent(&error) => {
                scan.warnings.push(format!("cannot read {}: {error}", found.path));
                continue;
            }
            // For good, unlike other faults: an agent without privileges tells
            // at least that the unit is there.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                scan.warnings.push(format!("cannot read {}: {error}", found.path));
                false
            }
            Err(error) => return Err(ProbeError::read(&found.path)(error)),
        };
        if !empty {
            drop_ins.apply(host, &name, &mut unit, &mut scan.warnings)?;
        }
        let starts = if empty { String::new() } else { starts(&name, &found, &unit) };
        let details = SystemdUnitDetails {
            r#type: unit_type(&name).unwrap_or_default().to_owned(),
            enablement: enablement(&name, &found, &unit, empty, &links).to_owned(),
            description: unit.description,
            path: format!("/{}", found.path),
            drop_ins: drop_ins.of(&name),
            unit: name.clone(),
            schedule: unit.schedule,
            starts: starts.clone(),
            user: unit.user,
        };
        let mut asset = ScannedAsset::new(name.clone(), name, Details::SystemdUnit(details));
        // With a specifier (systemd.unit(5)) it is the name of no unit yet.
        if !starts.is_empty() && !starts.contains('%') {
            asset = asset.related(RelationType::Starts, AssetKind::SystemdUnit, starts);
        }
        scan.assets.push(asset);
    }
    Ok(scan)
}

/// Unit that a timer, path or socket starts: the one that it names, else its
/// namesake (systemd.timer(5), systemd.path(5), systemd.socket(5)); empty for
/// others.
fn starts(name: &str, found: &Found, unit: &UnitFile) -> String {
    if !unit.starts.is_empty() {
        return unit.starts.clone();
    }
    // An alias is the unit that it leads to.
    let name = found.target.as_deref().map_or_else(|| name.to_owned(), base_name);
    match (name.rsplit_once('.'), unit.accepts) {
        (Some((stem, "timer" | "path")), _) | (Some((stem, "socket")), false) => format!("{stem}.service"),
        // One for each connection.
        (Some((stem, "socket")), true) => format!("{}@.service", stem.trim_end_matches('@')),
        _ => String::new(),
    }
}

/// A name in a folder of unit files.
struct Found {
    path: String,
    target: Option<PathBuf>,
}

impl Found {
    fn is_masked(&self) -> bool {
        self.target.as_deref() == Some(Path::new("/dev/null"))
    }
}

/// The links of the configured folders.
#[derive(Default)]
struct Links {
    /// Names that stand in, or are pointed to from, a `.wants` folder or the like.
    enabled: BTreeSet<String>,
    /// Unit → names that link to it.
    aliases: HashMap<String, BTreeSet<String>>,
}

impl Links {
    fn read_enabling(&mut self, host: &HostRoot, folder: &str) -> Result<(), ProbeError> {
        for (name, target) in unless_absent(folder, host.links(folder))? {
            self.enabled.insert(clean(name.as_encoded_bytes()));
            // `getty@tty1.service -> …/getty@.service` enables the template.
            self.enabled.insert(base_name(Path::new(&target)));
        }
        Ok(())
    }
}

/// Drop-ins: unit → file name → path. The first folder with a name wins.
#[derive(Default)]
struct DropIns(HashMap<String, BTreeMap<String, String>>);

impl DropIns {
    fn read(&mut self, host: &HostRoot, unit: &str, folder: &str) -> Result<(), ProbeError> {
        if unit_type(unit).is_none() && !TYPES.contains(&unit) {
            return Ok(());
        }
        for name in unless_absent(folder, host.list(folder))? {
            let name = clean(name.as_encoded_bytes());
            if name.ends_with(".conf") {
                let path = format!("/{folder}/{name}");
                self.0.entry(unit.to_owned()).or_default().entry(name).or_insert(path);
            }
        }
        Ok(())
    }

    /// Those of a unit by their names: of `a-b.service` those in `a-b.service.d`,
    /// `a-.service.d` and `service.d`; where two have one name, the one in the
    /// first of these counts (systemd.unit(5)).
    fn by_name(&self, unit: &str) -> BTreeMap<&str, &str> {
        let mut folders = vec![unit.to_owned()];
        if let Some((stem, suffix)) = unit.rsplit_once('.') {
            if let Some((template, _)) = stem.split_once('@') {
                folders.push(format!("{template}@.{suffix}"));
            }
            let dashes = stem.char_indices().rev().filter(|(_, character)| *character == '-');
            folders.extend(dashes.map(|(at, _)| format!("{}.{suffix}", &stem[..=at])));
            folders.push(suffix.to_owned());
        }
        let mut files = BTreeMap::new();
        for (name, path) in folders.iter().filter_map(|folder| self.0.get(folder)).flatten() {
            files.entry(name.as_str()).or_insert(path.as_str());
        }
        files
    }

    /// Reads them in the order of their names, wherever they stand
    /// (systemd.unit(5)).
    fn apply(
        &self,
        host: &HostRoot,
        unit: &str,
        into: &mut UnitFile,
        warnings: &mut Vec<String>,
    ) -> Result<(), ProbeError> {
        for path in self.by_name(unit).into_values() {
            match host.read(path, MAX_UNIT_BYTES) {
                Ok(text) => read_unit_file(into, &text),
                Err(error) if is_absent(&error) => {}
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    warnings.push(format!("cannot read {path}: {error}"));
                }
                Err(error) => return Err(ProbeError::read(path)(error)),
            }
        }
        Ok(())
    }

    fn of(&self, unit: &str) -> Vec<String> {
        let mut paths: Vec<String> = self.by_name(unit).into_values().map(str::to_owned).collect();
        paths.sort();
        paths
    }
}

/// The state that systemctl would show: src/shared/install.c,
/// `unit_file_lookup_state`.
fn enablement(name: &str, found: &Found, unit: &UnitFile, empty: bool, links: &Links) -> &'static str {
    if found.is_masked() || empty {
        return "masked";
    }
    if found.target.as_deref().is_some_and(|target| base_name(target) != name) {
        return "alias";
    }
    let by_alias =
        links.aliases.get(name).is_some_and(|names| names.iter().any(|name| unit.aliases.contains(name)));
    if links.enabled.contains(name) || by_alias {
        "enabled"
    } else if unit.has_install_rules {
        "disabled"
    } else if unit.has_also {
        "indirect"
    } else {
        "static"
    }
}

/// Type of a unit by its suffix; `None` for what is no unit.
fn unit_type(name: &str) -> Option<&str> {
    let (stem, suffix) = name.rsplit_once('.')?;
    (!stem.is_empty() && TYPES.contains(&suffix)).then_some(suffix)
}

fn base_name(path: &Path) -> String {
    path.file_name().map(|name| clean(name.as_encoded_bytes())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
