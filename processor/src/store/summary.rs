//! Counts of assets in groups.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Array, BigInt, Text},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::{
    asset::Source,
    filter_sql::{Columns, group_key},
    sql::{Bind, Sql, load_once},
};
use crate::domain::filter::Field;

/// Assets that are not deleted, as counts by node, kind and state: what stands in
/// FROM as `asset` where nothing else is asked for. Those that are ACTIVE are
/// counted with the digests that ingest keeps, and none of them is deleted (ADR 7).
pub const COUNTED: &str = "(SELECT node_uid, kind, 1::smallint AS state, count AS weight FROM node_kind WHERE count > 0 \
     UNION ALL SELECT node_uid, kind, state, count(*) AS weight FROM asset \
     WHERE state <> 1 AND delete_time IS NULL GROUP BY node_uid, kind, state)";

/// Fields that [`COUNTED`] has.
pub const COUNTED_FIELDS: [&str; 4] = ["kind", "node", "node_display_name", "state"];

/// How long it may take.
const TIME_LIMIT: &str = "SET LOCAL statement_timeout = '5s'";

/// What is to be counted.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where assets are read from.
    pub source: Source,
    /// Which of them.
    pub condition: Option<Sql>,
    /// Also those that are deleted.
    pub show_deleted: bool,
    /// Whether condition and groups need nothing but [`COUNTED_FIELDS`].
    pub by_kind: bool,
    /// Fields of the groups.
    pub group_by: Vec<Field>,
    /// Most groups that are told.
    pub max_groups: i64,
}

/// A group.
#[derive(Debug, QueryableByName)]
pub struct Group {
    /// Values as the database has them: numbers of enums, UUIDs; empty where the
    /// field is not there.
    #[diesel(sql_type = Array<Text>)]
    pub keys: Vec<String>,
    /// Assets in it.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// Assets in all groups.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
    /// How many groups there are.
    #[diesel(sql_type = BigInt)]
    pub groups: i64,
}

/// Counts, the largest groups first.
///
/// # Errors
/// The query fails, or takes longer than 5 s.
pub async fn summarize(
    connection: &mut AsyncPgConnection,
    question: &Question,
    columns: &Columns,
) -> QueryResult<Vec<Group>> {
    let counted = question.by_kind && question.source == Source::Now && !question.show_deleted;
    let (from, count, deleted) = if counted {
        (Sql::new(COUNTED), "sum(asset.weight)::bigint", "true")
    } else {
        let deleted = if question.show_deleted { "true" } else { "asset.delete_time IS NULL" };
        (question.source.sql(), "count(*)", deleted)
    };
    let mut keys = Sql::new("");
    let mut list = Vec::new();
    for (index, field) in question.group_by.iter().enumerate() {
        // In the order of the characters' numbers, whatever the database's is.
        keys = keys.text("(").then(group_key(field, columns));
        keys = keys.text(format!(") COLLATE \"C\" AS key{index}, "));
        list.push(format!("key{index}"));
    }
    let names = list.join(", ");
    let mut sql = Sql::new(format!(
        "SELECT ARRAY[{names}] AS keys, count, (sum(count) OVER ())::bigint AS total, count(*) OVER () AS groups \
         FROM (SELECT "
    ))
    .then(keys)
    .text(format!("{count} AS count FROM "))
    .then(from)
    .text(format!(" AS asset LEFT JOIN node ON node.uid = asset.node_uid WHERE {deleted}"));
    if let Some(condition) = &question.condition {
        sql = sql.text(" AND ").then(condition.clone());
    }
    let places: Vec<String> = (1..=list.len()).map(|place| place.to_string()).collect();
    sql = sql
        .text(format!(" GROUP BY {}) AS grouped ORDER BY count DESC, {names} LIMIT ", places.join(", ")))
        .bind(Bind::BigInt(question.max_groups));
    connection
        .transaction(async |connection| {
            connection.batch_execute(TIME_LIMIT).await?;
            load_once(connection, sql).await
        })
        .await
}
