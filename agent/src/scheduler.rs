//! Runs the probes: each at its interval, soon after an event of what it names
//! and at once when someone asks; one that hangs is reported and never stops the
//! others. It sleeps until something is due: a quiet node costs nothing.
//!
//! When events count as come to rest stands in `watch::wake`, how often a probe
//! may run for them in `pace`.

mod pace;
mod slot;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::v1::{AssetKind, ProbeStatus, asset_details::Details};
use kit::readiness::Condition;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::metrics::{AgentMetrics, ProbeLabel, SourceLabel};
use crate::probe::{Cadence, Probe, ProbeError, Scan, keep_boot_time};
use crate::status::Status;
use crate::store::{RecordedAsset, Recording, Store, StoreError};
use crate::watch::{Cause, Wakes};

use self::pace::{Cost, TOLD_INTERVAL, prompt_intervals};
use self::slot::Slot;

/// After this long a full outbox, or a probe that took too long, is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How the probes are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Interval of full scans, the safety net of what is watched.
    pub full_interval: Duration,
    /// Least interval of probes that have nothing to watch.
    pub prompt_interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
}

/// Asks the scheduler to scan now.
pub struct Trigger {
    /// Places of the probes; empty for all.
    pub probes: Vec<usize>,
    /// Where the answer goes when all have run.
    pub reply: oneshot::Sender<Triggered>,
}

/// Answer to a [`Trigger`].
#[derive(Debug, Default)]
pub struct Triggered {
    /// Observations that were recorded.
    pub changes: usize,
    /// The probes that ran.
    pub probes: Vec<ProbeStatus>,
}

/// What the scheduler works with.
pub struct Scheduler {
    /// How.
    pub settings: Settings,
    /// The probes, in the order of their places.
    pub probes: Vec<Probe>,
    /// Where the node is read.
    pub host: Arc<HostRoot>,
    /// What wakes the probes; made for the same ones.
    pub wakes: Wakes,
    /// Where scans go.
    pub store: Arc<Store>,
    /// Where it is told how they went.
    pub status: Status,
    /// Where it is counted.
    pub metrics: AgentMetrics,
    /// Holds once each probe has run, failed or run out of time.
    pub first_scan: Condition,
    /// Holds while scans can be recorded.
    pub store_works: Condition,
}

struct Request {
    remaining: Vec<usize>,
    answer: Triggered,
    reply: oneshot::Sender<Triggered>,
}

struct Ended {
    place: usize,
    duration: Duration,
    /// Time of a processor that scan and record took.
    cpu: Duration,
    outcome: Result<Outcome, Failure>,
}

struct Outcome {
    assets: usize,
    warnings: Vec<String>,
    recording: Recording,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("has not answered for {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("panicked")]
    Panicked,
}

impl Scheduler {
    /// Runs until `shutdown`.
    pub async fn run(self, mut triggers: mpsc::Receiver<Trigger>, shutdown: CancellationToken) {
        let mut figures = self.store.watch();
        let mut state = State::new(self);
        loop {
            let next = state.next_look(Instant::now());
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(trigger) = triggers.recv() => state.accept(trigger),
                Some(scanned) = state.scans.join_next() => state.scan_ended(scanned),
                Some(recorded) = state.records.join_next() => state.record_ended(recorded),
                () = state.work.wakes.news() => {}
                // The store lives as long as the scheduler.
                Ok(()) = figures.changed() => state.look_for_lists_asked_for(),
                () = tokio::time::sleep_until(next.into()) => {}
            }
            state.give_up(Instant::now());
            state.start_next(Instant::now());
        }
    }
}

type Scanned = (usize, Instant, Duration, Result<Scan, Failure>);

/// Longest sleep without anything to do.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

struct State {
    work: Scheduler,
    slots: Vec<Slot>,
    scans: JoinSet<Scanned>,
    records: JoinSet<Ended>,
    requests: HashMap<u64, Request>,
    next_request: u64,
    /// The store's stream, and how often snapshots were asked for in it.
    lists: (Uuid, u64),
}

