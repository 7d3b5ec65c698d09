//! The probes on the machine that runs the test, against the tools that people
//! would ask. What is expected comes from the tool; each difference that is
//! allowed is named with its reason. A tool that is not there: SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod packages;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use agent::host::HostRoot;
use agent::probe::{self, Scan};
use contracts::v1::asset_details::Details;

fn scan(name: &str) -> Scan {
    let probe = probe::all(&probe::Context::forgetful(agent::config::ProbeArgs::default()))
        .into_iter()
        .find(|probe| probe.name == name)
        .unwrap();
    probe.scan(&HostRoot::new("/").unwrap()).unwrap()
}

/// Output of a tool; `None` after saying SKIPPED when it is not there.
fn tool(program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            println!("SKIPPED: {program} fails here: {}", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            println!("SKIPPED: no {program} here: {error}");
            None
        }
    }
}

#[test]
fn modules_are_those_of_lsmod() {
    if std::fs::metadata("/proc/modules").is_err() {
        println!("SKIPPED: this kernel has no modules, so lsmod fails");
        assert!(scan("modules").assets.is_empty());
        return;
    }
    let Some(listed) = tool("lsmod", &[]) else { return };
    let expected: BTreeMap<String, u64> = listed
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect();
    let found: BTreeMap<String, u64> = scan("modules")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::KernelModule(module) => (module.module, module.size_bytes),
            other => panic!("no module: {other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn interfaces_are_those_of_ip() {
    let Some(listed) = tool("ip", &["-j", "address"]) else { return };
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut expected = BTreeMap::new();
    for link in listed.as_array().unwrap() {
        let text = |name: &str| link[name].as_str().unwrap_or_default().to_owned();
        let mut addresses: Vec<String> = link["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"]))
            .collect();
        addresses.sort();
        // Rule: the loopback's address of zeros is none.
        let mac = if text("link_type") == "loopback" { String::new() } else { text("address") };
        let row = (link["mtu"].as_u64().unwrap(), text("operstate").to_lowercase(), mac, addresses);
        expected.insert(text("ifname"), row);
    }
    let found: BTreeMap<_, _> = scan("network")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::NetworkInterface(mut interface) => {
                interface.addresses.sort();
                let row = (
                    u64::from(interface.mtu),
                    interface.operational_state,
                    interface.mac_address,
                    interface.addresses,
                );
                (interface.interface, row)
            }
            other => panic!("no interface: {other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn sockets_are_those_of_ss() {
    // Something to find whatever else runs.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0").ok();
    let udp = (10_000..20_000).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok()).unwrap();
    let ss = || {
        let listed = tool("ss", &["-H", "-l", "-n", "-t", "-u"])?;
        Some(listed.lines().filter_map(socket_of_ss).collect::<BTreeSet<_>>())
    };
    // Sockets of other tests and services come and go: two equal answers of ss
    // around the scan, or it counts for nothing.
    for _ in 0..50 {
        let Some(before) = ss() else { return };
        let found = scan("sockets");
        if ss() != Some(before.clone()) {
            continue;
        }
        let keys: BTreeSet<String> = found.assets.iter().map(|asset| asset.natural_key.clone()).collect();
        assert_eq!(keys, before);
        let own = format!("tcp/{}", tcp.local_addr().unwrap());
        let own = found.assets.iter().find(|asset| asset.natural_key == own).unwrap();
        let Details::ListeningSocket(own) = &own.details else { panic!("no socket") };
        assert_eq!(own.executable, std::env::current_exe().unwrap().to_str().unwrap());
        assert!(keys.contains(&format!("udp/{}", udp.local_addr().unwrap())));
        if let Some(tcp6) = &tcp6 {
            assert!(keys.contains(&format!("tcp6/{}", tcp6.local_addr().unwrap())));
        }
        return;
    }
    panic!("the sockets of this machine never came to rest");
}

/// `tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*` as a natural key.
fn socket_of_ss(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(4)?.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    // Rule: a UDP socket on a port that the kernel chose is a client's until it
    // has been there for a minute (probe/sockets.rs).
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let range: Vec<u16> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
    if words[0] == "udp" && (range[0]..=range[1]).contains(&port) {
        return None;
    }
    // `127.0.0.53%lo` is bound to an interface; `*` takes both families.
    let address = address.split('%').next()?.trim_matches(['[', ']']);
    let address = if address == "*" { "::" } else { address };
    Some(if address.contains(':') {
        format!("{}6/[{address}]:{port}", words[0])
    } else {
        format!("{}/{address}:{port}", words[0])
    })
}

