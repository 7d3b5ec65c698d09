//! Devices on PCI buses: `/sys/bus/pci/devices` (sysfs-bus-pci of the kernel's
//! ABI), named by the host's `pci.ids`.

mod classes;
mod makers;

use std::collections::BTreeSet;

use contracts::v1::{AssetKind, PciDeviceDetails, RelationType, asset_details::Details};

use super::hardware_ids::Names;
use super::sysfs::{attribute, hexadecimal, is_pci_slot, link_name, links, number, pci_slots};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] =
    &["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids"];

const DEVICES: &str = "sys/bus/pci/devices";

/// What identifies a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Device {
    /// Slot, such as `0000:00:1f.2`.
    pub(super) slot: String,
    /// Slot of the bridge that its bus hangs on; empty on a root bus.
    pub(super) bridge: String,
    /// Number of the maker.
    pub(super) vendor: u16,
    /// Number of the device.
    pub(super) product: u16,
    /// Class, subclass and interface.
    pub(super) class: u32,
}

impl Device {
    /// Folder of its attributes.
    pub(super) fn folder(&self) -> String {
        format!("{DEVICES}/{}", self.slot)
    }

    /// Its base class and subclass.
    pub(super) fn subclass(&self) -> u32 {
        self.class >> 8
    }

    /// Its maker's name; empty if none is known.
    pub(super) fn maker(&self, names: &Names) -> String {
        match names.maker(self.vendor) {
            name if name.is_empty() => makers::maker_name(self.vendor).to_owned(),
            name => name,
        }
    }

    /// What people call it: its name, or what is known instead.
    pub(super) fn display_name(&self, maker: &str, product: &str) -> String {
        let maker = if maker.is_empty() { format!("{:04x}", self.vendor) } else { maker.to_owned() };
        if product.is_empty() {
            format!("{maker} device {:04x}", self.product)
        } else {
            format!("{maker} {product}")
        }
    }
}

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let devices = devices(host)?;
    let names = names(host, &devices)?;
    let mut scan = Scan::default();
    for device in devices {
        let details = read_device(host, &device, &names)?;
        let name = device.display_name(&details.vendor, &details.product);
        let numa_node = details.numa_node;
        let physical_function = link_name(host, &format!("{}/physfn", device.folder()))?;
        let mut asset = ScannedAsset::new(device.slot, name, Details::PciDevice(details));
        if let Some(node) = numa_node {
            asset = asset.related(RelationType::AttachedTo, AssetKind::NumaNode, node.to_string());
        }
        if !device.bridge.is_empty() {
            asset = asset.related(RelationType::AttachedTo, AssetKind::PciDevice, device.bridge);
        }
        // A virtual function (SR-IOV) is a part of its physical one.
        if !physical_function.is_empty() {
            asset = asset.related(RelationType::PartOf, AssetKind::PciDevice, physical_function);
        }
        scan.assets.push(asset);
    }
    Ok(scan)
}

/// The devices of the host, sorted by slot.
pub(super) fn devices(host: &HostRoot) -> Result<Vec<Device>, ProbeError> {
    let mut devices = Vec::new();
    for (slot, target) in links(host, DEVICES)? {
        if !is_pci_slot(&slot) {
            continue;
        }
        let folder = format!("{DEVICES}/{slot}");
        let identifier = |file: &str| -> Result<Option<u16>, ProbeError> {
            Ok(hexadecimal(host, &format!("{folder}/{file}"))?.and_then(|number| number.try_into().ok()))
        };
        // Without these it has gone meanwhile.
        let (Some(vendor), Some(product)) = (identifier("vendor")?, identifier("device")?) else { continue };
        let class = hexadecimal(host, &format!("{folder}/class"))?.unwrap_or(0) & 0x00ff_ffff;
        let bridge = pci_slots(&target).rev().find(|above| *above != slot).unwrap_or_default().to_owned();
        devices.push(Device { slot, bridge, vendor, product, class });
    }
    Ok(devices)
}

/// Names of these devices and of their makers.
pub(super) fn names(host: &HostRoot, devices: &[Device]) -> Result<Names, ProbeError> {
    let wanted: BTreeSet<(u16, u16)> = devices.iter().map(|device| (device.vendor, device.product)).collect();
    Names::read(host, "pci.ids", &wanted)
}

fn read_device(host: &HostRoot, device: &Device, names: &Names) -> Result<PciDeviceDetails, ProbeError> {
    let folder = device.folder();
    let hexadecimal = |file: &str| hexadecimal(host, &format!("{folder}/{file}"));
    // Zeros where the card says nothing of itself (PCI Local Bus Specification,
    // 6.2.4).
    let subsystem = match (hexadecimal("subsystem_vendor")?, hexadecimal("subsystem_device")?) {
        (Some(0) | None, _) | (_, None) => String::new(),
        (Some(vendor), Some(product)) => format!("{vendor:04x}:{product:04x}"),
    };
    // Linux 4.10 has the file.
    let revision = attribute(host, &format!("{folder}/revision"))?;
    Ok(PciDeviceDetails {
        slot: device.slot.clone(),
        vendor_id: format!("{:04x}", device.vendor),
        device_id: format!("{:04x}", device.product),
        vendor: device.maker(names),
        product: names.product(device.vendor, device.product),
        class_id: format!("{:06x}", device.class),
        class: classes::class_name(device.class).to_owned(),
        subsystem_id: subsystem,
        revision: revision.trim_start_matches("0x").to_owned(),
        driver: link_name(host, &format!("{folder}/driver"))?,
        // -1: the firmware does not tell.
        numa_node: number(host, &format!("{folder}/numa_node"))?,
        iommu_group: link_name(host, &format!("{folder}/iommu_group"))?.parse().ok(),
    })
}

