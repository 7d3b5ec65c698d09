//! The tables `asset_event`, the log, and `asset_base`, what is left of its old days.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, Insertable, NullableExpressionMethods, OptionalExtension, QueryDsl, QueryResult,
    Queryable, Selectable, SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    filter_sql::Columns,
    sql::{Bind, Condition, Sql},
};
use crate::{
    domain::filter::{Subject, Value},
    schema::{asset_base, asset_event, node},
};

/// Where filters on events find their fields.
pub const COLUMNS: Columns = Columns {
    columns: &[
        ("name", "asset_event.event_uid"),
        ("type", "asset_event.type"),
        ("asset", "asset_event.asset_uid"),
        ("kind", "asset_event.kind"),
        ("display_name", "asset_event.display_name"),
        ("node", "asset_event.node_uid"),
        ("node_display_name", "coalesce(node.display_name, '')"),
        ("revision", "coalesce(asset_event.revision, 0)"),
        ("record_time", "asset_event.record_time"),
        ("observe_time", "asset_event.observe_time"),
        ("actor", "asset_event.actor"),
    ],
    json: None,
    managed: None,
    texts: &["asset_event.display_name", "asset_event.natural_key"],
    lines: None,
    node: "asset_event.node_uid",
};

/// A row of the log.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = asset_event)]
#[allow(missing_docs)]
pub struct EventRow {
    pub record_time: DateTime<Utc>,
    pub id: i64,
    pub event_uid: Uuid,
    pub event_type: i16,
    pub asset_uid: Uuid,
    pub kind: i16,
    pub display_name: String,
    pub node_uid: Option<Uuid>,
    pub natural_key: String,
    pub revision: Option<i64>,
    pub managed_revision: i64,
    pub state: i16,
    pub changed_fields: Vec<String>,
    pub actor: String,
    pub observe_time: Option<DateTime<Utc>>,
}

/// A row of the log with its node's name and both sides of the asset, as they
/// were after it: encoded AssetDetails and ManagedFields.
pub type RevisionRow = (EventRow, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>);

/// An edit, for the log.
#[derive(Debug, Insertable)]
#[diesel(table_name = asset_event)]
#[allow(missing_docs)]
pub struct NewEdit<'a> {
    pub record_time: DateTime<Utc>,
    pub event_uid: Uuid,
    pub event_type: i16,
    pub asset_uid: Uuid,
    pub kind: i16,
    pub display_name: &'a str,
    pub node_uid: Option<Uuid>,
    pub natural_key: &'a str,
    pub revision: i64,
    pub managed_revision: i64,
    pub state: i16,
    pub details: Option<&'a [u8]>,
    pub managed: Option<&'a [u8]>,
    pub changed_fields: &'a [String],
    pub actor: &'a str,
}

/// A row with its node's name.
pub type EventOnNode = (EventRow, Option<String>);

/// What a filter is asked about, of a row.
pub fn subject((row, node_display_name): &EventOnNode) -> Subject {
    let text = |text: &str| Value::Text(text.to_owned());
    let node_name = node_display_name.as_deref().unwrap_or_default();
    Subject {
        columns: vec![
            ("name", Value::Uuid(row.event_uid)),
            ("type", Value::Number(row.event_type.into())),
            ("asset", Value::Uuid(row.asset_uid)),
            ("kind", Value::Number(row.kind.into())),
            ("display_name", text(&row.display_name)),
            ("node", row.node_uid.map_or(Value::Absent, Value::Uuid)),
            ("node_display_name", text(node_name)),
            ("revision", Value::Number(row.revision.unwrap_or(0))),
            ("record_time", Value::Time(row.record_time)),
            ("observe_time", row.observe_time.map_or(Value::Absent, Value::Time)),
            ("actor", text(&row.actor)),
        ],
        attributes: serde_json::Value::Null,
        texts: vec![row.display_name.clone(), row.natural_key.clone(), node_name.to_owned()],
    }
}

/// Appends an edit.
///
/// # Errors
/// The statement fails.
pub async fn append_edit_in_txn(connection: &mut AsyncPgConnection, edit: &NewEdit<'_>) -> QueryResult<()> {
    diesel::insert_into(asset_event::table).values(edit).execute(connection).await.map(drop)
}

/// Lists events, newest first, before a given one.
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    condition: Option<Sql>,
    before: Option<(DateTime<Utc>, i64)>,
    limit: i64,
) -> QueryResult<Vec<EventOnNode>> {
    let mut query = asset_event::table
        .left_join(node::table)
        .select((EventRow::as_select(), node::display_name.nullable()))
        .order((asset_event::record_time.desc(), asset_event::id.desc()))
        .limit(limit)
        .into_boxed();
    if let Some(condition) = condition {
        query = query.filter(Condition(condition));
    }
    if let Some((record_time, id)) = before {
        let place = Sql::new("(asset_event.record_time, asset_event.id) < (")
            .bind(Bind::Time(Some(record_time)))
            .text(", ")
            .bind(Bind::BigInt(id))
            .text(")");
        query = query.filter(Condition(place));
    }
    query.load(connection).await
}

/// Lists the revisions of an asset, newest first, below a given one: those of the
/// log, and then the base's, the oldest that is kept.
///
/// # Errors
/// A query fails.
pub async fn revisions(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    below: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<RevisionRow>> {
    let below = below.unwrap_or(i64::MAX);
    let mut rows: Vec<RevisionRow> = asset_event::table
        .left_join(node::table)
        .select((
            EventRow::as_select(),
            node::display_name.nullable(),
            asset_event::details,
            asset_event::managed,
        ))
        .filter(asset_event::asset_uid.eq(asset))
        .filter(asset_event::revision.lt(below))
        .order(asset_event::revision.desc())
        .limit(limit)
        .load(connection)
        .await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) < limit {
        // Retention may have carried what was just read.
        let below = rows.last().and_then(|(last, ..)| last.revision).unwrap_or(below);
        rows.extend(base_revision(connection, asset, below).await?);
    }
    Ok(rows)
}

/// One revision of an asset, if it is kept.
///
/// # Errors
/// A query fails.
pub async fn revision(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    number: i64,
) -> QueryResult<Option<RevisionRow>> {
    let Some(below) = number.checked_add(1) else { return Ok(None) };
    let newest = revisions(connection, asset, Some(below), 1).await?.pop();
    Ok(newest.filter(|(row, ..)| row.revision == Some(number)))
}

async fn base_revision(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    below: i64,
) -> QueryResult<Option<RevisionRow>> {
    asset_base::table
        .left_join(node::table)
        .select((
            (
                asset_base::record_time,
                asset_base::id,
                asset_base::event_uid,
                asset_base::event_type,
                asset_base::asset_uid,
                asset_base::kind,
                asset_base::display_name,
                asset_base::node_uid,
                asset_base::natural_key,
                asset_base::revision.nullable(),
                asset_base::managed_revision,
                asset_base::state,
                asset_base::changed_fields,
                asset_base::actor,
                asset_base::observe_time,
            ),
            node::display_name.nullable(),
            asset_base::details,
            asset_base::managed,
        ))
        .filter(asset_base::asset_uid.eq(asset))
        .filter(asset_base::revision.lt(below))
        .first(connection)
        .await
        .optional()
}
