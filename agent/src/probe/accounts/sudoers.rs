//! sudoers(5): which entries apply to whom. Hosts, commands and options are not
//! looked at: an entry applies when it names the user, whatever it then allows.

mod lexer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;

use self::lexer::{Entry, Item, Line, Who, logical_lines, parse_line};
use super::database::User;
use super::{ProbeError, is_absent};
use crate::host::HostRoot;
use crate::text::clean;

/// The second is where SUSE keeps what a vendor configures; the first hides it.
const FILES: [&str; 2] = ["etc/sudoers", "usr/etc/sudoers"];

const MAX_BYTES: u64 = 1024 * 1024;
/// As deep as sudo itself goes (MAX_SUDOERS_DEPTH).
const MAX_DEPTH: usize = 128;
const MAX_FILES: usize = 1000;
/// Names in the lists of all entries and aliases; together with the users that
/// is the work that a scan takes.
const MAX_ITEMS: usize = 20_000;

/// What the files say of users.
#[derive(Debug, Default)]
pub(super) struct Sudoers {
    /// User lists of the entries.
    lists: Vec<Vec<Item>>,
    /// User_Alias: name → members.
    aliases: HashMap<String, Vec<Item>>,
    items: usize,
    files: usize,
}

/// Reads the main file and all that it includes.
pub(super) fn read_sudoers(host: &HostRoot, warnings: &mut Vec<String>) -> Result<Sudoers, ProbeError> {
    let mut sudoers = Sudoers::default();
    for file in FILES {
        if sudoers.read(host, file, 0, warnings)? {
            break;
        }
    }
    if sudoers.items > MAX_ITEMS || sudoers.files > MAX_FILES {
        warnings.push("sudoers: too long, the rest is left out".to_owned());
    }
    Ok(sudoers)
}

impl Sudoers {
    /// Whether there is such a file.
    fn read(
        &mut self,
        host: &HostRoot,
        path: &str,
        depth: usize,
        warnings: &mut Vec<String>,
    ) -> Result<bool, ProbeError> {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return Ok(true);
        }
        let text = match host.read(path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return denied(path, error, warnings).map(|()| true),
        };
        for line in logical_lines(&text) {
            match parse_line(&line) {
                Line::Entries(entries) => entries.into_iter().for_each(|entry| self.add(entry)),
                Line::Include(included) => {
                    let included = beside(host, path, &included);
                    if !self.read(host, &included, depth + 1, warnings)? {
                        warnings.push(format!("/{path} includes /{included}, which is not there"));
                    }
                }
                Line::IncludeFolder(folder) => {
                    let folder = beside(host, path, &folder);
                    let names = match host.list(&folder) {
                        Ok(names) => names,
                        Err(error) if is_absent(&error) => continue,
                        Err(error) => {
                            denied(&folder, error, warnings)?;
                            continue;
                        }
                    };
                    for name in names {
                        let name = name.to_string_lossy();
                        if !name.ends_with('~') && !name.contains('.') {
                            self.read(host, &format!("{folder}/{name}"), depth + 1, warnings)?;
                        }
                    }
                }
                Line::Other => {}
            }
        }
        Ok(true)
    }

    fn add(&mut self, entry: Entry) {
        let (Entry::Users(list) | Entry::Alias(_, list)) = &entry;
        self.items += list.len();
        if self.items > MAX_ITEMS {
            return;
        }
        match entry {
            Entry::Users(list) => self.lists.push(list),
            Entry::Alias(name, list) => {
                // A second definition is an error to sudo; the first stays.
                self.aliases.entry(name).or_insert(list);
            }
        }
    }

    /// Whether an entry names who no file of the node can tell.
    pub(super) fn looks_elsewhere(&self) -> bool {
        let lists = self.lists.iter().chain(self.aliases.values());
        lists.flatten().any(|item| item.who == Who::Elsewhere)
    }

    /// The entries that apply to a user, as they name it: `alice`, `%sudo`,
    /// `ADMINS`, `ALL`; sorted.
    pub(super) fn that_apply(&self, user: &User, groups: &BTreeMap<&str, u32>) -> Vec<String> {
        let mut asked = Asked { sudoers: self, user, groups, aliases: HashMap::new() };
        let mut found = BTreeSet::new();
        for list in &self.lists {
            if let Some((true, item)) = asked.decide(list) {
                found.insert(item.who.to_string());
            }
        }
        found.into_iter().collect()
    }
}

/// One user before the lists.
struct Asked<'a> {
    sudoers: &'a Sudoers,
    user: &'a User,
    groups: &'a BTreeMap<&'a str, u32>,
    /// What is known of each alias; while it is looked into, `None`, as a circle
    /// of aliases decides nothing.
    aliases: HashMap<&'a str, Option<bool>>,
}

impl<'a> Asked<'a> {
    /// The last item that matches decides (plugins/sudoers/match.c,
    /// `userlist_matches`): whether the list takes the user, and which item it was.
    fn decide(&mut self, list: &'a [Item]) -> Option<(bool, &'a Item)> {
        for item in list.iter().rev() {
            let matches = match &item.who {
                Who::All => Some(true),
                Who::User(name) => (*name == self.user.name).then_some(true),
                Who::Uid(uid) => (*uid == self.user.uid).then_some(true),
                Who::Group(name) => self.groups.contains_key(name.as_str()).then_some(true),
                Who::Gid(gid) => {
                    (*gid == self.user.gid || self.groups.values().any(|group| group == gid)).then_some(true)
                }
                Who::Alias(name) => self.alias(name),
                Who::Elsewhere => None,
            };
            if let Some(matches) = matches {
                return Some((matches != item.negated, item));
            }
        }
        None
    }

    fn alias(&mut self, name: &'a str) -> Option<bool> {
        if let Some(known) = self.aliases.get(name) {
            return *known;
        }
        let Some(list) = self.sudoers.aliases.get(name) else {
            // An alias that is not defined may be a user in capital letters.
            return (name == self.user.name).then_some(true);
        };
        // Bounds the depth too: a name is looked into once.
        self.aliases.insert(name, None);
        let decided = if self.aliases.len() > MAX_DEPTH { None } else { self.decide(list) };
        let decided = decided.map(|(matches, _)| matches);
        self.aliases.insert(name, decided);
        decided
    }
}

/// The name of an included file: beside the one that includes it unless it is
/// absolute, with `%h` for the short name of the host.
fn beside(host: &HostRoot, including: &str, path: &str) -> String {
    let mut path = path.to_owned();
    if path.contains("%h") {
        let name = host.line("proc/sys/kernel/hostname").unwrap_or_default();
        path = path.replace("%h", name.split('.').next().unwrap_or_default());
    }
    match path.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None => match including.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{path}"),
            None => path,
        },
    }
}

fn denied(path: &str, error: std::io::Error, warnings: &mut Vec<String>) -> Result<(), ProbeError> {
    if error.kind() != ErrorKind::PermissionDenied {
        return Err(ProbeError::read(path)(error));
    }
    let path = clean(path.as_bytes());
    warnings.push(format!("/{path}: permission denied, needs root: which of its entries apply is not known"));
    Ok(())
}
