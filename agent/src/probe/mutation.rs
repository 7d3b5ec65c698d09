//! Every parser against inputs that were real once: bytes flipped, cut, doubled
//! and moved. No input may panic, and none may give an asset that cannot be
//! reported.

use testkit::Seed;

use rand::RngExt;
use rand::rngs::StdRng;

use super::*;

const ROUNDS: usize = 800;

fn mutate(rng: &mut StdRng, original: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..rng.random_range(1..8) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..5) {
            0 => bytes[at] = rng.random(),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *b"\0\n :\\\xff=[".get(rng.random_range(0..8)).unwrap_or(&0)),
            3 => {
                let tail = bytes.split_off(at);
                bytes.splice(0..0, tail);
            }
            _ => {
                let end = rng.random_range(at..bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.extend(copy);
            }
        }
    }
    bytes
}

fn survives(samples: &[&[u8]], parse: impl Fn(&[u8])) {
    let mut rng = Seed::draw().rng();
    for sample in samples {
        parse(sample);
        for _ in 0..ROUNDS {
            parse(&mutate(&mut rng, sample));
        }
    }
}

/// Scans a root with one file, through everything that a real scan does.
fn scans(name: &str, path: &str, samples: &[&[u8]]) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
    std::fs::write(root.path().join("proc/sys/kernel/hostname"), "h").unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let probe =
        all(&Context::forgetful(ProbeArgs::default())).into_iter().find(|probe| probe.name == name).unwrap();
    survives(samples, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(scan) = probe.scan(&host) else { return };
        for asset in scan.assets {
            assert!(!asset.natural_key.is_empty() && !asset.display_name.is_empty());
            // Without the backslashes of the text itself, `\0` is a NUL.
            let shown = format!("{asset:?}").replace("\\\\", "");
            assert!(!shown.contains("\\0"), "PostgreSQL refuses NUL: {shown}");
        }
    });
}

#[test]
fn packages() {
    let stanza = b"Package: a\nStatus: install ok installed\nSource: b (1.0)\nInstalled-Size: 12\n\
        Architecture: all\nVersion: 1\nDescription: x\n y\n .\n\nPackage: b\nStatus: deinstall ok config-files\n";
    scans("packages", "var/lib/dpkg/status", &[stanza]);
}

#[test]
fn packages_of_apk() {
    let stanzas = b"C:Q1=\nP:a\nV:1-r0\nA:x86_64\nI:12\nT:x\nL:MIT\no:b\nm:c\nF:bin\nR:a\n\nP:b\nV:2\nf:fs\n";
    scans("packages", "lib/apk/db/installed", &[stanzas]);
}

#[test]
fn packages_of_rpm() {
    use super::packages::samples::{BERKELEY_DB, SQLITE, SQLITE_LOG, SUSE};
    scans("packages", "var/lib/rpm/rpmdb.sqlite", &[SQLITE]);
    scans("packages", "var/lib/rpm/Packages", &[BERKELEY_DB]);
    scans("packages", "usr/lib/sysimage/rpm/Packages.db", &[SUSE]);
    // A log decides which pages there are.
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("var/lib/rpm");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rpmdb.sqlite"), SQLITE).unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    survives(&[SQLITE_LOG], |bytes| {
        std::fs::write(folder.join("rpmdb.sqlite-wal"), bytes).unwrap();
        let _ = super::packages::read_all(&host);
    });
}

#[test]
fn owners_of_files() {
    let root = tempfile::tempdir().unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let paths = ["/bin/a", "/usr/bin/ssh"].map(str::to_owned).into();
    for (path, sample) in [
        ("var/lib/dpkg/info/ssh.list", &b"/.\n/usr\n/usr/bin\n/usr/bin/ssh\n"[..]),
        ("var/lib/dpkg/diversions", b"/usr/bin/ssh\n/usr/bin/ssh.old\nother\n"),
        ("lib/apk/db/installed", b"P:a\nV:1\nF:bin\nR:a\nF:usr/bin\nR:ssh\n"),
        ("var/lib/rpm/rpmdb.sqlite", super::packages::samples::SQLITE),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        survives(&[sample], |bytes| {
            std::fs::write(&path, bytes).unwrap();
            let _ = super::packages::Owners::default().find(&host, &paths);
        });
    }
}

#[test]
fn modules() {
    scans("modules", "proc/modules", &[b"zfs 5000000 6 a,b, Live 0x0 (POE)\next4 983040 2 - Live 0x0\n"]);
}

#[test]
fn mounts() {
    scans("filesystems", "proc/1/mountinfo", &[b"1 0 8:1 / / rw,a shared:5 - ext4 /dev/sda1 rw,b=c\\040d\n"]);
}

#[test]
fn sockets() {
    let tcp = b"  sl  local\n   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 1147 1\n";
    scans("sockets", "proc/1/net/tcp", &[tcp]);
}

#[test]
fn units() {
    let unit = b"[Unit]\nDescription=a \\\n b\n[Install]\nWantedBy=x.target\nAlias=y.service\n";
    scans("systemd", "etc/systemd/system/x.service", &[unit]);
}

#[test]
fn disks() {
    scans("disks", "sys/block/sda/size", &[b"2048\n", b"18446744073709551615\n"]);
}

#[test]
fn machine() {
    scans(
        "node",
        "proc/cpuinfo",
        &[b"processor\t: 0\nmodel name\t: x\nphysical id\t: 0\ncore id\t: 0\nflags: a hypervisor\n"],
    );
    scans("node", "etc/os-release", &[b"PRETTY_NAME=\"a \\\" b\"\nID=debian\nVERSION_ID='12'\n"]);
    scans("node", "proc/stat", &[b"cpu 1 2\nbtime 1795449368\n"]);
    scans("node", "proc/meminfo", &[b"MemTotal:       24684084 kB\n"]);
}

#[test]
fn containers_and_their_layers() {
    let id = "0123456789abcdef".repeat(4);
    let cgroup = format!(
        "12:pids:/docker/{id}\n1:name=systemd:/x.slice:cri-containerd:{id}\n\
         0::/kubepods.slice/kubepods-pod12345678_1234.slice/cri-containerd-{id}.scope\n"
    );
    let log = format!("web_shop_front-{id}.log\n/var/log/pods/shop_web_1234/front/3.log");
    let mounts = b"9 1 0:5 / / rw - overlay o rw,lowerdir=l/A\\072:/b\\\\:c::/d,upperdir=/x/diff,workdir=x\n";
    let status = b"Name:\tx\nUid:\t1\t1\t1\t1\nCapEff:\t00000000a80425fb\n";
    let stat = b"42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7\n";
    survives(&[cgroup.as_bytes(), log.as_bytes(), mounts, status, stat], containers::parse_all);
}
