//! Devices on USB buses: `/sys/bus/usb/devices` (sysfs-bus-usb of the kernel's
//! ABI), named by themselves or by the host's `usb.ids`.
//!
//! Root hubs are left out: they are a part of their controller, which is a PCI
//! device, and their names and versions are the kernel's, so that each update of
//! it would change them.

use std::collections::{BTreeMap, BTreeSet};

use contracts::v1::{AssetKind, RelationType, UsbDeviceDetails, asset_details::Details};

use super::hardware_ids::Names;
use super::sysfs::{attribute, hexadecimal, link_name, links, pci_slots};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] =
    &["usr/share/misc/usb.ids", "usr/share/hwdata/usb.ids", "usr/share/usb.ids"];

const DEVICES: &str = "sys/bus/usb/devices";

/// A device with what it hangs on.
#[derive(Debug)]
struct Device {
    key: String,
    vendor: u16,
    product: u16,
    controller: String,
    details: UsbDeviceDetails,
}

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let entries = links(host, DEVICES)?;
    // Interfaces are `1-1.4:1.0`: the device, its configuration and their number.
    let interfaces: Vec<&str> =
        entries.iter().map(|(name, _)| name.as_str()).filter(|name| name.contains(':')).collect();
    let mut devices = Vec::new();
    for (port, target) in &entries {
        if !is_port(port) {
            continue;
        }
        let own = interfaces.iter().filter(|name| name.split(':').next() == Some(port)).copied();
        if let Some(mut device) = read_device(host, port, own)? {
            device.controller = pci_slots(target).next_back().unwrap_or_default().to_owned();
            devices.push(device);
        }
    }
    let nameless = |device: &&Device| device.details.vendor.is_empty() || device.details.product.is_empty();
    let wanted: BTreeSet<(u16, u16)> =
        devices.iter().filter(nameless).map(|device| (device.vendor, device.product)).collect();
    let names = Names::read(host, "usb.ids", &wanted)?;
    let keys: BTreeMap<String, String> =
        devices.iter().map(|device| (device.details.port.clone(), device.key.clone())).collect();
    let mut scan = Scan::default();
    for device in devices {
        let mut details = device.details;
        if details.vendor.is_empty() {
            details.vendor = names.maker(device.vendor);
        }
        if details.product.is_empty() {
            details.product = names.product(device.vendor, device.product);
        }
        let hub = details.port.rsplit_once('.').and_then(|(hub, _)| keys.get(hub));
        let hub = hub.cloned();
        let name = display_name(&details);
        let mut asset = ScannedAsset::new(device.key, name, Details::UsbDevice(details));
        if let Some(hub) = hub {
            asset = asset.related(RelationType::AttachedTo, AssetKind::UsbDevice, hub);
        }
        if !device.controller.is_empty() {
            asset = asset.related(RelationType::AttachedTo, AssetKind::PciDevice, device.controller);
        }
        scan.assets.push(asset);
    }
    Ok(scan)
}

/// Whether a name is a bus and ports, such as `1-1.4`; no root hub (`usb1`) and
/// no interface.
fn is_port(name: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(bus, ports)| digits(bus) && ports.split('.').all(digits))
}

fn natural_key(port: &str, vendor: u16, product: u16, serial: &str) -> String {
    let key = format!("{port}/{vendor:04x}:{product:04x}");
    if serial.is_empty() { key } else { format!("{key}/{serial}") }
}

/// What is attached to a port, by its natural key; `None` if nothing is.
pub(super) fn key_at(host: &HostRoot, port: &str) -> Result<Option<String>, ProbeError> {
    Ok(read_device(host, port, std::iter::empty())?.map(|device| device.key))
}

