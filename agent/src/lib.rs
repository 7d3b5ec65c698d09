//! The agent of one node: finds what is on it, keeps that in a store that
//! survives a crash at any moment, and publishes what changed to the broker.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod asset;
pub mod batch;
pub mod diff;
pub mod host;
pub mod probe;
pub mod store;
pub mod text;
