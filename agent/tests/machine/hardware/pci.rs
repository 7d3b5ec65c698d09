//! PCI devices and accelerators against lspci: on this machine, and on made
//! trees, which lspci is pointed at.

use super::*;

use std::os::unix::fs::symlink;

use contracts::v1::{AcceleratorDetails, PciDeviceDetails};

fn pci_devices(scan: Scan) -> Vec<PciDeviceDetails> {
    let details = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::PciDevice(device) => device,
        other => panic!("no device: {other:?}"),
    };
    scan.assets.into_iter().map(details).collect()
}

/// Records of `lspci -vmm`: fields by name.
fn lspci(more: &[&str]) -> Option<Vec<BTreeMap<String, String>>> {
    // udev's database is another list than pci.ids.
    let args = [&["-D", "-vmm", "-nn", "-k", "-O", "hwdb.disable=1"], more].concat();
    let listed = tool("lspci", &args)?;
    let record = |text: &str| {
        text.lines()
            .filter_map(|line| line.split_once(":\t"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    Some(listed.split("\n\n").filter(|text| !text.trim().is_empty()).map(record).collect())
}

/// `Intel Corporation [8086]` as name and number; lspci writes `Device` or
/// `Vendor` for a name that it does not have.
fn name_and_id(text: &str) -> (String, String) {
    let (name, id) = text.rsplit_once('[').unwrap();
    let name = name.trim();
    let name = if ["Device", "Vendor", "Class"].contains(&name) { "" } else { name };
    (name.to_owned(), id.trim_end_matches(']').to_owned())
}

/// Rule: a maker that the list does not have may be among the agent's own.
fn compare(found: &[PciDeviceDetails], records: &[BTreeMap<String, String>]) {
    assert_eq!(found.len(), records.len());
    for (device, record) in found.iter().zip(records) {
        let text = |name: &str| record.get(name).cloned().unwrap_or_default();
        assert_eq!(device.slot, text("Slot"));
        assert_eq!((device.vendor.clone(), device.vendor_id.clone()), name_and_id(&text("Vendor")));
        assert_eq!((device.product.clone(), device.device_id.clone()), name_and_id(&text("Device")));
        assert_eq!((device.class.clone(), device.class_id[..4].to_owned()), name_and_id(&text("Class")));
        // Rule: revision 0 is left out by lspci, and so is interface 0.
        let or_zero = |text: String| if text.is_empty() { "00".to_owned() } else { text };
        assert_eq!(device.revision, or_zero(text("Rev")));
        assert_eq!(device.class_id[4..], or_zero(text("ProgIf")));
        assert_eq!(device.driver, text("Driver"));
        assert_eq!(device.numa_node.map(|node| node.to_string()).unwrap_or_default(), text("NUMANode"));
        assert_eq!(device.iommu_group.map(|group| group.to_string()).unwrap_or_default(), text("IOMMUGroup"));
        let subsystem = match (record.get("SVendor"), record.get("SDevice")) {
            (Some(vendor), Some(device)) => format!("{}:{}", name_and_id(vendor).1, name_and_id(device).1),
            _ => String::new(),
        };
        assert_eq!(device.subsystem_id, subsystem);
    }
}

/// A device as sysfs shows it, with the configuration space that lspci reads.
fn add_pci(root: &Path, path: &str, ids: [u16; 4], class: u32, revision: u8, more: &[(&str, &str)]) {
    let folder = format!("sys/devices/pci0000:00/{path}");
    let [vendor, device, subvendor, subdevice] = ids;
    for (name, id) in [
        ("vendor", vendor),
        ("device", device),
        ("subsystem_vendor", subvendor),
        ("subsystem_device", subdevice),
    ] {
        write(root, &format!("{folder}/{name}"), format!("0x{id:04x}\n"));
    }
    write(root, &format!("{folder}/class"), format!("0x{class:06x}\n"));
    write(root, &format!("{folder}/revision"), format!("0x{revision:02x}\n"));
    write(root, &format!("{folder}/irq"), "0\n");
    write(root, &format!("{folder}/resource"), "0x0 0x0 0x0\n".repeat(13));
    let mut config = [0_u8; 64];
    config[..2].copy_from_slice(&vendor.to_le_bytes());
    config[2..4].copy_from_slice(&device.to_le_bytes());
    config[8] = revision;
    config[9..12].copy_from_slice(&class.to_le_bytes()[..3]);
    config[0x2c..0x2e].copy_from_slice(&subvendor.to_le_bytes());
    config[0x2e..0x30].copy_from_slice(&subdevice.to_le_bytes());
    write(root, &format!("{folder}/config"), config);
    for (name, text) in more {
        match name.strip_suffix('@') {
            // lspci follows the link to its end.
            Some(name) => {
                let folder = root.join(&folder);
                fs::create_dir_all(folder.join(text)).unwrap();
                symlink(text, folder.join(name)).unwrap();
            }
            None => write(root, &format!("{folder}/{name}"), format!("{text}\n")),
        }
    }
    fs::create_dir_all(root.join("sys/bus/pci/devices")).unwrap();
    let slot = path.rsplit('/').next().unwrap();
    let link = root.join("sys/bus/pci/devices").join(slot);
    symlink(format!("../../../devices/pci0000:00/{path}"), link).unwrap();
}

/// Gives a made root the list of names of this machine.
fn with_list(root: &Path, list: &str) -> bool {
    let path = format!("usr/share/misc/{list}");
    match fs::read(Path::new("/").join(&path)) {
        Ok(bytes) => write(root, &path, bytes),
        Err(error) => println!("SKIPPED: no {list} here: {error}"),
    }
    root.join(path).exists()
}

fn lspci_of(root: &Path) -> Option<Vec<BTreeMap<String, String>>> {
    let path = format!("sysfs.path={}", root.join("sys/bus/pci").display());
    lspci(&["-A", "linux-sysfs", "-O", &path])
}

#[test]
fn pci_devices_are_those_of_lspci() {
    if !Path::new("/sys/bus/pci").exists() {
        println!("SKIPPED: this machine has no PCI bus");
        return;
    }
    let Some(records) = lspci(&[]) else { return };
    let found = pci_devices(scan("pci"));
    compare(&found, &records);
    println!("{} PCI devices", found.len());
}

/// A server of two sockets: GPUs, network with virtual functions, NVMe.
fn server(root: &Path) {
    let driver = |name: &str| format!("../../../bus/pci/drivers/{name}");
    add_pci(root, "0000:00:00.0", [0x8086, 0x2020, 0x1028, 0x0716], 0x06_0000, 7, &[("numa_node", "0")]);
    add_pci(
        root,
        "0000:00:1f.2",
        [0x8086, 0xa182, 0, 0],
        0x01_0601,
        9,
        &[("numa_node", "-1"), ("driver@", &driver("ahci"))],
    );
    add_pci(
        root,
        "0000:3b:00.0",
        [0x15b3, 0x1017, 0x15b3, 0x0020],
        0x02_0000,
        0,
        &[
            ("numa_node", "0"),
            ("driver@", &driver("mlx5_core")),
            ("iommu_group@", "../../../kernel/iommu_groups/42"),
        ],
    );
    add_pci(
        root,
        "0000:3b:00.2",
        [0x15b3, 0x1018, 0x15b3, 0x0020],
        0x02_0000,
        0,
        &[("numa_node", "0"), ("physfn@", "../0000:3b:00.0")],
    );
    add_pci(
        root,
        "0000:5e:00.0",
        [0x144d, 0xa824, 0x144d, 0xa801],
        0x01_0802,
        0,
        &[("numa_node", "1"), ("driver@", &driver("nvme"))],
    );
    add_pci(
        root,
        "0000:af:00.0",
        [0x10de, 0x20b2, 0x10de, 0x1463],
        0x03_0200,
        0xa1,
        &[
            ("numa_node", "1"),
            ("driver@", &driver("nvidia")),
            ("iommu_group@", "../../../kernel/iommu_groups/77"),
        ],
    );
    add_pci(
        root,
        "0000:d8:00.0",
        [0x1002, 0x740c, 0x1002, 0x0b0c],
        0x12_0000,
        2,
        &[("driver@", &driver("amdgpu")), ("mem_info_vram_total", "68702699520")],
    );
    add_pci(
        root,
        "0000:d9:00.0",
        [0x8086, 0x4940, 0x8086, 0],
        0x0b_4000,
        0x40,
        &[("driver@", &driver("4xxx"))],
    );
    add_pci(root, "10000:e1:00.0", [0xabcd, 0x1234, 0, 0], 0x80_0000, 0, &[]);
}

#[test]
fn pci_devices_of_a_server_are_those_of_lspci() {
    let root = tempfile::tempdir().unwrap();
    if !with_list(root.path(), "pci.ids") {
        return;
    }
    server(root.path());
    let Some(records) = lspci_of(root.path()) else { return };
    let found = pci_devices(scan_tree("pci", root.path()));
    assert_eq!(found.len(), 9);
    compare(&found, &records);
    // What of these is an accelerator is told by the class that lspci shows.
    let expected: Vec<[String; 4]> = records
        .iter()
        .filter(|record| {
            let class = name_and_id(&record["Class"]).1;
            class.starts_with("03") || class.starts_with("12") || class == "0b40"
        })
        .map(|record| {
            let name = |field: &str| name_and_id(&record[field]).0;
            [record["Slot"].clone(), name("Vendor"), name("Device"), record["Driver"].clone()]
        })
        .collect();
    let found: Vec<[String; 4]> = scan_tree("accelerators", root.path())
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::Accelerator(AcceleratorDetails { pci_slot, vendor, product, driver, .. }) => {
                [pci_slot, vendor, product, driver]
            }
            other => panic!("no accelerator: {other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 3);
}

#[test]
fn classes_of_pci_are_those_of_lspci() {
    let root = tempfile::tempdir().unwrap();
    if !with_list(root.path(), "pci.ids") {
        return;
    }
    let mut slots = 0_u32;
    for base in (0..=0x15).chain([0x40, 0x7f, 0xff]) {
        for subclass in (0..=0x21).chain([0x30, 0x40, 0x80, 0x99, 0xfe]) {
            let slot = format!("0000:{:02x}:{:02x}.{}", slots >> 8, slots >> 3 & 0x1f, slots & 7);
            add_pci(root.path(), &slot, [0x8086, 1, 0, 0], base << 16 | subclass << 8, 0, &[]);
            slots += 1;
        }
    }
    let Some(records) = lspci_of(root.path()) else { return };
    let found = pci_devices(scan_tree("pci", root.path()));
    assert_eq!((found.len(), records.len()), (slots as usize, slots as usize));
    let mut differing = Vec::new();
    for (device, record) in found.iter().zip(&records) {
        // Rule: the list once had `Smard Card`.
        let expected = name_and_id(&record["Class"]).0.replace("Smard", "Smart");
        if device.class != expected {
            differing.push((device.class_id.clone(), device.class.clone(), expected));
        }
    }
    // Rule: a list that is newer than the one that the agent's names come from may
    // have some more.
    let list = fs::read_to_string(root.path().join("usr/share/misc/pci.ids")).unwrap_or_default();
    let date = list.lines().find_map(|line| line.strip_prefix("#\tDate:")).unwrap_or_default().trim();
    let allowed = if date > "2023-04-10 99" { 5 } else { 0 };
    assert!(differing.len() <= allowed, "{date}: {differing:?}");
    println!("{slots} classes, {} differ: {differing:?}", differing.len());
}
