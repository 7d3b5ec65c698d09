//! What this collector has done, over sliding windows. Pure: time is an
//! argument, measured from the start of the process.

mod node_kinds;
mod ring;

use std::{collections::BTreeMap, time::Duration};

use contracts::v1::{
    DeadLetterCount, DeadLetterReason, EventBatch, IngestResult, NodeKindStats, TrafficStats, TrafficWindow,
};
use uuid::Uuid;

use node_kinds::NodeKinds;
use ring::Windows;

/// What a message counts as, once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    node: Uuid,
    node_display_name: String,
    /// Observations by number of the kind.
    kinds: BTreeMap<i32, usize>,
    /// Why it cannot be applied, if this collector says so.
    pub rejected: Option<DeadLetterReason>,
    /// When it was published, milliseconds since the epoch, by the agent's clock.
    pub published_millis: Option<i64>,
}

impl Traffic {
    /// Of a valid batch of a node.
    pub fn of(node: Uuid, batch: &EventBatch, published_millis: Option<i64>) -> Self {
        let mut kinds = BTreeMap::new();
        for observation in &batch.observations {
            *kinds.entry(observation.kind).or_insert(0) += 1;
        }
        let node_display_name = batch.node.as_ref().map(|node| node.display_name.clone()).unwrap_or_default();
        Self { node, node_display_name, kinds, rejected: None, published_millis }
    }

    /// Of a message that cannot be applied: nothing but the message.
    pub fn rejected(reason: DeadLetterReason) -> Self {
        Self {
            node: Uuid::nil(),
            node_display_name: String::new(),
            kinds: BTreeMap::new(),
            rejected: Some(reason),
            published_millis: None,
        }
    }

    /// Observations in it.
    pub fn events(&self) -> usize {
        self.kinds.values().sum()
    }
}

/// Buckets of each total: a second of the last minute.
const TOTAL_BUCKETS: usize = 60;

/// The statistics.
#[derive(Debug, Default)]
pub struct Stats {
    messages: Windows<TOTAL_BUCKETS>,
    events: Windows<TOTAL_BUCKETS>,
    duplicates: Windows<TOTAL_BUCKETS>,
    dead_letters: Windows<TOTAL_BUCKETS>,
    node_kinds: NodeKinds,
    reasons: BTreeMap<i32, i64>,
    lag: Option<Duration>,
}

impl Stats {
    /// Counts a message with its result. `unix_millis` is the time by the
    /// system's clock, for the lag.
    pub fn record(&mut self, now: Duration, unix_millis: i64, traffic: &Traffic, result: IngestResult) {
        match result {
            IngestResult::Committed => {
                self.messages.add(now, 1);
                self.events.add(now, traffic.events());
                for (kind, events) in &traffic.kinds {
                    self.node_kinds.add(now, traffic.node, &traffic.node_display_name, *kind, *events);
                }
                if let Some(lag) = lag(unix_millis, traffic) {
                    self.lag = Some(lag);
                }
            }
            IngestResult::Duplicate => self.duplicates.add(now, 1),
            IngestResult::DeadLettered => {
                self.dead_letters.add(now, 1);
                *self.reasons.entry(dead_letter_reason(traffic).into()).or_insert(0) += 1;
            }
            IngestResult::Unspecified => {}
        }
    }

    /// From publishing to commit, of the newest committed batch.
    pub fn lag(&self) -> Option<Duration> {
        self.lag
    }

    /// Messages that became dead letters, by reason.
    pub fn dead_letters(&self) -> Vec<DeadLetterCount> {
        self.reasons.iter().map(|(&reason, &count)| DeadLetterCount { reason, count }).collect()
    }

