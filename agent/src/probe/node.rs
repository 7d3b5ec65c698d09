//! The machine itself: names, system, kernel, processors, memory, what it runs
//! under.

use std::collections::BTreeSet;

use contracts::v1::{NodeDetails, asset_details::Details};
use prost_types::Timestamp;

use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
const HOSTNAME: &str = "proc/sys/kernel/hostname";
const STAT: &str = "proc/stat";

pub(super) const WATCHED: &[&str] = &["etc/os-release", "etc/hostname"];

const MAX_BYTES: u64 = 16 * 1024 * 1024;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
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
    let boot_time = parse_boot_time(&read(STAT)).map(|seconds| Timestamp { seconds, nanos: 0 });
    let release = OS_RELEASE.iter().find_map(|path| host.read(path, MAX_BYTES).ok()).unwrap_or_default();
    let release = parse_os_release(&release);
    let (sockets, cores) = topology(host).unwrap_or((processors.sockets, processors.cores));
    let machine = Machine::read(host);
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
        ..NodeDetails::default()
    };
    Ok(Scan {
        assets: vec![ScannedAsset::new("node", hostname, Details::Node(details))],
        warnings,
        ..Scan::default()
    })
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

/// `btime` of `/proc/stat`, in seconds since the epoch.
fn parse_boot_time(text: &[u8]) -> Option<i64> {
    clean(text).lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[derive(Debug, Default, PartialEq)]
struct Release {
    name: String,
    id: String,
    version: String,
}

/// Reads os-release(5).
fn parse_os_release(text: &[u8]) -> Release {
    let mut release = Release::default();
    for line in clean(text).lines() {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let field = match name {
            "PRETTY_NAME" => &mut release.name,
            "ID" => &mut release.id,
            "VERSION_ID" => &mut release.version,
            _ => continue,
        };
        *field = unquote(value);
    }
    release
}

/// A value as a shell would read it: quotes off, backslashes resolved.
fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

/// What tells which machine it is and what it runs under.
#[derive(Debug, Default)]
struct Machine {
    vendor: String,
    product: String,
    bios_vendor: String,
    container: Option<String>,
    hypervisor_type: Option<String>,
    clock_sources: String,
}

impl Machine {
    fn read(host: &HostRoot) -> Self {
        let dmi = |name: &str| host.line(format!("sys/class/dmi/id/{name}")).unwrap_or_default();
        // As systemd-detect-virt: the container's manager says it, or leaves a mark.
        let container = host.line("run/systemd/container").or_else(|| {
            let marks = [("run/.containerenv", "podman"), (".dockerenv", "docker")];
            marks.iter().find(|(path, _)| host.exists(path)).map(|(_, name)| (*name).to_owned())
        });
        Self {
            vendor: dmi("sys_vendor"),
            product: dmi("product_name"),
            bios_vendor: dmi("bios_vendor"),
            container,
            hypervisor_type: host.line("sys/hypervisor/type"),
            clock_sources: host
                .line("sys/devices/system/clocksource/clocksource0/available_clocksource")
                .unwrap_or_default(),
        }
    }

    /// The names are those of systemd-detect-virt(1). `hypervisor`: whether the
    /// processor says that it is virtual; `None` where processors do not tell.
    fn virtualization(&self, hypervisor: Option<bool>) -> &str {
        if let Some(container) = &self.container {
            return container;
        }
        // src/basic/virt.c of systemd: texts of DMI and what they stand for.
        let vendors = [
            ("KVM", "kvm"),
            ("OpenStack", "kvm"),
            ("KubeVirt", "kvm"),
            ("Amazon EC2", "amazon"),
            ("QEMU", "qemu"),
            ("VMware", "vmware"),
            ("VMW", "vmware"),
            ("innotek GmbH", "oracle"),
            ("VirtualBox", "oracle"),
            ("Xen", "xen"),
            ("Bochs", "bochs"),
            ("Parallels", "parallels"),
            ("BHYVE", "bhyve"),
            ("Hyper-V", "microsoft"),
            ("Virtual Machine", "microsoft"),
            ("Apple Virtualization", "apple"),
            ("Google Compute Engine", "google"),
        ];
        let by_clock = if self.clock_sources.contains("kvm-clock") {
            Some("kvm")
        } else if self.clock_sources.contains("hyperv") {
            Some("microsoft")
        } else {
            None
        };
        let by_dmi = vendors.iter().find(|(text, _)| {
            [&self.product, &self.vendor, &self.bios_vendor].iter().any(|field| field.starts_with(text))
        });
        match (by_dmi, hypervisor) {
            // A metal machine of a cloud names the cloud, too.
            (_, Some(false)) if self.hypervisor_type.is_none() => "none",
            // QEMU's machine with KVM's clock is a KVM guest.
            (Some((_, "qemu")), _) if by_clock == Some("kvm") => "kvm",
            (Some((_, name)), _) => name,
            (None, _) if self.hypervisor_type.as_deref() == Some("xen") => "xen",
            (None, Some(true)) => by_clock.unwrap_or("vm-other"),
            (None, _) => by_clock.unwrap_or(if self.vendor.is_empty() { "" } else { "none" }),
        }
    }
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
    fn reads_os_release() {
        for (text, expected) in [
            (
                &b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"[..],
                ["Debian GNU/Linux 12 (bookworm)", "debian", "12"],
            ),
            (b"# c\nID='alpine'\nPRETTY_NAME=\"a \\\"b\\\" \\$c\"\n", ["a \"b\" $c", "alpine", ""]),
            (b"", ["", "", ""]),
            (b"=\n===\nID\nID=\"\n", ["", "\"", ""]),
        ] {
            let release = parse_os_release(text);
            assert_eq!([release.name, release.id, release.version], expected);
        }
    }

    #[test]
    fn reads_memory_and_boot_time() {
        assert_eq!(parse_memory_total(b"MemFree: 1 kB\nMemTotal:   24684084 kB\n"), Some(24_684_084 * 1024));
        assert_eq!(parse_memory_total(b"MemTotal: many kB\n"), None);
        assert_eq!(parse_boot_time(b"cpu 1 2\nbtime 1795449368\n"), Some(1_795_449_368));
        assert_eq!(parse_boot_time(b"btime\n"), None);
    }

    #[test]
    fn tells_what_it_runs_under() {
        let machine = |vendor: &str, product: &str, clock: &str| Machine {
            vendor: vendor.into(),
            product: product.into(),
            clock_sources: clock.into(),
            ..Default::default()
        };
        for (machine, hypervisor, expected) in [
            (machine("Dell Inc.", "PowerEdge R640", "tsc hpet"), Some(false), "none"),
            (machine("Amazon EC2", "m5.metal", "tsc"), Some(false), "none"),
            (machine("Amazon EC2", "m5.large", "tsc"), Some(true), "amazon"),
            (machine("QEMU", "Standard PC", "kvm-clock tsc"), Some(true), "kvm"),
            (machine("QEMU", "Standard PC", "tsc"), Some(true), "qemu"),
            (machine("Microsoft Corporation", "Virtual Machine", ""), Some(true), "microsoft"),
            (machine("", "", "kvm-clock tsc"), Some(true), "kvm"),
            (machine("", "", "tsc"), Some(true), "vm-other"),
            (machine("Ampere", "Mt. Jade", "arch_sys_counter"), None, "none"),
            (machine("", "", ""), None, ""),
            (Machine { container: Some("docker".into()), ..Default::default() }, Some(true), "docker"),
        ] {
            assert_eq!(machine.virtualization(hypervisor), expected, "{machine:?}");
        }
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
}
