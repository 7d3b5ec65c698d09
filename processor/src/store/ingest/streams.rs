//! Nodes, their locks and their streams.

use std::ops::Bound;

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, QueryDsl, QueryResult, QueryableByName,
    sql_types::{BigInt, Bool, Integer, Multirange, Nullable, Timestamptz, Uuid as Uid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::{
    schema::node_stream,
    store::sql::{Bind, Sql, execute, load},
};

/// A node that reports, for its first batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewNode {
    pub uid: Uuid,
    pub cluster: String,
    pub display_name: String,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Uid)]
    uid: Uuid,
}

/// Locks nodes, in order of their UUIDs, and makes those of `new` that are not
/// there. Everything that an agent reports is folded under its node's lock.
/// `others` are locked too, if they are there.
///
/// # Errors
/// A statement fails.
pub async fn lock_nodes_in_txn(
    connection: &mut AsyncPgConnection,
    new: &[NewNode],
    others: &[Uuid],
) -> QueryResult<()> {
    let mut uids: Vec<Uuid> = new.iter().map(|node| node.uid).chain(others.iter().copied()).collect();
    uids.sort_unstable();
    uids.dedup();
    let lock = || {
        // Not FOR UPDATE: what refers to the node may be written meanwhile.
        Sql::new("SELECT uid FROM node WHERE uid = ANY(")
            .bind(Bind::Uuids(uids.clone()))
            .text(") ORDER BY uid FOR NO KEY UPDATE")
    };
    let locked: Vec<Locked> = load(connection, lock()).await?;
    let new: Vec<&NewNode> =
        new.iter().filter(|node| !locked.iter().any(|locked| locked.uid == node.uid)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let insert = Sql::new(
        "INSERT INTO node (uid, cluster, display_name, create_time) SELECT *, clock_timestamp() FROM unnest(",
    )
    .binds([
        Bind::Uuids(new.iter().map(|node| node.uid).collect()),
        Bind::Texts(new.iter().map(|node| node.cluster.clone()).collect()),
        Bind::Texts(new.iter().map(|node| node.display_name.clone()).collect()),
    ])
    .text(") AS new (uid) ORDER BY uid ON CONFLICT (uid) DO NOTHING");
    execute(connection, insert).await?;
    load::<Locked>(connection, lock()).await.map(drop)
}

/// A stream of a node.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct StreamRow {
    pub stream: Uuid,
    pub number: i32,
    /// Sequences received, as PostgreSQL keeps them: [from, to).
    pub received: Vec<(Bound<i64>, Bound<i64>)>,
    pub create_time: DateTime<Utc>,
    /// Whether snapshots of it wait for batches.
    pub has_pending: bool,
}

/// A locked node with all of its streams.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NodeState {
    pub uid: Uuid,
    /// Stream that its newest heartbeat named, and when that came.
    pub heartbeat: Option<(Uuid, DateTime<Utc>)>,
    pub streams: Vec<StreamRow>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Uid>)]
    uid: Option<Uuid>,
    #[diesel(sql_type = Nullable<Uid>)]
    live_stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uid>)]
    stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<Integer>)]
    number: Option<i32>,
    #[diesel(sql_type = Nullable<Multirange<BigInt>>)]
    received: Option<Vec<(Bound<i64>, Bound<i64>)>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    create_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    has_pending: bool,
}

/// Locked nodes with their streams, and the time by the database's clock, taken
/// under the locks: what is recorded now was recorded then.
///
/// # Errors
/// The query fails.
pub async fn streams_in_txn(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
) -> QueryResult<(DateTime<Utc>, Vec<NodeState>)> {
    let query = Sql::new(
        "SELECT now, node.uid, node.stream AS live_stream, node.heartbeat_time, \
         node_stream.stream, node_stream.number, node_stream.received, node_stream.create_time, \
         EXISTS (SELECT FROM pending_snapshot AS pending WHERE pending.node_uid = node.uid \
         AND pending.stream = node_stream.stream) AS has_pending \
         FROM clock_timestamp() AS now LEFT JOIN node ON node.uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(") LEFT JOIN node_stream ON node_stream.node_uid = node.uid ORDER BY node.uid");
    let rows: Vec<Row> = load(connection, query).await?;
    let now = rows.iter().map(|row| row.now).min().ok_or(diesel::result::Error::NotFound)?;
    let mut found: Vec<NodeState> = Vec::new();
    for row in rows {
        // None of them is there.
        let Some(uid) = row.uid else { continue };
        if found.last().is_none_or(|node| node.uid != uid) {
            let heartbeat = row.live_stream.zip(row.heartbeat_time);
            found.push(NodeState { uid, heartbeat, streams: Vec::new() });
        }
        let stream = row.stream.zip(row.number).zip(row.received).zip(row.create_time);
        if let (Some(node), Some((((stream, number), received), create_time))) = (found.last_mut(), stream) {
            let has_pending = row.has_pending;
            node.streams.push(StreamRow { stream, number, received, create_time, has_pending });
        }
    }
    Ok((now, found))
}

/// Makes a stream of a locked node, of which some sequences were waived already.
///
/// # Errors
/// The statement fails.
pub async fn insert_stream_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    row: &StreamRow,
) -> QueryResult<()> {
    diesel::insert_into(node_stream::table)
        .values((
            node_stream::node_uid.eq(node),
            node_stream::stream.eq(row.stream),
            node_stream::number.eq(row.number),
            node_stream::received.eq(&row.received),
            node_stream::create_time.eq(row.create_time),
        ))
        .execute(connection)
        .await
        .map(drop)
}

/// Gives a stream of a locked node another number.
///
/// # Errors
/// The statement fails.
pub async fn renumber_stream_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    stream: Uuid,
    number: i32,
) -> QueryResult<()> {
    diesel::update(node_stream::table.find((node, stream)))
        .set(node_stream::number.eq(number))
        .execute(connection)
        .await
        .map(drop)
}
