//! The table `saved_search`.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, Insertable, OptionalExtension, QueryDsl, QueryResult, Queryable, Selectable,
    SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::sql::{Bind, Condition, Sql};
use crate::schema::saved_search;

/// A row of the table.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = saved_search)]
#[allow(missing_docs)]
pub struct SavedSearchRow {
    pub uid: Uuid,
    pub title: String,
    pub filter: String,
    pub order_by: String,
    pub column_paths: Vec<String>,
    pub owner: String,
    pub revision: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
}

/// Reads one.
///
/// # Errors
/// The query fails.
pub async fn get(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Option<SavedSearchRow>> {
    let query = saved_search::table.find(uid).select(SavedSearchRow::as_select());
    query.first(connection).await.optional()
}

/// Reads one and locks it.
///
/// # Errors
/// The query fails.
pub async fn lock_in_txn(
    connection: &mut AsyncPgConnection,
    uid: Uuid,
) -> QueryResult<Option<SavedSearchRow>> {
    let query = saved_search::table.find(uid).select(SavedSearchRow::as_select()).for_update();
    query.first(connection).await.optional()
}

/// Lists them by title and UUID, after a given one.
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    after: Option<(String, Uuid)>,
    limit: i64,
) -> QueryResult<Vec<SavedSearchRow>> {
    let mut query = saved_search::table
        .select(SavedSearchRow::as_select())
        .order((saved_search::title.asc(), saved_search::uid.asc()))
        .limit(limit)
        .into_boxed();
    if let Some((title, uid)) = after {
        let place = Sql::new("(title, uid) > (").binds([Bind::Text(title), Bind::Uuid(uid)]).text(")");
        query = query.filter(Condition(place));
    }
    query.load(connection).await
}

/// Inserts one.
///
/// # Errors
/// The statement fails.
pub async fn insert_in_txn(connection: &mut AsyncPgConnection, row: &SavedSearchRow) -> QueryResult<()> {
    diesel::insert_into(saved_search::table).values(row).execute(connection).await.map(drop)
}

/// Writes one that is locked.
///
/// # Errors
/// The statement fails.
pub async fn update_in_txn(connection: &mut AsyncPgConnection, row: &SavedSearchRow) -> QueryResult<()> {
    diesel::update(saved_search::table.find(row.uid))
        .set((
            saved_search::title.eq(&row.title),
            saved_search::filter.eq(&row.filter),
            saved_search::order_by.eq(&row.order_by),
            saved_search::column_paths.eq(&row.column_paths),
            saved_search::owner.eq(&row.owner),
            saved_search::revision.eq(row.revision),
            saved_search::update_time.eq(row.update_time),
        ))
        .execute(connection)
        .await
        .map(drop)
}

/// Deletes one.
///
/// # Errors
/// The statement fails.
pub async fn delete_in_txn(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<()> {
    diesel::delete(saved_search::table.find(uid)).execute(connection).await.map(drop)
}
