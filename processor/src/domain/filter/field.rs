//! Follows the path of a field through the descriptors of the contract.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{
    Field, FieldType, FilterError, Schema,
    nearest::{known, nearest},
    parse::Segment,
};

/// A field, found.
pub(super) struct Found {
    pub(super) field: Field,
    /// Its descriptor; none for a value of a map.
    pub(super) leaf: Option<FieldDescriptor>,
    /// Whether it is a list itself.
    pub(super) is_list: bool,
}

pub(super) fn field(path: &[Segment], schema: &Schema) -> Result<Found, FilterError> {
    let mut message = schema.message.clone();
    let mut names: Vec<String> = Vec::new();
    let mut in_list = None;
    for (index, segment) in path.iter().enumerate() {
        let found = message
            .get_field_by_name(&segment.text)
            .or_else(|| message.get_field_by_json_name(&segment.text));
        let hidden =
            |field: &FieldDescriptor| names.is_empty() && schema.unsearchable.contains(&field.name());
        let Some(found) = found.filter(|field| !hidden(field)) else {
            return Err(unknown(segment, &names, &message, schema));
        };
        names.push(found.name().to_owned());
        let rest = &path[index + 1..];
        if found.is_map() {
            return Ok(map(names, rest, found, in_list));
        }
        if in_list.is_some() && found.is_list() {
            let problem =
                format!("`{}` is a list within a list, which filters cannot tell apart", names.join("."));
            return Err(FilterError::new(segment.position, problem));
        }
        match (found.kind(), rest) {
            (kind, []) => {
                let field_type = field_type(&names, &kind, schema);
                let optional = found.supports_presence() && !matches!(kind, Kind::Message(_));
                let is_list = found.is_list();
                if is_list && field_type != FieldType::Message {
                    in_list = Some(names.len());
                }
                let field = Field { path: names, field_type, in_list, optional };
                return Ok(Found { field, leaf: Some(found), is_list });
            }
            (Kind::Message(inner), _) if !is_time(&inner) => {
                if found.is_list() {
                    in_list = Some(names.len());
                }
                message = inner;
            }
            (_, [next, ..]) => {
                let problem =
                    format!("`{}` has no fields of its own, so no `{}`", names.join("."), next.text);
                return Err(FilterError::new(next.position, problem));
            }
        }
    }
    Err(FilterError::new(0, "a field is missing"))
}

fn map(mut names: Vec<String>, rest: &[Segment], found: FieldDescriptor, in_list: Option<usize>) -> Found {
    if rest.is_empty() {
        let field = Field { path: names, field_type: FieldType::Map, in_list, optional: false };
        return Found { field, leaf: Some(found), is_list: false };
    }
    // Keys may hold dots: what follows the map is the key.
    let key: Vec<&str> = rest.iter().map(|segment| segment.text.as_str()).collect();
    names.push(key.join("."));
    let field = Field { path: names, field_type: FieldType::MapValue, in_list, optional: false };
    Found { field, leaf: None, is_list: false }
}

fn unknown(segment: &Segment, names: &[String], message: &MessageDescriptor, schema: &Schema) -> FilterError {
    let mut fields: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
    if names.is_empty() {
        fields.retain(|name| !schema.unsearchable.contains(&name.as_str()));
    }
    fields.sort_unstable();
    let of = if names.is_empty() { String::new() } else { format!(" in `{}`", names.join(".")) };
    let mut below = Vec::new();
    if names.is_empty() {
        deeper(message, "", &segment.text, 3, &mut below);
    }
    let mut near = nearest(&segment.text, fields.iter().map(String::as_str));
    near.extend(below.iter().map(String::as_str).take(3));
    let problem = format!(
        "there is no field `{}`{of}{} (put a word that holds `:` or `=` in quotes)",
        segment.text,
        known(&near, &fields.join(", "))
    );
    FilterError::new(segment.position, problem)
}

/// Paths of fields of this name further below.
fn deeper(message: &MessageDescriptor, path: &str, name: &str, levels: usize, found: &mut Vec<String>) {
    for field in message.fields().filter(|field| !field.is_map()) {
        let Kind::Message(inner) = field.kind() else { continue };
        let path = format!("{path}{}.", field.name());
        if inner.get_field_by_name(name).is_some() && !is_time(&inner) {
            found.push(format!("{path}{name}"));
        }
        if levels > 1 {
            deeper(&inner, &path, name, levels - 1, found);
        }
    }
}

fn is_time(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Timestamp"
}

fn field_type(names: &[String], kind: &Kind, schema: &Schema) -> FieldType {
    if names.len() == 1 && schema.names.iter().any(|(name, _)| *name == names[0]) {
        return FieldType::Name;
    }
    match kind {
        Kind::Message(message) if is_time(message) => FieldType::Time,
        Kind::Message(_) => FieldType::Message,
        Kind::Enum(_) => FieldType::Enum,
        Kind::Bool => FieldType::Bool,
        Kind::String => FieldType::Text,
        Kind::Bytes => FieldType::Bytes,
        _ => FieldType::Number,
    }
}
