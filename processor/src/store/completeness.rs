//! What heartbeats are compared with, and what that shows: columns of `node`,
//! and the tables `node_kind` and `kind_gap`. One round trip each for all nodes.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use contracts::v1::Heartbeat;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use kit::digest::Digest;
use prost::Message;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};
use crate::domain::completeness::{Asked, Compared, CurrentStream, Digests, Gap, Point, Waived};

/// A node's state that its next heartbeat meets.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct HeardRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub compare_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uid>)]
    pub compare_stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub compare_sequence: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub new_stream_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    pub new_stream_count: i32,
}

impl HeardRow {
    /// The newest comparison, of these digests.
    pub fn comparison(&self, compared: Option<&[u8]>) -> Option<Compared> {
        comparison(self.compare_time, self.compare_stream, self.compare_sequence, compared)
    }
}

/// A comparison out of the columns of `node`.
pub fn comparison(
    time: Option<DateTime<Utc>>,
    stream: Option<Uuid>,
    sequence: Option<i64>,
    digests: Option<&[u8]>,
) -> Option<Compared> {
    let at = point(time, stream, sequence)?;
    Some(Compared { at, digests: digests.map(decode).unwrap_or_default() })
}

fn point(time: Option<DateTime<Utc>>, stream: Option<Uuid>, sequence: Option<i64>) -> Option<Point> {
    Some(Point { time: time?, stream: stream?, sequence: sequence? })
}

/// Digests as `node` keeps them.
pub fn encode(digests: &Digests) -> Vec<u8> {
    let one = |(kind, digest): (&i16, &Digest)| contracts::v1::KindDigest {
        kind: i32::from(*kind),
        count: digest.count,
        sum: digest.sum.to_be_bytes().to_vec(),
    };
    Heartbeat { digests: digests.iter().map(one).collect(), ..Heartbeat::default() }.encode_to_vec()
}

/// The opposite of [`encode`].
pub fn decode(encoded: &[u8]) -> Digests {
    let told = Heartbeat::decode(encoded).unwrap_or_default().digests;
    let one = |told: contracts::v1::KindDigest| {
        let sum = u128::from_be_bytes(told.sum.try_into().ok()?);
        Some((i16::try_from(told.kind).ok()?, Digest { count: told.count, sum }))
    };
    told.into_iter().filter_map(one).collect()
}

/// Locks nodes in order of their UUIDs, as ingest does, and tells what is known
/// of them.
///
/// # Errors
/// The query fails.
pub async fn lock_in_txn(connection: &mut AsyncPgConnection, nodes: &[Uuid]) -> QueryResult<Vec<HeardRow>> {
    let query = Sql::new(
        "SELECT uid, heartbeat_time, compare_time, compare_stream, compare_sequence, \
         new_stream_time, new_stream_count FROM node WHERE uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(") ORDER BY uid FOR NO KEY UPDATE");
    load(connection, query).await
}

/// What a node's agent told.
#[derive(Clone, Debug, Default, PartialEq, Eq, QueryableByName)]
#[allow(missing_docs)]
pub struct ToldRow {
    #[diesel(sql_type = Uid)]
    pub node_uid: Uuid,
    /// The digests compared last, encoded.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub compared: Option<Vec<u8>>,
    /// Those of the newest heartbeat, if they could not be.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub reported: Option<Vec<u8>>,
}

/// What the agents of nodes told.
///
/// # Errors
/// The query fails.
pub async fn told(connection: &mut AsyncPgConnection, nodes: &[Uuid]) -> QueryResult<HashMap<Uuid, ToldRow>> {
    let query = Sql::new("SELECT node_uid, compared, reported FROM node_digests WHERE node_uid = ANY(")
        .bind(Bind::Uuids(nodes.to_vec()))
        .text(")");
    let rows: Vec<ToldRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(|row| (row.node_uid, row)).collect())
}

/// Writes what agents told, where that is new.
///
/// # Errors
/// The statement fails.
pub async fn save_told(connection: &mut AsyncPgConnection, told: &[ToldRow]) -> QueryResult<()> {
    if told.is_empty() {
        return Ok(());
    }
    let upsert = Sql::new("INSERT INTO node_digests (node_uid, compared, reported) SELECT * FROM unnest(")
        .binds([
            Bind::Uuids(told.iter().map(|row| row.node_uid).collect()),
            Bind::ByteStrings(told.iter().map(|row| row.compared.clone()).collect()),
            Bind::ByteStrings(told.iter().map(|row| row.reported.clone()).collect()),
        ])
        .text(
            ") ON CONFLICT (node_uid) DO UPDATE SET compared = excluded.compared, reported = excluded.reported",
        );
    execute(connection, upsert).await.map(drop)
}

