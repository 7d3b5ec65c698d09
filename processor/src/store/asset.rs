//! The table `asset`: the current fold.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    ExpressionMethods, NullableExpressionMethods, OptionalExtension, QueryDsl, QueryResult, Queryable,
    QueryableByName, Selectable, SelectableHelper, sql_types::Timestamptz,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    filter_sql::{Columns, compile},
    past,
    sql::{Sql, load},
};
use crate::{
    domain::filter::{Predicate, Subject, Value},
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
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable)]
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

impl AssetRow {
    /// When it was last known to be there, by the last heartbeat of its node.
    pub fn last_seen(&self, heartbeat: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        match self.state {
            1 => heartbeat.max(self.first_seen_time),
            _ => self.remove_time,
        }
    }
}

/// Where assets are read from: what stands in FROM as `asset`, with the columns
/// of the table, `managed_attributes` included: `attributes -> 'managed'`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The current fold.
    Now,
    /// What it was at a time that is settled.
    At(DateTime<Utc>),
}

impl Source {
    /// What stands in FROM, to look for some of them by a condition.
    pub fn sql(self) -> Sql {
        match self {
            Self::Now => Sql::new("asset"),
            Self::At(time) => {
                let [same, other] = past::by_name(time);
                Sql::new("(").then(same).text(" UNION ALL ").then(other).text(")")
            }
        }
    }

    /// What stands in FROM, to look for one by its `uid`.
    pub fn by_uid(self) -> Sql {
        match self {
            Self::Now => Sql::new("asset"),
            Self::At(time) => past::by_asset(time),
        }
    }

    /// What stands in FROM, to look at all of them.
    pub fn whole(self) -> Sql {
        match self {
            Self::Now => Sql::new("asset"),
            Self::At(time) => past::whole(time),
        }
    }

    /// What stands in FROM, to walk through an order that an index has: one after
    /// another, all of them.
    pub fn parts(self, by_name: bool) -> Vec<Sql> {
        match self {
            Self::Now => vec![Sql::new("asset")],
            Self::At(time) if by_name => past::by_name(time).into(),
            Self::At(time) => vec![past::by_asset(time)],
        }
    }

    /// Leaves out what is deleted.
    pub fn not_deleted(self) -> &'static str {
        match self {
            Self::Now => "asset.delete_time IS NULL",
            Self::At(_) => past::NOT_DELETED,
        }
    }

    /// Where filters find their fields.
    pub fn columns(self) -> &'static Columns {
        match self {
            Self::Now => &COLUMNS,
            Self::At(_) => &past::COLUMNS,
        }
    }

    /// The condition that a filter makes.
    pub fn condition(self, predicate: Option<Predicate>) -> Option<Sql> {
        match self {
            Self::Now => predicate.map(|predicate| compile(&predicate, &COLUMNS)),
            Self::At(_) => Some(past::Wanted::new(predicate).sql()),
        }
    }
}

/// What a filter is asked about, of a row and its `attributes`.
pub fn subject((row, node_display_name, heartbeat): &AssetOnNode, attributes: serde_json::Value) -> Subject {
    let text = |text: &str| Value::Text(text.to_owned());
    let time = |time: Option<DateTime<Utc>>| time.map_or(Value::Absent, Value::Time);
    let node_name = node_display_name.as_deref().unwrap_or_default();
    let last_seen = row.last_seen(*heartbeat);
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
