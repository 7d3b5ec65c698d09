//! The probes on the machine that runs the test, against the tools that people
//! would ask. What is expected comes from the tool; each difference that is
//! allowed is named with its reason. A tool that is not there: SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod accounts;
mod certificates;
mod fusioninventory;
mod hardware;
mod namespaces;
mod network;
mod packages;
mod sockets;
mod storage;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use agent::host::HostRoot;
use agent::probe::{self, Scan};
use contracts::v1::asset_details::Details;

fn scan(name: &str) -> Scan {
    scan_below(name, &HostRoot::new("/").unwrap())
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
fn the_node_is_what_the_system_says() {
    let node = scan("node");
    let Details::Node(node) = &node.assets[0].details else { panic!("no node") };
    let line = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(node.hostname, line("/proc/sys/kernel/hostname"));
    assert_eq!(node.boot_id, line("/proc/sys/kernel/random/boot_id"));
    if let Some(names) = tool("uname", &["-rm"]) {
        assert_eq!(format!("{} {}", node.kernel_release, node.architecture), names.trim());
    }
    if let Some(build) = tool("uname", &["-v"]) {
        assert_eq!(node.kernel_version, build.trim());
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
fn a_second_scan_of_an_unchanged_node_is_the_same() {
    // Sockets come and go with the other tests.
    let host = HostRoot::new("/").unwrap();
    for probe in probe::all(&probe::Context::forgetful(agent::config::ProbeArgs::default()))
        .iter()
        .filter(|probe| !["sockets", "network", "routes"].contains(&probe.name))
    {
        let (one, two) = (probe.scan(&host).unwrap(), probe.scan(&host).unwrap());
        assert_eq!(one.assets, two.assets, "{}", probe.name);
    }
}

/// A scan of a tree that looks like a node.
fn scan_below(name: &str, host: &HostRoot) -> Scan {
    let probe = probe::all(&probe::Context::forgetful(agent::config::ProbeArgs::default()))
        .into_iter()
        .find(|probe| probe.name == name)
        .unwrap();
    probe.scan(host).unwrap()
}
