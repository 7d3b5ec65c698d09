//! The table `waived_sequence`: places in streams of messages that can never be
//! applied. They count as received, until the message comes in a form that can.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::store::sql::{Bind, Sql, execute, load};

/// A place in a stream of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, QueryableByName)]
#[allow(missing_docs)]
pub struct Place {
    #[diesel(sql_type = Uid)]
    pub node_uid: Uuid,
    #[diesel(sql_type = Uid)]
    pub stream: Uuid,
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
}

/// A place that is waived, and the kinds that the message was about; none if
/// that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Waived {
    pub place: Place,
    pub kinds: Vec<i16>,
}

const SELECT: &str = "SELECT waived.node_uid, waived.stream, waived.sequence FROM waived_sequence AS waived ";

/// Which of these places are waived.
///
/// # Errors
/// The query fails.
pub async fn waived_in_txn(connection: &mut AsyncPgConnection, places: &[Place]) -> QueryResult<Vec<Place>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let query = Sql::new(SELECT).text("JOIN unnest(").binds(columns(places)).text(
        ") AS place (node_uid, stream, sequence) ON place.node_uid = waived.node_uid \
         AND place.stream = waived.stream AND place.sequence = waived.sequence",
    );
    load(connection, query).await
}

/// All that is waived of these streams, as (node, stream).
///
/// # Errors
/// The query fails.
pub async fn waived_of_streams_in_txn(
    connection: &mut AsyncPgConnection,
    streams: &[(Uuid, Uuid)],
) -> QueryResult<Vec<Place>> {
    let query = Sql::new(SELECT)
        .text("JOIN unnest(")
        .binds([
            Bind::Uuids(streams.iter().map(|(node, _)| *node).collect()),
            Bind::Uuids(streams.iter().map(|(_, stream)| *stream).collect()),
        ])
        .text(") AS own (node_uid, stream) ON own.node_uid = waived.node_uid AND own.stream = waived.stream");
    load(connection, query).await
}

/// Waives places.
///
/// # Errors
/// The statement fails.
pub async fn waive_in_txn(connection: &mut AsyncPgConnection, waived: &[Waived]) -> QueryResult<()> {
    // An array of arrays must be even; the kinds travel joined.
    let kinds =
        waived.iter().map(|one| one.kinds.iter().map(ToString::to_string).collect::<Vec<String>>().join(","));
    let places: Vec<Place> = waived.iter().map(|one| one.place).collect();
    let insert = Sql::new(
        "INSERT INTO waived_sequence (node_uid, stream, sequence, kinds, waive_time) \
         SELECT node_uid, stream, sequence, \
         coalesce(string_to_array(nullif(kinds, ''), ',')::smallint[], '{}'), clock_timestamp() FROM unnest(",
    )
    .binds(columns(&places).into_iter().chain([Bind::Texts(kinds.collect())]))
    .text(
        ") AS waived (node_uid, stream, sequence, kinds) ORDER BY node_uid, stream, sequence \
         ON CONFLICT DO NOTHING",
    );
    execute(connection, insert).await.map(drop)
}

/// What was waived came after all.
///
/// # Errors
/// The statement fails.
pub async fn forget_waived_in_txn(connection: &mut AsyncPgConnection, places: &[Place]) -> QueryResult<()> {
    let delete = Sql::new("DELETE FROM waived_sequence AS waived USING unnest(").binds(columns(places)).text(
        ") AS place (node_uid, stream, sequence) WHERE place.node_uid = waived.node_uid \
         AND place.stream = waived.stream AND place.sequence = waived.sequence",
    );
    execute(connection, delete).await.map(drop)
}

fn columns(places: &[Place]) -> [Bind; 3] {
    [
        Bind::Uuids(places.iter().map(|place| place.node_uid).collect()),
        Bind::Uuids(places.iter().map(|place| place.stream).collect()),
        Bind::BigInts(places.iter().map(|place| place.sequence).collect()),
    ]
}
