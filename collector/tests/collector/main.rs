//! The collector against a real broker, and a processor that the test owns and
//! that implements the real contract. Each test has its own queue namespace.

#![allow(clippy::unwrap_used)]

mod commands;
mod consumption;
mod delivery;
mod fixture;
mod heartbeats;
mod outage;
mod process;
mod processor;
mod published;
mod rejected;
mod scaling;
mod statistics;
mod topology;
