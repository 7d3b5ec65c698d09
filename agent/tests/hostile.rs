//! A node that is out to take the agent's memory.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};

const MIB: u64 = 1024 * 1024;

/// A file of a gigabyte, almost all of it holes: `beginning`, then lines of
/// `first` and zeros.
fn huge(path: &Path, beginning: &str, first: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    file.write_all_at(beginning.as_bytes(), 0).unwrap();
    for line in 1..1200 {
        file.write_all_at(&[b'\n', first], line * 900 * 1024).unwrap();
    }
}

/// Alone in this file: what is measured is the largest of all child processes.
#[test]
fn databases_of_a_gigabyte_are_named_take_no_memory_and_stop_no_other_probe() {
    for (path, beginning, problem) in [
        ("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\n", "larger than 512 MiB"),
        ("lib/apk/db/installed", "P:a\nV:1\n", "larger than 512 MiB"),
        ("var/lib/rpm/Packages.db", "RpmP\0\0\0\0", "a slot is overwritten"),
        ("var/lib/rpm/rpmdb.sqlite", "SQLite format 3\0\x10\0", "a page of its table is of another kind"),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::write(root.path().join("proc/sys/kernel/hostname"), "still-here\n").unwrap();
        huge(&root.path().join(path), beginning, b' ');
        if path.ends_with("Packages.db") {
            // As many slots as the file has room for.
            let file = File::options().write(true).open(root.path().join(path)).unwrap();
            file.write_all_at(&[0xff, 0xff, 0, 0], 12).unwrap();
        }
        let output = Command::new(env!("CARGO_BIN_EXE_assettrack-agent"))
            .args(["scan", "--host-root", root.path().to_str().unwrap()])
            .output()
            .unwrap();
        let (found, told) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(told.lines().any(|line| line.contains(path) && line.contains(problem)), "{told}");
        assert!(found.contains("still-here"), "{found}");
        let most = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()).unwrap() * 1024;
        assert!(most > MIB && most < 48 * MIB, "{path}: {} MiB", most / MIB);
        println!("{path}: {} KiB", most / 1024);
    }
}
