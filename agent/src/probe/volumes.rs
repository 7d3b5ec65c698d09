//! Block devices made of others: device mapper (`/sys/block/dm-*/dm`) and MD
//! RAID (`/sys/block/md*/md`, Documentation/admin-guide/md.rst of the kernel).
//! How far a rebuild has come is not recorded, as it changes all the time.

use contracts::v1::{RelationType, VolumeDetails, asset_details::Details};

use super::block::{self, Udev};
use super::disks::SECTOR_BYTES;
use super::sysfs::Object;
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const BLOCK: &str = "sys/block";

/// `poll(2)` tells of arrays that lose a member, of which no uevent does.
pub(super) const WATCHED: &[&str] = &["proc/mdstat"];

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    for name in host.list(BLOCK).map_err(ProbeError::read(BLOCK))? {
        let name = clean(name.as_encoded_bytes());
        let object = Object::new(host, format!("{BLOCK}/{name}"));
        let Some(volume) = read_volume(host, &name, &object)? else { continue };
        if is_awaited(host, &object, &volume)? {
            scan.wait_for_udev(&name);
            continue;
        }
        let display = display_name(&volume);
        let members = volume.members.clone();
        let mut asset = ScannedAsset::new(natural_key(&volume), display, Details::Volume(volume));
        for member in members {
            if let Some((kind, key)) = block::asset_of(host, &member)? {
                asset = asset.related(RelationType::StoredOn, kind, key);
            }
        }
        scan.assets.push(asset);
    }
    Ok(scan)
}

/// Whether a block device is made of others.
pub(super) fn is_volume(object: &Object) -> Result<bool, ProbeError> {
    Ok(object.has("dm")? || object.has("md")?)
}

/// Key of the volume with this name in the kernel; `None` if none that is
/// recorded has it.
pub(super) fn key_of(host: &HostRoot, name: &str) -> Result<Option<String>, ProbeError> {
    let object = Object::new(host, format!("{BLOCK}/{name}"));
    let Some(volume) = read_volume(host, name, &object)? else { return Ok(None) };
    Ok(if is_awaited(host, &object, &volume)? { None } else { Some(natural_key(&volume)) })
}

