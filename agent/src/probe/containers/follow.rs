//! Notices at once that containers start and end: by the runtime's events, and
//! by the folders that appear and vanish with them (inotify(7)), for runtimes
//! without events and for containers that no kubelet knows of.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{cgroup, task_folders};
use crate::config::ProbeArgs;
use crate::cri;
use crate::host::HostRoot;
use crate::probe::Signal;

/// A sign counts once no other has come for this long …
const REST: Duration = Duration::from_millis(200);
/// … or after this: a node that starts all its pods has no rest.
const LONGEST_UNREST: Duration = Duration::from_secs(1);
/// A folder is there before the container runs, so there is another look later.
const AFTERTHOUGHT: Duration = Duration::from_secs(2);
/// Between attempts to follow the events; the longer after each failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often it is looked whether there are other folders to watch.
const RENEWAL: Duration = Duration::from_secs(30);
/// Folders that are watched: that of each pod, and a few above.
const MAX_WATCHES: usize = 600;

/// Calls `wake` soon after a container has started or ended, until `shutdown`.
/// It may be called once too often, and what it misses the next scan finds.
pub async fn follow(
    host: Arc<HostRoot>,
    settings: &ProbeArgs,
    wake: impl Fn(Signal) + Send,
    shutdown: CancellationToken,
) {
    let (signs, mut signed) = tokio::sync::mpsc::channel::<()>(1);
    let sign = || {
        // One that waits stands for all.
        let _ = signs.try_send(());
    };
    let again = signs.clone();
    let calm = async move {
        while signed.recv().await.is_some() {
            let latest = Instant::now() + LONGEST_UNREST;
            loop {
                let rest = (Instant::now() + REST).min(latest);
                tokio::select! {
                    sign = signed.recv() => if sign.is_none() { return },
                    () = sleep_until(rest) => break,
                }
            }
            wake(Signal::Containers);
            tokio::select! {
                sign = signed.recv() => {
                    if sign.is_none() { return }
                    // The next round waits for rest anew.
                    let _ = again.try_send(());
                }
                () = sleep(AFTERTHOUGHT) => wake(Signal::Containers),
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = calm => {}
        () = follow_events(&host, settings, &sign) => {}
        () = follow_folders(&host, settings, &sign) => {}
    }
}

/// Never ends.
async fn follow_events(host: &HostRoot, settings: &ProbeArgs, sign: &(impl Fn() + Send)) {
    let mut back_off = BACK_OFF.0;
    loop {
        match cri::events(host, settings).await {
            Ok(Some(mut events)) => {
                // What happened before it was followed.
                sign();
                while let Ok(Some(_)) = events.message().await {
                    back_off = BACK_OFF.0;
                    sign();
                }
                tracing::debug!("the container runtime ended its events");
            }
            // None here, or too old for them; that may change with an upgrade.
            Ok(None) => back_off = BACK_OFF.1,
            Err(error) => tracing::debug!(%error, "events of containers cannot be followed"),
        }
        sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF.1);
    }
}

/// Never ends.
async fn follow_folders(host: &HostRoot, settings: &ProbeArgs, sign: &(impl Fn() + Send)) {
    let mut back_off = BACK_OFF.0;
    loop {
        if let Err(error) = watch_folders(host, settings, sign).await {
            // No inotify instance left, say (fs.inotify.max_user_instances).
            tracing::warn!(%error, "folders of containers cannot be watched; they are found by later scans");
        }
        sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF.1);
    }
}

async fn watch_folders(
    host: &HostRoot,
    settings: &ProbeArgs,
    sign: &(impl Fn() + Send),
) -> std::io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    // Deprecated for what may change its descriptor behind it, as an `OwnedFd`
    // cannot; its successor is unsafe to call.
    #[allow(deprecated)]
    let ready: AsyncFd<OwnedFd> = AsyncFd::new(inotify.as_fd().try_clone_to_owned()?)?;
    let mut watched = HashMap::new();
    watch_all(host, settings, &inotify, &mut watched);
    // What happened before they were watched.
    sign();
    let mut renewal = Instant::now() + RENEWAL;
    loop {
        let mut guard = tokio::select! {
            guard = ready.readable() => guard?,
            () = sleep_until(renewal) => {
                if watch_all(host, settings, &inotify, &mut watched) { sign(); }
                renewal = Instant::now() + RENEWAL;
                continue;
            }
        };
        let events = match inotify.read_events() {
            Ok(events) => events,
            Err(nix::errno::Errno::EAGAIN) => {
                guard.clear_ready();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut is_ours = false;
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                watched.remove(&event.wd);
            }
            let name = event.name.as_deref().map(std::ffi::OsStr::to_string_lossy).unwrap_or_default();
            let in_tasks = watched.get(&event.wd).copied().unwrap_or(false);
            is_ours |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                || (!name.is_empty() && (in_tasks || cgroup::is_ours(&name)));
        }
        if is_ours {
            // A new pod's folder may hold its containers already.
            watch_all(host, settings, &inotify, &mut watched);
            sign();
        }
    }
}

