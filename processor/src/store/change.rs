//! The log as a feed of changes: rows in the order of their places, and assets as
//! they were before.

use chrono::{DateTime, Utc};
use contracts::v1::EventType;
use diesel::{
    ExpressionMethods, NullableExpressionMethods, QueryDsl, QueryResult, QueryableByName, SelectableHelper,
    sql_types::{Array, BigInt, Bytea, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    asset::{AssetOnNode, AssetRow},
    event::{EventOnNode, EventRow},
    sql::{Bind, Condition, Sql, load},
};
use crate::{
    domain::feed::{Edge, Place},
    schema::{asset, node},
};

/// Rows of a page.
pub const PAGE: usize = 500;

/// A row of the log as its followers need it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its place, before its `id`.
    pub xid: i64,
    /// The row.
    pub row: EventRow,
    /// Encoded AssetDetails after it.
    pub details: Option<Vec<u8>>,
    /// Encoded ManagedFields after it.
    pub managed: Option<Vec<u8>>,
    /// Name of the node, as of reading.
    pub node_display_name: Option<String>,
    /// Last heartbeat of the node, as of reading.
    pub heartbeat_time: Option<DateTime<Utc>>,
    /// Of the asset as of reading: never changes.
    pub create_time: Option<DateTime<Utc>>,
    /// Of the asset as of reading: never changes once it is set.
    pub first_seen_time: Option<DateTime<Utc>>,
    /// Of the asset as of reading.
    pub remove_time: Option<DateTime<Utc>>,
    /// Of the asset as of reading.
    pub delete_time: Option<DateTime<Utc>>,
}

impl Change {
    /// What happened.
    pub fn event_type(&self) -> EventType {
        EventType::try_from(i32::from(self.row.event_type)).unwrap_or_default()
    }

    /// The event.
    pub fn event(&self) -> EventOnNode {
        (self.row.clone(), self.node_display_name.clone())
    }

    /// When the record was deleted, as of the row.
    pub fn deleted(&self) -> Option<DateTime<Utc>> {
        match self.event_type() {
            EventType::Deleted => Some(self.row.record_time),
            // Came too late to be seen, and says what the deleted asset was like.
            EventType::Changed if self.row.state != 1 => {
                self.delete_time.filter(|deleted| *deleted <= self.row.record_time)
            }
            _ => None,
        }
    }

    /// The asset after it.
    pub fn after(&self) -> AssetOnNode {
        let row = &self.row;
        let remove_time = match row.state {
            2 if self.event_type() == EventType::Removed => Some(row.record_time),
            2 => self.remove_time.filter(|removed| *removed <= row.record_time),
            _ => None,
        };
        let asset = AssetRow {
            uid: row.asset_uid,
            kind: row.kind,
            display_name: row.display_name.clone(),
            node_uid: row.node_uid,
            natural_key: row.natural_key.clone(),
            state: row.state,
            details: self.details.clone(),
            managed: self.managed.clone(),
            revision: row.revision.unwrap_or(0),
            managed_revision: row.managed_revision,
            first_seen_time: self.first_seen_time,
            remove_time,
            create_time: self.create_time.unwrap_or(row.record_time),
            update_time: row.record_time,
            delete_time: self.deleted(),
        };
        (asset, self.node_display_name.clone(), self.heartbeat_time)
    }

    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let texts = self.row.display_name.len() + self.row.natural_key.len() + self.row.actor.len();
        let sides = self.details.as_ref().map_or(0, Vec::len) + self.managed.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + texts + sides + self.row.changed_fields.iter().map(String::len).sum::<usize>()
    }
}

