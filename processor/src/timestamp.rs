//! Times of the database as the contract has them.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// A time as the contract has it.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default();
    Timestamp { seconds: time.timestamp(), nanos }
}
