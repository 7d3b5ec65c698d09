//! The gateway: one port for gRPC, gRPC-Web, REST and the web UI's files.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod table;
pub mod transcode;
