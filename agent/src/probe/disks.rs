//! Block devices that hold data: `/sys/block` (sysfs-block of the kernel's ABI).
//! What is made of others is a volume.

use contracts::v1::{DiskDetails, Partition, RelationType, asset_details::Details};

use super::block::Udev;
use super::sysfs::{self, Object};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const BLOCK: &str = "sys/block";

pub(super) const WATCHED: &[&str] = &[];

/// /sys counts in these, whatever the device's own block size.
pub(super) const SECTOR_BYTES: u64 = 512;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    let names: Vec<String> = host
        .list(BLOCK)
        .map_err(ProbeError::read(BLOCK))?
        .iter()
        .map(|name| clean(name.as_encoded_bytes()))
        .collect();
    for name in &names {
        let object = Object::new(host, format!("{BLOCK}/{name}"));
        if is_virtual(name) || super::volumes::is_volume(&object)? {
            continue;
        }
        let Some(disk) = read_disk(host, name, &object)? else { continue };
        if disk.wwn.is_empty() && Udev::is_awaited(host, &object.decisive("dev")?)? {
            scan.wait_for_udev(name);
            continue;
        }
        let key = key_among(host, &names, name, &disk.wwn, &disk.serial)?;
        // Two paths to one disk (multipath) share its key.
        if scan.assets.iter().any(|asset: &ScannedAsset| asset.natural_key == key) {
            scan.warnings.push(format!("{name} is another path to {key}"));
            continue;
        }
        let mut asset = ScannedAsset::new(key, format!("/dev/{name}"), Details::Disk(disk));
        for path in paths(host, name, &names)? {
            if let Some((kind, device)) = sysfs::attached_to(host, &path)? {
                asset = asset.related(RelationType::AttachedTo, kind, device);
            }
        }
        scan.assets.push(asset);
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
fn read_disk(host: &HostRoot, name: &str, object: &Object) -> Result<Option<DiskDetails>, ProbeError> {
    if !has_medium(object)? {
        return Ok(None);
    }
    let size_bytes = object.number::<u64>("size")?.unwrap_or(0).saturating_mul(SECTOR_BYTES);
    let (wwn, serial) = identity(host, object)?;
    let path = sysfs::link(host, &format!("{BLOCK}/{name}"))?;
    Ok(Some(DiskDetails {
        device: name.to_owned(),
        vendor: object.text("device/vendor")?,
        model: object.first_text(&["device/model", "device/name"])?,
        serial,
        wwn,
        size_bytes,
        rotational: object.flag("queue/rotational")?,
        removable: object.flag("removable")?,
        read_only: object.flag("ro")?,
        partitions: partitions(host, object)?,
        transport: transport(&path).to_owned(),
        // Of SCSI and ATA, NVMe, eMMC.
        firmware_version: object.first_text(&["device/rev", "device/firmware_rev", "device/fwrev"])?,
        physical_block_bytes: object.number("queue/physical_block_size")?.unwrap_or(0),
    }))
}

/// World wide name and serial number, as the kernel has them or else udev.
fn identity(host: &HostRoot, object: &Object) -> Result<(String, String), ProbeError> {
    let page = object.bytes("device/vpd_pg80")?;
    let mut serial = match parse_serial_page(&page) {
        Some(serial) => serial,
        None => first_decisive(object, ["device/serial", "serial"])?,
    };
    let mut wwn = first_decisive(object, ["wwid", "device/wwid"])?;
    if wwn.is_empty() || serial.is_empty() {
        let udev = Udev::read(host, &object.decisive("dev")?)?;
        if serial.is_empty() {
            udev.get("ID_SERIAL_SHORT").clone_into(&mut serial);
        }
        if wwn.is_empty() {
            wwn = wwn_of_udev(&udev);
        }
    }
    Ok((one_space(&wwn), one_space(&serial)))
}

fn first_decisive(object: &Object, [first, second]: [&str; 2]) -> Result<String, ProbeError> {
    let text = object.decisive(first)?;
    if text.is_empty() { object.decisive(second) } else { Ok(text) }
}

/// What the kernel writes as `naa.5000…` is `0x5000…` for udev.
fn wwn_of_udev(udev: &Udev) -> String {
    let extended = udev.get("ID_WWN_WITH_EXTENSION");
    let wwn = if extended.is_empty() { udev.get("ID_WWN") } else { extended };
    wwn.strip_prefix("0x").map_or_else(|| wwn.to_owned(), |number| format!("naa.{number}"))
}

/// Key of the disk with this name in the kernel; `None` if no disk that is
/// recorded has it.
pub(super) fn key_of(host: &HostRoot, name: &str) -> Result<Option<String>, ProbeError> {
    let object = Object::new(host, format!("{BLOCK}/{name}"));
    if is_virtual(name) || !has_medium(&object)? {
        return Ok(None);
    }
    let (wwn, serial) = identity(host, &object)?;
    if wwn.is_empty() && Udev::is_awaited(host, &object.decisive("dev")?)? {
        return Ok(None);
    }
    key_among(host, &sysfs::names(host, BLOCK)?, name, &wwn, &serial).map(Some)
}

/// The key of a disk beside the others. Makers give one serial number to many
/// USB sticks, and only a world wide name is unique by its standard: of disks
/// that have a serial number alone and the same, the first by its place keeps
/// the plain key and each other gets its place too, so that none is lost.
fn key_among(
    host: &HostRoot,
    names: &[String],
    name: &str,
    wwn: &str,
    serial: &str,
) -> Result<String, ProbeError> {
    let key = natural_key(wwn, serial, name);
    if !wwn.is_empty() || serial.is_empty() {
        return Ok(key);
    }
    let mut alike = Vec::new();
    for other in names {
        let object = Object::new(host, format!("{BLOCK}/{other}"));
        if is_virtual(other) || super::volumes::is_volume(&object)? || !has_medium(&object)? {
            continue;
        }
        if identity(host, &object)? == (String::new(), serial.to_owned()) {
            alike.push((sysfs::link(host, &format!("{BLOCK}/{other}"))?, other.as_str()));
        }
    }
    alike.sort();
    if alike.first().is_none_or(|(_, first)| *first == name) {
        return Ok(key);
    }
    let place = |path: &str| sysfs::attachment(path).map(|(_, place)| place).unwrap_or_default();
    let own = alike.iter().find(|(_, other)| *other == name).map(|(path, _)| place(path)).unwrap_or_default();
    let sharing = alike.iter().filter(|(path, _)| place(path) == own).count();
    if own.is_empty() || sharing > 1 {
        return Ok(format!("{key}@{own}/{name}"));
    }
    Ok(format!("{key}@{own}"))
}

/// A drive without a medium has no size; the paths of multipath NVMe are hidden.
fn has_medium(object: &Object) -> Result<bool, ProbeError> {
    Ok(object.decisive("size")?.parse::<u64>().unwrap_or(0) > 0 && object.decisive("hidden")? != "1")
}

/// What names the disk wherever it is plugged in; only a disk that tells
/// nothing is named by its place.
fn natural_key(wwn: &str, serial: &str, name: &str) -> String {
    if !wwn.is_empty() {
        format!("wwn:{wwn}")
    } else if !serial.is_empty() {
        format!("serial:{serial}")
    } else {
        format!("device:{name}")
    }
}

/// Where the disk hangs in /sys/devices. Multipath NVMe shows `nvme0n1` in no
/// place and hides its paths as `nvme0c1n1`.
fn paths(host: &HostRoot, name: &str, all: &[String]) -> Result<Vec<String>, ProbeError> {
    let mut paths = vec![sysfs::link(host, &format!("{BLOCK}/{name}"))?];
    if let Some((controller, namespace)) = name.rsplit_once('n').filter(|_| name.starts_with("nvme")) {
        for other in all {
            let hidden = other
                .strip_prefix(controller)
                .and_then(|rest| rest.strip_prefix('c')?.split_once('n'))
                .is_some_and(|(_, other)| other == namespace);
            if hidden {
                paths.push(sysfs::link(host, &format!("{BLOCK}/{other}"))?);
            }
        }
    }
    Ok(paths)
}

/// How a disk is connected, by the names in its path; the first that fits
/// counts, as USB and others carry SCSI.
fn transport(path: &str) -> &'static str {
    const NAMES: [(&str, &str); 9] = [
        ("usb", "usb"),
        ("ata", "ata"),
        ("nvme", "nvme"),
        ("mmc_host", "mmc"),
        ("session", "iscsi"),
        ("rport-", "fc"),
        ("end_device-", "sas"),
        ("target", "scsi"),
        ("virtio", "virtio"),
    ];
    let begins = |name: &str, prefix: &str| {
        let rest = name.strip_prefix(prefix).map(str::as_bytes);
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| byte.is_ascii_digit() || *byte == b'-'))
    };
    let found = NAMES.iter().find(|(prefix, _)| path.split('/').any(|name| begins(name, prefix)));
    found.map_or("", |(_, transport)| transport)
}

