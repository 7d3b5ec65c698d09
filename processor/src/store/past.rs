//! Assets as they were at an earlier time: the table `asset`, and `asset_past`
//! for those that have changed since (ADR 20).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    asset::{AssetOnNode, AssetRow},
    filter_sql::{Columns, compile},
    sql::{Bind, Sql, load, load_once},
};
use crate::domain::filter::{Predicate, divide, needs_managed};

/// Where filters on assets as they were find their fields. While an asset was
/// ACTIVE, nothing that is kept tells when its node was last heard.
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
        ("last_seen_time", "(CASE asset.state WHEN 1 THEN NULL ELSE asset.remove_time END)"),
        ("create_time", "asset.create_time"),
        ("update_time", "asset.update_time"),
        ("delete_time", "asset.delete_time"),
    ],
    // The column that has an index is of now.
    managed: None,
    ..super::asset::COLUMNS
};

/// Fields that are the same at all times of an asset, or by which a walk goes:
/// conditions on them alone can be answered by the indexes of `asset`.
pub const LASTING: &[&str] = &[
    "name",
    "kind",
    "display_name",
    "node",
    "node_display_name",
    "natural_key",
    "first_seen_time",
    "create_time",
];

/// Which assets of an earlier time are asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A condition on [`LASTING`] fields.
    pub lasting: Option<Sql>,
    /// A condition on others, too.
    pub state: Option<Sql>,
    /// Only what people ever recorded anything of.
    pub managed: bool,
}

impl Wanted {
    /// One of a predicate.
    #[must_use]
    pub fn new(predicate: Option<Predicate>) -> Self {
        let managed = predicate.as_ref().is_some_and(needs_managed);
        let (lasting, state) = predicate.map_or((None, None), |predicate| divide(predicate, LASTING));
        let sql = |part: Predicate| compile(&part, &COLUMNS);
        Self { lasting: lasting.map(sql), state: state.map(sql), managed }
    }

    /// The condition; [`NOT_DELETED`] is another one.
    #[must_use]
    pub fn sql(&self) -> Sql {
        let mut sql = Sql::new("true");
        if let Some(condition) = &self.lasting {
            sql = sql.text(" AND (").then(condition.clone()).text(")");
        }
        if self.managed {
            sql = sql.text(" AND asset.ever_managed");
        }
        if let Some(condition) = &self.state {
            // Nothing is known of how often such a condition holds. What is taken for
            // rare would be looked for in all there is, and then sorted; of a CASE
            // PostgreSQL takes it that it holds half of the time.
            sql = sql.text(" AND CASE WHEN ").then(condition.clone()).text(" THEN true ELSE false END");
        }
        sql
    }
}

/// The columns of an asset as it was, given `own`, its row, and `past`, its state
/// then if that is another one.
const AS_IT_WAS: &str = "own.kind, own.node_uid, own.natural_key, own.create_time, own.first_seen_time, \
     own.update_time AS newest_time, own.managed_revision > 0 AS ever_managed, past.uid IS NULL AS is_whole, \
     CASE WHEN past.uid IS NULL THEN own.state ELSE past.state END AS state, \
     CASE WHEN past.uid IS NULL THEN own.attributes ELSE past.attributes END AS attributes, \
     CASE WHEN past.uid IS NULL THEN own.attributes ELSE past.attributes END -> 'managed' AS managed_attributes, \
     CASE WHEN past.uid IS NULL THEN own.revision ELSE past.revision END AS revision, \
     CASE WHEN past.uid IS NULL THEN own.managed_revision ELSE past.managed_revision END AS managed_revision, \
     CASE WHEN past.uid IS NULL THEN own.remove_time ELSE past.remove_time END AS remove_time, \
     CASE WHEN past.uid IS NULL THEN own.update_time ELSE past.update_time END AS update_time, \
     CASE WHEN past.uid IS NULL THEN own.delete_time ELSE past.delete_time END AS delete_time, \
     CASE WHEN past.uid IS NULL THEN own.delete_time IS NOT NULL ELSE past.delete_time IS NOT NULL END AS deleted, \
     CASE WHEN past.uid IS NULL THEN own.details END AS details, \
     CASE WHEN past.uid IS NULL THEN own.managed END AS managed";

/// A condition that leaves out what was deleted then. Not by a time that is NULL,
/// which the planner takes for rare.
pub const NOT_DELETED: &str = "NOT asset.deleted";

fn time(at: DateTime<Utc>) -> Bind {
    Bind::Time(Some(at))
}

