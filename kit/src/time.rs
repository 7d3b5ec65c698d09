//! Between the clock and `google.protobuf.Timestamp`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// Now, by the system's clock.
pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Milliseconds since the epoch, by the system's clock.
pub fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time of so many milliseconds since the epoch.
pub fn of_unix_millis(millis: i64) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_seconds_and_a_rest_that_is_not_negative() {
        for (millis, seconds, nanos) in [(0, 0, 0), (1999, 1, 999_000_000), (-1, -1, 999_000_000)] {
            assert_eq!(of_unix_millis(millis), Timestamp { seconds, nanos });
        }
    }
}
