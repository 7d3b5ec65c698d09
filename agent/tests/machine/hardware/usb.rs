//! USB devices against usb-devices and lsusb: on this machine, and on a made tree.

use super::*;

use std::os::unix::fs::symlink;
use std::process::Command;

use contracts::v1::UsbDeviceDetails;

/// A hub with a stick, a keyboard and a serial adapter on it.
fn usb_tree(root: &Path) {
    let controller = "sys/devices/pci0000:00/0000:00:14.0";
    let mut number = 0;
    let mut add = |path: &str, attributes: &[(&str, &str)]| {
        number += 1;
        let folder = format!("{controller}/{path}");
        let defaults = [
            ("busnum", "1".to_owned()),
            ("devnum", number.to_string()),
            ("maxchild", "0".to_owned()),
            ("bMaxPacketSize0", "64".to_owned()),
            ("bNumConfigurations", "1".to_owned()),
            ("bNumInterfaces", " 1".to_owned()),
            ("bConfigurationValue", "1".to_owned()),
            ("bmAttributes", "e0".to_owned()),
            ("bMaxPower", "100mA".to_owned()),
            ("bcdDevice", "0100".to_owned()),
            ("bDeviceSubClass", "00".to_owned()),
            ("bDeviceProtocol", "00".to_owned()),
        ];
        for (name, text) in defaults {
            write(root, &format!("{folder}/{name}"), format!("{text}\n"));
        }
        for (name, text) in attributes {
            write(root, &format!("{folder}/{name}"), format!("{text}\n"));
        }
        fs::create_dir_all(root.join("sys/bus/usb/devices")).unwrap();
        let link = root.join("sys/bus/usb/devices").join(path.rsplit('/').next().unwrap());
        symlink(format!("../../../../{controller}/{path}"), link).unwrap();
    };
    let ids = |vendor: &'static str, product: &'static str, class: &'static str| {
        [("idVendor", vendor), ("idProduct", product), ("bDeviceClass", class)]
    };
    let with = |ids: [(&'static str, &'static str); 3], more: &[(&'static str, &'static str)]| {
        [&ids[..], more].concat()
    };
    add("usb1", &with(ids("1d6b", "0002", "09"), &[("version", " 2.00"), ("speed", "480")]));
    add("usb1/1-1", &with(ids("05e3", "0608", "09"), &[("version", " 2.00"), ("speed", "480")]));
    let stick = [
        ("manufacturer", "SanDisk"),
        ("product", "Ultra Fit"),
        ("serial", "4C530001"),
        ("version", " 3.20"),
        ("speed", "5000"),
    ];
    add("usb1/1-1/1-1.1", &with(ids("0781", "5583", "00"), &stick));
    add("usb1/1-1/1-1.2", &with(ids("046d", "c31c", "00"), &[("version", " 1.10"), ("speed", "1.5")]));
    add("usb1/1-1/1-1.3", &with(ids("0403", "6001", "ff"), &[("version", " 2.00"), ("speed", "12")]));
    for (interface, class, driver) in [
        ("1-1/1-1:1.0", "09", "hub"),
        ("1-1/1-1.1/1-1.1:1.0", "08", "usb-storage"),
        ("1-1/1-1.2/1-1.2:1.0", "03", "usbhid"),
        ("1-1/1-1.2/1-1.2:1.1", "03", "usbhid"),
        ("1-1/1-1.3/1-1.3:1.0", "ff", ""),
    ] {
        let folder = format!("{controller}/usb1/{interface}");
        for (name, text) in [
            ("bInterfaceNumber", &interface[interface.len() - 1..]),
            ("bAlternateSetting", " 0"),
            ("bNumEndpoints", "01"),
            ("bInterfaceClass", class),
            ("bInterfaceSubClass", "00"),
            ("bInterfaceProtocol", "00"),
        ] {
            write(root, &format!("{folder}/{name}"), format!("{text}\n"));
        }
        if !driver.is_empty() {
            fs::create_dir_all(root.join("sys/bus/usb/drivers").join(driver)).unwrap();
            symlink(root.join("sys/bus/usb/drivers").join(driver), root.join(&folder).join("driver"))
                .unwrap();
        }
        let link = root.join("sys/bus/usb/devices").join(interface.rsplit('/').next().unwrap());
        symlink(format!("../../../../{folder}"), link).unwrap();
    }
}

