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

/// Users, each name once: the first counts, as for getpwnam(3); and how many
/// lines could not be read.
pub(super) fn parse_users(text: &[u8]) -> (Vec<User>, usize) {
    let mut names = HashSet::new();
    parse(text, user, |user| names.insert(user.name.clone()))
}

fn user(line: &[u8]) -> Option<User> {
    let fields: Vec<&[u8]> = line.splitn(7, |&byte| byte == b':').collect();
    let [name, password, uid, gid, _real_name, home, shell] = fields[..] else { return None };
    let password = (password != b"x").then(|| Password::of(password));
    let (name, uid, gid) = (name_of(name)?, number(uid)?, number(gid)?);
    Some(User { name, uid, gid, home: clean(home), shell: clean(shell), password })
}

/// Groups, each name once, and how many lines could not be read.
pub(super) fn parse_groups(text: &[u8]) -> (Vec<Group>, usize) {
    let mut names = HashSet::new();
    parse(text, group, |group| names.insert(group.name.clone()))
}

fn group(line: &[u8]) -> Option<Group> {
    let fields: Vec<&[u8]> = line.splitn(4, |&byte| byte == b':').collect();
    let [name, _password, gid, members] = fields[..] else { return None };
    let members = members.split(|&byte| byte == b',').filter_map(name_of).collect();
    Some(Group { name: name_of(name)?, gid: number(gid)?, members })
}

/// What the lines tell that are `new`. Those for NIS count as read.
fn parse<T>(
    text: &[u8],
    read: impl Fn(&[u8]) -> Option<T>,
    mut new: impl FnMut(&T) -> bool,
) -> (Vec<T>, usize) {
    let (mut found, mut unreadable) = (Vec::new(), 0);
    for line in lines(text) {
        match read(line) {
            Some(one) if new(&one) => found.push(one),
            Some(_) => {}
            None => unreadable += usize::from(!matches!(line[0], b'+' | b'-')),
        }
    }
    (found, unreadable)
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
