//! The bulk statements of ingest: one round trip each, whatever the size.

use std::ops::Bound;

use chrono::{DateTime, Utc};
use contracts::v1::{AssetKind, AssetState};
use diesel::{
    ExpressionMethods, QueryDsl, QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use kit::queue::HEARTBEAT_TTL_MILLIS;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};
use crate::{
    domain::fold::{Known, Logged, Version},
    schema::node_stream,
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

/// Locks the nodes, in order of their UUIDs, and makes those that are new.
/// Everything that an agent reports is folded under its node's lock.
///
/// # Errors
/// A statement fails.
pub async fn lock_nodes_in_txn(connection: &mut AsyncPgConnection, nodes: &[NewNode]) -> QueryResult<()> {
    let uids: Vec<Uuid> = nodes.iter().map(|node| node.uid).collect();
    let lock = || {
        Sql::new("SELECT uid FROM node WHERE uid = ANY(")
            .bind(Bind::Uuids(uids.clone()))
            .text(") ORDER BY uid FOR UPDATE")
    };
    let locked: Vec<Locked> = load(connection, lock()).await?;
    if locked.len() == nodes.len() {
        return Ok(());
    }
    let new: Vec<&NewNode> =
        nodes.iter().filter(|node| !locked.iter().any(|locked| locked.uid == node.uid)).collect();
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
#[derive(Clone, Debug, diesel::Queryable)]
#[allow(missing_docs)]
pub struct StreamRow {
    pub node_uid: Uuid,
    pub stream: Uuid,
    pub number: i32,
    pub received: Vec<(Bound<i64>, Bound<i64>)>,
}

/// All streams of locked nodes.
///
/// # Errors
/// The query fails.
pub async fn streams_in_txn(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
) -> QueryResult<Vec<StreamRow>> {
    node_stream::table
        .filter(node_stream::node_uid.eq_any(nodes))
        .select((node_stream::node_uid, node_stream::stream, node_stream::number, node_stream::received))
        .load(connection)
        .await
}

/// Makes a stream of a locked node.
///
/// # Errors
/// The statement fails.
pub async fn insert_stream_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    stream: Uuid,
    number: i32,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    diesel::insert_into(node_stream::table)
        .values((
            node_stream::node_uid.eq(node),
            node_stream::stream.eq(stream),
            node_stream::number.eq(number),
            node_stream::received.eq(Vec::<(Bound<i64>, Bound<i64>)>::new()),
            node_stream::create_time.eq(now),
        ))
        .execute(connection)
        .await
        .map(drop)
}

#[derive(QueryableByName)]
struct LiveStream {
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = Uid)]
    stream: Uuid,
}

/// Streams of locked nodes that live heartbeats name although another one was
/// seen first later: as (node, stream). A heartbeat counts that came at least
/// `HEARTBEAT_TTL` after that other stream appeared, so that none which waited
/// in its queue decides.
///
/// # Errors
/// The query fails.
pub async fn overtaken_streams_in_txn(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
) -> QueryResult<Vec<(Uuid, Uuid)>> {
    let query = Sql::new(
        "SELECT live.node_uid, live.stream FROM node \
         JOIN node_stream AS live ON live.node_uid = node.uid AND live.stream = node.stream \
         WHERE EXISTS (SELECT FROM node_stream AS other WHERE other.node_uid = node.uid \
         AND other.number > live.number) \
         AND NOT EXISTS (SELECT FROM node_stream AS other WHERE other.node_uid = node.uid \
         AND other.number > live.number \
         AND node.heartbeat_time < other.create_time + make_interval(secs => ",
    )
    .bind(Bind::BigInt(i64::from(HEARTBEAT_TTL_MILLIS)))
    .text(" / 1000.0)) AND node.uid = ANY(")
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(")");
    let rows: Vec<LiveStream> = load(connection, query).await?;
    Ok(rows.into_iter().map(|row| (row.node_uid, row.stream)).collect())
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

/// Adds sequences to what their streams have received.
///
/// # Errors
/// The statement fails.
pub async fn receive_in_txn(
    connection: &mut AsyncPgConnection,
    received: &[(Uuid, Uuid, i64)],
) -> QueryResult<()> {
    let update = Sql::new(
        "UPDATE node_stream SET received = node_stream.received + new.ranges FROM (\
         SELECT node_uid, stream, range_agg(int8range(sequence, sequence, '[]')) AS ranges FROM unnest(",
    )
    .binds([
        Bind::Uuids(received.iter().map(|(node, ..)| *node).collect()),
        Bind::Uuids(received.iter().map(|(_, stream, _)| *stream).collect()),
        Bind::BigInts(received.iter().map(|(.., sequence)| *sequence).collect()),
    ])
    .text(
        ") AS one (node_uid, stream, sequence) GROUP BY node_uid, stream) AS new \
         WHERE node_stream.node_uid = new.node_uid AND node_stream.stream = new.stream",
    );
    execute(connection, update).await.map(drop)
}

#[derive(QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = Uid)]
    uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Text)]
    display_name: String,
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = Text)]
    natural_key: String,
    #[diesel(sql_type = SmallInt)]
    state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    managed: Option<Vec<u8>>,
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
    state_hash: Option<Vec<u8>>,
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
            natural_key: row.natural_key,
            display_name: row.display_name,
            state: AssetState::try_from(i32::from(row.state)).unwrap_or_default(),
            details: row.details,
            managed: row.managed,
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
            state_hash: row.state_hash.unwrap_or_default(),
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

