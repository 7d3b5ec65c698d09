//! Accounts and jobs of cron, against getent(1), id(1), passwd(1), sudo(8) and
//! run-parts(8).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use agent::host::HostRoot;
use agent::probe::Scan;
use contracts::v1::asset_details::Details;
use contracts::v1::{GroupDetails, UserDetails};

use super::{scan, scan_below, tool};

fn users(scan: Scan) -> BTreeMap<String, UserDetails> {
    let user = |details| match details {
        Details::User(user) => (user.user.clone(), user),
        other => panic!("no user: {other:?}"),
    };
    scan.assets.into_iter().map(|asset| user(asset.details)).collect()
}

fn groups(scan: Scan) -> BTreeMap<String, GroupDetails> {
    let group = |details| match details {
        Details::Group(group) => (group.group.clone(), group),
        other => panic!("no group: {other:?}"),
    };
    scan.assets.into_iter().map(|asset| group(asset.details)).collect()
}

#[test]
fn users_are_those_of_getent() {
    // Rule: getent also lists those of other sources, unless it is told which.
    let Some(listed) = tool("getent", &["-s", "files", "passwd"]) else { return };
    let expected: BTreeSet<String> = listed
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.splitn(7, ':').collect();
            [fields[0], fields[2], fields[3], fields[5], fields[6]].join(":")
        })
        .collect();
    let found = users(scan("users"));
    let lines: BTreeSet<String> = found
        .values()
        .map(|user| format!("{}:{}:{}:{}:{}", user.user, user.uid, user.gid, user.home, user.shell))
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(lines, expected);
}

#[test]
fn groups_are_those_of_getent_and_id() {
    let Some(listed) = tool("getent", &["-s", "files", "group"]) else { return };
    let expected: BTreeMap<String, u32> = listed
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[0].to_owned(), fields[2].parse().unwrap())
        })
        .collect();
    let found = groups(scan("groups"));
    assert_eq!(
        found.values().map(|group| (group.group.clone(), group.gid)).collect::<BTreeMap<_, _>>(),
        expected
    );
    for (name, user) in users(scan("users")) {
        let Some(listed) = tool("id", &["-nG", &name]) else { return };
        // Rule: a group that is not in the file has a number and no name.
        let expected: BTreeSet<&str> =
            listed.split_whitespace().filter(|group| group.parse::<u32>().is_err()).collect();
        assert_eq!(user.groups.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{name}");
        for group in expected {
            assert!(found[group].members.contains(&name), "{name} in {group}");
        }
    }
}

#[test]
fn passwords_are_as_passwd_says() {
    let Some(listed) = tool("passwd", &["--status", "--all"]) else { return };
    let expected: BTreeMap<String, String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let state = match words[1] {
                "P" => "usable",
                "L" => "locked",
                "NP" => "none",
                other => panic!("{other} is no state"),
            };
            (words[0].to_owned(), state.to_owned())
        })
        .collect();
    let found: BTreeMap<String, String> =
        users(scan("users")).into_iter().map(|(name, user)| (name, user.password)).collect();
    assert_eq!(found, expected);
}

/// Each entry is an alias of its own and allows one command, named like it, so
/// that sudo's list of commands says which entries apply.
const ENTRIES: [(&str, &str); 16] = [
    ("E01", "alice"),
    ("E02", "%wheel"),
    ("E03", "ALL, !alice"),
    ("E04", "!alice, ALL"),
    ("E05", "#2002"),
    ("E06", "%#3001"),
    ("E07", "TEAM, !%wheel"),
    ("E08", "!TEAM"),
    ("E09", "ALL, !TEAM"),
    ("E10", "NESTED"),
    ("E11", "\"carol\", \"dave\""),
    ("E12", "\"%wheel\""),
    ("E13", "ca\\rol"),
    ("E14", "nobody-here , bob"),
    ("E15", "ALL, !!alice"),
    ("E16", "!ALL, alice"),
];

