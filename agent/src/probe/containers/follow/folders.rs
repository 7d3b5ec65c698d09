//! Folders that appear and vanish with containers, by inotify(7).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::{cgroup, task_folders};
use super::{BACK_OFF, Ways};
use crate::config::ProbeArgs;
use crate::host::HostRoot;
use crate::probe::is_absent;
use crate::watch::registered;

/// How often it is looked whether there are other folders to watch.
const RENEWAL: Duration = Duration::from_secs(30);
/// Pause between two looks at what there is to watch: a storm of events is
/// taken together …
const TURN: Duration = Duration::from_millis(100);
/// … and a look that took long is not repeated soon: it may use this part of a
/// processor, 1/20 …
const LOOK_COST: u32 = 20;
/// … unless that would let a new pod wait too long.
const LONGEST_TURN: Duration = Duration::from_secs(1);
/// Folders that are watched: that of each pod, and a few above.
const MAX_WATCHES: usize = 600;
/// Buffers of events that are read at once; the queue of the kernel is shorter
/// (fs.inotify.max_queued_events).
const MAX_BUFFERS: usize = 500;

/// Makes the instance; a test may refuse.
pub(super) type Make = fn() -> nix::Result<Inotify>;

/// An instance as it is needed.
pub(super) fn inotify() -> nix::Result<Inotify> {
    Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
}

/// Never ends.
pub(super) async fn follow(
    host: &Arc<HostRoot>,
    settings: &ProbeArgs,
    make: Make,
    ways: &Ways,
    sign: &(impl Fn() + Send),
) {
    let mut back_off = BACK_OFF.0;
    loop {
        let began = Instant::now();
        if let Err(error) = watch(host, settings, make, ways, sign).await {
            // No inotify instance left, say (fs.inotify.max_user_instances).
            ways.folders(Err(format!("folders of containers cannot be watched: {error}")));
        }
        // One that worked for a while has not failed again and again.
        if began.elapsed() > BACK_OFF.1 {
            back_off = BACK_OFF.0;
        }
        sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF.1);
    }
}

async fn watch(
    host: &Arc<HostRoot>,
    settings: &ProbeArgs,
    make: Make,
    ways: &Ways,
    sign: &(impl Fn() + Send),
) -> io::Result<()> {
    let inotify = make()?;
    let ready: AsyncFd<OwnedFd> = registered(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    let mut watches = Watches { inotify, watched: HashMap::new() };
    let mut look;
    (watches, look) = watches.renew(host, settings).await?;
    ways.folders(look.result());
    // What happened before they were watched.
    sign();
    let mut renewal = Instant::now() + RENEWAL;
    loop {
        let is_ours = tokio::select! {
            guard = ready.readable() => {
                let is_ours = watches.read()?;
                guard?.clear_ready();
                is_ours
            }
            () = sleep_until(renewal) => false,
        };
        if is_ours {
            sign();
        } else if Instant::now() < renewal {
            sleep(TURN).await;
            continue;
        }
        // A new pod's folder may hold its containers already.
        (watches, look) = watches.renew(host, settings).await?;
        ways.folders(look.result());
        if look.is_new {
            sign();
        }
        renewal = Instant::now() + RENEWAL;
        sleep((look.took * LOOK_COST).clamp(TURN, LONGEST_TURN)).await;
    }
}

/// What is watched.
struct Watches {
    inotify: Inotify,
    /// Whether any name in the folder counts.
    watched: HashMap<WatchDescriptor, bool>,
}

/// What came of a look at what there is to watch.
#[derive(Default)]
struct Look {
    is_new: bool,
    watches_any: bool,
    took: Duration,
    /// Folders that need more privilege; cgroups do not.
    hidden: Option<String>,
    /// Why what happens can pass by unseen.
    problem: Option<String>,
}

impl Look {
    fn result(&self) -> Result<(), String> {
        let hidden = self.hidden.as_ref().filter(|_| !self.watches_any);
        match self.problem.as_ref().or(hidden) {
            Some(problem) => Err(problem.clone()),
            // Without any there is nothing to be told of.
            None => Ok(()),
        }
    }

    fn failed(&mut self, folder: &str, error: &io::Error) {
        let problem = format!("{folder} cannot be watched: {error}");
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.hidden.get_or_insert(problem);
        } else if !is_absent(error) {
            self.problem.get_or_insert(problem);
        }
    }
}

impl Watches {
    /// Takes all events that wait; answers whether one of them counts.
    fn read(&mut self) -> io::Result<bool> {
        let mut is_ours = false;
        for _ in 0..MAX_BUFFERS {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            for event in events {
                let name = event.name.as_deref().map(std::ffi::OsStr::to_string_lossy).unwrap_or_default();
                let any_name = self.watched.get(&event.wd).copied().unwrap_or(false);
                is_ours |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                    || (!name.is_empty() && (any_name || cgroup::is_ours(&name)));
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watched.remove(&event.wd);
                }
            }
        }
        Ok(is_ours)
    }

    /// Watches what is not watched yet, on a thread that may block.
    async fn renew(mut self, host: &Arc<HostRoot>, settings: &ProbeArgs) -> io::Result<(Self, Look)> {
        let (host, settings) = (host.clone(), settings.clone());
        let job = tokio::task::spawn_blocking(move || {
            let look = self.add_all(&host, &settings);
            (self, look)
        });
        Ok(job.await?)
    }

    fn add_all(&mut self, host: &HostRoot, settings: &ProbeArgs) -> Look {
        let began = Instant::now();
        let before = self.watched.len();
        let mut look = Look::default();
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR;
        for (folder, any_name) in folders(host, settings, &mut look) {
            if self.watched.len() >= MAX_WATCHES {
                look.problem.get_or_insert(format!("more than {MAX_WATCHES} folders of containers"));
                break;
            }
            // By its descriptor, so that no link leads out of the host root.
            let added = host.handle(&folder).and_then(|handle| {
                let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
                Ok(self.inotify.add_watch(path.as_str(), flags)?)
            });
            match added {
                Ok(descriptor) => {
                    self.watched.insert(descriptor, any_name);
                }
                Err(error) => look.failed(&folder, &error),
            }
        }
        look.is_new = self.watched.len() > before;
        look.watches_any = !self.watched.is_empty();
        look.took = began.elapsed();
        look
    }
}

/// Folders in which containers have theirs: tasks of containerd in each
/// namespace, and cgroups of pods and managers.
fn folders(host: &HostRoot, settings: &ProbeArgs, look: &mut Look) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    let mut list = |folder: &str| {
        host.folders(folder).unwrap_or_else(|error| {
            look.failed(folder, &error);
            Vec::new()
        })
    };
    for tasks in task_folders(settings) {
        for namespace in list(&tasks) {
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
            // One more than may be watched, so that it is said.
            if all.len() > MAX_WATCHES {
                return all;
            }
            for name in list(&folder) {
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