fn partitions(host: &HostRoot, disk: &Object) -> Result<Vec<Partition>, ProbeError> {
    let mut found = Vec::new();
    for name in disk.names("")? {
        let object = disk.below(&name);
        // Only partitions have a file of this name.
        let Some(number) = object.number::<u32>("partition")? else { continue };
        let bytes = |sectors: Option<u64>| sectors.unwrap_or(0).saturating_mul(SECTOR_BYTES);
        let (mut uuid, mut label) = (object.uevent("PARTUUID")?, object.uevent("PARTNAME")?);
        // The kernel tells the UUID since 6.9, and the name of GPT alone.
        if uuid.is_empty() || label.is_empty() {
            let udev = Udev::read(host, &object.text("dev")?)?;
            if uuid.is_empty() {
                udev.get("ID_PART_ENTRY_UUID").clone_into(&mut uuid);
            }
            if label.is_empty() {
                label = udev.decoded("ID_PART_ENTRY_NAME");
            }
        }
        found.push(Partition {
            number,
            start_bytes: bytes(object.number("start")?),
            size_bytes: bytes(object.number("size")?),
            read_only: object.flag("ro")?,
            uuid: uuid.to_lowercase(),
            name: label,
            device: name,
        });
    }
    found.sort_by_key(|partition| partition.number);
    Ok(found)
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
mod tests;