/// Watches what is not watched yet; returns whether there was anything new. The
/// value says whether any name in the folder counts.
fn watch_all(
    host: &HostRoot,
    settings: &ProbeArgs,
    inotify: &Inotify,
    watched: &mut HashMap<WatchDescriptor, bool>,
) -> bool {
    let before = watched.len();
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ONLYDIR;
    for (folder, any_name) in folders(host, settings) {
        if watched.len() >= MAX_WATCHES {
            break;
        }
        // By its descriptor, so that no link leads out of the host root.
        let Ok(handle) = host.handle(&folder) else { continue };
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        if let Ok(descriptor) = inotify.add_watch(path.as_str(), flags) {
            watched.insert(descriptor, any_name);
        }
    }
    watched.len() > before
}

/// Folders in which containers have theirs: tasks of containerd in each
/// namespace, and cgroups of pods and managers.
fn folders(host: &HostRoot, settings: &ProbeArgs) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    for tasks in task_folders(settings) {
        for namespace in host.folders(&tasks).unwrap_or_default() {
            all.push((format!("{tasks}/{}", namespace.to_string_lossy()), true));
        }
        // A namespace appears with its first task; all of them with the first.
        let state = tasks.rsplit_once('/').map(|(state, _)| state.to_owned());
        all.extend(state.map(|state| (state, true)));
        all.push((tasks, true));
    }
    for root in ["sys/fs/cgroup", "sys/fs/cgroup/systemd", "sys/fs/cgroup/pids"] {
        let mut pending = vec![(root.to_owned(), 0)];
        while let Some((folder, depth)) = pending.pop() {
            if all.len() >= MAX_WATCHES {
                return all;
            }
            for name in host.folders(&folder).unwrap_or_default() {
                let name = name.to_string_lossy().into_owned();
                if depth < 4 && holds_containers(&name) {
                    pending.push((format!("{folder}/{name}"), depth + 1));
                }
            }
            if depth > 0 {
                all.push((folder, false));
            }
        }
    }
    all
}

/// Cgroups that have those of containers or pods right below.
fn holds_containers(name: &str) -> bool {
    const PARENTS: [&str; 9] = [
        "kubepods",
        "kubelet",
        "besteffort",
        "burstable",
        "guaranteed",
        "docker",
        "libpod_parent",
        "system.slice",
        "machine.slice",
    ];
    let is_pod = cgroup::is_ours(name) && (name.starts_with("pod") || name.ends_with(".slice"));
    is_pod || PARENTS.iter().any(|parent| name.starts_with(parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What a task of the agent's runtime must be.
    fn spawned(host: &Arc<HostRoot>, count: &Arc<AtomicUsize>, shutdown: &CancellationToken) {
        let (host, count, shutdown) = (host.clone(), count.clone(), shutdown.clone());
        tokio::spawn(async move {
            let settings = ProbeArgs::default();
            let wake = move |signal| {
                assert_eq!(signal, Signal::Containers);
                count.fetch_add(1, Ordering::SeqCst);
            };
            follow(host, &settings, wake, shutdown).await;
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn folders_that_come_and_go_wake() {
        let root = tempfile::tempdir().unwrap();
        let id = "a".repeat(64);
        let state = root.path().join("run/containerd");
        std::fs::create_dir_all(root.path().join("sys/fs/cgroup/system.slice")).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        let (host, count) = (Arc::new(HostRoot::new(root.path()).unwrap()), Arc::new(AtomicUsize::new(0)));
        let shutdown = CancellationToken::new();
        spawned(&host, &count, &shutdown);
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
            let woken = before + 2;
            testkit::wait_until(Duration::from_secs(10), what, async || {
                count.load(Ordering::SeqCst) >= woken
            })
            .await;
            before = count.load(Ordering::SeqCst);
            // None of ours: it may not wake, or the next step seems to early.
            std::fs::create_dir_all(&unit).unwrap();
        }
        shutdown.cancel();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_of_the_runtime_wake() {
        use cri::tests::{Manner, Runtime};
        let root = tempfile::tempdir().unwrap();
        let events = Runtime::serve(root.path(), Manner::Good);
        let (host, count) = (Arc::new(HostRoot::new(root.path()).unwrap()), Arc::new(AtomicUsize::new(0)));
        let shutdown = CancellationToken::new();
        spawned(&host, &count, &shutdown);
        let mut before = 0;
        for _ in 0..3 {
            // At first when it begins to follow; then with each event alone, as
            // no folder changes.
            let woken = before + 2;
            testkit::wait_until(Duration::from_secs(10), "a wake", async || {
                count.load(Ordering::SeqCst) >= woken
            })
            .await;
            before = count.load(Ordering::SeqCst);
            testkit::wait_until(Duration::from_secs(5), "a follower", async || events.receiver_count() == 1)
                .await;
            events.send(()).unwrap();
        }
        shutdown.cancel();
        testkit::wait_until(Duration::from_secs(5), "the end of following", async || {
            events.receiver_count() == 0
        })
        .await;
    }
}
