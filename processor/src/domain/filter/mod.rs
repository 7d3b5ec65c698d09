//! AIP-160 filters: text → syntax tree → predicate with checked fields and
//! typed values. `store::filter_sql` makes SQL of a predicate; `Predicate::matches`
//! says the same of a resource in memory.

mod cost;
mod decimal;
mod divide;
mod evaluate;
mod field;
mod literal;
mod nearest;
mod parse;
mod pattern;
mod resolve;

use chrono::{DateTime, Utc};

pub use cost::MAX_COST;
pub use decimal::Decimal;
pub use divide::divide;
pub use evaluate::{Subject, Value};
pub use parse::{MAX_BYTES, MAX_TERMS};
pub use pattern::Pattern;
pub use resolve::{Field, FieldType, Literal, Predicate, Schema};

/// A filter that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {})", .position + 1)]
pub struct FilterError {
    /// Characters before the fault.
    pub position: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl FilterError {
    fn new(position: usize, problem: impl Into<String>) -> Self {
        Self { position, problem: problem.into() }
    }
}

/// Reads a filter for resources of a schema; `None` for an empty one. Its
/// functions of time mean the time `now`.
///
/// # Errors
/// The filter is malformed, names an unknown field, compares it with a value of
/// another type, or costs too much.
pub fn read(text: &str, schema: &Schema, now: DateTime<Utc>) -> Result<Option<Predicate>, FilterError> {
    let read = || {
        let Some(tree) = parse::parse(text)? else { return Ok(None) };
        let predicate = resolve::resolve(&tree, schema, now)?;
        cost::check(&predicate)?;
        Ok(Some(predicate))
    };
    read().map_err(|error: FilterError| {
        // People count characters, the parser bytes.
        let position = text.get(..error.position).map_or(error.position, |before| before.chars().count());
        FilterError { position, ..error }
    })
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `:`
    Has,
}
