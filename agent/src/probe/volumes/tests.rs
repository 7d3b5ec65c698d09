use super::*;
use contracts::v1::AssetKind;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A device below /sys/devices/virtual/block with its links.
fn device(root: &Path, name: &str, files: &[(&str, &str)], slaves: &[&str]) {
    let place = "devices/virtual/block";
    let folder = root.join("sys").join(place).join(name);
    for (file, text) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    fs::create_dir_all(folder.join("slaves")).unwrap();
    for slave in slaves {
        symlink(format!("../../{slave}"), folder.join("slaves").join(slave)).unwrap();
    }
    let own = name.rsplit('/').next().unwrap();
    for (class, up, wanted) in [("sys/class/block", "../..", true), ("sys/block", "..", own == name)] {
        if wanted {
            fs::create_dir_all(root.join(class)).unwrap();
            symlink(format!("{up}/{place}/{name}"), root.join(class).join(own)).unwrap();
        }
    }
}

/// Volumes with display name and relations, by natural key.
type Found = BTreeMap<String, (VolumeDetails, String, Vec<(AssetKind, String)>)>;

fn found(root: &Path) -> Found {
    let scan = scan(&HostRoot::new(root).unwrap()).unwrap();
    assert!(scan.warnings.is_empty());
    scan.assets
        .into_iter()
        .map(|asset| {
            let related =
                asset.relations.iter().map(|other| (other.kind(), other.natural_key.clone())).collect();
            let Details::Volume(volume) = asset.details else { panic!("no volume") };
            (asset.natural_key, (volume, asset.display_name, related))
        })
        .collect()
}

