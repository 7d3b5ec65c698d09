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
fn sockets_by_diag() {
    use super::sockets::diag::tests::{answer, survives as parse};
    survives(&[&answer()], parse);
}

#[test]
fn units() {
    let unit = b"[Unit]\nDescription=a \\\n b\n[Install]\nWantedBy=x.target\nAlias=y.service\n";
    scans("systemd", "etc/systemd/system/x.service", &[unit]);
    let timer = b"[Timer]\nOnCalendar=Mon..Fri 10:00\nOnBootSec=\nOnClockChange=yes\nUnit=a@%i.service\n";
    scans("systemd", "etc/systemd/system/x.timer", &[timer]);
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
fn accounts() {
    let users = b"root:x:0:0:root:/root:/bin/sh\n+nis::::::\nalice::1000:27:A,,,:/home/alice:\n";
    scans("users", "etc/passwd", &[users]);
    scans("groups", "etc/group", &[b"root:x:0:\nsudo:x:27:alice,bob\n"]);
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), users).unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let sudoers = b"User_Alias A = alice, !%sudo : B = #0, %#27\nA, !B ALL=(ALL:ALL) NOPASSWD: ALL\n\
        \"a b\", \"%c d\", +n, %:g h\\\n = x\n@include \"sudoers\"\n#includedir sudoers.d\nDefaults:alice x\n";
    survives(&[sudoers], |bytes| {
        std::fs::write(root.path().join("etc/sudoers"), bytes).unwrap();
        let _ = super::accounts::scan_users(&host);
    });
    survives(&[b"root:!:1::::::\nalice:$y$x:1::::::\n"], |bytes| {
        std::fs::write(root.path().join("etc/shadow"), bytes).unwrap();
        assert_eq!(super::accounts::scan_users(&host).unwrap().assets.len(), 2);
    });
}

#[test]
fn jobs_of_cron() {
    let crontab =
        b"SHELL=/bin/sh\n17 */2 1-5,7 jan mon-fri root x\n@daily root y\n\"A\"=b\n-0~9 ~ * * * root z\n";
    scans("cron", "etc/crontab", &[crontab]);
    scans("cron", "var/spool/cron/crontabs/alice", &[crontab]);
    scans("cron", "etc/anacrontab", &[b"1\t5\tcron.daily\tnice x\n@monthly 45 m x\n"]);
}

#[test]
fn certificates() {
    let pem = include_bytes!("certificates/samples.pem");
    scans("certificates", "etc/etcd/a.pem", &[pem]);
    let body: Vec<u8> = pem
        .split(|&byte| byte == b'\n')
        .skip(1)
        .take_while(|line| !line.starts_with(b"-"))
        .flatten()
        .copied()
        .collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
    scans("certificates", "etc/etcd/a.der", &[&der]);
    scans(
        "certificates",
        "etc/kubernetes/a.conf",
        &[b"user:\n  client-certificate-data: LS0tLS1CRUdJTg==\n"],
    );
}

/// A table with the structures that are read, as firmware writes it.
fn smbios_table() -> Vec<u8> {
    use smbios::written::structure;
    let mut bytes = structure(0, 0, &[1, 2, 0, 0, 3, 0x7f, 0, 0], &["Maker", "2.10", "11/04/2020"]);
    let mut system = vec![1, 2, 0, 3];
    system.extend(1..=16);
    system.extend([6, 4, 0]);
    bytes.extend(structure(1, 1, &system, &["Maker", "Model", "S1", "SKU"]));
    bytes.extend(structure(2, 2, &[1, 2, 0, 3, 4], &["Maker", "Board", "S2", "A1"]));
    bytes.extend(structure(2, 3, &[1, 2, 0, 3, 4], &["Maker", "Board", "S3", "A1"]));
    let mut chassis = vec![1, 0x97, 0, 2, 0, 3, 3, 3, 3, 0, 0, 0, 0, 1, 2, 1, 3];
    chassis.extend([9, 9, 3]);
    bytes.extend(structure(3, 4, &chassis, &["Maker", "S4", "SKU"]));
    bytes.extend(structure(16, 5, &[3, 3, 6, 0, 0, 0, 1], &[]));
    for handle in 6..9 {
        let mut module = vec![0; 0x58];
        module[..18].copy_from_slice(&[5, 0, 0, 0, 72, 0, 64, 0, 0xff, 0x7f, 9, 0, 1, 2, 0x22, 0, 0, 0xff]);
        (module[0x13], module[0x14], module[0x15], module[0x1a]) = (3, 4, 5, 2);
        bytes.extend(structure(17, handle, &module, &["A1", "Bank", "Maker", "S5", "P1"]));
    }
    bytes.extend(structure(127, 9, &[], &[]));
    bytes
}

#[test]
fn smbios() {
    let table = smbios_table();
    for name in ["firmware", "boards", "memory"] {
        scans(name, "sys/firmware/dmi/tables/DMI", &[&table]);
    }
    let entry_point = b"_SM3_cl\x03\x02\x00\x01\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    survives(&[entry_point, b"_SM_cl\x02\x05"], |bytes| {
        let table = smbios::Table::new(smbios_table(), bytes);
        assert_eq!(boards::decode(&table).len(), 4);
    });
}

#[test]
fn attributes_of_dmi() {
    scans("firmware", "sys/class/dmi/id/bios_version", &[b"2.10.2\n"]);
    scans("firmware", "sys/class/tpm/tpm0/tpm_version_major", &[b"2\n"]);
    scans("boards", "sys/class/dmi/id/product_serial", &[b"ABC1234\n"]);
    scans("boards", "sys/class/dmi/id/chassis_type", &[b"23\n"]);
    scans("boards", "sys/firmware/devicetree/base/model", &[b"Raspberry Pi 4 Model B\0"]);
}

