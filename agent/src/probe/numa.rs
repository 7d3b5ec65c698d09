//! NUMA nodes: `/sys/devices/system/node` (sysfs-devices-node of the kernel's
//! ABI). A kernel without NUMA has none.

use contracts::v1::{NumaNodeDetails, asset_details::Details};

use super::sysfs::{attribute, names};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

const NODE: &str = "sys/devices/system/node";

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut numbers: Vec<u32> =
        names(host, NODE)?.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut scan = Scan::default();
    for number in numbers {
        let text = |file: &str| attribute(host, &format!("{NODE}/node{number}/{file}"));
        let details = NumaNodeDetails {
            number,
            processors: text("cpulist")?,
            memory_bytes: parse_memory_total(&text("meminfo")?).unwrap_or(0),
            distances: text("distance")?.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        };
        let name = format!("NUMA node {number}");
        scan.assets.push(ScannedAsset::new(number.to_string(), name, Details::NumaNode(details)));
    }
    Ok(scan)
}

/// `Node 0 MemTotal:  24684084 kB`, in bytes.
fn parse_memory_total(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.split_once("MemTotal:"))?.1;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn reads_nodes_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        for (node, processors, kib, distances) in
            [(10, "", 8, "20 12 10"), (0, "0-1,4", 1024, "10 20 30"), (2, "2-3", 2048, "20 10 12")]
        {
            let folder = root.path().join(format!("sys/devices/system/node/node{node}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpulist"), format!("{processors}\n")).unwrap();
            fs::write(
                folder.join("meminfo"),
                format!("\nNode {node} MemTotal:  {kib} kB\nNode {node} MemFree: 1 kB\n"),
            )
            .unwrap();
            fs::write(folder.join("distance"), format!("{distances}\n")).unwrap();
        }
        fs::write(root.path().join("sys/devices/system/node/online"), "0,2,10\n").unwrap();
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let keys: Vec<&str> = scan.assets.iter().map(|asset| asset.natural_key.as_str()).collect();
        assert_eq!(keys, ["0", "2", "10"]);
        let expected = NumaNodeDetails {
            number: 0,
            processors: "0-1,4".into(),
            memory_bytes: 1024 * 1024,
            distances: vec![10, 20, 30],
        };
        assert_eq!(scan.assets[0].details, Details::NumaNode(expected));
    }

    #[test]
    fn reads_only_what_is_a_size() {
        for (text, expected) in [
            ("Node 0 MemTotal: 1 kB", Some(1024)),
            ("Node 0 MemTotal: 99999999999999999999 kB", None),
            ("Node 0 MemTotal: 18446744073709551615 kB", None),
            ("", None),
        ] {
            assert_eq!(parse_memory_total(text), expected);
        }
    }
}
