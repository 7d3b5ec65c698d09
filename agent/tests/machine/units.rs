//! systemd units, against systemctl(1) and systemd itself, which reads a tree of
//! unit files and says what it understood (`systemd --test`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use agent::host::HostRoot;
use contracts::v1::SystemdUnitDetails;
use contracts::v1::asset_details::Details;

use super::{scan, scan_below, tool};

#[test]
fn units_are_those_of_systemctl() {
    let args = ["list-unit-files", "--no-legend", "--no-pager", "--full", "--plain"];
    let Some(listed) = tool("systemctl", &args) else { return };
    let mut expected = BTreeMap::new();
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let (Some(unit), Some(state)) = (words.next(), words.next()) else { continue };
        let state = match state {
            // Rule: made by generators from other files, such as /etc/fstab.
            "generated" | "transient" => continue,
            // Rule: for this boot, or for ever: both are enabled.
            "enabled-runtime" => "enabled",
            "masked-runtime" => "masked",
            other => other,
        };
        expected.insert(unit.to_owned(), state.to_owned());
    }
    let found: BTreeMap<String, String> = scan("systemd")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::SystemdUnit(unit) => (unit.unit, unit.enablement),
            other => panic!("no unit: {other:?}"),
        })
        .collect();
    let missing: Vec<_> = expected.iter().filter(|(unit, state)| found.get(*unit) != Some(state)).collect();
    let surplus: Vec<_> = found.keys().filter(|unit| !expected.contains_key(*unit)).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing or other: {missing:?}; surplus: {surplus:?}");
}

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
const UNITS: &str = "etc/systemd/system";

/// Files below the folder of units; each also has no dependencies of its own.
const FILES: [(&str, &str); 12] = [
    ("all.target", "[Unit]\nWants=one.timer two.timer app.socket each.socket spool.path my-app.service\n"),
    ("one.timer", "[Timer]\nOnCalendar=daily\nOnBootSec=5min\nOnUnitActiveSec=1h\nOnClockChange=yes\n"),
    ("one.service", "[Service]\nExecStart=/bin/true\nUser=nobody\n"),
    ("two.timer", "[Timer]\nOnCalendar=daily\nOnBootSec=5min\nUnit=one.service\n"),
    ("two.timer.d/20-later.conf", "[Timer]\nOnStartupSec=3s\nOnTimezoneChange=true\n"),
    ("two.timer.d/10-reset.conf", "[Timer]\nOnBootSec=\nOnCalendar=Mon..Fri 10:00\n"),
    ("app.socket", "[Socket]\nListenStream=/run/assettrack-test.sock\nService=one.service\n"),
    ("each.socket", "[Socket]\nListenStream=/run/assettrack-each.sock\nAccept=yes\n"),
    ("each@.service", "[Service]\nExecStart=/bin/true\n"),
    ("spool.path", "[Path]\nPathExists=/nonexistent\nUnit=one.service\n"),
    ("my-app.service", "[Service]\nExecStart=/bin/true\nUser=daemon\nUser=bin\n"),
    ("my-.service.d/50-user.conf", "[Service]\nUser=games\n"),
];

#[test]
fn what_units_start_and_when_is_as_systemd_reads_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(UNITS);
    for (name, text) in FILES {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("[Unit]\nDefaultDependencies=no\n{text}")).unwrap();
    }
    // systemd refuses to be tested by root; another user must be able to read.
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = tempfile::tempdir().unwrap();
    fs::set_permissions(runtime.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", SYSTEMD])
        .args(["--test", "--system", "--unit=all.target", "--no-pager"])
        .env("SYSTEMD_UNIT_PATH", format!("{}:/usr/lib/systemd/system", folder.display()))
        .env("SYSTEMD_LOG_LEVEL", "err")
        .env("XDG_RUNTIME_DIR", runtime.path())
        .env("LC_ALL", "C.UTF-8");
    let dump = match command.output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            println!("SKIPPED: {SYSTEMD} fails here: {}", String::from_utf8_lossy(&output.stderr).trim());
            return;
        }
        Err(error) => {
            println!("SKIPPED: no setpriv or systemd here: {error}");
            return;
        }
    };
    let understood = units_of_dump(&dump);
    let host = HostRoot::new(root.path()).unwrap();
    let found: BTreeMap<String, SystemdUnitDetails> = scan_below("systemd", &host)
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::SystemdUnit(unit) => (asset.natural_key, unit),
            other => panic!("no unit: {other:?}"),
        })
        .collect();
    for name in ["one.timer", "two.timer", "spool.path", "app.socket", "one.service", "my-app.service"] {
        let (ours, theirs) = (&found[name], &understood[name]);
        assert_eq!(ours.user, theirs.user, "{name}");
        assert_eq!(ours.starts, theirs.starts, "{name}");
        // Rules: systemd writes calendars out in full, as systemd-analyze does,
        // and keeps no order between its lines.
        let mut schedule: Vec<String> = ours.schedule.iter().map(|line| in_full(line)).collect();
        schedule.sort();
        assert_eq!(schedule, theirs.schedule, "{name}");
    }
    // Rule: systemd knows a service for each connection only once there is one.
    assert_eq!(found["each.socket"].starts, "each@.service");
    assert_eq!(
        found["two.timer"].schedule,
        ["OnCalendar=Mon..Fri 10:00", "OnStartupSec=3s", "OnTimezoneChange=true"]
    );
}

#[derive(Debug, Default)]
struct Understood {
    starts: String,
    user: String,
    schedule: Vec<String>,
}

/// `-> Unit NAME:` and, below it, a line for each setting.
fn units_of_dump(dump: &str) -> BTreeMap<String, Understood> {
    let mut units: BTreeMap<String, Understood> = BTreeMap::new();
    let mut name = String::new();
    for line in dump.lines() {
        if let Some(unit) = line.trim_start().strip_prefix("-> Unit ") {
            name = unit.trim_end_matches(':').to_owned();
            continue;
        }
        let Some((key, value)) = line.trim().split_once(": ") else { continue };
        let unit = units.entry(name.clone()).or_default();
        match key {
            // Rule: `no` is what stands there for both switches when they are off.
            // It has a capital letter too many in the dump alone.
            "OnClockChange" | "OnTimeZoneChange" if value == "yes" => {
                unit.schedule.push(format!("{}=true", key.replace("TimeZone", "Timezone")));
            }
            "OnCalendar" | "OnBootSec" | "OnUnitActiveSec" | "OnStartupSec" | "OnActiveSec"
            | "OnUnitInactiveSec" => {
                unit.schedule.push(format!("{key}={value}"));
            }
            "User" => unit.user = value.to_owned(),
            "Triggers" => unit.starts = value.split(' ').next().unwrap_or_default().to_owned(),
            _ => {}
        }
        unit.schedule.sort();
    }
    units
}

fn in_full(line: &str) -> String {
    let Some(calendar) = line.strip_prefix("OnCalendar=") else { return line.to_owned() };
    let shown = tool("systemd-analyze", &["calendar", calendar]).unwrap();
    let shown = shown.lines().find_map(|line| line.trim().strip_prefix("Normalized form: ")).unwrap();
    format!("OnCalendar={shown}")
}
