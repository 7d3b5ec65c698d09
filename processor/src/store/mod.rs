//! PostgreSQL: one file a table or a purpose. Functions take a connection and
//! return `QueryResult`; `_in_txn` says that the caller owns the transaction.

pub mod asset;
pub mod change;
pub mod command;
pub mod completeness;
pub mod dead_letter;
pub mod event;
pub mod feed;
pub mod filter_sql;
pub mod heartbeat;
pub mod image;
pub mod ingest;
pub mod integrity;
pub mod listing;
pub mod node;
pub mod overview;
pub mod pool;
pub mod retire;
pub mod scrub;
pub mod signing_key;
pub mod sql;
pub mod summary;
pub mod total;
pub mod upkeep;
