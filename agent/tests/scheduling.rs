//! The scheduler with probes that behave badly.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::asset::ScannedAsset;
use agent::host::HostRoot;
use agent::metrics::AgentMetrics;
use agent::probe::{Cadence, Probe, ProbeError, Scan, Signal};
use agent::scheduler::{Scheduler, Settings, Trigger, Triggered};
use agent::status::Status;
use agent::store::{self, Parcel, Store};
use agent::watch::{Sources, WakeSender, Wakes};
use contracts::v1::{AssetKind, KernelModuleDetails, NodeIdentity, asset_details::Details};
use kit::metrics::Metrics;
use kit::readiness::Readiness;
use testkit::wait_until;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(10);

struct Running {
    store: Arc<Store>,
    status: Status,
    readiness: Readiness,
    triggers: tokio::sync::mpsc::Sender<Trigger>,
    wakes: WakeSender,
    shutdown: CancellationToken,
    root: tempfile::TempDir,
    store_folder: tempfile::TempDir,
}

impl Running {
    fn start(probes: Vec<Probe>, outbox_limit_bytes: u64) -> Self {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let node_uid = Uuid::from_u128(1);
        let store = Arc::new(
            Store::open(store::Settings {
                folder: folder.path().to_owned(),
                node: NodeIdentity { uid: node_uid.to_string(), ..Default::default() },
                node_uid,
                outbox_limit_bytes,
            })
            .unwrap(),
        );
        let readiness = Readiness::default();
        let status = Status::new(probes.iter().map(|probe| probe.name));
        let host = Arc::new(HostRoot::new(root.path()).unwrap());
        let metrics = AgentMetrics::new(&Metrics::default());
        let wakes = Wakes::new(&probes, metrics.clone());
        let sender = wakes.sender();
        let sources = Sources::new(host.clone(), &probes, wakes.sender());
        let scheduler = Scheduler {
            settings: Settings {
                full_interval: Duration::from_secs(3600),
                prompt_interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            },
            probes,
            host,
            wakes,
            store: store.clone(),
            status: status.clone(),
            metrics,
            first_scan: readiness.condition("first_scan"),
            store_works: readiness.condition("store"),
        };
        let (triggers, triggered) = tokio::sync::mpsc::channel(4);
        let shutdown = CancellationToken::new();
        tokio::spawn(sources.run(shutdown.clone()));
        tokio::spawn(scheduler.run(triggered, shutdown.clone()));
        Self { store, status, readiness, triggers, wakes: sender, shutdown, root, store_folder: folder }
    }

    async fn trigger(&self, probes: Vec<usize>) -> Triggered {
        let (reply, answer) = oneshot::channel();
        self.triggers.send(Trigger { probes, reply }).await.unwrap();
        tokio::time::timeout(SOON, answer).await.unwrap().unwrap()
    }

    fn woken_by(&self, place: usize) -> String {
        self.status.probe(place).woken_by
    }

    fn error(&self, place: usize) -> String {
        self.status.probe(place).error
    }

