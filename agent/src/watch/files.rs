//! The source of changes of files: inotify, and a look at what it cannot watch.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::{InitFlags, Inotify};
use tokio::io::Interest;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::armed::{Armed, MAX_WATCHES, Mode};
use super::registered;
use super::target::{MAX_FOLDERS, Target};
use super::wake::{Source, WakeSender};
use crate::host::HostRoot;

/// Pause between two turns: events of a storm are taken together, and the
/// kernel drops those that repeat.
const TURN: Duration = Duration::from_millis(100);
/// How often all watches are set anew, whatever was told: a mount may have
/// covered what is watched.
const REARM_INTERVAL: Duration = Duration::from_secs(600);
/// Least time between two such settings.
const REARM_PAUSE: Duration = Duration::from_secs(5);
/// How often what cannot be watched is looked at, and at most how seldom.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const LONGEST_LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// One look may use this part of a processor: 1/1000.
const LOOK_COST: u32 = 1000;
/// After this long without an answer of the file system it is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the source of files works with.
pub(super) struct Files {
    pub(super) host: Arc<HostRoot>,
    pub(super) targets: Arc<[Target]>,
    pub(super) wakes: WakeSender,
    /// The mount table changed.
    pub(super) remounted: Arc<Notify>,
    /// Makes the instance; a test may refuse.
    pub(super) inotify: fn() -> nix::Result<Inotify>,
    pub(super) max_watches: usize,
    /// Kept, so that nothing passes unseen while inotify comes and goes.
    looks: Mutex<Looks>,
}

/// An instance as the source needs it.
pub(super) fn inotify() -> nix::Result<Inotify> {
    Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
}

impl Files {
    pub(super) fn new(
        host: Arc<HostRoot>,
        targets: Vec<Target>,
        wakes: WakeSender,
        remounted: Arc<Notify>,
    ) -> Self {
        let (targets, looks) = (targets.into(), Mutex::default());
        Self { host, targets, wakes, remounted, inotify, max_watches: MAX_WATCHES, looks }
    }