/// `None` for a device that has gone meanwhile.
fn read_device<'a>(
    host: &HostRoot,
    port: &str,
    interfaces: impl Iterator<Item = &'a str>,
) -> Result<Option<Device>, ProbeError> {
    let folder = format!("{DEVICES}/{port}");
    let text = |file: &str| attribute(host, &format!("{folder}/{file}"));
    let identifier = |file: &str| -> Result<Option<u16>, ProbeError> {
        Ok(hexadecimal(host, &format!("{folder}/{file}"))?.and_then(|number| number.try_into().ok()))
    };
    let (Some(vendor), Some(product)) = (identifier("idVendor")?, identifier("idProduct")?) else {
        return Ok(None);
    };
    let mut class = hexadecimal(host, &format!("{folder}/bDeviceClass"))?;
    let mut drivers = Vec::new();
    for (index, interface) in interfaces.enumerate() {
        // 0: "each interface has its own" (USB 2.0, 9.6.1).
        if index == 0 && class == Some(0) {
            class = hexadecimal(host, &format!("{DEVICES}/{interface}/bInterfaceClass"))?;
        }
        drivers.push(link_name(host, &format!("{DEVICES}/{interface}/driver"))?);
    }
    drivers.retain(|driver| !driver.is_empty());
    drivers.sort();
    drivers.dedup();
    let serial = text("serial")?;
    let key = natural_key(port, vendor, product, &serial);
    let details = UsbDeviceDetails {
        port: port.to_owned(),
        vendor_id: format!("{vendor:04x}"),
        product_id: format!("{product:04x}"),
        vendor: one_space(&text("manufacturer")?),
        product: one_space(&text("product")?),
        serial,
        class: class_name(class).to_owned(),
        usb_version: text("version")?,
        speed_mbps: speed(&text("speed")?),
        drivers,
    };
    Ok(Some(Device { key, vendor, product, controller: String::new(), details }))
}

