//! The machine itself: names, system, kernel, processors, memory, what it runs
//! under and what guards it.

mod machine;
mod os_release;
mod security;
mod time;

use std::collections::{BTreeMap, BTreeSet};

use contracts::v1::{NodeDetails, NodeLabel, asset_details::Details};
use prost_types::Timestamp;

use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::config::ProbeArgs;
use crate::host::HostRoot;
use crate::text::clean;
use machine::Machine;
use os_release::Release;
use security::Security;

const HOSTNAME: &str = "proc/sys/kernel/hostname";
const STAT: &str = "proc/stat";

pub(super) const WATCHED: &[&str] =
    &["etc/os-release", "etc/hostname", "etc/localtime", "etc/timezone", "etc/selinux/config"];

const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Most labels that are taken from the settings.
const MAX_LABELS: usize = 64;

pub(super) fn scan(host: &HostRoot, settings: &ProbeArgs) -> Result<Scan, ProbeError> {
    let mut warnings = Vec::new();
    let mut read = |path: &str| {
        host.read(path, MAX_BYTES).unwrap_or_else(|error| {
            warnings.push(format!("cannot read {path}: {error}"));
            Vec::new()
        })
    };
    let hostname = host.line(HOSTNAME).ok_or_else(|| ProbeError::Malformed {
        path: HOSTNAME.to_owned(),
        problem: "cannot be read or is empty".to_owned(),
    })?;
    let processors = parse_cpuinfo(&read("proc/cpuinfo"));
    let memory_bytes = parse_memory_total(&read("proc/meminfo")).unwrap_or(0);
    let boot_time = time::parse_boot_time(&read(STAT)).map(|seconds| Timestamp { seconds, nanos: 0 });
    let release = Release::read(host);
    let (sockets, cores) = topology(host).unwrap_or((processors.sockets, processors.cores));
    let machine = Machine::read(host)?;
    let security = Security::read(host);
    let details = NodeDetails {
        hostname: hostname.clone(),
        boot_id: host.line("proc/sys/kernel/random/boot_id").unwrap_or_default(),
        boot_time,
        os_name: release.name,
        os_id: release.id,
        os_version: release.version,
        kernel_release: host.line("proc/sys/kernel/osrelease").unwrap_or_default(),
        architecture: architecture(),
        cpu_model: processors.model,
        cpu_sockets: sockets,
        cpu_cores: cores,
        cpu_threads: processors.threads,
        memory_bytes,
        virtualization: machine.virtualization(processors.hypervisor).to_owned(),
        vendor: machine.vendor,
        product: machine.product,
        time_zone: time::time_zone(host)?,
        uptime_class: time::uptime_class(host).to_owned(),
        kubernetes_node_name: settings.kubernetes_node_name.clone().unwrap_or_default(),
        labels: labels(settings, &mut warnings),
        secure_boot: security.secure_boot,
        security_modules: security.modules,
        selinux: security.selinux,
        apparmor: security.apparmor,
        kernel_lockdown: security.lockdown,
        kernel_taint: security.taint,
        init: host.line("proc/1/comm").unwrap_or_default(),
        kernel_version: host.line("proc/sys/kernel/version").unwrap_or_default(),
    };
    Ok(Scan {
        assets: vec![ScannedAsset::new("node", hostname, Details::Node(details))],
        warnings,
        ..Scan::default()
    })
}

/// The labels of the settings, sorted; the last of those with one key counts.
fn labels(settings: &ProbeArgs, warnings: &mut Vec<String>) -> Vec<NodeLabel> {
    let by_key: BTreeMap<&String, &String> =
        settings.node_labels.iter().map(|(key, value)| (key, value)).collect();
    if by_key.len() > MAX_LABELS {
        warnings.push(format!("{} labels of the node are left out", by_key.len() - MAX_LABELS));
    }
    let label = |(key, value): (&String, &String)| NodeLabel { key: key.clone(), value: value.clone() };
    by_key.into_iter().take(MAX_LABELS).map(label).collect()
}

/// Within one boot, keeps the boot time that was first recorded: the kernel
/// computes `btime` anew on each read, so it moves by a second when the clock
/// is adjusted, and would make a revision of nothing.
pub fn keep_boot_time(recorded: &NodeDetails, scanned: &mut NodeDetails) {
    if !scanned.boot_id.is_empty() && recorded.boot_id == scanned.boot_id && recorded.boot_time.is_some() {
        scanned.boot_time = recorded.boot_time;
    }
}

/// As `uname -m` says; agent and node share the kernel.
fn architecture() -> String {
    nix::sys::utsname::uname().map(|names| clean(names.machine().as_encoded_bytes())).unwrap_or_default()
}

#[derive(Debug, Default, PartialEq)]
struct Processors {
    model: String,
    sockets: u32,
    cores: u32,
    threads: u32,
    hypervisor: Option<bool>,
}

