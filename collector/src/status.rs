//! What the collector is doing, shared by the tasks that do it and the service
//! that tells it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::v1::{CollectorState, CollectorStats, Consumption, IngestResult, QueueStats, TopologyProblem};
use kit::time::unix_millis;
use prost_types::Timestamp;

use crate::{
    batch::Item,
    observed::Observed,
    stats::{Stats, lag},
};

/// What others know of the collector's state.
#[derive(Debug, Default)]
pub struct Others {
    /// Why messages stay in the broker, if the processor is away.
    pub holding: Option<String>,
    /// Whether to consume, as the processor said last.
    pub consumption: Option<Consumption>,
    /// What the broker has otherwise than it should be.
    pub topology_problems: Vec<TopologyProblem>,
}

/// The state of one collector.
pub struct Status {
    collector: String,
    started: Instant,
    start_time: Timestamp,
    in_flight: AtomicU64,
    inner: Mutex<Inner>,
    observed: Observed,
}

struct Inner {
    /// Why there is no connection to the broker; `None` while there is one.
    disconnected: Option<String>,
    version: String,
    queues: Vec<QueueStats>,
    stats: Stats,
}

impl Status {
    /// A collector that starts now. `collector` names host and process.
    pub fn new(collector: String, observed: Observed) -> Self {
        let inner = Inner {
            disconnected: Some("not connected yet".to_owned()),
            version: String::new(),
            queues: Vec::new(),
            stats: Stats::default(),
        };
        Self {
            collector,
            started: Instant::now(),
            start_time: kit::time::now(),
            in_flight: AtomicU64::new(0),
            inner: Mutex::new(inner),
            observed,
        }
    }

    /// Host and process, such as `node-7/4711`.
    pub fn collector(&self) -> &str {
        &self.collector
    }

    /// There is a connection to a broker of this version.
    pub fn connected(&self, version: String) {
        self.observed.connected();
        let mut inner = self.inner();
        inner.disconnected = None;
        inner.version = version;
    }

    /// There is none, for this reason.
    pub fn disconnected(&self, reason: String) {
        self.observed.disconnected();
        self.inner().disconnected = Some(reason);
    }

    /// What the broker says of the queues.
    pub fn measured(&self, queues: Vec<QueueStats>) {
        self.inner().queues = queues;
    }

    /// A request is committed.
    pub fn committed(&self, items: &[Item], results: &[IngestResult]) {
        let (now, millis) = (self.started.elapsed(), unix_millis());
        let mut inner = self.inner();
        for (item, result) in items.iter().zip(results) {
            inner.stats.record(now, millis, &item.traffic, *result);
            self.observed.message(*result, &item.traffic);
            if *result == IngestResult::Committed
                && let Some(lag) = lag(millis, &item.traffic)
            {
                self.observed.lag_seconds.observe(lag.as_secs_f64());
            }
        }
        drop(inner);
        self.observed.request_messages.observe(items.len() as f64);
        self.observed
            .request_events
            .observe(items.iter().map(|item| item.traffic.events()).sum::<usize>() as f64);
    }

    /// Everything, as the contract tells it.
    pub fn report(&self, others: Others) -> CollectorStats {
        let now = self.started.elapsed();
        let inner = self.inner();
        let paused = others.consumption.as_ref().filter(|consumption| consumption.paused);
        let (state, reason) = match (&inner.disconnected, paused, others.holding) {
            (Some(reason), _, _) => (CollectorState::Disconnected, reason.clone()),
            (None, Some(paused), _) => (CollectorState::Paused, paused.reason.clone()),
            (None, None, Some(reason)) => (CollectorState::Holding, reason),
            (None, None, None) => (CollectorState::Consuming, String::new()),
        };
        CollectorStats {
            collector: self.collector.clone(),
            start_time: Some(self.start_time),
            state: state.into(),
            state_reason: reason,
            queues: inner.queues.clone(),
            total: Some(inner.stats.total(now)),
            node_kinds: inner.stats.node_kinds(now),
            lag: inner.stats.lag().map(proto_duration),
            in_flight_messages: self.in_flight.load(Ordering::Relaxed),
            consumption: others.consumption,
            topology_problems: others.topology_problems,
            broker_version: inner.version.clone(),
            dead_letters: inner.stats.dead_letters(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn proto_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// What one channel holds of the messages in flight. Taken off when it goes,
/// as the broker then has them back.
pub struct Held {
    status: Arc<Status>,
    count: u64,
}

impl Held {
    /// A channel that holds nothing yet.
    pub fn new(status: Arc<Status>) -> Self {
        Self { status, count: 0 }
    }

    /// Now it holds this many.
    pub fn set(&mut self, count: usize) {
        let count = count as u64;
        if count >= self.count {
            self.status.in_flight.fetch_add(count - self.count, Ordering::Relaxed);
        } else {
            self.status.in_flight.fetch_sub(self.count - count, Ordering::Relaxed);
        }
        self.count = count;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}
