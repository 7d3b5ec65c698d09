//! The agent of one node: finds what is on it, keeps that in a store that
//! survives a crash at any moment, and publishes what changed to the broker.
//!
//! Probes → `diff` and `batch` (pure) → `store` (state and outbox in one
//! transaction) → `publisher`. `scheduler` says when, `service` answers locally.

// A test that cannot run here prints SKIPPED.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod asset;
pub mod batch;
pub mod commander;
pub mod config;
pub mod contents;
mod cri;
pub mod diff;
pub mod host;
pub mod inventory;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod probe;
pub mod publisher;
pub mod run;
pub mod scheduler;
pub mod service;
pub mod status;
pub mod store;
pub mod text;
pub mod watch;