#[test]
fn processors() {
    scans(
        "processors",
        "proc/cpuinfo",
        &[
            b"processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Xeon\n\
            stepping\t: 7\nphysical id\t: 1\ncore id\t: 3\nflags\t\t: fpu vme\n\nprocessor\t: 1\n",
            b"processor\t: 0\nFeatures\t: fp\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n\
            CPU revision\t: 1\n",
            b"features\t: esan3\nprocessor 0: version = FF,  machine = 8561\n",
        ],
    );
}

#[test]
fn numa_nodes() {
    scans("numa", "sys/devices/system/node/node0/meminfo", &[b"Node 0 MemTotal:  24684084 kB\n"]);
    scans("numa", "sys/devices/system/node/node0/distance", &[b"10 20 4294967295\n"]);
}

#[test]
fn kernel_parameters() {
    scans("kernel_parameters", "proc/sys/kernel/printk", &[b"4\t4\t1\t7\n"]);
}

#[test]
fn guards_of_the_kernel() {
    let variable = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    scans("node", variable, &[b"\x06\0\0\0\x01"]);
    scans("node", "sys/kernel/security/lsm", &[b"lockdown,capability,yama,apparmor"]);
    scans("node", "sys/kernel/security/lockdown", &[b"none [integrity] confidentiality\n"]);
    scans("node", "etc/selinux/config", &[b"# x\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"]);
    scans("node", "etc/timezone", &[b"Europe/Vienna\n"]);
    scans("node", "proc/uptime", &[b"350735.47 234388.90\n"]);
}

#[test]
fn devices() {
    let root = tempfile::tempdir().unwrap();
    let gpu = [("vendor", "0x10de"), ("device", "0x20b2"), ("class", "0x030200"), ("revision", "0xa1")];
    pci::tree::add_device(root.path(), "0000:41:00.0", &gpu);
    let device = root.path().join("sys/devices/pci0000:00/0000:41:00.0");
    let stick = root.path().join("sys/bus/usb/devices/1-1.4");
    std::fs::create_dir_all(stick.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("../../../devices/pci0000:00/0000:41:00.0/usb1/1-1.4", &stick).unwrap();
    let stick = device.join("usb1/1-1.4");
    let information = root.path().join("proc/driver/nvidia/gpus/0000:41:00.0/information");
    let list = root.path().join("usr/share/misc/pci.ids");
    for folder in [&stick, information.parent().unwrap(), list.parent().unwrap()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(stick.join("idProduct"), "5583\n").unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let probes = all(&Context::forgetful(ProbeArgs::default()));
    for (path, sample) in [
        (device.join("vendor"), &b"0x10de\n"[..]),
        (device.join("class"), b"0x030200\n"),
        (device.join("numa_node"), b"1\n"),
        (information, b"Model: \t\t NVIDIA A100\nDevice Minor: \t 3\n"),
        (list.clone(), b"10de  NVIDIA Corporation\n\t20b2  GA100\nC 03  Display\n\t00  VGA\n"),
        (stick.join("idVendor"), b"0781\n"),
        (stick.join("serial"), b"4C53\n"),
        (stick.join("speed"), b"1.5\n"),
        (stick.join("bDeviceClass"), b"08\n"),
    ] {
        survives(&[sample], |bytes| {
            std::fs::write(&path, bytes).unwrap();
            for name in ["pci", "usb", "accelerators"] {
                let probe = probes.iter().find(|probe| probe.name == name).unwrap();
                let Ok(scan) = probe.scan(&host) else { continue };
                for asset in scan.assets {
                    assert!(!asset.natural_key.is_empty() && !asset.display_name.is_empty());
                    let shown = format!("{asset:?}").replace("\\\\", "");
                    assert!(!shown.contains("\\0"), "PostgreSQL refuses NUL: {shown}");
                }
            }
        });
        std::fs::write(&path, sample).unwrap();
    }
}

#[test]
fn networks() {
    let trie = b"Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.2\n        /32 host LOCAL\n";
    survives(&[trie], |bytes| {
        let mut parse = routes::table::fib_parser(|entry| assert!(entry.length <= 32));
        bytes.split(|&byte| byte == b'\n').for_each(&mut parse);
    });
    let ipv4 = b"*\t0000F40A\t00000000\t0001\t0\t0\t0\tC0FFFFFF\t0\t0\t0";
    survives(&[ipv4], |bytes| drop(routes::table::ipv4_line(bytes)));
    let ipv6 = b"fd000000000000000000000000000000 40 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000100 00000001 00000000 00000003 eth0";
    survives(&[ipv6], |bytes| drop(routes::table::ipv6_line(bytes)));
    let inet6 = b"fe8000000000000000fc00fffe000001 04 40 20 80     eth0";
    survives(&[inet6], |bytes| drop(network::addresses::inet6(bytes)));
    survives(&[b"a\nb\neth0.100 | 100 | eth0\n"], |bytes| drop(network::vlans::parse_config(bytes)));
    let link = network::vlans::tests::message(b"vlan\0", 100);
    survives(&[&link], |bytes| {
        network::vlans::vlan_id(bytes);
    });
    scans("dns", "etc/resolv.conf", &[b"nameserver 10.0.0.1\nsearch a b\noptions ndots:5\n"]);
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
