//! Local accounts: `/etc/passwd`, `/etc/group`, what `/etc/sudoers` lets them do,
//! and of `/etc/shadow` no more than whether a password lets them in. Real names
//! and hashes are passed over while the files are parsed and are in no structure.
//! Accounts of other sources (LDAP, SSSD) are not the node's and are not there.

mod database;
mod sudoers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;

use contracts::v1::{AssetKind, GroupDetails, RelationType, UserDetails, asset_details::Details};

use self::database::{Group, Password, User, parse_groups, parse_shadow, parse_users};
use self::sudoers::{Sudoers, read_sudoers};
use super::{ProbeError, Scan, is_absent, unless_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
const SHADOW: &str = "etc/shadow";

pub(super) const WATCHED_BY_USERS: &[&str] =
    &[PASSWD, GROUP, SHADOW, "etc/sudoers", "etc/sudoers.d", "usr/etc/sudoers"];
pub(super) const WATCHED_BY_GROUPS: &[&str] = &[PASSWD, GROUP];

/// Some hundred thousand accounts.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

pub(super) fn scan_users(host: &HostRoot) -> Result<Scan, ProbeError> {
    let (users, unreadable) = read_users(host)?;
    let (groups, _) = read_groups(host)?;
    let mut scan = Scan { warnings: warning(PASSWD, unreadable), ..Scan::default() };
    let passwords = read_passwords(host, &mut scan.warnings)?;
    let sudoers = read_sudoers(host, &mut scan.warnings)?;
    if sudoers.looks_elsewhere() {
        scan.warnings.push("sudoers: netgroups and groups of other sources are not looked up".to_owned());
    }
    let memberships = Memberships::new(&groups);
    scan.assets = users
        .into_iter()
        .map(|user| {
            // shadow(5): without an entry there, nothing lets it in.
            let in_shadow = || Some(passwords.as_ref()?.get(&user.name).copied().unwrap_or(Password::Locked));
            let password = user.password.or_else(in_shadow);
            user_asset(user, password, &memberships, &sudoers)
        })
        .collect();
    Ok(scan)
}

pub(super) fn scan_groups(host: &HostRoot) -> Result<Scan, ProbeError> {
    let (groups, unreadable) = read_groups(host)?;
    let mut by_gid: HashMap<u32, BTreeSet<String>> = HashMap::new();
    for user in read_users(host)?.0 {
        by_gid.entry(user.gid).or_default().insert(user.name);
    }
    let asset = |group: Group| {
        let mut members = group.members;
        members.extend(by_gid.get(&group.gid).into_iter().flatten().cloned());
        let details = GroupDetails {
            group: group.name.clone(),
            gid: group.gid,
            members: members.into_iter().collect(),
        };
        ScannedAsset::new(group.name.clone(), group.name, Details::Group(details))
    };
    let warnings = warning(GROUP, unreadable);
    Ok(Scan { assets: groups.into_iter().map(asset).collect(), warnings, ..Scan::default() })
}

fn warning(path: &str, unreadable: usize) -> Vec<String> {
    (unreadable > 0).then(|| format!("/{path}: {unreadable} lines could not be read")).into_iter().collect()
}

fn read_users(host: &HostRoot) -> Result<(Vec<User>, usize), ProbeError> {
    Ok(parse_users(&unless_absent(PASSWD, host.read(PASSWD, MAX_BYTES))?))
}

fn read_groups(host: &HostRoot) -> Result<(Vec<Group>, usize), ProbeError> {
    Ok(parse_groups(&unless_absent(GROUP, host.read(GROUP, MAX_BYTES))?))
}

/// `None` when it may not be known.
fn read_passwords(
    host: &HostRoot,
    warnings: &mut Vec<String>,
) -> Result<Option<HashMap<String, Password>>, ProbeError> {
    match host.read(SHADOW, MAX_BYTES) {
        Ok(text) => Ok(Some(parse_shadow(&text))),
        Err(error) if is_absent(&error) => Ok(Some(HashMap::new())),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            warnings.push(format!(
                "/{SHADOW}: permission denied, needs root: whether passwords let users in is not known"
            ));
            Ok(None)
        }
        Err(error) => Err(ProbeError::read(SHADOW)(error)),
    }
}

/// Groups by their members.
struct Memberships<'a> {
    by_member: HashMap<&'a str, Vec<&'a Group>>,
    by_gid: BTreeMap<u32, &'a Group>,
}

impl<'a> Memberships<'a> {
    fn new(groups: &'a [Group]) -> Self {
        let mut memberships = Self { by_member: HashMap::new(), by_gid: BTreeMap::new() };
        for group in groups {
            memberships.by_gid.entry(group.gid).or_insert(group);
            for member in &group.members {
                memberships.by_member.entry(member).or_default().push(group);
            }
        }
        memberships
    }

    fn of(&self, user: &User) -> BTreeMap<&'a str, u32> {
        let named = self.by_member.get(user.name.as_str()).into_iter().flatten();
        named.chain(self.by_gid.get(&user.gid)).map(|group| (group.name.as_str(), group.gid)).collect()
    }
}

fn user_asset(
    user: User,
    password: Option<Password>,
    memberships: &Memberships<'_>,
    sudoers: &Sudoers,
) -> ScannedAsset {
    let groups = memberships.of(&user);
    let details = UserDetails {
        user: user.name.clone(),
        uid: user.uid,
        gid: user.gid,
        groups: groups.keys().map(|&name| name.to_owned()).collect(),
        sudoers: sudoers.that_apply(&user, &groups),
        home: user.home,
        shell: user.shell,
        password: password.map(|password| password.as_str().to_owned()).unwrap_or_default(),
    };
    let mut asset = ScannedAsset::new(user.name.clone(), user.name, Details::User(details));
    for name in groups.keys() {
        asset = asset.related(RelationType::MemberOf, AssetKind::Group, *name);
    }
    asset
}
