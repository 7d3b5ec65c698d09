//! Counts over several tables.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Integer, Nullable, SmallInt, Timestamptz},
};
use diesel_async::AsyncPgConnection;

use super::{
    sql::{Sql, load},
    summary::COUNTED,
};

/// How many assets of a kind are in a state.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct KindRow {
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = SmallInt)]
    pub state: i16,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// Assets that are not deleted, by kind and state.
///
/// # Errors
/// The query fails.
pub async fn kinds(connection: &mut AsyncPgConnection) -> QueryResult<Vec<KindRow>> {
    let query = format!(
        "SELECT kind, state, sum(weight)::bigint AS count FROM {COUNTED} AS asset \
         GROUP BY kind, state ORDER BY kind, state"
    );
    load(connection, Sql::new(query)).await
}

/// When a node was heard.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct HeardRow {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    pub heartbeat_interval_seconds: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retire_time: Option<DateTime<Utc>>,
}

/// When each node was heard.
///
/// # Errors
/// The query fails.
pub async fn heartbeats(connection: &mut AsyncPgConnection) -> QueryResult<Vec<HeardRow>> {
    let query = "SELECT heartbeat_time, heartbeat_interval_seconds, retire_time FROM node";
    load(connection, Sql::new(query)).await
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn count(connection: &mut AsyncPgConnection, query: &str) -> QueryResult<i64> {
    let rows: Vec<Count> = load(connection, Sql::new(query)).await?;
    Ok(rows.first().map_or(0, |row| row.count))
}

/// Events recorded in the last hour.
///
/// # Errors
/// The query fails.
pub async fn events_last_hour(connection: &mut AsyncPgConnection) -> QueryResult<i64> {
    count(
        connection,
        "SELECT count(*) AS count FROM asset_event WHERE record_time > now() - interval '1 hour'",
    )
    .await
}

/// Dead letters that wait for a person.
///
/// # Errors
/// The query fails.
pub async fn dead_letters(connection: &mut AsyncPgConnection) -> QueryResult<i64> {
    count(connection, "SELECT count(*) AS count FROM dead_letter").await
}