#[test]
fn units_are_those_of_systemctl() {
    let args = ["list-unit-files", "--no-legend", "--no-pager", "--full", "--plain"];
    let Some(listed) = tool("systemctl", &args) else { return };
    let mut expected = BTreeMap::new();
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let (Some(unit), Some(state)) = (words.next(), words.next()) else { continue };
        let state = match state {
            // Rule: made by generators from other files, such as /etc/fstab.
            "generated" | "transient" => continue,
            // Rule: for this boot, or for ever: both are enabled.
            "enabled-runtime" => "enabled",
            "masked-runtime" => "masked",
            other => other,
        };
        expected.insert(unit.to_owned(), state.to_owned());
    }
    let found: BTreeMap<String, String> = scan("systemd")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::SystemdUnit(unit) => (unit.unit, unit.enablement),
            other => panic!("no unit: {other:?}"),
        })
        .collect();
    let missing: Vec<_> = expected.iter().filter(|(unit, state)| found.get(*unit) != Some(state)).collect();
    let surplus: Vec<_> = found.keys().filter(|unit| !expected.contains_key(*unit)).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing or other: {missing:?}; surplus: {surplus:?}");
}

#[test]
fn the_node_is_what_the_system_says() {
    let node = scan("node");
    let Details::Node(node) = &node.assets[0].details else { panic!("no node") };
    let line = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(node.hostname, line("/proc/sys/kernel/hostname"));
    assert_eq!(node.boot_id, line("/proc/sys/kernel/random/boot_id"));
    if let Some(names) = tool("uname", &["-rm"]) {
        assert_eq!(format!("{} {}", node.kernel_release, node.architecture), names.trim());
    }
    if let Some(threads) = tool("nproc", &["--all"]) {
        assert!(u64::from(node.cpu_threads) <= threads.trim().parse().unwrap());
    }
    if let Some(table) = tool("lscpu", &["--parse=CPU,CORE,SOCKET"]) {
        let rows: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
        let distinct = |column: usize| {
            rows.iter().filter_map(|row| row.split(',').nth(column)).collect::<BTreeSet<_>>().len()
        };
        let counted = [node.cpu_threads, node.cpu_cores, node.cpu_sockets].map(|number| number as usize);
        assert_eq!(counted, [distinct(0), distinct(1), distinct(2)]);
    }
    if let Some(table) = tool("free", &["-b"]) {
        let total = table.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        assert_eq!(node.memory_bytes, total.parse::<u64>().unwrap());
    }
}

#[test]
fn disks_are_those_of_lsblk() {
    let Some(listed) = tool("lsblk", &["--json", "--bytes", "--nodeps", "-o", "NAME,SIZE,TYPE,RO"]) else {
        return;
    };
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    // Rule: only what holds data of its own: no loop devices, memory, or drives
    // without a medium.
    let expected: BTreeMap<String, u64> = listed["blockdevices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|device| device["type"] == "disk" && device["size"].as_u64() > Some(0))
        .map(|device| (device["name"].as_str().unwrap().to_owned(), device["size"].as_u64().unwrap()))
        .filter(|(name, _)| !name.starts_with("zram") && !name.starts_with("ram"))
        .collect();
    let found: BTreeMap<String, u64> = scan("disks")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::Disk(disk) => (disk.device, disk.size_bytes),
            other => panic!("no disk: {other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_mounted_root_has_the_size_that_df_says() {
    let Some(listed) = tool("df", &["--block-size=1", "--output=size", "/"]) else { return };
    let expected: u64 = listed.lines().nth(1).unwrap().trim().parse().unwrap();
    let root = scan("filesystems").assets.into_iter().find(|asset| asset.natural_key == "/").unwrap();
    let Details::Filesystem(root) = root.details else { panic!("no file system") };
    assert_eq!(root.size_bytes, expected);
}

#[test]
fn a_second_scan_of_an_unchanged_node_is_the_same() {
    // Sockets come and go with the other tests.
    let host = HostRoot::new("/").unwrap();
    for probe in probe::all(&probe::Context::forgetful(agent::config::ProbeArgs::default()))
        .iter()
        .filter(|probe| !["sockets", "network"].contains(&probe.name))
    {
        let (one, two) = (probe.scan(&host).unwrap(), probe.scan(&host).unwrap());
        assert_eq!(one.assets, two.assets, "{}", probe.name);
    }
}