#[test]
fn reads_volumes_upon_volumes() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for (disk, wwid) in [("sda", "naa.1"), ("sdb", "naa.2")] {
        device(root, disk, &[("size", "4096"), ("wwid", wwid)], &[]);
    }
    device(root, "sda/sda2", &[("partition", "2")], &[]);
    let uuid = "6cd1a3e4:5d0b2f7c:00000001:9f8e7d6c";
    let array = [
        ("size", "4000"),
        ("dev", "9:127"),
        ("md/array_state", "active"),
        ("md/level", "raid1"),
        ("md/raid_disks", "2"),
        ("md/degraded", "1"),
        ("md/metadata_version", "1.2"),
        ("md/uuid", "6CD1A3E4-5d0b-2f7c-0000-00019f8e7d6c"),
    ];
    device(root, "md127", &array, &["sda2", "sdb"]);
    fs::create_dir_all(root.join("run/udev/data")).unwrap();
    fs::write(root.join("run/udev/data/b9:127"), "E:MD_NAME=host:data\nE:MD_UUID=other\n").unwrap();
    let lvm = [("size", "2000"), ("ro", "1"), ("dm/name", "vg--0-lv--a-cow"), ("dm/uuid", "LVM-AbC")];
    device(root, "dm-0", &lvm, &["md127"]);
    device(root, "dm-1", &[("dm/name", "secret"), ("dm/uuid", "CRYPT-LUKS2-1-secret")], &["dm-0"]);
    device(root, "dm-2", &[("dm/name", "plain")], &["loop0"]);
    device(root, "loop0", &[("size", "10")], &[]);
    device(root, "dm-3", &[("dm/name", "pool-snap-12")], &[]);
    device(root, "md9", &[("md/array_state", "clear")], &[]);
    device(root, "md8", &[("md/array_state", "inactive"), ("dev", "9:8")], &["sdb"]);

    // Which array this is, only udev could tell.
    let host = HostRoot::new(root).unwrap();
    let waiting = scan(&host).unwrap();
    assert_eq!(waiting.warnings, ["md8 is left out until udev has looked at it"]);
    assert_eq!((waiting.unread, key_of(&host, "md8").unwrap()), (vec![String::new()], None));
    fs::write(root.join("run/udev/data/b9:8"), "I:1\n").unwrap();

    let all = found(root);
    let keys: Vec<&str> = all.keys().map(String::as_str).collect();
    let md = format!("md:{uuid}");
    assert_eq!(keys, ["dm:CRYPT-LUKS2-1-secret", "dm:LVM-AbC", md.as_str(), "name:md8", "name:plain"]);
    let (volume, display, related) = &all[&md];
    assert_eq!((display.as_str(), volume.name.as_str(), volume.uuid.as_str()), ("/dev/md127", "data", uuid));
    assert_eq!(
        (volume.raid_level.as_str(), volume.raid_devices, volume.raid_state.as_str()),
        ("raid1", 2, "degraded")
    );
    assert_eq!((volume.raid_metadata.as_str(), volume.size_bytes), ("1.2", 4000 * 512));
    assert_eq!(volume.members, ["sda2", "sdb"]);
    let disk = |key: &str| (AssetKind::Disk, key.to_owned());
    assert_eq!(related[..], [disk("wwn:naa.1"), disk("wwn:naa.2")]);
    let (volume, display, related) = &all["dm:LVM-AbC"];
    assert_eq!((volume.r#type.as_str(), display.as_str()), ("lvm", "/dev/mapper/vg--0-lv--a-cow"));
    assert_eq!((volume.volume_group.as_str(), volume.logical_volume.as_str()), ("vg-0", "lv-a-cow"));
    assert!(volume.read_only);
    assert_eq!(related[..], [(AssetKind::Volume, md.clone())]);
    assert_eq!(all["dm:CRYPT-LUKS2-1-secret"].2, [(AssetKind::Volume, "dm:LVM-AbC".to_owned())]);
    assert!(all["name:plain"].2.is_empty(), "a loop device is no asset");
    assert_eq!(all["name:md8"].0.raid_state, "inactive");

    // And the disks are those that are left.
    let disks = super::super::disks::scan(&HostRoot::new(root).unwrap()).unwrap();
    let keys: Vec<&str> = disks.assets.iter().map(|asset| asset.natural_key.as_str()).collect();
    assert_eq!(keys, ["wwn:naa.1", "wwn:naa.2"]);
    let of = |path: &str| block::asset_of_path(&HostRoot::new(root).unwrap(), path).unwrap();
    assert_eq!(of("/dev/mapper/plain"), Some((AssetKind::Volume, "name:plain".to_owned())));
    assert_eq!(of("/dev/sda2"), Some(disk("wwn:naa.1")));
    assert_eq!((of("/dev/mapper/none"), of("/dev/loop0"), of("server:/x")), (None, None, None));
}

#[test]
fn names_and_types_of_device_mapper() {
    for (name, group, volume) in [
        ("vg0-root", "vg0", "root"),
        ("vg--0-lv--root", "vg-0", "lv-root"),
        ("vg----x-y", "vg--x", "y"),
        ("vg-lv_tmeta", "vg", "lv_tmeta"),
        ("vg", "", ""),
        ("vg--", "", ""),
        ("", "", ""),
        ("grö-ße", "grö", "ße"),
    ] {
        assert_eq!(split_lvm(name), (group.to_owned(), volume.to_owned()), "{name}");
    }
    for (uuid, kind) in [
        ("LVM-abc", "lvm"),
        ("CRYPT-LUKS2-x", "crypt"),
        ("mpath-3600", "multipath"),
        ("part1-mpath-3600", "part"),
        ("DMRAID-x", "dmraid"),
        ("VENDOR-x", "VENDOR"),
        ("nothing", "dm"),
        ("", "dm"),
    ] {
        assert_eq!(mapped_type(uuid), kind, "{uuid}");
    }
    for (name, uuid, passing) in [
        ("docker-8:1-123-0a1b", "", true),
        ("devpool-snap-7", "", true),
        ("vg-snap-7", "LVM-x", false),
        ("my-snap-x", "", false),
        ("temporary-cryptsetup-1", "CRYPT-TEMP-temporary-cryptsetup-1", true),
    ] {
        assert_eq!(is_passing(name, uuid), passing, "{name}");
    }
}

#[test]
fn an_array_that_is_written_to_stays_the_same() {
    for (state, degraded, shown) in [
        ("clean", false, "clean"),
        ("active", false, "clean"),
        ("active-idle", false, "clean"),
        ("write-pending", true, "degraded"),
        ("inactive", true, "inactive"),
        ("broken", true, "broken"),
    ] {
        assert_eq!(array_state(state, degraded), shown);
    }
    assert_eq!(array_uuid("00000000-0000-0000-0000-000000000000"), "");
    assert_eq!(array_uuid("garbage"), "");
}
