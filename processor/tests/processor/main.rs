//! The processor against a real PostgreSQL, over real gRPC.

#![allow(clippy::unwrap_used)]

mod affected;
mod assets;
mod bad_input;
mod completeness;
mod dead_letters;
mod delivery;
mod diff;
mod events;
mod filters;
mod history;
mod images;
mod ingest;
mod integrity;
mod kinds;
mod manage;
mod past;
mod related;
mod retention;
mod running;
mod scrub;
mod search;
mod waived;
mod watch;