#[test]
fn entries_of_sudoers_apply_as_sudo_says() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str, mode: u32| {
        let path = root.path().join("etc").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(
        "passwd",
        "root:x:0:0:root:/root:/bin/sh\nalice:x:2001:3001::/:/bin/sh\nbob:x:2002:3002::/:/bin/sh\n\
         carol:x:2003:3001::/:/bin/sh\n",
        0o644,
    );
    write("group", "root:x:0:\nstaff:x:3001:\nothers:x:3002:\nwheel:x:3003:bob,carol\n", 0o644);
    write(
        "shadow",
        "root:*:19000::::::\nalice:*:19000::::::\nbob:*:19000::::::\ncarol:*:19000::::::\n",
        0o600,
    );
    write("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nsudoers: files\n", 0o644);
    let mut sudoers = String::from(
        "Defaults !lecture\n# alice ALL = ALL\nUser_Alias TEAM = alice, %wheel : NESTED = !TEAM, \\\n  carol\n\
         @includedir /etc/sudoers.d\n",
    );
    let mut included = String::new();
    for (place, (alias, members)) in ENTRIES.iter().enumerate() {
        sudoers.push_str(&format!("User_Alias {alias} = {members}\n"));
        // Half of them stand in a file that is included before the aliases.
        let text = if place % 2 == 0 { &mut sudoers } else { &mut included };
        text.push_str(&format!("{alias} ALL = (root) /bin/{alias} # comment\n"));
    }
    write("sudoers", &sudoers, 0o440);
    write("sudoers.d/entries", &included, 0o440);
    write("sudoers.d/left.out", "ALL ALL = (root) /bin/E99\n", 0o440);
    let found = users(scan_below("users", &HostRoot::new(root.path()).unwrap()));

    // sudo itself reads /etc alone: over it, for one process, lies the folder.
    let mounted = "mount --bind \"$0/etc/$1\" \"/etc/$1\"";
    let script = format!(
        "set -e; for file in passwd group shadow nsswitch.conf sudoers; do set -- \"$file\"; {mounted}; done; \
         mount --bind \"$0/etc/sudoers.d\" /etc/sudoers.d; \
         for user in alice bob carol root; do echo \"# $user\"; sudo -n -l -U $user; done"
    );
    let needed = "command -v sudo && test -d /etc/sudoers.d && test \"$(id -u)\" = 0";
    if tool("unshare", &["--mount", "sh", "-c", needed]).is_none() {
        println!("SKIPPED: needs root, sudo and a mount namespace of its own");
        return;
    }
    let root = root.path().to_str().unwrap();
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script, root]).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut expected: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut user = "";
    for line in listed.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            user = name;
            expected.entry(user).or_default();
        }
        if let Some((_, entry)) = line.split_once("(root) /bin/") {
            expected.entry(user).or_default().insert(entry.trim());
        }
    }
    assert_eq!(expected.len(), 4, "{listed}");
    for (user, expected) in expected {
        let found: BTreeSet<&str> = found[user].sudoers.iter().map(String::as_str).collect();
        assert_eq!(found, expected, "{user}");
    }
}

#[test]
fn who_may_use_sudo_here_is_as_sudo_says() {
    if fs::read("/etc/sudoers").is_err() {
        println!("SKIPPED: /etc/sudoers is not there or may not be read");
        return;
    }
    for (name, user) in users(scan("users")) {
        let Ok(output) = Command::new("sudo").args(["-n", "-l", "-U", &name]).env("LC_ALL", "C").output()
        else {
            println!("SKIPPED: no sudo here");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let may = if said.contains("may run the following") {
            true
        } else if said.contains("is not allowed to run sudo") {
            false
        } else {
            println!("SKIPPED: sudo says {}", String::from_utf8_lossy(&output.stderr).trim());
            return;
        };
        assert_eq!(!user.sudoers.is_empty(), may, "{name}: {:?}", user.sudoers);
    }
}

#[test]
fn scripts_are_those_that_run_parts_would_run() {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for asset in scan("cron").assets {
        let Details::CronEntry(entry) = asset.details else { panic!("no job") };
        if !entry.script.is_empty() {
            found.insert(entry.path);
        }
    }
    let mut expected = BTreeSet::new();
    for folder in ["hourly", "daily", "weekly", "monthly"] {
        let folder = format!("/etc/cron.{folder}");
        if fs::metadata(&folder).is_ok() {
            let Some(listed) = tool("run-parts", &["--test", &folder]) else { return };
            expected.extend(listed.lines().map(str::to_owned));
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn lines_of_crontabs_are_jobs_where_crontab_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crontab");
    let root = tempfile::tempdir().unwrap();
    let spool = root.path().join("var/spool/cron/crontabs");
    fs::create_dir_all(&spool).unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let takes = |line: &str| {
        fs::write(&file, format!("{line}\n")).unwrap();
        Command::new("crontab").arg("-n").arg(&file).output().map(|output| output.status.success())
    };
    match (takes("* * * * * x"), takes("nonsense x")) {
        (Ok(true), Ok(false)) => {}
        // Others than Debian's install what they are given.
        other => {
            println!("SKIPPED: no crontab here that only checks: {other:?}");
            return;
        }
    }
    for line in [
        "5 4 * * * x",
        "5 4 * * mon-fri x",
        "5 4 1,15 jan,FEB Sun x",
        "*/15 0-23/2 * * 0-7 x",
        "0 0 31 12 7 x",
        "@reboot x",
        "@annually x",
        "@midnight x",
        "60 * * * * x",
        "* 24 * * * x",
        "* * 0 * * x",
        "* * 32 * * x",
        "* * * 13 * x",
        "* * * * 8 x",
        "jan * * * * x",
        "* * * mon * x",
        // Rule: `1-2-3` is no range, though this crontab passes over what follows
        // one up to the next blank.
        "1,,2 * * * * x",
        "1,2x * * * * x",
        "1/2 * * * * x",
        "*/0 * * * * x",
        "5-1 * * * * x",
        "1~5 * * * * x",
        "* * * jan-feb/2 * x",
        "* * * janu * x",
        "* * * * mon,tue-x x",
        // Rule: `-1 * * * * x` is one of cronie, which keeps it out of its log.
        "+1 * * * * x",
        "a * * * * x",
        "*/x * * * * x",
        "@never x",
        "1 2 3",
    ] {
        let expected = takes(line).unwrap();
        fs::write(spool.join("alice"), format!("{line}\n")).unwrap();
        assert_eq!(scan_below("cron", &host).assets.len() == 1, expected, "{line}");
    }
}
