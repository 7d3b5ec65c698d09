//! What verifying and the scrub read, in portions by cursors.

use std::ops::Bound;

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{
        BigInt, Bool, Bytea, Integer, Multirange, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid,
    },
};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};
use crate::domain::refold::Source;

/// Rows that are fetched at a time.
const PORTION: &str = "1000";

/// Which assets, and what is logged of them: those of a node, or of none.
pub type Whose = Option<Uuid>;

pub(super) fn of(whose: Whose) -> Sql {
    match whose {
        Some(node) => Sql::new("node_uid = ").bind(Bind::Uuid(node)),
        None => Sql::new("node_uid IS NULL"),
    }
}

/// Keeps retention from carrying what is about to be read: the lock comes before
/// the snapshot, and does not hinder ingest.
///
/// # Errors
/// The statement fails.
pub async fn hold_log_in_txn(connection: &mut AsyncPgConnection) -> QueryResult<()> {
    connection.batch_execute("LOCK TABLE asset_event, asset_base IN ACCESS SHARE MODE").await
}

#[derive(QueryableByName)]
pub(super) struct Uuids {
    #[diesel(sql_type = Uid)]
    pub(super) uid: Uuid,
}

/// All nodes, and those of which only the log tells.
///
/// # Errors
/// The query fails.
pub async fn nodes(connection: &mut AsyncPgConnection) -> QueryResult<Vec<Uuid>> {
    // From one node to the next by the index, and not over the whole log.
    let query = Sql::new(
        "WITH RECURSIVE logged (uid) AS (\
         (SELECT node_uid FROM asset_event WHERE node_uid IS NOT NULL ORDER BY node_uid LIMIT 1) \
         UNION ALL SELECT (SELECT node_uid FROM asset_event WHERE node_uid > logged.uid \
         ORDER BY node_uid LIMIT 1) FROM logged WHERE logged.uid IS NOT NULL) \
         SELECT uid FROM node UNION SELECT uid FROM logged WHERE uid IS NOT NULL \
         UNION SELECT node_uid FROM asset_base WHERE node_uid IS NOT NULL ORDER BY uid",
    );
    Ok(load::<Uuids>(connection, query).await?.into_iter().map(|row| row.uid).collect())
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many assets there are.
///
/// # Errors
/// The query fails.
pub async fn count_assets(connection: &mut AsyncPgConnection, whose: Option<Whose>) -> QueryResult<i64> {
    let mut query = Sql::new("SELECT count(*) AS count FROM asset");
    if let Some(whose) = whose {
        query = query.text(" WHERE ").then(of(whose));
    }
    Ok(load::<Count>(connection, query).await?.first().map_or(0, |row| row.count))
}

/// A stream of a node.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct StreamRow {
    #[diesel(sql_type = Uid)]
    pub stream: Uuid,
    #[diesel(sql_type = Integer)]
    pub number: i32,
    #[diesel(sql_type = Multirange<BigInt>)]
    pub received: Vec<(Bound<i64>, Bound<i64>)>,
    #[diesel(sql_type = Timestamptz)]
    pub create_time: DateTime<Utc>,
}

/// Streams of a node, as they were seen for the first time. What was waived
/// counts as received.
///
/// # Errors
/// The query fails.
pub async fn streams(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Vec<StreamRow>> {
    let query = Sql::new(
        "SELECT stream, number, received + (SELECT coalesce(range_agg(int8range(sequence, sequence, '[]')), \
         '{}') FROM waived_sequence AS waived WHERE waived.node_uid = node_stream.node_uid \
         AND waived.stream = node_stream.stream) AS received, create_time FROM node_stream WHERE node_uid = ",
    )
    .bind(Bind::Uuid(node))
    .text(" ORDER BY create_time, number");
    load(connection, query).await
}

/// A row of the log or the base, contents hashed.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ToldRow {
    #[diesel(sql_type = Uid)]
    pub asset_uid: Uuid,
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Timestamptz)]
    pub record_time: DateTime<Utc>,
    #[diesel(sql_type = SmallInt)]
    pub event_type: i16,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub natural_key: String,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub revision: Option<i64>,
    #[diesel(sql_type = BigInt)]
    pub managed_revision: i64,
    #[diesel(sql_type = SmallInt)]
    pub state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub managed: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    pub by_agent: bool,
    #[diesel(sql_type = Nullable<Uid>)]
    pub stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub sequence: Option<i64>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub batch_index: Option<i32>,
}

