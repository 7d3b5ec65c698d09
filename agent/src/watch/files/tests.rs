use super::*;
use crate::metrics::AgentMetrics;
use crate::probe::{Cadence, Probe, Scan};
use crate::watch::{Wakes, target};
use contracts::v1::AssetKind;
use kit::metrics::Metrics;
use nix::errno::Errno;
use std::fs;
use testkit::wait_until;

const SOON: Duration = Duration::from_secs(10);

fn probe(watched: &'static [&'static str]) -> Probe {
    Probe::new("any", AssetKind::Disk, Cadence::Full, watched, |_| Ok(Scan::default()))
}

fn files(root: &tempfile::TempDir, probes: &[Probe]) -> (Wakes, Files) {
    let wakes = Wakes::new(probes, AgentMetrics::new(&Metrics::default()));
    let host = Arc::new(HostRoot::new(root.path()).unwrap());
    let files = Files::new(host, target::targets(probes), wakes.sender(), Arc::default());
    (wakes, files)
}

async fn woken(wakes: &Wakes, place: usize, cause: &str) {
    wait_until(SOON, cause, async || wakes.ready(place).is_some_and(|(_, woken)| woken.to_string() == cause))
        .await;
    wakes.take(place);
}

#[tokio::test]
async fn changes_wake_the_probes_that_name_the_path() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let (wakes, files) = files(&root, &[probe(&["etc/a", "etc/b"]), probe(&["etc/b"])]);
    let source = tokio::spawn(async move { files.watch().await });
    // All of what happened before the watches stood.
    woken(&wakes, 0, "lost events of files").await;
    woken(&wakes, 1, "lost events of files").await;
    fs::write(root.path().join("etc/a"), "").unwrap();
    woken(&wakes, 0, "change of etc/a").await;
    assert!(wakes.ready(1).is_none());
    fs::write(root.path().join("etc/b"), "").unwrap();
    woken(&wakes, 0, "change of etc/b").await;
    woken(&wakes, 1, "change of etc/b").await;
    source.abort();
}

#[tokio::test]
async fn a_mount_that_covers_what_is_watched_is_noticed() {
    // A link that leads elsewhere stands for a mount: neither is told by inotify.
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("one/deep/etc")).unwrap();
    fs::create_dir_all(root.path().join("two/etc")).unwrap();
    std::os::unix::fs::symlink("one/deep", root.path().join("hop")).unwrap();
    std::os::unix::fs::symlink("../hop", root.path().join("one/way")).unwrap();
    let (wakes, files) = files(&root, &[probe(&["one/way/etc"])]);
    let remounted = files.remounted.clone();
    let source = tokio::spawn(async move { files.watch().await });
    woken(&wakes, 0, "lost events of files").await;
    std::os::unix::fs::symlink("two", root.path().join("new")).unwrap();
    fs::rename(root.path().join("new"), root.path().join("hop")).unwrap();
    assert!(wakes.ready(0).is_none());
    remounted.notify_one();
    woken(&wakes, 0, "change of one/way/etc").await;
    source.abort();
}

#[tokio::test]
async fn without_inotify_the_paths_are_looked_at() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let (wakes, mut files) = files(&root, &[probe(&["etc/a"]), probe(&["etc/**"])]);
    files.inotify = || Err(Errno::EMFILE);
    assert_eq!(files.watch().await.unwrap_err().raw_os_error(), Some(Errno::EMFILE as i32));
    // The first look has nothing to compare with.
    let mut looks = Looks::default();
    assert!(looks.next(&files.host, &files.targets, &[0, 1]).await.is_empty());
    files.looks = Mutex::new(looks);
    fs::create_dir_all(root.path().join("etc/deep")).unwrap();
    let files = Arc::new(files);
    let looking = files.clone();
    let source = tokio::spawn(async move { looking.look().await });
    woken(&wakes, 1, "change of etc/**").await;
    assert!(wakes.ready(0).is_none());
    fs::write(root.path().join("etc/a"), "").unwrap();
    woken(&wakes, 0, "change of etc/a").await;
    // What was seen stays known while inotify is tried again.
    source.abort();
    assert!(source.await.is_err());
    fs::remove_file(root.path().join("etc/a")).unwrap();
    let source = tokio::spawn(async move { files.look().await });
    woken(&wakes, 0, "change of etc/a").await;
    source.abort();
}

#[tokio::test]
async fn what_no_watch_is_left_for_is_looked_at_and_told() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/deep")).unwrap();
    let (wakes, mut files) = files(&root, &[probe(&["etc/deep/file"])]);
    files.max_watches = 1;
    let files = Arc::new(files);
    let watching = files.clone();
    let source = tokio::spawn(async move { watching.watch().await });
    woken(&wakes, 0, "lost events of files").await;
    let warnings = wakes.warnings(0);
    assert!(warnings[0].contains("no watches are left"), "{warnings:?}");
    // Looks go on until one after the first finds the file.
    let mut text = String::new();
    wait_until(SOON, "a look", async || {
        text.push('x');
        fs::write(root.path().join("etc/deep/file"), &text).unwrap();
        wakes.ready(0).is_some()
    })
    .await;
    woken(&wakes, 0, "change of etc/deep/file").await;
    source.abort();
}
