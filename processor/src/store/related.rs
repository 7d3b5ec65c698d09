//! Assets of a node, as far as their relations need them.

use contracts::v1::AssetKind;
use diesel::{
    ExpressionMethods, NullableExpressionMethods, QueryDsl, QueryResult, QueryableByName, SelectableHelper,
    sql_types::{Bytea, Nullable, SmallInt, Text, Uuid as Uid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    asset::{AssetOnNode, AssetRow},
    sql::{Bind, Sql, load},
};
use crate::schema::{asset, node};

/// An ACTIVE asset of a node.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct MemberRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// Only if relations may be in them.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub details: Option<Vec<u8>>,
}

/// The ACTIVE assets of a node, with the details of those that report relations
/// or are of one of the kinds. If there are more than `limit`, then those first.
///
/// # Errors
/// The query fails.
pub async fn members(
    connection: &mut AsyncPgConnection,
    node: Uuid,
    kinds: &[AssetKind],
    limit: i64,
) -> QueryResult<Vec<MemberRow>> {
    let kinds = kinds.iter().filter_map(|kind| i16::try_from(*kind as i32).ok()).collect();
    let query = Sql::new(
        "SELECT uid, kind, display_name, CASE WHEN asset.attributes -> 'details' ? 'relations' OR kind = ANY(",
    )
    .bind(Bind::SmallInts(kinds))
    .text(") THEN details END AS details FROM asset WHERE node_uid = ")
    .bind(Bind::Uuid(node))
    .text(" AND state = 1 AND delete_time IS NULL ORDER BY details IS NULL, uid LIMIT ")
    .bind(Bind::BigInt(limit));
    load(connection, query).await
}

/// Reads assets, in any order.
///
/// # Errors
/// The query fails.
pub async fn assets(connection: &mut AsyncPgConnection, uids: &[Uuid]) -> QueryResult<Vec<AssetOnNode>> {
    asset::table
        .left_join(node::table)
        .filter(asset::uid.eq_any(uids))
        .select((AssetRow::as_select(), node::display_name.nullable(), node::heartbeat_time.nullable()))
        .load(connection)
        .await
}
