//! Processor packages: `/proc/cpuinfo` for what they are,
//! `/sys/devices/system/cpu` (sysfs-devices-system-cpu of the kernel's ABI) for
//! how they are made up.

mod cpuinfo;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use contracts::v1::{ProcessorCache, ProcessorDetails, ProcessorVulnerability, asset_details::Details};

use super::sysfs::{attribute, names, number};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;
use cpuinfo::{Description, each_processor};

pub(super) const WATCHED: &[&str] = &[];

const CPUINFO: &str = "proc/cpuinfo";
const CPU: &str = "sys/devices/system/cpu";

/// Where logical processors are in the machine.
#[derive(Debug, Default)]
struct Package {
    /// The first of its logical processors.
    first: u32,
    threads: u32,
    /// Each core by the list of its threads.
    cores: BTreeSet<String>,
    max_khz: u64,
    description: Description,
}

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let packages = packages(host)?;
    let vulnerabilities = vulnerabilities(host)?;
    let mut scan = Scan::default();
    for (socket, package) in packages {
        let mut description = package.description;
        description.flags.sort();
        description.flags.dedup();
        let microcode = match description.microcode {
            version if version.is_empty() => {
                attribute(host, &format!("{CPU}/cpu{}/microcode/version", package.first))?
            }
            version => version,
        };
        let model = description.model;
        let name =
            if model.is_empty() { format!("Socket {socket}") } else { format!("{model} (socket {socket})") };
        let details = ProcessorDetails {
            socket,
            vendor: description.vendor,
            model,
            signature: description.signature,
            cores: u32::try_from(package.cores.len()).unwrap_or(u32::MAX),
            threads: package.threads,
            max_mhz: u32::try_from(package.max_khz / 1000).unwrap_or(0),
            microcode,
            flags: description.flags,
            caches: caches(host, package.first)?,
            vulnerabilities: vulnerabilities.clone(),
            architecture: architecture(),
        };
        scan.assets.push(ScannedAsset::new(format!("socket/{socket}"), name, Details::Processor(details)));
    }
    Ok(scan)
}

/// As `uname -m` says; agent and node share the kernel.
fn architecture() -> String {
    nix::sys::utsname::uname().map(|names| clean(names.machine().as_encoded_bytes())).unwrap_or_default()
}

/// Packages by their number. What /sys says of the topology counts; cpuinfo's
/// word is taken for processors that it does not place.
fn packages(host: &HostRoot) -> Result<BTreeMap<u32, Package>, ProbeError> {
    let mut packages: BTreeMap<u32, Package> = BTreeMap::new();
    let mut placed: BTreeMap<u32, u32> = BTreeMap::new();
    let mut processors: Vec<u32> =
        names(host, CPU)?.iter().filter_map(|name| name.strip_prefix("cpu")?.parse().ok()).collect();
    processors.sort_unstable();
    for processor in processors {
        let folder = format!("{CPU}/cpu{processor}");
        let topology = format!("{folder}/topology");
        let core = core(host, &topology)?;
        // One that is offline has no topology.
        if core.is_empty() {
            continue;
        }
        // -1: the firmware does not tell, as on some Arm machines.
        let socket = number(host, &format!("{topology}/physical_package_id"))?.unwrap_or(0);
        placed.insert(processor, socket);
        let package =
            packages.entry(socket).or_insert_with(|| Package { first: processor, ..Package::default() });
        package.threads += 1;
        package.cores.insert(core);
        let max_khz = number(host, &format!("{folder}/cpufreq/cpuinfo_max_freq"))?.unwrap_or(0);
        package.max_khz = package.max_khz.max(max_khz);
    }
    let file = host.open(CPUINFO).map_err(ProbeError::read(CPUINFO))?;
    let mut described = BTreeSet::new();
    each_processor(BufReader::new(file), |processor, description| {
        let socket = match placed.get(&processor) {
            Some(socket) => *socket,
            // With a topology, what it does not place has just come or gone.
            None if !placed.is_empty() => return,
            None => description.socket.unwrap_or(0),
        };
        let package =
            packages.entry(socket).or_insert_with(|| Package { first: processor, ..Package::default() });
        if placed.is_empty() {
            package.threads += 1;
            package.cores.insert(description.core.clone().unwrap_or_else(|| processor.to_string()));
        }
        if described.insert(socket) {
            package.description = std::mem::take(description);
        }
    })
    .map_err(ProbeError::read(CPUINFO))?;
    Ok(packages)
}

/// What tells one core of the machine from another: its threads. Numbers of
/// cores repeat in the clusters of an Arm machine.
fn core(host: &HostRoot, topology: &str) -> Result<String, ProbeError> {
    // Linux 5.3 renamed it.
    for name in ["core_cpus_list", "thread_siblings_list", "core_id"] {
        let core = attribute(host, &format!("{topology}/{name}"))?;
        if !core.is_empty() {
            return Ok(core);
        }
    }
    Ok(String::new())
}

/// Caches that a processor uses, each once.
fn caches(host: &HostRoot, processor: u32) -> Result<Vec<ProcessorCache>, ProbeError> {
    let folder = format!("{CPU}/cpu{processor}/cache");
    let mut caches = Vec::new();
    for name in names(host, &folder)?.iter().filter(|name| name.starts_with("index")) {
        let text = |file: &str| attribute(host, &format!("{folder}/{name}/{file}"));
        let Ok(level) = text("level")?.parse() else { continue };
        let Some(size_bytes) = parse_size(&text("size")?) else { continue };
        caches.push(ProcessorCache { level, r#type: text("type")?.to_lowercase(), size_bytes });
    }
    caches.sort_by(|one: &ProcessorCache, other| (one.level, &one.r#type).cmp(&(other.level, &other.r#type)));
    Ok(caches)
}

/// A size as the kernel writes it, such as `512K`.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// What the kernel says of the machine; it is the same for each package.
fn vulnerabilities(host: &HostRoot) -> Result<Vec<ProcessorVulnerability>, ProbeError> {
    let folder = format!("{CPU}/vulnerabilities");
    let mut found = Vec::new();
    for name in names(host, &folder)? {
        let state = attribute(host, &format!("{folder}/{name}"))?;
        if !state.is_empty() {
            found.push(ProcessorVulnerability { name, state });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
