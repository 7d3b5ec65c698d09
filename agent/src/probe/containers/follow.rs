//! Notices at once that containers start and end: by the runtime's events, and
//! by the folders that appear and vanish with them (inotify(7)), for runtimes
//! without events and for containers that no kubelet knows of.
//!
//! These are two ways of one source. It is up while one of them works: events
//! tell of what the kubelet starts, folders of all.

mod folders;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::ProbeArgs;
use crate::cri;
use crate::host::HostRoot;
use crate::probe::Signal;
use crate::watch::{Source, WakeSender};

/// A sign counts once no other has come for this long …
const REST: Duration = Duration::from_millis(200);
/// … or after this: a node that starts all its pods has no rest.
const LONGEST_UNREST: Duration = Duration::from_secs(1);
/// A folder is there before the container runs, so there is another look later.
const AFTERTHOUGHT: Duration = Duration::from_secs(2);
/// Between attempts to follow; the longer after each failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Wakes soon after a container has started or ended, until `shutdown`. It may
/// be once too often, and what it misses the next scan finds.
pub async fn follow(
    host: Arc<HostRoot>,
    settings: &ProbeArgs,
    wakes: WakeSender,
    shutdown: CancellationToken,
) {
    follow_with(host, settings, wakes, folders::inotify, shutdown).await;
}

async fn follow_with(
    host: Arc<HostRoot>,
    settings: &ProbeArgs,
    wakes: WakeSender,
    inotify: folders::Make,
    shutdown: CancellationToken,
) {
    let (signs, mut signed) = tokio::sync::mpsc::channel::<()>(1);
    let sign = || {
        // One that waits stands for all.
        let _ = signs.try_send(());
    };
    let again = signs.clone();
    let wake = wakes.clone();
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
            wake.signal(Signal::Containers);
            tokio::select! {
                sign = signed.recv() => {
                    if sign.is_none() { return }
                    // The next round waits for rest anew.
                    let _ = again.try_send(());
                }
                () = sleep(AFTERTHOUGHT) => wake.signal(Signal::Containers),
            }
        }
    };
    let ways = Ways { wakes, state: Mutex::default() };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = calm => {}
        () = follow_events(&host, settings, &ways, &sign) => {}
        () = folders::follow(&host, settings, inotify, &ways, &sign) => {}
    }
}

/// Whether anything tells.
struct Ways {
    wakes: WakeSender,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: bool,
    /// `None` before the first attempt.
    folders: Option<Result<(), String>>,
}

impl Ways {
    /// Whether the runtime's events are followed.
    fn events(&self, work: bool) {
        self.change(|state| std::mem::replace(&mut state.events, work) != work);
    }

    /// Whether folders are watched, and why not.
    fn folders(&self, work: Result<(), String>) {
        self.change(|state| {
            let is_new = state.folders.as_ref() != Some(&work);
            state.folders = Some(work);
            is_new
        });
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut state) {
            return;
        }
        match &state.folders {
            Some(Err(problem)) if !state.events => self.wakes.down(Source::Containers, problem),
            // The folders are tried at once, so it can only be seen then.
            None if !state.events => {}
            _ => self.wakes.up(Source::Containers),
        }
    }
}

/// Never ends.
async fn follow_events(host: &HostRoot, settings: &ProbeArgs, ways: &Ways, sign: &(impl Fn() + Send)) {
    let mut back_off = BACK_OFF.0;
    loop {
        match cri::events(host, settings).await {
            Ok(Some(mut events)) => {
                ways.events(true);
                // What happened before it was followed.
                sign();
                while let Ok(Some(_)) = events.message().await {
                    back_off = BACK_OFF.0;
                    sign();
                }
                ways.events(false);
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

#[cfg(test)]
mod tests;
