use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn both(build: impl Fn(&Path)) -> (tempfile::TempDir, [HostRoot; 2]) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("host");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    fs::write(outer.path().join("secret"), "outside").unwrap();
    fs::write(root.join("usr/lib/os-release"), "ID=inside\n").unwrap();
    build(&root);
    let roots = [HostRoot::new(&root).unwrap(), HostRoot::new(&root).unwrap().without_openat2()];
    (outer, roots)
}

#[test]
fn links_are_resolved_below_the_root() {
    let (_outer, roots) = both(|root| {
        symlink("../usr/lib/os-release", root.join("etc/relative")).unwrap();
        symlink("/usr/lib/os-release", root.join("etc/absolute")).unwrap();
        symlink("/etc/../../../../usr/lib/os-release", root.join("etc/above")).unwrap();
        symlink("/usr", root.join("etc/folder")).unwrap();
    });
    for root in roots {
        for path in ["etc/relative", "/etc/absolute", "etc/above", "etc/folder/lib/os-release"] {
            assert_eq!(root.read(path, 100).unwrap(), b"ID=inside\n", "{path}");
        }
        assert_eq!(root.read_link("etc/absolute").unwrap(), Path::new("/usr/lib/os-release"));
    }
}

#[test]
fn nothing_leads_outside_the_root() {
    let (outer, roots) = both(|root| {
        let secret = root.parent().unwrap().join("secret");
        symlink("../../secret", root.join("etc/up")).unwrap();
        symlink(secret, root.join("etc/full")).unwrap();
        symlink("loop-b", root.join("etc/loop-a")).unwrap();
        symlink("loop-a", root.join("etc/loop-b")).unwrap();
    });
    assert!(outer.path().join("secret").exists());
    for root in roots {
        for path in ["etc/up", "etc/full", "../secret", "/../secret", "etc/loop-a"] {
            assert!(root.read(path, 100).is_err(), "{path}");
        }
    }
}

#[test]
fn what_cannot_be_told_is_no_absence() {
    let (_outer, roots) = both(|root| {
        symlink("none", root.join("etc/nowhere")).unwrap();
        symlink("loop", root.join("etc/loop")).unwrap();
        // ENAMETOOLONG, as any error that is no word on what is there.
        symlink("x".repeat(300), root.join("etc/unreadable")).unwrap();
    });
    for root in roots {
        assert!(root.exists("usr/lib/os-release").unwrap());
        for absent in ["none", "etc/nowhere", "etc/loop", "usr/lib/os-release/x"] {
            assert!(!root.exists(absent).unwrap(), "{absent}");
        }
        assert!(root.exists("etc/unreadable").is_err());
    }
}

#[test]
fn what_could_block_or_fill_the_memory_is_refused() {
    let (_outer, roots) = both(|root| {
        nix::unistd::mkfifo(&root.join("etc/pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        fs::write(root.join("etc/big"), vec![b'x'; 1001]).unwrap();
    });
    for root in roots {
        assert_eq!(root.read("etc/pipe", 100).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(root.read("etc/big", 1000).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(root.read("etc/big", 1001).unwrap().len(), 1001);
        assert_eq!(root.read("etc", 100).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(root.read("etc/none", 100).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn files_are_read_whole_whatever_size_the_system_tells() {
    let sizes = [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 200_000];
    let (_outer, roots) = both(|root| {
        for size in sizes {
            fs::write(root.join(format!("etc/{size}")), vec![b'x'; size]).unwrap();
        }
    });
    for root in roots {
        for size in sizes {
            let (path, limit) = (format!("etc/{size}"), size as u64);
            assert_eq!(root.read(&path, limit).unwrap(), vec![b'x'; size]);
            assert!(size == 0 || root.read(&path, limit - 1).is_err(), "{size}");
        }
    }
    // No size at all, and the size of a page with less in it.
    let node = HostRoot::new("/").unwrap();
    for path in ["proc/filesystems", "proc/sys/kernel/ostype", "sys/kernel/mm/transparent_hugepage/enabled"] {
        if let Ok(expected) = fs::read(Path::new("/").join(path)) {
            assert_eq!(node.read(path, 100_000).unwrap(), expected, "{path}");
            assert!(node.read(path, expected.len() as u64 - 1).is_err(), "{path}");
        }
    }
}

#[test]
fn links_are_told_from_files_and_folders() {
    let (_outer, roots) = both(|root| {
        symlink("none", root.join("etc/nowhere")).unwrap();
        symlink("/usr", root.join("etc/folder")).unwrap();
        fs::write(root.join("etc/file"), "x").unwrap();
        fs::create_dir(root.join("etc/below")).unwrap();
    });
    for root in roots {
        let mut links = root.links("etc").unwrap();
        links.sort();
        assert_eq!(links, [("folder".into(), "/usr".into()), ("nowhere".into(), "none".into())]);
        assert_eq!(root.list("etc").unwrap(), ["below", "file", "folder", "nowhere"]);
    }
    // More than is read at once.
    let many = tempfile::tempdir().unwrap();
    let names: Vec<OsString> = (0..2000).map(|number| format!("{number:0>40}").into()).collect();
    names.iter().for_each(|name| fs::write(many.path().join(name), "").unwrap());
    assert_eq!(HostRoot::new(many.path()).unwrap().list("").unwrap(), names);
}

#[test]
fn a_replaced_file_has_another_fingerprint() {
    let (_outer, roots) = both(|root| fs::write(root.join("etc/file"), "one").unwrap());
    for root in roots {
        let before = root.fingerprint("etc/file").unwrap();
        assert_eq!(root.fingerprint("etc/file").unwrap(), before);
        let path = root.path().join("etc/file");
        fs::write(path.with_extension("new"), "two").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        assert_ne!(root.fingerprint("etc/file").unwrap(), before);
        assert_eq!(root.fingerprint("etc/none"), None);
    }
}
