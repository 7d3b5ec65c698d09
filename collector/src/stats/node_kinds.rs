//! Observations a node and kind. Bounded: 50,000 pairs at most (about 12 MB);
//! when there are more, those that counted longest ago go, a tenth at once.

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

use contracts::v1::NodeKindStats;
use kit::identity::Collection;
use uuid::Uuid;

use super::ring::Windows;

/// Most pairs that are kept.
const MAX_PAIRS: usize = 50_000;
/// Most pairs that are told (collector_service.proto).
const MAX_TOLD: usize = 1_000;
/// Buckets of each window: 5 s of the last minute.
const BUCKETS: usize = 12;

/// Counts by node and kind.
#[derive(Debug, Default)]
pub struct NodeKinds {
    pairs: HashMap<(Uuid, i32), Pair>,
}

#[derive(Debug)]
struct Pair {
    node_display_name: Arc<str>,
    events: Windows<BUCKETS>,
}

impl NodeKinds {
    /// Counts observations of a kind on a node.
    pub fn add(&mut self, now: Duration, node: Uuid, name: &str, kind: i32, events: usize) {
        if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&(node, kind)) {
            self.forget_oldest();
        }
        let pair = self
            .pairs
            .entry((node, kind))
            .or_insert_with(|| Pair { node_display_name: name.into(), events: Windows::default() });
        if &*pair.node_display_name != name {
            pair.node_display_name = name.into();
        }
        pair.events.add(now, events);
    }

    /// The pairs with the most observations in the last hour, the busiest first.
    pub fn busiest(&self, now: Duration) -> Vec<NodeKindStats> {
        let mut hours: Vec<(Reverse<u64>, (Uuid, i32))> = self
            .pairs
            .iter()
            .map(|(key, pair)| (Reverse(pair.events.hour(now)), *key))
            .filter(|(Reverse(events), _)| *events > 0)
            .collect();
        hours.sort_unstable();
        hours.truncate(MAX_TOLD);
        hours.iter().filter_map(|(_, key)| Some(told(now, *key, self.pairs.get(key)?))).collect()
    }

    fn forget_oldest(&mut self) {
        const TO_GO: usize = MAX_PAIRS / 10;
        let mut times: Vec<u32> = self.pairs.values().map(|pair| pair.events.last_counted()).collect();
        times.sort_unstable();
        // All that are older than the last to go; of those as old as it, as
        // many as are left.
        let last = times[TO_GO - 1];
        let mut as_old = TO_GO - times.partition_point(|time| *time < last);
        self.pairs.retain(|_, pair| {
            let time = pair.events.last_counted();
            if time != last {
                return time > last;
            }
            let goes = as_old > 0;
            as_old -= usize::from(goes);
            !goes
        });
    }
}

fn told(now: Duration, (node, kind): (Uuid, i32), pair: &Pair) -> NodeKindStats {
    NodeKindStats {
        node: Collection::Nodes.name(node),
        node_display_name: pair.node_display_name.to_string(),
        kind,
        events_last_minute: pair.events.minute(now),
        events_last_5_minutes: pair.events.five_minutes(now),
        events_last_hour: pair.events.hour(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_idle_not_at_all() {
        let mut kinds = NodeKinds::default();
        let second = Duration::from_secs;
        kinds.add(second(0), Uuid::from_u128(1), "old", 5, 1000);
        kinds.add(second(4000), Uuid::from_u128(2), "two", 5, 7);
        kinds.add(second(4000), Uuid::from_u128(3), "three", 5, 9);
        kinds.add(second(4100), Uuid::from_u128(3), "three, renamed", 5, 1);
        let told: Vec<_> = kinds
            .busiest(second(4100))
            .into_iter()
            .map(|one| (one.node_display_name, one.events_last_minute, one.events_last_hour))
            .collect();
        assert_eq!(told, [("three, renamed".to_owned(), 1, 10), ("two".to_owned(), 0, 7)]);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_kept() {
        let mut kinds = NodeKinds::default();
        let count = MAX_PAIRS as u128 + 20_000;
        for n in 0..count {
            kinds.add(Duration::from_millis(u64::try_from(n).unwrap()), Uuid::from_u128(n), "", 1, 1);
        }
        assert!(kinds.pairs.len() <= MAX_PAIRS);
        assert!(kinds.pairs.contains_key(&(Uuid::from_u128(count - 1), 1)));
        assert!(kinds.pairs.contains_key(&(Uuid::from_u128(count - 40_000), 1)));
        assert!(!kinds.pairs.contains_key(&(Uuid::from_u128(0), 1)));
        assert_eq!(kinds.busiest(Duration::from_secs(70)).len(), MAX_TOLD);
    }
}
