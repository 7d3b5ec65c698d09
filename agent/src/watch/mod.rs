//! Notices that something changed, so that a probe can run at once instead of
//! with the next scan. Nothing here reads what changed: an event only wakes.
//!
//! `wake`: the marks that events leave and the scheduler takes. `files`, with
//! `target` and `armed`: inotify(7), and a look at what it cannot watch.
//! `tables`: what tells by poll(2). `netlink`: network and devices. Each source
//! is supervised: one that fails is told, tried again, and harms no other. What
//! no source tells (file systems of other machines, lower layers of overlays,
//! events that are lost) is left to the scans at intervals.

mod armed;
mod files;
mod netlink;
mod ready;
mod tables;
mod target;
mod wake;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::files::Files;
pub(crate) use self::ready::registered;
use self::target::Target;
pub use self::wake::{Cause, Source, WakeSender, Wakes};
use crate::host::HostRoot;
use crate::probe::Probe;

/// A source that failed is tried again after this, then after twice as long …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The sources of this machine that the probes name.
pub struct Sources {
    wakes: WakeSender,
    host: Arc<HostRoot>,
    tables: Vec<Target>,
    files: Files,
}

impl Sources {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(host: Arc<HostRoot>, probes: &[Probe], wakes: WakeSender) -> Self {
        let (tables, files): (Vec<Target>, Vec<Target>) =
            target::targets(probes).into_iter().partition(|target| tables::is_table(&host, target.path));
        let files = Files::new(host.clone(), files, wakes.clone(), Arc::new(Notify::new()));
        Self { wakes, host, tables, files }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut sources = JoinSet::new();
        let Self { wakes, host, tables, files } = self;
        if wakes.is_wanted(Source::Network) {
            let (wakes, host) = (wakes.clone(), host.clone());
            sources.spawn(async move {
                let attempt = || netlink::watch_network(&host, &wakes);
                supervise(Source::Network, &wakes, attempt, sleep).await
            });
        }
        if wakes.is_wanted(Source::Devices) {
            let wakes = wakes.clone();
            sources.spawn(async move {
                supervise(Source::Devices, &wakes, || netlink::watch_devices(&wakes), sleep).await
            });
        }
        for table in tables {
            let (wakes, host, remounted) = (wakes.clone(), host.clone(), files.remounted.clone());
            sources.spawn(async move {
                let attempt = || tables::watch(&host, &table, &wakes, &remounted);
                supervise(Source::Tables, &wakes, attempt, sleep).await
            });
        }
        if !files.targets.is_empty() {
            sources.spawn(async move {
                let files = &files;
                let meanwhile = |pause| async move {
                    // Ends by the time alone.
                    let _ = timeout(pause, files.look()).await;
                };
                supervise(Source::Files, &wakes, || files.watch(), meanwhile).await
            });
        }
        shutdown.cancelled().await;
    }
}

/// Runs a source again whenever it fails, with `meanwhile` in between.
async fn supervise<W, M>(
    source: Source,
    wakes: &WakeSender,
    mut attempt: impl FnMut() -> W,
    mut meanwhile: impl FnMut(Duration) -> M,
) -> Infallible
where
    W: Future<Output = io::Result<Infallible>>,
    M: Future<Output = ()>,
{
    let mut pause = FIRST_RETRY;
    loop {
        let began = Instant::now();
        let Err(error) = attempt().await;
        wakes.down(source, &error);
        // One that worked for a while has not failed again and again.
        if began.elapsed() > LAST_RETRY {
            pause = FIRST_RETRY;
        }
        meanwhile(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}

#[cfg(test)]
mod tests;
