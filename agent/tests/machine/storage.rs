//! Block devices, file systems and swap beside util-linux: of this machine, and
//! of loop devices made for the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contracts::v1::asset_details::Details;
use contracts::v1::{AssetKind, DiskDetails, RelationType};
use serde_json::Value;

use crate::namespaces::{PART, in_own_namespaces};
use crate::{scan, tool};

const COLUMNS: &str =
    "KNAME,PKNAME,SIZE,TYPE,RO,RM,ROTA,PHY-SEC,SERIAL,TRAN,START,PARTUUID,PARTLABEL,MAJ:MIN";

/// Rows of lsblk, each device once.
fn lsblk(more: &[&str]) -> Option<Vec<Value>> {
    let args = [&["--json", "--bytes", "--list", "--all", "-o", COLUMNS], more].concat();
    let listed: Value = serde_json::from_str(&tool("lsblk", &args)?).unwrap();
    let mut seen = BTreeSet::new();
    let mut rows = listed["blockdevices"].as_array().unwrap().clone();
    rows.retain(|row| seen.insert(text(row, "kname")));
    Some(rows)
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or(0)
}

fn flag(row: &Value, column: &str) -> bool {
    row[column].as_bool().unwrap_or(false)
}

/// A partition as lsblk tells it: name, start and size in bytes, whether it
/// refuses writes, UUID and label.
type Row = (String, u64, u64, bool, String, String);

fn partitions_of_lsblk(rows: &[Value], disk: &str) -> BTreeSet<Row> {
    rows.iter()
        .filter(|row| row["type"] == "part" && text(row, "pkname") == disk)
        .map(|row| {
            let (start, size) = (number(row, "start") * 512, number(row, "size"));
            let (uuid, label) = (text(row, "partuuid"), text(row, "partlabel"));
            (text(row, "kname"), start, size, flag(row, "ro"), uuid, label)
        })
        .collect()
}

fn partitions_found(disk: &DiskDetails) -> BTreeSet<Row> {
    disk.partitions
        .iter()
        .cloned()
        .map(|part| (part.device, part.start_bytes, part.size_bytes, part.read_only, part.uuid, part.name))
        .collect()
}

fn disks_found() -> BTreeMap<String, DiskDetails> {
    let disk = |details: Details| match details {
        Details::Disk(disk) => (disk.device.clone(), disk),
        other => panic!("no disk: {other:?}"),
    };
    scan("disks").assets.into_iter().map(|asset| disk(asset.details)).collect()
}

#[test]
fn disks_are_those_of_lsblk() {
    let Some(rows) = lsblk(&[]) else { return };
    // Rule: only what holds data of its own: no loop devices, memory, or drives
    // without a medium.
    let expected: BTreeMap<String, &Value> = rows
        .iter()
        .filter(|row| row["type"] == "disk" && number(row, "size") > 0)
        .map(|row| (text(row, "kname"), row))
        .filter(|(name, _)| !name.starts_with("zram") && !name.starts_with("ram"))
        .collect();
    let found = disks_found();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, disk) in &found {
        let row = expected[name];
        let shown =
            (disk.size_bytes, disk.read_only, disk.removable, disk.rotational, disk.physical_block_bytes);
        let physical = u32::try_from(number(row, "phy-sec")).unwrap();
        let listed = (number(row, "size"), flag(row, "ro"), flag(row, "rm"), flag(row, "rota"), physical);
        assert_eq!(shown, listed, "{name}");
        assert_eq!(partitions_found(disk), partitions_of_lsblk(&rows, name));
        // Rule: lsblk asks udev first, and shows nothing where neither knows.
        for (column, shown) in [("serial", &disk.serial), ("tran", &disk.transport)] {
            let listed = text(row, column).replace("sata", "ata");
            assert!(listed.is_empty() || listed == *shown, "{name}: {column} {listed} and not {shown}");
        }
    }
    println!("{} disks", found.len());
}

