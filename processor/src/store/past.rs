//! Assets as they were at an earlier time: the table `asset`, and `asset_past`
//! for those that have changed since (ADR 20).

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{BigInt, Bool, Bytea, Nullable, SmallInt, Text, Timestamptz, Untyped, Uuid as Uid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    asset::{AssetOnNode, AssetRow},
    filter_sql::Columns,
    sql::{Bind, Sql, load},
};

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
    /// Deleted ones too.
    pub show_deleted: bool,
}

impl Wanted {
    fn sql(&self) -> Sql {
        let mut sql = Sql::new("true");
        if let Some(condition) = &self.lasting {
            sql = sql.text(" AND (").then(condition.clone()).text(")");
        }
        if !self.show_deleted {
            sql = sql.text(" AND NOT asset.deleted");
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
     own.update_time AS newest_time, past.uid IS NULL AS is_whole, \
     CASE WHEN past.uid IS NULL THEN own.state ELSE past.state END AS state, \
     CASE WHEN past.uid IS NULL THEN own.attributes ELSE past.attributes END AS attributes, \
     CASE WHEN past.uid IS NULL THEN own.revision ELSE past.revision END AS revision, \
     CASE WHEN past.uid IS NULL THEN own.managed_revision ELSE past.managed_revision END AS managed_revision, \
     CASE WHEN past.uid IS NULL THEN own.remove_time ELSE past.remove_time END AS remove_time, \
     CASE WHEN past.uid IS NULL THEN own.update_time ELSE past.update_time END AS update_time, \
     CASE WHEN past.uid IS NULL THEN own.delete_time ELSE past.delete_time END AS delete_time, \
     CASE WHEN past.uid IS NULL THEN own.delete_time IS NOT NULL ELSE past.delete_time IS NOT NULL END AS deleted, \
     CASE WHEN past.uid IS NULL THEN own.details END AS details, \
     CASE WHEN past.uid IS NULL THEN own.managed END AS managed";

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
    .text(" ELSE true END) AS asset")
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
            .text(" ELSE past.display_name = own.display_name END) AS asset");
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
    .text(")) AS asset");
    [same, other]
}

/// An asset as it was, with the name of its node.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct PastRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    #[diesel(sql_type = Nullable<Uid>)]
    pub node_uid: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pub natural_key: String,
    #[diesel(sql_type = SmallInt)]
    pub state: i16,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub details: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub managed: Option<Vec<u8>>,
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    #[diesel(sql_type = BigInt)]
    pub managed_revision: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub first_seen_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub remove_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub create_time: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub update_time: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub delete_time: Option<DateTime<Utc>>,
    /// Whether details and managed fields are set already.
    #[diesel(sql_type = Bool)]
    pub is_whole: bool,
    #[diesel(sql_type = Nullable<Text>)]
    pub node_display_name: Option<String>,
}

impl From<PastRow> for AssetOnNode {
    fn from(row: PastRow) -> Self {
        let asset = AssetRow {
            uid: row.uid,
            kind: row.kind,
            display_name: row.display_name,
            node_uid: row.node_uid,
            natural_key: row.natural_key,
            state: row.state,
            details: row.details,
            managed: row.managed,
            revision: row.revision,
            managed_revision: row.managed_revision,
            first_seen_time: row.first_seen_time,
            remove_time: row.remove_time,
            create_time: row.create_time,
            update_time: row.update_time,
            delete_time: row.delete_time,
        };
        (asset, row.node_display_name, None)
    }
}

const COLUMNS_OF_ROW: &str = "SELECT asset.uid, asset.kind, asset.display_name, asset.node_uid, \
     asset.natural_key, asset.state, asset.details, asset.managed, asset.revision, asset.managed_revision, \
     asset.first_seen_time, asset.remove_time, asset.create_time, asset.update_time, asset.delete_time, \
     asset.is_whole, node.display_name AS node_display_name FROM ";
const ON_NODE: &str = " LEFT JOIN node ON node.uid = asset.node_uid WHERE ";

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

/// Lists assets as they were, by display name and UUID, after a given one; see
/// [`fill`].
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    at: DateTime<Utc>,
    wanted: &Wanted,
    after: Option<(String, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<PastRow>> {
    let mut query = Sql::new("SELECT * FROM (");
    for (index, source) in by_name(at).into_iter().enumerate() {
        query = query.text(if index == 0 { "(" } else { " UNION ALL (" });
        query = query.text(COLUMNS_OF_ROW).then(source).text(ON_NODE).then(wanted.sql());
        if let Some((display_name, uid)) = &after {
            query = query
                .text(" AND (asset.display_name, asset.uid) > (")
                .bind(Bind::Text(display_name.clone()))
                .text(", ")
                .bind(Bind::Uuid(*uid))
                .text(")");
        }
        query =
            query.text(" ORDER BY asset.display_name, asset.uid LIMIT ").bind(Bind::BigInt(limit)).text(")");
    }
    let query = query.text(") AS page ORDER BY display_name, uid LIMIT ").bind(Bind::BigInt(limit));
    RunQueryDsl::load(Once(query), connection).await
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
        .text("asset.newest_time > ")
        .bind(time(since))
        .text(" AND CASE WHEN asset.state <> 2 THEN true ELSE false END AND ")
        .then(wanted.sql());
    if let Some(after) = after {
        query = query.text(" AND asset.uid > ").bind(Bind::Uuid(after));
    }
    let query = query.text(" ORDER BY asset.uid LIMIT ").bind(Bind::BigInt(limit));
    RunQueryDsl::load(Once(query), connection).await
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
/// retention has dropped that day.
///
/// # Errors
/// A query fails.
pub async fn fill(connection: &mut AsyncPgConnection, rows: &mut [PastRow]) -> QueryResult<()> {
    let mut lacking: Vec<&mut PastRow> = rows.iter_mut().filter(|row| !row.is_whole).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let uids = Bind::Uuids(lacking.iter().map(|row| row.uid).collect());
    let revisions = Bind::BigInts(lacking.iter().map(|row| row.revision).collect());
    let times = Bind::Times(lacking.iter().map(|row| Some(row.update_time)).collect());
    let columns = "SELECT asset_uid, revision, details, managed FROM ";
    // By time first: it tells the partitions.
    let log = Sql::new(columns)
        .text("asset_event WHERE record_time = ANY(")
        .bind(times)
        .text(") AND asset_uid = ANY(")
        .bind(uids.clone())
        .text(") AND revision = ANY(")
        .bind(revisions.clone())
        .text(")");
    let mut found: Vec<Contents> = load(connection, log).await?;
    let known = |found: &[Contents], row: &PastRow| {
        found.iter().any(|content| (content.asset_uid, content.revision) == (row.uid, row.revision))
    };
    if lacking.iter().any(|row| !known(&found, row)) {
        let base = Sql::new(columns)
            .text("asset_base WHERE asset_uid = ANY(")
            .bind(uids)
            .text(") AND revision = ANY(")
            .bind(revisions)
            .text(")");
        found.extend(load::<Contents>(connection, base).await?);
    }
    let mut found: std::collections::HashMap<(Uuid, i64), Contents> =
        found.into_iter().map(|content| ((content.asset_uid, content.revision), content)).collect();
    for row in &mut lacking {
        if let Some(content) = found.remove(&(row.uid, row.revision)) {
            row.details = content.details;
            row.managed = content.managed;
            row.is_whole = true;
        }
    }
    Ok(())
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

/// A query whose shape a client chooses: kept statements would never end.
struct Once(Sql);

impl QueryFragment<Pg> for Once {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        self.0.walk_ast(out)
    }
}

impl QueryId for Once {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Once {
    type SqlType = Untyped;
}
