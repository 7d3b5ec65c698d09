//! The rows.

mod broker;
mod content;
mod database;
mod network;
mod services;
mod writers;
