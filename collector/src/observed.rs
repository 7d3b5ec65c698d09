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

use crate::gate::Call;

/// Every metric of this service.
#[derive(Clone, Debug)]
pub struct Observed {
    messages: Family<ResultLabel, Counter>,
    events: Counter,
    rejected: Family<ReasonLabel, Counter>,
    redelivered: Counter,
    refused: Counter,
    failed_calls: Family<CallLabel, Counter>,
    heartbeats: Family<ResultLabel, Counter>,
    queue_depth: Family<QueueLabel, Gauge>,
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
            redelivered: Counter::default(),
            refused: Counter::default(),
            failed_calls: Family::default(),
            heartbeats: Family::default(),
            queue_depth: Family::default(),
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
            group.register("redelivered", "Messages that the broker delivered again", all.redelivered);
            group.register("refused", "Refusals of single messages by the processor", all.refused);
            group.register("failed_calls", "Calls to the processor that failed", all.failed_calls);
            group.register("heartbeats", "Heartbeats, by what became of them", all.heartbeats);
            group.register("queue_depth", "Messages that no consumer holds", all.queue_depth);
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
    pub fn message(&self, result: IngestResult, events: usize) {
        let label = match result {
            IngestResult::Committed => "committed",
            IngestResult::Duplicate => "duplicate",
            IngestResult::DeadLettered => "dead_lettered",
            IngestResult::Unspecified => return,
        };
        self.messages.get_or_create(&ResultLabel { result: label }).inc();
        if result == IngestResult::Committed {
            self.events.inc_by(events as u64);
        }
    }

    /// A message cannot be applied.
    pub fn rejected(&self, reason: DeadLetterReason) {
        let reason = reason.as_str_name().trim_start_matches("DEAD_LETTER_REASON_");
        self.rejected.get_or_create(&ReasonLabel { reason }).inc();
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
