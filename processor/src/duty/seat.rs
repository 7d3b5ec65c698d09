//! The seat of the replica that has the duties: a session advisory lock on a
//! connection of its own. Who loses the connection has lost the seat.
//!
//! A pooler between processor and PostgreSQL must keep a session to a client
//! (PgBouncer: session mode), or the lock belongs to nobody.

use std::time::Duration;

use diesel::{QueryResult, QueryableByName, result::Error as QueryError, sql_types::Bool};
use diesel_async::AsyncPgConnection;
use kit::settings::Secret;

use crate::store::{
    pool::{DatabaseError, connect},
    sql::{Bind, Sql, execute, load},
};

/// Key of the seat's advisory lock: "duty" in ASCII.
const SEAT_LOCK: i64 = 0x6475_7479;
/// Between two looks, both at a seat that is taken and at the own one.
const INTERVAL: Duration = Duration::from_secs(2);
/// Longest answer of a connection that is well.
const DEADLINE: Duration = Duration::from_secs(5);
/// The server ends the session of a holder that is silent, whose machine
/// may be gone or whose process may hang, so that another one gets the seat.
const SESSION: &str = "SET application_name = 'assettrack-duties'; SET idle_session_timeout = '15s'; \
     SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3";

/// The seat, held.
pub(super) struct Seat {
    connection: AsyncPgConnection,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

impl Seat {
    /// Waits until the seat is free and takes it.
    ///
    /// # Errors
    /// The database cannot be used.
    pub(super) async fn take(url: &Secret) -> Result<Self, DatabaseError> {
        let mut connection = connect(url, SESSION).await?;
        // Not the blocking lock: to wait in it is a transaction that stays open.
        while !try_lock(&mut connection).await? {
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(Self { connection })
    }

    /// Ends when the seat is lost, with the reason.
    pub(super) async fn lost(&mut self) -> String {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match tokio::time::timeout(DEADLINE, execute(&mut self.connection, Sql::new("SELECT 1"))).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("no answer within {} s", DEADLINE.as_secs()),
            }
        }
    }
}

async fn try_lock(connection: &mut AsyncPgConnection) -> QueryResult<bool> {
    let lock = Sql::new("SELECT pg_try_advisory_lock(").bind(Bind::BigInt(SEAT_LOCK)).text(") AS locked");
    let rows: Vec<Locked> = load(connection, lock).await?;
    Ok(rows.first().ok_or(QueryError::NotFound)?.locked)
}
