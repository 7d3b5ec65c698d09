//! Gives fields and values their types, from the descriptors of the contract.

use chrono::{DateTime, Utc};
use kit::identity::Collection;
use prost_reflect::MessageDescriptor;
use uuid::Uuid;

use super::{
    Decimal, FilterError, Operator,
    field::{Found, field},
    literal::{call, literal},
    parse::{Argument, Segment, Tree, Word},
};

/// The resource that a filter is about.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Its message.
    pub message: MessageDescriptor,
    /// Fields that hold names of resources.
    pub names: &'static [(&'static str, Collection)],
    /// Fields that no filter can name.
    pub unsearchable: &'static [&'static str],
}

/// A checked condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// All hold.
    And(Vec<Predicate>),
    /// One holds.
    Or(Vec<Predicate>),
    /// It does not hold.
    Not(Box<Predicate>),
    /// A field compares.
    Compare {
        /// Which.
        field: Field,
        /// How.
        operator: Operator,
        /// With what.
        value: Literal,
    },
    /// A pattern is found in the texts that people search.
    Text(String),
}

impl Predicate {
    /// Whether it asks about nothing but some fields, by their path joined with
    /// dots.
    pub fn asks_only(&self, fields: &[&str]) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.asks_only(fields)),
            Self::Not(inner) => inner.asks_only(fields),
            Self::Compare { field, .. } => fields.contains(&field.path.join(".").as_str()),
            Self::Text(_) => false,
        }
    }
}

/// A field of the resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its path; the last part may be the key of a map.
    pub path: Vec<String>,
    /// Its type; of a list of scalars, the type of one.
    pub field_type: FieldType,
    /// How many parts of the path lead to a list, of which one item has to fit.
    pub in_list: Option<usize>,
    /// Whether it may be absent, which is not the same as having its default
    /// value.
    pub optional: bool,
}

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A point in time.
    Time,
    /// An enum.
    Enum,
    /// Bytes, as base64.
    Bytes,
    /// A resource's name, stored as its UUID.
    Name,
    /// A list of messages or a message.
    Message,
    /// A map from text to something.
    Map,
    /// A value of such a map: a text, a number, true or false.
    MapValue,
}

/// A typed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A pattern of text.
    Text(String),
    /// A number.
    Number(Decimal),
    /// True or false.
    Bool(bool),
    /// A point in time, to the microsecond.
    Time(DateTime<Utc>),
    /// An enum's number and full name.
    Enum(i32, String),
    /// A UUID.
    Uuid(Uuid),
    /// `:*`: the field is set.
    Present,
}

/// Resolves a tree; functions of time mean the time `now`.
pub(super) fn resolve(tree: &Tree, schema: &Schema, now: DateTime<Utc>) -> Result<Predicate, FilterError> {
    let all =
        |parts: &[Tree]| parts.iter().map(|part| resolve(part, schema, now)).collect::<Result<Vec<_>, _>>();
    Ok(match tree {
        Tree::And(parts) => Predicate::And(all(parts)?),
        Tree::Or(parts) => Predicate::Or(all(parts)?),
        Tree::Not(inner) => Predicate::Not(Box::new(resolve(inner, schema, now)?)),
        Tree::Text(word) => Predicate::Text(word.text.clone()),
        Tree::Compare { path, operator, value } => {
            let found = field(path, schema)?;
            match value {
                Argument::Word(word) => compare(path, found, *operator, word, schema)?,
                Argument::Call(argument) => {
                    check_operator(path, &found.field, *operator)?;
                    let value = call(&found.field, argument, now)?;
                    Predicate::Compare { field: found.field, operator: *operator, value }
                }
            }
        }
    })
}

fn compare(
    path: &[Segment],
    found: Found,
    operator: Operator,
    word: &Word,
    schema: &Schema,
) -> Result<Predicate, FilterError> {
    if operator == Operator::Has && word.text == "*" {
        return Ok(Predicate::Compare { field: found.field, operator, value: Literal::Present });
    }
    if operator == Operator::Has && found.field.field_type == FieldType::Message && !found.is_list {
        // Whether a message has a field, by the field's name.
        let inner = Segment::new(word);
        let field = field(&[path, &[inner]].concat(), schema)?.field;
        return Ok(Predicate::Compare { field, operator, value: Literal::Present });
    }
    check_operator(path, &found.field, operator)?;
    let value = literal(&found.field, found.leaf.as_ref(), word, schema)?;
    Ok(Predicate::Compare { field: found.field, operator, value })
}

fn check_operator(path: &[Segment], field: &Field, operator: Operator) -> Result<(), FilterError> {
    use FieldType::{Bool, Bytes, Enum, Map, Message, Name};
    let name = field.path.join(".");
    if let Some(list) = field.in_list
        && (operator != Operator::Has || field.field_type == Message)
    {
        let (list, allowed) =
            (field.path[..list].join("."), if field.field_type == Message { "`:*`" } else { "`:`" });
        let problem = format!("`{list}` is a list, so `{name}` can be compared by {allowed} alone");
        return Err(FilterError::new(path[0].position, problem));
    }
    let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual | Operator::Has);
    let refused = match field.field_type {
        Bool | Bytes | Enum | Name => ordered,
        Map => operator != Operator::Has,
        Message => true,
        _ => false,
    };
    if !refused {
        return Ok(());
    }
    let allowed = match field.field_type {
        Bool | Bytes | Enum | Name => "`=`, `!=` and `:`",
        Map => "`:`",
        _ => "`:*`",
    };
    Err(FilterError::new(path[0].position, format!("`{name}` can be compared by {allowed} alone")))
}

#[cfg(test)]
mod tests;
