//! systemd units: the unit files and the links that enable them
//! (systemd.unit(5), "Unit File Load Path"; states as systemctl(1),
//! `list-unit-files`). No D-Bus: what the files say.

mod unit_file;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use contracts::v1::{SystemdUnitDetails, asset_details::Details};

use self::unit_file::{UnitFile, parse_unit_file};
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
        for name in names {
            let name = clean(name.as_encoded_bytes());
            let path = format!("{folder}/{name}");
            if let Some(unit) = name.strip_suffix(".d") {
                drop_ins.read(host, unit, &path)?;
            } else if [".wants", ".requires", ".upholds"].iter().any(|suffix| name.ends_with(suffix)) {
                if CONFIGURED.contains(&folder) {
                    links.read_enabling(host, &path)?;
                }
            } else if unit_type(&name).is_some() {
                // Absent: a file of its own.
                let target = unless_absent(&path, host.read_link(&path).map(Some))?;
                if let (Some(target), true) = (&target, CONFIGURED.contains(&folder)) {
                    links.aliases.entry(base_name(target)).or_default().insert(name.clone());
                }
                units.entry(name).or_insert(Found { path, target });
            }
        }
    }
    for (name, found) in units {
        let (unit, empty) = match host.read(&found.path, MAX_UNIT_BYTES) {
            Ok(text) => (parse_unit_file(&text), text.is_empty()),
            // Masked by a link to /dev/null, which is no regular file.
            Err(_) if found.is_masked() => (UnitFile::default(), true),
            // A link that leads nowhere: systemd has no such unit either.
            Err(error) if is_absent(&error) => {
                scan.warnings.push(format!("cannot read {}: {error}", found.path));
                continue;
            }
            // For good, unlike other faults: an agent without privileges tells
            // at least that the unit is there.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                scan.warnings.push(format!("cannot read {}: {error}", found.path));
                (UnitFile::default(), false)
            }
            Err(error) => return Err(ProbeError::read(&found.path)(error)),
        };
        let details = SystemdUnitDetails {
            r#type: unit_type(&name).unwrap_or_default().to_owned(),
            enablement: enablement(&name, &found, &unit, empty, &links).to_owned(),
            description: unit.description,
            path: format!("/{}", found.path),
            drop_ins: drop_ins.of(&name),
            unit: name.clone(),
            ..SystemdUnitDetails::default()
        };
        scan.assets.push(ScannedAsset::new(name.clone(), name, Details::SystemdUnit(details)));
    }
    Ok(scan)
}

/// A name in a folder of unit files.
struct Found {
    path: String,
    target: Option<std::path::PathBuf>,
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
        if unit_type(unit).is_none() {
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

    fn of(&self, unit: &str) -> Vec<String> {
        let mut paths: Vec<String> =
            self.0.get(unit).map(|files| files.values().cloned().collect()).unwrap_or_default();
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
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn node() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let link = |path: &str, target: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        };
        let install = "[Install]\nWantedBy=multi-user.target\n";
        write(
            "usr/lib/systemd/system/ssh.service",
            &format!("[Unit]\nDescription=vendor\n{install}Alias=sshd.service\n"),
        );
        write("etc/systemd/system/ssh.service", &format!("[Unit]\nDescription=ours\n{install}"));
        link("etc/systemd/system/multi-user.target.wants/ssh.service", "/usr/lib/systemd/system/ssh.service");
        write("usr/lib/systemd/system/off.service", install);
        write("usr/lib/systemd/system/getty@.service", install);
        link(
            "etc/systemd/system/getty.target.wants/getty@tty1.service",
            "/lib/systemd/system/getty@.service",
        );
        write("usr/lib/systemd/system/plain.target", "[Unit]\nDescription=plain\n");
        link("usr/lib/systemd/system/x.target.wants/plain.target", "../plain.target");
        write("usr/lib/systemd/system/also.service", "[Install]\nAlso=off.service\n");
        link("usr/lib/systemd/system/gone.service", "/dev/null");
        write("usr/lib/systemd/system/hollow.service", "");
        link("usr/lib/systemd/system/default.target", "plain.target");
        write("usr/lib/systemd/system/time.service", "[Install]\nAlias=dbus-time.service\n");
        link("etc/systemd/system/dbus-time.service", "/lib/systemd/system/time.service");
        link("etc/systemd/system/custom.target", "/lib/systemd/system/plain.target");
        write("etc/systemd/system/ssh.service.d/b.conf", "[Service]\n");
        write("usr/lib/systemd/system/ssh.service.d/a.conf", "[Service]\n");
        write("usr/lib/systemd/system/ssh.service.d/b.conf", "[Service]\n");
        write("usr/lib/systemd/system/ssh.service.d/notes.txt", "");
        write("usr/lib/systemd/system/README", "no unit");
        fs::create_dir_all(root.path().join("dev")).unwrap();
        symlink("usr/lib", root.path().join("lib")).unwrap();
        root
    }

