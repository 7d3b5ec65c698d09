//! The processor against a real PostgreSQL, over real gRPC.

#![allow(clippy::unwrap_used)]

mod assets;
mod bad_input;
mod dead_letters;
mod events;
mod images;
mod ingest;
mod kinds;
mod running;
