//! The processor against a real PostgreSQL, over real gRPC.

#![allow(clippy::unwrap_used)]

mod assets;
mod bad_input;
mod completeness;
mod delivery;
mod events;
mod images;
mod ingest;
mod kinds;
mod running;
mod waived;
