//! PostgreSQL: one file a table or a purpose. Functions take a connection and
//! return `QueryResult`; `_in_txn` says that the caller owns the transaction.

pub mod affected;
pub mod asset;
pub mod asset_edit;
pub mod change;
pub mod command;
pub mod completeness;
pub mod custom_field;
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
pub mod past;
pub mod pool;
pub mod related;
pub mod request;
pub mod retire;
pub mod saved_search;
pub mod scrub;
pub mod shared;
pub mod signing_key;
pub mod sql;
pub mod summary;
pub mod total;
pub mod upkeep;