/// Trees of devices, for tests.
#[cfg(test)]
pub(super) mod tree {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// Puts a device below `/sys/devices/pci0000:00` with these attributes;
    /// those that end with `@` are links.
    pub(crate) fn add_device(root: &Path, path: &str, attributes: &[(&str, &str)]) {
        let folder = root.join("sys/devices/pci0000:00").join(path);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in attributes {
            if let Some(name) = name.strip_suffix('@') {
                symlink(text, folder.join(name)).unwrap();
                continue;
            }
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{text}\n")).unwrap();
        }
        let devices = root.join("sys/bus/pci/devices");
        fs::create_dir_all(&devices).unwrap();
        let slot = path.rsplit('/').next().unwrap();
        symlink(format!("../../../devices/pci0000:00/{path}"), devices.join(slot)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tree::add_device;

    #[test]
    fn reads_devices_with_what_they_hang_on() {
        let root = tempfile::tempdir().unwrap();
        let bridge = [("vendor", "0x8086"), ("device", "0x2030"), ("class", "0x060400"), ("numa_node", "-1")];
        add_device(root.path(), "0000:00:01.0", &bridge);
        let port = [
            ("vendor", "0x15b3"),
            ("device", "0x1017"),
            ("class", "0x020000"),
            ("subsystem_vendor", "0x15b3"),
            ("subsystem_device", "0x0008"),
            ("revision", "0x0a"),
            ("numa_node", "1"),
            ("driver@", "../../../../bus/pci/drivers/mlx5_core"),
            ("iommu_group@", "../../../../kernel/iommu_groups/42"),
        ];
        add_device(root.path(), "0000:00:01.0/0000:3b:00.0", &port);
        let function = [
            ("vendor", "0x15b3"),
            ("device", "0x1018"),
            ("class", "0x020000"),
            ("physfn@", "../0000:3b:00.0"),
        ];
        add_device(root.path(), "0000:00:01.0/0000:3b:00.1", &function);
        fs::create_dir_all(root.path().join("usr/share/hwdata")).unwrap();
        fs::write(
            root.path().join("usr/share/hwdata/pci.ids"),
            "15b3  Mellanox Technologies\n\t1017  MT27800 Family [ConnectX-5]\n",
        )
        .unwrap();
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let names: Vec<&str> = scan.assets.iter().map(|asset| asset.display_name.as_str()).collect();
        assert_eq!(
            names,
            [
                "Intel Corporation device 2030",
                "Mellanox Technologies MT27800 Family [ConnectX-5]",
                "Mellanox Technologies device 1018"
            ]
        );
        let expected = PciDeviceDetails {
            slot: "0000:3b:00.0".into(),
            vendor_id: "15b3".into(),
            device_id: "1017".into(),
            vendor: "Mellanox Technologies".into(),
            product: "MT27800 Family [ConnectX-5]".into(),
            class_id: "020000".into(),
            class: "Ethernet controller".into(),
            subsystem_id: "15b3:0008".into(),
            revision: "0a".into(),
            driver: "mlx5_core".into(),
            numa_node: Some(1),
            iommu_group: Some(42),
        };
        assert_eq!(scan.assets[1].details, Details::PciDevice(expected));
        let related = |index: usize| -> Vec<(RelationType, AssetKind, &str)> {
            let relations = &scan.assets[index].relations;
            relations.iter().map(|one| (one.r#type(), one.kind(), one.natural_key.as_str())).collect()
        };
        let bridge = (RelationType::AttachedTo, AssetKind::PciDevice, "0000:00:01.0");
        assert_eq!(related(0), []);
        assert_eq!(related(1), [(RelationType::AttachedTo, AssetKind::NumaNode, "1"), bridge]);
        assert_eq!(related(2), [bridge, (RelationType::PartOf, AssetKind::PciDevice, "0000:3b:00.0")]);
    }

    #[test]
    fn a_host_without_the_bus_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(scan(&HostRoot::new(root.path()).unwrap()).unwrap().assets, []);
    }

    #[test]
    fn a_device_that_cannot_be_read_is_not_gone() {
        let root = tempfile::tempdir().unwrap();
        add_device(root.path(), "0000:00:01.0", &[("device", "0x2030"), ("vendor@", "vendor")]);
        let host = HostRoot::new(root.path()).unwrap();
        assert_eq!(scan(&host).unwrap().assets, [], "a loop of links is none");
        add_device(root.path(), "0000:00:02.0", &[("device", "0x2030"), ("vendor", &"1".repeat(70_000))]);
        assert!(scan(&host).is_err());
    }
}
