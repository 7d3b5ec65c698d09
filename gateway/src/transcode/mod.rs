//! From a REST request to the request message, and from the answer's message
//! to JSON, by descriptor alone. ProtoJSON is prost-reflect's; what is ours is
//! where each value comes from, and precise errors.
//!
//! The body is read first, then the query, then the path, which wins. A field
//! that two of them could set is set by one only: what the body fills or the
//! path binds is refused in the query.

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};

use crate::table::{Binding, Body, path};

pub mod answer;
pub mod json;
pub mod mask;
pub mod query;

/// What is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field by its names in the contract, such as
    /// `asset.managed.owner`; `body` or `path` for these as a whole.
    pub field: String,
    /// UPPER_SNAKE_CASE reason for programs.
    pub reason: &'static str,
    /// What is wrong, for people.
    pub problem: String,
}

impl Invalid {
    fn new(field: impl Into<String>, reason: &'static str, problem: impl Into<String>) -> Self {
        Self { field: field.into(), reason, problem: problem.into() }
    }
}

/// Builds the request message. `segments` are what the router found, `query`
/// is the text after `?`, `body` the whole HTTP body (empty for none).
///
/// # Errors
/// The first thing that is wrong.
pub fn request(
    binding: &Binding,
    segments: &[&str],
    query: &str,
    body: &[u8],
) -> Result<DynamicMessage, Invalid> {
    let mut message = DynamicMessage::new(binding.rpc.input.clone());
    let mut present = None;
    if !body.is_empty() {
        match &binding.body {
            Body::None => return Err(Invalid::new("body", "UNEXPECTED_BODY", "this call takes no body")),
            Body::Whole => {
                let json = json::parse(body)?;
                message = json::message(&binding.rpc.input, &json, "")?;
            }
            Body::Field(field) => {
                let json = json::parse(body)?;
                if let Some(inner) = field.kind().as_message() {
                    let inner = json::message(inner, &json, field.name())?;
                    message.set_field(field, Value::Message(inner));
                }
                present = Some((field, json));
            }
        }
    }
    query::read(&mut message, binding, query)?;
    for (variable, fields) in binding.template.variables.iter().zip(&binding.path_fields) {
        let value = path::value(variable, &binding.template, segments).map_err(|error| {
            Invalid::new(variable.field_path.join("."), "INVALID_PATH", error.to_string())
        })?;
        set(&mut message, fields, Value::String(value));
    }
    if let Some((field, json)) = present {
        mask::infer(&mut message, binding, field, &json);
    }
    Ok(message)
}

/// Sets the field at the end of a path of fields, making the messages between.
fn set(message: &mut DynamicMessage, fields: &[FieldDescriptor], value: Value) {
    let Some((first, rest)) = fields.split_first() else { return };
    if rest.is_empty() {
        message.set_field(first, value);
    } else if let Value::Message(inner) = message.get_field_mut(first) {
        set(inner, rest, value);
    }
}

#[cfg(test)]
mod tests;
