//! Which dead letters a person means: as a condition, listed, counted, walked
//! through in chunks, deleted.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, SmallInt, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{FROM, LISTED, LetterRow};
use crate::store::sql::{Bind, Sql, execute, load};

/// What letters have in common; what is not given excludes none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one of these reasons; of any if there is none.
    pub reasons: Vec<i16>,
    /// Of this node.
    pub node: Option<Uuid>,
    /// From this queue.
    pub queue: Option<String>,
    /// First come at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// First come before this time.
    pub before: Option<DateTime<Utc>>,
}

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Letters(Vec<Uuid>),
    /// Those under a filter.
    Filter(Filter),
    /// All.
    All,
}

impl Selection {
    /// As a condition, without brackets.
    fn condition(&self) -> Sql {
        match self {
            Self::Letters(uids) => {
                Sql::new("dead_letter.uid = ANY(").bind(Bind::Uuids(uids.clone())).text(")")
            }
            Self::Filter(filter) => filter.condition(),
            Self::All => Sql::new("true"),
        }
    }
}

impl Filter {
    fn condition(&self) -> Sql {
        let mut condition = Sql::new("true");
        if !self.reasons.is_empty() {
            let reasons = Bind::SmallInts(self.reasons.clone());
            condition = condition.text(" AND dead_letter.reason = ANY(").bind(reasons).text(")");
        }
        if let Some(node) = self.node {
            condition = condition.text(" AND dead_letter.node_uid = ").bind(Bind::Uuid(node));
        }
        if let Some(queue) = &self.queue {
            condition = condition.text(" AND dead_letter.queue = ").bind(Bind::Text(queue.clone()));
        }
        if let Some(since) = self.since {
            condition = condition.text(" AND dead_letter.create_time >= ").bind(Bind::Time(Some(since)));
        }
        if let Some(before) = self.before {
            condition = condition.text(" AND dead_letter.create_time < ").bind(Bind::Time(Some(before)));
        }
        condition
    }
}

/// A letter's place in the order of time: when it first came, and its UUID.
pub type Place = (DateTime<Utc>, Uuid);

fn place_is(comparison: &str, place: Place) -> Sql {
    Sql::new(" AND (dead_letter.create_time, dead_letter.uid) ")
        .text(comparison)
        .text(" (")
        .bind(Bind::Time(Some(place.0)))
        .text(", ")
        .bind(Bind::Uuid(place.1))
        .text(")")
}

/// Lists letters, the newest first, before a given one.
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    before: Option<Place>,
    limit: i64,
) -> QueryResult<Vec<LetterRow>> {
    let mut query = Sql::new("SELECT ").text(LISTED).text(FROM).then(filter.condition());
    if let Some(before) = before {
        query = query.then(place_is("<", before));
    }
    let query = query
        .text(" ORDER BY dead_letter.create_time DESC, dead_letter.uid DESC LIMIT ")
        .bind(Bind::BigInt(limit));
    load(connection, query).await
}

/// How many letters have a reason.
#[derive(Clone, Copy, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ReasonRow {
    #[diesel(sql_type = SmallInt)]
    pub reason: i16,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// Counts letters by reason, in order of the reasons.
///
/// # Errors
/// The query fails.
pub async fn count_by_reason(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
) -> QueryResult<Vec<ReasonRow>> {
    let query = Sql::new("SELECT reason, count(*) AS count FROM dead_letter WHERE ")
        .then(filter.condition())
        .text(" GROUP BY reason ORDER BY reason");
    load(connection, query).await
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Counts letters.
///
/// # Errors
/// The query fails.
pub async fn count(connection: &mut AsyncPgConnection, selection: &Selection) -> QueryResult<i64> {
    let query = Sql::new("SELECT count(*) AS count FROM dead_letter WHERE ").then(selection.condition());
    let rows: Vec<Count> = load(connection, query).await?;
    Ok(rows.first().map_or(0, |row| row.count))
}

/// A walk through the letters that were there when it began, the oldest first.
/// It holds its place and no letters, so that any number of them may be.
#[derive(Clone, Debug)]
pub struct Walk {
    selection: Selection,
    /// How many there were.
    pub total: i64,
    after: Option<Place>,
    /// The newest of them; `None` if there was none.
    last: Option<Place>,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = Timestamptz)]
    create_time: DateTime<Utc>,
    #[diesel(sql_type = Uid)]
    uid: Uuid,
}

/// Begins a walk.
///
/// # Errors
/// A query fails.
pub async fn begin(connection: &mut AsyncPgConnection, selection: Selection) -> QueryResult<Walk> {
    let newest = Sql::new("SELECT create_time, uid FROM dead_letter WHERE ")
        .then(selection.condition())
        .text(" ORDER BY create_time DESC, uid DESC LIMIT 1");
    let newest: Vec<PlaceRow> = load(connection, newest).await?;
    let Some(last) = newest.first().map(|row| (row.create_time, row.uid)) else {
        return Ok(Walk { selection, total: 0, after: None, last: None });
    };
    let count = Sql::new("SELECT count(*) AS count FROM dead_letter WHERE ")
        .then(selection.condition())
        .then(place_is("<=", last));
    let rows: Vec<Count> = load(connection, count).await?;
    let total = rows.first().map_or(0, |row| row.count);
    Ok(Walk { selection, total, after: None, last: Some(last) })
}

/// The next letters of a walk, at most `limit`; none at its end.
///
/// # Errors
/// The query fails.
pub async fn next_chunk(
    connection: &mut AsyncPgConnection,
    walk: &mut Walk,
    limit: i64,
) -> QueryResult<Vec<Uuid>> {
    let Some(last) = walk.last else { return Ok(Vec::new()) };
    let mut query = Sql::new("SELECT create_time, uid FROM dead_letter WHERE ")
        .then(walk.selection.condition())
        .then(place_is("<=", last));
    if let Some(after) = walk.after {
        query = query.then(place_is(">", after));
    }
    let query = query.text(" ORDER BY create_time, uid LIMIT ").bind(Bind::BigInt(limit));
    let rows: Vec<PlaceRow> = load(connection, query).await?;
    if let Some(newest) = rows.last() {
        walk.after = Some((newest.create_time, newest.uid));
    }
    Ok(rows.into_iter().map(|row| row.uid).collect())
}

/// Deletes the next letters of a walk, at most `limit`; tells how many it
/// deleted, none at its end.
///
/// # Errors
/// The statement fails.
pub async fn delete_chunk(connection: &mut AsyncPgConnection, walk: &Walk, limit: i64) -> QueryResult<usize> {
    let Some(last) = walk.last else { return Ok(0) };
    let delete = Sql::new("DELETE FROM dead_letter USING (SELECT uid FROM dead_letter WHERE ")
        .then(walk.selection.condition())
        .then(place_is("<=", last))
        .text(" ORDER BY create_time, uid LIMIT ")
        .bind(Bind::BigInt(limit))
        .text(" FOR UPDATE) AS next WHERE dead_letter.uid = next.uid");
    execute(connection, delete).await
}
