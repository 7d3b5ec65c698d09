use super::*;
use crate::metrics::AgentMetrics;
use crate::probe::{Cadence, Scan, Signal};
use contracts::v1::AssetKind;
use kit::metrics::Metrics;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::wait_until;

const SOON: Duration = Duration::from_secs(10);

fn probe(watched: &'static [&'static str], signals: &'static [Signal]) -> Probe {
    Probe::new("any", AssetKind::Disk, Cadence::Full, watched, |_| Ok(Scan::default())).woken_by(signals)
}

fn wakes(probes: &[Probe]) -> (Wakes, Metrics) {
    let metrics = Metrics::default();
    (Wakes::new(probes, AgentMetrics::new(&metrics)), metrics)
}

#[tokio::test]
async fn a_source_that_fails_is_tried_again_and_its_probes_are_woken_when_it_works() {
    let (wakes, _metrics) = wakes(&[probe(&[], &[Signal::Network])]);
    let sender = wakes.sender();
    let attempts = Arc::new(AtomicUsize::new(0));
    let (count, source) = (attempts.clone(), sender.clone());
    let attempt = move || {
        let (number, source) = (count.fetch_add(1, Ordering::SeqCst), source.clone());
        async move {
            if number < 12 {
                return Err(io::Error::other("not yet"));
            }
            source.up(Source::Network);
            std::future::pending().await
        }
    };
    let pauses = Arc::new(std::sync::Mutex::new(Vec::new()));
    let paused = pauses.clone();
    let meanwhile = move |pause: Duration| {
        paused.lock().unwrap().push(pause.as_secs());
        std::future::ready(())
    };
    let task = tokio::spawn(async move { supervise(Source::Network, &sender, attempt, meanwhile).await });
    wait_until(SOON, "the source", async || wakes.ready(0).is_some()).await;
    assert_eq!(*pauses.lock().unwrap(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert!(!wakes.is_blind(0));
    task.abort();
}

#[tokio::test]
async fn a_mount_wakes_who_watches_the_table() {
    // In a mount namespace of its own: nobody else sees the mount.
    let folder = tempfile::tempdir().unwrap();
    let script = format!("echo; read x; mount -t tmpfs none {}; echo; read x", folder.path().display());
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: no unshare here");
        return;
    };
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    if answers.next().is_none() {
        println!("SKIPPED: no mount namespace of our own");
        return;
    }
    let path: &'static str = format!("proc/{}/mountinfo", child.id()).leak();
    let watched: &'static [&'static str] = vec![path].leak();
    let probes = [probe(watched, &[])];
    let (wakes, _metrics) = wakes(&probes);
    let sources = Sources::new(Arc::new(HostRoot::new("/").unwrap()), &probes, wakes.sender());
    assert_eq!((sources.tables.len(), sources.files.targets.len()), (1, 0));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(sources.run(shutdown.clone()));
    let cause = format!("change of {path}");
    let woken = async || wakes.ready(0).is_some_and(|(_, woken)| woken.to_string() == cause);
    // Once when it is opened.
    wait_until(SOON, "the source", woken).await;
    wakes.take(0);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    if answers.next().is_none() {
        println!("SKIPPED: nothing can be mounted here");
        return;
    }
    wait_until(SOON, "the mount", woken).await;
    drop(input);
    child.wait().unwrap();
    shutdown.cancel();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_table_that_is_a_plain_file_is_watched_as_one() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
    let probes = [probe(&["proc/1/mountinfo"], &[])];
    let (wakes, _metrics) = wakes(&probes);
    let sources = Sources::new(Arc::new(HostRoot::new(root.path()).unwrap()), &probes, wakes.sender());
    assert_eq!((sources.tables.len(), sources.files.targets.len()), (0, 1));
}

#[tokio::test]
async fn all_sources_of_the_real_probes_work_here() {
    let context = crate::probe::Context::forgetful(crate::config::ProbeArgs::default());
    let probes = crate::probe::all(&context);
    let (wakes, metrics) = wakes(&probes);
    let sources = Sources::new(Arc::new(HostRoot::new("/").unwrap()), &probes, wakes.sender());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(sources.run(shutdown.clone()));
    let up = |name: &str| format!("agent_event_source_up{{source=\"{name}\"}} 1");
    for name in ["files", "tables", "network"] {
        wait_until(SOON, name, async || metrics.encode().unwrap().contains(&up(name))).await;
    }
    shutdown.cancel();
    running.await.unwrap();
}
