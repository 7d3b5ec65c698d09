use super::*;
use crate::host::HostRoot;
use std::fs;
use std::path::Path;

/// A header of texts.
pub(crate) fn header(texts: &[(u32, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut index = Vec::new();
    for (tag, text) in texts {
        for field in [*tag, 6, data.len() as u32, 1] {
            index.extend(field.to_be_bytes());
        }
        data.extend(text.as_bytes());
        data.push(0);
    }
    let lengths = [(texts.len() as u32).to_be_bytes(), (data.len() as u32).to_be_bytes()];
    [lengths.concat(), index, data].concat()
}

fn package_named(name: &str, version: &str) -> Vec<u8> {
    header(&[(tag::NAME, name), (tag::VERSION, version), (tag::RELEASE, "1"), (tag::ARCH, "noarch")])
}

/// A database of SUSE, as lib/backend/ndb/rpmpkg.c writes it.
fn ndb(packages: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let [magic, slot, head, tail] =
        [b"RpmP", b"Slot", b"BlbS", b"BlbE"].map(|name| u32::from_le_bytes(*name));
    let mut bytes = words(&[magic, 0, 9, 1, 100, 0, 0, 0]);
    let mut blobs = Vec::new();
    for (number, header) in packages {
        let block = (4096 + blobs.len()) as u32 / 16;
        let length = header.len() as u32;
        let padding = (16 - (header.len() + 28) % 16) % 16;
        bytes.extend(words(&[slot, *number, block, (length + 28 + padding as u32) / 16]));
        blobs.extend(words(&[head, *number, 9, length]));
        blobs.extend(header);
        blobs.extend(vec![0; padding]);
        // The checksum is not looked at.
        blobs.extend(words(&[0, length, tail]));
    }
    while bytes.len() < 4096 {
        bytes.extend(words(&[slot, 0, 0, 0]));
    }
    bytes.extend(blobs);
    bytes
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn keys(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Found::default();
    read(&HostRoot::new(root).unwrap(), &mut found).map_err(|error| error.to_string())?;
    let (packages, warnings) = found.finish();
    Ok(packages.into_iter().map(|(_, key)| key).chain(warnings).collect())
}

#[test]
fn a_database_of_suse_is_read_and_broken_headers_are_named() {
    let root = tempfile::tempdir().unwrap();
    let packages = [
        (3, package_named("b", "2")),
        (7, header(&[(tag::NAME, "nameless")])),
        (1, package_named("a", "1")),
        (9, package_named("b", "10")),
        (4, package_named("gpg-pubkey", "x")),
        (12, b"garbage".to_vec()),
    ];
    write(root.path(), "usr/lib/sysimage/rpm/Packages.db", &ndb(&packages));
    fs::create_dir_all(root.path().join("var/lib")).unwrap();
    std::os::unix::fs::symlink("../../usr/lib/sysimage/rpm", root.path().join("var/lib/rpm")).unwrap();
    let path = "usr/lib/sysimage/rpm/Packages.db";
    let expected = [
        "rpm/a.noarch".to_owned(),
        // The one with the higher number was installed later.
        "rpm/b.noarch".to_owned(),
        "rpm/b.noarch/2-1".to_owned(),
        "rpm/gpg-pubkey.noarch/x-1".to_owned(),
        format!("{path}: package 7 is left out: it has no name or no version"),
        format!("{path}: package 12 is left out: shorter than its own beginning"),
    ];
    assert_eq!(keys(root.path()).unwrap(), expected);
}

#[test]
fn a_broken_database_fails_the_probe() {
    let whole = ndb(&[(1, package_named("a", "1"))]);
    let sqlite = b"SQLite format 3\0\x10\x00\x01\x01\x00\x40\x20\x20";
    for (name, bytes, problem) in [
        ("Packages.db", &b""[..], "cannot read"),
        ("Packages.db", b"other magic, but long enough for it", "is no database of packages"),
        ("Packages.db", &whole[..4096], "is cut off"),
        ("Packages.db", &whole[..100], "is cut off"),
        ("rpmdb.sqlite", b"", "cannot read"),
        ("rpmdb.sqlite", &[0; 4096], "is no SQLite database"),
        ("rpmdb.sqlite", &[&sqlite[..], &[0; 4072]].concat(), "a page of its table is of another kind"),
        ("Packages", b"", "is shorter than a page"),
        ("Packages", &[0; 4096], "is no hash of Berkeley DB"),
    ] {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &format!("var/lib/rpm/{name}"), bytes);
        let error = keys(root.path()).unwrap_err();
        assert!(error.contains(problem) && error.contains(&format!("var/lib/rpm/{name}")), "{name}: {error}");
    }
}

#[test]
fn a_transaction_that_was_cut_off_is_no_state_to_report() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "var/lib/rpm/rpmdb.sqlite", &[0; 4096]);
    write(root.path(), "var/lib/rpm/rpmdb.sqlite-journal", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7\0\0");
    assert!(keys(root.path()).unwrap_err().contains("a transaction is under way"));
}

/// A root whose database is another each time that it is opened.
struct Restless {
    root: HostRoot,
    opened: std::cell::Cell<usize>,
    until: usize,
}

impl Files for Restless {
    fn open(&self, path: &str) -> io::Result<File> {
        let file = self.root.open(path)?;
        self.opened.set(self.opened.get() + 1);
        if self.opened.get() <= self.until {
            let packages = vec![(1, package_named("a", &self.opened.get().to_string()))];
            write(self.root.path(), path, &ndb(&packages));
            // Times of files are coarse; its size is not.
            let file = File::options().append(true).open(self.root.path().join(path))?;
            file.set_len(file.metadata()?.len() + 16 * self.opened.get() as u64)?;
        }
        Ok(file)
    }

    fn list(&self, path: &str) -> io::Result<Vec<std::ffi::OsString>> {
        self.root.list(path)
    }
}

#[test]
fn a_database_that_changes_is_read_again_and_not_for_ever() {
    let restless = |until| {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "var/lib/rpm/Packages.db", &ndb(&[]));
        let files = Restless { root: HostRoot::new(root.path()).unwrap(), opened: 0.into(), until };
        let mut found = Found::default();
        let read = read(&files, &mut found).map_err(|error| error.to_string());
        read.map(|()| found.packages[0].0.version.clone())
    };
    // One look for what is there, then three for each attempt.
    assert_eq!(restless(6).unwrap(), "6-1");
    assert!(restless(1000).unwrap_err().contains("changes while it is read"));
}

