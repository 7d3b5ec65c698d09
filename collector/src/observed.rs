//! The collector's metrics. Cheap to clone.

use contracts::v1::{DeadLetterReason, IngestResult};
use kit::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use tonic::Code;

use crate::{
    gate::Call,
    stats::{Traffic, dead_letter_reason},
};

/// Every metric of this service.
#[derive(Clone, Debug)]
pub struct Observed {
    messages: Family<ResultLabel, Counter>,
    events: Counter,
    rejected: Family<ReasonLabel, Counter>,
    dead_letters: Family<ReasonLabel, Counter>,
    redelivered: Counter,
    refused: Counter,
    failed_calls: Family<CallLabel, Counter>,
    heartbeats: Family<ResultLabel, Counter>,
    queue_depth: Family<QueueLabel, Gauge>,
    topology_problems: Gauge,
    commands: Family<ResultLabel, Counter>,
    command_stream: Gauge,
    paused: Gauge,
    connected: Gauge,
    connections: Counter,
    /// Messages of a request.
    pub request_messages: Histogram,
    /// Observations of a request.
    pub request_events: Histogram,
    /// Seconds that an IngestEvents took, failed ones included.
    pub ingest_seconds: Histogram,
    /// Seconds from publishing to commit; agent's clock against ours.
    pub lag_seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

impl Observed {
    /// Registers the metrics; each is named `assettrack_collector_…`.
    pub fn new(metrics: &Metrics) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let sizes = || Histogram::new(exponential_buckets(1.0, 2.0, 11));
        let observed = Self {
            messages: Family::default(),
            events: Counter::default(),
            rejected: Family::default(),
            dead_letters: Family::default(),
            redelivered: Counter::default(),
            refused: Counter::default(),
            failed_calls: Family::default(),
            heartbeats: Family::default(),
            queue_depth: Family::default(),
            topology_problems: Gauge::default(),
            commands: Family::default(),
            command_stream: Gauge::default(),
            paused: Gauge::default(),
            connected: Gauge::default(),
            connections: Counter::default(),
            request_messages: sizes(),
            request_events: sizes(),
            ingest_seconds: seconds(),
            lag_seconds: seconds(),
        };
        let all = observed.clone();
        metrics.register(|registry| {
            let group = registry.sub_registry_with_prefix("collector");
            group.register("messages", "Messages acknowledged, by result", all.messages);
            group.register("events", "Observations committed for the first time", all.events);
            group.register("rejected", "Messages that cannot be applied, by reason", all.rejected);
            let text = "Messages that became dead letters, by reason";
            group.register("dead_letters", text, all.dead_letters);
            group.register("redelivered", "Messages that the broker delivered again", all.redelivered);
            group.register("refused", "Refusals of single messages by the processor", all.refused);
            group.register("failed_calls", "Calls to the processor that failed", all.failed_calls);
            group.register("heartbeats", "Heartbeats, by what became of them", all.heartbeats);
            group.register("queue_depth", "Messages that no consumer holds", all.queue_depth);
            let text = "What the broker has otherwise than it should be";
            group.register("topology_problems", text, all.topology_problems);
            group.register("commands", "Commands to agents, by what became of them", all.commands);
            group.register("command_stream", "1 while the processor sends commands", all.command_stream);
            group.register("paused", "1 while consumption is paused", all.paused);
            group.register("broker_connected", "1 while connected to the broker", all.connected);
            group.register("broker_connections", "Connections made to the broker", all.connections);
            group.register("request_messages", "Messages in a committed request", all.request_messages);
            group.register("request_events", "Observations in a committed request", all.request_events);
            group.register("ingest_seconds", "Time of an IngestEvents call", all.ingest_seconds);
            group.register("lag_seconds", "From publishing to commit", all.lag_seconds);
        });
        observed
    }

    /// A message has its final result.
    pub fn message(&self, result: IngestResult, traffic: &Traffic) {
        let label = match result {
            IngestResult::Committed => "committed",
            IngestResult::Duplicate => "duplicate",
            IngestResult::DeadLettered => "dead_lettered",
            IngestResult::Unspecified => return,
        };
        self.messages.get_or_create(&ResultLabel { result: label }).inc();
        if result == IngestResult::Committed {
            self.events.inc_by(traffic.events() as u64);
        }
        if result == IngestResult::DeadLettered {
            let reason = name(dead_letter_reason(traffic));
            self.dead_letters.get_or_create(&ReasonLabel { reason }).inc();
        }
    }

    /// A message cannot be applied.
    pub fn rejected(&self, reason: DeadLetterReason) {
        self.rejected.get_or_create(&ReasonLabel { reason: name(reason) }).inc();
    }

    /// What became of a command: `published`, `unroutable` (no agent is there to
    /// take it), `expired`, `invalid`, `refused` by the broker, `unconfirmed`,
    /// `disconnected` (dropped without a broker), or `overflow` (dropped, as too
    /// many came at once).
    pub fn command(&self, result: &'static str) {
        self.commands.get_or_create(&ResultLabel { result }).inc();
    }

    /// Whether the processor sends commands.
    pub fn command_stream(&self, up: bool) {
        self.command_stream.set(up.into());
    }

    /// Whether consumption is paused.
    pub fn paused(&self, paused: bool) {
        self.paused.set(paused.into());
    }

    /// Things that the broker has otherwise than they should be.
    pub fn topology_problems(&self, count: usize) {
        self.topology_problems.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The broker delivered a message again.
    pub fn redelivered(&self) {
        self.redelivered.inc();
    }

    /// The processor refused a single message.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// A call to the processor failed.
    pub fn call_failed(&self, call: Call, code: Code) {
        let call = match call {
            Call::Ingest => "IngestEvents",
            Call::Heartbeats => "RecordHeartbeats",
        };
        self.failed_calls.get_or_create(&CallLabel { call, code: format!("{code:?}") }).inc();
    }

    /// Heartbeats came to an end: `forwarded`, `superseded`, `rejected` or `expired`.
    pub fn heartbeats(&self, result: &'static str, count: usize) {
        self.heartbeats.get_or_create(&ResultLabel { result }).inc_by(count as u64);
    }

    /// Depth of a queue, as the broker counts it.
    pub fn queue_depth(&self, queue: &str, depth: u32) {
        self.queue_depth.get_or_create(&QueueLabel { queue: queue.to_owned() }).set(i64::from(depth));
    }

    /// There is a connection to the broker.
    pub fn connected(&self) {
        self.connections.inc();
        self.connected.set(1);
    }

    /// There is none.
    pub fn disconnected(&self) {
        self.connected.set(0);
    }
}

fn name(reason: DeadLetterReason) -> &'static str {
    reason.as_str_name().trim_start_matches("DEAD_LETTER_REASON_")
}