impl State {
    fn new(work: Scheduler) -> Self {
        let now = Instant::now();
        let slots = work.probes.iter().map(|_| Slot::new(now)).collect();
        let figures = work.store.figures();
        Self {
            lists: (figures.stream, figures.resyncs),
            work,
            slots,
            scans: JoinSet::new(),
            records: JoinSet::new(),
            requests: HashMap::new(),
            next_request: 0,
        }
    }

    fn accept(&mut self, trigger: Trigger) {
        let mut places = trigger.probes;
        if places.is_empty() {
            places = (0..self.slots.len()).collect();
        }
        let id = self.next_request;
        self.next_request += 1;
        for &place in &places {
            // A run that has begun may have seen the node as it was before.
            self.slots[place].waiting.push(id);
            self.slots[place].at = Some((Instant::now(), Cause::Request));
        }
        let request = Request { remaining: places, answer: Triggered::default(), reply: trigger.reply };
        self.requests.insert(id, request);
        // A probe that hangs already is answered for at once.
        for place in 0..self.slots.len() {
            if self.slots[place].overdue {
                let waiting = std::mem::take(&mut self.slots[place].waiting);
                self.answer(place, &waiting, 0);
            }
        }
    }

    /// Gives up probes that hang.
    fn give_up(&mut self, now: Instant) {
        let timeout = self.work.settings.timeout;
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            let hangs = slot.running.is_some_and(|since| now.duration_since(since) >= timeout);
            if hangs && !slot.overdue {
                slot.overdue = true;
                let outcome = Err(Failure::Timeout(timeout));
                self.ended(Ended { place, duration: timeout, cpu: Duration::ZERO, outcome });
            }
        }
    }

    /// When there is something to do next, events and answers aside.
    fn next_look(&self, now: Instant) -> Instant {
        // While one runs, no other starts.
        let running = self.slots.iter().filter(|slot| !slot.overdue).filter_map(|slot| slot.running).min();
        let next = match running {
            Some(since) => Some(since + self.work.settings.timeout),
            None => self.next_start().map(|(_, (at, _))| at),
        };
        next.unwrap_or(now + LONGEST_SLEEP)
    }

    /// The probe that has been due for longest, or will be first.
    fn next_start(&self) -> Option<(usize, (Instant, Cause))> {
        let intervals = self.intervals();
        let idle = (0..self.slots.len()).filter(|&place| self.slots[place].running.is_none());
        idle.map(|place| {
            (place, self.slots[place].next_start(intervals[place], self.work.wakes.ready(place)))
        })
        .min_by_key(|(_, (at, _))| *at)
    }

    /// How long each probe waits without an event.
    fn intervals(&self) -> Vec<Duration> {
        let settings = &self.work.settings;
        let is_prompt = |place: usize| self.work.probes[place].cadence == Cadence::Prompt;
        // One that the kernel or the runtime wakes need not look so often.
        let is_told =
            |place: usize| !self.work.probes[place].signals.is_empty() && !self.work.wakes.is_blind(place);
        let prompt: Vec<usize> =
            (0..self.slots.len()).filter(|&place| is_prompt(place) && !is_told(place)).collect();
        let costs: Vec<Duration> = prompt.iter().map(|&place| self.slots[place].usual_cpu()).collect();
        let full = |(place, slot): (usize, &Slot)| {
            if is_prompt(place) {
                TOLD_INTERVAL.max(settings.prompt_interval).min(settings.full_interval)
            } else if slot.failed || self.work.wakes.is_blind(place) {
                slot.cost.blind_interval(settings.full_interval)
            } else {
                settings.full_interval
            }
        };
        let mut intervals: Vec<Duration> = self.slots.iter().enumerate().map(full).collect();
        let affordable = prompt_intervals(&costs, settings.prompt_interval, settings.full_interval);
        for (place, interval) in prompt.into_iter().zip(affordable) {
            intervals[place] = interval;
        }
        intervals
    }

    /// Starts the probe that has been due for longest. One at a time, so that
    /// the first scan does not take all processors and the memory of eight; but
    /// one that hangs does not count.
    fn start_next(&mut self, now: Instant) {
        if self.slots.iter().any(|slot| slot.running.is_some() && !slot.overdue) {
            return;
        }
        let Some((place, (at, cause))) = self.next_start() else { return };
        if at > now {
            return;
        }
        self.work.wakes.take(place);
        self.slots[place].starts(now, cause, rand::random_range(0.9..=1.1));
        self.work.metrics.wakeups.get_or_create(&SourceLabel { source: cause.name() }).inc();
        let (probe, host) = (self.work.probes[place].clone(), self.work.host.clone());
        self.scans.spawn_blocking(move || {
            let before = processor_time();
            let scanned = catch_unwind(AssertUnwindSafe(|| probe.scan(&host)));
            let scanned = scanned.map_or(Err(Failure::Panicked), |scan| scan.map_err(Failure::from));
            (place, now, processor_time().saturating_sub(before), scanned)
        });
    }

    fn scan_ended(&mut self, scanned: Result<Scanned, tokio::task::JoinError>) {
        // Neither cancelled nor panicking: the task catches it.
        let Ok((place, began, cpu, result)) = scanned else { return };
        let duration = began.elapsed();
        if self.slots[place].overdue {
            // What it saw is old by now. It may run again, but one that always
            // takes too long must not run without a pause.
            let slot = &mut self.slots[place];
            let now = Instant::now();
            let earliest = now + RETRY_INTERVAL;
            (slot.running, slot.overdue, slot.not_before) = (None, false, earliest);
            slot.at = slot.at.map(|(_, cause)| (earliest, cause));
            slot.costs(now, Cost { cpu, wall: duration });
            return;
        }
        let (store, kind) = (self.work.store.clone(), self.work.probes[place].kind);
        self.records.spawn_blocking(move || {
            let before = processor_time();
            let outcome = result.and_then(|scan| record(&store, kind, scan));
            Ended { place, duration, cpu: cpu + processor_time().saturating_sub(before), outcome }
        });
    }

    fn record_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // Neither cancelled nor panicking: the store catches it.
        let Ok(ended) = ended else { return };
        let slot = &mut self.slots[ended.place];
        let now = Instant::now();
        let wall = slot.running.map_or(ended.duration, |since| now.duration_since(since));
        (slot.running, slot.overdue) = (None, false);
        slot.costs(now, Cost { cpu: ended.cpu, wall });
        self.ended(ended);
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { place, duration, outcome, .. } = ended;
        self.work.status.woken(place, self.slots[place].cause.to_string());
        self.slots[place].failed = outcome.is_err();
        let name = self.work.probes[place].name;
        let label = ProbeLabel { probe: name };
        let mut changes = 0;
        match outcome {
            Ok(mut outcome) => {
                outcome.warnings.extend(self.work.wakes.warnings(place));
                self.work.store_works.holds();
                self.work.metrics.scan_seconds.get_or_create(&label).observe(duration.as_secs_f64());
                self.work.status.scanned(place, duration, outcome.assets, outcome.warnings);
                match outcome.recording {
                    Recording::Taken { observations, .. } => {
                        changes = observations;
                        self.work.metrics.observations.get_or_create(&label).inc_by(changes as u64);
                        if changes > 0 {
                            tracing::info!(probe = name, assets = outcome.assets, changes, "recorded");
                        }
                    }
                    Recording::OutboxFull => {
                        self.work.metrics.scan_failures.get_or_create(&label).inc();
                        let error = "the outbox is full: changes wait until the broker confirms some";
                        self.work.status.failed(place, error.to_owned());
                        self.slots[place].retry_after(Instant::now(), RETRY_INTERVAL);
                    }
                }
            }
            Err(failure) => {
                if let Failure::Store(error) = &failure {
                    self.work.store_works.fails(error.to_string());
                    self.slots[place].retry_after(Instant::now(), RETRY_INTERVAL);
                }
                tracing::warn!(probe = name, error = %failure, "probe failed, what it found before stays");
                self.work.metrics.scan_failures.get_or_create(&label).inc();
                self.work.status.failed(place, failure.to_string());
            }
        }
        let slot = &mut self.slots[place];
        slot.has_ended_once = true;
        let mut served = std::mem::take(&mut slot.serving);
        if slot.overdue {
            served.append(&mut slot.waiting);
        }
        self.answer(place, &served, changes);
        if self.slots.iter().all(|slot| slot.has_ended_once) {
            self.work.first_scan.holds();
        }
    }

    /// A new stream knows nothing yet, and a snapshot that was asked for should
    /// not wait for the next full scan: every kind is due.
    fn look_for_lists_asked_for(&mut self) {
        let figures = self.work.store.figures();
        let lists = (figures.stream, figures.resyncs);
        if std::mem::replace(&mut self.lists, lists) != lists {
            for slot in &mut self.slots {
                slot.retry_after(Instant::now(), Duration::ZERO);
            }
        }
    }

    fn answer(&mut self, place: usize, requests: &[u64], changes: usize) {
        for id in requests {
            let Some(request) = self.requests.get_mut(id) else { continue };
            request.remaining.retain(|other| *other != place);
            request.answer.changes += changes;
            request.answer.probes.push(self.work.status.probe(place));
            if request.remaining.is_empty()
                && let Some(request) = self.requests.remove(id)
            {
                // The caller may have gone.
                let _ = request.reply.send(request.answer);
            }
        }
    }
}

