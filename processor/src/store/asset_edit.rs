//! Edits of assets: locks in the house's order, and the managed side of many rows
//! in one statement, with the log.

use chrono::{DateTime, Utc};
use contracts::v1::EventType;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    ingest::small,
    sql::{Bind, Sql, execute, load, load_once},
};

/// A row of `asset` as edits need it: without what agents saw.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct EditRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    #[diesel(sql_type = SmallInt)]
    pub state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub managed: Option<Vec<u8>>,
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    #[diesel(sql_type = BigInt)]
    pub managed_revision: i64,
    #[diesel(sql_type = Timestamptz)]
    pub update_time: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub delete_time: Option<DateTime<Utc>>,
}

/// The managed side of a locked row after an edit.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// Asset.
    pub uid: Uuid,
    /// What the edit was.
    pub event_type: EventType,
    /// Its name.
    pub display_name: String,
    /// Encoded ManagedFields.
    pub managed: Option<Vec<u8>>,
    /// The same as it is searched.
    pub searchable: serde_json::Value,
    /// Number of the revision.
    pub revision: i64,
    /// Number among the edits.
    pub managed_revision: i64,
    /// When it is recorded.
    pub record_time: DateTime<Utc>,
    /// When the record was deleted.
    pub delete_time: Option<DateTime<Utc>>,
    /// Paths that it changed, sorted.
    pub changed: Vec<String>,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Uid)]
    uid: Uuid,
}

/// Locks assets for an edit, and their nodes before them, each in the order of
/// their UUIDs: what agents report is folded under the lock of the node alone.
/// Tells those that are there, in this order.
///
/// # Errors
/// A query fails.
pub async fn lock_in_txn(connection: &mut AsyncPgConnection, uids: &[Uuid]) -> QueryResult<Vec<Uuid>> {
    let nodes = Sql::new("SELECT uid FROM node WHERE uid IN (SELECT node_uid FROM asset WHERE uid = ANY(")
        .bind(Bind::Uuids(uids.to_vec()))
        .text(")) ORDER BY uid FOR NO KEY UPDATE");
    execute(connection, nodes).await?;
    let assets = Sql::new("SELECT uid FROM asset WHERE uid = ANY(")
        .bind(Bind::Uuids(uids.to_vec()))
        .text(") ORDER BY uid FOR NO KEY UPDATE");
    Ok(load::<Found>(connection, assets).await?.into_iter().map(|row| row.uid).collect())
}

/// Those of some assets that are there, by UUID.
///
/// # Errors
/// The query fails.
pub async fn found(connection: &mut AsyncPgConnection, uids: &[Uuid]) -> QueryResult<Vec<Uuid>> {
    let query = Sql::new("SELECT uid FROM asset WHERE uid = ANY(")
        .bind(Bind::Uuids(uids.to_vec()))
        .text(") ORDER BY uid");
    Ok(load::<Found>(connection, query).await?.into_iter().map(|row| row.uid).collect())
}

/// Reads assets as edits need them, by UUID.
///
/// # Errors
/// The query fails.
pub async fn read(connection: &mut AsyncPgConnection, uids: &[Uuid]) -> QueryResult<Vec<EditRow>> {
    let query = Sql::new(
        "SELECT uid, kind, display_name, state, managed, revision, managed_revision, update_time, delete_time \
         FROM asset WHERE uid = ANY(",
    )
    .bind(Bind::Uuids(uids.to_vec()))
    .text(") ORDER BY uid");
    load(connection, query).await
}