/// Reads `/proc/cpuinfo` of x86, Arm, RISC-V, POWER and s390x.
fn parse_cpuinfo(text: &[u8]) -> Processors {
    let text = clean(text);
    let mut found = Processors::default();
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    let mut socket = String::new();
    let (mut implementer, mut part) = (String::new(), String::new());
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.trim() {
            // Arm's 32-bit kernels also have one "Processor" line, with a model.
            "processor" if value.parse::<u32>().is_ok() => found.threads += 1,
            "model name" | "cpu" | "uarch" | "Processor" if found.model.is_empty() => {
                found.model = value.to_owned();
            }
            "CPU implementer" if implementer.is_empty() => implementer = value.to_owned(),
            "CPU part" if part.is_empty() => part = value.to_owned(),
            "physical id" => {
                socket = value.to_owned();
                sockets.insert(socket.clone());
            }
            "core id" => {
                cores.insert((socket.clone(), value.to_owned()));
            }
            "flags" => found.hypervisor = Some(value.split(' ').any(|flag| flag == "hypervisor")),
            _ => {}
        }
    }
    if found.model.is_empty() && !part.is_empty() {
        found.model = format!("implementer {implementer} part {part}");
    }
    found.sockets = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
    found.cores = u32::try_from(cores.len()).unwrap_or(u32::MAX);
    found
}

/// Packages and cores by /sys, which all architectures have; `None` without.
fn topology(host: &HostRoot) -> Option<(u32, u32)> {
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for name in host.list("sys/devices/system/cpu").ok()? {
        let name = clean(name.as_encoded_bytes());
        let is_processor = name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok());
        let folder = format!("sys/devices/system/cpu/{name}/topology");
        if !is_processor {
            continue;
        }
        // An offline processor has no topology.
        let (Some(package), Some(core)) =
            (host.line(format!("{folder}/physical_package_id")), host.line(format!("{folder}/core_id")))
        else {
            continue;
        };
        sockets.insert(package.clone());
        cores.insert((package, core));
    }
    if cores.is_empty() {
        return None;
    }
    Some((u32::try_from(sockets.len()).ok()?, u32::try_from(cores.len()).ok()?))
}

/// MemTotal of `/proc/meminfo`, in bytes.
fn parse_memory_total(text: &[u8]) -> Option<u64> {
    let text = clean(text);
    let value = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: &[u8] = b"processor\t: 0\nmodel name\t: AMD EPYC\nphysical id\t: 0\ncore id\t\t: 0\n\
        flags\t\t: fpu hypervisor sse\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\nphysical id\t: 1\ncore id\t\t: 0\n\
        flags\t\t: fpu hypervisor sse\n\nprocessor : 2\nphysical id : 1\ncore id : 0\n";
    const ARM: &[u8] = b"processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n\
        processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";

    #[test]
    fn counts_processors() {
        let x86 = parse_cpuinfo(X86);
        assert_eq!((x86.sockets, x86.cores, x86.threads), (2, 2, 3));
        assert_eq!((x86.model.as_str(), x86.hypervisor), ("AMD EPYC", Some(true)));
        let arm = parse_cpuinfo(ARM);
        assert_eq!((arm.threads, arm.hypervisor), (2, None));
        assert_eq!(arm.model, "implementer 0x41 part 0xd0c");
        assert_eq!(parse_cpuinfo(b"\xff\0garbage"), Processors::default());
    }

    #[test]
    fn reads_memory() {
        assert_eq!(parse_memory_total(b"MemFree: 1 kB\nMemTotal:   24684084 kB\n"), Some(24_684_084 * 1024));
        assert_eq!(parse_memory_total(b"MemTotal: many kB\n"), None);
    }

    #[test]
    fn the_boot_time_of_one_boot_stays() {
        let node = |boot_id: &str, seconds| NodeDetails {
            boot_id: boot_id.into(),
            boot_time: Some(Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        let mut same = node("a", 101);
        keep_boot_time(&node("a", 100), &mut same);
        assert_eq!(same, node("a", 100));
        let mut other = node("b", 900);
        keep_boot_time(&node("a", 100), &mut other);
        assert_eq!(other, node("b", 900));
    }

    #[test]
    fn the_settings_name_and_label_the_node() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        std::fs::write(root.path().join("proc/sys/kernel/hostname"), "h\n").unwrap();
        std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
        std::fs::write(root.path().join("proc/1/comm"), "systemd\n").unwrap();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut settings = ProbeArgs {
            kubernetes_node_name: Some("worker-1".into()),
            node_labels: vec![label("b", "1"), label("a", ""), label("b", "2")],
            ..ProbeArgs::default()
        };
        let host = HostRoot::new(root.path()).unwrap();
        let node = |settings: &ProbeArgs| match scan(&host, settings).unwrap().assets.remove(0).details {
            Details::Node(node) => node,
            other => panic!("no node: {other:?}"),
        };
        let found = node(&settings);
        assert_eq!((found.kubernetes_node_name.as_str(), found.init.as_str()), ("worker-1", "systemd"));
        let labels: Vec<_> = found.labels.iter().map(|one| (one.key.as_str(), one.value.as_str())).collect();
        assert_eq!(labels, [("a", ""), ("b", "2")]);
        settings.node_labels = (0..70).map(|number| label(&format!("{number:02}"), "")).collect();
        assert_eq!(node(&settings).labels.len(), 64);
        let warnings = scan(&host, &settings).unwrap().warnings;
        assert!(warnings.contains(&"6 labels of the node are left out".to_owned()), "{warnings:?}");
        assert_eq!(node(&ProbeArgs::default()).labels, []);
    }
}
