//! The tables `node` and `collector_contact`, as they are asked about.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    completeness::comparison,
    sql::{Bind, Sql, load},
};
use crate::domain::completeness::{Compared, KindState};

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
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retire_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub compare_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uid>)]
    pub compare_stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub compare_sequence: Option<i64>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub compared: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub reported: Option<Vec<u8>>,
}

impl NodeRow {
    /// The newest comparison of its digests.
    pub fn comparison(&self) -> Option<Compared> {
        comparison(self.compare_time, self.compare_stream, self.compare_sequence, self.compared.as_deref())
    }
}

const SELECT: &str = "SELECT node.*, compared, reported, \
     coalesce((SELECT upper(part) - 1 FROM node_stream, unnest(received) AS part \
         WHERE node_stream.node_uid = node.uid AND node_stream.stream = node.stream AND lower(part) = 1), 0) \
         AS received_sequence, \
     coalesce((SELECT sum(count) FROM node_kind WHERE node_kind.node_uid = node.uid), 0)::bigint \
         AS active_assets \
     FROM node LEFT JOIN node_digests ON node_digests.node_uid = node.uid ";

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
    #[diesel(sql_type = Uid)]
    pub node_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// ACTIVE assets of nodes by kind, of which there are some.
///
/// # Errors
/// The query fails.
pub async fn active_kinds(
    connection: &mut AsyncPgConnection,
    nodes: Vec<Uuid>,
) -> QueryResult<Vec<NodeKindRow>> {
    let query = Sql::new("SELECT node_uid, kind, count FROM node_kind WHERE count > 0 AND node_uid = ANY(")
        .bind(Bind::Uuids(nodes))
        .text(") ORDER BY node_uid, kind");
    load(connection, query).await
}

#[derive(QueryableByName)]
struct LetterRow {
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many sequences of a node's newest stream were waived for each kind, or
/// for kinds that are not known, since the kind was complete.
///
/// # Errors
/// The query fails.
pub async fn waived_since_complete(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    kinds: &[KindState],
) -> QueryResult<HashMap<i16, i64>> {
    let query = Sql::new(
        "SELECT told.kind, count(*) AS count FROM (SELECT stream FROM node_stream WHERE node_uid = ",
    )
    .bind(Bind::Uuid(node))
    .text(" ORDER BY number DESC LIMIT 1) AS newest JOIN waived_sequence AS waived ON waived.node_uid = ")
    .bind(Bind::Uuid(node))
    .text(" AND waived.stream = newest.stream JOIN unnest(")
    .binds([
        Bind::SmallInts(kinds.iter().map(|kind| kind.kind).collect()),
        Bind::MaybeUuids(kinds.iter().map(|kind| kind.complete.map(|point| point.stream)).collect()),
        Bind::MaybeBigInts(kinds.iter().map(|kind| kind.complete.map(|point| point.sequence)).collect()),
    ])
    .text(
        ") AS told (kind, stream, sequence) \
         ON (told.stream IS DISTINCT FROM newest.stream OR waived.sequence > told.sequence) \
         AND (waived.kinds = '{}' OR told.kind = ANY(waived.kinds)) GROUP BY told.kind",
    );
    let rows: Vec<LetterRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(|row| (row.kind, row.count)).collect())
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