#[derive(QueryableByName)]
struct CurrentRow {
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = Uid)]
    stream: Uuid,
    #[diesel(sql_type = BigInt)]
    next_sequence: i64,
    #[diesel(sql_type = Bool)]
    whole: bool,
    #[diesel(sql_type = Timestamptz)]
    receive_time: DateTime<Utc>,
}

/// The newest stream of each of these nodes that has one. They must be locked,
/// or it may be an older one when it is looked at.
///
/// # Errors
/// The query fails.
pub async fn current_streams(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
) -> QueryResult<HashMap<Uuid, CurrentStream>> {
    let query = Sql::new(
        "SELECT DISTINCT ON (node_uid) node_uid, stream, coalesce(upper(received), 1) AS next_sequence, \
         isempty(received) OR received = int8multirange(int8range(1, upper(received))) AS whole, \
         coalesce(receive_time, create_time) AS receive_time FROM node_stream WHERE node_uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(") ORDER BY node_uid, number DESC");
    let rows: Vec<CurrentRow> = load(connection, query).await?;
    let streams = rows.into_iter().map(|row| {
        let CurrentRow { stream, next_sequence, whole, receive_time, .. } = row;
        (row.node_uid, CurrentStream { stream, next_sequence, whole, receive_time })
    });
    Ok(streams.collect())
}

#[derive(QueryableByName)]
struct DigestsRow {
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = Array<SmallInt>)]
    kinds: Vec<i16>,
    #[diesel(sql_type = Array<BigInt>)]
    counts: Vec<i64>,
    #[diesel(sql_type = Array<Text>)]
    sums: Vec<String>,
}

/// The digests of what is recorded of nodes.
///
/// # Errors
/// The query fails.
pub async fn digests(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
) -> QueryResult<HashMap<Uuid, Digests>> {
    let query = Sql::new(
        "SELECT node_uid, array_agg(kind) AS kinds, array_agg(count) AS counts, array_agg(sum::text) AS sums \
         FROM node_kind WHERE node_uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(") GROUP BY node_uid");
    let rows: Vec<DigestsRow> = load(connection, query).await?;
    let mut digests = HashMap::with_capacity(rows.len());
    for row in rows {
        let sums = row.counts.into_iter().zip(&row.sums).map(|(count, sum)| Digest {
            // What cannot be a digest compares with nothing.
            count: u64::try_from(count).unwrap_or(u64::MAX),
            sum: sum.parse().unwrap_or(u128::MAX),
        });
        digests.insert(row.node_uid, row.kinds.into_iter().zip(sums).collect());
    }
    Ok(digests)
}

#[derive(QueryableByName)]
struct GapRow {
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Bool)]
    different: bool,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    complete_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uid>)]
    complete_stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    complete_sequence: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    resync_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Uid>)]
    resync_stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    resync_sequence: Option<i64>,
    #[diesel(sql_type = Integer)]
    resync_count: i32,
}

/// Gaps of nodes by node and kind.
pub type Gaps = HashMap<Uuid, BTreeMap<i16, Gap>>;

/// The gaps that comparisons left.
///
/// # Errors
/// The query fails.
pub async fn gaps(connection: &mut AsyncPgConnection, nodes: &[Uuid]) -> QueryResult<Gaps> {
    let query =
        Sql::new("SELECT * FROM kind_gap WHERE node_uid = ANY(").bind(Bind::Uuids(nodes.to_vec())).text(")");
    let rows: Vec<GapRow> = load(connection, query).await?;
    let mut gaps = Gaps::new();
    for row in rows {
        let asked = point(row.resync_time, row.resync_stream, row.resync_sequence);
        let gap = Gap {
            different: row.different,
            count: u64::try_from(row.count).unwrap_or(0),
            complete: point(row.complete_time, row.complete_stream, row.complete_sequence),
            asked: asked.map(|at| Asked { at, count: row.resync_count }),
        };
        gaps.entry(row.node_uid).or_default().insert(row.kind, gap);
    }
    Ok(gaps)
}

#[derive(QueryableByName)]
struct WaivedRow {
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
    #[diesel(sql_type = Array<SmallInt>)]
    kinds: Vec<i16>,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
}

