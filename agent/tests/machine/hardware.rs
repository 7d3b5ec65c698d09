//! Hardware, kernel parameters and what the node says of itself: on this machine
//! and on made trees that have what few machines have.

mod pci;
mod processors;
pub mod smbios;
mod usb;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent::host::HostRoot;
use agent::probe::{self, Scan};
use contracts::v1::NodeDetails;
use contracts::v1::asset_details::Details;

use super::{scan, tool};

/// Scans a made tree.
fn scan_tree(name: &str, root: &Path) -> Scan {
    let context = probe::Context::forgetful(agent::config::ProbeArgs::default());
    let probe = probe::all(&context).into_iter().find(|probe| probe.name == name).unwrap();
    probe.scan(&HostRoot::new(root).unwrap()).unwrap()
}

fn write(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn node() -> NodeDetails {
    match scan("node").assets.remove(0).details {
        Details::Node(node) => node,
        other => panic!("no node: {other:?}"),
    }
}

#[test]
fn kernel_parameters_are_those_of_sysctl() {
    let Some(listed) = tool("sysctl", &["-a"]) else { return };
    // Rule: columns are parted by one space and not by tabs.
    let one_space = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed: BTreeMap<&str, String> = listed
        .lines()
        .filter_map(|line| line.split_once(" ="))
        .map(|(name, value)| (name, one_space(value)))
        .collect();
    let found: BTreeMap<String, String> = scan("kernel_parameters")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::KernelParameter(one) => {
                assert_eq!(asset.natural_key, one.parameter);
                (one.parameter, one.value)
            }
            other => panic!("no parameter: {other:?}"),
        })
        .collect();
    for (name, value) in &found {
        // Rule: sysctl leaves out what it may not or cannot read (fs.binfmt_misc
        // without its file system).
        assert_eq!(listed.get(name.as_str()), Some(value), "{name}");
    }
    // What CIS benchmarks and KSPP ask for, and every name that the kernel has
    // of some families.
    for name in listed.keys() {
        let wanted = name.starts_with("fs.protected_")
            || name.starts_with("kernel.panic")
            || name.starts_with("kernel.kexec_load")
            || [
                "kernel.randomize_va_space",
                "kernel.kptr_restrict",
                "kernel.dmesg_restrict",
                "kernel.yama.ptrace_scope",
                "kernel.unprivileged_bpf_disabled",
                "kernel.perf_event_paranoid",
                "kernel.sysrq",
                "kernel.core_pattern",
                "kernel.modules_disabled",
                "kernel.io_uring_disabled",
                "fs.suid_dumpable",
                "vm.mmap_min_addr",
                "vm.unprivileged_userfaultfd",
                "user.max_user_namespaces",
                "net.core.bpf_jit_harden",
                "net.ipv4.ip_forward",
                "net.ipv4.tcp_syncookies",
                "net.ipv4.icmp_echo_ignore_broadcasts",
                "net.ipv4.icmp_ignore_bogus_error_responses",
                "net.ipv4.conf.all.rp_filter",
                "net.ipv4.conf.default.rp_filter",
                "net.ipv4.conf.all.accept_redirects",
                "net.ipv4.conf.all.send_redirects",
                "net.ipv4.conf.all.log_martians",
                "net.ipv4.conf.default.accept_source_route",
                "net.ipv6.conf.all.accept_ra",
                "net.ipv6.conf.default.accept_redirects",
            ]
            .contains(name);
        assert!(!wanted || found.contains_key(*name), "{name} is missing");
    }
    println!("{} parameters", found.len());
}

#[test]
fn the_time_zone_is_that_of_date_and_timedatectl() {
    let node = node();
    // The name in the database gives the time that the machine shows.
    let Some(shown) = tool("date", &["+%Z %z"]) else { return };
    let named = std::process::Command::new("date")
        .arg("+%Z %z")
        .env("TZ", format!(":{}", node.time_zone))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&named.stdout), shown, "{}", node.time_zone);
    if let Some(zone) = tool("timedatectl", &["show", "--property=Timezone", "--value"]) {
        assert_eq!(node.time_zone, zone.trim());
    }
}

#[test]
fn the_uptime_is_that_of_uptime() {
    let seconds = |args: &[&str]| Some(tool("date", args)?.trim().parse::<u64>().unwrap());
    let Some(since) = tool("uptime", &["-s"]) else { return };
    let (Some(since), Some(now)) = (seconds(&["-d", since.trim(), "+%s"]), seconds(&["+%s"])) else { return };
    let day = 24 * 60 * 60;
    // `uptime -s` may be a second off, so both sides of a border are right.
    let class = |age: u64| match age {
        age if age < day => "day",
        age if age < 7 * day => "week",
        age if age < 30 * day => "month",
        age if age < 90 * day => "quarter",
        _ => "longer",
    };
    let age = now - since;
    let found = node().uptime_class;
    assert!([class(age.saturating_sub(5)), class(age + 5)].contains(&found.as_str()), "{age}: {found}");
}

#[test]
fn guards_and_init_are_those_of_their_tools() {
    let node = node();
    if let Some(init) = tool("ps", &["-o", "comm=", "-p", "1"]) {
        assert_eq!(node.init, init.trim());
    }
    if let Some(taint) = tool("sysctl", &["-n", "kernel.tainted"]) {
        assert_eq!(node.kernel_taint.to_string(), taint.trim());
    }
    // These say no by their exit code: what they print counts.
    let said = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output();
        let output = output.map_err(|error| println!("SKIPPED: no {program} here: {error}")).ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if let Some(mode) = said("getenforce", &[]) {
        assert_eq!(node.selinux, mode.to_lowercase());
    }
    if let Some(enabled) = said("aa-enabled", &[]) {
        assert_eq!(node.apparmor == "enabled", enabled == "Yes", "{enabled}");
    }
    if let Some(state) = said("mokutil", &["--sb-state"]) {
        // Rule: a machine without UEFI has no secure boot, which is no answer.
        let expected = state.lines().find_map(|line| line.strip_prefix("SecureBoot ")).unwrap_or_default();
        assert_eq!(node.secure_boot, expected);
    }
}
