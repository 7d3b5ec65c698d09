//! The table `request`: calls that are done once.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Bytea, Nullable, Text},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};

/// Hours for which a call is remembered.
pub const KEPT_HOURS: i32 = 24;

/// A call that is done once.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Once {
    pub actor: &'static str,
    pub request_id: Uuid,
    /// Name of the request's message.
    pub method: &'static str,
    /// Hash of the request.
    pub fingerprint: Vec<u8>,
}

/// A call that was done before.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct Done {
    #[diesel(sql_type = Text)]
    pub method: String,
    #[diesel(sql_type = Bytea)]
    pub fingerprint: Vec<u8>,
    /// The encoded answer.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub answer: Option<Vec<u8>>,
}

/// Begins a call, or tells what became of it before. Waits for the same call while
/// it is under way elsewhere.
///
/// # Errors
/// A statement fails.
pub async fn begin_in_txn(connection: &mut AsyncPgConnection, once: &Once) -> QueryResult<Option<Done>> {
    loop {
        let insert =
            Sql::new("INSERT INTO request (actor, request_id, method, fingerprint, create_time) VALUES (")
                .binds([
                    Bind::Text(once.actor.to_owned()),
                    Bind::Uuid(once.request_id),
                    Bind::Text(once.method.to_owned()),
                    Bind::Bytes(Some(once.fingerprint.clone())),
                ])
                .text(", clock_timestamp()) ON CONFLICT DO NOTHING");
        if execute(connection, insert).await? > 0 {
            return Ok(None);
        }
        let select = Sql::new("SELECT method, fingerprint, answer FROM request WHERE ").then(is(once));
        if let Some(done) = load(connection, select).await?.pop() {
            return Ok(Some(done));
        }
        // It was forgotten between the two.
    }
}

/// Notes the answer of a call.
///
/// # Errors
/// The statement fails.
pub async fn finish_in_txn(
    connection: &mut AsyncPgConnection,
    once: &Once,
    answer: Vec<u8>,
) -> QueryResult<()> {
    let update = Sql::new("UPDATE request SET answer = ")
        .bind(Bind::Bytes(Some(answer)))
        .text(" WHERE ")
        .then(is(once));
    execute(connection, update).await.map(drop)
}

fn is(once: &Once) -> Sql {
    Sql::new("actor = ")
        .bind(Bind::Text(once.actor.to_owned()))
        .text(" AND request_id = ")
        .bind(Bind::Uuid(once.request_id))
}

/// Forgets at most `most` calls that are older than [`KEPT_HOURS`]; tells how many.
///
/// # Errors
/// The statement fails.
pub async fn forget_old(connection: &mut AsyncPgConnection, most: i64) -> QueryResult<usize> {
    let delete = Sql::new(
        "DELETE FROM request WHERE (actor, request_id) IN (SELECT actor, request_id FROM request \
         WHERE create_time < clock_timestamp() - make_interval(hours => ",
    )
    .bind(Bind::Integer(KEPT_HOURS))
    .text(") ORDER BY create_time LIMIT ")
    .bind(Bind::BigInt(most))
    .text(")");
    execute(connection, delete).await
}
