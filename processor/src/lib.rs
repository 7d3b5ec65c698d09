//! The processor owns PostgreSQL: the current state of each asset, its whole
//! history, and the business rules. It takes what collectors deliver and
//! answers what people and programs ask.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
pub mod config;
pub mod delivery;
pub mod domain;
mod duty;
mod feed;
pub mod ingest;
mod run;
mod schema;
pub mod store;
mod timestamp;
mod verify;

pub use run::{Error, run};
