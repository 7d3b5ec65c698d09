//! Consumes the event queues, validates and batches what agents saw, delivers it
//! to the processor, and acknowledges what the processor committed: nothing
//! before, nothing else.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backoff;
pub mod batch;
pub mod decode;
pub mod gate;
pub mod ledger;
pub mod stats;
