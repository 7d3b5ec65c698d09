//! passwd(5), group(5) and shadow(5).

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::text::clean;

/// A line of passwd(5) without the real name and the password.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    pub(super) shell: String,
    /// `None` when it stands in shadow(5).
    pub(super) password: Option<Password>,
}

/// A line of group(5).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) gid: u32,
    pub(super) members: BTreeSet<String>,
}

/// Whether a password lets a user in: L, NP and P of `passwd --status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Password {
    Usable,
    Locked,
    None,
}

impl Password {
    fn of(field: &[u8]) -> Self {
        match field.first() {
            None => Self::None,
            Some(b'*' | b'!') => Self::Locked,
            Some(_) => Self::Usable,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Locked => "locked",
            Self::None => "none",
        }
    }
}

/// Users, each name once: the first counts, as for getpwnam(3).
pub(super) fn parse_users(text: &[u8]) -> Vec<User> {
    let mut names = HashSet::new();
    let mut users = Vec::new();
    for line in lines(text) {
        let fields: Vec<&[u8]> = line.splitn(7, |&byte| byte == b':').collect();
        let [name, password, uid, gid, _real_name, home, shell] = fields[..] else { continue };
        let (Some(name), Some(uid), Some(gid)) = (name_of(name), number(uid), number(gid)) else { continue };
        if names.insert(name.clone()) {
            let password = (password != b"x").then(|| Password::of(password));
            users.push(User { name, uid, gid, home: clean(home), shell: clean(shell), password });
        }
    }
    users
}

/// Groups, each name once.
pub(super) fn parse_groups(text: &[u8]) -> Vec<Group> {
    let mut names = HashSet::new();
    let mut groups = Vec::new();
    for line in lines(text) {
        let fields: Vec<&[u8]> = line.splitn(4, |&byte| byte == b':').collect();
        let [name, _password, gid, members] = fields[..] else { continue };
        let (Some(name), Some(gid)) = (name_of(name), number(gid)) else { continue };
        if names.insert(name.clone()) {
            let members = members.split(|&byte| byte == b',').filter_map(name_of).collect();
            groups.push(Group { name, gid, members });
        }
    }
    groups
}

/// User → whether its password lets it in.
pub(super) fn parse_shadow(text: &[u8]) -> HashMap<String, Password> {
    let mut passwords = HashMap::new();
    for line in lines(text) {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(name), Some(password), Some(_)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Some(name) = name_of(name) {
            passwords.entry(name).or_insert(Password::of(password));
        }
    }
    passwords
}

/// Lines that are neither empty nor comments, as glibc reads these files.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_start)
        .filter(|line| !line.is_empty() && line[0] != b'#')
}

/// `+` and `-` begin lines that include or exclude those of NIS (nsswitch.conf(5)).
fn name_of(field: &[u8]) -> Option<String> {
    let name = clean(field.trim_ascii());
    (!name.is_empty() && !name.starts_with(['+', '-'])).then_some(name)
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}
