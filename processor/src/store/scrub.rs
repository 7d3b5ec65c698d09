//! What the scrub writes, and how far it is: the table `scrub_round`.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bool, Nullable, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    integrity::{Uuids, Whose, of},
    sql::{Bind, Sql, execute, load},
};
use crate::domain::refold::Expected;

/// Assets of which the log or the base tells a revision, and that are not there;
/// at most 1,000.
///
/// # Errors
/// The query fails.
pub async fn missing_assets(connection: &mut AsyncPgConnection, whose: Whose) -> QueryResult<Vec<Uuid>> {
    let query = Sql::new("SELECT asset_uid AS uid FROM asset_event WHERE revision IS NOT NULL AND ")
        .then(of(whose))
        .text(" AND NOT EXISTS (SELECT FROM asset WHERE uid = asset_uid) UNION SELECT asset_uid FROM asset_base WHERE ")
        .then(of(whose))
        .text(" AND NOT EXISTS (SELECT FROM asset WHERE uid = asset_uid) LIMIT 1000");
    Ok(load::<Uuids>(connection, query).await?.into_iter().map(|row| row.uid).collect())
}

/// Locks a node as ingest does; tells whether it is there.
///
/// # Errors
/// The query fails.
pub async fn lock_node_in_txn(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<bool> {
    let query = Sql::new("SELECT uid FROM node WHERE uid = ").bind(Bind::Uuid(node)).text(" FOR UPDATE");
    Ok(!load::<Uuids>(connection, query).await?.is_empty())
}

/// Writes state hashes of assets of a locked node, sorted by UUID.
///
/// # Errors
/// The statement fails.
pub async fn replace_hashes_in_txn(
    connection: &mut AsyncPgConnection,
    hashes: &[(Uuid, Vec<u8>)],
) -> QueryResult<()> {
    let update = Sql::new("UPDATE asset SET state_hash = new.state_hash FROM unnest(")
        .binds([
            Bind::Uuids(hashes.iter().map(|(asset, _)| *asset).collect()),
            Bind::ByteStrings(hashes.iter().map(|(_, hash)| Some(hash.clone())).collect()),
        ])
        .text(") AS new (uid, state_hash) WHERE asset.uid = new.uid");
    execute(connection, update).await.map(drop)
}

/// Writes the digests of a locked node.
///
/// # Errors
/// The statement fails.
pub async fn write_digests_in_txn(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    digests: &[(i16, kit::digest::Digest)],
) -> QueryResult<()> {
    let upsert = Sql::new("INSERT INTO node_kind (node_uid, kind, count, sum) SELECT ")
        .bind(Bind::Uuid(node))
        .text(", kind, count, sum::numeric FROM unnest(")
        .binds([
            Bind::SmallInts(digests.iter().map(|(kind, _)| *kind).collect()),
            Bind::BigInts(digests.iter().map(|(_, digest)| digest.count.cast_signed()).collect()),
            Bind::Texts(digests.iter().map(|(_, digest)| digest.sum.to_string()).collect()),
        ])
        .text(
            ") AS new (kind, count, sum) ON CONFLICT (node_uid, kind) DO UPDATE \
             SET count = excluded.count, sum = excluded.sum",
        );
    execute(connection, upsert).await.map(drop)
}

/// A row of `asset` that is made anew from the log.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Restored {
    pub asset: Uuid,
    pub node: Option<Uuid>,
    pub expected: Expected,
    pub natural_key: String,
    pub display_name: String,
    pub details: Option<Vec<u8>>,
    pub managed: Option<Vec<u8>>,
    pub attributes: serde_json::Value,
    pub state_hash: Option<Vec<u8>>,
}

/// Inserts an asset of a locked node, or of none, unless it is there; tells whether it was
/// not.
///
/// # Errors
/// The statement fails.
pub async fn restore_in_txn(connection: &mut AsyncPgConnection, row: Restored) -> QueryResult<bool> {
    let expected = row.expected;
    let insert = Sql::new(
        "INSERT INTO asset (uid, kind, display_name, node_uid, natural_key, state, details, managed, \
         attributes, revision, managed_revision, stream_number, sequence, batch_index, seen_stream_number, \
         seen_sequence, seen_batch_index, state_hash, first_seen_time, remove_time, create_time, update_time, \
         delete_time) VALUES (",
    )
    .binds([
        Bind::Uuid(row.asset),
        Bind::SmallInt(expected.kind),
        Bind::Text(row.display_name),
        Bind::MaybeUuid(row.node),
        Bind::Text(row.natural_key),
        Bind::SmallInt(expected.state),
        Bind::Bytes(row.details),
        Bind::Bytes(row.managed),
        Bind::Json(row.attributes),
        Bind::BigInt(expected.revision),
        Bind::BigInt(expected.managed_revision),
        Bind::Integer(expected.version.stream_number),
        Bind::BigInt(expected.version.sequence),
        Bind::Integer(expected.version.index),
        Bind::Integer(expected.seen.stream_number),
        Bind::BigInt(expected.seen.sequence),
        Bind::Integer(expected.seen.index),
        Bind::Bytes(row.state_hash),
        Bind::Time(row.node.map(|_| expected.first_time)),
        Bind::Time(expected.remove_time),
        Bind::Time(Some(expected.first_time)),
        Bind::Time(Some(expected.update_time)),
        Bind::Time(expected.delete_time),
    ])
    .text(") ON CONFLICT (uid) DO NOTHING");
    Ok(execute(connection, insert).await? > 0)
}

