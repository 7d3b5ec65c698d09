//! Block devices that hold data: `/sys/block` (sysfs-block of the kernel's ABI).

use contracts::v1::{DiskDetails, Partition, asset_details::Details};

use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const BLOCK: &str = "sys/block";

pub(super) const WATCHED: &[&str] = &[];

/// /sys counts in these, whatever the device's own block size.
const SECTOR_BYTES: u64 = 512;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    for name in host.list(BLOCK).map_err(ProbeError::read(BLOCK))? {
        let name = clean(name.as_encoded_bytes());
        if is_virtual(&name) {
            continue;
        }
        if let Some(disk) = read_disk(host, &name) {
            let key = natural_key(&disk);
            // Two paths to one disk (multipath) share its key.
            if scan.assets.iter().any(|asset: &ScannedAsset| asset.natural_key == key) {
                scan.warnings.push(format!("{name} is another path to {key}"));
                continue;
            }
            scan.assets.push(ScannedAsset::new(key, format!("/dev/{name}"), Details::Disk(disk)));
        }
    }
    Ok(scan)
}

/// Devices made of memory, files, other disks or remote ones not yet attached;
/// optical and floppy drives; the boot partitions that an eMMC shows as disks.
fn is_virtual(name: &str) -> bool {
    const PREFIXES: [&str; 8] = ["loop", "ram", "zram", "dm-", "sr", "fd", "nbd", "mtdblock"];
    PREFIXES.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok()))
        || (name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")))
}

/// `None` for a drive without a medium and for the hidden paths of multipath NVMe.
fn read_disk(host: &HostRoot, name: &str) -> Option<DiskDetails> {
    let folder = format!("{BLOCK}/{name}");
    let line = |file: &str| host.line(format!("{folder}/{file}"));
    let flag = |file: &str| line(file).is_some_and(|value| value == "1");
    let size_bytes = line("size")?.parse::<u64>().ok()?.saturating_mul(SECTOR_BYTES);
    if size_bytes == 0 || flag("hidden") {
        return None;
    }
    let page = |file: &str| host.read(format!("{folder}/device/{file}"), 64 * 1024).ok();
    let serial = page("vpd_pg80")
        .and_then(|page| parse_serial_page(&page))
        .or_else(|| line("device/serial"))
        .or_else(|| line("serial"))
        .unwrap_or_default();
    let wwn = line("wwid").or_else(|| line("device/wwid")).unwrap_or_default();
    Some(DiskDetails {
        device: name.to_owned(),
        vendor: line("device/vendor").unwrap_or_default(),
        model: line("device/model").or_else(|| line("device/name")).unwrap_or_default(),
        serial: one_space(&serial),
        wwn: one_space(&wwn),
        size_bytes,
        rotational: flag("queue/rotational"),
        removable: flag("removable"),
        read_only: flag("ro"),
        partitions: partitions(host, &folder),
        ..DiskDetails::default()
    })
}

fn partitions(host: &HostRoot, folder: &str) -> Vec<Partition> {
    let mut found = Vec::new();
    for name in host.list(folder).unwrap_or_default() {
        let name = clean(name.as_encoded_bytes());
        let number = |file: &str| host.line(format!("{folder}/{name}/{file}"))?.parse::<u64>().ok();
        // Only partitions have a file of this name.
        let Some(partition) = number("partition").and_then(|number| u32::try_from(number).ok()) else {
            continue;
        };
        found.push(Partition {
            number: partition,
            start_bytes: number("start").unwrap_or(0).saturating_mul(SECTOR_BYTES),
            size_bytes: number("size").unwrap_or(0).saturating_mul(SECTOR_BYTES),
            device: name,
            ..Partition::default()
        });
    }
    found.sort_by_key(|partition| partition.number);
    found
}

