//! Retiring a node: by hand, and so under another actor than what agents report.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Integer, Nullable, SmallInt, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    ingest::small,
    sql::{Bind, Sql, execute, load},
};
use crate::domain::fold::Folded;

/// A node, locked.
#[derive(Clone, Copy, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct LockedNode {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    pub heartbeat_interval_seconds: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retire_time: Option<DateTime<Utc>>,
}

/// Locks a node.
///
/// # Errors
/// The query fails.
pub async fn lock_in_txn(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Option<LockedNode>> {
    let query =
        Sql::new("SELECT heartbeat_time, heartbeat_interval_seconds, retire_time FROM node WHERE uid = ")
            .bind(Bind::Uuid(node))
            .text(" FOR NO KEY UPDATE");
    Ok(load(connection, query).await?.pop())
}

/// The newest stream of a node, and the highest sequence received of it.
#[derive(Clone, Copy, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct NewestStream {
    #[diesel(sql_type = Uid)]
    pub stream: Uuid,
    #[diesel(sql_type = Integer)]
    pub number: i32,
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
}

/// The newest stream of a locked node; none if it never reported anything.
///
/// # Errors
/// The query fails.
pub async fn newest_stream_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
) -> QueryResult<Option<NewestStream>> {
    let query = Sql::new(
        "SELECT stream, number, coalesce(upper(received) - 1, 0) AS sequence FROM node_stream WHERE node_uid = ",
    )
    .bind(Bind::Uuid(node))
    .text(" ORDER BY number DESC LIMIT 1");
    Ok(load(connection, query).await?.pop())
}

#[derive(QueryableByName)]
struct Kind {
    #[diesel(sql_type = SmallInt)]
    kind: i16,
}

/// Kinds of which a node has ACTIVE assets.
///
/// # Errors
/// The query fails.
pub async fn kinds_in_txn(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Vec<i16>> {
    let query = Sql::new("SELECT DISTINCT kind FROM asset WHERE state = 1 AND node_uid = ")
        .bind(Bind::Uuid(node))
        .text(" ORDER BY kind");
    let rows: Vec<Kind> = load(connection, query).await?;
    Ok(rows.into_iter().map(|row| row.kind).collect())
}

/// Writes assets that were retired by a person, and appends that to the log.
///
/// # Errors
/// A statement fails.
pub async fn save_in_txn(
    connection: &mut AsyncPgConnection,
    folded: &Folded,
    actor: &str,
) -> QueryResult<()> {
    let assets = &folded.assets;
    let update = Sql::new(
        "UPDATE asset SET state = gone.state, state_hash = '', revision = gone.revision, \
         stream_number = gone.stream_number, sequence = gone.sequence, batch_index = gone.batch_index, \
         remove_time = gone.remove_time, update_time = gone.update_time FROM unnest(",
    )
    .binds([
        Bind::Uuids(assets.iter().map(|asset| asset.asset).collect()),
        Bind::SmallInts(assets.iter().map(|asset| small(asset.state as i32)).collect()),
        Bind::BigInts(assets.iter().map(|asset| asset.revision).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.version.stream_number).collect()),
        Bind::BigInts(assets.iter().map(|asset| asset.version.sequence).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.version.index).collect()),
        Bind::Times(assets.iter().map(|asset| asset.remove_time).collect()),
        Bind::Times(assets.iter().map(|asset| Some(asset.update_time)).collect()),
    ])
    .text(
        ") AS gone (uid, state, revision, stream_number, sequence, batch_index, remove_time, update_time) \
         WHERE asset.uid = gone.uid",
    );
    execute(connection, update).await?;
    let log = &folded.log;
    let append = Sql::new(
        "INSERT INTO asset_event (record_time, event_uid, type, asset_uid, kind, display_name, node_uid, \
         natural_key, revision, managed_revision, state, details, managed, stream, sequence, batch_index, \
         changed_fields, actor) \
         SELECT row.record_time, row.event_uid, row.type, asset.uid, asset.kind, asset.display_name, \
         asset.node_uid, asset.natural_key, asset.revision, asset.managed_revision, asset.state, \
         asset.details, asset.managed, row.stream, row.sequence, row.batch_index, '{state}', ",
    )
    .bind(Bind::Text(actor.to_owned()))
    .text(" FROM unnest(")
    .binds([
        Bind::Times(log.iter().map(|row| Some(row.record_time)).collect()),
        Bind::Uuids(log.iter().map(|row| row.event).collect()),
        Bind::SmallInts(log.iter().map(|row| small(row.event_type as i32)).collect()),
        Bind::Uuids(log.iter().map(|row| row.after.asset).collect()),
        Bind::Uuids(log.iter().map(|row| row.stream).collect()),
        Bind::BigInts(log.iter().map(|row| row.version.sequence).collect()),
        Bind::Integers(log.iter().map(|row| row.version.index).collect()),
    ])
    .text(
        ") AS row (record_time, event_uid, type, asset_uid, stream, sequence, batch_index) \
         JOIN asset ON asset.uid = row.asset_uid",
    );
    execute(connection, append).await.map(drop)
}

/// Says that a locked node is retired, and forgets what its digests showed: it
/// has nothing any more.
///
/// # Errors
/// A statement fails.
pub async fn finish_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let statements = [
        Sql::new("UPDATE node_kind SET count = 0, sum = 0 WHERE node_uid = ").bind(Bind::Uuid(node)),
        Sql::new("DELETE FROM kind_gap WHERE node_uid = ").bind(Bind::Uuid(node)),
        Sql::new("DELETE FROM node_digests WHERE node_uid = ").bind(Bind::Uuid(node)),
        Sql::new(
            "UPDATE node SET compare_time = NULL, compare_stream = NULL, compare_sequence = NULL, \
             retire_time = coalesce(retire_time, ",
        )
        .bind(Bind::Time(Some(now)))
        .text(") WHERE uid = ")
        .bind(Bind::Uuid(node)),
    ];
    for statement in statements {
        execute(connection, statement).await?;
    }
    Ok(())
}
