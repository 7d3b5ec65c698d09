//! A node that is out to take the agent's memory and time.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use contracts::v1::agent_service_client::AgentServiceClient;
use contracts::v1::{
    AssetKind, GetAgentStatusRequest, ListLocalAssetsRequest, ProbeStatus, TriggerScanRequest,
};
use nix::sys::resource::{UsageWho, getrusage};
use testkit::{Service, free_address};
use tonic::transport::Channel;

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

/// What is measured is the largest of all child processes that have ended: those
/// of no other test may be larger.
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

const SOCKETS: usize = 100_000;

fn write(root: &Path, path: impl AsRef<OsStr>, text: impl AsRef<[u8]>) {
    let path = root.join(Path::new(path.as_ref()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Bytes that look like chance and are the same each time.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}

/// A node with one of each fault, and beside each something that is sound. What
/// lies in `outer`, beside the root, must never be seen.
fn build(outer: &Path) -> (std::path::PathBuf, UnixListener) {
    let root = outer.join("host");
    let sound = |path: &str, text: &str| write(&root, path, text);
    sound("proc/sys/kernel/hostname", "still-here\n");
    sound("proc/stat", "btime 1700000000\n");
    sound("proc/meminfo", "MemTotal: 1000 kB\n");
    sound("proc/modules", "good 4096 0 - Live 0x0\n");
    sound("proc/cpuinfo", "processor\t: 0\nmodel name\t: x\n");
    sound("proc/swaps", "Filename Type Size Used Priority\n");
    for table in ["dev", "route", "fib_trie", "if_inet6", "ipv6_route"] {
        sound(&format!("proc/1/net/{table}"), "");
    }
    fs::create_dir_all(root.join("sys/class/net")).unwrap();
    fs::create_dir_all(root.join("sys/block")).unwrap();

    // A package database of a gigabyte.
    huge(&root.join("var/lib/dpkg/status"), "Package: a\nStatus: install ok installed\n", b' ');
    // Garbage where SMBIOS would be, behind an entry point that is sound: its
    // table has 4,096 bytes at 0 (DSP0134, 5.2.2).
    let mut entry = *b"_SM3_\0\x18\x03\x04\0\x01\0\0\x10\0\0\0\0\0\0\0\0\0\0";
    let sum = entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    entry[5] = 0_u8.wrapping_sub(sum);
    write(&root, "sys/firmware/dmi/tables/smbios_entry_point", entry);
    write(&root, "sys/firmware/dmi/tables/DMI", garbage(4096));
    // 100,000 sockets.
    let mut table = String::from("  sl  local_address\n");
    for number in 0..SOCKETS {
        let address = (0x0a00_0000 + u32::try_from(number / 3).unwrap()).swap_bytes();
        writeln!(
            table,
            "{number}: {address:08X}:{:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {}",
            1000 + number % 3,
            number + 9
        )
        .unwrap();
    }
    sound("proc/1/net/tcp", &table);
    // Names and lines that are no UTF-8.
    let bad_certificate = "-----BEGIN CERTIFICATE-----\nMIIBjunk\n-----END CERTIFICATE-----\n";
    let unit = "[Unit]\nDescription=x\n[Service]\n";
    write(&root, OsStr::from_bytes(b"etc/systemd/system/caf\xe9.service"), unit);
    write(&root, OsStr::from_bytes(b"etc/kubernetes/pki/\xff\xfe.crt"), bad_certificate);
    write(&root, OsStr::from_bytes(b"etc/cron.daily/\xe9"), "#!/bin/sh\n");
    write(&root, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nn\xe9e:x:7:7::/:/bin/sh\n\xff\xff\n::::\n");
    write(
        &root,
        "proc/1/mountinfo",
        b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\xff\xfe\n2 1 8:2 / /d\xe9 rw - xfs /dev/sda2 rw\n",
    );
    sound("etc/systemd/system/sound.service", unit);
    sound("etc/cron.daily/sound", "#!/bin/sh\n");
    let script = |name: &[u8]| root.join("etc/cron.daily").join(OsStr::from_bytes(name));
    for name in [&b"sound"[..], b"\xe9"] {
        fs::set_permissions(script(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Links in circles, and a folder in itself.
    symlink("loop-b", root.join("etc/loop-a")).unwrap();
    symlink("loop-a", root.join("etc/loop-b")).unwrap();
    symlink("loop-a", root.join("etc/os-release")).unwrap();
    symlink("../../loop-a", root.join("etc/systemd/system/loop.service")).unwrap();
    symlink("..", root.join("etc/kubernetes/pki/self")).unwrap();
    symlink(".", root.join("etc/systemd/system/self.service.d")).unwrap();
    // Links out of the root, up and from the top.
    write(outer, "secret", "hunter2:x:5:\n");
    write(outer, "resolv.conf", "nameserver 203.0.113.77\n");
    write(outer, "outside.service", "[Unit]\nDescription=hunter2\n");
    symlink("../../secret", root.join("etc/group")).unwrap();
    symlink(outer.join("resolv.conf"), root.join("etc/resolv.conf")).unwrap();
    symlink("../../../../outside.service", root.join("etc/systemd/system/outside.service")).unwrap();
    symlink("../../../..", root.join("etc/kubernetes/pki/out")).unwrap();
    // A container runtime that takes calls and answers none.
    fs::create_dir_all(root.join("run/containerd")).unwrap();
    let runtime = UnixListener::bind(root.join("run/containerd/containerd.sock")).unwrap();
    (root, runtime)
}

/// Natural keys of one kind in the agent's store, page by page.
async fn keys(client: &mut AgentServiceClient<Channel>, kind: AssetKind) -> Vec<String> {
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListLocalAssetsRequest { kind: kind.into(), page_size: 1000, page_token };
        let page = client.list_local_assets(request).await.unwrap().into_inner();
        for asset in page.assets {
            assert!(!format!("{asset:?}").contains("hunter2"), "{asset:?}");
            keys.push(asset.natural_key);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return keys;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_all_faults_at_once_has_them_in_the_status_and_the_rest_is_complete() {
    let (outer, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, _runtime) = build(outer.path());
    let (admin, grpc) = (free_address().await, free_address().await);
    let mut agent = Service::new("assettrack-agent")
        .env("ASSETTRACK_AMQP_URL", "amqp://127.0.0.1:1")
        .env("ASSETTRACK_MACHINE_ID", "0123456789")
        .env("ASSETTRACK_HOST_ROOT", &root.display())
        .env("ASSETTRACK_STORE_DIR", &store.path().display())
        .env("ASSETTRACK_SCAN_INTERVAL_SECONDS", "3600")
        .env("ASSETTRACK_PROMPT_SCAN_INTERVAL_SECONDS", "3600")
        .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
        .env("ASSETTRACK_GRPC_ADDRESS", &grpc);
    agent.start();
    // Bounded time: it is ready when each probe has run, the silent runtime's too.
    agent.ready(admin, Duration::from_secs(120)).await;
    let mut client = AgentServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let scanned = client.trigger_scan(TriggerScanRequest::default());
    tokio::time::timeout(Duration::from_secs(120), scanned).await.unwrap().unwrap();
    let status = client.get_agent_status(GetAgentStatusRequest {}).await.unwrap().into_inner();
    let probes: BTreeMap<&str, &ProbeStatus> =
        status.probes.iter().map(|probe| (probe.probe.as_str(), probe)).collect();
    for probe in probes.values().filter(|probe| !probe.error.is_empty() || !probe.warnings.is_empty()) {
        println!("{}: {} {:?}", probe.probe, probe.error, probe.warnings);
    }

    // The fault is in the status.
    for (name, error) in [
        ("packages", "larger than 512 MiB"),
        ("pods", "not answered"),
        ("containers", "not answered"),
        ("images", "not answered"),
    ] {
        assert!(probes[name].error.contains(error), "{name}: {:?}", probes[name]);
    }
    for (name, warning) in [
        ("filesystems", "mountinfo"),
        ("users", "passwd"),
        ("certificates", "\u{fffd}"),
        ("memory", "is damaged"),
        ("boards", "is damaged"),
        ("systemd", "caf\u{fffd}.service"),
        ("systemd", "loop.service"),
        ("systemd", "outside.service"),
    ] {
        assert!(probes[name].warnings.iter().any(|told| told.contains(warning)), "{:?}", probes[name]);
    }
    for probe in probes.values() {
        let may_fail = ["packages", "pods", "containers", "images"];
        assert!(probe.error.is_empty() || may_fail.contains(&probe.probe.as_str()), "{probe:?}");
    }

    // The rest is complete.
    assert_eq!(keys(&mut client, AssetKind::Node).await, ["node"]);
    assert_eq!(keys(&mut client, AssetKind::ListeningSocket).await.len(), SOCKETS);
    assert_eq!(keys(&mut client, AssetKind::KernelModule).await, ["good"]);
    assert_eq!(keys(&mut client, AssetKind::Filesystem).await, ["/", "/d\u{fffd}"]);
    assert_eq!(keys(&mut client, AssetKind::User).await, ["n\u{fffd}e", "root"]);
    let units = keys(&mut client, AssetKind::SystemdUnit).await;
    assert_eq!(units, ["sound.service"]);
    let jobs = keys(&mut client, AssetKind::CronEntry).await;
    assert!(jobs.iter().any(|job| job.contains("/etc/cron.daily/sound")), "{jobs:?}");
    // Nothing from outside.
    assert!(keys(&mut client, AssetKind::Group).await.is_empty());
    for kind in [AssetKind::DnsResolver, AssetKind::Certificate] {
        let found = keys(&mut client, kind).await;
        assert!(!found.iter().any(|key| key.contains("203.0.113.77")), "{found:?}");
    }

    // Bounded memory: a tenth of a million assets pass through diff and store.
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{most} KiB");
    assert!(most > 1024 && most < 400 * 1024, "{most} KiB");
}
