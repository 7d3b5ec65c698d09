//! The tables `node` and `collector_contact`: who is heard.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};

/// A node with what is counted for it.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct NodeRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = Text)]
    pub cluster: String,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    #[diesel(sql_type = Timestamptz)]
    pub create_time: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Uid>)]
    pub stream: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pub agent_version: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    pub heartbeat_interval_seconds: i32,
    #[diesel(sql_type = BigInt)]
    pub last_sequence: i64,
    #[diesel(sql_type = BigInt)]
    pub outbox_batches: i64,
    #[diesel(sql_type = BigInt)]
    pub received_sequence: i64,
    #[diesel(sql_type = BigInt)]
    pub active_assets: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub identity_conflict_time: Option<DateTime<Utc>>,
}

const SELECT: &str = "SELECT node.*, \
     coalesce((SELECT upper(part) - 1 FROM node_stream, unnest(received) AS part \
         WHERE node_stream.node_uid = node.uid AND node_stream.stream = node.stream AND lower(part) = 1), 0) \
         AS received_sequence, \
     (SELECT count(*) FROM asset WHERE asset.node_uid = node.uid AND asset.state = 1) AS active_assets \
     FROM node ";

/// Reads one node.
///
/// # Errors
/// The query fails.
pub async fn get(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Option<NodeRow>> {
    let query = Sql::new(SELECT).text("WHERE node.uid = ").bind(Bind::Uuid(uid));
    Ok(load(connection, query).await?.pop())
}

/// How many ACTIVE assets of a kind a node has.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct NodeKindRow {
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// ACTIVE assets of a node by kind.
///
/// # Errors
/// The query fails.
pub async fn active_kinds(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Vec<NodeKindRow>> {
    let query = Sql::new("SELECT kind, count(*) AS count FROM asset WHERE state = 1 AND node_uid = ")
        .bind(Bind::Uuid(uid))
        .text(" GROUP BY kind ORDER BY kind");
    load(connection, query).await
}

/// Lists nodes by display name and UUID, after a given one.
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    after: Option<(String, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<NodeRow>> {
    let mut query = Sql::new(SELECT);
    if let Some((display_name, uid)) = after {
        query = query
            .text("WHERE (node.display_name, node.uid) > (")
            .binds([Bind::Text(display_name), Bind::Uuid(uid)])
            .text(") ");
    }
    load(connection, query.text("ORDER BY node.display_name, node.uid LIMIT ").bind(Bind::BigInt(limit)))
        .await
}

/// A heartbeat, checked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Beat {
    pub uid: Uuid,
    pub cluster: String,
    pub display_name: String,
    pub stream: Uuid,
    pub agent_version: String,
    pub interval_seconds: i32,
    pub last_sequence: i64,
    pub outbox_batches: i64,
    pub held_for_millis: i64,
    pub identity_conflict: bool,
}

/// Records heartbeats and that a collector delivered them, by the database's
/// clock. Each node at most once, sorted by UUID. An older one never replaces a
/// newer one, unless the clock was put back.
///
/// # Errors
/// A statement fails.
pub async fn record_beats_in_txn(
    connection: &mut AsyncPgConnection,
    collector: &str,
    beats: &[Beat],
) -> QueryResult<()> {
    let contact = Sql::new("INSERT INTO collector_contact (collector, contact_time) VALUES (")
        .bind(Bind::Text(collector.to_owned()))
        .text(
            ", clock_timestamp()) ON CONFLICT (collector) DO UPDATE SET contact_time = excluded.contact_time",
        );
    execute(connection, contact).await?;
    if beats.is_empty() {
        return Ok(());
    }
    let upsert = Sql::new(
        "INSERT INTO node (uid, cluster, display_name, stream, agent_version, heartbeat_interval_seconds, \
         last_sequence, outbox_batches, heartbeat_time, identity_conflict_time, create_time) \
         SELECT uid, cluster, display_name, stream, agent_version, heartbeat_interval_seconds, last_sequence, \
         outbox_batches, beat_time, CASE WHEN identity_conflict THEN beat_time END, clock_timestamp() \
         FROM (SELECT *, clock_timestamp() - make_interval(secs => held_for / 1000.0) AS beat_time FROM unnest(",
    )
    .binds([
        Bind::Uuids(beats.iter().map(|beat| beat.uid).collect()),
        Bind::Texts(beats.iter().map(|beat| beat.cluster.clone()).collect()),
        Bind::Texts(beats.iter().map(|beat| beat.display_name.clone()).collect()),
        Bind::Uuids(beats.iter().map(|beat| beat.stream).collect()),
        Bind::Texts(beats.iter().map(|beat| beat.agent_version.clone()).collect()),
        Bind::Integers(beats.iter().map(|beat| beat.interval_seconds).collect()),
        Bind::BigInts(beats.iter().map(|beat| beat.last_sequence).collect()),
        Bind::BigInts(beats.iter().map(|beat| beat.outbox_batches).collect()),
        Bind::BigInts(beats.iter().map(|beat| beat.held_for_millis).collect()),
        Bind::Bools(beats.iter().map(|beat| beat.identity_conflict).collect()),
    ])
    .text(
        ") AS beat (uid, cluster, display_name, stream, agent_version, heartbeat_interval_seconds, \
         last_sequence, outbox_batches, held_for, identity_conflict)) AS beat ORDER BY uid ON CONFLICT (uid) DO UPDATE SET cluster = excluded.cluster, \
         display_name = excluded.display_name, stream = excluded.stream, \
         agent_version = excluded.agent_version, \
         heartbeat_interval_seconds = excluded.heartbeat_interval_seconds, \
         last_sequence = excluded.last_sequence, outbox_batches = excluded.outbox_batches, \
         heartbeat_time = excluded.heartbeat_time, identity_conflict_time = \
         coalesce(excluded.identity_conflict_time, node.identity_conflict_time) \
         WHERE node.heartbeat_time IS NULL OR excluded.heartbeat_time >= node.heartbeat_time \
         OR node.heartbeat_time > clock_timestamp()",
    );
    execute(connection, upsert).await.map(drop)
}

#[derive(QueryableByName)]
struct Contact {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    contact_time: Option<DateTime<Utc>>,
}

/// The database's clock, and when a collector was last heard, by it.
///
/// # Errors
/// The query fails.
pub async fn clock_and_contact(
    connection: &mut AsyncPgConnection,
) -> QueryResult<(DateTime<Utc>, Option<DateTime<Utc>>)> {
    let query = Sql::new(
        "SELECT clock_timestamp() AS now, (SELECT max(contact_time) FROM collector_contact) AS contact_time",
    );
    let row: Contact = load(connection, query).await?.pop().ok_or(diesel::result::Error::NotFound)?;
    Ok((row.now, row.contact_time))
}
