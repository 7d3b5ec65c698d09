//! Mounted file systems: mountinfo of process 1 (proc_pid_mountinfo(5)), so
//! that the agent's own mount namespace does not matter.

use std::collections::BTreeMap;

use contracts::v1::{AssetKind, FilesystemDetails, RelationType, asset_details::Details};

use super::block::Udev;
use super::sysfs::if_given;
use super::{ProbeError, Scan, block, is_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const MOUNTS: &str = "proc/1/mountinfo";
/// For a host root whose process 1 the agent may not look into.
const OWN_MOUNTS: &str = "proc/self/mountinfo";

/// `poll(2)` tells of a change of this one; its size and times never change.
pub(super) const WATCHED: &[&str] = &[MOUNTS];

/// Btrfs file systems that are mounted, by UUID.
const BTRFS: &str = "sys/fs/btrfs";

const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// File systems that hold no data of their own: views of the kernel, and memory.
const PSEUDO: &[&str] = &[
    "autofs",
    "bdev",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// Folders of container runtimes and of the kubelet: what is mounted below
/// comes and goes with containers and pods and is theirs, not the node's; pods
/// and containers are reported by their own probes. A file system mounted at
/// such a folder itself is the node's.
const CONTAINER_FOLDERS: &[&str] = &[
    "/run/containerd/",
    "/run/containers/",
    "/run/crio/",
    "/run/docker/",
    "/run/k0s/",
    "/run/k3s/",
    "/run/netns/",
    "/run/user/",
    "/var/lib/containerd/",
    "/var/lib/containers/storage/",
    "/var/lib/docker/",
    "/var/lib/k0s/",
    "/var/lib/kubelet/",
    "/var/lib/lxcfs/",
    "/var/lib/rancher/",
    "/var/snap/microk8s/common/",
    "/snap/",
];

/// The same where the folders were moved (`--root-dir` of the kubelet, `root`
/// and `state` of containerd): names below them that nothing else uses.
fn is_of_a_container(mount_point: &str) -> bool {
    let mut names = mount_point.split('/').peekable();
    while let Some(name) = names.next() {
        let pod = name == "pods"
            && names.peek().is_some_and(|next| next.len() == 36 && next.parse::<uuid::Uuid>().is_ok());
        if pod || name.starts_with("kubernetes.io") || name.starts_with("io.containerd.") {
            return true;
        }
    }
    // ip-netns(8) mounts this folder onto itself for what is mounted below.
    mount_point == "/run/netns" || CONTAINER_FOLDERS.iter().any(|folder| mount_point.starts_with(folder))
}

/// A mount and the number of its device, such as `8:17`.
struct Mount {
    device: String,
    details: FilesystemDetails,
}

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let text = match host.read(MOUNTS, MAX_BYTES) {
        Err(error) if is_absent(&error) || error.kind() == std::io::ErrorKind::PermissionDenied => {
            host.read(OWN_MOUNTS, MAX_BYTES)
        }
        read => read,
    };
    let (mounts, warnings) = parse_mounts(&text.map_err(ProbeError::read(MOUNTS))?);
    let mut scan = Scan { warnings, ..Scan::default() };
    for Mount { device, mut details } in mounts {
        match host.capacity(&details.mount_point) {
            Ok(bytes) => details.size_bytes = bytes,
            Err(error) => scan.warnings.push(format!("size of {}: {error}", details.mount_point)),
        }
        let kept_on = kept_on(host, &device, &mut details)?;
        let point = details.mount_point.clone();
        let mut asset = ScannedAsset::new(point.clone(), point, Details::Filesystem(details));
        for (kind, key) in kept_on {
            asset = asset.related(RelationType::StoredOn, kind, key);
        }
        scan.assets.push(asset);
    }
    Ok(scan)
}

/// The disks or volumes that hold a file system, and UUID and label by the way.
/// That of Btrfs has no device number of its own, and may be on several devices.
fn kept_on(
    host: &HostRoot,
    device: &str,
    filesystem: &mut FilesystemDetails,
) -> Result<Vec<(AssetKind, String)>, ProbeError> {
    if !device.starts_with("0:") {
        let udev = Udev::read(host, device)?;
        udev.get("ID_FS_UUID").clone_into(&mut filesystem.uuid);
        filesystem.label = udev.decoded("ID_FS_LABEL_ENC");
        return Ok(block::asset_of_number(host, device)?.into_iter().collect());
    }
    let Some(first) = block::asset_of_path(host, &filesystem.source)? else { return Ok(Vec::new()) };
    let mut all = vec![first.clone()];
    for uuid in if_given(BTRFS, host.list(BTRFS))? {
        let uuid = clean(uuid.as_encoded_bytes());
        let folder = format!("{BTRFS}/{uuid}/devices");
        let mut devices = Vec::new();
        for name in if_given(&folder, host.list(&folder))? {
            devices.extend(block::asset_of(host, &clean(name.as_encoded_bytes()))?);
        }
        if devices.contains(&first) {
            all.append(&mut devices);
            filesystem.label = host.line(format!("{BTRFS}/{uuid}/label")).unwrap_or_default();
            filesystem.uuid = uuid;
        }
    }
    Ok(all)
}

/// Parses mountinfo, leaving out what holds no data of the node. Where mounts
/// lie over each other, the last one hides the others and is the one reported.
fn parse_mounts(text: &[u8]) -> (Vec<Mount>, Vec<String>) {
    let mut by_mount_point: BTreeMap<String, Option<Mount>> = BTreeMap::new();
    let mut unreadable = 0;
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(mount) => {
                let point = mount.details.mount_point.clone();
                by_mount_point.insert(point, is_data(&mount.details).then_some(mount));
            }
            None => unreadable += 1,
        }
    }
    // Not the lines themselves: sources and options may hold secrets.
    let warnings = match unreadable {
        0 => Vec::new(),
        _ => vec![format!("{MOUNTS}: {unreadable} lines could not be read")],
    };
    (by_mount_point.into_values().flatten().collect(), warnings)
}

