//! Disks that are full or read-only, as small file systems of their own.

#![allow(clippy::print_stdout)]

use super::*;

/// A small file system of its own; `None` where none may be mounted.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = |options: &str| mount(folder.path(), options);
        if !mount("size=16m") {
            println!("SKIPPED: no file system may be mounted here");
            return None;
        }
        Some(Self(folder))
    }

    fn remount(&self, options: &str) {
        assert!(mount(self.0.path(), &format!("remount,{options}")));
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    }
}

fn mount(folder: &std::path::Path, options: &str) -> bool {
    let mut command = std::process::Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "assettrack-test"]).arg(folder);
    command.output().is_ok_and(|output| output.status.success())
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_left_for_memory_and_returned_to() {
    let Some(disk) = Tmpfs::mount() else { return };
    let store = Store::open(settings(disk.0.path())).unwrap();
    record(&store, &many(40, 1)).unwrap();
    let on_disk = store.figures();
    disk.fill();
    // Large enough that no free page of the file takes it.
    record(&store, &many(4000, 2)).unwrap();
    let in_memory = store.figures();
    assert!(in_memory.in_memory.is_some() && in_memory.stream != on_disk.stream, "{in_memory:?}");
    assert_eq!(recorded(&store).len(), 4000);
    assert!(store.return_to_disk().is_err() && store.figures().stream == in_memory.stream);
    let batches = outbox(&store);
    assert_eq!(batches[0].stream, on_disk.stream.to_string(), "what was unconfirmed is still sent");
    // The old batch is confirmed before the disk is well again, the others are not.
    store.confirm(&[store.parcels((0, 0), 1, u64::MAX).unwrap()[0].receipt()]).unwrap();
    fs::remove_file(disk.0.path().join("filler")).unwrap();
    assert!(store.return_to_disk().unwrap());
    let back = store.figures();
    assert!(back.in_memory.is_none() && back.newest > in_memory.newest);
    assert!(![on_disk.stream, in_memory.stream].contains(&back.stream));
    assert_eq!(outbox(&store), batches[1..], "the unconfirmed ones of memory, and nothing confirmed");
    assert_eq!(record(&store, &many(50, 3)).unwrap(), taken(50), "a snapshot");
    drop(store);
    let again = Store::open(settings(disk.0.path())).unwrap();
    assert_eq!((again.figures().stream, recorded(&again).len()), (back.stream, 50));
}

#[test]
fn a_read_only_disk_is_no_wrong_setting() {
    let Some(disk) = Tmpfs::mount() else { return };
    let store = Store::open(settings(disk.0.path())).unwrap();
    record(&store, &many(40, 1)).unwrap();
    let on_disk = store.figures();
    drop(store);
    disk.remount("ro");
    let store = Store::open(settings(disk.0.path())).unwrap();
    let in_memory = store.figures();
    assert!(in_memory.in_memory.is_some() && in_memory.stream != on_disk.stream, "{in_memory:?}");
    assert_eq!(record(&store, &many(50, 1)).unwrap(), taken(50));
    disk.remount("rw");
    assert!(store.return_to_disk().unwrap());
    let sent: Vec<String> = outbox(&store).into_iter().map(|batch| batch.stream).collect();
    assert_eq!(sent, [on_disk.stream.to_string(), in_memory.stream.to_string()], "nothing is lost");
}

#[test]
fn a_stream_that_memory_followed_does_not_go_on_after_a_restart() {
    let Some(disk) = Tmpfs::mount() else { return };
    let store = Store::open(settings(disk.0.path())).unwrap();
    record(&store, &many(40, 1)).unwrap();
    let on_disk = store.figures();
    disk.fill();
    record(&store, &many(4000, 2)).unwrap();
    assert!(store.figures().in_memory.is_some());
    drop(store);
    // Still full: memory at once, and no wrong setting.
    let store = Store::open(settings(disk.0.path())).unwrap();
    assert_ne!(store.figures().stream, on_disk.stream);
    drop(store);
    fs::remove_file(disk.0.path().join("filler")).unwrap();
    let store = Store::open(settings(disk.0.path())).unwrap();
    let figures = store.figures();
    assert!(figures.in_memory.is_none() && figures.stream != on_disk.stream, "{figures:?}");
    assert_eq!(figures.outbox_batches, on_disk.outbox_batches, "what was not confirmed is still sent");
    record(&store, &many(3, 1)).unwrap();
    drop(store);
    assert_eq!(
        Store::open(settings(disk.0.path())).unwrap().figures().stream,
        figures.stream,
        "once is enough"
    );
}
