use super::*;
use std::fs;

fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = HostRoot::new(root.path()).unwrap();
    (root, host)
}

const ACCOUNTS: [(&str, &str); 3] = [
    (
        PASSWD,
        "# comment\nroot:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000:Alice Real,,,:/home/alice:/bin/zsh\n\
         bob::1001:100:Bob:/home/bob:\nalice:x:5:5:second:/:/bin/sh\n+nis::::::\n\
         svc:*:999:999::/:/usr/sbin/nologin\nold:$1$hash:7:7::/:/bin/sh\nnobody:x:65534:65534::/:/x:y\n",
    ),
    (
        GROUP,
        "root:x:0:\nsudo:x:27:alice,carol\nalice:x:1000:\nusers:x:100:\ndocker:x:990:alice,alice,bob\n\
         dup:x:1000:\nsudo:x:28:bob\n",
    ),
    (SHADOW, "root:!:1::::::\nalice:$y$hash:1::::::\nbob:*:1::::::\n"),
];

fn users(files: &[(&str, &str)]) -> (BTreeMap<String, UserDetails>, Vec<String>) {
    let (_root, host) = node(files);
    let scan = scan_users(&host).unwrap();
    let users = scan.assets.into_iter().map(|asset| match asset.details {
        Details::User(user) => (asset.natural_key, user),
        other => panic!("no user: {other:?}"),
    });
    (users.collect(), scan.warnings)
}

#[test]
fn users_are_those_of_passwd() {
    let (users, warnings) = users(&ACCOUNTS);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(users.keys().collect::<Vec<_>>(), ["alice", "bob", "nobody", "old", "root", "svc"]);
    let expected = UserDetails {
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        home: "/home/alice".into(),
        shell: "/bin/zsh".into(),
        groups: ["alice", "docker", "sudo"].map(String::from).into(),
        sudoers: vec![],
        password: "usable".into(),
    };
    assert_eq!(users["alice"], expected);
    let passwords: Vec<(&str, &str)> =
        users.iter().map(|(name, user)| (name.as_str(), user.password.as_str())).collect();
    assert_eq!(
        passwords,
        [
            ("alice", "usable"),
            ("bob", "none"),
            ("nobody", "locked"),
            ("old", "usable"),
            ("root", "locked"),
            ("svc", "locked")
        ]
    );
    assert_eq!(users["nobody"].shell, "/x:y");
}

#[test]
fn groups_have_those_whose_primary_group_they_are() {
    let (_root, host) = node(&ACCOUNTS);
    let scan = scan_groups(&host).unwrap();
    let groups: Vec<(String, u32, String)> = scan
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::Group(group) => (asset.natural_key, group.gid, group.members.join(" ")),
            other => panic!("no group: {other:?}"),
        })
        .collect();
    let expected = [
        ("root", 0, "root"),
        ("sudo", 27, "alice carol"),
        ("alice", 1000, "alice"),
        ("users", 100, "bob"),
        ("docker", 990, "alice bob"),
        ("dup", 1000, "alice"),
    ];
    assert_eq!(groups, expected.map(|(name, gid, members)| (name.to_owned(), gid, members.to_owned())));
}

