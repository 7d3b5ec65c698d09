//! AIP-160 filters: text → syntax tree → predicate with checked fields and
//! typed values. `store::filter_sql` makes SQL of a predicate.

mod divide;
mod parse;
mod resolve;

pub use divide::divide;
pub use parse::{MAX_BYTES, MAX_TERMS};
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

/// Reads a filter for resources of a schema; `None` for an empty one.
///
/// # Errors
/// The filter is malformed, names an unknown field, or compares it with a
/// value of another type.
pub fn read(text: &str, schema: &Schema) -> Result<Option<Predicate>, FilterError> {
    let read =
        parse::parse(text).and_then(|tree| tree.map(|tree| resolve::resolve(&tree, schema)).transpose());
    read.map_err(|error| {
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
