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