fn usb_devices(scan: Scan) -> Vec<UsbDeviceDetails> {
    let details = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::UsbDevice(device) => device,
        other => panic!("no device: {other:?}"),
    };
    scan.assets.into_iter().map(details).collect()
}

/// What usb-devices shows of a device.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    maker: String,
    product: String,
    /// Maker, product and serial number as the device names them.
    texts: [String; 3],
    version: String,
    speed: String,
    class: String,
    drivers: Vec<String>,
}

/// Runs the script on another tree than /sys.
fn usb_devices_of(root: &Path) -> Option<Vec<Row>> {
    let script = match fs::read_to_string("/usr/bin/usb-devices") {
        Ok(script) => script,
        Err(error) => {
            println!("SKIPPED: no usb-devices here: {error}");
            return None;
        }
    };
    let devices = root.join("sys/bus/usb/devices");
    let script = script.replace("/sys/bus/usb/devices", devices.to_str().unwrap());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut rows: Vec<Row> = Vec::new();
    for line in listed.lines() {
        let word = |name: &str| -> String {
            let rest = line.split_once(name).map_or("", |(_, rest)| rest);
            rest.trim_start().split([' ', '(']).next().unwrap_or_default().to_owned()
        };
        let class = |name: &str| -> String {
            let (_, rest) =
                line.split_once(name).and_then(|(_, rest)| rest.split_once('(')).unwrap_or_default();
            rest.split(')').next().unwrap_or_default().trim().to_owned()
        };
        let rest = |name: &str| line.split_once(name).map_or("", |(_, rest)| rest).trim().to_owned();
        match line.get(..2) {
            Some("T:") => rows.push(Row { speed: word("Spd="), ..Row::default() }),
            _ => {
                let Some(row) = rows.last_mut() else { continue };
                match line.get(..2) {
                    Some("D:") => (row.version, row.class) = (word("Ver="), class("Cls=")),
                    // The first interface says it where the device leaves it to these.
                    Some("I:") if row.class == ">ifc" => {
                        row.class = class("Cls=");
                        row.drivers.push(word("Driver="));
                    }
                    Some("P:") => (row.maker, row.product) = (word("Vendor="), word("ProdID=")),
                    Some("S:") if line.contains("Manufacturer=") => row.texts[0] = rest("Manufacturer="),
                    Some("S:") if line.contains("Product=") => row.texts[1] = rest("Product="),
                    Some("S:") if line.contains("SerialNumber=") => row.texts[2] = rest("SerialNumber="),
                    Some("I:") => row.drivers.push(word("Driver=")),
                    _ => {}
                }
            }
        }
    }
    for row in &mut rows {
        row.drivers.retain(|driver| driver != "(none)" && !driver.is_empty());
        row.drivers.sort();
        row.drivers.dedup();
    }
    // Rule: root hubs are a part of their controller.
    rows.retain(|row| row.maker != "1d6b");
    rows.sort();
    Some(rows)
}

/// Names of classes, and what usb-devices has for them.
const SHORT: [(&str, &str); 20] = [
    ("Audio", "audio"),
    ("Communications", "commc"),
    ("Human Interface Device", "HID"),
    ("Physical Interface Device", "PID"),
    ("Imaging", "still"),
    ("Printer", "print"),
    ("Mass Storage", "stor."),
    ("Hub", "hub"),
    ("CDC Data", "data"),
    ("Chip/SmartCard", "scard"),
    ("Content Security", "c-sec"),
    ("Video", "video"),
    ("Personal Healthcare", "perhc"),
    ("Audio/Video", "av"),
    ("Billboard", "blbrd"),
    ("Type-C Bridge", "bridg"),
    ("Diagnostic", "diagd"),
    ("Wireless", "wlcon"),
    ("Miscellaneous Device", "misc"),
    ("Vendor Specific Class", "vend."),
];

