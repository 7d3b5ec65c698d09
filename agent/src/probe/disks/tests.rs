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
    assert_eq!(natural_key("naa.5000", "S1", "sda"), "wwn:naa.5000");
    assert_eq!(natural_key("", "S1", "sda"), "serial:S1");
    assert_eq!(natural_key("", "", "sda"), "device:sda");
}

#[test]
fn tells_disks_from_what_only_looks_like_one() {
    for name in ["loop0", "ram1", "zram0", "dm-3", "sr0", "fd0", "nbd12", "mmcblk0boot0", "mmcblk0rpmb"] {
        assert!(is_virtual(name), "{name}");
    }
    for name in ["sda", "vda", "nvme0n1", "xvda", "mmcblk0", "pmem0", "drbd1", "rssda"] {
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

#[test]
fn tells_how_a_disk_is_connected() {
    let usb = "../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
    for (path, expected) in [
        ("../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda", "ata"),
        ("../devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", "nvme"),
        ("../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme"),
        (usb, "usb"),
        ("../devices/pci0000:00/0000:00:02.0/virtio1/block/vda", "virtio"),
        ("../devices/pci0000:00/0000:00:02.0/virtio1/host0/target0:0:0/0:0:0:0/block/sda", "scsi"),
        ("../devices/platform/host3/session1/target3:0:0/3:0:0:0/block/sdc", "iscsi"),
        ("../devices/pci0000:00/0000:04:00.0/host1/rport-1:0-2/target1:0:0/1:0:0:0/block/sdd", "fc"),
        ("../devices/pci0000:00/0000:04:00.0/host1/port-1:0/end_device-1:0/target1:0:0/block/sde", "sas"),
        ("../devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", "mmc"),
        ("../devices/virtual/block/loop0", ""),
        ("", ""),
    ] {
        assert_eq!(transport(path), expected, "{path}");
    }
}

/// Devices with their links: `place` is below /sys/devices.
fn device(root: &std::path::Path, name: &str, place: &str, files: &[(&str, &str)]) {
    let folder = root.join("sys/devices").join(place).join(name);
    for (file, text) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    fs::create_dir_all(root.join(BLOCK)).unwrap();
    std::os::unix::fs::symlink(format!("../devices/{place}/{name}"), root.join(BLOCK).join(name)).unwrap();
}

#[test]
fn reads_all_of_a_disk() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let files = [
        ("size", "4096"),
        ("dev", "259:0"),
        ("device/firmware_rev", "1.0"),
        ("queue/physical_block_size", "4096"),
        ("nvme0n1p1/partition", "1"),
        ("nvme0n1p1/dev", "259:1"),
        ("nvme0n1p1/ro", "1"),
        ("nvme0n1p1/uevent", "DEVTYPE=partition\nPARTNAME=EFI System\nPARTUUID=0A0B"),
        ("nvme0n1p2/partition", "2"),
        ("nvme0n1p2/dev", "259:2"),
    ];
    device(root, "nvme0n1", "virtual/nvme-subsystem/nvme-subsys0", &files);
    for (name, slot) in [("nvme0c0n1", "0000:01:00.0"), ("nvme0c1n1", "0000:02:00.0")] {
        device(root, name, &format!("pci0000:00/{slot}/nvme/x"), &[("size", "4096"), ("hidden", "1")]);
    }
    device(root, "nvme1n1", "pci0000:00/0000:03:00.0/nvme/nvme1", &[("size", "8"), ("dev", "259:9")]);
    fs::create_dir_all(root.join("run/udev/data")).unwrap();
    let udev = "E:ID_WWN=0x5000\nE:ID_SERIAL_SHORT=S 1\n";
    fs::write(root.join("run/udev/data/b259:0"), udev).unwrap();
    fs::write(root.join("run/udev/data/b259:9"), "I:1\n").unwrap();
    let udev = "E:ID_PART_ENTRY_UUID=0c0d\nE:ID_PART_ENTRY_NAME=my\\x20data\n";
    fs::write(root.join("run/udev/data/b259:2"), udev).unwrap();

    let host = HostRoot::new(root).unwrap();
    let scan = scan(&host).unwrap();
    let keys: Vec<&str> = scan.assets.iter().map(|asset| asset.natural_key.as_str()).collect();
    assert_eq!(keys, ["wwn:naa.5000", "device:nvme1n1"]);
    let Details::Disk(disk) = &scan.assets[0].details else { panic!("no disk") };
    assert_eq!((disk.serial.as_str(), disk.transport.as_str()), ("S 1", "nvme"));
    assert_eq!((disk.firmware_version.as_str(), disk.physical_block_bytes), ("1.0", 4096));
    let rows: Vec<(&str, &str, bool)> =
        disk.partitions.iter().map(|part| (part.uuid.as_str(), part.name.as_str(), part.read_only)).collect();
    assert_eq!(rows, [("0a0b", "EFI System", true), ("0c0d", "my data", false)]);
    let slots: Vec<&str> = scan.assets[0].relations.iter().map(|other| other.natural_key.as_str()).collect();
    assert_eq!(slots, ["0000:01:00.0", "0000:02:00.0"]);
    assert_eq!(scan.assets[1].relations[0].natural_key, "0000:03:00.0");
    assert_eq!(key_of(&host, "nvme0n1").unwrap().as_deref(), Some("wwn:naa.5000"));
    assert_eq!(key_of(&host, "loop0").unwrap(), None);
}

#[test]
fn a_disk_that_udev_has_not_looked_at_waits() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    device(root, "sda", "pci0000:00/0000:00:01.0/host0", &[("size", "8"), ("dev", "8:0"), ("wwid", "naa.1")]);
    device(root, "sdb", "pci0000:00/0000:00:02.0/host1", &[("size", "8"), ("dev", "8:16")]);
    let host = HostRoot::new(root).unwrap();
    let keys =
        |scan: &Scan| -> Vec<String> { scan.assets.iter().map(|asset| asset.natural_key.clone()).collect() };
    assert_eq!(keys(&scan(&host).unwrap()), ["wwn:naa.1", "device:sdb"], "no udev here");
    fs::create_dir_all(root.join("run/udev/data")).unwrap();
    let waiting = scan(&host).unwrap();
    assert_eq!(keys(&waiting), ["wwn:naa.1"]);
    assert_eq!(waiting.warnings, ["sdb is left out until udev has looked at it"]);
    assert_eq!(waiting.unread, [""]);
    assert_eq!(key_of(&host, "sdb").unwrap(), None);
    fs::write(root.join("run/udev/data/b8:16"), "E:ID_SERIAL_SHORT=S1\n").unwrap();
    let settled = scan(&host).unwrap();
    assert_eq!(
        (keys(&settled), settled.unread.len()),
        (vec!["wwn:naa.1".to_owned(), "serial:S1".to_owned()], 0)
    );
}

