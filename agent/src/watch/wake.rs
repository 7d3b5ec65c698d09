//! What woke a probe, and the marks that say so: one a probe, so that a storm
//! of events takes no memory and nobody waits for room.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::metrics::{AgentMetrics, SourceLabel};
use crate::probe::{Probe, Signal};

/// A probe starts once things have been quiet for so long …
const QUIET: Duration = Duration::from_millis(300);
/// … or at the latest so long after the first event: a package manager writes
/// its database several times.
const LONGEST_UNREST: Duration = Duration::from_secs(2);

/// Where events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Files and folders: inotify(7), or a look at them.
    Files,
    /// Tables of the kernel that poll(2) tells of.
    Tables,
    /// rtnetlink(7).
    Network,
    /// Events of the kernel's devices.
    Devices,
    /// The container runtime.
    Containers,
}

impl Source {
    /// One word, for metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Tables => "tables",
            Self::Network => "network",
            Self::Devices => "devices",
            Self::Containers => "containers",
        }
    }

    fn of(signal: Signal) -> Self {
        match signal {
            Signal::Network => Self::Network,
            Signal::Device(_) => Self::Devices,
            Signal::Containers => Self::Containers,
        }
    }
}

/// Why a probe runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The agent started.
    Start,
    /// It was time.
    Interval,
    /// The last run could not be recorded, or the store is a new one.
    Retry,
    /// Someone asked.
    Request,
    /// A watched path changed; as the probe names it.
    Change(Source, &'static str),
    /// A signal.
    Signal(Signal),
    /// Events of a source were lost: anything may have changed.
    Lost(Source),
}

