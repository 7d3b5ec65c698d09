//! Attributes of devices, whose drivers answer with many errors where a device
//! lacks a property.

use std::io;
use std::str::FromStr;

use contracts::v1::AssetKind;

use super::super::{ProbeError, exists, unless_absent};
use super::{MAX_BYTES, is_pci_slot};
use crate::host::HostRoot;
use crate::text::clean;

/// What was read of `path`; nothing if there is nothing or it gives no value. For
/// properties alone: what decides on existence or a key is read by
/// [`Object::decisive`], to which a failing device is no absence.
/// Drivers answer with many errors (EINVAL, EIO, ENXIO, EOPNOTSUPP) where a
/// device lacks a property, so only what the agent itself is short of counts.
pub(in crate::probe) fn if_given<T: Default>(path: &str, read: io::Result<T>) -> Result<T, ProbeError> {
    use nix::libc::{EMFILE, ENFILE, ENOMEM};
    match read {
        Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM)) => {
            Err(ProbeError::read(path)(error))
        }
        read => Ok(read.unwrap_or_default()),
    }
}

/// One folder in /sys.
#[derive(Debug)]
pub(in crate::probe) struct Object<'a> {
    host: &'a HostRoot,
    folder: String,
}

impl<'a> Object<'a> {
    pub(in crate::probe) fn new(host: &'a HostRoot, folder: String) -> Self {
        Self { host, folder }
    }

    /// The object in a folder below.
    pub(in crate::probe) fn below(&self, name: &str) -> Self {
        Self { host: self.host, folder: self.path(name) }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    pub(in crate::probe) fn bytes(&self, attribute: &str) -> Result<Vec<u8>, ProbeError> {
        let path = self.path(attribute);
        if_given(&path, self.host.read(&path, MAX_BYTES))
    }

    /// An attribute that existence or a key depends on: empty only where the
    /// device has none.
    pub(in crate::probe) fn decisive(&self, attribute: &str) -> Result<String, ProbeError> {
        super::attribute(self.host, &self.path(attribute))
    }

    /// An attribute, trimmed; empty where there is none.
    pub(in crate::probe) fn text(&self, attribute: &str) -> Result<String, ProbeError> {
        Ok(clean(self.bytes(attribute)?.trim_ascii()))
    }

    /// The first of these that is not empty.
    pub(in crate::probe) fn first_text(&self, attributes: &[&str]) -> Result<String, ProbeError> {
        for attribute in attributes {
            let text = self.text(attribute)?;
            if !text.is_empty() {
                return Ok(text);
            }
        }
        Ok(String::new())
    }

    /// A number; `None` where there is none or it is another.
    pub(in crate::probe) fn number<T: FromStr>(&self, attribute: &str) -> Result<Option<T>, ProbeError> {
        Ok(self.text(attribute)?.parse().ok())
    }

    pub(in crate::probe) fn flag(&self, attribute: &str) -> Result<bool, ProbeError> {
        Ok(self.text(attribute)? == "1")
    }

    /// Value of `KEY=` in the uevent; empty where there is none.
    pub(in crate::probe) fn uevent(&self, key: &str) -> Result<String, ProbeError> {
        Ok(value_of(&self.text("uevent")?, key).unwrap_or_default().to_owned())
    }

    pub(in crate::probe) fn has(&self, name: &str) -> Result<bool, ProbeError> {
        exists(self.host, &self.path(name))
    }

    /// Names in a folder below, sorted; none where there is none.
    pub(in crate::probe) fn names(&self, folder: &str) -> Result<Vec<String>, ProbeError> {
        super::names(self.host, &self.path(folder))
    }

    /// Last name in the target of a link; empty where there is none.
    pub(in crate::probe) fn link(&self, name: &str) -> Result<String, ProbeError> {
        let target = link(self.host, &self.path(name))?;
        Ok(target.rsplit('/').next().unwrap_or_default().to_owned())
    }
}

/// Target of a link; empty where there is none.
pub(in crate::probe) fn link(host: &HostRoot, path: &str) -> Result<String, ProbeError> {
    let target = unless_absent(path, host.read_link(path))?;
    Ok(clean(target.as_os_str().as_encoded_bytes()))
}

fn value_of<'a>(uevent: &'a str, key: &str) -> Option<&'a str> {
    uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Slot of the PCI device that a path in /sys leads through last, unless a USB
/// bus follows: what is plugged in there is no PCI device's own.
pub(in crate::probe) fn pci_slot(path: &str) -> String {
    match attachment(path) {
        Some((AssetKind::PciDevice, slot)) => slot,
        _ => String::new(),
    }
}

/// The PCI or USB device that a path in /sys leads through last, by the natural
/// key of its asset.
pub(in crate::probe) fn attached_to(
    host: &HostRoot,
    path: &str,
) -> Result<Option<(AssetKind, String)>, ProbeError> {
    match attachment(path) {
        Some((AssetKind::UsbDevice, port)) => {
            Ok(super::super::usb::key_at(host, &port)?.map(|key| (AssetKind::UsbDevice, key)))
        }
        other => Ok(other),
    }
}

/// The PCI slot or the USB port that a path in /sys leads through last.
pub(in crate::probe) fn attachment(path: &str) -> Option<(AssetKind, String)> {
    let mut last = None;
    for name in path.split('/') {
        if is_pci_slot(name) {
            last = Some((AssetKind::PciDevice, name.to_owned()));
        } else if is_usb_port(name) && path.contains("/usb") {
            last = Some((AssetKind::UsbDevice, name.to_owned()));
        }
    }
    last
}

/// `1-1.4`, as the kernel names ports: bus, port of the root hub, ports of hubs.
fn is_usb_port(name: &str) -> bool {
    let Some((bus, ports)) = name.split_once('-') else { return false };
    bus.parse::<u32>().is_ok() && ports.split('.').all(|port| port.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_a_device_is_attached_to() {
        use AssetKind::{PciDevice, UsbDevice};
        for (path, expected) in [
            (
                "../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda",
                Some((PciDevice, "0000:00:1f.2")),
            ),
            (
                "../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme/nvme0/nvme0n1",
                Some((PciDevice, "10000:e1:00.0")),
            ),
            (
                "../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.4/1-1.4:1.0/host6/target6:0:0/6:0:0:0/block/sdb",
                Some((UsbDevice, "1-1.4")),
            ),
            ("../devices/virtual/block/loop0", None),
            ("../devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", None),
            ("", None),
        ] {
            assert_eq!(attachment(path), expected.map(|(kind, name)| (kind, name.to_owned())), "{path}");
        }
        assert_eq!(pci_slot("../pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net/eth1"), "");
        for name in ["0000:00:1f", "0000.00.1f:2", "0000:00:1f.22", "000:00:1f.2", "0000:0:1f.2", ":::."] {
            assert!(!is_pci_slot(name), "{name}");
        }
    }

    #[test]
    fn a_want_of_descriptors_is_no_absence() {
        let error = |number| io::Error::from_raw_os_error(number);
        assert!(if_given::<String>("a", Err(error(nix::libc::EMFILE))).is_err());
        for number in [nix::libc::EINVAL, nix::libc::EIO, nix::libc::ENOENT, nix::libc::EACCES] {
            assert_eq!(if_given::<String>("a", Err(error(number))).unwrap(), "");
        }
    }
}