const TOLD: &str = "SELECT asset_uid, id, record_time, type AS event_type, kind, natural_key, display_name, \
     revision, managed_revision, state, sha256(details) AS details, sha256(managed) AS managed, \
     actor = 'agent' AS by_agent, stream, sequence, batch_index FROM ";

/// A row of `asset`.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct StoredRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub natural_key: String,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    #[diesel(sql_type = SmallInt)]
    pub state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub managed: Option<Vec<u8>>,
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    #[diesel(sql_type = BigInt)]
    pub managed_revision: i64,
    #[diesel(sql_type = Integer)]
    pub stream_number: i32,
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
    #[diesel(sql_type = Integer)]
    pub batch_index: i32,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub state_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Timestamptz)]
    pub update_time: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub delete_time: Option<DateTime<Utc>>,
}

const STORED: &str = "SELECT uid, kind, natural_key, display_name, state, details, managed, revision, \
     managed_revision, stream_number, sequence, batch_index, state_hash, update_time, delete_time FROM asset ";

/// Where a cursor of this session is read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor(&'static str);

impl Cursor {
    async fn open(connection: &mut AsyncPgConnection, name: &'static str, query: Sql) -> QueryResult<Self> {
        let declare = Sql::new(format!("DECLARE {name} NO SCROLL CURSOR FOR ")).then(query);
        execute(connection, declare).await?;
        Ok(Self(name))
    }

    /// The next rows; none at the end, at which the cursor is closed.
    ///
    /// # Errors
    /// The query fails.
    pub async fn portion<T>(self, connection: &mut AsyncPgConnection) -> QueryResult<Vec<T>>
    where
        T: QueryableByName<diesel::pg::Pg> + Send + 'static,
    {
        let rows = load(connection, Sql::new(format!("FETCH {PORTION} FROM {}", self.0))).await?;
        if rows.is_empty() {
            connection.batch_execute(&format!("CLOSE {}", self.0)).await?;
        }
        Ok(rows)
    }
}

/// The base's rows: [`ToldRow`].
///
/// # Errors
/// The query fails.
pub async fn base_in_txn(connection: &mut AsyncPgConnection, whose: Whose) -> QueryResult<Cursor> {
    let query = Sql::new(TOLD).text("asset_base WHERE ").then(of(whose));
    Cursor::open(connection, "told_base", query).await
}

/// The log's rows, as they were recorded: [`ToldRow`].
///
/// # Errors
/// The query fails.
pub async fn log_in_txn(connection: &mut AsyncPgConnection, whose: Whose) -> QueryResult<Cursor> {
    let query = Sql::new(TOLD).text("asset_event WHERE ").then(of(whose)).text(" ORDER BY record_time, id");
    Cursor::open(connection, "told_log", query).await
}

/// What base and log tell of some assets: the base's first, then as recorded.
///
/// # Errors
/// The query fails.
pub async fn told_of(
    connection: &mut AsyncPgConnection,
    assets: &[Uuid],
) -> QueryResult<(Vec<ToldRow>, Vec<ToldRow>)> {
    let query = |table: &str| {
        Sql::new(TOLD)
            .text(format!("{table} WHERE asset_uid = ANY("))
            .bind(Bind::Uuids(assets.to_vec()))
            .text(") ORDER BY record_time, id")
    };
    Ok((load(connection, query("asset_base")).await?, load(connection, query("asset_event")).await?))
}

/// Current assets: [`StoredRow`].
///
/// # Errors
/// The query fails.
pub async fn stored_in_txn(connection: &mut AsyncPgConnection, whose: Whose) -> QueryResult<Cursor> {
    let query = Sql::new(STORED).text("WHERE ").then(of(whose));
    Cursor::open(connection, "stored_assets", query).await
}