/// What this thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn record(store: &Store, kind: AssetKind, mut scan: Scan) -> Result<Outcome, Failure> {
    if kind == AssetKind::Node {
        let recorded = store.assets(Some(kind), None, 1)?.pop().and_then(|asset| asset.details.details);
        for asset in &mut scan.assets {
            if let (Some(Details::Node(recorded)), Details::Node(node)) = (&recorded, &mut asset.details) {
                keep_boot_time(recorded, node);
            }
        }
    }
    let kept = keep_unread(store, kind, &mut scan)?;
    let recording = store.record(kind, &scan.assets, &scan.contents)?;
    let mut warnings = scan.warnings;
    if kept > 0 {
        warnings.push(format!("{kept} that cannot be looked at now are taken to be as last seen"));
    }
    let mut assets = scan.assets.len();
    if let Recording::Taken { doubled, .. } = &recording {
        assets -= doubled.len();
        warnings
            .extend(doubled.iter().map(|key| format!("{key} was found more than once; the first counts")));
    }
    Ok(Outcome { assets, warnings, recording })
}

/// Adds to a scan what was recorded of that which it could not look at, so that
/// neither a difference nor a full listing takes it for gone. Returns how many.
/// This holds over a restart with fewer rights too: the store remembers.
fn keep_unread(store: &Store, kind: AssetKind, scan: &mut Scan) -> Result<usize, StoreError> {
    if scan.unread.is_empty() {
        return Ok(0);
    }
    let found: HashSet<String> = scan.assets.iter().map(|asset| asset.natural_key.clone()).collect();
    let before = scan.assets.len();
    for recorded in store.assets(Some(kind), None, usize::MAX)? {
        let RecordedAsset { natural_key, display_name, details, .. } = recorded;
        let is_unread = scan.unread.iter().any(|prefix| natural_key.starts_with(prefix));
        if is_unread
            && !found.contains(&natural_key)
            && let Some(state) = details.details
        {
            let asset = ScannedAsset::new(natural_key, display_name, state);
            scan.assets.push(ScannedAsset { relations: details.relations, ..asset });
        }
    }
    Ok(scan.assets.len() - before)
}

#[cfg(test)]
mod tests;
