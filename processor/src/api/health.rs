//! Whether a node's agent is heard, from clocks alone: a pure rule.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::NodeHealth;

/// Collectors speak at least every 5 s; after three times that none is there.
pub const CONTACT_SECONDS: i64 = 15;

/// Whether a time is no older than three intervals, after which silence means
/// something.
pub fn is_fresh(now: DateTime<Utc>, time: Option<DateTime<Utc>>, interval_seconds: i32) -> bool {
    within(now, time, 3 * i64::from(interval_seconds.max(1)))
}

fn within(now: DateTime<Utc>, time: Option<DateTime<Utc>>, seconds: i64) -> bool {
    time.is_some_and(|time| now - time <= TimeDelta::seconds(seconds))
}

/// Health of a node that was retired at a time, if it was. All times are of the
/// database's clock.
pub fn health(
    now: DateTime<Utc>,
    contact: Option<DateTime<Utc>>,
    heartbeat: Option<DateTime<Utc>>,
    interval_seconds: i32,
    retired: Option<DateTime<Utc>>,
) -> NodeHealth {
    if retired.is_some() {
        NodeHealth::Retired
    } else if is_fresh(now, heartbeat, interval_seconds) {
        NodeHealth::Healthy
    } else if within(now, contact, CONTACT_SECONDS) {
        NodeHealth::Stale
    } else {
        // Its heartbeats may be waiting where nobody fetches them.
        NodeHealth::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_something_only_while_others_can_be_heard() {
        let at = |second| DateTime::from_timestamp(second, 0);
        let now = at(1000).unwrap();
        for (contact, heartbeat, expected) in [
            (at(999), at(990), NodeHealth::Healthy),
            (at(999), at(955), NodeHealth::Healthy),
            (at(999), at(954), NodeHealth::Stale),
            (at(999), None, NodeHealth::Stale),
            (at(980), at(954), NodeHealth::Unknown),
            (None, None, NodeHealth::Unknown),
            (at(980), at(990), NodeHealth::Healthy),
        ] {
            assert_eq!(health(now, contact, heartbeat, 15, None), expected, "{contact:?} {heartbeat:?}");
            assert_eq!(health(now, contact, heartbeat, 15, at(1)), NodeHealth::Retired);
        }
    }
}