/// Locks assets, in order of their UUIDs, and tells what is known of them.
///
/// # Errors
/// The query fails.
pub async fn known_in_txn(connection: &mut AsyncPgConnection, assets: Vec<Uuid>) -> QueryResult<Vec<Known>> {
    let query =
        Sql::new(KNOWN).text("WHERE uid = ANY(").bind(Bind::Uuids(assets)).text(") ORDER BY uid FOR UPDATE");
    let rows: Vec<KnownRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// Locks the assets of a kind on a node that are ACTIVE and older than a
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
        .text(") ORDER BY uid FOR UPDATE");
    let rows: Vec<KnownRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// Appends to the log.
///
/// # Errors
/// The statement fails.
pub async fn append_in_txn(connection: &mut AsyncPgConnection, log: &[Logged]) -> QueryResult<()> {
    if log.is_empty() {
        return Ok(());
    }
    // An array of arrays must be even; the paths travel joined.
    let changed = log.iter().map(|row| row.changed_fields.join("\n")).collect();
    let insert = Sql::new(
        "INSERT INTO asset_event (record_time, event_uid, type, asset_uid, kind, display_name, node_uid, \
         natural_key, revision, managed_revision, state, details, managed, observe_time, stream, sequence, \
         batch_index, changed_fields, actor) \
         SELECT record_time, event_uid, type, asset_uid, kind, display_name, node_uid, natural_key, revision, \
         managed_revision, state, details, managed, observe_time, stream, sequence, batch_index, \
         coalesce(string_to_array(nullif(changed, ''), E'\\n'), '{}'), 'agent' FROM unnest(",
    )
    .binds([
        Bind::Times(log.iter().map(|row| Some(row.record_time)).collect()),
        Bind::Uuids(log.iter().map(|row| row.event).collect()),
        Bind::SmallInts(log.iter().map(|row| small(row.event_type as i32)).collect()),
        Bind::Uuids(log.iter().map(|row| row.after.asset).collect()),
        Bind::SmallInts(log.iter().map(|row| small(row.after.kind as i32)).collect()),
        Bind::Texts(log.iter().map(|row| row.after.display_name.clone()).collect()),
        Bind::Uuids(log.iter().map(|row| row.after.node).collect()),
        Bind::Texts(log.iter().map(|row| row.after.natural_key.clone()).collect()),
        Bind::MaybeBigInts(log.iter().map(|row| row.revision).collect()),
        Bind::BigInts(log.iter().map(|row| row.after.managed_revision).collect()),
        Bind::SmallInts(log.iter().map(|row| small(row.after.state as i32)).collect()),
        Bind::ByteStrings(log.iter().map(|row| row.after.details.clone()).collect()),
        Bind::ByteStrings(log.iter().map(|row| row.after.managed.clone()).collect()),
        Bind::Times(log.iter().map(|row| row.observe_time).collect()),
        Bind::Uuids(log.iter().map(|row| row.stream).collect()),
        Bind::BigInts(log.iter().map(|row| row.version.sequence).collect()),
        Bind::Integers(log.iter().map(|row| row.version.index).collect()),
        Bind::Texts(changed),
    ])
    .text(
        ") AS row (record_time, event_uid, type, asset_uid, kind, display_name, node_uid, natural_key, \
         revision, managed_revision, state, details, managed, observe_time, stream, sequence, batch_index, \
         changed)",
    );
    execute(connection, insert).await.map(drop)
}

/// Writes the observed side of assets, each once and sorted by UUID, with its
/// searchable form. The managed side is not touched, but for one thing: an asset
/// that is seen again is no deleted record any more (ADR 7).
///
/// # Errors
/// The statement fails.
pub async fn save_in_txn(
    connection: &mut AsyncPgConnection,
    assets: &[Known],
    searchable: Vec<serde_json::Value>,
) -> QueryResult<()> {
    if assets.is_empty() {
        return Ok(());
    }
    let upsert = Sql::new(
        "INSERT INTO asset (uid, kind, display_name, node_uid, natural_key, state, details, attributes, \
         revision, stream_number, sequence, batch_index, seen_stream_number, seen_sequence, seen_batch_index, \
         state_hash, first_seen_time, remove_time, create_time, update_time) SELECT * FROM unnest(",
    )
    .binds([
        Bind::Uuids(assets.iter().map(|asset| asset.asset).collect()),
        Bind::SmallInts(assets.iter().map(|asset| small(asset.kind as i32)).collect()),
        Bind::Texts(assets.iter().map(|asset| asset.display_name.clone()).collect()),
        Bind::Uuids(assets.iter().map(|asset| asset.node).collect()),
        Bind::Texts(assets.iter().map(|asset| asset.natural_key.clone()).collect()),
        Bind::SmallInts(assets.iter().map(|asset| small(asset.state as i32)).collect()),
        Bind::ByteStrings(assets.iter().map(|asset| asset.details.clone()).collect()),
        Bind::Jsons(searchable),
        Bind::BigInts(assets.iter().map(|asset| asset.revision).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.version.stream_number).collect()),
        Bind::BigInts(assets.iter().map(|asset| asset.version.sequence).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.version.index).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.seen.stream_number).collect()),
        Bind::BigInts(assets.iter().map(|asset| asset.seen.sequence).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.seen.index).collect()),
        Bind::ByteStrings(assets.iter().map(|asset| Some(asset.state_hash.clone())).collect()),
        Bind::Times(assets.iter().map(|asset| asset.first_seen_time).collect()),
        Bind::Times(assets.iter().map(|asset| asset.remove_time).collect()),
        Bind::Times(assets.iter().map(|asset| Some(asset.create_time)).collect()),
        Bind::Times(assets.iter().map(|asset| Some(asset.update_time)).collect()),
    ])
    .text(
        ") ON CONFLICT (uid) DO UPDATE SET display_name = excluded.display_name, state = excluded.state, \
         details = excluded.details, attributes = asset.attributes || excluded.attributes, \
         revision = excluded.revision, stream_number = excluded.stream_number, \
         sequence = excluded.sequence, batch_index = excluded.batch_index, \
         seen_stream_number = excluded.seen_stream_number, seen_sequence = excluded.seen_sequence, \
         seen_batch_index = excluded.seen_batch_index, \
         state_hash = excluded.state_hash, first_seen_time = excluded.first_seen_time, \
         remove_time = excluded.remove_time, update_time = excluded.update_time, \
         delete_time = CASE WHEN excluded.state = 1 THEN NULL ELSE asset.delete_time END",
    );
    execute(connection, upsert).await.map(drop)
}