fn rows(devices: Vec<UsbDeviceDetails>) -> Vec<Row> {
    let row = |device: UsbDeviceDetails| Row {
        maker: device.vendor_id,
        product: device.product_id,
        texts: [device.vendor, device.product, device.serial],
        version: device.usb_version,
        speed: device.speed_mbps.to_string(),
        // Rule: usb-devices has short names.
        class: SHORT
            .iter()
            .find(|(name, _)| *name == device.class)
            .map_or(device.class.clone(), |(_, short)| (*short).to_owned()),
        drivers: device.drivers,
    };
    let mut rows: Vec<Row> = devices.into_iter().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn usb_devices_are_those_of_usb_devices() {
    for root in
        [tempfile::tempdir().map(|root| (root.path().to_owned(), Some(root))).unwrap(), ("/".into(), None)]
    {
        let (path, made) = root;
        if made.is_some() {
            usb_tree(&path);
        } else if !Path::new("/sys/bus/usb/devices").exists() {
            println!("SKIPPED: this machine has no USB bus");
            continue;
        }
        let Some(mut expected) = usb_devices_of(&path) else { return };
        let mut found = rows(usb_devices(scan_tree("usb", &path)));
        for (own, shown) in found.iter_mut().zip(&mut expected) {
            // Rule: names that the device does not have come from usb.ids.
            for text in 0..2 {
                if shown.texts[text].is_empty() {
                    own.texts[text].clear();
                }
            }
            // Rule: low speed in whole megabits.
            if shown.speed == "1.5" {
                shown.speed = "1".into();
            }
        }
        assert_eq!(found, expected);
        assert!(made.is_none() || found.len() == 4);
    }
}

#[test]
fn classes_and_drivers_of_usb_are_those_of_lsusb() {
    let root = tempfile::tempdir().unwrap();
    usb_tree(root.path());
    // lsusb looks at /sys alone: it is shown the tree there, in a mount namespace
    // of its own.
    let path = root.path().display();
    let script = format!(
        "mount --bind {path}/sys/devices /sys/devices && mount --bind {path}/sys/bus /sys/bus && lsusb -t"
    );
    let Some(listed) = tool("unshare", &["--mount", "sh", "-c", &script]) else { return };
    // `|__ Port 1: Dev 3, If 0, Class=Mass Storage, Driver=usb-storage, 5000M`
    let mut expected: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for line in listed.lines().filter(|line| line.contains("If ")) {
        let field = |name: &str| {
            line.split_once(name).and_then(|(_, rest)| rest.split(',').next()).unwrap_or_default().to_owned()
        };
        let device = expected.entry(field("Dev ")).or_insert_with(|| (field("Class="), Vec::new()));
        let driver = field("Driver=");
        // Rule: lsusb adds the number of a hub's ports to its driver.
        let driver = driver.split('/').next().unwrap_or_default().to_owned();
        if !driver.is_empty() && driver != "[none]" && !device.1.contains(&driver) {
            device.1.push(driver);
        }
    }
    let found: BTreeMap<String, (String, Vec<String>)> = usb_devices(scan_tree("usb", root.path()))
        .into_iter()
        .map(|device| {
            let number = root.path().join("sys/bus/usb/devices").join(&device.port).join("devnum");
            (fs::read_to_string(number).unwrap().trim().to_owned(), (device.class, device.drivers))
        })
        .collect();
    // Rule: lsusb takes the names of classes from udev's database.
    let nameless = expected.values().all(|(class, _)| class.is_empty());
    if nameless {
        println!("SKIPPED: no names of classes here, as there is no udev");
        for (number, device) in &mut expected {
            device.0.clone_from(&found[number].0);
        }
    }
    assert_eq!(found, expected, "{listed}");
    assert_eq!(found.len(), 4);
}

#[test]
fn names_of_usb_devices_are_those_of_lsusb() {
    if !Path::new("/sys/bus/usb/devices").exists() {
        println!("SKIPPED: this machine has no USB bus, so lsusb finds none");
        return;
    }
    let Some(listed) = tool("lsusb", &[]) else { return };
    let mut expected: Vec<String> = listed
        .lines()
        .filter_map(|line| {
            line.split_once(" ID ").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
        })
        .filter(|id| !id.starts_with("1d6b:"))
        .collect();
    expected.sort();
    let mut found: Vec<String> = usb_devices(scan("usb"))
        .into_iter()
        .map(|device| format!("{}:{}", device.vendor_id, device.product_id))
        .collect();
    found.sort();
    assert_eq!(found, expected);
}
