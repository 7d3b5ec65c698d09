//! Jobs of cron: crontab(5), anacrontab(5) and the folders of scripts. Neither
//! their commands nor their environment is recorded, as both may hold secrets.

mod crontab;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use contracts::v1::{CronEntryDetails, asset_details::Details};

use self::crontab::{Job, Users, parse_anacrontab, parse_crontab};
use super::{ProbeError, Scan, exists, unless_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

/// Crontabs of the system, whose lines name the user.
const SYSTEM: &str = "etc/crontab";
const SYSTEM_FOLDER: &str = "etc/cron.d";
const ANACRONTAB: &str = "etc/anacrontab";
/// Crontabs of users, named by them: Debian, SUSE, Red Hat.
const USER_FOLDERS: [&str; 3] = ["var/spool/cron/crontabs", "var/spool/cron/tabs", "var/spool/cron"];
/// Scripts, and when those of a folder run.
const SCRIPT_FOLDERS: [(&str, &str); 4] = [
    ("etc/cron.hourly", "@hourly"),
    ("etc/cron.daily", "@daily"),
    ("etc/cron.weekly", "@weekly"),
    ("etc/cron.monthly", "@monthly"),
];

pub(super) const WATCHED: &[&str] = &[
    SYSTEM,
    SYSTEM_FOLDER,
    ANACRONTAB,
    "var/spool/cron/crontabs",
    "var/spool/cron/tabs",
    "var/spool/cron",
    "etc/cron.hourly",
    "etc/cron.daily",
    "etc/cron.weekly",
    "etc/cron.monthly",
];

const MAX_BYTES: u64 = 1024 * 1024;
const MAX_ENTRIES: usize = 20_000;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut found = Found { host, scan: Scan::default(), alike: HashMap::new() };
    // Both kinds of cron pass over files that they take for leftovers, each by
    // a rule of its own: cron(8) and run-parts(8) of Debian, cron(8) of cronie.
    let is_debian = exists(host, "etc/debian_version")?;
    let counts = |name: &str| if is_debian { is_debian_name(name) } else { is_cronie_name(name) };

    found.crontab(SYSTEM, Users::InLines)?;
    for name in found.names(SYSTEM_FOLDER)?.into_iter().filter(|name| counts(name)) {
        found.crontab(&format!("{SYSTEM_FOLDER}/{name}"), Users::InLines)?;
    }
    for folder in USER_FOLDERS {
        for name in found.names(folder)?.into_iter().filter(|name| is_user_crontab(name)) {
            found.crontab(&format!("{folder}/{name}"), Users::All(&name))?;
        }
    }
    if let Some(text) = found.read(ANACRONTAB)? {
        let (jobs, wrong) = parse_anacrontab(&text);
        found.add(ANACRONTAB, jobs, wrong);
    }
    for (folder, schedule) in SCRIPT_FOLDERS {
        for name in found.names(folder)?.into_iter().filter(|name| counts(name)) {
            let path = format!("{folder}/{name}");
            if is_program(host, &path)? {
                found.push(&path, Job { schedule: schedule.to_owned(), user: "root".to_owned() }, name);
            }
        }
    }
    if found.scan.assets.len() == MAX_ENTRIES {
        found.scan.warnings.push(format!("more than {MAX_ENTRIES} jobs, the rest is left out"));
    }
    Ok(found.scan)
}

struct Found<'a> {
    host: &'a HostRoot,
    scan: Scan,
    /// How often there has been a job of this key.
    alike: HashMap<String, usize>,
}

impl Found<'_> {
    /// Names in a folder; none if it is not there or may not be read.
    fn names(&mut self, folder: &str) -> Result<Vec<String>, ProbeError> {
        match self.host.list(folder) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.denied(folder, '/');
                Ok(Vec::new())
            }
            names => {
                let names = unless_absent(folder, names)?;
                // A name that is no text can be neither shown nor opened by it.
                Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
            }
        }
    }

    /// What was known below a folder or of a file, whose keys go on with
    /// `separator`, stays.
    fn denied(&mut self, path: &str, separator: char) {
        let path = clean(path.as_bytes());
        self.scan.warnings.push(format!("/{path}: permission denied, needs root or CAP_DAC_READ_SEARCH"));
        self.scan.unread.push(format!("/{path}{separator}"));
    }

    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, ProbeError> {
        match self.host.read(path, MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.denied(path, ' ');
                Ok(None)
            }
            text => unless_absent(path, text.map(Some)),
        }
    }

    fn crontab(&mut self, path: &str, users: Users<'_>) -> Result<(), ProbeError> {
        if let Some(text) = self.read(path)? {
            let (jobs, wrong) = parse_crontab(&text, users);
            self.add(path, jobs, wrong);
        }
        Ok(())
    }

    fn add(&mut self, path: &str, jobs: Vec<Job>, wrong: usize) {
        if wrong > 0 {
            // Not the lines themselves: they may hold anything.
            let path = clean(path.as_bytes());
            self.scan.warnings.push(format!("/{path}: {wrong} lines are no jobs"));
        }
        for job in jobs {
            self.push(path, job, String::new());
        }
    }

    fn push(&mut self, path: &str, job: Job, script: String) {
        if self.scan.assets.len() == MAX_ENTRIES {
            return;
        }
        let path = format!("/{path}");
        let mut key = format!("{path} {} {}", job.schedule, job.user);
        let alike = self.alike.entry(key.clone()).or_insert(0);
        *alike += 1;
        // Several jobs at one time: their commands, which tell them apart, stay here.
        if *alike > 1 {
            key = format!("{key} {alike}");
        }
        let name = if script.is_empty() { key.clone() } else { path.clone() };
        let details = CronEntryDetails { path, schedule: job.schedule, user: job.user, script };
        self.scan.assets.push(ScannedAsset::new(key, name, Details::CronEntry(details)));
    }
}

/// `tmp.…` is one that is being edited; the others are folders: of cron itself,
/// of at(1), and where SUSE notes when it last ran the scripts.
fn is_user_crontab(name: &str) -> bool {
    !name.starts_with(['.', '#'])
        && !name.starts_with("tmp.")
        && !["atjobs", "atspool", "crontabs", "lastrun", "tabs"].contains(&name)
}

/// run-parts(8) runs what may be executed. What may not be opened is taken to
/// be one: a script that only root may read.
fn is_program(host: &HostRoot, path: &str) -> Result<bool, ProbeError> {
    match host.open(path).and_then(|file| file.metadata()) {
        Ok(metadata) => Ok(metadata.permissions().mode() & 0o111 != 0),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(true),
        Err(error) => unless_absent(path, Err(error)),
    }
}

/// run-parts(8) and cron(8) of Debian: letters, digits, `_` and `-`.
fn is_debian_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// cron(8) of cronie and run-parts of crontabs: all but what editors and
/// package managers leave behind.
fn is_cronie_name(name: &str) -> bool {
    const LEFTOVERS: [&str; 8] = ["~", ",", ".rpmsave", ".rpmorig", ".rpmnew", ".cfsaved", ".swp", ",v"];
    !name.starts_with(['.', '#']) && !LEFTOVERS.iter().any(|suffix| name.ends_with(suffix))
}
