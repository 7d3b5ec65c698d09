//! What guards the kernel: secure boot, security modules, lockdown, taint.

use crate::host::HostRoot;
use crate::text::clean;

/// Variable of UEFI (UEFI Specification, 3.3) as efivarfs shows it.
const SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// What guards the kernel of a node.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Security {
    pub(super) secure_boot: String,
    pub(super) modules: Vec<String>,
    pub(super) selinux: String,
    pub(super) apparmor: String,
    pub(super) lockdown: String,
    pub(super) taint: u64,
}

impl Security {
    pub(super) fn read(host: &HostRoot) -> Self {
        let modules: Vec<String> = host
            .line("sys/kernel/security/lsm")
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let lockdown = host.line("sys/kernel/security/lockdown").unwrap_or_default();
        let taint = host.line("proc/sys/kernel/tainted").and_then(|number| number.parse().ok());
        Self {
            secure_boot: secure_boot(&host.read(SECURE_BOOT, 64).unwrap_or_default()).to_owned(),
            selinux: selinux(host, &modules).to_owned(),
            apparmor: apparmor(host, &modules).to_owned(),
            lockdown: chosen(&lockdown).to_owned(),
            taint: taint.unwrap_or(0),
            modules,
        }
    }
}

/// Four bytes of attributes come before the value.
fn secure_boot(variable: &[u8]) -> &'static str {
    match variable.get(4) {
        Some(1) => "enabled",
        Some(0) => "disabled",
        _ => "",
    }
}

/// By the kernel, if it has its file system. Without, the kernel's list of
/// modules tells that it is off, whatever the settings say; only where there is
/// no list do these count.
fn selinux(host: &HostRoot, modules: &[String]) -> &'static str {
    match host.line("sys/fs/selinux/enforce").as_deref() {
        Some("1") => return "enforcing",
        Some("0") => return "permissive",
        _ => {}
    }
    if !modules.is_empty() && !modules.iter().any(|module| module == "selinux") {
        return "disabled";
    }
    let settings = host.read("etc/selinux/config", 64 * 1024).unwrap_or_default();
    selinux_setting(&settings)
}

/// `SELINUX=` of selinux_config(5).
fn selinux_setting(settings: &[u8]) -> &'static str {
    let settings = clean(settings);
    let value = settings.lines().find_map(|line| line.trim().strip_prefix("SELINUX="));
    match value.map(|value| value.trim().to_lowercase()).as_deref() {
        Some("enforcing") => "enforcing",
        Some("permissive") => "permissive",
        Some("disabled") => "disabled",
        _ => "",
    }
}

fn apparmor(host: &HostRoot, modules: &[String]) -> &'static str {
    match host.line("sys/module/apparmor/parameters/enabled").as_deref() {
        Some("Y") => "enabled",
        Some("N") => "disabled",
        _ if modules.iter().any(|module| module == "apparmor") => "enabled",
        _ if !modules.is_empty() => "disabled",
        _ => "",
    }
}

/// The word in brackets, as the kernel marks one of several: `none [integrity]
/// confidentiality`.
fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn security(files: &[(&str, &[u8])]) -> Security {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Security::read(&HostRoot::new(root.path()).unwrap())
    }

    #[test]
    fn what_is_not_told_is_empty() {
        assert_eq!(security(&[]), Security::default());
    }

    #[test]
    fn reads_what_the_kernel_says() {
        let found = security(&[
            (SECURE_BOOT, b"\x06\0\0\0\x01"),
            ("sys/kernel/security/lsm", b"lockdown,capability,yama,apparmor"),
            ("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n"),
            ("sys/module/apparmor/parameters/enabled", b"Y\n"),
            ("etc/selinux/config", b"SELINUX=enforcing\n"),
            ("proc/sys/kernel/tainted", b"12289\n"),
        ]);
        let expected = Security {
            secure_boot: "enabled".into(),
            modules: ["lockdown", "capability", "yama", "apparmor"].map(String::from).into(),
            selinux: "disabled".into(),
            apparmor: "enabled".into(),
            lockdown: "integrity".into(),
            taint: 12289,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn selinux_is_what_the_kernel_enforces() {
        let config: (&str, &[u8]) =
            ("etc/selinux/config", b"# SELINUX=disabled\nSELINUX=Permissive\nSELINUXTYPE=x\n");
        for (files, expected) in [
            (vec![("sys/fs/selinux/enforce", &b"1"[..]), config], "enforcing"),
            (vec![("sys/fs/selinux/enforce", b"0"), config], "permissive"),
            (vec![config], "permissive"),
            (vec![("sys/kernel/security/lsm", b"capability"), config], "disabled"),
            (vec![("etc/selinux/config", b"SELINUX=\xff\n")], ""),
        ] {
            assert_eq!(security(&files).selinux, expected, "{files:?}");
        }
    }

    #[test]
    fn damaged_files_tell_nothing() {
        for variable in [&b"\x06\0\0\0"[..], b"\x06\0\0\0\x07", b""] {
            assert_eq!(secure_boot(variable), "");
        }
        for (text, expected) in [("[none] a", "none"), ("none", ""), ("[none", ""), ("]a[", ""), ("", "")] {
            assert_eq!(chosen(text), expected);
        }
    }
}
