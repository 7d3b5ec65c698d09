//! Retiring a node that will not return.

use chrono::{DateTime, Utc};
use diesel::{QueryResult, result::Error as QueryError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use uuid::Uuid;

use crate::{
    domain::fold::{Version, retire},
    store::{
        asset::record_time_in_txn,
        ingest::unlisted_in_txn,
        retire::{LockedNode, finish_in_txn, kinds_in_txn, lock_in_txn, newest_stream_in_txn, save_in_txn},
    },
};

/// Version above all others.
const NEWEST: Version = Version { stream_number: i32::MAX, sequence: i64::MAX, index: i32::MAX };

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// It is retired, and so many of its assets became REMOVED.
    Done {
        /// Assets that became REMOVED now.
        removed: u64,
    },
    /// There is no such node.
    Missing,
    /// Its agent is heard.
    Refused,
}

/// Retires a node, in one transaction under its lock, unless `refuse` says that
/// it lives: its ACTIVE assets become REMOVED, as of the newest that was
/// received of it. All it reports later is newer.
///
/// # Errors
/// A statement fails.
pub async fn retire_node(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    actor: &str,
    refuse: impl Fn(DateTime<Utc>, LockedNode) -> bool + Send + Sync,
) -> QueryResult<Retired> {
    let retired = connection.transaction(async |connection| {
        let Some(locked) = lock_in_txn(connection, node).await? else { return Ok(Retired::Missing) };
        let now = record_time_in_txn(connection, None).await?;
        if refuse(now, locked) {
            return Ok(Retired::Refused);
        }
        let mut removed = 0;
        if let Some(newest) = newest_stream_in_txn(connection, node).await? {
            let version =
                Version { stream_number: newest.number, sequence: newest.sequence, index: i32::MAX };
            for kind in kinds_in_txn(connection, node).await? {
                let active = unlisted_in_txn(connection, node, kind, NEWEST).await?;
                removed += active.len() as u64;
                save_in_txn(connection, &retire(active, newest.stream, version, now), actor).await?;
            }
        }
        finish_in_txn(connection, node, now).await?;
        Ok::<_, QueryError>(Retired::Done { removed })
    });
    retired.await
}