#[derive(QueryableByName)]
struct LoggedRow {
    #[diesel(sql_type = Timestamptz)]
    record_time: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Uid)]
    event_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    event_type: i16,
    #[diesel(sql_type = Uid)]
    asset_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Text)]
    display_name: String,
    #[diesel(sql_type = Nullable<Uid>)]
    node_uid: Option<Uuid>,
    #[diesel(sql_type = Text)]
    natural_key: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    revision: Option<i64>,
    #[diesel(sql_type = BigInt)]
    managed_revision: i64,
    #[diesel(sql_type = SmallInt)]
    state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    managed: Option<Vec<u8>>,
    #[diesel(sql_type = Array<Text>)]
    changed_fields: Vec<String>,
    #[diesel(sql_type = Text)]
    actor: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    observe_time: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct ChangeRow {
    #[diesel(sql_type = BigInt)]
    xid: i64,
    #[diesel(embed)]
    logged: LoggedRow,
    #[diesel(sql_type = Nullable<Text>)]
    node_display_name: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    create_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    first_seen_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    remove_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    delete_time: Option<DateTime<Utc>>,
}

const LOGGED: &str = "event.record_time, event.id, event.event_uid, event.type AS event_type, event.asset_uid, \
     event.kind, event.display_name, event.node_uid, event.natural_key, event.revision, \
     event.managed_revision, event.state, event.details, event.managed, event.changed_fields, event.actor, \
     event.observe_time";

/// The rows after a place, in order, that are settled at an edge: [`PAGE`] at
/// most. `from` leaves out what was recorded earlier.
///
/// # Errors
/// The query fails.
pub async fn page(
    connection: &mut AsyncPgConnection,
    place: &Place,
    edge: &Edge,
    from: Option<DateTime<Utc>>,
) -> QueryResult<Vec<Change>> {
    let earliest = from.map_or(place.earliest(), |from| from.max(place.earliest()));
    let query = Sql::new(format!(
        "SELECT event.feed_xid AS xid, {LOGGED}, node.display_name AS node_display_name, \
         node.heartbeat_time, asset.create_time, asset.first_seen_time, asset.remove_time, \
         asset.delete_time FROM (SELECT * FROM asset_event WHERE (feed_xid, id) > ("
    ))
    .bind(Bind::BigInt(place.xid))
    .text(", ")
    .bind(Bind::BigInt(place.id))
    .text(") AND feed_xid < ")
    .bind(Bind::BigInt(edge.xid))
    .text(" AND id > ")
    .bind(Bind::BigInt(edge.after_id))
    .text(" AND record_time >= ")
    .bind(Bind::Time(Some(earliest)))
    .text(format!(
        " ORDER BY feed_xid, id LIMIT {PAGE}) AS event LEFT JOIN asset ON asset.uid = event.asset_uid \
         LEFT JOIN node ON node.uid = event.node_uid ORDER BY event.feed_xid, event.id"
    ));
    let rows: Vec<ChangeRow> = load(connection, query).await?;
    Ok(rows.into_iter().map(change).collect())
}

fn change(row: ChangeRow) -> Change {
    let logged = row.logged;
    Change {
        xid: row.xid,
        details: logged.details,
        managed: logged.managed,
        node_display_name: row.node_display_name,
        heartbeat_time: row.heartbeat_time,
        create_time: row.create_time,
        first_seen_time: row.first_seen_time,
        remove_time: row.remove_time,
        delete_time: row.delete_time,
        row: EventRow {
            record_time: logged.record_time,
            id: logged.id,
            event_uid: logged.event_uid,
            event_type: logged.event_type,
            asset_uid: logged.asset_uid,
            kind: logged.kind,
            display_name: logged.display_name,
            node_uid: logged.node_uid,
            natural_key: logged.natural_key,
            revision: logged.revision,
            managed_revision: logged.managed_revision,
            state: logged.state,
            changed_fields: logged.changed_fields,
            actor: logged.actor,
            observe_time: logged.observe_time,
        },
    }
}

/// The row of a revision, for `before`.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// What made it.
    pub event_type: i16,
    /// When.
    pub record_time: DateTime<Utc>,
    /// Name then.
    pub display_name: String,
    /// State then.
    pub state: i16,
    /// Edits then.
    pub managed_revision: i64,
    /// Encoded AssetDetails then.
    pub details: Option<Vec<u8>>,
    /// Encoded ManagedFields then.
    pub managed: Option<Vec<u8>>,
}