/// A snapshot of one kind on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
#[allow(missing_docs)]
pub struct SnapshotRow {
    #[diesel(sql_type = Uid)]
    pub node_uid: Uuid,
    #[diesel(sql_type = Uid)]
    pub stream: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub first_sequence: i64,
    #[diesel(sql_type = BigInt)]
    pub last_sequence: i64,
}

/// Notes snapshots, then takes those of these nodes off the list that are
/// complete.
///
/// # Errors
/// A statement fails.
pub async fn complete_snapshots_in_txn(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
    new: &[SnapshotRow],
) -> QueryResult<Vec<SnapshotRow>> {
    if !new.is_empty() {
        let insert = Sql::new(
            "INSERT INTO pending_snapshot (node_uid, stream, kind, first_sequence, last_sequence) \
             SELECT * FROM unnest(",
        )
        .binds([
            Bind::Uuids(new.iter().map(|snapshot| snapshot.node_uid).collect()),
            Bind::Uuids(new.iter().map(|snapshot| snapshot.stream).collect()),
            Bind::SmallInts(new.iter().map(|snapshot| snapshot.kind).collect()),
            Bind::BigInts(new.iter().map(|snapshot| snapshot.first_sequence).collect()),
            Bind::BigInts(new.iter().map(|snapshot| snapshot.last_sequence).collect()),
        ])
        .text(") ON CONFLICT DO NOTHING");
        execute(connection, insert).await?;
    }
    let complete = Sql::new(
        "DELETE FROM pending_snapshot AS snapshot USING node_stream \
         WHERE node_stream.node_uid = snapshot.node_uid AND node_stream.stream = snapshot.stream \
         AND node_stream.received @> int8range(first_sequence, last_sequence, '[]') \
         AND snapshot.node_uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(") RETURNING snapshot.node_uid, snapshot.stream, kind, first_sequence, last_sequence");
    load(connection, complete).await
}

/// An enum's number as it is stored.
pub fn small(number: i32) -> i16 {
    i16::try_from(number).unwrap_or_default()
}
