//! What the agent counts.

use kit::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::store::Figures;

/// Label of what a probe counts.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProbeLabel {
    /// Name of the probe.
    pub probe: &'static str,
}

/// Label of how something ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResultLabel {
    /// One word.
    pub result: &'static str,
}

/// Label of why a store was set aside.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabel {
    /// One word.
    pub reason: &'static str,
}

/// Label of what became of a command.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CommandLabel {
    /// Its name, or `unknown`.
    pub command: &'static str,
    /// `obeyed` or `refused`.
    pub result: &'static str,
}

/// Label of a source of events.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SourceLabel {
    /// One word.
    pub source: &'static str,
}

/// The agent's metrics. Cheap to clone.
#[derive(Clone)]
pub struct AgentMetrics {
    /// Seconds that scans took.
    pub scan_seconds: Family<ProbeLabel, Histogram>,
    /// Scans that failed, ran out of time or could not be recorded.
    pub scan_failures: Family<ProbeLabel, Counter>,
    /// Observations recorded, by the probe of their kind.
    pub observations: Family<ProbeLabel, Counter>,
    /// Runs of probes, by what woke them.
    pub wakeups: Family<SourceLabel, Counter>,
    /// Events that arrived, by source.
    pub events: Family<SourceLabel, Counter>,
    /// 1 while a source of events works.
    pub event_source_up: Family<SourceLabel, Gauge>,
    /// Attempts of a source that failed.
    pub event_source_failures: Family<SourceLabel, Counter>,
    /// Files and folders that the kernel watches.
    pub watches: Gauge,
    /// Paths that cannot be watched and are looked at.
    pub polled_paths: Gauge,
    /// Publishes by result: `confirmed`, `refused`, `returned`, `timeout`, `failed`.
    pub publishes: Family<ResultLabel, Counter>,
    /// Seconds from publish to confirm.
    pub confirm_seconds: Histogram,
    /// 1 while there is a connection to the broker.
    pub broker_connected: Gauge,
    /// Commands, by what became of them.
    pub commands: Family<CommandLabel, Counter>,
    /// 1 while another agent lives under the same identity.
    pub identity_conflict: Gauge,
    outbox_oldest: Gauge,
    store_in_memory: Gauge,
    outbox_batches: Gauge,
    outbox_bytes: Gauge,
    last_sequence: Gauge,
    set_aside: Family<ReasonLabel, Counter>,
}

impl AgentMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let new = Self {
            scan_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9))),
            scan_failures: Family::default(),
            observations: Family::default(),
            wakeups: Family::default(),
            events: Family::default(),
            event_source_up: Family::default(),
            event_source_failures: Family::default(),
            watches: Gauge::default(),
            polled_paths: Gauge::default(),
            publishes: Family::default(),
            confirm_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            broker_connected: Gauge::default(),
            commands: Family::default(),
            identity_conflict: Gauge::default(),
            outbox_oldest: Gauge::default(),
            store_in_memory: Gauge::default(),
            outbox_batches: Gauge::default(),
            outbox_bytes: Gauge::default(),
            last_sequence: Gauge::default(),
            set_aside: Family::default(),
        };
        metrics.register(|registry| {
            let agent = registry.sub_registry_with_prefix("agent");
            agent.register("scan_seconds", "Time of scans in seconds", new.scan_seconds.clone());
            agent.register("scan_failures", "Scans that failed", new.scan_failures.clone());
            agent.register("observations", "Observations recorded", new.observations.clone());
            agent.register("wakeups", "Runs of probes, by what woke them", new.wakeups.clone());
            agent.register("events", "Events that arrived, by source", new.events.clone());
            let up = new.event_source_up.clone();
            agent.register("event_source_up", "1 while a source of events works", up);
            let failures = new.event_source_failures.clone();
            agent.register("event_source_failures", "Attempts of a source that failed", failures);
            agent.register("watches", "Files and folders that are watched", new.watches.clone());
            agent.register("polled_paths", "Paths that are looked at instead", new.polled_paths.clone());
            agent.register("publishes", "Batches published, by result", new.publishes.clone());
            agent.register("confirm_seconds", "Time to a confirm in seconds", new.confirm_seconds.clone());
            agent.register("broker_connected", "1 while connected", new.broker_connected.clone());
            agent.register("commands", "Commands, by what became of them", new.commands.clone());
            agent.register(
                "identity_conflict",
                "1 while another agent lives under the same identity",
                new.identity_conflict.clone(),
            );
            agent.register(
                "outbox_oldest_timestamp_seconds",
                "When the oldest unconfirmed batch was made; 0 for none",
                new.outbox_oldest.clone(),
            );
            agent.register(
                "store_in_memory",
                "1 while the disk cannot be written and the store is in memory",
                new.store_in_memory.clone(),
            );
            agent.register("outbox_batches", "Batches not confirmed yet", new.outbox_batches.clone());
            agent.register("outbox_bytes", "Bytes not confirmed yet", new.outbox_bytes.clone());
            agent.register("last_sequence", "Newest sequence made", new.last_sequence.clone());
            agent.register("stores_set_aside", "Stores set aside, by reason", new.set_aside.clone());
        });
        new
    }

    /// Shows how the store stands. `counted`: stores set aside that were
    /// counted before; returns how many are now.
    pub fn show_store(&self, figures: &Figures, counted: usize) -> usize {
        self.outbox_batches.set(i64::try_from(figures.outbox_batches).unwrap_or(i64::MAX));
        self.outbox_bytes.set(i64::try_from(figures.outbox_bytes).unwrap_or(i64::MAX));
        self.outbox_oldest.set(figures.oldest_millis.map_or(0, |millis| millis / 1000));
        self.store_in_memory.set(i64::from(figures.in_memory.is_some()));
        self.last_sequence.set(figures.newest.1);
        for reason in figures.set_aside.iter().skip(counted) {
            self.set_aside.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
        }
        figures.set_aside.len()
    }
}