/// What was waived in these streams of nodes, the newest for each set of kinds.
///
/// # Errors
/// The query fails.
pub async fn waived(
    connection: &mut AsyncPgConnection,
    streams: &[(Uuid, Uuid)],
) -> QueryResult<HashMap<Uuid, Vec<Waived>>> {
    let query = Sql::new(
        "SELECT waived.node_uid, kinds, max(sequence) AS sequence FROM waived_sequence AS waived JOIN unnest(",
    )
    .binds([
        Bind::Uuids(streams.iter().map(|(node, _)| *node).collect()),
        Bind::Uuids(streams.iter().map(|(_, stream)| *stream).collect()),
    ])
    .text(
        ") AS one (node_uid, stream) ON waived.node_uid = one.node_uid AND waived.stream = one.stream \
         GROUP BY waived.node_uid, kinds",
    );
    let rows: Vec<WaivedRow> = load(connection, query).await?;
    let mut waived: HashMap<Uuid, Vec<Waived>> = HashMap::new();
    for WaivedRow { node_uid, kinds, sequence } in rows {
        waived.entry(node_uid).or_default().push(Waived { sequence, kinds });
    }
    Ok(waived)
}

/// Writes gaps that are new or changed.
///
/// # Errors
/// The statement fails.
pub async fn save_gaps(connection: &mut AsyncPgConnection, gaps: &[(Uuid, i16, Gap)]) -> QueryResult<()> {
    if gaps.is_empty() {
        return Ok(());
    }
    let complete = |gap: &Gap| gap.complete;
    let asked = |gap: &Gap| gap.asked.map(|asked| asked.at);
    let times = |point: fn(&Gap) -> Option<Point>| {
        Bind::Times(gaps.iter().map(|(.., gap)| point(gap).map(|point| point.time)).collect())
    };
    let streams = |point: fn(&Gap) -> Option<Point>| {
        Bind::MaybeUuids(gaps.iter().map(|(.., gap)| point(gap).map(|point| point.stream)).collect())
    };
    let sequences = |point: fn(&Gap) -> Option<Point>| {
        Bind::MaybeBigInts(gaps.iter().map(|(.., gap)| point(gap).map(|point| point.sequence)).collect())
    };
    let upsert = Sql::new(
        "INSERT INTO kind_gap (node_uid, kind, different, count, complete_time, complete_stream, \
         complete_sequence, resync_time, resync_stream, resync_sequence, resync_count) SELECT * FROM unnest(",
    )
    .binds([
        Bind::Uuids(gaps.iter().map(|(node, ..)| *node).collect()),
        Bind::SmallInts(gaps.iter().map(|(_, kind, _)| *kind).collect()),
        Bind::Bools(gaps.iter().map(|(.., gap)| gap.different).collect()),
        Bind::BigInts(gaps.iter().map(|(.., gap)| i64::try_from(gap.count).unwrap_or(i64::MAX)).collect()),
        times(complete),
        streams(complete),
        sequences(complete),
        times(asked),
        streams(asked),
        sequences(asked),
        Bind::Integers(gaps.iter().map(|(.., gap)| gap.asked.map_or(0, |asked| asked.count)).collect()),
    ])
    .text(
        ") ON CONFLICT (node_uid, kind) DO UPDATE SET different = excluded.different, \
         count = excluded.count, complete_time = excluded.complete_time, \
         complete_stream = excluded.complete_stream, complete_sequence = excluded.complete_sequence, \
         resync_time = excluded.resync_time, resync_stream = excluded.resync_stream, \
         resync_sequence = excluded.resync_sequence, resync_count = excluded.resync_count",
    );
    execute(connection, upsert).await.map(drop)
}

/// Deletes gaps that are closed.
///
/// # Errors
/// The statement fails.
pub async fn delete_gaps(connection: &mut AsyncPgConnection, gaps: &[(Uuid, i16)]) -> QueryResult<()> {
    if gaps.is_empty() {
        return Ok(());
    }
    let delete = Sql::new("DELETE FROM kind_gap USING unnest(")
        .binds([
            Bind::Uuids(gaps.iter().map(|(node, _)| *node).collect()),
            Bind::SmallInts(gaps.iter().map(|(_, kind)| *kind).collect()),
        ])
        .text(
            ") AS closed (node_uid, kind) \
             WHERE kind_gap.node_uid = closed.node_uid AND kind_gap.kind = closed.kind",
        );
    execute(connection, delete).await.map(drop)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Kinds on nodes whose digests differ.
///
/// # Errors
/// The query fails.
pub async fn count_incomplete(connection: &mut AsyncPgConnection) -> QueryResult<i64> {
    let query = "SELECT count(*) AS count FROM kind_gap JOIN node ON node.uid = node_uid \
         WHERE different AND retire_time IS NULL";
    let rows: Vec<Count> = load(connection, Sql::new(query)).await?;
    Ok(rows.first().map_or(0, |row| row.count))
}
