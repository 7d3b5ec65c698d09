use super::*;
use crate::metrics::{AgentMetrics, SourceLabel};
use crate::probe::{Cadence, Probe, Scan};
use crate::watch::Wakes;
use contracts::v1::AssetKind;
use kit::metrics::Metrics;
use nix::errno::Errno;

/// A follower below `root`, and who it wakes.
struct Following {
    wakes: Wakes,
    metrics: AgentMetrics,
    shutdown: CancellationToken,
}

impl Following {
    /// As a task of the agent's runtime must be.
    fn start(root: &std::path::Path, inotify: folders::Make) -> Self {
        let probe = Probe::new("any", AssetKind::Pod, Cadence::Prompt, &[], |_| Ok(Scan::default()));
        let metrics = AgentMetrics::new(&Metrics::default());
        let wakes = Wakes::new(&[probe.woken_by(&[Signal::Containers])], metrics.clone());
        let shutdown = CancellationToken::new();
        let (host, sender) = (Arc::new(HostRoot::new(root).unwrap()), wakes.sender());
        let token = shutdown.clone();
        tokio::spawn(async move {
            follow_with(host, &ProbeArgs::default(), sender, inotify, token).await;
        });
        Self { wakes, metrics, shutdown }
    }

    fn count(&self) -> u64 {
        self.metrics.events.get_or_create(&SourceLabel { source: "containers" }).get()
    }

    fn is_up(&self) -> bool {
        self.metrics.event_source_up.get_or_create(&SourceLabel { source: "containers" }).get() == 1
    }

    fn failures(&self) -> u64 {
        self.metrics.event_source_failures.get_or_create(&SourceLabel { source: "containers" }).get()
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        testkit::wait_until(Duration::from_secs(10), what, async || condition(self)).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_come_and_go_wake() {
    let root = tempfile::tempdir().unwrap();
    let id = "a".repeat(64);
    let state = root.path().join("run/containerd");
    std::fs::create_dir_all(root.path().join("sys/fs/cgroup/system.slice")).unwrap();
    std::fs::create_dir_all(&state).unwrap();
    let following = Following::start(root.path(), folders::inotify);
    let tasks = state.join(super::super::TASKS);
    let scope = root.path().join(format!("sys/fs/cgroup/system.slice/docker-{id}.scope"));
    let (namespace, task) = (tasks.join("default"), tasks.join("default/web"));
    let unit = root.path().join("sys/fs/cgroup/system.slice/logrotate.service");
    let steps: [(&str, &dyn Fn() -> std::io::Result<()>); 6] = [
        ("the beginning", &|| Ok(())),
        ("a scope", &|| std::fs::create_dir(&scope)),
        ("its end", &|| std::fs::remove_dir(&scope)),
        ("a first namespace", &|| std::fs::create_dir_all(&namespace)),
        ("a task", &|| std::fs::create_dir(&task)),
        ("the end of the task", &|| std::fs::remove_dir(&task)),
    ];
    let mut before = 0;
    for (what, step) in steps {
        step().unwrap();
        // Once soon and once later; then nothing more comes of it.
        following.wait(what, |following| following.count() >= before + 2).await;
        before = following.count();
        // None of ours: it may not wake, or the next step seems to early.
        std::fs::create_dir_all(&unit).unwrap();
    }
    assert!(following.is_up() && !following.wakes.is_blind(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_the_runtime_wake() {
    use cri::tests::{Manner, Runtime};
    let root = tempfile::tempdir().unwrap();
    let events = Runtime::serve(root.path(), Manner::Good);
    let following = Following::start(root.path(), folders::inotify);
    let mut before = 0;
    for _ in 0..3 {
        // At first when it begins to follow; then with each event alone, as
        // no folder changes.
        following.wait("a wake", |following| following.count() >= before + 2).await;
        before = following.count();
        testkit::wait_until(Duration::from_secs(5), "a follower", async || events.receiver_count() == 1)
            .await;
        events.send(()).unwrap();
    }
    following.shutdown.cancel();
    testkit::wait_until(Duration::from_secs(5), "the end of following", async || {
        events.receiver_count() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_way_to_follow_the_probes_are_blind_and_events_alone_are_enough() {
    use cri::tests::{Manner, Runtime};
    let refused: folders::Make = || Err(Errno::EMFILE);
    let root = tempfile::tempdir().unwrap();
    let following = Following::start(root.path(), refused);
    following.wait("the failure to be told", |following| following.wakes.is_blind(0)).await;
    assert!(!following.is_up() && following.failures() >= 1);

    let root = tempfile::tempdir().unwrap();
    let _events = Runtime::serve(root.path(), Manner::Good);
    let following = Following::start(root.path(), refused);
    following.wait("the events", Following::is_up).await;
    assert!(!following.wakes.is_blind(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_containers_is_not_blind() {
    let root = tempfile::tempdir().unwrap();
    let following = Following::start(root.path(), folders::inotify);
    following.wait("the source", Following::is_up).await;
    assert!(!following.wakes.is_blind(0));
    assert_eq!(following.failures(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_told_of_leaves_the_probes_blind() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("sys/fs")).unwrap();
    // A link to a name that no file system takes.
    std::os::unix::fs::symlink("x".repeat(300), root.path().join("sys/fs/cgroup")).unwrap();
    let following = Following::start(root.path(), folders::inotify);
    following.wait("the failure to be told", |following| following.wakes.is_blind(0)).await;
}
