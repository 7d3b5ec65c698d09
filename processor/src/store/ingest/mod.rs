//! The bulk statements of ingest: one round trip each, whatever the size.

mod known;
mod snapshots;
mod streams;
mod waived;
mod write;

pub use known::{known_in_txn, unlisted_in_txn};
pub use snapshots::{CompleteSnapshot, SnapshotRow, complete_snapshots_in_txn};
pub use streams::{
    NewNode, NodeState, StreamRow, insert_stream_in_txn, lock_nodes_in_txn, renumber_stream_in_txn,
    streams_in_txn,
};
pub use waived::{
    Place, Waived, forget_waived_in_txn, waive_in_txn, waived_in_txn, waived_of_streams_in_txn,
};
pub use write::{statement, write_in_txn};

/// An enum's number as it is stored.
pub fn small(number: i32) -> i16 {
    i16::try_from(number).unwrap_or_default()
}
