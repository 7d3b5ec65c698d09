//! How many assets a question is about, as far as that can be told soon.

use diesel::{
    QueryResult, QueryableByName,
    result::Error,
    sql_types::{BigInt, Json},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::{
    listing::Listing,
    sql::{Bind, Sql, load_once},
    summary::COUNTED,
};

/// Counted up to here.
const MAX_COUNTED: i64 = 10_000;
/// How long the counting may take.
const TIME_LIMIT: &str = "SET LOCAL statement_timeout = '250ms'";

/// A count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// How many.
    pub count: i64,
    /// Whether that is what the planner guesses.
    pub estimated: bool,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Plan {
    #[diesel(sql_type = Json, column_name = "QUERY PLAN")]
    plan: serde_json::Value,
}

/// Counts what a listing has on all its pages: exactly if that is soon done, else
/// as the planner guesses it. `by_kind`: the condition asks about nothing but kind,
/// node and state, of which there are counts.
///
/// # Errors
/// A query fails.
pub async fn total(
    connection: &mut AsyncPgConnection,
    listing: &Listing,
    by_kind: bool,
) -> QueryResult<Total> {
    if by_kind && !listing.show_deleted {
        let mut sql = Sql::new(format!(
            "SELECT coalesce(sum(asset.weight), 0)::bigint AS count FROM {COUNTED} AS asset \
             LEFT JOIN node ON node.uid = asset.node_uid WHERE true"
        ));
        if let Some(condition) = &listing.condition {
            sql = sql.text(" AND ").then(condition.clone());
        }
        let counts: Vec<Count> = load_once(connection, sql).await?;
        return Ok(Total { count: counts.first().map_or(0, |count| count.count), estimated: false });
    }
    let counting = Sql::new("SELECT count(*) AS count FROM (SELECT")
        .then(listing.from_where())
        .text(" LIMIT ")
        .bind(Bind::BigInt(MAX_COUNTED + 1))
        .text(") AS listed");
    // A statement that runs out of time ends its transaction.
    let counted = connection.transaction(async |connection| {
        connection.batch_execute(TIME_LIMIT).await?;
        load_once::<Count>(connection, counting).await
    });
    let least = match counted.await {
        Ok(counts) => match counts.first().map_or(0, |count| count.count) {
            count if count <= MAX_COUNTED => return Ok(Total { count, estimated: false }),
            count => count,
        },
        Err(Error::DatabaseError(_, information)) if information.message().contains("statement timeout") => 0,
        Err(error) => return Err(error),
    };
    let explain = Sql::new("EXPLAIN (FORMAT JSON) SELECT").then(listing.from_where());
    let plans: Vec<Plan> = load_once(connection, explain).await?;
    let rows = plans.first().and_then(|plan| plan.plan[0]["Plan"]["Plan Rows"].as_f64()).unwrap_or(0.0);
    #[allow(clippy::cast_possible_truncation)]
    Ok(Total { count: (rows as i64).max(least), estimated: true })
}
