//! The whole system: real processes, PostgreSQL and RabbitMQ.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod agent_kills;
mod containers;
mod faults;
mod manage;
mod node_life;
mod relations;
mod repair;
mod search;
mod simulated;
mod system;
