use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn jobs(text: &str) -> (Vec<String>, usize) {
    let (jobs, wrong) = parse_crontab(text.as_bytes(), Users::InLines);
    (jobs.into_iter().map(|job| format!("{} {}", job.schedule, job.user)).collect(), wrong)
}

#[test]
fn lines_are_read_as_cron_reads_them() {
    for (text, expected, wrong) in [
        ("17 *\t* * *\troot\tcd / && run-parts /etc/cron.hourly\n", &["17 * * * * root"][..], 0),
        ("@reboot www-data /x\n@daily root y", &["@reboot www-data", "@daily root"], 0),
        ("# c\n  # c\n\nSHELL=/bin/sh\nMAILTO = a\n\"A B\"=c\nX= 1 2 3 4 root z\n", &[], 0),
        ("*/5 0-23/2 1,15 jan-mar mon,3-5 root x=1 %\n", &["*/5 0-23/2 1,15 jan-mar mon,3-5 root"], 0),
        ("-0 4 * * * root x\n0~30 ~ * * Sun root x\n", &["0 4 * * * root", "0~30 ~ * * Sun root"], 0),
        (
            "60 * * * * root x\n* 24 * * * root x\n* * 0 * * root x\n* * * 13 * root x\n* * * * 8 root x",
            &[],
            5,
        ),
        ("* * * * root\n* * * * * root\n@never root x\n*/0 * * * * root x\n+5 * * * * root x\n", &[], 5),
        // The user is missing: what stands there may be anything.
        ("* * * * * /usr/bin/curl -u a:b\n* * * * * PASS=x cmd\n* * * * * a:b cmd\n", &[], 3),
    ] {
        assert_eq!(jobs(text), (expected.iter().map(|&job| job.to_owned()).collect(), wrong), "{text}");
    }
    let (own, wrong) =
        parse_crontab(b"5 4 * * * backup --secret\n@weekly x\n5 4 * * *\n", Users::All("alice"));
    assert_eq!((own.len(), wrong), (2, 1));
    assert_eq!(own[0], Job { schedule: "5 4 * * *".into(), user: "alice".into() });
    let anacrontab =
        b"START_HOURS_RANGE=3-22\n1\t5\tcron.daily\tnice x\n7 25 w x\n@monthly 45 m x\n30 9 o x\nx y\n";
    let (jobs, wrong) = parse_anacrontab(anacrontab);
    let schedules: Vec<&str> = jobs.iter().map(|job| job.schedule.as_str()).collect();
    assert_eq!((schedules, wrong), (vec!["@daily", "@weekly", "@monthly", "every 30 days"], 1));
}

fn node(debian: bool) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str, mode: u32| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    if debian {
        write("etc/debian_version", "12.1\n", 0o644);
    }
    write("etc/crontab", "17 * * * * root secret-command\n17 * * * * root other\nnonsense\n", 0o644);
    write("etc/cron.d/php", "9,39 * * * * root x\n", 0o644);
    write("etc/cron.d/0hourly.site", "1 1 * * * root x\n", 0o644);
    write("etc/cron.d/php.rpmsave", "9 * * * * root x\n", 0o644);
    write("etc/cron.d/.placeholder", "", 0o644);
    write("etc/cron.daily/logrotate", "#!/bin/sh\nsecret-command\n", 0o755);
    write("etc/cron.daily/disabled", "#!/bin/sh\n", 0o644);
    write("etc/cron.weekly/man-db", "#!/bin/sh\n", 0o700);
    write("var/spool/cron/crontabs/alice", "@daily secret-command\n", 0o600);
    write("var/spool/cron/crontabs/tmp.Xy12", "@daily secret-command\n", 0o600);
    write("var/spool/cron/bob", "0 3 * * * secret-command\n", 0o600);
    root
}

fn keys(root: &tempfile::TempDir) -> (Vec<String>, Vec<String>) {
    let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
    assert!(!format!("{scan:?}").contains("secret-command"));
    (scan.assets.into_iter().map(|asset| asset.natural_key).collect(), scan.warnings)
}

#[test]
fn jobs_are_found_where_cron_looks() {
    let common = ["/etc/crontab 17 * * * * root", "/etc/crontab 17 * * * * root 2"];
    let users = ["/var/spool/cron/crontabs/alice @daily alice", "/var/spool/cron/bob 0 3 * * * bob"];
    let scripts = ["/etc/cron.daily/logrotate @daily root", "/etc/cron.weekly/man-db @weekly root"];
    let php = "/etc/cron.d/php 9,39 * * * * root";
    let (found, warnings) = keys(&node(true));
    assert_eq!(found, [&common[..], &[php], &users, &scripts].concat());
    assert_eq!(warnings, ["/etc/crontab: 1 lines are no jobs"]);
    let (found, _) = keys(&node(false));
    let with_dot = "/etc/cron.d/0hourly.site 1 1 * * * root";
    assert_eq!(found, [&common[..], &[with_dot, php], &users, &scripts].concat());
}

#[test]
fn a_script_is_named() {
    let scan = scan(&HostRoot::new(node(true).path()).unwrap()).unwrap();
    let Some(Details::CronEntry(entry)) = scan.assets.last().map(|asset| asset.details.clone()) else {
        panic!("no job")
    };
    assert_eq!((entry.path.as_str(), entry.script.as_str()), ("/etc/cron.weekly/man-db", "man-db"));
}

#[test]
fn what_cannot_be_read_fails_the_probe() {
    let unreadable = "x".repeat(300);
    for path in ["etc/crontab", "etc/cron.d", "etc/cron.daily/x", "var/spool/cron/x", "etc/anacrontab"] {
        let root = node(true);
        let link = root.path().join(path);
        let _ = fs::remove_file(&link);
        let _ = fs::remove_dir_all(&link);
        symlink(&unreadable, link).unwrap();
        let error = scan(&HostRoot::new(root.path()).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {path}:")), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(keys(&empty), (vec![], vec![]));
}

#[test]
fn what_may_not_be_read_is_not_gone() {
    let root = node(true);
    let host = HostRoot::new(root.path()).unwrap();
    let mut found = Found { host: &host, scan: Scan::default(), alike: HashMap::new() };
    found.denied("var/spool/cron/crontabs", '/');
    found.denied(SYSTEM, ' ');
    let scan = scan(&host).unwrap();
    let unread =
        |key: &str| found.scan.unread.iter().filter(|prefix| key.starts_with(prefix.as_str())).count();
    let kept: Vec<&str> =
        scan.assets.iter().map(|asset| asset.natural_key.as_str()).filter(|key| unread(key) > 0).collect();
    assert_eq!(
        kept,
        [
            "/etc/crontab 17 * * * * root",
            "/etc/crontab 17 * * * * root 2",
            "/var/spool/cron/crontabs/alice @daily alice"
        ]
    );
    assert_eq!(found.scan.warnings.len(), 2);
}
