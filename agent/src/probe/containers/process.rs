//! What /proc says of the first process of a container (proc(5)).

use crate::host::HostRoot;

const MAX_FILE: u64 = 64 * 1024;

/// Capabilities that containerd, CRI-O and Docker give each container: these
/// fourteen at most (capabilities(7); containerd, oci/spec.go; moby,
/// daemon/pkg/oci/caps/defaults.go).
const USUAL: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// In the order of their numbers (capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A process; empty where it is gone or may not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) program: String,
    pub(super) uid: Option<u32>,
    pub(super) extra_capabilities: Vec<String>,
}

pub(super) fn read(host: &HostRoot, pid: u32) -> Process {
    let status = host.read(format!("proc/{pid}/status"), MAX_FILE).unwrap_or_default();
    let mut process = parse_status(&status);
    process.program = host.line(format!("proc/{pid}/comm")).unwrap_or_default();
    process
}

/// When a process began, in ticks since the boot; `None` when it is gone.
pub(super) fn started(host: &HostRoot, pid: u32) -> Option<u64> {
    parse_started(&host.read(format!("proc/{pid}/stat"), MAX_FILE).ok()?)
}

/// Field 22; the name in field 2 may hold anything, so what comes after its end counts.
fn parse_started(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = stat.get(end + 1..)?.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    std::str::from_utf8(fields.into_iter().nth(22 - 3)?).ok()?.trim().parse().ok()
}

/// The real user and the effective capabilities.
fn parse_status(status: &[u8]) -> Process {
    let mut process = Process::default();
    for line in status.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        if let Some(uids) = line.strip_prefix("Uid:") {
            process.uid = uids.split_whitespace().next().and_then(|uid| uid.parse().ok());
        } else if let Some(mask) = line.strip_prefix("CapEff:") {
            process.extra_capabilities =
                u64::from_str_radix(mask.trim(), 16).map_or(Vec::new(), beyond_usual);
        }
    }
    process
}

fn beyond_usual(mask: u64) -> Vec<String> {
    let mut names = Vec::new();
    for number in (0..u64::BITS).filter(|number| mask & (1 << number) != 0) {
        let known = NAMES.get(number as usize);
        let name = known.map_or_else(|| format!("CAP_{number}"), |name| (*name).to_owned());
        if !USUAL.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    names
}

#[cfg(test)]
pub(super) fn parse(bytes: &[u8]) {
    parse_status(bytes);
    parse_started(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_the_usual_is_named() {
        for (mask, expected) in [
            // What containerd gives by default.
            (0x0000_0000_a804_25fb, &[][..]),
            (0x0000_0000_a804_35fb, &["CAP_NET_ADMIN"]),
            (1 << 21 | 1 << 39 | 1 << 50, &["CAP_50", "CAP_BPF", "CAP_SYS_ADMIN"]),
            (0, &[]),
        ] {
            assert_eq!(beyond_usual(mask), expected, "{mask:x}");
        }
        assert_eq!(beyond_usual(0x1ff_ffff_ffff).len(), 41 - 14, "privileged");
    }

    #[test]
    fn reads_status_and_stat() {
        let process =
            parse_status(b"Name:\tnginx\nUid:\t101\t0\t0\t0\nCapPrm:\tffff\nCapEff:\t0000000000200000\n");
        assert_eq!((process.uid, process.extra_capabilities), (Some(101), vec!["CAP_SYS_ADMIN".to_owned()]));
        for garbage in [&b""[..], b"Uid:\nCapEff:\n", b"Uid:\t-1\nCapEff:\txyz\n", b"\xff\xfe\n"] {
            assert_eq!(parse_status(garbage), Process::default());
        }
        let stat = b"42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7\n";
        assert_eq!(parse_started(stat), Some(12345));
        for garbage in [&b""[..], b"42 (a", b"42 (a) S 1 2", b")"] {
            assert_eq!(parse_started(garbage), None);
        }
    }
}
