use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn paths(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn keys(owners: &mut Owners, root: &Path, of: &[&str]) -> Vec<String> {
    let found = owners.find(&HostRoot::new(root).unwrap(), &paths(of)).unwrap();
    found.into_iter().map(|(path, owner)| format!("{path} {} {}", owner.natural_key, owner.name)).collect()
}

/// Folders `bin` and `sbin` are links, as on any merged system.
fn tree_of_dpkg() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["usr/bin", "usr/sbin"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    symlink("usr/bin", root.path().join("bin")).unwrap();
    symlink("/usr/sbin", root.path().join("sbin")).unwrap();
    let stanza = |name: &str, status: &str, architecture: &str| {
        format!("Package: {name}\nStatus: {status}\nArchitecture: {architecture}\nVersion: 1\n\n")
    };
    let status = stanza("ssh", "install ok installed", "amd64")
        + &stanza("ssh", "deinstall ok config-files", "i386")
        + &stanza("moved", "install ok installed", "all")
        + &stanza("mover", "install ok installed", "all");
    write(root.path(), "var/lib/dpkg/status", &status);
    write(root.path(), "var/lib/dpkg/info/ssh.list", "/.\n/sbin\n/sbin/sshd\n/usr/bin/ssh\n/bin/other\n");
    write(root.path(), "var/lib/dpkg/info/libx:amd64.list", "/usr/lib/x/tool\n");
    write(root.path(), "var/lib/dpkg/info/libx:i386.list", "/usr/lib/x/tool\n");
    write(root.path(), "var/lib/dpkg/info/moved.list", "/usr/bin/tool\n/usr/bin/local\n");
    write(root.path(), "var/lib/dpkg/info/mover.list", "/usr/bin/tool\n");
    write(
        root.path(),
        "var/lib/dpkg/diversions",
        "/usr/bin/tool\n/usr/bin/tool.old\nmover\n/usr/bin/local\n/usr/bin/local.old\n:\n",
    );
    root
}

#[test]
fn files_of_dpkg_are_found_under_every_name() {
    let root = tree_of_dpkg();
    for (path, expected) in [
        ("/usr/sbin/sshd", Some("dpkg/ssh:amd64 ssh")),
        ("/usr/bin/ssh", Some("dpkg/ssh:amd64 ssh")),
        ("/usr/bin/other", Some("dpkg/ssh:amd64 ssh")),
        ("/usr/lib/x/tool", Some("dpkg/libx:amd64 libx")),
        ("/usr/bin/tool", Some("dpkg/mover:all mover")),
        ("/usr/bin/tool.old", Some("dpkg/moved:all moved")),
        ("/usr/bin/local", None),
        ("/usr/bin/local.old", Some("dpkg/moved:all moved")),
        ("/usr/bin/none", None),
        ("/opt/sbin/sshd", None),
        ("", None),
    ] {
        let expected: Vec<String> = expected.iter().map(|owner| format!("{path} {owner}")).collect();
        assert_eq!(keys(&mut Owners::default(), root.path(), &[path]), expected, "{path}");
    }
}

#[test]
fn databases_are_read_again_only_when_they_change() {
    let root = tree_of_dpkg();
    let mut owners = Owners::default();
    let found = keys(&mut owners, root.path(), &["/usr/bin/ssh"]);
    let list = root.path().join("var/lib/dpkg/info/ssh.list");
    // Written in place, which dpkg never does: nothing that is looked at changes.
    fs::write(&list, "/usr/bin/new\n").unwrap();
    assert_eq!(keys(&mut owners, root.path(), &["/usr/bin/ssh"]), found);
    fs::write(list.with_extension("list-new"), "/usr/bin/new\n").unwrap();
    fs::rename(list.with_extension("list-new"), &list).unwrap();
    assert!(keys(&mut owners, root.path(), &["/usr/bin/ssh"]).is_empty());
    assert_eq!(keys(&mut owners, root.path(), &["/usr/bin/ssh", "/usr/bin/new"]).len(), 1);
}

#[test]
fn files_of_apk_are_found() {
    let root = tempfile::tempdir().unwrap();
    let database =
        "P:base\nV:1\nF:\nR:top\nF:bin\nR:busybox\nF:usr/sbin\n\nP:nginx\nV:2\nF:usr/sbin\nR:nginx\n";
    write(root.path(), "lib/apk/db/installed", database);
    let found =
        keys(&mut Owners::default(), root.path(), &["/bin/busybox", "/usr/sbin/nginx", "/top", "/nginx"]);
    assert_eq!(
        found,
        ["/bin/busybox apk/base base", "/top apk/base base", "/usr/sbin/nginx apk/nginx nginx"]
    );
}

#[test]
fn a_database_that_cannot_be_read_takes_no_answer_away() {
    let root = tree_of_dpkg();
    let host = HostRoot::new(root.path()).unwrap();
    let socket = |program: &str, container: &str| {
        let details = contracts::v1::ListeningSocketDetails {
            executable: program.into(),
            container: container.into(),
            ..Default::default()
        };
        crate::asset::ScannedAsset::new(program, program, Details::ListeningSocket(details))
    };
    let mut owners = Owners::default();
    let packages = |owners: &mut Owners| {
        let assets = vec![socket("/usr/bin/ssh", ""), socket("/usr/bin/ssh", "pod/c"), socket("", "")];
        let mut scan = Scan { assets, ..Scan::default() };
        owners.attribute(&host, &mut scan);
        let package = |asset: &crate::asset::ScannedAsset| match &asset.details {
            Details::ListeningSocket(socket) => (socket.package.clone(), asset.relations.len()),
            other => panic!("no socket: {other:?}"),
        };
        (scan.assets.iter().map(package).collect::<Vec<_>>(), scan.warnings.len())
    };
    let known = vec![("ssh".to_owned(), 1), (String::new(), 0), (String::new(), 0)];
    assert_eq!(packages(&mut owners), (known.clone(), 0));
    // A name longer than any can be: neither there nor absent.
    fs::remove_file(root.path().join("var/lib/dpkg/diversions")).unwrap();
    symlink("x".repeat(300), root.path().join("var/lib/dpkg/diversions")).unwrap();
    assert_eq!(packages(&mut owners), (known, 1));
}