#[test]
fn disks_with_one_serial_number_stay_apart() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let files = [("size", "8"), ("device/serial", "S1")];
    let usb = |port: &str| format!("pci0000:00/0000:00:14.0/usb1/{port}/{port}:1.0/host6");
    device(root, "sdb", &usb("1-2"), &files);
    device(root, "sdc", &usb("1-1"), &files);
    device(root, "sdd", &usb("1-2"), &files);
    device(root, "sde", &usb("1-3"), &files);
    device(root, "sdf", &usb("1-4"), &[("size", "8"), ("device/serial", "S2")]);
    let host = HostRoot::new(root).unwrap();
    let found = scan(&host).unwrap();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let keys: Vec<&str> = found.assets.iter().map(|asset| asset.natural_key.as_str()).collect();
    assert_eq!(keys, ["serial:S1@1-2/sdb", "serial:S1", "serial:S1@1-2/sdd", "serial:S1@1-3", "serial:S2"]);
    for (name, key) in ["sdb", "sdc", "sdd", "sde", "sdf"].iter().zip(keys) {
        assert_eq!(key_of(&host, name).unwrap().as_deref(), Some(key), "{name}");
    }
}

#[test]
fn what_decides_on_a_disk_and_cannot_be_read_fails_the_probe() {
    for file in ["size", "wwid", "dm", "device/serial"] {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "sda", "x", &[("size", "8"), ("device/model", "m")]);
        let path = root.path().join("sys/devices/x/sda").join(file);
        let _ = fs::remove_file(&path);
        // ENAMETOOLONG, as any error that is no word on what is there.
        std::os::unix::fs::symlink("x".repeat(300), path).unwrap();
        assert!(scan(&HostRoot::new(root.path()).unwrap()).is_err(), "{file}");
    }
}
