//! Partitions of the log and of superseded states: made ahead of the clock, and
//! dropped when they are old.

use diesel::QueryResult;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::{
    feed::note_drop_in_txn,
    sql::{Bind, Sql, execute, load},
};

/// Key of the advisory lock under which one replica keeps partitions.
const UPKEEP_LOCK: i64 = 0x7061_7274;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

#[derive(QueryableByName)]
struct Created {
    #[diesel(sql_type = Integer)]
    created: i32,
}

/// Makes the log's daily partitions for the days to come; tells how many were
/// made. Does nothing while another replica does it.
///
/// # Errors
/// A statement fails.
pub async fn create_partitions(connection: &mut AsyncPgConnection, days: i32) -> QueryResult<i32> {
    connection
        .transaction(async |connection| {
            let lock = Sql::new("SELECT pg_try_advisory_xact_lock(")
                .bind(Bind::BigInt(UPKEEP_LOCK))
                .text(") AS locked");
            if !load::<Locked>(connection, lock).await?.iter().any(|row| row.locked) {
                return Ok(0);
            }
            let create =
                Sql::new("SELECT create_event_partitions(").bind(Bind::Integer(days)).text(") AS created");
            Ok(load::<Created>(connection, create).await?.first().map_or(0, |row| row.created))
        })
        .await
}

/// Makes the monthly partitions of superseded states for the months to come; tells
/// how many were made.
///
/// # Errors
/// A statement fails.
pub async fn create_past_partitions(connection: &mut AsyncPgConnection, months: i32) -> QueryResult<i32> {
    let create = Sql::new("SELECT create_past_partitions(").bind(Bind::Integer(months)).text(") AS created");
    Ok(load::<Created>(connection, create).await?.first().map_or(0, |row| row.created))
}

#[derive(QueryableByName)]
struct Partition {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Names of the log's partitions that end at least `days` days (UTC) before
/// today, oldest first.
///
/// # Errors
/// The query fails.
pub async fn old_partitions(connection: &mut AsyncPgConnection, days: i32) -> QueryResult<Vec<String>> {
    let query = Sql::new("SELECT name FROM event_partitions_before(")
        .bind(Bind::Integer(days))
        .text(") AS name ORDER BY name");
    Ok(load::<Partition>(connection, query).await?.into_iter().map(|row| row.name).collect())
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Carries the newest revision of each asset in a partition into the base; tells
/// of how many. Until the end of the transaction nothing is added to the
/// partition; other days are not held up.
///
/// # Errors
/// A statement fails.
pub async fn carry_partition_in_txn(connection: &mut AsyncPgConnection, name: &str) -> QueryResult<i64> {
    let carry =
        Sql::new("SELECT carry_event_partition(").bind(Bind::Text(name.to_owned())).text(") AS count");
    let carried = load::<Count>(connection, carry).await?.first().map_or(0, |row| row.count);
    note_drop_in_txn(connection, name, None).await?;
    Ok(carried)
}

/// What a partition is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The log: a day.
    Log,
    /// Superseded states: a month.
    Past,
}

/// Drops a partition; of the log, one that was carried in the same transaction.
/// Needs the whole table for a moment, and as all who come later queue behind
/// whoever waits for that, it waits no longer than a blink.
///
/// # Errors
/// "lock timeout": somebody reads or writes the table; the savepoint that this
/// runs in can be tried again.
pub async fn drop_partition_in_txn(
    connection: &mut AsyncPgConnection,
    part: Part,
    name: &str,
) -> QueryResult<()> {
    connection.batch_execute("SET LOCAL lock_timeout = '100ms'").await?;
    let function = match part {
        Part::Log => "SELECT drop_event_partition(",
        Part::Past => "SELECT drop_past_partition(",
    };
    let drop_table = Sql::new(function).bind(Bind::Text(name.to_owned())).text(")");
    execute(connection, drop_table).await.map(drop)
}

/// Takes old rows out of the default partition, at most `most`, and carries the
/// newest revision of each asset among them into the base, in one statement.
/// Tells how many rows were taken.
///
/// # Errors
/// The statement fails.
pub async fn carry_default(connection: &mut AsyncPgConnection, days: i32, most: i32) -> QueryResult<i64> {
    // Before, so that no follower goes on in what is gone.
    note_drop_in_txn(connection, "asset_event_default", Some(days)).await?;
    let carry = Sql::new("SELECT carry_default_events(")
        .binds([Bind::Integer(days), Bind::Integer(most)])
        .text(") AS count");
    Ok(load::<Count>(connection, carry).await?.first().map_or(0, |row| row.count))
}

/// Names of the partitions of superseded states that end at or before the time from
/// which the past can be read, oldest first.
///
/// # Errors
/// The query fails.
pub async fn old_past_partitions(connection: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    let query = Sql::new("SELECT name FROM past_partitions_before_horizon() AS name ORDER BY name");
    Ok(load::<Partition>(connection, query).await?.into_iter().map(|row| row.name).collect())
}

/// Deletes old rows of the default partition of superseded states, at most `most`;
/// tells how many.
///
/// # Errors
/// The statement fails.
pub async fn drop_default_past(connection: &mut AsyncPgConnection, most: i32) -> QueryResult<i64> {
    let delete = Sql::new("SELECT drop_default_past(").bind(Bind::Integer(most)).text(") AS count");
    Ok(load::<Count>(connection, delete).await?.first().map_or(0, |row| row.count))
}