/// What names the disk wherever it is plugged in; only a disk that tells
/// nothing is named by its place.
fn natural_key(disk: &DiskDetails) -> String {
    if !disk.wwn.is_empty() {
        format!("wwn:{}", disk.wwn)
    } else if !disk.serial.is_empty() {
        format!("serial:{}", disk.serial)
    } else {
        format!("device:{}", disk.device)
    }
}

/// Serial number in SCSI's "Unit Serial Number" page (SPC-4, 7.8.16): type
/// 0x80 in byte 1, length in bytes 2 and 3, then ASCII.
fn parse_serial_page(page: &[u8]) -> Option<String> {
    let header = page.get(..4).filter(|header| header[1] == 0x80)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let serial = clean(page.get(4..4 + length)?.trim_ascii());
    (!serial.trim().is_empty()).then(|| serial.trim().to_owned())
}

/// Devices fill their names up with spaces.
fn one_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn reads_serial_pages() {
        for (page, expected) in [
            (&b"\0\x80\0\x08  ABC123"[..], Some("ABC123")),
            (b"\0\x80\0\x04AB\0C\0", Some("ABC")),
            (b"\0\x83\0\x03ABC", None),
            (b"\0\x80\xff\xffABC", None),
            (b"\0\x80\0\x02  ", None),
            (b"\0\x80", None),
            (b"", None),
        ] {
            assert_eq!(parse_serial_page(page).as_deref(), expected);
        }
    }

    #[test]
    fn names_disks_by_what_does_not_change() {
        let disk = |wwn: &str, serial: &str| DiskDetails {
            device: "sda".into(),
            wwn: wwn.into(),
            serial: serial.into(),
            ..Default::default()
        };
        assert_eq!(natural_key(&disk("naa.5000", "S1")), "wwn:naa.5000");
        assert_eq!(natural_key(&disk("", "S1")), "serial:S1");
        assert_eq!(natural_key(&disk("", "")), "device:sda");
    }

    #[test]
    fn tells_disks_from_what_only_looks_like_one() {
        for name in ["loop0", "ram1", "zram0", "dm-3", "sr0", "fd0", "nbd12", "mmcblk0boot0", "mmcblk0rpmb"] {
            assert!(is_virtual(name), "{name}");
        }
        for name in ["sda", "vda", "nvme0n1", "xvda", "mmcblk0", "md0", "pmem0", "drbd1", "rssda"] {
            assert!(!is_virtual(name), "{name}");
        }
    }

    #[test]
    fn reads_a_tree_of_sys() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &[u8]| {
            let path = root.path().join("sys/block").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for disk in ["sda", "sdb"] {
            write(&format!("{disk}/size"), b"2000409264\n");
            write(&format!("{disk}/device/wwid"), b"t10.ATA     Disk 1   SER  \n");
            write(&format!("{disk}/queue/rotational"), b"1\n");
        }
        write("sda/sda2/partition", b"2\n");
        write("sda/sda2/start", b"2048\n");
        write("sda/sda2/size", b"100\n");
        write("sda/sda1/partition", b"1\n");
        write("sda/sda10/partition", b"10\n");
        write("sr0/size", b"100\n");
        write("sdc/size", b"0\n");
        write("sdd/size", b"\xffgarbage\n");
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        assert_eq!(scan.assets.len(), 1);
        assert_eq!(scan.warnings, ["sdb is another path to wwn:t10.ATA Disk 1 SER"]);
        assert_eq!(scan.assets[0].display_name, "/dev/sda");
        let Details::Disk(disk) = &scan.assets[0].details else { panic!("no disk") };
        assert_eq!(disk.size_bytes, 2_000_409_264 * 512);
        assert!(disk.rotational && !disk.removable);
        let numbers: Vec<u32> = disk.partitions.iter().map(|partition| partition.number).collect();
        assert_eq!(numbers, [1, 2, 10]);
        assert_eq!((disk.partitions[1].start_bytes, disk.partitions[1].size_bytes), (2048 * 512, 100 * 512));
    }
}
