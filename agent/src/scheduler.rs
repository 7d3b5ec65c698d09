//! Runs the probes: each at its interval, at once when what it watches changes
//! or someone asks; one that hangs is reported and never stops the others.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::v1::{AssetKind, ProbeStatus, asset_details::Details};
use kit::readiness::Condition;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::host::HostRoot;
use crate::metrics::{AgentMetrics, ProbeLabel};
use crate::probe::{Cadence, Probe, ProbeError, Scan, keep_boot_time};
use crate::status::Status;
use crate::store::{Recording, Store, StoreError};
use crate::watch::Watch;

/// How often the watched files are looked at: some twenty calls of fstat.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After this long a full outbox, or a probe that took too long, is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How the probes are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Interval of full scans.
    pub full_interval: Duration,
    /// Interval of probes that have nothing to watch.
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

/// One probe in the scheduler.
struct Slot {
    watch: Watch,
    due: Instant,
    /// When the current run began; the probe is never started twice.
    running: Option<Instant>,
    /// The current run has been given up; its result will not count.
    overdue: bool,
    has_ended_once: bool,
    /// Requests that wait for the next run, and for the current one.
    waiting: Vec<u64>,
    serving: Vec<u64>,
}

struct Request {
    remaining: Vec<usize>,
    answer: Triggered,
    reply: oneshot::Sender<Triggered>,
}

struct Ended {
    place: usize,
    duration: Duration,
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
        let mut state = State::new(self);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(trigger) = triggers.recv() => state.accept(trigger),
                Some(scanned) = state.scans.join_next() => state.scan_ended(scanned),
                Some(recorded) = state.records.join_next() => state.record_ended(recorded),
                _ = look.tick() => state.look(Instant::now()),
            }
            state.start_next(Instant::now());
        }
    }
}

type Scanned = (usize, Instant, Result<Scan, Failure>);

struct State {
    work: Scheduler,
    slots: Vec<Slot>,
    scans: JoinSet<Scanned>,
    records: JoinSet<Ended>,
    requests: HashMap<u64, Request>,
    next_request: u64,
}

impl State {
    fn new(work: Scheduler) -> Self {
        let now = Instant::now();
        let slot = |probe: &Probe| Slot {
            watch: Watch::new(&work.host, probe.watched),
            due: now,
            running: None,
            overdue: false,
            has_ended_once: false,
            waiting: Vec::new(),
            serving: Vec::new(),
        };
        let slots = work.probes.iter().map(slot).collect();
        Self {
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
            self.slots[place].due = Instant::now();
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

    fn look(&mut self, now: Instant) {
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.watch.look(&self.work.host, now) {
                slot.due = now;
            }
            let hangs =
                slot.running.is_some_and(|since| now.duration_since(since) > self.work.settings.timeout);
            if hangs && !slot.overdue {
                slot.overdue = true;
                let failure = Failure::Timeout(self.work.settings.timeout);
                self.ended(Ended { place, duration: self.work.settings.timeout, outcome: Err(failure) });
            }
        }
    }

    /// Starts the probe that has been due for longest. One at a time, so that
    /// the first scan does not take all processors and the memory of eight; but
    /// one that hangs does not count.
    fn start_next(&mut self, now: Instant) {
        if self.slots.iter().any(|slot| slot.running.is_some() && !slot.overdue) {
            return;
        }
        let due = |slot: &Slot| slot.running.is_none() && slot.due <= now;
        let Some(place) =
            (0..self.slots.len()).filter(|&p| due(&self.slots[p])).min_by_key(|&p| self.slots[p].due)
        else {
            return;
        };
        let interval = match self.work.probes[place].cadence {
            Cadence::Full => self.work.settings.full_interval,
            Cadence::Prompt => self.work.settings.prompt_interval,
        };
        let slot = &mut self.slots[place];
        slot.running = Some(now);
        slot.overdue = false;
        slot.due = now + interval.mul_f64(rand::random_range(0.9..=1.1));
        slot.serving = std::mem::take(&mut slot.waiting);
        let (probe, host) = (self.work.probes[place].clone(), self.work.host.clone());
        self.scans.spawn_blocking(move || {
            let scanned = catch_unwind(AssertUnwindSafe(|| probe.scan(&host)));
            (place, now, scanned.map_or(Err(Failure::Panicked), |scan| scan.map_err(Failure::from)))
        });
    }

    fn scan_ended(&mut self, scanned: Result<Scanned, tokio::task::JoinError>) {
        // Neither cancelled nor panicking: the task catches it.
        let Ok((place, began, result)) = scanned else { return };
        let duration = began.elapsed();
        if self.slots[place].overdue {
            // What it saw is old by now. It may run again, but one that always
            // takes too long must not run without a pause.
            let slot = &mut self.slots[place];
            let due = slot.due.max(Instant::now() + RETRY_INTERVAL);
            (slot.running, slot.overdue, slot.due) = (None, false, due);
            return;
        }
        let (store, kind) = (self.work.store.clone(), self.work.probes[place].kind);
        self.records.spawn_blocking(move || {
            let outcome = result.and_then(|scan| record(&store, kind, scan));
            Ended { place, duration, outcome }
        });
    }

    fn record_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // Neither cancelled nor panicking: the store catches it.
        let Ok(ended) = ended else { return };
        let slot = &mut self.slots[ended.place];
        (slot.running, slot.overdue) = (None, false);
        self.ended(ended);
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { place, duration, outcome } = ended;
        let name = self.work.probes[place].name;
        let label = ProbeLabel { probe: name };
        let mut changes = 0;
        match outcome {
            Ok(outcome) => {
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
                        self.slots[place].due = Instant::now() + RETRY_INTERVAL;
                    }
                }
            }
            Err(failure) => {
                if let Failure::Store(error) = &failure {
                    self.work.store_works.fails(error.to_string());
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

fn record(store: &Store, kind: AssetKind, mut scan: Scan) -> Result<Outcome, Failure> {
    if kind == AssetKind::Node {
        let recorded = store.assets(Some(kind), None, 1)?.pop().and_then(|asset| asset.details.details);
        for asset in &mut scan.assets {
            if let (Some(Details::Node(recorded)), Details::Node(node)) = (&recorded, &mut asset.details) {
                keep_boot_time(recorded, node);
            }
        }
    }
    let recording = store.record(kind, &scan.assets, &scan.contents)?;
    let mut warnings = scan.warnings;
    let mut assets = scan.assets.len();
    if let Recording::Taken { doubled, .. } = &recording {
        assets -= doubled.len();
        warnings
            .extend(doubled.iter().map(|key| format!("{key} was found more than once; the first counts")));
    }
    Ok(Outcome { assets, warnings, recording })
}