impl Cause {
    /// One word, for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Interval => "interval",
            Self::Retry => "retry",
            Self::Request => "request",
            Self::Change(source, _) | Self::Lost(source) => source.name(),
            Self::Signal(signal) => Source::of(signal).name(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(_, path) => write!(f, "change of {path}"),
            Self::Signal(Signal::Device(subsystem)) => write!(f, "device of {subsystem}"),
            Self::Lost(source) => write!(f, "lost events of {}", source.name()),
            other => f.write_str(other.name()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    cause: Cause,
    first: Instant,
    last: Instant,
}

/// What has happened that probes have not seen: pure, time is an argument.
#[derive(Debug, Default)]
struct Marks(Vec<Option<Mark>>);

impl Marks {
    /// True if nothing was marked before.
    fn set(&mut self, place: usize, cause: Cause, now: Instant) -> bool {
        match &mut self.0[place] {
            Some(mark) => {
                mark.last = now;
                false
            }
            unmarked => {
                *unmarked = Some(Mark { cause, first: now, last: now });
                true
            }
        }
    }

    fn ready(&self, place: usize) -> Option<(Instant, Cause)> {
        let mark = self.0[place]?;
        Some(((mark.last + QUIET).min(mark.first + LONGEST_UNREST), mark.cause))
    }
}

/// How a source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up,
    Down,
}

struct State {
    marks: Marks,
    sources: Vec<(Source, Health)>,
    /// What the sources cannot watch, by the probes' places.
    warnings: Vec<Vec<String>>,
}

struct Shared {
    /// Which sources and signals each probe names.
    probes: Vec<(Vec<Source>, &'static [Signal])>,
    state: Mutex<State>,
    news: Notify,
    metrics: AgentMetrics,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scheduler's side: which probes have been woken.
pub struct Wakes(Arc<Shared>);

/// The sources' side. Cheap to clone; no call waits or fails.
#[derive(Clone)]
pub struct WakeSender(Arc<Shared>);

impl Wakes {
    /// For these probes, by their places.
    #[must_use]
    pub fn new(probes: &[Probe], metrics: AgentMetrics) -> Self {
        let named = |probe: &Probe| {
            let mut sources: Vec<Source> = probe.signals.iter().map(|signal| Source::of(*signal)).collect();
            for path in probe.watched {
                let is_table = super::tables::is_table_name(Path::new(path));
                sources.push(if is_table { Source::Tables } else { Source::Files });
            }
            sources.dedup();
            (sources, probe.signals)
        };
        let state = State {
            marks: Marks(vec![None; probes.len()]),
            sources: Vec::new(),
            warnings: vec![Vec::new(); probes.len()],
        };
        Self(Arc::new(Shared {
            probes: probes.iter().map(named).collect(),
            state: Mutex::new(state),
            news: Notify::new(),
            metrics,
        }))
    }

    /// For those who tell.
    #[must_use]
    pub fn sender(&self) -> WakeSender {
        WakeSender(self.0.clone())
    }

    /// Waits until a probe is woken that was not, or a source comes or goes.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// When the events of a probe will have come to rest, and the first of them.
    #[must_use]
    pub fn ready(&self, place: usize) -> Option<(Instant, Cause)> {
        self.0.state().marks.ready(place)
    }

    /// The probe starts now: what happened before, it will see.
    pub fn take(&self, place: usize) {
        self.0.state().marks.0[place] = None;
    }

    /// Whether changes can pass a probe by unseen, because nothing can wake it
    /// or a source that could is down.
    #[must_use]
    pub fn is_blind(&self, place: usize) -> bool {
        let sources = &self.0.probes[place].0;
        let state = self.0.state();
        sources.is_empty()
            || state
                .sources
                .iter()
                .any(|(source, health)| *health == Health::Down && sources.contains(source))
    }

    /// What of a probe's paths cannot be watched.
    #[must_use]
    pub fn warnings(&self, place: usize) -> Vec<String> {
        self.0.state().warnings[place].clone()
    }
}

impl WakeSender {
    /// Wakes the probes that name `signal`.
    pub fn signal(&self, signal: Signal) {
        self.signal_at(signal, Instant::now());
    }

    pub(crate) fn signal_at(&self, signal: Signal, now: Instant) {
        let named = |(place, probe): (usize, &(Vec<Source>, &'static [Signal]))| {
            probe.1.contains(&signal).then_some(place)
        };
        let places: Vec<usize> = self.0.probes.iter().enumerate().filter_map(named).collect();
        self.wake(&places, Source::of(signal), Cause::Signal(signal), now);
    }

    /// Wakes the probes that name devices of `subsystem`.
    pub fn device(&self, subsystem: &str) {
        let signals = self.0.probes.iter().flat_map(|(_, signals)| signals.iter());
        let named = |signal: &&Signal| matches!(signal, Signal::Device(named) if *named == subsystem);
        if let Some(signal) = signals.copied().find(|signal| named(&signal)) {
            self.signal(signal);
        }
    }

    /// Wakes all probes that `source` could have woken: it lost events.
    pub fn lost(&self, source: Source) {
        let places: Vec<usize> =
            (0..self.0.probes.len()).filter(|&place| self.0.probes[place].0.contains(&source)).collect();
        self.wake(&places, source, Cause::Lost(source), Instant::now());
    }

    /// Wakes the probes at `places`: a path that they watch changed.
    pub fn changed(&self, places: &[usize], source: Source, path: &'static str) {
        self.wake(places, source, Cause::Change(source, path), Instant::now());
    }

    /// A source works. If it did not before, its probes are woken.
    pub fn up(&self, source: Source) {
        let before = self.health(source, Health::Up);
        if before == Health::Down {
            tracing::info!(source = source.name(), "events arrive again");
            self.lost(source);
        }
    }

    /// A source does not work. It is logged once.
    pub fn down(&self, source: Source, error: &dyn fmt::Display) {
        if self.health(source, Health::Down) == Health::Down {
            tracing::debug!(source = source.name(), %error, "still no events");
        } else {
            tracing::warn!(source = source.name(), %error, "no events arrive: changes are looked for at intervals");
        }
        self.0.metrics.event_source_failures.get_or_create(&label(source)).inc();
    }

    /// What of the paths of the probe at `place` cannot be watched.
    pub(super) fn warn(&self, place: usize, warnings: Vec<String>) {
        self.0.state().warnings[place] = warnings;
    }

    /// Watches that the kernel holds, and paths that are looked at instead.
    pub(super) fn watching(&self, watches: usize, polled: usize) {
        self.0.metrics.watches.set(i64::try_from(watches).unwrap_or(i64::MAX));
        self.0.metrics.polled_paths.set(i64::try_from(polled).unwrap_or(i64::MAX));
    }

    /// Whether a probe names what `source` tells.
    pub(super) fn is_wanted(&self, source: Source) -> bool {
        self.0.probes.iter().any(|(sources, _)| sources.contains(&source))
    }

    fn wake(&self, places: &[usize], source: Source, cause: Cause, now: Instant) {
        let mut is_news = false;
        let mut state = self.0.state();
        for &place in places {
            is_news |= state.marks.set(place, cause, now);
        }
        drop(state);
        self.0.metrics.events.get_or_create(&label(source)).inc();
        // The scheduler looks again by itself when a mark has come to rest.
        if is_news {
            self.0.news.notify_one();
        }
    }

    fn health(&self, source: Source, health: Health) -> Health {
        let mut state = self.0.state();
        let before = match state.sources.iter_mut().find(|(known, _)| *known == source) {
            Some((_, before)) => std::mem::replace(before, health),
            None => {
                state.sources.push((source, health));
                Health::Unknown
            }
        };
        drop(state);
        self.0.metrics.event_source_up.get_or_create(&label(source)).set(i64::from(health == Health::Up));
        if before != health {
            self.0.news.notify_one();
        }
        before
    }
}

fn label(source: Source) -> SourceLabel {
    SourceLabel { source: source.name() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Cadence, Scan};
    use contracts::v1::AssetKind;
    use kit::metrics::Metrics;

    fn wakes(probes: &[(&'static [&'static str], &'static [Signal])]) -> Wakes {
        let probe = |(watched, signals): &(&'static [&'static str], &'static [Signal])| {
            Probe::new("any", AssetKind::Disk, Cadence::Full, watched, |_| Ok(Scan::default()))
                .woken_by(signals)
        };
        let probes: Vec<Probe> = probes.iter().map(probe).collect();
        Wakes::new(&probes, AgentMetrics::new(&Metrics::default()))
    }

    fn woken(wakes: &Wakes) -> Vec<String> {
        let count = wakes.0.probes.len();
        (0..count)
            .map(|place| wakes.ready(place).map_or(String::new(), |(_, cause)| cause.to_string()))
            .collect()
    }

    #[test]
    fn events_come_to_rest_or_take_too_long() {
        let mut marks = Marks(vec![None]);
        let start = Instant::now();
        let cause = Cause::Change(Source::Files, "file");
        assert_eq!(marks.ready(0), None, "nothing happened");
        assert!(marks.set(0, cause, start));
        assert_eq!(marks.ready(0), Some((start + QUIET, cause)));
        let mut now = start;
        for _ in 0..100 {
            now += QUIET / 2;
            assert!(!marks.set(0, Cause::Interval, now), "one mark, however many events");
        }
        assert_eq!(marks.ready(0), Some((start + LONGEST_UNREST, cause)));
    }

    #[test]
    fn a_signal_wakes_those_who_name_it() {
        const BLOCK: Signal = Signal::Device("block");
        let wakes = wakes(&[(&[], &[Signal::Network]), (&["etc/x"], &[BLOCK]), (&["etc/x"], &[])]);
        let sender = wakes.sender();
        sender.signal(Signal::Containers);
        sender.device("net");
        assert_eq!(woken(&wakes), ["", "", ""]);
        sender.signal(Signal::Network);
        sender.device("block");
        assert_eq!(woken(&wakes), ["network", "device of block", ""]);
        wakes.take(0);
        wakes.take(1);
        sender.changed(&[2], Source::Files, "etc/x");
        assert_eq!(woken(&wakes), ["", "", "change of etc/x"]);
        sender.lost(Source::Devices);
        assert_eq!(woken(&wakes), ["", "lost events of devices", "change of etc/x"]);
        assert!(!sender.is_wanted(Source::Containers) && sender.is_wanted(Source::Network));
    }

    #[tokio::test]
    async fn a_source_that_comes_back_wakes_its_probes_and_one_that_is_down_leaves_them_blind() {
        let wakes = wakes(&[(&[], &[Signal::Network]), (&["etc/x"], &[]), (&[], &[])]);
        let sender = wakes.sender();
        let blind = |wakes: &Wakes| [0, 1, 2].map(|place| wakes.is_blind(place));
        assert_eq!(blind(&wakes), [false, false, true], "nothing can wake the last");
        sender.up(Source::Network);
        wakes.news().await;
        assert_eq!(woken(&wakes), ["", "", ""], "nothing was missed");
        sender.down(Source::Network, &"gone");
        wakes.news().await;
        assert_eq!(blind(&wakes), [true, false, true]);
        sender.up(Source::Network);
        wakes.news().await;
        assert_eq!(blind(&wakes), [false, false, true]);
        assert_eq!(woken(&wakes), ["lost events of network", "", ""]);
    }
}
