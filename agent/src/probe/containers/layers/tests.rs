use super::*;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn overlay(layers: &[&str]) -> Overlay {
    Overlay { layers: layers.iter().map(|layer| (*layer).to_owned()).collect(), bases: Vec::new() }
}

fn read(files: &Layers, path: &str) -> io::Result<String> {
    let mut text = String::new();
    Files::open(files, path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn list(files: &Layers, path: &str) -> io::Result<Vec<String>> {
    Ok(files.list(path)?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
}

#[test]
fn mount_options_of_all_runtimes_are_read() {
    let mount = |point: &str, kind: &str, options: &str| {
        format!("99 1 0:50 / {point} rw,relatime shared:1 - {kind} overlay {options}\n")
    };
    let snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
    let two = |one: &str, other: &str| Some(vec![one.to_owned(), other.to_owned()]);
    let table = [
        (
            format!(
                "rw,lowerdir={snapshots}/2/fs:{snapshots}/1/fs,upperdir={snapshots}/3/fs,workdir={snapshots}/3/work,index=off"
            ),
            two(&format!("{snapshots}/2/fs"), &format!("{snapshots}/1/fs")),
        ),
        (
            format!("rw,lowerdir=2/fs:1/fs,upperdir={snapshots}/3/fs,workdir={snapshots}/3/work"),
            two("2/fs", "1/fs"),
        ),
        ("ro,lowerdir=l/ABC:l/DEF,upperdir=x/diff,workdir=x/work".into(), two("l/ABC", "l/DEF")),
        ("rw,lowerdir+=/a,lowerdir+=/b,upperdir=/c".into(), two("/a", "/b")),
        ("rw,lowerdir=/a\\040b:/c\\134:d,upperdir=/e".into(), two("/a b", "/c:d")),
        ("rw,lowerdir=/a:/b::/data,upperdir=/e".into(), two("/a", "/b")),
        ("rw,lowerdir=".into(), None),
        ("rw".into(), None),
    ];
    for (options, expected) in table {
        let found = root_overlay(mount("/", "overlay", &options).as_bytes());
        assert_eq!(found.map(|overlay| overlay.layers), expected, "{options}");
    }
    let relative = "rw,lowerdir=2/fs,upperdir=/x/snapshots/3/fs";
    let found = root_overlay(mount("/", "overlay", relative).as_bytes()).unwrap();
    assert_eq!(found.bases[0], "/x/snapshots");
    assert_eq!(root_overlay(mount("/", "ext4", "rw,lowerdir=/a").as_bytes()), None);
    assert_eq!(root_overlay(mount("/mnt", "overlay", "rw,lowerdir=/a").as_bytes()), None);
    // The last mount is the one that is seen.
    let over = mount("/", "overlay", "rw,lowerdir=/a") + &mount("/", "tmpfs", "rw");
    assert_eq!(root_overlay(over.as_bytes()), None);
    for garbage in [&b""[..], b"- - -", b"1 2 3 4 / 6 - overlay", b"\xff \xff"] {
        assert_eq!(root_overlay(garbage), None);
    }
}

#[test]
fn layers_are_one_tree_in_which_the_upper_hides_the_lower() {
    let root = tempfile::tempdir().unwrap();
    let (top, base) = (root.path().join("top"), root.path().join("base"));
    write(&base, "usr/lib/db/status", "old");
    write(&base, "usr/lib/db/base", "base");
    write(&base, "usr/lib/db/gone", "gone");
    write(&base, "hidden/db", "below a file");
    write(&base, "dropped/db", "below a whiteout");
    write(&base, "opaque/db", "below an opaque folder");
    symlink("usr/lib", base.join("lib")).unwrap();
    write(&top, "usr/lib/db/status", "new");
    write(&top, "usr/lib/db/.wh.gone", "");
    write(&top, "hidden", "a file");
    write(&top, ".wh.dropped", "");
    write(&top, "opaque/.wh..wh..opq", "");
    write(&top, "opaque/new", "new");
    symlink("/lib/db", top.join("db")).unwrap();
    symlink("../../../../db/base", top.join("above")).unwrap();
    symlink("circle", top.join("circle")).unwrap();
    symlink("/secret", top.join("outside")).unwrap();
    write(root.path(), "secret", "outside");
    let host = HostRoot::new(root.path()).unwrap();
    let files = Layers::open(&host, &overlay(&["/top", "/base"])).unwrap();
    for (path, expected) in [
        ("usr/lib/db/status", "new"),
        // Links of one layer lead into another.
        ("lib/db/base", "base"),
        ("db/status", "new"),
        ("above", "base"),
        ("hidden", "a file"),
        ("opaque/new", "new"),
    ] {
        assert_eq!(read(&files, path).unwrap(), expected, "{path}");
    }
    for path in ["usr/lib/db/gone", "dropped/db", "opaque/db", "outside", "../secret", "none", "none/at/all"]
    {
        assert_eq!(read(&files, path).unwrap_err().kind(), io::ErrorKind::NotFound, "{path}");
    }
    assert_eq!(read(&files, "hidden/db").unwrap_err().kind(), io::ErrorKind::NotADirectory);
    assert_eq!(read(&files, "usr/lib/db").unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert_eq!(read(&files, "circle").unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    assert_eq!(list(&files, "db").unwrap(), ["base", "status"]);
    assert_eq!(list(&files, "opaque").unwrap(), ["new"]);
    assert_eq!(list(&files, "dropped").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn relative_layers_are_found_from_the_folder_of_all_layers() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("var/lib/docker/overlay2");
    write(&folder, "abc/diff/etc/name", "docker");
    fs::create_dir_all(folder.join("l")).unwrap();
    symlink("../abc/diff", folder.join("l/SHORT")).unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let line = b"9 1 0:5 / / rw - overlay overlay rw,lowerdir=l/SHORT,upperdir=x/diff,workdir=x/work\n";
    let files = Layers::open(&host, &root_overlay(line).unwrap()).unwrap();
    assert_eq!(read(&files, "etc/name").unwrap(), "docker");
    assert!(Layers::open(&host, &overlay(&["l/OTHER"])).is_err());
    assert!(Layers::open(&host, &overlay(&["/var/lib/docker/overlay2/none"])).is_err());
}

/// Needs the rights to make devices and to set `trusted` attributes.
#[test]
fn whiteouts_and_opaque_folders_of_overlayfs_hide() {
    use nix::sys::stat::{Mode, SFlag, mknod};
    let root = tempfile::tempdir().unwrap();
    let (top, base) = (root.path().join("top"), root.path().join("base"));
    write(&base, "db/gone", "gone");
    write(&base, "db/kept", "kept");
    write(&base, "opaque/old", "old");
    write(&top, "opaque/new", "new");
    fs::create_dir_all(top.join("db")).unwrap();
    if let Err(error) = mknod(&top.join("db/gone"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), 0) {
        #[allow(clippy::print_stdout)]
        {
            println!("SKIPPED: no device can be made here: {error}");
        }
        return;
    }
    let set = rustix::fs::setxattr(
        top.join("opaque"),
        "trusted.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    );
    let host = HostRoot::new(root.path()).unwrap();
    let files = Layers::open(&host, &overlay(&["/top", "/base"])).unwrap();
    assert_eq!(read(&files, "db/gone").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(list(&files, "db").unwrap(), ["kept"]);
    if set.is_ok() {
        assert_eq!(list(&files, "opaque").unwrap(), ["new"]);
        assert_eq!(read(&files, "opaque/old").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
