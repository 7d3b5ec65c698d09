//! Assets as the fold needs them.

use chrono::{DateTime, Utc};
use contracts::v1::{AssetKind, AssetState};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::{
    domain::fold::{Known, Version},
    store::{
        shared::{SharedBytes, SharedText},
        sql::{Bind, Sql, load},
    },
};

#[derive(QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = Uid)]
    uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Text)]
    display_name: SharedText,
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = Text)]
    natural_key: SharedText,
    #[diesel(sql_type = SmallInt)]
    state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    details: Option<SharedBytes>,
    #[diesel(sql_type = Nullable<Bytea>)]
    managed: Option<SharedBytes>,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = BigInt)]
    managed_revision: i64,
    #[diesel(sql_type = Integer)]
    stream_number: i32,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Integer)]
    batch_index: i32,
    #[diesel(sql_type = Integer)]
    seen_stream_number: i32,
    #[diesel(sql_type = BigInt)]
    seen_sequence: i64,
    #[diesel(sql_type = Integer)]
    seen_batch_index: i32,
    #[diesel(sql_type = Nullable<Bytea>)]
    state_hash: Option<SharedBytes>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    first_seen_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    remove_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    create_time: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    update_time: DateTime<Utc>,
}

impl From<KnownRow> for Known {
    fn from(row: KnownRow) -> Self {
        Self {
            asset: row.uid,
            kind: AssetKind::try_from(i32::from(row.kind)).unwrap_or_default(),
            node: row.node_uid,
            natural_key: row.natural_key.0,
            display_name: row.display_name.0,
            state: AssetState::try_from(i32::from(row.state)).unwrap_or_default(),
            details: row.details.map(|details| details.0),
            managed: row.managed.map(|managed| managed.0),
            revision: row.revision,
            managed_revision: row.managed_revision,
            version: Version {
                stream_number: row.stream_number,
                sequence: row.sequence,
                index: row.batch_index,
            },
            seen: Version {
                stream_number: row.seen_stream_number,
                sequence: row.seen_sequence,
                index: row.seen_batch_index,
            },
            state_hash: row.state_hash.map(|hash| hash.0).unwrap_or_default(),
            first_seen_time: row.first_seen_time,
            remove_time: row.remove_time,
            create_time: row.create_time,
            update_time: row.update_time,
        }
    }
}

const KNOWN: &str = "SELECT uid, kind, display_name, node_uid, natural_key, state, details, managed, revision, \
     managed_revision, stream_number, sequence, batch_index, seen_stream_number, seen_sequence, \
     seen_batch_index, state_hash, first_seen_time, remove_time, create_time, update_time FROM asset ";

/// What is known of assets. Their nodes are locked, and so is what is seen of
/// them; people's edits lock the node too.
///
/// # Errors
/// The query fails.
pub async fn known_in_txn(connection: &mut AsyncPgConnection, assets: Vec<Uuid>) -> QueryResult<Vec<Known>> {
    let query = Sql::new(KNOWN).text("WHERE uid = ANY(").bind(Bind::Uuids(assets)).text(")");
    let rows: Vec<KnownRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// The assets of a kind on a locked node that are ACTIVE and older than a
/// version: what a snapshot that began there did not list.
///
/// # Errors
/// The query fails.
pub async fn unlisted_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    kind: i16,
    version: Version,
) -> QueryResult<Vec<Known>> {
    let query = Sql::new(KNOWN)
        .text("WHERE node_uid = ")
        .bind(Bind::Uuid(node))
        .text(" AND kind = ")
        .bind(Bind::SmallInt(kind))
        .text(" AND state = 1 AND (stream_number, sequence, batch_index) < (")
        .binds([
            Bind::Integer(version.stream_number),
            Bind::BigInt(version.sequence),
            Bind::Integer(version.index),
        ])
        .text(")");
    let rows: Vec<KnownRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(Known::from).collect())
}
