//! The rows.

mod broker;
mod content;
mod crowd;
mod database;
mod network;
mod services;
mod writers;