    #[test]
    fn enablement_is_as_systemctl_says() {
        let root = node();
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let states: BTreeMap<&str, (&str, &str)> = scan
            .assets
            .iter()
            .map(|asset| match &asset.details {
                Details::SystemdUnit(unit) => {
                    (unit.unit.as_str(), (unit.enablement.as_str(), unit.r#type.as_str()))
                }
                other => panic!("not a unit: {other:?}"),
            })
            .collect();
        let expected = BTreeMap::from([
            ("also.service", ("indirect", "service")),
            ("custom.target", ("alias", "target")),
            ("dbus-time.service", ("alias", "service")),
            ("default.target", ("alias", "target")),
            ("getty@.service", ("enabled", "service")),
            ("gone.service", ("masked", "service")),
            ("hollow.service", ("masked", "service")),
            ("off.service", ("disabled", "service")),
            ("plain.target", ("static", "target")),
            ("ssh.service", ("enabled", "service")),
            ("time.service", ("enabled", "service")),
        ]);
        assert_eq!(states, expected);
    }

    #[test]
    fn the_first_folder_wins_and_drop_ins_add_up() {
        let root = node();
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let ssh = scan.assets.iter().find(|asset| asset.natural_key == "ssh.service").unwrap();
        let Details::SystemdUnit(ssh) = &ssh.details else { panic!("no unit") };
        assert_eq!(
            (ssh.description.as_str(), ssh.path.as_str()),
            ("ours", "/etc/systemd/system/ssh.service")
        );
        assert_eq!(
            ssh.drop_ins,
            ["/etc/systemd/system/ssh.service.d/b.conf", "/usr/lib/systemd/system/ssh.service.d/a.conf"]
        );
    }

    #[test]
    fn what_cannot_be_read_fails_the_probe_and_what_is_not_there_does_not() {
        // A name longer than any can be: neither there nor absent.
        let unreadable = "x".repeat(300);
        for path in [
            "usr/lib/systemd/system/a.service",
            "usr/lib/systemd/system/ssh.service.d",
            "etc/systemd/system/a.target.wants",
        ] {
            for (target, readable) in [(unreadable.as_str(), false), ("nowhere", true)] {
                let root = node();
                let link = root.path().join(path);
                let _ = fs::remove_dir_all(&link);
                symlink(target, link).unwrap();
                match scan(&HostRoot::new(root.path()).unwrap()) {
                    Ok(scan) => {
                        assert!(readable, "{path}");
                        assert_eq!((scan.assets.len(), scan.warnings.len() < 2), (11, true), "{path}");
                    }
                    Err(error) => {
                        assert!(!readable, "{error}");
                        assert!(error.to_string().starts_with(&format!("cannot read {path}:")), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_node_without_systemd_has_no_units() {
        let root = tempfile::tempdir().unwrap();
        assert!(scan(&HostRoot::new(root.path()).unwrap()).unwrap().assets.is_empty());
    }
}