/// Current assets of a node that are ACTIVE: [`StoredRow`].
///
/// # Errors
/// The query fails.
pub async fn active_in_txn(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Cursor> {
    let query = Sql::new(STORED).text("WHERE state = 1 AND ").then(of(Some(node)));
    Cursor::open(connection, "active_assets", query).await
}

/// An event that is in the log more than once.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct DoubledRow {
    #[diesel(sql_type = Uid)]
    pub event_uid: Uuid,
    #[diesel(sql_type = Uid)]
    pub asset_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// Events that are in the log more than once.
///
/// # Errors
/// The query fails.
pub async fn doubled_in_txn(
    connection: &mut AsyncPgConnection,
    whose: Whose,
) -> QueryResult<Vec<DoubledRow>> {
    // One pass over all that is logged of a node; the caller can cancel it.
    connection.batch_execute("SET LOCAL statement_timeout = '10min'").await?;
    let query = Sql::new(
        "SELECT event_uid, (array_agg(asset_uid))[1] AS asset_uid, min(kind) AS kind, count(*) AS count \
         FROM asset_event WHERE ",
    )
    .then(of(whose))
    .text(" GROUP BY event_uid HAVING count(*) > 1 ORDER BY event_uid LIMIT 1000");
    load(connection, query).await
}

/// A superseded state that is not kept as the log has it.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct WrongHistoryRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub is_revision: Option<i64>,
    #[diesel(sql_type = Text)]
    pub is_span: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub should_revision: Option<i64>,
    #[diesel(sql_type = Text)]
    pub should_span: String,
}

/// Superseded states, as far back as can be read, that are not kept as base and log
/// have them: at most 1,000. Of revisions of one time only the last was ever there.
///
/// # Errors
/// The query fails.
pub async fn wrong_history_in_txn(
    connection: &mut AsyncPgConnection,
    whose: Whose,
) -> QueryResult<Vec<WrongHistoryRow>> {
    let told = |table: &str| {
        Sql::new(format!(
            "SELECT asset_uid AS uid, kind, revision, managed_revision, state, display_name, \
             record_time AS update_time FROM {table} WHERE revision IS NOT NULL AND "
        ))
        .then(of(whose))
    };
    // A row that is not there reads as an empty text.
    let span = |row: &str| {
        format!(
            "concat_ws(' ', {row}.state, {row}.managed_revision, {row}.display_name, {row}.update_time, \
             {row}.until_time, {row}.renamed)"
        )
    };
    let query = Sql::new("WITH told AS (")
        .then(told("asset_event"))
        .text(" UNION ALL ")
        .then(told("asset_base"))
        .text(
            "), visible AS (SELECT DISTINCT ON (uid, update_time) * FROM told \
             ORDER BY uid, update_time, revision DESC), \
             spans AS (SELECT *, lead(update_time) OVER later AS until_time, \
             lead(display_name) OVER later <> display_name AS renamed FROM visible \
             WINDOW later AS (PARTITION BY uid ORDER BY update_time)), \
             should AS (SELECT * FROM spans \
             WHERE until_time > (SELECT earliest_time FROM past_horizon)), \
             kept AS (SELECT asset_past.*, kind FROM asset_past JOIN asset USING (uid) WHERE asset.",
        )
        .then(of(whose))
        .text(format!(
            " AND until_time > (SELECT earliest_time FROM past_horizon)) \
             SELECT uid, coalesce(should.kind, kept.kind) AS kind, revision, kept.revision AS is_revision, \
             {0} AS is_span, should.revision AS should_revision, {1} AS should_span \
             FROM should FULL JOIN kept USING (uid, revision) WHERE {0} <> {1} ORDER BY uid, revision LIMIT 1000",
            span("kept"),
            span("should"),
        ));
    load(connection, query).await
}

/// Digest of a kind on a node.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct DigestRow {
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    #[diesel(sql_type = Text)]
    pub sum: String,
}

/// Digests that are kept of a node.
///
/// # Errors
/// The query fails.
pub async fn digests(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Vec<DigestRow>> {
    let query = Sql::new("SELECT kind, count, sum::text AS sum FROM node_kind WHERE node_uid = ")
        .bind(Bind::Uuid(node))
        .text(" ORDER BY kind");
    load(connection, query).await
}

/// Names in a row of the log or the base.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ContentRow {
    #[diesel(sql_type = Text)]
    pub natural_key: String,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub managed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Uid>)]
    pub node_uid: Option<Uuid>,
}

/// What a row of the log or the base holds of an asset.
///
/// # Errors
/// The query fails.
pub async fn content(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    source: Source,
) -> QueryResult<Option<ContentRow>> {
    let columns = "SELECT natural_key, display_name, details, managed, node_uid FROM ";
    let query = match source {
        Source::Base => Sql::new(columns).text("asset_base WHERE asset_uid = ").bind(Bind::Uuid(asset)),
        Source::Log(record_time, id) => Sql::new(columns)
            .text("asset_event WHERE record_time = ")
            .bind(Bind::Time(Some(record_time)))
            .text(" AND id = ")
            .bind(Bind::BigInt(id)),
    };
    Ok(load(connection, query).await?.pop())
}
