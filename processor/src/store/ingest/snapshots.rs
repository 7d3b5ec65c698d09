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

/// Notes snapshots, then takes those of these nodes off the list that are
/// complete.
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
        "DELETE FROM pending_snapshot AS snapshot USING node_stream \
         WHERE node_stream.node_uid = snapshot.node_uid AND node_stream.stream = snapshot.stream \
         AND node_stream.received @> int8range(first_sequence, last_sequence, '[]') \
         AND snapshot.node_uid = ANY(",
    )
    .bind(Bind::Uuids(nodes.to_vec()))
    .text(
        ") RETURNING snapshot.node_uid, snapshot.stream, kind, first_sequence, last_sequence, \
         EXISTS (SELECT FROM waived_sequence AS waived WHERE waived.node_uid = snapshot.node_uid \
         AND waived.stream = snapshot.stream \
         AND waived.sequence BETWEEN first_sequence AND last_sequence) AS has_gap",
    );
    load(connection, complete).await
}
