//! The table `pending_snapshot`.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bool, SmallInt, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::store::sql::{Bind, Sql, execute, load};

/// A snapshot of one kind on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
#[allow(missing_docs)]
pub struct SnapshotRow {
    #[diesel(sql_type = Uid)]
    pub node_uid: Uuid,
    #[diesel(sql_type = Uid)]
    pub stream: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = BigInt)]
    pub first_sequence: i64,
    #[diesel(sql_type = BigInt)]
    pub last_sequence: i64,
}

/// A snapshot of which every batch has come, or was waived.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct CompleteSnapshot {
    #[diesel(embed)]
    pub snapshot: SnapshotRow,
    /// Whether a batch of it was waived: then nobody knows all that it listed.
    #[diesel(sql_type = Bool)]
    pub has_gap: bool,
}

/// Notes snapshots, then answers those of these nodes that are complete. One stays
/// on the list, and is answered again, while batches before it are on their way:
/// what they tell of is older than the snapshot, and gone if that did not list it.
/// A newer one of its kind takes its place.
///
/// # Errors
/// A statement fails.
pub async fn complete_snapshots_in_txn(
    connection: &mut AsyncPgConnection,
    nodes: &[Uuid],
    new: &[SnapshotRow],
) -> QueryResult<Vec<CompleteSnapshot>> {
    if !new.is_empty() {
        let insert = Sql::new(
            "INSERT INTO pending_snapshot (node_uid, stream, kind, first_sequence, last_sequence) \
             SELECT * FROM unnest(",
        )
        .binds([
            Bind::Uuids(new.iter().map(|snapshot| snapshot.node_uid).collect()),
            Bind::Uuids(new.iter().map(|snapshot| snapshot.stream).collect()),
            Bind::SmallInts(new.iter().map(|snapshot| snapshot.kind).collect()),
            Bind::BigInts(new.iter().map(|snapshot| snapshot.first_sequence).collect()),
            Bind::BigInts(new.iter().map(|snapshot| snapshot.last_sequence).collect()),
        ])
        .text(") ON CONFLICT DO NOTHING");
        execute(connection, insert).await?;
    }
    let complete = Sql::new(
        "WITH whole AS (SELECT node_uid, stream, kind, first_sequence, last_sequence, \
         node_stream.received @> int8range(1, last_sequence, '[]') AS settled, \
         EXISTS (SELECT FROM waived_sequence AS waived WHERE waived.node_uid = snapshot.node_uid \
         AND waived.stream = snapshot.stream \
         AND waived.sequence BETWEEN first_sequence AND last_sequence) AS has_gap \
         FROM pending_snapshot AS snapshot JOIN node_stream USING (node_uid, stream) \
         WHERE node_stream.received @> int8range(first_sequence, last_sequence, '[]') AND node_uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(
        ")), settled AS (DELETE FROM pending_snapshot AS old USING whole \
         WHERE (old.node_uid, old.stream, old.kind) = (whole.node_uid, whole.stream, whole.kind) \
         AND (old.last_sequence = whole.last_sequence AND (whole.settled OR whole.has_gap) \
         OR old.last_sequence < whole.last_sequence AND NOT whole.has_gap)) \
         SELECT node_uid, stream, kind, first_sequence, last_sequence, has_gap FROM whole \
         ORDER BY node_uid, kind, last_sequence",
    );
    load(connection, complete).await
}
