//! Faults: each test is a row of one table. It publishes deterministic events,
//! lets a fault happen at a seeded moment, heals it, waits until all is drained,
//! and asks the same oracle.
//!
//! `cargo xtask test` runs each row once, shortened; `cargo xtask faults` runs
//! rows with as many seeds as are asked for, and keeps a report.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod agent;
mod bed;
mod fleet;
mod load;
mod oracle;
mod row;
mod rows;