/// Some fill their names up with spaces.
fn one_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In whole megabits a second: low speed, `1.5`, becomes 1.
fn speed(text: &str) -> u32 {
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

fn display_name(details: &UsbDeviceDetails) -> String {
    let name = if details.product.is_empty() {
        format!("{} device {}:{}", details.vendor, details.vendor_id, details.product_id)
    } else if details.product.starts_with(&details.vendor) {
        details.product.clone()
    } else {
        format!("{} {}", details.vendor, details.product)
    };
    name.trim().to_owned()
}

/// Class codes of USB (<https://www.usb.org/defined-class-codes>), in the words
/// of `usb.ids`; empty for what is not assigned.
fn class_name(class: Option<u32>) -> &'static str {
    const CLASSES: [(u32, &str); 23] = [
        (0x01, "Audio"),
        (0x02, "Communications"),
        (0x03, "Human Interface Device"),
        (0x05, "Physical Interface Device"),
        (0x06, "Imaging"),
        (0x07, "Printer"),
        (0x08, "Mass Storage"),
        (0x09, "Hub"),
        (0x0a, "CDC Data"),
        (0x0b, "Chip/SmartCard"),
        (0x0d, "Content Security"),
        (0x0e, "Video"),
        (0x0f, "Personal Healthcare"),
        (0x10, "Audio/Video"),
        (0x11, "Billboard"),
        (0x12, "Type-C Bridge"),
        (0x13, "Bulk Display"),
        (0x14, "MCTP over USB"),
        (0x3c, "I3C"),
        (0xdc, "Diagnostic"),
        (0xe0, "Wireless"),
        (0xef, "Miscellaneous Device"),
        (0xfe, "Application Specific Interface"),
    ];
    if class == Some(0xff) {
        return "Vendor Specific Class";
    }
    CLASSES.iter().find(|(number, _)| Some(*number) == class).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const CONTROLLER: &str = "sys/devices/pci0000:00/0000:00:14.0";

    fn add(root: &Path, path: &str, attributes: &[(&str, &str)]) {
        let folder = root.join(CONTROLLER).join(path);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in attributes {
            match name.strip_suffix('@') {
                Some(name) => symlink(text, folder.join(name)).unwrap(),
                None => fs::write(folder.join(name), format!("{text}\n")).unwrap(),
            }
        }
        let devices = root.join(DEVICES);
        fs::create_dir_all(&devices).unwrap();
        let name = path.rsplit('/').next().unwrap();
        symlink(format!("../../../../{CONTROLLER}/{path}"), devices.join(name)).unwrap();
    }

    #[test]
    fn reads_hubs_and_what_hangs_on_them() {
        let root = tempfile::tempdir().unwrap();
        add(root.path(), "usb1", &[("idVendor", "1d6b"), ("idProduct", "0002"), ("bDeviceClass", "09")]);
        add(root.path(), "usb1/1-0:1.0", &[("bInterfaceClass", "09")]);
        let hub = [
            ("idVendor", "05e3"),
            ("idProduct", "0608"),
            ("bDeviceClass", "09"),
            ("version", " 2.00"),
            ("speed", "480"),
            ("product", "USB2.0 Hub"),
        ];
        add(root.path(), "usb1/1-1", &hub);
        add(root.path(), "usb1/1-1/1-1:1.0", &[("bInterfaceClass", "09"), ("driver@", "../../hub")]);
        let stick = [
            ("idVendor", "0781"),
            ("idProduct", "5583"),
            ("bDeviceClass", "00"),
            ("manufacturer", "SanDisk"),
            ("product", "Ultra   Fit"),
            ("serial", "4C53"),
            ("version", " 3.20"),
            ("speed", "5000"),
        ];
        add(root.path(), "usb1/1-1/1-1.4", &stick);
        let interface = [("bInterfaceClass", "08"), ("driver@", "../../usb-storage")];
        add(root.path(), "usb1/1-1/1-1.4/1-1.4:1.0", &interface);
        add(
            root.path(),
            "usb1/1-1/1-1.4/1-1.4:1.1",
            &[("bInterfaceClass", "03"), ("driver@", "../../usbhid")],
        );
        add(root.path(), "usb1/1-1/1-1.40", &[("idVendor", "046d"), ("idProduct", "c31c"), ("speed", "1.5")]);
        let list = root.path().join("usr/share/misc");
        fs::create_dir_all(&list).unwrap();
        fs::write(
            list.join("usb.ids"),
            "046d  Logitech, Inc.\n\tc31c  Keyboard K120\n05e3  Genesys Logic, Inc.\n",
        )
        .unwrap();
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let keys: Vec<&str> = scan.assets.iter().map(|asset| asset.natural_key.as_str()).collect();
        assert_eq!(keys, ["1-1/05e3:0608", "1-1.4/0781:5583/4C53", "1-1.40/046d:c31c"]);
        let names: Vec<&str> = scan.assets.iter().map(|asset| asset.display_name.as_str()).collect();
        assert_eq!(
            names,
            ["Genesys Logic, Inc. USB2.0 Hub", "SanDisk Ultra Fit", "Logitech, Inc. Keyboard K120"]
        );
        let expected = UsbDeviceDetails {
            port: "1-1.4".into(),
            vendor_id: "0781".into(),
            product_id: "5583".into(),
            vendor: "SanDisk".into(),
            product: "Ultra Fit".into(),
            serial: "4C53".into(),
            class: "Mass Storage".into(),
            usb_version: "3.20".into(),
            speed_mbps: 5000,
            drivers: vec!["usb-storage".into(), "usbhid".into()],
        };
        assert_eq!(scan.assets[1].details, Details::UsbDevice(expected));
        let Details::UsbDevice(keyboard) = &scan.assets[2].details else { panic!("no device") };
        assert_eq!((keyboard.speed_mbps, keyboard.class.as_str()), (1, ""));
        let related = |index: usize| -> Vec<(AssetKind, &str)> {
            let relations = &scan.assets[index].relations;
            relations.iter().map(|one| (one.kind(), one.natural_key.as_str())).collect()
        };
        let controller = (AssetKind::PciDevice, "0000:00:14.0");
        assert_eq!(related(0), [controller]);
        assert_eq!(related(1), [(AssetKind::UsbDevice, "1-1/05e3:0608"), controller]);
    }

    #[test]
    fn knows_ports() {
        for (name, expected) in [
            ("1-1", true),
            ("2-1.4.3", true),
            ("usb1", false),
            ("1-0:1.0", false),
            ("1-1:1.0", false),
            ("1-", false),
        ] {
            assert_eq!(is_port(name), expected, "{name}");
        }
    }
}
