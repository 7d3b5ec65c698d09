//! What keeps the tables in shape.

use diesel::QueryResult;
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Integer};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::sql::{Bind, Sql, load};

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