    /// Runs as long as inotify works.
    pub(super) async fn watch(&self) -> io::Result<Infallible> {
        let inotify = (self.inotify)()?;
        // The same instance by another descriptor, for epoll.
        let readable = registered(inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        let all: BTreeSet<usize> = (0..self.targets.len()).collect();
        let armed = Armed::new(inotify, self.host.clone(), self.targets.clone(), self.max_watches);
        let (mut armed, _) = self.arm(armed, all.clone()).await?;
        let mut polled = self.show(&armed, &[]);
        self.wakes.up(Source::Files);
        // What changed before the watches stood may have been seen by nobody.
        self.wakes.lost(Source::Files);

        let mut looks = self.looks.lock().await;
        let mut rearm_at = Instant::now() + REARM_INTERVAL;
        let mut earliest_rearm = Instant::now() + REARM_PAUSE;
        loop {
            let mut rearm = BTreeSet::new();
            tokio::select! {
                guard = readable.readable() => {
                    let mut guard = guard?;
                    let news = armed.read()?;
                    if !news.more {
                        guard.clear_ready();
                    }
                    if news.lost {
                        self.wakes.lost(Source::Files);
                        rearm.clone_from(&all);
                    }
                    self.changed(&news.changed);
                    rearm.extend(news.rearm);
                }
                seen = looks.next(&self.host, &self.targets, &polled) => self.changed(&seen),
                () = self.remounted.notified() => {
                    rearm_at = rearm_at.min(earliest_rearm.max(Instant::now()));
                    continue;
                }
                () = sleep_until(rearm_at) => {
                    rearm.clone_from(&all);
                    rearm_at = Instant::now() + REARM_INTERVAL;
                    earliest_rearm = Instant::now() + REARM_PAUSE;
                }
            }
            if !rearm.is_empty() {
                let before = armed.modes().to_vec();
                let (again, elsewhere) = self.arm(armed, rearm).await?;
                armed = again;
                self.changed(&elsewhere);
                polled = self.show(&armed, &before);
            }
            sleep(TURN).await;
        }
    }

    /// Without inotify: looks at every target. Never ends.
    pub(super) async fn look(&self) -> Infallible {
        let all: Vec<usize> = (0..self.targets.len()).collect();
        self.wakes.watching(0, all.len());
        let mut looks = self.looks.lock().await;
        loop {
            let seen = looks.next(&self.host, &self.targets, &all).await;
            self.changed(&seen);
        }
    }

    fn changed(&self, targets: &BTreeSet<usize>) {
        for &target in targets {
            let target = &self.targets[target];
            self.wakes.changed(&target.places, Source::Files, target.named);
        }
    }

    /// Opening a path may wait for a device or a server, so it has its own thread.
    async fn arm(&self, mut armed: Armed, targets: BTreeSet<usize>) -> io::Result<(Armed, BTreeSet<usize>)> {
        let mut job = tokio::task::spawn_blocking(move || {
            let changed = armed.arm(&targets);
            (armed, changed)
        });
        let armed = match timeout(PATIENCE, &mut job).await {
            Ok(armed) => armed?,
            Err(_) => {
                self.wakes.down(Source::Files, &"a file system does not answer");
                let armed = job.await?;
                self.wakes.up(Source::Files);
                armed
            }
        };
        Ok(armed)
    }

    /// Tells what is watched and what is not; answers with the latter.
    fn show(&self, armed: &Armed, before: &[Mode]) -> Vec<usize> {
        let mut polled = Vec::new();
        let places = self.targets.iter().flat_map(|target| target.places.iter().copied());
        let mut warnings = vec![Vec::new(); places.max().map_or(0, |last| last + 1)];
        for (number, (target, mode)) in self.targets.iter().zip(armed.modes()).enumerate() {
            let warning = match mode {
                Mode::Watched { partly: false } => continue,
                Mode::Watched { partly: true } => format!(
                    "not all folders below {} are watched, at most {MAX_FOLDERS} are: \
                     other changes are found by scans alone",
                    target.named
                ),
                Mode::Polled(reason) => {
                    polled.push(number);
                    format!("{} is looked at now and then: {reason}", target.named)
                }
            };
            if before.get(number) != Some(mode) {
                tracing::warn!("{warning}");
            }
            for &place in &target.places {
                warnings[place].push(warning.clone());
            }
        }
        for (place, warnings) in warnings.into_iter().enumerate() {
            self.wakes.warn(place, warnings);
        }
        self.wakes.watching(armed.watches(), polled.len());
        polled
    }
}

/// Fingerprints of targets, and how long it took.
type Look = (Vec<(usize, u64)>, Duration);

/// Looks at targets that nothing tells of.
#[derive(Default)]
struct Looks {
    seen: Vec<Option<u64>>,
    due: Option<Instant>,
    /// A look may hang with a server; the next waits for it.
    job: Option<JoinHandle<Look>>,
}

impl Looks {
    /// Waits for the next look; answers with the targets that changed since the
    /// one before. May be given up while it waits.
    async fn next(
        &mut self,
        host: &Arc<HostRoot>,
        targets: &Arc<[Target]>,
        polled: &[usize],
    ) -> BTreeSet<usize> {
        if polled.is_empty() && self.job.is_none() {
            return std::future::pending().await;
        }
        let job = match &mut self.job {
            Some(job) => job,
            none => {
                sleep_until(*self.due.get_or_insert_with(Instant::now)).await;
                let (host, targets, polled) = (host.clone(), targets.clone(), polled.to_vec());
                none.insert(tokio::task::spawn_blocking(move || {
                    let began = std::time::Instant::now();
                    let look = |&number: &usize| (number, targets[number].fingerprint(&host));
                    (polled.iter().map(look).collect(), began.elapsed())
                }))
            }
        };
        let looked = job.await;
        self.job = None;
        // It neither panics nor is it cancelled.
        let (found, duration) = looked.unwrap_or_default();
        let interval = (duration * LOOK_COST).clamp(LOOK_INTERVAL, LONGEST_LOOK_INTERVAL);
        self.due = Some(Instant::now() + interval);
        self.seen.resize(targets.len(), None);
        let mut changed = BTreeSet::new();
        for (number, fingerprint) in found {
            // The first look at a target compares with nothing.
            let before = self.seen[number].replace(fingerprint);
            if before.is_some_and(|before| before != fingerprint) {
                changed.insert(number);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests;
