//! Test support: what a test needs from outside itself, and nothing that
//! stands in for it. A test gets its own database on a real PostgreSQL, its own
//! queue names on a real RabbitMQ, and real service processes.
//!
//! `cargo xtask test` starts both servers and tells where they are by
//! `ASSETTRACK_TEST_DATABASE_URL` and `ASSETTRACK_TEST_AMQP_URL`. A test that
//! needs one of them fails when it is not told: it is never skipped in silence.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// What a test prints is read by whoever looks at its failure.
#![allow(clippy::print_stdout)]

mod broker;
pub mod containerd;
mod database;
mod net;
pub mod private;
mod proxy;
mod seed;
mod service;
mod wait;

pub use broker::{amqp_url, authority, broker_by_proxy, by_way_of, namespace};
pub use database::{Database, connect};
pub use net::{free_address, http_get, http_send, listener};
pub use proxy::Proxy;
pub use seed::Seed;
pub use service::Service;
pub use wait::{wait_for, wait_until};

/// Reads a variable that `cargo xtask test` sets.
///
/// # Panics
/// When it is missing, with the command that sets it.
fn required(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => value,
        _ => {
            panic!("{variable} is not set: run `cargo xtask test`, which starts private servers and sets it")
        }
    }
}
