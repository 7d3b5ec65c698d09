//! The table `custom_field`, and the values that assets have.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};

/// A row of the table.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct CustomFieldRow {
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Encoded CustomField.
    #[diesel(sql_type = Bytea)]
    pub definition: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    #[diesel(sql_type = Timestamptz)]
    pub create_time: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub update_time: DateTime<Utc>,
}

const SELECT: &str = "SELECT key, definition, revision, create_time, update_time FROM custom_field";

/// All definitions, held until the end of the transaction: none changes meanwhile.
///
/// # Errors
/// The query fails.
pub async fn hold_in_txn(connection: &mut AsyncPgConnection) -> QueryResult<Vec<CustomFieldRow>> {
    load(connection, Sql::new(SELECT).text(" ORDER BY key FOR SHARE")).await
}

/// Reads a definition.
///
/// # Errors
/// The query fails.
pub async fn get(connection: &mut AsyncPgConnection, key: &str) -> QueryResult<Option<CustomFieldRow>> {
    let query = Sql::new(SELECT).text(" WHERE key = ").bind(Bind::Text(key.to_owned()));
    Ok(load(connection, query).await?.pop())
}

/// Locks a definition: edits of assets that hold it have ended, and later ones wait.
///
/// # Errors
/// The query fails.
pub async fn lock_in_txn(
    connection: &mut AsyncPgConnection,
    key: &str,
) -> QueryResult<Option<CustomFieldRow>> {
    let query = Sql::new(SELECT).text(" WHERE key = ").bind(Bind::Text(key.to_owned())).text(" FOR UPDATE");
    Ok(load(connection, query).await?.pop())
}

/// Lists definitions by key, after a given one.
///
/// # Errors
/// The query fails.
pub async fn list(
    connection: &mut AsyncPgConnection,
    after: &str,
    limit: i64,
) -> QueryResult<Vec<CustomFieldRow>> {
    let query = Sql::new(SELECT)
        .text(" WHERE key > ")
        .bind(Bind::Text(after.to_owned()))
        .text(" ORDER BY key LIMIT ")
        .bind(Bind::BigInt(limit));
    load(connection, query).await
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many definitions there are. No other one comes until the end of the
/// transaction.
///
/// # Errors
/// The query fails.
pub async fn count_in_txn(connection: &mut AsyncPgConnection) -> QueryResult<i64> {
    execute(connection, Sql::new("LOCK TABLE custom_field IN SHARE ROW EXCLUSIVE MODE")).await?;
    let query = Sql::new("SELECT count(*) AS count FROM custom_field");
    Ok(load::<Count>(connection, query).await?.first().map_or(0, |row| row.count))
}

/// Inserts a definition, unless there is one of its key; tells whether there was none.
///
/// # Errors
/// The statement fails.
pub async fn insert_in_txn(connection: &mut AsyncPgConnection, row: &CustomFieldRow) -> QueryResult<bool> {
    let insert =
        Sql::new("INSERT INTO custom_field (key, definition, revision, create_time, update_time) VALUES (")
            .binds([
                Bind::Text(row.key.clone()),
                Bind::Bytes(Some(row.definition.clone())),
                Bind::BigInt(row.revision),
                Bind::Time(Some(row.create_time)),
                Bind::Time(Some(row.update_time)),
            ])
            .text(") ON CONFLICT DO NOTHING");
    Ok(execute(connection, insert).await? > 0)
}

/// Writes a locked definition.
///
/// # Errors
/// The statement fails.
pub async fn update_in_txn(connection: &mut AsyncPgConnection, row: &CustomFieldRow) -> QueryResult<()> {
    let update = Sql::new("UPDATE custom_field SET definition = ")
        .bind(Bind::Bytes(Some(row.definition.clone())))
        .text(", revision = ")
        .bind(Bind::BigInt(row.revision))
        .text(", update_time = ")
        .bind(Bind::Time(Some(row.update_time)))
        .text(" WHERE key = ")
        .bind(Bind::Text(row.key.clone()));
    execute(connection, update).await.map(drop)
}

/// Deletes a locked definition.
///
/// # Errors
/// The statement fails.
pub async fn delete_in_txn(connection: &mut AsyncPgConnection, key: &str) -> QueryResult<()> {
    let delete = Sql::new("DELETE FROM custom_field WHERE key = ").bind(Bind::Text(key.to_owned()));
    execute(connection, delete).await.map(drop)
}

/// A value that an asset has.
#[derive(Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ValueRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub value: String,
}

/// The values that assets have of a custom field, deleted ones included, by asset,
/// after a given one.
///
/// # Errors
/// The query fails.
pub async fn values(
    connection: &mut AsyncPgConnection,
    key: &str,
    after: Uuid,
    limit: i64,
) -> QueryResult<Vec<ValueRow>> {
    let path = || Bind::Texts(vec!["managed".to_owned(), "custom_fields".to_owned(), key.to_owned()]);
    // Only what people edited can have one: the index on that is small.
    let query = Sql::new("SELECT uid, kind, attributes #>> ")
        .bind(path())
        .text(" AS value FROM asset WHERE managed_revision > 0 AND uid > ")
        .bind(Bind::Uuid(after))
        .text(" AND attributes #>> ")
        .bind(path())
        .text(" IS NOT NULL ORDER BY uid LIMIT ")
        .bind(Bind::BigInt(limit));
    load(connection, query).await
}
