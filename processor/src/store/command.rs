//! The tables `agent_command` and `consumption`: what collectors are told.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Bool, Bytea, Nullable, Text, Timestamptz},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};

/// A command that no collector has taken yet.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NewCommand {
    /// Of version 7: commands are taken in this order.
    pub uid: Uuid,
    pub node_uid: Uuid,
    /// Encoded AgentCommand.
    pub command: Vec<u8>,
    pub create_time: DateTime<Utc>,
    pub expire_time: DateTime<Utc>,
}

/// Adds commands.
///
/// # Errors
/// The statement fails.
pub async fn insert(connection: &mut AsyncPgConnection, commands: &[NewCommand]) -> QueryResult<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let insert = Sql::new(
        "INSERT INTO agent_command (uid, node_uid, command, create_time, expire_time) SELECT * FROM unnest(",
    )
    .binds([
        Bind::Uuids(commands.iter().map(|command| command.uid).collect()),
        Bind::Uuids(commands.iter().map(|command| command.node_uid).collect()),
        Bind::ByteStrings(commands.iter().map(|command| Some(command.command.clone())).collect()),
        Bind::Times(commands.iter().map(|command| Some(command.create_time)).collect()),
        Bind::Times(commands.iter().map(|command| Some(command.expire_time)).collect()),
    ])
    .text(")");
    execute(connection, insert).await.map(drop)
}

/// A command that was taken.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ClaimedRow {
    #[diesel(sql_type = Bytea)]
    pub command: Vec<u8>,
    #[diesel(sql_type = Bool)]
    pub expired: bool,
}

/// Takes the oldest commands, at most `limit`, those that have expired
/// included. Nobody else gets them, and nobody waits for another who takes some
/// at the same time.
///
/// # Errors
/// The statement fails.
pub async fn claim(connection: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<ClaimedRow>> {
    // Materialized, so that the limit holds whatever the plan.
    let delete = Sql::new("WITH oldest AS MATERIALIZED (SELECT uid FROM agent_command ORDER BY uid LIMIT ")
        .bind(Bind::BigInt(limit))
        .text(
            " FOR UPDATE SKIP LOCKED), taken AS (DELETE FROM agent_command USING oldest \
         WHERE agent_command.uid = oldest.uid RETURNING agent_command.*) \
         SELECT command, expire_time <= clock_timestamp() AS expired FROM taken ORDER BY uid",
        );
    load(connection, delete).await
}

/// Deletes what has expired and was taken by nobody, as no collector is there.
///
/// # Errors
/// The statement fails.
pub async fn delete_expired(connection: &mut AsyncPgConnection) -> QueryResult<usize> {
    execute(connection, Sql::new("DELETE FROM agent_command WHERE expire_time <= clock_timestamp()")).await
}

/// Whether collectors consume.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ConsumptionRow {
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub change_time: Option<DateTime<Utc>>,
}

/// Reads whether collectors consume.
///
/// # Errors
/// The query fails.
pub async fn consumption(connection: &mut AsyncPgConnection) -> QueryResult<ConsumptionRow> {
    let rows = load(connection, Sql::new("SELECT paused, reason, change_time FROM consumption")).await?;
    rows.into_iter().next().ok_or(diesel::result::Error::NotFound)
}

/// Sets whether collectors consume, if it is not so already.
///
/// # Errors
/// A statement fails.
pub async fn set_consumption(
    connection: &mut AsyncPgConnection,
    paused: bool,
    reason: &str,
) -> QueryResult<ConsumptionRow> {
    let update = Sql::new("UPDATE consumption SET change_time = clock_timestamp(), paused = ")
        .bind(Bind::Bool(paused))
        .text(", reason = ")
        .bind(Bind::Text(reason.to_owned()))
        .text(" WHERE (paused, reason) IS DISTINCT FROM (")
        .binds([Bind::Bool(paused), Bind::Text(reason.to_owned())])
        .text(")");
    execute(connection, update).await?;
    consumption(connection).await
}
