use super::*;
use crate::host::HostRoot;

fn parse(text: &[u8]) -> Found {
    let mut found = Found::default();
    collect(Stanzas::new(text), "status", false, &mut found).unwrap();
    found
}

fn read_below(root: &std::path::Path) -> Result<Found, ProbeError> {
    let mut found = Found::default();
    read(&HostRoot::new(root).unwrap(), &mut found)?;
    Ok(found)
}

#[test]
fn reads_all_fields() {
    let found = parse(
        b"Package: libssl3\nStatus: install ok installed\nPriority: optional\nSection: libs\n\
        Installed-Size: 6028\nMaintainer: Debian OpenSSL Team <x@y>\nArchitecture: amd64\n\
        Multi-Arch: same\nSource: openssl (3.0.17-1)\nVersion: 3.0.17-1~deb12u2\n\
        Depends: libc6 (>= 2.34)\nDescription: Secure Sockets Layer toolkit\n long: text\n .\n more\n\n",
    );
    assert!(found.warnings.is_empty());
    let expected = PackageDetails {
        package: "libssl3".into(),
        version: "3.0.17-1~deb12u2".into(),
        architecture: "amd64".into(),
        manager: "dpkg".into(),
        source: "openssl".into(),
        source_version: "3.0.17-1".into(),
        maintainer: "Debian OpenSSL Team <x@y>".into(),
        section: "libs".into(),
        installed_size_bytes: 6028 * 1024,
        status: "installed".into(),
        summary: "Secure Sockets Layer toolkit".into(),
        ..PackageDetails::default()
    };
    assert_eq!(found.packages[0].0, expected);
}

#[test]
fn only_what_is_on_the_disk_counts() {
    for (status, expected) in [
        ("install ok installed", Some("installed")),
        ("hold ok installed", Some("installed")),
        ("install ok unpacked", Some("unpacked")),
        ("install reinstreq half-configured", Some("half-configured")),
        ("install ok triggers-pending", Some("triggers-pending")),
        ("deinstall ok config-files", None),
        ("purge ok not-installed", None),
    ] {
        let found = parse(format!("Package: a\nStatus: {status}\nArchitecture: all\n").as_bytes());
        assert_eq!(found.packages.first().map(|(package, _)| package.status.as_str()), expected, "{status}");
        assert!(found.warnings.is_empty());
    }
}

#[test]
fn bad_stanzas_are_named_and_the_rest_is_complete() {
    let found = parse(
        b"Version: 1\n\n\n\nPackage: no-status\nVersion: 1\n\n\
        no colon here\nPackage: latin\nStatus: install ok installed\nMaintainer: J\xf6rg\0\nArchitecture: all\n\
        Installed-Size: many\r\n \n\r\nPACKAGE: last\nstatus: install ok installed\nArchitecture: all",
    );
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    let names: Vec<&str> = found.packages.iter().map(|(package, _)| package.package.as_str()).collect();
    assert_eq!(names, ["latin", "last"]);
    assert_eq!(found.packages[0].0.maintainer, "J\u{fffd}rg");
    assert_eq!(found.packages[0].0.installed_size_bytes, 0);
}

#[test]
fn garbage_gives_no_package_and_an_endless_line_an_error() {
    assert!(parse(b"").packages.is_empty());
    assert!(parse(&[0xff; 4096]).packages.is_empty());
    let endless = vec![b'x'; 2 * 1024 * 1024];
    let mut found = Found::default();
    assert!(collect(Stanzas::new(endless.as_slice()), "status", false, &mut found).is_err());
}

#[test]
fn status_d_holds_installed_packages() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(STATUS_FOLDER);
    std::fs::create_dir_all(&database).unwrap();
    std::fs::write(database.join("base"), "Package: base-files\nVersion: 12\nArchitecture: amd64\n").unwrap();
    std::fs::write(database.join("base.md5sums"), "0123  etc/x\n").unwrap();
    let found = read_below(folder.path()).unwrap();
    assert_eq!(found.packages.len(), 1);
    assert_eq!(found.packages[0].0.status, "installed");
}

#[test]
fn what_cannot_be_read_of_status_d_fails_the_probe() {
    // A name longer than any can be: neither there nor absent.
    let unreadable = "x".repeat(300);
    for path in [STATUS_FOLDER, "var/lib/dpkg/status.d/base"] {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(path);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&unreadable, link).unwrap();
        let error = read_below(folder.path()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot read {path}:")), "{error}");
    }
}

#[test]
fn what_is_no_file_in_status_d_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(STATUS_FOLDER);
    std::fs::create_dir_all(database.join("folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", database.join("dangling")).unwrap();
    std::os::unix::fs::symlink("circle", database.join("circle")).unwrap();
    let found = read_below(folder.path()).unwrap();
    assert_eq!((found.packages.len(), found.warnings.len()), (0, 3), "{:?}", found.warnings);
}

#[test]
fn a_node_without_dpkg_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let found = read_below(folder.path()).unwrap();
    assert!(found.packages.is_empty() && found.warnings.is_empty());
}

#[test]
fn a_file_whose_name_is_no_text_is_a_warning() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join(STATUS_FOLDER);
    std::fs::create_dir_all(&database).unwrap();
    std::fs::write(database.join(std::ffi::OsStr::from_bytes(b"b\xffse")), "Package: a\n").unwrap();
    let found = read_below(folder.path()).unwrap();
    assert_eq!((found.packages.len(), found.warnings.len()), (0, 1));
}

#[test]
fn more_than_any_node_has_is_an_error_and_bounded() {
    let stanza = |name: usize, text: usize| {
        format!(
            "Package: p{name}\nStatus: install ok installed\nVersion: 1\nDescription: {}\n\n",
            "x".repeat(text)
        )
    };
    // Long texts are cut; all together they are still too long.
    let long: String = (0..15_000).map(|name| stanza(name, 9000)).collect();
    let mut found = Found::default();
    let error = collect(Stanzas::new(long.as_bytes()), "status", false, &mut found).unwrap_err();
    assert_eq!(error.to_string(), "status: its packages take more than 48 MiB");
    let bad: String = (0..1000).map(|_| "Version: 1\n\n").collect();
    let (packages, warnings) = parse(bad.as_bytes()).finish();
    assert_eq!((packages.len(), warnings.len()), (0, 101));
    assert_eq!(warnings[100], "and 900 more");
}