impl Earlier {
    /// Whether it deleted the record.
    pub fn is_deletion(&self) -> bool {
        self.event_type == EventType::Deleted as i16
    }
}

/// How far back revisions are looked for, in days: most assets that change have
/// changed lately, and each day is a table of its own.
const REACHES: [Option<i32>; 3] = [Some(1), Some(14), None];

/// Rows of given revisions of assets, recorded before `time`; those that are
/// not kept are left out.
///
/// # Errors
/// The query fails.
pub async fn revisions_of(
    connection: &mut AsyncPgConnection,
    wanted: &[(Uuid, i64)],
    time: DateTime<Utc>,
) -> QueryResult<Vec<((Uuid, i64), Earlier)>> {
    let mut missing: Vec<(Uuid, i64)> = wanted.to_vec();
    let mut found = Vec::with_capacity(wanted.len());
    for days in REACHES {
        if missing.is_empty() {
            return Ok(found);
        }
        let earliest = days
            .and_then(|days| time.checked_sub_signed(chrono::TimeDelta::days(days.into())))
            .unwrap_or(DateTime::UNIX_EPOCH);
        let query = wanted_rows(&missing)
            .text(
                "JOIN LATERAL (SELECT * FROM asset_event WHERE asset_uid = wanted.uid \
                 AND revision = wanted.revision AND record_time >= ",
            )
            .bind(Bind::Time(Some(earliest)))
            .text(" LIMIT 1) AS event ON true");
        let rows: Vec<LoggedRow> = load(connection, query).await?;
        take(rows, &mut missing, &mut found);
    }
    if !missing.is_empty() {
        let query = wanted_rows(&missing).text(
            "JOIN asset_base AS event ON event.asset_uid = wanted.uid AND event.revision = wanted.revision",
        );
        let rows: Vec<LoggedRow> = load(connection, query).await?;
        take(rows, &mut missing, &mut found);
    }
    Ok(found)
}

fn wanted_rows(wanted: &[(Uuid, i64)]) -> Sql {
    Sql::new(format!("SELECT {LOGGED} FROM unnest("))
        .binds([
            Bind::Uuids(wanted.iter().map(|(asset, _)| *asset).collect()),
            Bind::BigInts(wanted.iter().map(|(_, revision)| *revision).collect()),
        ])
        .text(") AS wanted (uid, revision) ")
}

fn take(rows: Vec<LoggedRow>, missing: &mut Vec<(Uuid, i64)>, found: &mut Vec<((Uuid, i64), Earlier)>) {
    for row in rows {
        let key = (row.asset_uid, row.revision.unwrap_or(0));
        missing.retain(|wanted| *wanted != key);
        let earlier = Earlier {
            event_type: row.event_type,
            record_time: row.record_time,
            display_name: row.display_name,
            state: row.state,
            managed_revision: row.managed_revision,
            details: row.details,
            managed: row.managed,
        };
        found.push((key, earlier));
    }
}

/// Assets by UUID, after a given one.
///
/// # Errors
/// The query fails.
pub async fn snapshot(
    connection: &mut AsyncPgConnection,
    condition: Option<Sql>,
    show_deleted: bool,
    after: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<AssetOnNode>> {
    let mut query = asset::table
        .left_join(node::table)
        .select((AssetRow::as_select(), node::display_name.nullable(), node::heartbeat_time.nullable()))
        .order(asset::uid.asc())
        .limit(limit)
        .into_boxed();
    if let Some(condition) = condition {
        query = query.filter(Condition(condition));
    }
    if !show_deleted {
        query = query.filter(asset::delete_time.is_null());
    }
    if let Some(after) = after {
        query = query.filter(asset::uid.gt(after));
    }
    query.load(connection).await
}
