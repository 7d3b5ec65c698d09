//! How far the feed is settled, and the table `feed`.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Nullable, Text, Timestamptz},
};
use diesel_async::AsyncPgConnection;

use super::sql::{Bind, Sql, execute, load};
use crate::domain::feed::{Cluster, Edge};

#[derive(QueryableByName)]
struct EdgeRow {
    #[diesel(sql_type = BigInt)]
    xid: i64,
    #[diesel(sql_type = BigInt)]
    ended: i64,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    cluster: String,
    #[diesel(sql_type = BigInt)]
    after_id: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    begin_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    dropped_xid: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    dropped_time: Option<DateTime<Utc>>,
}

/// How far the feed is settled now.
///
/// # Errors
/// The query fails; also on a standby, which does not know its place.
pub async fn edge(connection: &mut AsyncPgConnection) -> QueryResult<Edge> {
    // The timeline is the first part of the name of the log that is written.
    let query = "SELECT txid_snapshot_xmin(txid_current_snapshot()) AS xid, \
         txid_snapshot_xmax(txid_current_snapshot()) AS ended, clock_timestamp() AS now, \
         (SELECT system_identifier FROM pg_control_system()) || '/' || \
         left(pg_walfile_name(pg_current_wal_lsn()), 8) AS cluster, \
         after_id, begin_time, dropped_xid, dropped_time FROM feed";
    let row: Option<EdgeRow> = load(connection, Sql::new(query)).await?.pop();
    let row = row.ok_or(diesel::result::Error::NotFound)?;
    Ok(Edge {
        xid: row.xid,
        ended: row.ended,
        now: row.now,
        cluster: Cluster(row.cluster),
        after_id: row.after_id,
        begin_time: row.begin_time,
        dropped_xid: row.dropped_xid,
        dropped_time: row.dropped_time,
    })
}

/// Begins the feed anew if the rows of the log were numbered by another database
/// system: then a dump was restored.
///
/// # Errors
/// The statement fails.
pub async fn adopt(connection: &mut AsyncPgConnection) -> QueryResult<bool> {
    let update = "UPDATE feed SET system_identifier = system.system_identifier, \
         after_id = (SELECT last_value FROM asset_event_id_seq), begin_time = clock_timestamp(), \
         dropped_xid = NULL, dropped_time = NULL FROM pg_control_system() AS system \
         WHERE feed.system_identifier <> system.system_identifier";
    Ok(execute(connection, Sql::new(update)).await? > 0)
}

/// Notes that rows of a partition that are older than `before` will be dropped;
/// none, all of them.
///
/// # Errors
/// The statement fails.
pub async fn note_drop_in_txn(
    connection: &mut AsyncPgConnection,
    partition: &str,
    days: Option<i32>,
) -> QueryResult<()> {
    let note = Sql::new("SELECT note_feed_drop(").bind(Bind::Text(partition.to_owned()));
    let note = match days {
        // As `carry_default_events` has it.
        Some(days) => note
            .text(", (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => ")
            .bind(Bind::Integer(days))
            .text(")) AT TIME ZONE 'UTC')"),
        None => note.text(", 'infinity')"),
    };
    execute(connection, note).await.map(drop)
}

/// What is recorded and not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Rows, counted up to 10,000.
    pub rows: i64,
    /// Since when the oldest of them is recorded.
    pub oldest: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct LagRow {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    oldest: Option<DateTime<Utc>>,
}

/// What is recorded and not settled at an edge.
///
/// # Errors
/// The query fails.
pub async fn lag(
    connection: &mut AsyncPgConnection,
    edge: &Edge,
    since: Option<DateTime<Utc>>,
) -> QueryResult<Lag> {
    let query = Sql::new(
        "SELECT count(*) AS rows, min(record_time) AS oldest FROM (SELECT record_time FROM asset_event \
         WHERE feed_xid >= ",
    )
    .bind(Bind::BigInt(edge.xid))
    .text(" AND id > ")
    .bind(Bind::BigInt(edge.after_id))
    .text(" AND record_time >= ")
    .bind(Bind::Time(Some(edge.place(since).earliest())))
    .text(" ORDER BY feed_xid LIMIT 10000) AS unsettled");
    let row: Option<LagRow> = load(connection, query).await?.pop();
    Ok(row.map(|row| Lag { rows: row.rows, oldest: row.oldest }).unwrap_or_default())
}

/// Who holds the feed back.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct Holder {
    /// Process of the server, or the name of a prepared transaction.
    #[diesel(sql_type = Text)]
    pub who: String,
    #[diesel(sql_type = Text)]
    pub application: String,
    #[diesel(sql_type = Text)]
    pub database: String,
    /// Seconds since its transaction began, as far as this role may see that.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub seconds: Option<i64>,
}

/// The oldest transaction of the server that has written something.
///
/// # Errors
/// The query fails.
pub async fn holder(connection: &mut AsyncPgConnection) -> QueryResult<Option<Holder>> {
    let query = "SELECT who, application, database, seconds FROM (\
         SELECT 'process ' || pid AS who, coalesce(application_name, '') AS application, \
         coalesce(datname, '') AS database, backend_xid AS xid, \
         extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds FROM pg_stat_activity \
         WHERE backend_xid IS NOT NULL UNION ALL \
         SELECT 'prepared transaction ' || gid, '', database, transaction, \
         extract(epoch FROM clock_timestamp() - prepared)::bigint FROM pg_prepared_xacts) AS holder \
         ORDER BY age(xid) DESC LIMIT 1";
    Ok(load(connection, Sql::new(query)).await?.pop())
}