/// The state that an asset `own` had, if it is not the one it has now. LIMIT keeps
/// it a look-up of its own, which is made only for what has changed since.
fn state_then(at: DateTime<Utc>) -> Sql {
    Sql::new("LATERAL (SELECT * FROM asset_past AS state WHERE state.uid = own.uid AND own.update_time > ")
        .bind(time(at))
        .text(" AND state.update_time <= ")
        .bind(time(at))
        .text(" AND state.until_time > ")
        .bind(time(at))
        .text(" LIMIT 1) AS past ON true")
}

/// What stands in FROM as `asset`: all assets as they were, by their UUIDs.
pub fn by_asset(at: DateTime<Utc>) -> Sql {
    Sql::new(format!(
        "(SELECT own.uid, CASE WHEN past.uid IS NULL THEN own.display_name ELSE past.display_name END \
         AS display_name, {AS_IT_WAS} FROM asset AS own LEFT JOIN "
    ))
    .then(state_then(at))
    .text(" WHERE own.create_time <= ")
    .bind(time(at))
    .text(" AND CASE WHEN past.uid IS NULL THEN own.update_time <= ")
    .bind(time(at))
    .text(" ELSE true END)")
}

/// Two things that stand in FROM as `asset` and together are all assets as they
/// were: those that have the name that they had, and those that have another one.
/// Each has an index of names, so that a page of a list is read without the rest.
pub fn by_name(at: DateTime<Utc>) -> [Sql; 2] {
    let same =
        Sql::new(format!("(SELECT own.uid, own.display_name, {AS_IT_WAS} FROM asset AS own LEFT JOIN "))
            .then(state_then(at))
            .text(" WHERE own.create_time <= ")
            .bind(time(at))
            .text(" AND CASE WHEN past.uid IS NULL THEN own.update_time <= ")
            .bind(time(at))
            .text(" ELSE past.display_name = own.display_name END)");
    // From the first row since then that another name followed: up to it, the name
    // was the same.
    let other = Sql::new(format!(
        "(SELECT named.uid, named.display_name, {AS_IT_WAS} FROM asset_past AS named \
         JOIN asset AS own ON own.uid = named.uid JOIN "
    ))
    .then(state_then(at))
    .text(" WHERE named.renamed AND named.display_name <> own.display_name AND named.until_time > ")
    .bind(time(at))
    .text(
        " AND NOT EXISTS (SELECT FROM asset_past AS sooner WHERE sooner.uid = named.uid AND sooner.renamed \
         AND sooner.until_time < named.until_time AND sooner.until_time > ",
    )
    .bind(time(at))
    .text("))");
    [same, other]
}

/// What stands in FROM as `asset`: all assets as they were, to be looked at each.
/// Two tables that can be joined as a whole.
pub fn whole(at: DateTime<Utc>) -> Sql {
    Sql::new(format!(
        "(SELECT own.uid, CASE WHEN past.uid IS NULL THEN own.display_name ELSE past.display_name END \
         AS display_name, {AS_IT_WAS} FROM asset AS own LEFT JOIN asset_past AS past \
         ON past.uid = own.uid AND past.update_time <= "
    ))
    .bind(time(at))
    .text(" AND past.until_time > ")
    .bind(time(at))
    .text(" WHERE own.create_time <= ")
    .bind(time(at))
    .text(" AND CASE WHEN past.uid IS NULL THEN own.update_time <= ")
    .bind(time(at))
    .text(" ELSE true END)")
}

/// An asset as it was, with the name of its node.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct PastRow {
    #[diesel(embed)]
    pub asset: AssetRow,
    /// Whether details and managed fields are set already.
    #[diesel(sql_type = Bool)]
    pub is_whole: bool,
    #[diesel(sql_type = Nullable<Text>)]
    pub node_display_name: Option<String>,
}

impl From<PastRow> for AssetOnNode {
    fn from(row: PastRow) -> Self {
        (row.asset, row.node_display_name, None)
    }
}

const COLUMNS_OF_ROW: &str = "SELECT asset.uid, asset.kind, asset.display_name, asset.node_uid, \
     asset.natural_key, asset.state, asset.details, asset.managed, asset.revision, asset.managed_revision, \
     asset.first_seen_time, asset.remove_time, asset.create_time, asset.update_time, asset.delete_time, \
     asset.is_whole, node.display_name AS node_display_name FROM ";
const ON_NODE: &str = " AS asset LEFT JOIN node ON node.uid = asset.node_uid WHERE ";

/// Reads one asset as it was; without details and managed fields if it has changed
/// since: see [`fill`].
///
/// # Errors
/// The query fails.
pub async fn get(
    connection: &mut AsyncPgConnection,
    at: DateTime<Utc>,
    uid: Uuid,
) -> QueryResult<Option<PastRow>> {
    let query =
        Sql::new(COLUMNS_OF_ROW).then(by_asset(at)).text(ON_NODE).text("asset.uid = ").bind(Bind::Uuid(uid));
    Ok(load(connection, query).await?.pop())
}

