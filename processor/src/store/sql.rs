//! SQL text with binds as one value: what the bulk statements and the filter
//! compiler build. Values only ever travel as binds, and statements are
//! prepared once and cached by their text.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult,
    expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate},
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{Array, BigInt, Bool, Bytea, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Untyped},
};
use uuid::Uuid;

use super::shared::{SharedBytes, SharedText};

/// A value for a statement.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Bind {
    Bool(bool),
    SmallInt(i16),
    Integer(i32),
    BigInt(i64),
    Text(String),
    Uuid(Uuid),
    MaybeUuid(Option<Uuid>),
    Bytes(Option<Vec<u8>>),
    Json(serde_json::Value),
    Time(Option<DateTime<Utc>>),
    Texts(Vec<String>),
    SharedTexts(Vec<SharedText>),
    SharedByteStrings(Vec<Option<SharedBytes>>),
    SmallInts(Vec<i16>),
    Integers(Vec<i32>),
    BigInts(Vec<i64>),
    MaybeBigInts(Vec<Option<i64>>),
    Uuids(Vec<Uuid>),
    MaybeUuids(Vec<Option<Uuid>>),
    ByteStrings(Vec<Option<Vec<u8>>>),
    Bools(Vec<bool>),
    Jsons(Vec<serde_json::Value>),
    Times(Vec<Option<DateTime<Utc>>>),
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Value(Bind),
}

/// A statement, or a condition of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sql(Vec<Part>);

impl Sql {
    /// Starts with a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self::default().text(text)
    }

    /// Appends text, which must never hold a value from outside.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Appends a value as a bind.
    #[must_use]
    pub fn bind(mut self, value: Bind) -> Self {
        self.0.push(Part::Value(value));
        self
    }

    /// Appends values, separated by commas.
    #[must_use]
    pub fn binds(mut self, values: impl IntoIterator<Item = Bind>) -> Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self = self.text(", ");
            }
            self = self.bind(value);
        }
        self
    }

    /// Appends another piece.
    #[must_use]
    pub fn then(mut self, other: Sql) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The text with `?` in place of the binds, and the binds: for tests.
    #[cfg(test)]
    pub fn shown(&self) -> (String, Vec<Bind>) {
        let mut text = String::new();
        let mut binds = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Value(bind) => {
                    text.push('?');
                    binds.push(bind.clone());
                }
            }
        }
        (text, binds)
    }
}

impl QueryFragment<Pg> for Sql {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_sql(text),
                Part::Value(value) => push(&mut out, value)?,
            }
        }
        Ok(())
    }
}

fn push<'b>(out: &mut AstPass<'_, 'b, Pg>, value: &'b Bind) -> QueryResult<()> {
    match value {
        Bind::Bool(value) => out.push_bind_param::<Bool, _>(value),
        Bind::SmallInt(value) => out.push_bind_param::<SmallInt, _>(value),
        Bind::Integer(value) => out.push_bind_param::<Integer, _>(value),
        Bind::BigInt(value) => out.push_bind_param::<BigInt, _>(value),
        Bind::Text(value) => out.push_bind_param::<Text, _>(value),
        Bind::Uuid(value) => out.push_bind_param::<diesel::sql_types::Uuid, _>(value),
        Bind::MaybeUuid(value) => out.push_bind_param::<Nullable<diesel::sql_types::Uuid>, _>(value),
        Bind::Bytes(value) => out.push_bind_param::<Nullable<Bytea>, _>(value),
        Bind::Json(value) => out.push_bind_param::<Jsonb, _>(value),
        Bind::Time(value) => out.push_bind_param::<Nullable<Timestamptz>, _>(value),
        Bind::Texts(value) => out.push_bind_param::<Array<Text>, _>(value),
        Bind::SharedTexts(value) => out.push_bind_param::<Array<Text>, _>(value),
        Bind::SharedByteStrings(value) => out.push_bind_param::<Array<Nullable<Bytea>>, _>(value),
        Bind::SmallInts(value) => out.push_bind_param::<Array<SmallInt>, _>(value),
        Bind::Integers(value) => out.push_bind_param::<Array<Integer>, _>(value),
        Bind::BigInts(value) => out.push_bind_param::<Array<BigInt>, _>(value),
        Bind::MaybeBigInts(value) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(value),
        Bind::Uuids(value) => out.push_bind_param::<Array<diesel::sql_types::Uuid>, _>(value),
        Bind::MaybeUuids(value) => out.push_bind_param::<Array<Nullable<diesel::sql_types::Uuid>>, _>(value),
        Bind::ByteStrings(value) => out.push_bind_param::<Array<Nullable<Bytea>>, _>(value),
        Bind::Bools(value) => out.push_bind_param::<Array<Bool>, _>(value),
        Bind::Jsons(value) => out.push_bind_param::<Array<Jsonb>, _>(value),
        Bind::Times(value) => out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(value),
    }
}

// The text is no type: statements are cached by it.
impl QueryId for Sql {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Sql {
    type SqlType = Untyped;
}

/// A [`Sql`] that stands where diesel's query builder wants a condition.
#[derive(Clone, Debug)]
pub struct Condition(pub Sql);

impl QueryFragment<Pg> for Condition {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // A client chooses its shape: kept statements would never end.
        out.unsafe_to_cache_prepared();
        self.0.walk_ast(out)
    }
}

impl QueryId for Condition {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Expression for Condition {
    type SqlType = Bool;
}
impl<T> AppearsOnTable<T> for Condition {}
impl<T> SelectableExpression<T> for Condition {}
impl<G> ValidGrouping<G> for Condition {
    type IsAggregate = is_aggregate::No;
}

/// A statement whose shape a client chose, and which is not kept therefore; so it
/// is planned for the values that it has.
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

/// Runs a query whose shape a client chose.
///
/// # Errors
/// The query fails.
pub async fn load_once<T>(connection: &mut diesel_async::AsyncPgConnection, query: Sql) -> QueryResult<Vec<T>>
where
    T: diesel::QueryableByName<Pg> + Send + 'static,
{
    diesel_async::RunQueryDsl::load(Once(query), connection).await
}

/// Runs a statement and tells how many rows it touched.
///
/// # Errors
/// The statement fails.
pub async fn execute(connection: &mut diesel_async::AsyncPgConnection, statement: Sql) -> QueryResult<usize> {
    diesel_async::RunQueryDsl::execute(statement, connection).await
}

/// Runs a query.
///
/// # Errors
/// The query fails.
pub async fn load<T>(connection: &mut diesel_async::AsyncPgConnection, query: Sql) -> QueryResult<Vec<T>>
where
    T: diesel::QueryableByName<Pg> + Send + 'static,
{
    diesel_async::RunQueryDsl::load(query, connection).await
}
