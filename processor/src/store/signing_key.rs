//! The table `signing_key`: random keys that all replicas share.

use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::schema::signing_key;

/// The key of this name, drawn by whoever asks first.
///
/// # Errors
/// A statement fails.
pub async fn get_or_create(connection: &mut AsyncPgConnection, name: &str) -> QueryResult<Vec<u8>> {
    let drawn: [u8; 32] = rand::random();
    diesel::insert_into(signing_key::table)
        .values((signing_key::name.eq(name), signing_key::key.eq(drawn.to_vec())))
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    signing_key::table.find(name).select(signing_key::key).first(connection).await
}
