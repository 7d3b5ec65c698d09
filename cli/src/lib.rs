//! What of the operator's tool other programs use: simulated fleets.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod simulate;
