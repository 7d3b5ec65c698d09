//! Kernel parameters that matter to security, and what the kernel does when it
//! crashes: `/proc/sys` (sysctl(8)).
//!
//! What is asked for comes from the CIS benchmarks for Linux distributions, the
//! recommended settings of the Kernel Self Protection Project (KSPP), the
//! kernel's own Documentation/admin-guide/sysctl and kubelet's
//! `protectKernelDefaults`.
//!
//! `/proc/sys/net` is that of the READER's network namespace, whichever mount of
//! proc it is read through, and `kernel.sem` and the like of its IPC namespace:
//! the agent has to run in those of the node (`hostNetwork`, `hostIPC`), or
//! these are the values of its container.

use std::io::ErrorKind;

use contracts::v1::{KernelParameterDetails, asset_details::Details};

use super::sysfs::given_attribute;
use super::{ProbeError, Scan, exists};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

const SYS: &str = "proc/sys";

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    let mut denied = Vec::new();
    // Each kernel has some: without the folder this is no /proc.
    if !exists(host, SYS)? {
        return Err(ProbeError::read(SYS)(ErrorKind::NotFound.into()));
    }
    for parameter in parameters() {
        let path = format!("{SYS}/{}", parameter.replace('.', "/"));
        let value = match given_attribute(host, &path) {
            // Columns are parted by tabs.
            Ok(Some(value)) => value.split_whitespace().collect::<Vec<_>>().join(" "),
            // One that this kernel does not have, or that its architecture has not.
            Ok(None) => continue,
            // Some are for root alone. That it is there is known all the same.
            Err(ProbeError::Read { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                denied.push(parameter.clone());
                String::new()
            }
            Err(error) => return Err(error),
        };
        let details = KernelParameterDetails { parameter: parameter.clone(), value };
        scan.assets.push(ScannedAsset::new(parameter.clone(), parameter, Details::KernelParameter(details)));
    }
    if !denied.is_empty() {
        scan.warnings.push(format!("{}: permission denied, needs root", denied.join(", ")));
    }
    Ok(scan)
}

/// Names with dots, in their order.
fn parameters() -> Vec<String> {
    let mut names: Vec<String> = PARAMETERS.iter().map(|name| (*name).to_owned()).collect();
    // What holds for all interfaces, and what new ones start with.
    for scope in ["all", "default"] {
        names.extend(IPV4_PER_INTERFACE.iter().map(|name| format!("net.ipv4.conf.{scope}.{name}")));
        names.extend(IPV6_PER_INTERFACE.iter().map(|name| format!("net.ipv6.conf.{scope}.{name}")));
    }
    names.sort();
    names
}

const IPV4_PER_INTERFACE: [&str; 13] = [
    "accept_local",
    "accept_redirects",
    "accept_source_route",
    "arp_announce",
    "arp_filter",
    "arp_ignore",
    "drop_gratuitous_arp",
    "forwarding",
    "log_martians",
    "route_localnet",
    "rp_filter",
    "secure_redirects",
    "send_redirects",
];

const IPV6_PER_INTERFACE: [&str; 12] = [
    "accept_ra",
    "accept_ra_defrtr",
    "accept_ra_pinfo",
    "accept_ra_rtr_pref",
    "accept_redirects",
    "accept_source_route",
    "autoconf",
    "dad_transmits",
    "disable_ipv6",
    "forwarding",
    "max_addresses",
    "router_solicitations",
];