#[test]
fn volumes_are_those_of_lsblk() {
    let Some(rows) = lsblk(&[]) else { return };
    let mut expected = BTreeMap::new();
    for row in &rows {
        let kind = match text(row, "type").as_str() {
            "disk" | "part" | "loop" | "rom" => continue,
            "mpath" => "multipath".to_owned(),
            raid if raid.starts_with("raid") || raid == "linear" => "raid".to_owned(),
            other => other.to_owned(),
        };
        expected.insert(text(row, "kname"), (kind, number(row, "size"), flag(row, "ro")));
    }
    let found: BTreeMap<_, _> = scan("volumes")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::Volume(volume) => (volume.device, (volume.r#type, volume.size_bytes, volume.read_only)),
            other => panic!("no volume: {other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
    if found.is_empty() {
        println!("SKIPPED: this machine has no volumes, and lsblk says so too");
    }
}

/// A device or area that a test made, and how it is unmade.
struct Made {
    name: String,
    unmake: &'static [&'static str],
}

impl Drop for Made {
    fn drop(&mut self) {
        tool(self.unmake[0], &[&self.unmake[1..], &[&self.name]].concat());
    }
}

/// A loop device over a file of this many MiB.
fn looped(file: &Path, size: usize, args: &[&str]) -> Option<Made> {
    std::fs::write(file, vec![0; size * 1024 * 1024]).unwrap();
    let args = [&["--find", "--show"], args, &[file.to_str().unwrap()]].concat();
    let name = tool("losetup", &args)?.trim().to_owned();
    Some(Made { name, unmake: &["losetup", "--detach"] })
}

#[test]
fn swap_is_that_of_swapon() {
    let listed = || {
        let args = ["--show=NAME,TYPE,SIZE,PRIO", "--bytes", "--raw", "--noheadings"];
        let rows = tool("swapon", &args)?.lines().map(|line| line.replace("\\x20", "_")).collect();
        Some::<BTreeSet<String>>(rows)
    };
    let found = || -> BTreeSet<String> {
        let row = |details: Details| match details {
            // Rule: swapon counts the page with the header in.
            Details::Swap(area) => {
                format!("{} {} {} {}", area.path, area.r#type, area.size_bytes, area.priority)
                    .replace("my swap", "my_swap")
            }
            other => panic!("no swap: {other:?}"),
        };
        scan("swap").assets.into_iter().map(|asset| row(asset.details)).collect()
    };
    let Some(before) = listed() else { return };
    assert_eq!(found(), before);

    let folder = tempfile::tempdir().unwrap();
    let Some(device) = looped(&folder.path().join("image"), 1, &[]) else { return };
    let file = folder.path().join("my swap");
    std::fs::write(&file, vec![0; 1024 * 1024]).unwrap();
    let mut areas = Vec::new();
    for (path, priority) in [(device.name.as_str(), "5"), (file.to_str().unwrap(), "7")] {
        if tool("mkswap", &[path]).is_some() && tool("swapon", &["--priority", priority, path]).is_some() {
            areas.push(Made { name: path.to_owned(), unmake: &["swapoff"] });
        }
    }
    let with_areas = listed().unwrap();
    assert_eq!(with_areas.len(), before.len() + areas.len());
    assert_eq!(found(), with_areas);
    println!("{} areas, {} of them made here", with_areas.len(), areas.len());
}

/// Rule: what lies below the folders of container runtimes and the kubelet is
/// theirs (probe/filesystems.rs).
pub fn is_of_a_container(target: &str) -> bool {
    ["/run/containerd/", "/run/docker/", "/run/k3s/", "/run/user/", "/snap/", "/var/lib/containerd/"]
        .iter()
        .chain(&[
            "/var/lib/containers/storage/",
            "/var/lib/docker/",
            "/var/lib/kubelet/",
            "/var/lib/rancher/",
        ])
        .any(|folder| target.starts_with(folder))
        || target == "/run/netns"
}

/// Mount points with source, type, root and size, as findmnt tells of real
/// file systems. Where mounts lie over each other, the last is the one.
fn filesystems_of_findmnt() -> Option<BTreeMap<String, [String; 4]>> {
    let columns = "TARGET,SOURCE,FSTYPE,FSROOT,SIZE";
    let args = ["--json", "--list", "--bytes", "--nofsroot", "-o", columns];
    let rows = |more: &str| {
        let listed: Value = serde_json::from_str(&tool("findmnt", &[&args, &[more][..]].concat())?).unwrap();
        Some(listed["filesystems"].as_array().unwrap().clone())
    };
    let mut expected = BTreeMap::new();
    // Rule: the root counts whatever it is made of.
    let real: BTreeSet<String> =
        rows("--real")?.iter().map(|row| text(row, "target")).chain(["/".to_owned()]).collect();
    for row in rows("--all")? {
        let target = text(&row, "target");
        if real.contains(&target) && !is_of_a_container(&target) && row["fstype"] != "squashfs" {
            let size = number(&row, "size").to_string();
            expected.insert(target, [text(&row, "source"), text(&row, "fstype"), text(&row, "fsroot"), size]);
        }
    }
    Some(expected)
}

fn filesystems_found() -> BTreeMap<String, [String; 4]> {
    let row = |details: Details| match details {
        Details::Filesystem(fs) => {
            (fs.mount_point, [fs.source, fs.r#type, fs.root, fs.size_bytes.to_string()])
        }
        other => panic!("no file system: {other:?}"),
    };
    scan("filesystems").assets.into_iter().map(|asset| row(asset.details)).collect()
}

#[test]
fn file_systems_are_those_of_findmnt() {
    const NAME: &str = "storage::file_systems_are_those_of_findmnt";
    if std::env::var(PART).is_err() {
        if let Some(expected) = filesystems_of_findmnt() {
            assert_eq!(filesystems_found(), expected);
        }
        in_own_namespaces(NAME);
        return;
    }
    // Whatever is mounted here is for this process alone.
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("a b");
    let bound = folder.path().join("bound");
    for path in [&point, &bound] {
        std::fs::create_dir(path).unwrap();
    }
    let Some(device) = looped(&folder.path().join("image"), 8, &[]) else { return };
    let (point, bound) = (point.to_str().unwrap(), bound.to_str().unwrap());
    if tool("mkfs.ext4", &["-q", "-L", "größe /1", &device.name]).is_none()
        || tool("mount", &[&device.name, point]).is_none()
    {
        return;
    }
    std::fs::create_dir(Path::new(point).join("sub")).unwrap();
    tool("mount", &["--bind", &format!("{point}/sub"), bound]).unwrap();
    tool("mount", &["-o", "remount,bind,ro", bound]).unwrap();
    let expected = filesystems_of_findmnt().unwrap();
    assert_eq!(expected[bound][2], "/sub");
    assert_eq!(filesystems_found(), expected);
    // What udev would keep of it, as blkid tells udev.
    let number = tool("findmnt", &["--noheadings", "--output", "MAJ:MIN", point]).unwrap();
    let listed = tool("blkid", &["-p", "-o", "udev", &device.name]).unwrap();
    tool("mount", &["-t", "tmpfs", "none", "/run"]).unwrap();
    std::fs::create_dir_all("/run/udev/data").unwrap();
    let lines: String = listed.lines().map(|line| format!("E:{line}\n")).collect();
    std::fs::write(format!("/run/udev/data/b{}", number.trim()), lines).unwrap();
    let value = |name: &str| {
        let listed = tool("blkid", &["-p", "-o", "value", "-s", name, &device.name]).unwrap();
        listed.trim().to_owned()
    };
    let found = scan("filesystems").assets.into_iter().find_map(|asset| match asset.details {
        Details::Filesystem(fs) => (fs.mount_point == bound).then_some(fs),
        _ => None,
    });
    let found = found.unwrap();
    assert!(found.read_only);
    assert_eq!((found.uuid, found.label.clone()), (value("UUID"), value("LABEL")));
    assert_eq!(found.label, "größe /1");
    println!("{} file systems, 2 of them made here", expected.len());
    for path in [bound, point] {
        tool("umount", &[path]).unwrap();
    }
}

#[test]
fn a_mounted_root_has_the_size_that_df_says() {
    let Some(listed) = tool("df", &["--block-size=1", "--output=size", "/"]) else { return };
    let expected: u64 = listed.lines().nth(1).unwrap().trim().parse().unwrap();
    let root = scan("filesystems").assets.into_iter().find(|asset| asset.natural_key == "/").unwrap();
    let Details::Filesystem(root) = root.details else { panic!("no file system") };
    assert_eq!(root.size_bytes, expected);
}

#[test]
fn the_root_is_kept_on_the_disk_that_lsblk_says() {
    let Some(device) = tool("findmnt", &["--noheadings", "--output", "MAJ:MIN", "/"]) else { return };
    let Some(rows) = lsblk(&[]) else { return };
    let root = scan("filesystems").assets.into_iter().find(|asset| asset.natural_key == "/").unwrap();
    let Some(row) = rows.iter().find(|row| text(row, "maj:min").trim() == device.trim()) else {
        println!("SKIPPED: the root of this machine is on no block device");
        return;
    };
    let disk = if row["type"] == "part" { text(row, "pkname") } else { text(row, "kname") };
    let Some(disk) =
        scan("disks").assets.into_iter().find(|asset| asset.display_name == format!("/dev/{disk}"))
    else {
        println!("SKIPPED: the root of this machine is on a volume");
        return;
    };
    let relation = &root.relations[0];
    assert_eq!((relation.r#type(), relation.kind()), (RelationType::StoredOn, AssetKind::Disk));
    assert_eq!((relation.natural_key.as_str(), root.relations.len()), (disk.natural_key.as_str(), 1));
}

/// The kernel's partitions of a loop device, shown to the probe as those of a
/// disk by a /sys/block of this process alone.
#[test]
fn partitions_are_those_of_lsblk() {
    if std::env::var(PART).is_err() {
        in_own_namespaces("storage::partitions_are_those_of_lsblk");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::write(&image, vec![0; 8 * 1024 * 1024]).unwrap();
    let table = "label: gpt\nsize=1MiB,name=\"EFI System\",type=U\nsize=2MiB\nsize=1MiB,name=größe\n";
    std::fs::write(folder.path().join("table"), table).unwrap();
    let (image, table) = (image.to_str().unwrap(), folder.path().join("table"));
    let script = format!("sfdisk --quiet --no-tell-kernel '{image}' < '{}'", table.display());
    if tool("sh", &["-c", &script]).is_none() {
        return;
    }
    let Some(name) = tool("losetup", &["--find", "--show", "--partscan", image]) else { return };
    let device = Made { name: name.trim().to_owned(), unmake: &["losetup", "--detach"] };
    let name = device.name.strip_prefix("/dev/").unwrap();
    // A kernel that knows no GPT is told of the partitions.
    if partitions_of_lsblk(&lsblk(&[&device.name]).unwrap(), name).is_empty() {
        tool("partx", &["--add", &device.name]).unwrap();
    }
    let rows = lsblk(&[&device.name]).unwrap();
    // Rule: lsblk shows UUIDs and labels only where udev runs; sfdisk reads them.
    let listed: Value = serde_json::from_str(&tool("sfdisk", &["--json", &device.name]).unwrap()).unwrap();
    let listed = listed["partitiontable"]["partitions"].as_array().unwrap();
    let rows_of_lsblk = partitions_of_lsblk(&rows, name);
    assert_eq!(rows_of_lsblk.len(), listed.len());
    let expected: BTreeSet<Row> = rows_of_lsblk
        .into_iter()
        .zip(listed)
        .map(|((name, start, size, read_only, ..), row)| {
            (name, start, size, read_only, text(row, "uuid").to_lowercase(), text(row, "name"))
        })
        .collect();
    // What udev would keep of them, as blkid tells udev.
    tool("mount", &["-t", "tmpfs", "none", "/run"]).unwrap();
    std::fs::create_dir_all("/run/udev/data").unwrap();
    // udev writes a file for each block device; the disk waits for its own.
    for row in rows.iter().filter(|row| row["type"] != "part") {
        std::fs::write(format!("/run/udev/data/b{}", text(row, "maj:min").trim()), "I:1\n").unwrap();
    }
    for row in rows.iter().filter(|row| row["type"] == "part") {
        let listed = tool("blkid", &["-p", "-o", "udev", &format!("/dev/{}", text(row, "kname"))]).unwrap();
        let lines: String = listed.lines().map(|line| format!("E:{line}\n")).collect();
        std::fs::write(format!("/run/udev/data/b{}", text(row, "maj:min").trim()), lines).unwrap();
    }
    tool("mount", &["-t", "tmpfs", "none", "/sys/block"]).unwrap();
    std::os::unix::fs::symlink(format!("../devices/virtual/block/{name}"), "/sys/block/sda").unwrap();
    let found = disks_found();
    assert_eq!(partitions_found(&found["sda"]), expected);
    assert!(
        expected.iter().any(|(.., uuid, label)| uuid.len() == 36 && label == "EFI System"),
        "{expected:?}"
    );
}