    /// Everything together.
    pub fn total(&self, now: Duration) -> TrafficStats {
        let window = |count: &dyn Fn(&Windows<TOTAL_BUCKETS>) -> u64| TrafficWindow {
            messages: count(&self.messages),
            events: count(&self.events),
            duplicate_messages: count(&self.duplicates),
            dead_letters: count(&self.dead_letters),
        };
        TrafficStats {
            last_minute: Some(window(&|windows| windows.minute(now))),
            last_5_minutes: Some(window(&|windows| windows.five_minutes(now))),
            last_hour: Some(window(&|windows| windows.hour(now))),
        }
    }

    /// The busiest nodes and kinds of the last hour.
    pub fn node_kinds(&self, now: Duration) -> Vec<NodeKindStats> {
        self.node_kinds.busiest(now)
    }
}

/// Why a message became a dead letter: what this collector found, or else
/// UNSPECIFIED, for the processor found something and does not tell what.
pub fn dead_letter_reason(traffic: &Traffic) -> DeadLetterReason {
    traffic.rejected.unwrap_or(DeadLetterReason::Unspecified)
}

/// From publishing until `unix_millis`; a clock that is ahead of ours makes none.
pub fn lag(unix_millis: i64, traffic: &Traffic) -> Option<Duration> {
    let millis = unix_millis.saturating_sub(traffic.published_millis?);
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use contracts::v1::{AssetKind, NodeIdentity, Observation};

    use super::*;

    fn traffic(packages: usize, disks: usize, published_millis: Option<i64>) -> Traffic {
        let one = |kind: AssetKind| Observation { kind: kind.into(), ..Default::default() };
        let mut observations = vec![one(AssetKind::Package); packages];
        observations.extend(vec![one(AssetKind::Disk); disks]);
        let node = NodeIdentity { display_name: "n1".into(), ..Default::default() };
        let batch = EventBatch { node: Some(node), observations, ..Default::default() };
        Traffic::of(Uuid::from_u128(1), &batch, published_millis)
    }

    #[test]
    fn each_result_counts_where_it_belongs() {
        let now = Duration::from_secs(100);
        let mut stats = Stats::default();
        assert_eq!(stats.lag(), None);
        stats.record(now, 1_000, &traffic(3, 1, Some(400)), IngestResult::Committed);
        stats.record(now, 1_000, &traffic(9, 9, Some(0)), IngestResult::Duplicate);
        stats.record(now, 1_000, &traffic(7, 0, Some(0)), IngestResult::DeadLettered);
        stats.record(now, 1_000, &Traffic::rejected(DeadLetterReason::TooLarge), IngestResult::DeadLettered);
        let window = TrafficWindow { messages: 1, events: 4, duplicate_messages: 1, dead_letters: 2 };
        let total = stats.total(now);
        assert_eq!(total.last_minute, Some(window));
        assert_eq!(total.last_5_minutes, Some(window));
        assert_eq!(total.last_hour, Some(window));
        let later = stats.total(now + Duration::from_secs(120));
        assert_eq!((later.last_minute, later.last_hour), (Some(TrafficWindow::default()), Some(window)));
        let kinds: Vec<_> =
            stats.node_kinds(now).into_iter().map(|one| (one.kind(), one.events_last_minute)).collect();
        assert_eq!(kinds, [(AssetKind::Package, 3), (AssetKind::Disk, 1)]);
        assert_eq!(stats.lag(), Some(Duration::from_millis(600)));
        let count = |reason: DeadLetterReason| DeadLetterCount { reason: reason.into(), count: 1 };
        let counts = [count(DeadLetterReason::Unspecified), count(DeadLetterReason::TooLarge)];
        assert_eq!(stats.dead_letters(), counts);
    }

    #[test]
    fn lag_is_never_negative_and_absent_when_untold() {
        assert_eq!(lag(1_000, &traffic(0, 0, Some(5_000))), Some(Duration::ZERO));
        assert_eq!(lag(1_000, &traffic(0, 0, Some(i64::MIN))), Some(Duration::from_millis(i64::MAX as u64)));
        assert_eq!(lag(1_000, &traffic(0, 0, None)), None);
    }
}
