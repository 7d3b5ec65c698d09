//! Areas that memory is swapped to: /proc/swaps (proc_swaps(5)).

use contracts::v1::{RelationType, SwapDetails, asset_details::Details};

use super::sysfs::Object;
use super::{ProbeError, Scan, block, exists, filesystems, is_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

/// Not of any process: the same for all.
const SWAPS: &str = "proc/swaps";

/// `poll(2)` tells of a change of this one.
pub(super) const WATCHED: &[&str] = &[SWAPS];

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let text = match host.read(SWAPS, 1024 * 1024) {
        // A kernel without swap; not so a root without /proc.
        Err(error) if is_absent(&error) && exists(host, "proc/version")? => Vec::new(),
        read => read.map_err(ProbeError::read(SWAPS))?,
    };
    let (areas, warnings) = parse(&text);
    let mut scan = Scan { warnings, ..Scan::default() };
    for mut area in areas {
        let on = block::asset_of_path(host, &area.path)?;
        area.path = lasting_path(host, area.path)?;
        let key = area.path.clone();
        let mut asset = ScannedAsset::new(key.clone(), key, Details::Swap(area));
        if let Some((kind, key)) = on {
            asset = asset.related(RelationType::StoredOn, kind, key);
        }
        scan.assets.push(asset);
    }
    Ok(scan)
}

/// The kernel names a logical volume `/dev/dm-1`, by the order of its finding;
/// its name in /dev/mapper stays.
fn lasting_path(host: &HostRoot, path: String) -> Result<String, ProbeError> {
    let Some(device) = path.strip_prefix("/dev/").filter(|name| name.starts_with("dm-")) else {
        return Ok(path);
    };
    let name = Object::new(host, format!("sys/block/{device}")).text("dm/name")?;
    Ok(if name.is_empty() { path } else { format!("/dev/mapper/{name}") })
}

/// A heading, then `path type kilobytes used priority`.
fn parse(text: &[u8]) -> (Vec<SwapDetails>, Vec<String>) {
    let (mut areas, mut warnings) = (Vec::new(), Vec::new());
    for line in text.split(|&byte| byte == b'\n').skip(1).filter(|line| !line.trim_ascii().is_empty()) {
        match parse_line(line) {
            Some(area) => areas.push(area),
            None => {
                warnings.push(format!("{SWAPS}: cannot read the line `{}`", clean(line).escape_debug()));
            }
        }
    }
    (areas, warnings)
}

fn parse_line(line: &[u8]) -> Option<SwapDetails> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (path, kind) = (words.next()?, words.next()?);
    let mut text = || str::from_utf8(words.next()?).ok();
    let kilobytes: u64 = text()?.parse().ok()?;
    text()?;
    let priority = text()?.parse().ok()?;
    let path = filesystems::unescape(path);
    path.starts_with('/').then(|| SwapDetails {
        path,
        r#type: clean(kind),
        size_bytes: kilobytes.saturating_mul(1024),
        priority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::v1::AssetKind;
    use std::fs;

    const SWAPS_OF_A_NODE: &[u8] = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/dm-1                               partition\t8388604\t\t12\t\t-2
/srv/my\\040swap                         file\t\t1024\t\t0\t\t-3
/dev/zram0                              partition\t4194300\t\t0\t\t100
";

    #[test]
    fn reads_areas_and_names_what_it_cannot_read() {
        let (areas, warnings) = parse(SWAPS_OF_A_NODE);
        assert!(warnings.is_empty(), "{warnings:?}");
        let rows: Vec<_> =
            areas.iter().map(|area| (area.path.as_str(), area.r#type.as_str(), area.priority)).collect();
        assert_eq!(
            rows,
            [("/dev/dm-1", "partition", -2), ("/srv/my swap", "file", -3), ("/dev/zram0", "partition", 100)]
        );
        assert_eq!(areas[0].size_bytes, 8_388_604 * 1024);
        let (areas, warnings) =
            parse(b"heading\n/a file x 0 1\n\xff\n/b file 1 0\nc file 1 0 1\n/d file 1 0 1\n");
        assert_eq!((areas.len(), warnings.len()), (1, 4));
        assert!(parse(b"").0.is_empty());
    }

    #[test]
    fn an_area_on_a_volume_has_a_lasting_name() {
        let root = tempfile::tempdir().unwrap();
        let dm = root.path().join("sys/devices/virtual/block/dm-1");
        fs::create_dir_all(dm.join("dm")).unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
        fs::create_dir_all(root.path().join("sys/block")).unwrap();
        fs::write(dm.join("dm/name"), "vg0-swap\n").unwrap();
        fs::write(dm.join("dm/uuid"), "LVM-abc\n").unwrap();
        for (folder, up) in [("sys/class/block", "../.."), ("sys/block", "..")] {
            let target = format!("{up}/devices/virtual/block/dm-1");
            std::os::unix::fs::symlink(target, root.path().join(folder).join("dm-1")).unwrap();
        }
        let host = HostRoot::new(root.path()).unwrap();
        assert!(scan(&host).is_err(), "no /proc is no want of swap");
        fs::write(root.path().join("proc/version"), "Linux\n").unwrap();
        assert!(scan(&host).unwrap().assets.is_empty(), "a kernel without swap");
        fs::write(root.path().join(SWAPS), SWAPS_OF_A_NODE).unwrap();
        let scan = scan(&host).unwrap();
        assert_eq!(scan.assets[0].natural_key, "/dev/mapper/vg0-swap");
        let relation = &scan.assets[0].relations[0];
        assert_eq!((relation.kind(), relation.natural_key.as_str()), (AssetKind::Volume, "dm:LVM-abc"));
        assert!(scan.assets[1].relations.is_empty() && scan.assets[2].relations.is_empty());
    }
}