/// How far the scrub's newest round is.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct RoundRow {
    #[diesel(sql_type = Nullable<Uid>)]
    pub after_node: Option<Uuid>,
    /// Seconds since it began.
    #[diesel(sql_type = BigInt)]
    pub age_seconds: i64,
    /// Whether it has ended.
    #[diesel(sql_type = Bool)]
    pub ended: bool,
}

/// The scrub's newest round; none before the first.
///
/// # Errors
/// The query fails.
pub async fn round(connection: &mut AsyncPgConnection) -> QueryResult<Option<RoundRow>> {
    let query = "SELECT after_node, extract(epoch FROM clock_timestamp() - begin_time)::bigint AS age_seconds, \
         end_time IS NOT NULL AS ended FROM scrub_round";
    Ok(load(connection, Sql::new(query)).await?.pop())
}

/// Begins a round.
///
/// # Errors
/// The statement fails.
pub async fn begin_round(connection: &mut AsyncPgConnection) -> QueryResult<()> {
    let upsert = "INSERT INTO scrub_round (begin_time) VALUES (clock_timestamp()) ON CONFLICT (one) \
         DO UPDATE SET after_node = NULL, begin_time = excluded.begin_time, end_time = NULL";
    execute(connection, Sql::new(upsert)).await.map(drop)
}

/// Notes how far the round is; none, that it has ended.
///
/// # Errors
/// The statement fails.
pub async fn note_round(connection: &mut AsyncPgConnection, after_node: Option<Uuid>) -> QueryResult<()> {
    let update = match after_node {
        Some(node) => Sql::new("UPDATE scrub_round SET after_node = ").bind(Bind::Uuid(node)),
        None => Sql::new("UPDATE scrub_round SET after_node = NULL, end_time = clock_timestamp()"),
    };
    execute(connection, update).await.map(drop)
}

/// The node after a given one.
///
/// # Errors
/// The query fails.
pub async fn next_node(connection: &mut AsyncPgConnection, after: Option<Uuid>) -> QueryResult<Option<Uuid>> {
    let mut query = Sql::new("SELECT uid FROM node");
    if let Some(after) = after {
        query = query.text(" WHERE uid > ").bind(Bind::Uuid(after));
    }
    let rows: Vec<Uuids> = load(connection, query.text(" ORDER BY uid LIMIT 1")).await?;
    Ok(rows.first().map(|row| row.uid))
}

/// Drops what is kept of a superseded state.
///
/// # Errors
/// The statement fails.
pub async fn forget_state_in_txn(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    revision: i64,
) -> QueryResult<()> {
    let delete = Sql::new("DELETE FROM asset_past WHERE uid = ")
        .bind(Bind::Uuid(asset))
        .text(" AND revision = ")
        .bind(Bind::BigInt(revision));
    execute(connection, delete).await.map(drop)
}

/// Makes a superseded state anew, as base and log have it, with its searchable form.
///
/// # Errors
/// The statement fails.
pub async fn restore_state_in_txn(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    revision: i64,
    attributes: serde_json::Value,
) -> QueryResult<()> {
    let told = |table: &str| {
        Sql::new(format!(
            "SELECT asset_uid AS uid, revision, managed_revision, state, display_name, type, \
             record_time AS update_time FROM {table} WHERE revision IS NOT NULL AND asset_uid = "
        ))
        .bind(Bind::Uuid(asset))
    };
    // What made it REMOVED (3), and the newest of what deletes (6), undeletes (7) and
    // brings back (1), up to then.
    let insert = Sql::new(
        "INSERT INTO asset_past (uid, revision, managed_revision, update_time, until_time, remove_time, \
         delete_time, state, renamed, display_name, attributes) WITH told AS (",
    )
    .then(told("asset_event"))
    .text(" UNION ALL ")
    .then(told("asset_base"))
    .text(
        "), visible AS (SELECT DISTINCT ON (update_time) * FROM told ORDER BY update_time, revision DESC), \
         spans AS (SELECT *, lead(update_time) OVER later AS until_time, \
         lead(display_name) OVER later <> display_name AS renamed FROM visible \
         WINDOW later AS (ORDER BY update_time)) \
         SELECT uid, revision, managed_revision, update_time, until_time, \
         CASE state WHEN 2 THEN (SELECT max(update_time) FROM told AS one \
         WHERE one.type = 3 AND one.revision <= spans.revision) END, \
         (SELECT CASE one.type WHEN 6 THEN one.update_time END FROM told AS one \
         WHERE one.type IN (1, 6, 7) AND one.revision <= spans.revision ORDER BY one.revision DESC LIMIT 1), \
         state, renamed, display_name, ",
    )
    .bind(Bind::Json(attributes))
    .text(" FROM spans WHERE until_time IS NOT NULL AND revision = ")
    .bind(Bind::BigInt(revision));
    execute(connection, insert).await.map(drop)
}