/// Newer kernels have the UUID of an array in /sys; of others udev alone tells it.
fn is_awaited(host: &HostRoot, object: &Object, volume: &VolumeDetails) -> Result<bool, ProbeError> {
    Ok(volume.r#type == "raid" && volume.uuid.is_empty() && Udev::is_awaited(host, &object.decisive("dev")?)?)
}

fn read_volume(host: &HostRoot, name: &str, object: &Object) -> Result<Option<VolumeDetails>, ProbeError> {
    let volume = if object.has("dm")? {
        mapped(object)?
    } else if object.has("md")? {
        array(host, name, object)?
    } else {
        return Ok(None);
    };
    let Some(volume) = volume else { return Ok(None) };
    Ok(Some(VolumeDetails {
        device: name.to_owned(),
        size_bytes: object.number::<u64>("size")?.unwrap_or(0).saturating_mul(SECTOR_BYTES),
        read_only: object.flag("ro")?,
        members: object.names("slaves")?,
        ..volume
    }))
}

fn mapped(object: &Object) -> Result<Option<VolumeDetails>, ProbeError> {
    let (name, uuid) = (object.decisive("dm/name")?, object.decisive("dm/uuid")?);
    if name.is_empty() || is_passing(&name, &uuid) {
        return Ok(None);
    }
    let kind = mapped_type(&uuid);
    let (volume_group, logical_volume) = if kind == "lvm" { split_lvm(&name) } else { Default::default() };
    let kind = kind.to_owned();
    Ok(Some(VolumeDetails { r#type: kind, name, uuid, volume_group, logical_volume, ..Default::default() }))
}

/// Devices that come and go with containers (snapshots of Docker's and
/// containerd's devmapper storage, which have no UUID) or with one call of
/// cryptsetup(8).
fn is_passing(name: &str, uuid: &str) -> bool {
    let snapshot = |name: &str| {
        name.rsplit_once("-snap-").is_some_and(|(_, number)| number.parse::<u64>().is_ok())
            || name.starts_with("docker-")
    };
    uuid.starts_with("CRYPT-TEMP-") || (uuid.is_empty() && snapshot(name))
}

/// By what device mapper's users put before the UUID, as lsblk(8) does;
/// `dm` where they put nothing.
fn mapped_type(uuid: &str) -> &str {
    let Some((prefix, _)) = uuid.split_once('-') else { return "dm" };
    match prefix {
        "LVM" => "lvm",
        "CRYPT" => "crypt",
        "mpath" => "multipath",
        "DMRAID" => "dmraid",
        // kpartx(8) puts the number of the partition there.
        part if part.strip_prefix("part").is_some_and(|number| number.parse::<u32>().is_ok()) => "part",
        "" => "dm",
        other => other,
    }
}

/// Volume group and logical volume of a name such as `vg--0-lv--root`: a
/// hyphen within either is doubled (lvm(8)). A third part, such as `-cow`, is
/// a layer within the logical volume and stays with it.
fn split_lvm(name: &str) -> (String, String) {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'-' {
            if bytes.get(at + 1) != Some(&b'-') {
                let single = |part: &str| part.replace("--", "-");
                return (single(&name[..at]), single(&name[at + 1..]));
            }
            at += 1;
        }
        at += 1;
    }
    (String::new(), String::new())
}

fn array(host: &HostRoot, device: &str, object: &Object) -> Result<Option<VolumeDetails>, ProbeError> {
    let state = object.decisive("md/array_state")?;
    // A node in /dev that no array is behind.
    if matches!(state.as_str(), "" | "clear") {
        return Ok(None);
    }
    let udev = Udev::read(host, &object.decisive("dev")?)?;
    let mut uuid = array_uuid(&object.decisive("md/uuid")?);
    if uuid.is_empty() {
        uuid = array_uuid(udev.get("MD_UUID"));
    }
    let degraded = object.number::<u32>("md/degraded")?.unwrap_or(0) > 0;
    // mdadm(8) writes the name as `host:name`.
    let name = udev.decoded("MD_NAME");
    let name = name.rsplit(':').next().filter(|name| !name.is_empty()).unwrap_or(device);
    Ok(Some(VolumeDetails {
        r#type: "raid".to_owned(),
        name: name.to_owned(),
        uuid,
        raid_level: object.text("md/level")?,
        raid_devices: object.number("md/raid_disks")?.unwrap_or(0),
        raid_state: array_state(&state, degraded).to_owned(),
        raid_metadata: object.text("md/metadata_version")?,
        ..Default::default()
    }))
}

/// An array turns from clean to active and back with each write, so all that
/// work are `clean`.
fn array_state(state: &str, degraded: bool) -> &str {
    match state {
        "inactive" | "broken" => state,
        _ if degraded => "degraded",
        _ => "clean",
    }
}

/// As mdadm(8) writes it, wherever it was read: the kernel groups the same
/// digits by hyphens.
fn array_uuid(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() != 32 || digits.bytes().all(|digit| digit == b'0') {
        return String::new();
    }
    let words = [&digits[..8], &digits[8..16], &digits[16..24], &digits[24..]];
    words.join(":").to_lowercase()
}

/// The number in `dm-0` and `md127` is given in the order of their finding, so
/// it names a volume only where nothing else does.
fn natural_key(volume: &VolumeDetails) -> String {
    let of = if volume.device.starts_with("dm-") { "dm" } else { "md" };
    if volume.uuid.is_empty() { format!("name:{}", volume.name) } else { format!("{of}:{}", volume.uuid) }
}

fn display_name(volume: &VolumeDetails) -> String {
    if volume.device.starts_with("dm-") {
        format!("/dev/mapper/{}", volume.name)
    } else {
        format!("/dev/{}", volume.device)
    }
}

#[cfg(test)]
mod tests;