fn is_data(filesystem: &FilesystemDetails) -> bool {
    let mount_point = filesystem.mount_point.as_str();
    // Also the root of a node that is itself a container or a live image.
    if mount_point == "/" {
        return true;
    }
    !PSEUDO.contains(&filesystem.r#type.as_str()) && !is_of_a_container(mount_point)
}

/// The source without what may be a password: the query of a URL, and what
/// stands before the last `@` in `https://user:secret@host/share`,
/// `//user:secret@nas/share` and `user:secret@host:/dir`. A password may hold any
/// character, so that of a name with both `:` and `@` rather too much is cut;
/// but `server:/export@x` is a server and its path.
fn without_credentials(source: String) -> String {
    let scheme = source.find("://").filter(|&end| !source[..end].contains([':', '/', '@']));
    let start = match scheme {
        Some(end) => end + 3,
        None if source.starts_with("//") => 2,
        None if source.starts_with('/') => return source,
        None => 0,
    };
    let rest = &source[start..];
    let authority = if start > 0 { &rest[..rest.find('/').unwrap_or(rest.len())] } else { "" };
    let after = match rest.rsplit_once('@') {
        Some((before, path)) if start == 0 && before.contains(":/") && !path.contains(':') => return source,
        Some((before, after)) if before.contains(':') => after,
        _ => match authority.rfind('@') {
            Some(at) => &rest[at + 1..],
            None => rest,
        },
    };
    let after = if scheme.is_some() { after.split('?').next().unwrap_or_default() } else { after };
    format!("{}{after}", &source[..start])
}

/// `id parent major:minor root mount_point options [tags…] - type source super_options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let separator = words.iter().skip(6).position(|word| word == b"-")? + 6;
    let (root, mount_point, options) = (words[3], words[4], words[5]);
    if !mount_point.starts_with(b"/") {
        return None;
    }
    let (kind, source) = (words.get(separator + 1)?, words.get(separator + 2)?);
    let super_options = words.get(separator + 3).copied().unwrap_or_default();

    let mut all: Vec<String> = options
        .split(|&byte| byte == b',')
        .chain(super_options.split(|&byte| byte == b','))
        .filter(|option| !option.is_empty())
        .map(unescape)
        .collect();
    // The mount decides; what it mounts may be writable for others.
    let read_only = options.split(|&byte| byte == b',').any(|option| option == b"ro")
        || super_options.split(|&byte| byte == b',').any(|option| option == b"ro");
    all.retain(|option| !has_secret(option));
    if read_only {
        all.retain(|option| option != "rw");
    }
    all.sort();
    all.dedup();
    let details = FilesystemDetails {
        mount_point: unescape(mount_point),
        source: without_credentials(unescape(source)),
        r#type: unescape(kind),
        root: unescape(root),
        options: all,
        read_only,
        ..Default::default()
    };
    Some(Mount { device: clean(words[2]), details })
}

/// Options that may carry credentials or name the file of them, by their names:
/// `password2`, `passwd`, `passphrase`, `secretfile`, `keyfile`, `access_token` ...
fn has_secret(option: &str) -> bool {
    let Some((name, _)) = option.split_once('=') else { return false };
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key", "cred"].iter().any(|word| name.contains(word))
}

