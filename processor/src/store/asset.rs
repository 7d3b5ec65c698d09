//! The table `asset`: the current fold.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    ExpressionMethods, NullableExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable,
    QueryableByName, Selectable, SelectableHelper, sql_types::Timestamptz,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    filter_sql::Columns,
    sql::{Bind, Condition, Sql, load},
};
use crate::{
    domain::filter::{Subject, Value},
    schema::{asset, node},
};

/// Where filters on assets find their fields.
pub const COLUMNS: Columns = Columns {
    columns: &[
        ("name", "asset.uid"),
        ("kind", "asset.kind"),
        ("display_name", "asset.display_name"),
        ("node", "asset.node_uid"),
        ("node_display_name", "coalesce(node.display_name, '')"),
        ("natural_key", "asset.natural_key"),
        ("state", "asset.state"),
        ("revision", "asset.revision"),
        ("managed_revision", "asset.managed_revision"),
        ("first_seen_time", "asset.first_seen_time"),
        ("last_seen_time", LAST_SEEN),
        ("create_time", "asset.create_time"),
        ("update_time", "asset.update_time"),
        ("delete_time", "asset.delete_time"),
    ],
    json: Some("asset.attributes"),
    managed: Some("asset.managed_attributes"),
    texts: &["asset.display_name", "asset.natural_key"],
    lines: Some("(asset.display_name || E'\\n' || asset.natural_key)"),
    node: "asset.node_uid",
};
const LAST_SEEN: &str = "(CASE asset.state WHEN 1 THEN greatest(node.heartbeat_time, asset.first_seen_time) \
     ELSE asset.remove_time END)";

/// A row of the table.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = asset)]
#[allow(missing_docs)]
pub struct AssetRow {
    pub uid: Uuid,
    pub kind: i16,
    pub display_name: String,
    pub node_uid: Option<Uuid>,
    pub natural_key: String,
    pub state: i16,
    pub details: Option<Vec<u8>>,
    pub managed: Option<Vec<u8>>,
    pub revision: i64,
    pub managed_revision: i64,
    pub first_seen_time: Option<DateTime<Utc>>,
    pub remove_time: Option<DateTime<Utc>>,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    pub delete_time: Option<DateTime<Utc>>,
}

/// Where assets are read from: what stands in FROM as `asset`, with the columns
/// of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The current fold.
    Now,
}

impl Source {
    /// What stands in FROM.
    pub fn sql(self) -> Sql {
        match self {
            Self::Now => Sql::new("asset"),
        }
    }
}

/// What a filter is asked about, of a row and its `attributes`.
pub fn subject((row, node_display_name, heartbeat): &AssetOnNode, attributes: serde_json::Value) -> Subject {
    let text = |text: &str| Value::Text(text.to_owned());
    let time = |time: Option<DateTime<Utc>>| time.map_or(Value::Absent, Value::Time);
    let node_name = node_display_name.as_deref().unwrap_or_default();
    let last_seen = match row.state {
        1 => (*heartbeat).max(row.first_seen_time),
        _ => row.remove_time,
    };
    Subject {
        columns: vec![
            ("name", Value::Uuid(row.uid)),
            ("kind", Value::Number(row.kind.into())),
            ("display_name", text(&row.display_name)),
            ("node", row.node_uid.map_or(Value::Absent, Value::Uuid)),
            ("node_display_name", text(node_name)),
            ("natural_key", text(&row.natural_key)),
            ("state", Value::Number(row.state.into())),
            ("revision", Value::Number(row.revision)),
            ("managed_revision", Value::Number(row.managed_revision)),
            ("first_seen_time", time(row.first_seen_time)),
            ("last_seen_time", time(last_seen)),
            ("create_time", Value::Time(row.create_time)),
            ("update_time", Value::Time(row.update_time)),
            ("delete_time", time(row.delete_time)),
        ],
        attributes,
        texts: vec![row.display_name.clone(), row.natural_key.clone(), node_name.to_owned()],
    }
}

/// A row with what its node adds: name and last heartbeat.
pub type AssetOnNode = (AssetRow, Option<String>, Option<DateTime<Utc>>);

/// Reads one asset.
///
/// # Errors
/// The query fails.
pub async fn get(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Option<AssetOnNode>> {
    asset::table
        .left_join(node::table)
        .filter(asset::uid.eq(uid))
        .select((AssetRow::as_select(), node::display_name.nullable(), node::heartbeat_time.nullable()))
        .first(connection)
        .await
        .optional()
}

/// Reads assets, in any order.
///
/// # Errors
/// The query fails.
pub async fn get_many(connection: &mut AsyncPgConnection, uids: &[Uuid]) -> QueryResult<Vec<AssetOnNode>> {
    asset::table
        .left_join(node::table)
        .filter(asset::uid.eq_any(uids))
        .select((AssetRow::as_select(), node::display_name.nullable(), node::heartbeat_time.nullable()))
        .load(connection)
        .await
}

/// Lists assets by display name and UUID, after a given one.
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    condition: Option<Sql>,
    show_deleted: bool,
    after: Option<(String, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<AssetOnNode>> {
    let mut query = asset::table
        .left_join(node::table)
        .select((AssetRow::as_select(), node::display_name.nullable(), node::heartbeat_time.nullable()))
        .order((asset::display_name.asc(), asset::uid.asc()))
        .limit(limit)
        .into_boxed();
    if let Some(condition) = condition {
        query = query.filter(Condition(condition));
    }
    if !show_deleted {
        query = query.filter(asset::delete_time.is_null());
    }
    if let Some((display_name, uid)) = after {
        let place = Sql::new("(asset.display_name, asset.uid) > (")
            .bind(Bind::Text(display_name))
            .text(", ")
            .bind(Bind::Uuid(uid))
            .text(")");
        query = query.filter(Condition(place));
    }
    query.load(connection).await
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// A time to record, taken now, after the locks: later than `after`.
///
/// # Errors
/// The query fails.
pub async fn record_time_in_txn(
    connection: &mut AsyncPgConnection,
    after: Option<DateTime<Utc>>,
) -> QueryResult<DateTime<Utc>> {
    // First the transaction's ID, by which those who read the past know that
    // something may be recorded as of now (`store::past::horizon`).
    let query = Sql::new("SELECT pg_current_xact_id() IS NOT NULL AS has_id, clock_timestamp() AS now");
    let mut clock: Vec<Clock> = load(connection, query).await?;
    let now = clock.pop().ok_or(diesel::result::Error::NotFound)?.now;
    Ok(match after {
        Some(after) if after >= now => after + TimeDelta::microseconds(1),
        _ => now,
    })
}

/// Inserts an asset that a person created.
///
/// # Errors
/// The statement fails.
pub async fn insert_in_txn(
    connection: &mut AsyncPgConnection,
    row: &AssetRow,
    searchable: serde_json::Value,
) -> QueryResult<()> {
    diesel::insert_into(asset::table)
        .values((
            asset::uid.eq(row.uid),
            asset::kind.eq(row.kind),
            asset::display_name.eq(&row.display_name),
            asset::natural_key.eq(&row.natural_key),
            asset::state.eq(row.state),
            asset::managed.eq(&row.managed),
            asset::attributes.eq(serde_json::json!({ "managed": searchable })),
            asset::revision.eq(row.revision),
            asset::managed_revision.eq(row.managed_revision),
            asset::create_time.eq(row.create_time),
            asset::update_time.eq(row.update_time),
        ))
        .execute(connection)
        .await
        .map(drop)
}