/// Left out: `kernel.perf_event_max_sample_rate`, which the kernel lowers by
/// itself under load, and `fs.binfmt_misc`, which is mounted by being looked at.
const PARAMETERS: [&str; 97] = [
    "abi.vsyscall32",
    "debug.exception-trace",
    "dev.tty.ldisc_autoload",
    "dev.tty.legacy_tiocsti",
    "fs.file-max",
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "fs.mount-max",
    "fs.nr_open",
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "fs.suid_dumpable",
    "kernel.apparmor_restrict_unprivileged_unconfined",
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.core_pattern",
    "kernel.core_uses_pid",
    "kernel.ctrl-alt-del",
    "kernel.dmesg_restrict",
    "kernel.ftrace_dump_on_oops",
    "kernel.ftrace_enabled",
    "kernel.hardlockup_panic",
    "kernel.hung_task_panic",
    "kernel.hung_task_timeout_secs",
    "kernel.io_uring_disabled",
    "kernel.io_uring_group",
    "kernel.kexec_load_disabled",
    "kernel.kexec_load_limit_panic",
    "kernel.kexec_load_limit_reboot",
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.kptr_restrict",
    "kernel.modprobe",
    "kernel.modules_disabled",
    "kernel.nmi_watchdog",
    "kernel.numa_balancing",
    "kernel.oops_limit",
    "kernel.panic",
    "kernel.panic_on_io_nmi",
    "kernel.panic_on_oops",
    "kernel.panic_on_rcu_stall",
    "kernel.panic_on_unrecovered_nmi",
    "kernel.panic_on_warn",
    "kernel.panic_print",
    "kernel.panic_sys_info",
    "kernel.perf_event_paranoid",
    "kernel.pid_max",
    "kernel.printk",
    "kernel.printk_devkmsg",
    "kernel.randomize_va_space",
    "kernel.sched_child_runs_first",
    "kernel.softlockup_panic",
    "kernel.sysrq",
    "kernel.threads-max",
    "kernel.unknown_nmi_panic",
    "kernel.unprivileged_bpf_disabled",
    "kernel.unprivileged_userns_clone",
    "kernel.warn_limit",
    "kernel.watchdog",
    "kernel.watchdog_thresh",
    "kernel.yama.ptrace_scope",
    "net.bridge.bridge-nf-call-arptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-iptables",
    "net.core.bpf_jit_enable",
    "net.core.bpf_jit_harden",
    "net.core.bpf_jit_kallsyms",
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv4.icmp_echo_ignore_broadcasts",
    "net.ipv4.icmp_ignore_bogus_error_responses",
    "net.ipv4.icmp_ratelimit",
    "net.ipv4.icmp_ratemask",
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_rfc1337",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv6.icmp.echo_ignore_all",
    "net.ipv6.icmp.echo_ignore_anycast",
    "net.ipv6.icmp.echo_ignore_multicast",
    "net.netfilter.nf_conntrack_max",
    "user.max_user_namespaces",
    "vm.max_map_count",
    "vm.memfd_noexec",
    "vm.mmap_min_addr",
    "vm.mmap_rnd_bits",
    "vm.mmap_rnd_compat_bits",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "vm.swappiness",
    "vm.unprivileged_userfaultfd",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn write(root: &Path, path: &str, text: &[u8]) {
        let path = root.join(SYS).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn reads_what_this_kernel_has() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "kernel/randomize_va_space", b"2\n");
        write(root.path(), "kernel/printk", b"4\t4\t1\t7\n");
        write(root.path(), "kernel/core_pattern", b"\n");
        write(root.path(), "kernel/hostname", b"not asked for\n");
        write(root.path(), "net/ipv4/conf/all/rp_filter", b"1\n");
        write(root.path(), "net/ipv4/conf/eth0/rp_filter", b"0\n");
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let found: Vec<(&str, &str)> = scan
            .assets
            .iter()
            .map(|asset| match &asset.details {
                Details::KernelParameter(one) => (asset.natural_key.as_str(), one.value.as_str()),
                other => panic!("no parameter: {other:?}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                ("kernel.core_pattern", ""),
                ("kernel.printk", "4 4 1 7"),
                ("kernel.randomize_va_space", "2"),
                ("net.ipv4.conf.all.rp_filter", "1"),
            ]
        );
    }

    #[test]
    fn each_is_asked_for_once() {
        let names = parameters();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(PARAMETERS.is_sorted() && IPV4_PER_INTERFACE.is_sorted() && IPV6_PER_INTERFACE.is_sorted());
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "kernel/sysrq", &[b'1'; 70_000]);
        let host = HostRoot::new(root.path()).unwrap();
        assert!(scan(&host).is_err());
        let sysrq = root.path().join(SYS).join("kernel/sysrq");
        fs::remove_file(&sysrq).unwrap();
        assert!(scan(&host).unwrap().assets.is_empty());
        // ENAMETOOLONG: that it is there or not cannot be told.
        std::os::unix::fs::symlink("x".repeat(300), &sysrq).unwrap();
        assert!(scan(&host).is_err());
        fs::remove_dir_all(root.path().join(SYS)).unwrap();
        assert!(scan(&host).is_err(), "no /proc is no want of parameters");
    }
}