/// Those of some assets, or of all, that are not deleted and under a condition, by
/// UUID; at most `most`.
///
/// # Errors
/// The query fails.
pub async fn under(
    connection: &mut AsyncPgConnection,
    condition: &Sql,
    of: Option<&[Uuid]>,
    most: i64,
) -> QueryResult<Vec<Uuid>> {
    let query = Sql::new("SELECT asset.uid AS uid").then(chosen(condition, of));
    let query = query.text(" ORDER BY asset.uid LIMIT ").bind(Bind::BigInt(most));
    Ok(load_once::<Found>(connection, query).await?.into_iter().map(|row| row.uid).collect())
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many assets are not deleted and under a condition.
///
/// # Errors
/// The query fails.
pub async fn count_under(connection: &mut AsyncPgConnection, condition: &Sql) -> QueryResult<i64> {
    let query = Sql::new("SELECT count(*) AS count").then(chosen(condition, None));
    Ok(load_once::<Count>(connection, query).await?.first().map_or(0, |row| row.count))
}

fn chosen(condition: &Sql, of: Option<&[Uuid]>) -> Sql {
    let mut sql = Sql::new(
        " FROM asset LEFT JOIN node ON node.uid = asset.node_uid WHERE asset.delete_time IS NULL AND (",
    )
    .then(condition.clone())
    .text(")");
    if let Some(uids) = of {
        sql = sql.text(" AND asset.uid = ANY(").bind(Bind::Uuids(uids.to_vec())).text(")");
    }
    sql
}

/// Writes revisions of locked assets and appends them to the log.
///
/// # Errors
/// The statement fails.
pub async fn save_in_txn(
    connection: &mut AsyncPgConnection,
    revisions: &[NewRevision],
    actor: &str,
) -> QueryResult<()> {
    if revisions.is_empty() {
        return Ok(());
    }
    // An array of arrays must be even; the paths travel joined. None holds a line
    // break: keys of maps are checked.
    let changed = revisions.iter().map(|row| row.changed.join("\n")).collect();
    let statement = Sql::new("WITH row AS MATERIALIZED (SELECT * FROM unnest(")
        .binds([
            Bind::Uuids(revisions.iter().map(|row| row.uid).collect()),
            Bind::Uuids(revisions.iter().map(|_| Uuid::now_v7()).collect()),
            Bind::SmallInts(revisions.iter().map(|row| small(row.event_type as i32)).collect()),
            Bind::Texts(revisions.iter().map(|row| row.display_name.clone()).collect()),
            Bind::ByteStrings(revisions.iter().map(|row| row.managed.clone()).collect()),
            Bind::Jsons(revisions.iter().map(|row| row.searchable.clone()).collect()),
            Bind::BigInts(revisions.iter().map(|row| row.revision).collect()),
            Bind::BigInts(revisions.iter().map(|row| row.managed_revision).collect()),
            Bind::Times(revisions.iter().map(|row| Some(row.record_time)).collect()),
            Bind::Times(revisions.iter().map(|row| row.delete_time).collect()),
            Bind::Texts(changed),
        ])
        .text(SAVE)
        .bind(Bind::Text(actor.to_owned()))
        .text(" FROM saved ORDER BY uid");
    execute(connection, statement).await.map(drop)
}

const SAVE: &str = ") AS row (uid, event_uid, type, display_name, managed, searchable, revision, \
     managed_revision, record_time, delete_time, changed)), \
     saved AS (UPDATE asset SET display_name = row.display_name, managed = row.managed, \
     attributes = asset.attributes || jsonb_build_object('managed', row.searchable), revision = row.revision, \
     managed_revision = row.managed_revision, update_time = row.record_time, delete_time = row.delete_time \
     FROM row WHERE asset.uid = row.uid RETURNING asset.uid, asset.kind, asset.display_name, asset.node_uid, \
     asset.natural_key, asset.revision, asset.managed_revision, asset.state, asset.details, asset.managed, \
     row.record_time, row.event_uid, row.type, row.changed) \
     INSERT INTO asset_event (record_time, event_uid, type, asset_uid, kind, display_name, node_uid, \
     natural_key, revision, managed_revision, state, details, managed, changed_fields, actor) \
     SELECT record_time, event_uid, type, uid, kind, display_name, node_uid, natural_key, revision, \
     managed_revision, state, details, managed, \
     coalesce(string_to_array(nullif(changed, ''), E'\\n'), '{}'), ";
