//! A private corner of the test broker.

use uuid::Uuid;

/// The broker's AMQP URL.
///
/// # Panics
/// When `ASSETTRACK_TEST_AMQP_URL` is not set.
pub fn amqp_url() -> String {
    crate::required("ASSETTRACK_TEST_AMQP_URL")
}

/// A queue namespace that no other test, in this run or an earlier one, uses.
/// What is declared below it goes with the broker, which is wiped for each run.
pub fn namespace() -> String {
    format!("test-{}", Uuid::new_v4().simple())
}