#[test]
fn a_user_is_related_to_its_groups() {
    let (_root, host) = node(&ACCOUNTS);
    let scan = scan_users(&host).unwrap();
    let alice = scan.assets.iter().find(|asset| asset.natural_key == "alice").unwrap();
    let related: Vec<&str> = alice.relations.iter().map(|relation| relation.natural_key.as_str()).collect();
    assert_eq!(related, ["alice", "docker", "sudo"]);
    assert_eq!(alice.relations[0].r#type(), RelationType::MemberOf);
    assert_eq!(alice.relations[0].kind(), AssetKind::Group);
}

#[test]
fn neither_real_names_nor_hashes_are_reported() {
    let (_root, host) = node(&ACCOUNTS);
    for scan in [scan_users(&host), scan_groups(&host)] {
        let shown = format!("{:?}", scan.unwrap());
        for secret in ["Real", "hash", "Bob", "$y$", "$1$"] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }
}

#[test]
fn what_cannot_be_read_fails_the_probes_and_what_is_absent_does_not() {
    let (root, host) = node(&[]);
    assert!(scan_users(&host).unwrap().assets.is_empty());
    fs::create_dir_all(root.path().join("etc/sudoers.d")).unwrap();
    fs::write(root.path().join("etc/sudoers"), "@includedir /etc/sudoers.d\n@include gone\n").unwrap();
    assert_eq!(scan_users(&host).unwrap().warnings, ["/etc/sudoers includes /etc/gone, which is not there"]);
    // A name longer than any can be: neither there nor absent.
    let unreadable = "x".repeat(300);
    for path in [PASSWD, GROUP, SHADOW, "etc/sudoers.d/a"] {
        let link = root.path().join(path);
        std::os::unix::fs::symlink(&unreadable, &link).unwrap();
        let error = scan_users(&host).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {path}:")), "{error}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn lines_that_cannot_be_read_are_counted_and_the_rest_is_complete() {
    let broken =
        "a:x:1:1::/:/bin/sh\nbroken:x:a:b:c:d:e\n+nis::::::\n-nis\n\nshort:x:1\n::::::\nb:x:2:2::/:\n";
    let (_root, host) = node(&[(PASSWD, broken), (GROUP, "a:x:1:\nb:x\n+\nc:x:-1:\n")]);
    let (users, groups) = (scan_users(&host).unwrap(), scan_groups(&host).unwrap());
    let keys = |scan: &Scan| scan.assets.iter().map(|one| one.natural_key.clone()).collect::<Vec<_>>();
    assert_eq!((keys(&users), keys(&groups)), (vec!["a".into(), "b".into()], vec!["a".into()]));
    assert_eq!(users.warnings, ["/etc/passwd: 3 lines could not be read"]);
    assert_eq!(groups.warnings, ["/etc/group: 2 lines could not be read"]);
}

fn applying(files: &[(&str, &str)], name: &str) -> (Vec<String>, Vec<String>) {
    let mut all = ACCOUNTS.to_vec();
    all.extend(files);
    let (users, warnings) = users(&all);
    (users[name].sudoers.clone(), warnings)
}

#[test]
fn entries_of_sudoers_apply_to_those_they_name() {
    for (text, user, expected) in [
        ("alice ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL) ALL\nbob ALL=ALL\n", "alice", &["%sudo", "alice"][..]),
        ("alice ALL=(ALL:ALL) ALL\n", "bob", &[]),
        ("#1000 ALL=ALL\n# 1000 ALL=ALL\n#alice ALL=ALL\n", "alice", &["#1000"]),
        ("%#990 ALL=ALL\n%#1000 ALL=ALL\n%#7 ALL=ALL\n", "alice", &["%#1000", "%#990"]),
        ("ALL, !alice ALL=ALL\n", "alice", &[]),
        ("ALL, !alice ALL=ALL\n", "bob", &["ALL"]),
        ("!alice, ALL ALL=ALL\n", "alice", &["ALL"]),
        ("bob , alice,carol ALL=ALL\n", "alice", &["alice"]),
        (
            "User_Alias ADMINS = bob, %sudo : OTHERS = bob\nOTHERS ALL=ALL\nADMINS ALL=ALL\n",
            "alice",
            &["ADMINS"],
        ),
        ("ADMINS ALL=ALL\nUser_Alias ADMINS = ALL, !IN\nUser_Alias IN = alice\n", "alice", &[]),
        ("ADMINS ALL=ALL\nUser_Alias ADMINS = ALL, !IN\nUser_Alias IN = alice\n", "bob", &["ADMINS"]),
        ("ADMINS ALL=ALL\nUser_Alias ADMINS = !IN\nUser_Alias IN = !alice\n", "alice", &["ADMINS"]),
        // A circle decides nothing.
        ("A ALL=ALL\nUser_Alias A = B\nUser_Alias B = A\n", "alice", &[]),
        ("al\\\nice ALL = \\\n ALL\n", "alice", &["alice"]),
        ("# comment \\\nalice ALL=ALL\n", "alice", &["alice"]),
        ("\"alice\" ALL=ALL\n", "alice", &["alice"]),
        ("\"%sudo\" ALL=ALL\n", "alice", &["%sudo"]),
        ("al\\ice ALL=ALL\r\n", "alice", &["alice"]),
        ("Defaults:alice !authenticate, secure_path=/bin\nDefaults env_reset\n", "alice", &[]),
        ("Cmnd_Alias X = /bin/x\nRunas_Alias alice = a\nHost_Alias H=h\n", "alice", &[]),
        ("alice ALL\nalice\n,alice ALL=ALL\n", "alice", &[]),
        ("%users ALL=ALL\n", "bob", &["%users"]),
    ] {
        let (found, warnings) = applying(&[("etc/sudoers", text)], user);
        assert_eq!(found, expected, "{text}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn included_files_count_as_if_they_stood_there() {
    let files = [
        ("etc/sudoers", "@includedir /etc/sudoers.d\n#include /etc/sudoers.%h\n@include \"local\"\n"),
        ("etc/sudoers.d/10-alice", "User_Alias TEAM = alice\nTEAM ALL=ALL\n"),
        ("etc/sudoers.d/backup~", "%sudo ALL=ALL\n"),
        ("etc/sudoers.d/old.conf", "%sudo ALL=ALL\n"),
        ("etc/sudoers.node1", "%docker ALL=ALL\n"),
        ("etc/local", "alice ALL=ALL\n@include local\n"),
        ("usr/etc/sudoers", "ALL ALL=ALL\n"),
        ("proc/sys/kernel/hostname", "node1.example\n"),
    ];
    let (found, warnings) = applying(&files, "alice");
    assert_eq!(found, ["%docker", "TEAM", "alice"]);
    assert!(warnings.is_empty(), "{warnings:?}");
    // What a vendor configures is hidden by what is in /etc.
    assert_eq!(applying(&files[6..], "bob").0, ["ALL"]);
}

#[test]
fn those_of_other_sources_are_told() {
    let (found, warnings) = applying(&[("etc/sudoers", "+admins, %:domain\\ admins ALL=ALL\n")], "alice");
    assert!(found.is_empty());
    assert_eq!(warnings, ["sudoers: netgroups and groups of other sources are not looked up"]);
}

#[test]
fn files_that_include_each_other_end() {
    let twice = "@include a\n@include a\nalice ALL=ALL\n";
    let (found, warnings) = applying(&[("etc/sudoers", twice), ("etc/a", twice)], "alice");
    assert_eq!(found, ["alice"]);
    assert_eq!(warnings, ["sudoers: too long, the rest is left out"]);
}
