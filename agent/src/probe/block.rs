//! Which asset a block device belongs to, so that all probes of storage name
//! disks and volumes alike; and what udev knows of a device.

use std::collections::BTreeMap;

use contracts::v1::AssetKind;

use super::sysfs::{Object, link};
use super::{ProbeError, disks, exists, unless_absent, volumes};
use crate::host::HostRoot;
use crate::text::clean;

/// All block devices, partitions included.
const CLASS: &str = "sys/class/block";

/// The database of udev; not there where it does not run.
const DATABASE: &str = "run/udev/data";

/// The disk or volume that a device, by its name in the kernel, is or is a
/// partition of; `None` for what is neither, such as a loop device.
pub(super) fn asset_of(host: &HostRoot, name: &str) -> Result<Option<(AssetKind, String)>, ProbeError> {
    // A name with a slash, such as `cciss/c0d0`, has a `!` instead in /sys.
    asset_at(host, &format!("{CLASS}/{}", name.replace('/', "!")))
}

/// The same for a device by its number, such as `8:17`.
pub(super) fn asset_of_number(
    host: &HostRoot,
    number: &str,
) -> Result<Option<(AssetKind, String)>, ProbeError> {
    asset_at(host, &format!("sys/dev/block/{number}"))
}

/// The same for a path such as `/dev/sda1` or `/dev/mapper/vg0-root`.
pub(super) fn asset_of_path(host: &HostRoot, path: &str) -> Result<Option<(AssetKind, String)>, ProbeError> {
    let Some(name) = path.strip_prefix("/dev/") else { return Ok(None) };
    let Some(mapped) = name.strip_prefix("mapper/") else { return asset_of(host, name) };
    for device in unless_absent(CLASS, host.list(CLASS))? {
        let device = clean(device.as_encoded_bytes());
        if Object::new(host, format!("{CLASS}/{device}")).decisive("dm/name")? == mapped {
            return asset_of(host, &device);
        }
    }
    Ok(None)
}

fn asset_at(host: &HostRoot, path: &str) -> Result<Option<(AssetKind, String)>, ProbeError> {
    let target = link(host, path)?;
    let mut names = target.rsplit('/');
    let Some(mut name) = names.next().filter(|name| !name.is_empty()) else { return Ok(None) };
    if exists(host, &format!("{path}/partition"))? {
        let Some(disk) = names.next() else { return Ok(None) };
        name = disk;
    }
    if let Some(key) = volumes::key_of(host, name)? {
        return Ok(Some((AssetKind::Volume, key)));
    }
    Ok(disks::key_of(host, name)?.map(|key| (AssetKind::Disk, key)))
}

/// What udev recorded of a block device, by its number: the lines `E:KEY=VALUE`
/// of its database.
#[derive(Debug, Default)]
pub(super) struct Udev(BTreeMap<String, String>);

impl Udev {
    pub(super) fn read(host: &HostRoot, number: &str) -> Result<Self, ProbeError> {
        let path = format!("{DATABASE}/b{number}");
        Ok(Self::parse(&unless_absent(&path, host.read(&path, 64 * 1024))?))
    }

    /// Whether udev has yet to say what it knows of a block device: the kernel
    /// tells of a device before udev has looked at it, and udev then writes a
    /// file for each one (sd-device, `device_update_db`). What would be named
    /// now might get another key in a moment.
    pub(super) fn is_awaited(host: &HostRoot, number: &str) -> Result<bool, ProbeError> {
        Ok(exists(host, DATABASE)? && !exists(host, &format!("{DATABASE}/b{number}"))?)
    }

    pub(super) fn parse(text: &[u8]) -> Self {
        let mut properties = BTreeMap::new();
        for line in text.split(|&byte| byte == b'\n') {
            let Some(property) = line.strip_prefix(b"E:") else { continue };
            let property = clean(property);
            if let Some((key, value)) = property.split_once('=') {
                properties.insert(key.to_owned(), value.trim().to_owned());
            }
        }
        Self(properties)
    }

    /// A property; empty where there is none.
    pub(super) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// A property whose odd characters blkid wrote as `\x20`.
    pub(super) fn decoded(&self, key: &str) -> String {
        let text = self.get(key).as_bytes();
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((&first, tail)) = rest.split_first() {
            let escaped = rest
                .strip_prefix(b"\\x")
                .and_then(|tail| u8::from_str_radix(str::from_utf8(tail.get(..2)?).ok()?, 16).ok());
            match escaped {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &rest[4..];
                }
                None => {
                    bytes.push(first);
                    rest = tail;
                }
            }
        }
        clean(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_database_of_udev() {
        let udev = Udev::parse(
            b"S:disk/by-id/x\nE:ID_WWN=0x5000\nE:ID_PART_ENTRY_NAME=EFI\\x20System\\x2\nE:=\nE:bad\n\xff\n",
        );
        assert_eq!(udev.get("ID_WWN"), "0x5000");
        assert_eq!(udev.decoded("ID_PART_ENTRY_NAME"), "EFI System\\x2");
        assert_eq!((udev.get("bad"), udev.get("S")), ("", ""));
    }
}