/// Space, tab, newline and backslash are written as `\040` and so on.
pub(super) fn unescape(word: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let value =
            octal.and_then(|d| u8::try_from(d.iter().fold(0_u32, |n, d| n * 8 + u32::from(d - b'0'))).ok());
        if let Some(value) = value {
            bytes.push(value);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    clean(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534
30 27 8:17 / /srv/my\\040data rw,noatime shared:5 master:1 - xfs /dev/sdb1 rw,attr2,inode64
31 27 0:40 / /mnt/nfs rw,relatime - nfs4 server:/export rw,vers=4.2,addr=10.0.0.1
32 27 254:0 /srv/sub /opt/bind ro,relatime - ext4 /dev/vda rw
33 27 0:50 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/a
34 27 0:51 / /var/lib/kubelet/pods/uid/volumes/x rw - ext4 /dev/sdc rw
35 27 0:52 / /mnt/share rw - cifs //srv/share rw,username=me,password=hunter2
36 27 0:53 / /scratch rw - tmpfs tmpfs rw,size=1g
";

    fn parse(text: &[u8]) -> (Vec<FilesystemDetails>, Vec<String>) {
        let (mounts, warnings) = parse_mounts(text);
        (mounts.into_iter().map(|mount| mount.details).collect(), warnings)
    }

    #[test]
    fn containers_and_pods_add_no_file_systems() {
        let mut text = String::from("27 1 254:0 / / rw - ext4 /dev/vda rw\n");
        text += "28 27 8:1 / /var/lib/kubelet rw - xfs /dev/sda1 rw\n";
        text += "29 27 8:2 / /data/kubelet rw - xfs /dev/sda2 rw\n";
        text += "30 27 254:0 /run/netns /run/netns rw - ext4 /dev/vda rw\n";
        let pod = "0b5c31f2-7a3e-4e53-9f6b-3a5a0e1b2c4d";
        for at in 0..50 {
            for (point, kind) in [
                (format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{at}/rootfs"), "overlay"),
                (format!("/run/netns/cni-{at}"), "nsfs"),
                (format!("/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~csi/pvc-{at}/mount"), "ext4"),
                (format!("/var/lib/kubelet/plugins/kubernetes.io/csi/x/{at}/globalmount"), "ext4"),
                (format!("/data/kubelet/pods/{pod}/volume-subpaths/conf/app/{at}"), "ext4"),
                (format!("/data/kubelet/plugins/kubernetes.io/csi/x/{at}/globalmount"), "xfs"),
                (format!("/data/state/io.containerd.grpc.v1.cri/sandboxes/{at}/rootfs"), "ext4"),
                (format!("/var/lib/containers/storage/overlay/{at}/merged"), "xfs"),
            ] {
                text += &format!("40 27 8:3 / {point} rw - {kind} /dev/x rw\n");
            }
        }
        let points: Vec<String> = parse(text.as_bytes()).0.into_iter().map(|fs| fs.mount_point).collect();
        assert_eq!(points, ["/", "/data/kubelet", "/var/lib/kubelet"]);
        for own in ["/srv/pods/mine", "/pods", "/srv/pods/0b5c31f2", "/data/io"] {
            assert!(!is_of_a_container(own), "{own}");
        }
    }

    #[test]
    fn keeps_what_holds_data_of_the_node() {
        let (filesystems, warnings) = parse(NODE);
        assert!(warnings.is_empty(), "{warnings:?}");
        let points: Vec<&str> = filesystems.iter().map(|fs| fs.mount_point.as_str()).collect();
        assert_eq!(points, ["/", "/mnt/nfs", "/mnt/share", "/opt/bind", "/srv/my data"]);
        let root = &filesystems[0];
        assert_eq!(
            (root.source.as_str(), root.r#type.as_str(), root.root.as_str()),
            ("/dev/vda", "ext4", "/")
        );
        assert_eq!(root.options, ["discard", "relatime", "resuid=65534", "rw"]);
        assert!(!root.read_only);
        assert!(filesystems[3].read_only);
        assert_eq!(filesystems[3].root, "/srv/sub");
        assert!(!filesystems[3].options.contains(&"rw".to_owned()));
    }

    #[test]
    fn uuid_and_label_are_those_of_udev_and_of_btrfs() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /b rw - btrfs /dev/sdb rw\n\
                      3 1 0:41 / /nfs rw - nfs4 server:/b rw\n4 1 8:3 / /c rw - xfs /dev/sda3 rw\n";
        write(MOUNTS, mounts);
        write("run/udev/data/b8:1", "E:ID_FS_UUID=5f0c1e2a\nE:ID_FS_LABEL=a_b\nE:ID_FS_LABEL_ENC=a\\x20b\n");
        write("sys/fs/btrfs/77aa/devices/sdb/size", "9\n");
        write("sys/fs/btrfs/77aa/label", "backups\n");
        write("sys/devices/block/sdb/size", "9\n");
        // As udev leaves it: before, the disk is not named.
        write("sys/devices/block/sdb/dev", "8:16\n");
        write("run/udev/data/b8:16", "E:ID_SERIAL_SHORT=S1\n");
        for folder in ["sys/class/block", "sys/block"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            std::os::unix::fs::symlink("/sys/devices/block/sdb", root.path().join(folder).join("sdb"))
                .unwrap();
        }
        let found = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        let found: Vec<[String; 3]> = found
            .assets
            .into_iter()
            .map(|asset| match asset.details {
                Details::Filesystem(one) => [one.mount_point, one.uuid, one.label],
                other => panic!("no file system: {other:?}"),
            })
            .collect();
        let expected =
            [["/", "5f0c1e2a", "a b"], ["/b", "77aa", "backups"], ["/c", "", ""], ["/nfs", "", ""]];
        assert_eq!(found, expected);
    }

    #[test]
    fn no_password_leaves_the_node() {
        let (filesystems, _) = parse(NODE);
        assert!(!format!("{filesystems:?}").contains("hunter2"));
    }

    #[test]
    fn of_mounts_over_each_other_the_last_counts() {
        let over = b"1 0 8:1 / /data rw - ext4 /dev/a rw\n2 1 8:2 / /data rw - ext4 /dev/b rw\n";
        let (filesystems, _) = parse(over);
        assert_eq!(filesystems.len(), 1);
        assert_eq!(filesystems[0].source, "/dev/b");
        let hidden = b"1 0 8:1 / /data rw - ext4 /dev/a rw\n2 1 0:9 / /data rw - tmpfs none rw\n";
        assert!(parse_mounts(hidden).0.is_empty());
    }

    #[test]
    fn a_source_shows_no_credentials() {
        for (source, shown) in [
            ("https://user:secret@host/share", "https://host/share"),
            ("//user:se@cret@nas/share", "//nas/share"),
            ("//nas/a@b", "//nas/a@b"),
            ("user@host:/dir", "user@host:/dir"),
            ("/dev/sda1", "/dev/sda1"),
            ("//user:p/ss@nas/share", "//nas/share"),
            ("//user:p/s@s@nas/share", "//nas/share"),
            ("//user@nas/share", "//nas/share"),
            ("https://h/p?token=x", "https://h/p"),
            ("https://u:a?b@h/p?token=x", "https://h/p"),
            ("https://h/p?from=a@b", "https://h/p"),
            ("user:p@ss@host:/dir", "host:/dir"),
            ("user:p//ss@host:/dir", "host:/dir"),
            ("user:p://ss@host:/dir", "host:/dir"),
            ("sshfs#user:p@host:/dir", "host:/dir"),
            ("curlftpfs#ftp://u:p@host/", "curlftpfs#ftp://host/"),
            ("server:/export/a@b", "server:/export/a@b"),
            ("10.0.0.1:6789,10.0.0.2:6789:/", "10.0.0.1:6789,10.0.0.2:6789:/"),
            ("pool/data@daily", "pool/data@daily"),
            ("/dev/disk/by-path/pci-0000:00:1f.2@x", "/dev/disk/by-path/pci-0000:00:1f.2@x"),
        ] {
            assert_eq!(without_credentials(source.to_owned()), shown);
        }
        for option in ["password2=x", "passwd=x", "PassPhrase=x", "KEY=x", "token=x", "pwd=x", "credfile=/x"]
        {
            assert!(has_secret(option), "{option}");
        }
        for option in ["rw", "username=me", "nokey", "sec=krb5", "vers=3.1.1"] {
            assert!(!has_secret(option), "{option}");
        }
    }

    #[test]
    fn garbage_is_named_and_the_rest_is_complete() {
        let (filesystems, warnings) =
            parse(b"\xff\xff\n1 2 3\n1 0 8:1 / / rw -\n1 0 8:1 / / rw - ext4 \xff\\999 rw\n");
        assert_eq!(
            (filesystems.len(), &warnings[..]),
            (1, &[format!("{MOUNTS}: 3 lines could not be read")][..])
        );
        assert_eq!(filesystems[0].source, "\u{fffd}\\999");
    }
}
