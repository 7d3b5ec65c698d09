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
    link("etc/systemd/system/getty.target.wants/getty@tty1.service", "/lib/systemd/system/getty@.service");
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
    assert_eq!((ssh.description.as_str(), ssh.path.as_str()), ("ours", "/etc/systemd/system/ssh.service"));
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

fn unit(root: &tempfile::TempDir, name: &str) -> ScannedAsset {
    let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
    scan.assets.into_iter().find(|asset| asset.natural_key == name).unwrap()
}

#[test]
fn timers_sockets_and_paths_say_what_they_start_and_when() {
    let root = tempfile::tempdir().unwrap();
    let system = root.path().join("etc/systemd/system");
    let write = |path: &str, text: &str| {
        let path = system.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("backup.timer", "[Timer]\nOnCalendar=daily\nOnBootSec=5min\n");
    write("named.timer", "[Timer]\nOnCalendar=daily\nUnit=other.service\n");
    write("backup.timer.d/20-b.conf", "[Timer]\nOnCalendar=\nOnCalendar=hourly\n");
    write("backup.timer.d/10-a.conf", "[Timer]\nOnCalendar=weekly\n");
    write("app.socket", "[Socket]\nListenStream=80\n");
    write("each.socket", "[Socket]\nAccept=yes\n");
    write("other.socket", "[Socket]\nService=app.service\n");
    write("spool.path", "[Path]\nPathExists=/x\n");
    write("template@.timer", "[Timer]\nUnit=x@%i.service\n");
    write("my-app.service", "[Service]\nUser=one\nExecStart=/bin/x --token=secret\n");
    write("my-.service.d/10-user.conf", "[Service]\nUser=two\n");
    write("service.d/10-user.conf", "[Service]\nUser=three\n");
    write("service.d/20-user.conf", "[Unit]\nDescription=of all\n");
    write("off.timer", "");
    symlink("/etc/systemd/system/backup.timer", system.join("alias.timer")).unwrap();
    for (name, starts, schedule) in [
        ("backup.timer", "backup.service", &["OnCalendar=hourly"][..]),
        ("named.timer", "other.service", &["OnCalendar=daily"]),
        ("alias.timer", "backup.service", &["OnCalendar=daily", "OnBootSec=5min"]),
        ("app.socket", "app.service", &[]),
        ("each.socket", "each@.service", &[]),
        ("other.socket", "app.service", &[]),
        ("spool.path", "spool.service", &[]),
        ("template@.timer", "x@%i.service", &[]),
        ("off.timer", "", &[]),
        ("my-app.service", "", &[]),
    ] {
        let asset = unit(&root, name);
        let Details::SystemdUnit(details) = &asset.details else { panic!("no unit") };
        assert_eq!(
            (details.starts.as_str(), &details.schedule[..]),
            (starts, &schedule.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()[..]),
            "{name}"
        );
        let related: Vec<&str> =
            asset.relations.iter().map(|relation| relation.natural_key.as_str()).collect();
        let expected = if starts.is_empty() || starts.contains('%') { vec![] } else { vec![starts] };
        assert_eq!(related, expected, "{name}");
        assert!(asset.relations.iter().all(|relation| relation.r#type() == RelationType::Starts));
    }
    let asset = unit(&root, "my-app.service");
    let Details::SystemdUnit(details) = &asset.details else { panic!("no unit") };
    assert_eq!((details.user.as_str(), details.description.as_str()), ("two", "of all"));
    assert_eq!(
        details.drop_ins,
        ["/etc/systemd/system/my-.service.d/10-user.conf", "/etc/systemd/system/service.d/20-user.conf"]
    );
    assert!(!format!("{asset:?}").contains("secret"));
}