/// Assets as they were that have changed since another time, and were there: not
/// deleted, not REMOVED; by UUID, after a given one; see [`fill`].
///
/// # Errors
/// The query fails.
pub async fn changed_since(
    connection: &mut AsyncPgConnection,
    at: DateTime<Utc>,
    since: DateTime<Utc>,
    wanted: &Wanted,
    after: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<PastRow>> {
    let mut query = Sql::new(COLUMNS_OF_ROW)
        .then(by_asset(at))
        .text(ON_NODE)
        .text(NOT_DELETED)
        .text(" AND asset.newest_time > ")
        .bind(time(since))
        .text(" AND CASE WHEN asset.state <> 2 THEN true ELSE false END AND ")
        .then(wanted.sql());
    if let Some(after) = after {
        query = query.text(" AND asset.uid > ").bind(Bind::Uuid(after));
    }
    let query = query.text(" ORDER BY asset.uid LIMIT ").bind(Bind::BigInt(limit));
    load_once(connection, query).await
}

#[derive(QueryableByName)]
struct Contents {
    #[diesel(sql_type = Uid)]
    asset_uid: Uuid,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = Nullable<Bytea>)]
    details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    managed: Option<Vec<u8>>,
}

/// Gives rows their details and managed fields, out of the log, or the base if
/// retention has dropped that day. Rows are found by asset and revision.
///
/// # Errors
/// A query fails.
pub async fn fill<'a>(
    connection: &mut AsyncPgConnection,
    rows: impl IntoIterator<Item = &'a mut AssetRow> + Send,
) -> QueryResult<()> {
    let mut rows: HashMap<(Uuid, i64), &mut AssetRow> =
        rows.into_iter().map(|row| ((row.uid, row.revision), row)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns = "SELECT asset_uid, revision, details, managed FROM ";
    let wanted = |rows: &HashMap<(Uuid, i64), &mut AssetRow>| {
        Sql::new(" asset_uid = ANY(")
            .bind(Bind::Uuids(rows.keys().map(|(uid, _)| *uid).collect()))
            .text(") AND revision = ANY(")
            .bind(Bind::BigInts(rows.keys().map(|(_, revision)| *revision).collect()))
            .text(")")
    };
    // The time tells the partitions.
    let log = Sql::new(columns)
        .text("asset_event WHERE record_time = ANY(")
        .bind(Bind::Times(rows.values().map(|row| Some(row.update_time)).collect()))
        .text(") AND ")
        .then(wanted(&rows));
    take(load(connection, log).await?, &mut rows);
    if !rows.is_empty() {
        let base = Sql::new(columns).text("asset_base WHERE ").then(wanted(&rows));
        take(load(connection, base).await?, &mut rows);
    }
    for (uid, revision) in rows.keys() {
        // Somebody altered the log; `assettrack verify` tells what.
        tracing::error!(asset = %uid, revision, "the log does not have a revision that was superseded");
    }
    Ok(())
}

fn take(found: Vec<Contents>, rows: &mut HashMap<(Uuid, i64), &mut AssetRow>) {
    for content in found {
        if let Some(row) = rows.remove(&(content.asset_uid, content.revision)) {
            row.details = content.details;
            row.managed = content.managed;
        }
    }
}

/// What can be read of the past.
#[derive(Clone, Copy, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct Horizon {
    #[diesel(sql_type = Timestamptz)]
    pub earliest_time: DateTime<Utc>,
    /// By the database's clock.
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
    /// Whether nothing can be recorded any more as of the time asked for.
    #[diesel(sql_type = Bool)]
    pub is_settled: bool,
}

/// Looks whether a time can be read.
///
/// Times are recorded by the database's clock, within a transaction that has an ID
/// by then. So what could still be recorded as of an earlier time belongs to a
/// transaction that has one now and began before. Background duties record nothing
/// new. Never in a transaction: that would see all of them as at its first look.
///
/// # Errors
/// The query fails.
pub async fn horizon(connection: &mut AsyncPgConnection, at: DateTime<Utc>) -> QueryResult<Horizon> {
    let query = Sql::new("SELECT earliest_time, statement_timestamp() AS now, statement_timestamp() > ")
        .bind(time(at))
        .text(
            " AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
             AND backend_xid IS NOT NULL AND application_name <> 'assettrack-duty' \
             AND (xact_start IS NULL OR xact_start <= ",
        )
        .bind(time(at))
        .text(")) AS is_settled FROM past_horizon");
    load(connection, query).await?.pop().ok_or(diesel::result::Error::NotFound)
}
