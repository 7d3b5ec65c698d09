//! How many of each kind ours and FusionInventory find.

use std::collections::BTreeMap;

use serde_json::Value;

/// Kinds that both know: our name, the section of FusionInventory's XML, and what
/// is counted.
pub const KINDS: [(&str, &str, &str); 9] = [
    ("PACKAGE", "SOFTWARES", "packages"),
    ("DISK", "STORAGES", "disks"),
    ("FILESYSTEM", "DRIVES", "filesystems"),
    ("NETWORK_INTERFACE", "NETWORKS", "network interfaces (theirs: one an address)"),
    ("PROCESSOR", "CPUS", "processors"),
    ("MEMORY_MODULE", "MEMORIES", "memory modules"),
    ("PCI_DEVICE", "CONTROLLERS", "PCI devices"),
    ("USER", "LOCAL_USERS", "users"),
    ("GROUP", "LOCAL_GROUPS", "groups (theirs: those with members)"),
];

/// Assets by kind, of `assettrack-agent scan --output json`.
pub fn ours(json: &[u8]) -> Option<BTreeMap<String, usize>> {
    let assets: Vec<Value> = serde_json::from_slice(json).ok()?;
    let mut counts = BTreeMap::new();
    for asset in &assets {
        let kind = asset["kind"].as_str()?.strip_prefix("ASSET_KIND_")?;
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    Some(counts)
}

/// Entries by section, of FusionInventory's XML. Sections are the children of
/// `CONTENT`, one element an entry, each on a line of its own.
pub fn theirs(xml: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in xml.lines() {
        let Some(tag) = line.strip_prefix("    <").and_then(|rest| rest.strip_suffix('>')) else { continue };
        if tag.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            *counts.entry(tag.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::{ours, theirs};

    #[test]
    fn both_are_counted_by_kind() {
        let json = br#"[{"kind": "ASSET_KIND_DISK"}, {"kind": "ASSET_KIND_PACKAGE"}, {"kind": "ASSET_KIND_PACKAGE"}]"#;
        let counts = ours(json).unwrap();
        assert_eq!((counts["PACKAGE"], counts["DISK"]), (2, 1));
        assert_eq!(ours(b"no JSON"), None);
        let xml = "<REQUEST>\n  <CONTENT>\n    <DRIVES>\n      <TYPE>/</TYPE>\n    </DRIVES>\n    <SOFTWARES>\n      \
                   <NAME>a</NAME>\n    </SOFTWARES>\n    <SOFTWARES>\n    </SOFTWARES>\n  </CONTENT>\n</REQUEST>\n";
        let counts = theirs(xml);
        assert_eq!((counts["SOFTWARES"], counts["DRIVES"], counts.len()), (2, 1, 2));
    }
}