    fn recorded(&self) -> usize {
        self.store.assets(None, None, usize::MAX).unwrap().len()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn found(count: usize) -> Scan {
    let module = |n: usize| {
        let details = KernelModuleDetails { module: format!("m{n}"), ..Default::default() };
        ScannedAsset::new(format!("m{n}"), format!("m{n}"), Details::KernelModule(details))
    };
    Scan { assets: (0..count).map(module).collect(), ..Scan::default() }
}

fn good() -> Probe {
    Probe::new("good", AssetKind::KernelModule, Cadence::Prompt, &[], |_| Ok(found(3)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_hangs_stops_no_other_and_is_not_started_twice() {
    let (release, released) = mpsc::channel::<()>();
    let started: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let (starts, released) = (started.clone(), Mutex::new(released));
    let hanging = Probe::new("hanging", AssetKind::Disk, Cadence::Prompt, &[], move |_| {
        starts.lock().unwrap().push(Instant::now());
        // Hangs until the test lets it go, for good once the sender is gone.
        let _ = released.lock().unwrap().recv();
        Ok(Scan::default())
    });
    let running = Running::start(vec![hanging, good()], u64::MAX);
    wait_until(SOON, "the hang to be reported", async || {
        running.error(0).contains("has not answered for 1 s")
    })
    .await;
    wait_until(SOON, "the other to be recorded", async || running.recorded() == 3).await;
    wait_until(SOON, "readiness in spite of it", async || running.readiness.failing().is_empty()).await;
    let triggered = running.trigger(vec![]).await;
    assert_eq!(triggered.probes.len(), 2);
    assert!(triggered.probes.iter().any(|probe| probe.error.contains("has not answered")));
    assert_eq!(started.lock().unwrap().len(), 1);
    let ended = Instant::now();
    drop(release);
    wait_until(SOON, "the next run to end well", async || running.error(0).is_empty()).await;
    let pause = started.lock().unwrap()[1].duration_since(ended);
    assert!(pause >= Duration::from_secs(5), "started again after {pause:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failing_or_panicking_probe_found_before_stays() {
    let (fails, panics) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (fail, panic) = (fails.clone(), panics.clone());
    let fickle = Probe::new("fickle", AssetKind::KernelModule, Cadence::Full, &[], move |_| {
        assert!(!panic.load(Ordering::SeqCst), "meant to panic");
        if fail.load(Ordering::SeqCst) {
            return Err(ProbeError::Malformed { path: "x".into(), problem: "is torn".into() });
        }
        Ok(found(2))
    });
    let running = Running::start(vec![fickle], u64::MAX);
    assert_eq!(running.trigger(vec![0]).await.probes[0].assets, 2);
    let figures = running.store.figures();
    fails.store(true, Ordering::SeqCst);
    assert_eq!(running.trigger(vec![0]).await.probes[0].error, "x: is torn");
    panics.store(true, Ordering::SeqCst);
    assert_eq!(running.trigger(vec![0]).await.probes[0].error, "panicked");
    assert_eq!((running.recorded(), running.store.figures()), (2, figures));
    fails.store(false, Ordering::SeqCst);
    panics.store(false, Ordering::SeqCst);
    let triggered = running.trigger(vec![0]).await;
    assert_eq!((triggered.probes[0].error.as_str(), triggered.changes), ("", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_whose_first_scan_fails_has_its_snapshot_later() {
    let fails = Arc::new(AtomicBool::new(true));
    let fail = fails.clone();
    let late = Probe::new("late", AssetKind::KernelModule, Cadence::Full, &[], move |_| {
        if fail.load(Ordering::SeqCst) {
            return Err(ProbeError::Malformed { path: "x".into(), problem: "not yet".into() });
        }
        Ok(found(0))
    });
    let running = Running::start(vec![late], u64::MAX);
    running.trigger(vec![0]).await;
    assert_eq!(running.store.figures().newest.1, 0, "nothing is said of what was not seen");
    fails.store(false, Ordering::SeqCst);
    running.trigger(vec![0]).await;
    assert_eq!(running.store.figures().newest.1, 1, "an empty snapshot");
}

fn counting(name: &'static str, runs: &Arc<AtomicUsize>) -> Probe {
    let runs = runs.clone();
    Probe::new(name, AssetKind::Disk, Cadence::Full, &["etc/x"], move |_| {
        runs.fetch_add(1, Ordering::SeqCst);
        Ok(Scan::default())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_node_wakes_no_probe_but_by_its_interval() {
    let (quiet, prompt) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = prompt.clone();
    let clock = Probe::new("clock", AssetKind::KernelModule, Cadence::Prompt, &[], move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Scan::default())
    });
    let running = Running::start(vec![counting("quiet", &quiet), clock], u64::MAX);
    let began = Instant::now();
    // Where it costs more than its share, the intervals are longer.
    wait_until(3 * SOON, "three intervals", async || prompt.load(Ordering::SeqCst) == 4).await;
    assert!(began.elapsed() > Duration::from_secs(2), "four runs after {:?}", began.elapsed());
    // Its start, and once more if it ran before the watches stood.
    assert!(quiet.load(Ordering::SeqCst) <= 2);
    assert_eq!(running.woken_by(1), "interval");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_run_says_what_woke_it() {
    let runs = Arc::new(AtomicUsize::new(0));
    let probe = counting("woken", &runs).woken_by(&[Signal::Containers]);
    let running = Running::start(vec![probe], u64::MAX);
    let by = |cause: &'static str| {
        let running = &running;
        async move {
            wait_until(SOON, cause, async || running.woken_by(0) == cause).await;
        }
    };
    wait_until(SOON, "the start", async || !running.woken_by(0).is_empty()).await;
    running.trigger(vec![]).await;
    by("request").await;
    running.wakes.signal(Signal::Containers);
    by("containers").await;
    std::fs::create_dir_all(running.root.path().join("etc")).unwrap();
    std::fs::write(running.root.path().join("etc/x"), "").unwrap();
    by("change of etc/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_signals_stops_no_other_probe_and_ends_with_a_run() {
    let runs = Arc::new(AtomicUsize::new(0));
    let probe = counting("stormy", &runs).woken_by(&[Signal::Containers]);
    let running = Running::start(vec![probe, good()], u64::MAX);
    wait_until(SOON, "the first scans", async || running.readiness.failing().is_empty()).await;
    let (began, before) = (Instant::now(), runs.load(Ordering::SeqCst));
    for _ in 0..100_000 {
        running.wakes.signal(Signal::Containers);
    }
    let last = runs.load(Ordering::SeqCst);
    wait_until(SOON, "a run after the storm", async || runs.load(Ordering::SeqCst) > last).await;
    let allowed = 2 + began.elapsed().as_secs();
    assert!((runs.load(Ordering::SeqCst) - before) as u64 <= allowed, "{runs:?} in {:?}", began.elapsed());
    assert!(running.trigger(vec![1]).await.probes[0].error.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_watched_file_is_found_within_two_seconds() {
    let packages = agent::probe::all(&agent::probe::Context::forgetful(agent::config::ProbeArgs::default()))
        .into_iter()
        .find(|probe| probe.name == "packages")
        .unwrap();
    let running = Running::start(vec![packages], u64::MAX);
    let status = running.root.path().join("var/lib/dpkg/status");
    std::fs::create_dir_all(status.parent().unwrap()).unwrap();
    wait_until(SOON, "the first scan", async || running.readiness.failing().is_empty()).await;
    std::fs::write(&status, "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n")
        .unwrap();
    wait_until(Duration::from_secs(2), "the package", async || running.recorded() == 1).await;
    std::fs::write(&status, "").unwrap();
    wait_until(Duration::from_secs(2), "its end", async || running.recorded() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_torn_while_it_runs_is_replaced_and_listed_anew() {
    // More than the store's cache holds, so that it must read the file again.
    let count = Arc::new(AtomicUsize::new(15_000));
    let size = count.clone();
    let probe = Probe::new("torn", AssetKind::KernelModule, Cadence::Prompt, &[], move |_| {
        Ok(found(size.load(Ordering::SeqCst)))
    });
    let other = Probe::new("other", AssetKind::Disk, Cadence::Full, &[], |_| Ok(found(3)));
    let running = Running::start(vec![other, probe], u64::MAX);
    wait_until(SOON, "the first scans", async || running.recorded() == 15_003).await;
    let stream = running.store.figures().stream;
    // What a failing disk may do to an open file.
    let path = running.store_folder.path().join("store.redb");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(length).unwrap();
    count.store(15_001, Ordering::SeqCst);
    running.trigger(vec![1]).await;
    wait_until(SOON, "a new stream", async || running.store.figures().stream != stream).await;
    wait_until(SOON, "all of it listed anew, and what nobody asked for", async || {
        running.store.assets(None, None, usize::MAX).is_ok_and(|assets| assets.len() == 15_004)
    })
    .await;
    wait_until(SOON, "readiness", async || running.readiness.failing().is_empty()).await;
    assert_eq!(running.store.figures().set_aside.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_is_told_and_ends_by_itself() {
    let count = Arc::new(AtomicUsize::new(100));
    let size = count.clone();
    let growing = Probe::new("growing", AssetKind::KernelModule, Cadence::Prompt, &[], move |_| {
        Ok(found(size.load(Ordering::SeqCst)))
    });
    let running = Running::start(vec![growing], 100);
    wait_until(SOON, "the first scan", async || running.recorded() == 100).await;
    count.store(200, Ordering::SeqCst);
    let triggered = running.trigger(vec![0]).await;
    assert!(triggered.probes[0].error.contains("outbox is full"), "{triggered:?}");
    assert_eq!((triggered.changes, running.recorded()), (0, 100));
    let parcels = running.store.parcels((0, 0), usize::MAX, u64::MAX).unwrap();
    running.store.confirm(&parcels.iter().map(Parcel::receipt).collect::<Vec<_>>()).unwrap();
    wait_until(SOON, "the newest state", async || running.recorded() == 200).await;
    wait_until(SOON, "the end of the error", async || running.error(0).is_empty()).await;
}