#[test]
fn source_packages_are_taken_apart() {
    for (file, expected) in [
        ("openssl-3.0.7-27.el9.src.rpm", Some(("openssl", "3.0.7-27.el9"))),
        ("java-21-openjdk-21.0.1-1.nosrc.rpm", Some(("java-21-openjdk", "21.0.1-1"))),
        ("a-1.src.rpm", None),
        ("a.rpm", None),
        ("", None),
    ] {
        assert_eq!(source_package(file), expected);
    }
}

#[test]
fn what_may_be_there_in_several_versions_says_so() {
    for (provides, several) in [
        ("kernel", true),
        ("installonlypkg(kernel-module)", true),
        ("multiversion(kernel)", true),
        ("kernel-headers", false),
        ("config(kernel)", false),
    ] {
        assert_eq!(allows_several(provides.as_bytes()), several, "{provides}");
    }
}

/// Written by SQLite with pages of 512 bytes: packages 1 to 8 and `long` in the
/// database, `package2` deleted and `logged` added in the log alone.
pub(crate) const SQLITE: &[u8] = include_bytes!("samples/rpmdb.sqlite");
pub(crate) const SQLITE_LOG: &[u8] = include_bytes!("samples/rpmdb.sqlite-wal");
/// Written by db5.3_load with pages of 512 bytes.
pub(crate) const BERKELEY_DB: &[u8] = include_bytes!("samples/Packages");

/// Written by rpm's own rpmpkg.c: the same packages, `package2` deleted.
pub(crate) const SUSE: &[u8] = include_bytes!("samples/Packages.db");

#[test]
fn what_rpm_wrote_for_suse_is_read() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "var/lib/rpm/Packages.db", SUSE);
    let names = ["long", "package1", "package3", "package4", "package5", "package6", "package7", "package8"];
    assert_eq!(keys(root.path()).unwrap(), names.map(|name| format!("rpm/{name}.noarch")));
}

#[test]
fn what_is_committed_in_the_log_counts() {
    let all = |numbers: &[u32], more: &[&str]| {
        let numbered = numbers.iter().map(|number| format!("rpm/package{number}.noarch"));
        let mut all: Vec<String> =
            numbered.chain(more.iter().map(|name| format!("rpm/{name}.noarch"))).collect();
        all.sort();
        all
    };
    let without_log = all(&[1, 2, 3, 4, 5, 6, 7, 8], &["long"]);
    let with_log = all(&[1, 3, 4, 5, 6, 7, 8], &["long", "logged"]);
    let mut changed = SQLITE_LOG.to_vec();
    changed[100] ^= 1;
    for (log, expected) in [
        (None, &without_log),
        (Some(SQLITE_LOG), &with_log),
        // Cut off, changed, of another age or empty: there is no commit.
        (Some(&SQLITE_LOG[..SQLITE_LOG.len() - 1]), &without_log),
        (Some(&changed), &without_log),
        (Some(&[&SQLITE_LOG[..16], b"othersalt", &SQLITE_LOG[25..]].concat()), &without_log),
        (Some(b""), &without_log),
        (Some(&[0; 4096]), &without_log),
        // What follows the last commit is left from before.
        (Some(&[SQLITE_LOG, &SQLITE_LOG[32..]].concat()), &with_log),
    ] {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "var/lib/rpm/rpmdb.sqlite", SQLITE);
        if let Some(log) = log {
            write(root.path(), "var/lib/rpm/rpmdb.sqlite-wal", log);
        }
        assert_eq!(&keys(root.path()).unwrap(), expected);
    }
}

#[test]
fn a_tree_that_leads_back_to_itself_has_an_end() {
    let (pages, _) = SQLITE.as_chunks::<512>();
    let inner = pages.iter().position(|page| page[0] == 5).unwrap();
    let mut bytes = SQLITE.to_vec();
    // The rightmost child of an inner page is the page.
    bytes[512 * inner + 8..512 * inner + 12].copy_from_slice(&(inner as u32 + 1).to_be_bytes());
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "var/lib/rpm/rpmdb.sqlite", &bytes);
    let error = keys(root.path()).unwrap_err();
    assert!(error.contains("circle") || error.contains("too deep"), "{error}");
}
