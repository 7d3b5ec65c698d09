//! The query: `a.b=c`, repeated for lists. Enums by their canonical name or
//! number; well-known types in their JSON form, without quotes.

use std::collections::HashSet;

use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use serde_json::Value as Json;

use super::{
    Invalid,
    json::{field, leaf},
    set,
};
use crate::table::{Binding, Body};

/// Reads the query into the request message.
///
/// # Errors
/// The first key that is not known, stands twice, is set elsewhere, or whose
/// value is wrong.
pub fn read(message: &mut DynamicMessage, binding: &Binding, query: &str) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key, key)?, decode(key, value)?);
        let fields = resolve(message, &key)?;
        let name = fields.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".");
        check_source(binding, &fields, &name)?;
        let Some(last) = fields.last() else { continue };
        let value = scalar(last, &value).map_err(|problem| Invalid::new(&name, "WRONG_VALUE", problem))?;
        if last.is_list() {
            append(message, &fields, value);
        } else if seen.insert(name.clone()) {
            set(message, &fields, value);
        } else {
            return Err(Invalid::new(name, "DUPLICATE_FIELD", "stands twice in the query"));
        }
    }
    Ok(())
}

fn decode(key: &str, text: &str) -> Result<String, Invalid> {
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Invalid::new(key, "INVALID_QUERY", "is not UTF-8 once decoded")),
    }
}

/// The fields from the request down to the one that a key means.
fn resolve(message: &DynamicMessage, key: &str) -> Result<Vec<FieldDescriptor>, Invalid> {
    use prost_reflect::ReflectMessage;
    let place = if key.is_empty() { "query" } else { key };
    let unknown = || Invalid::new(place, "UNKNOWN_FIELD", "there is no such query parameter");
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    let mut descriptor = Some(message.descriptor());
    for name in key.split('.') {
        let inner = descriptor.ok_or_else(unknown)?;
        let found = field(&inner, name).ok_or_else(unknown)?;
        descriptor = match found.kind() {
            Kind::Message(inner) if !found.is_list() && !found.is_map() => Some(inner),
            _ => None,
        };
        fields.push(found);
    }
    Ok(fields)
}

/// A field has one source: what the path binds or the body fills is no query
/// parameter.
fn check_source(binding: &Binding, fields: &[FieldDescriptor], name: &str) -> Result<(), Invalid> {
    if binding.path_fields.iter().any(|bound| bound == fields) {
        return Err(Invalid::new(name, "SET_BY_PATH", "is set by the path, not by the query"));
    }
    let by_body = match &binding.body {
        Body::None => false,
        Body::Whole => true,
        Body::Field(field) => fields.first() == Some(field),
    };
    if by_body {
        return Err(Invalid::new(name, "SET_BY_BODY", "is set by the body, not by the query"));
    }
    Ok(())
}

/// Reads one value: the text becomes the JSON that ProtoJSON wants for it.
fn scalar(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    let json = match field.kind() {
        Kind::Bool => boolean(text)?,
        Kind::Enum(_) => text.parse::<i32>().map_or_else(|_| Json::from(text), Json::from),
        Kind::Message(_) if field.is_map() => return Err("a map cannot be set by the query".to_owned()),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.BoolValue" => boolean(text)?,
            "google.protobuf.FieldMask" => camel_case(text).into(),
            name if TEXT_TYPES.contains(&name) => text.into(),
            _ => return Err("a message cannot be set by the query; set its fields, as in `a.b=c`".to_owned()),
        },
        _ => text.into(),
    };
    let json = if field.is_list() { Json::Array(vec![json]) } else { json };
    match leaf(field, &json) {
        Ok(Some(Value::List(mut one))) if field.is_list() && one.len() == 1 => Ok(one.swap_remove(0)),
        Ok(Some(value)) if !field.is_list() => Ok(value),
        Ok(_) => Err("has no value".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Well-known types whose JSON form is a string, or may be one.
const TEXT_TYPES: &[&str] = &[
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.StringValue",
    "google.protobuf.BytesValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
    "google.protobuf.FloatValue",
    "google.protobuf.DoubleValue",
];

fn boolean(text: &str) -> Result<Json, String> {
    match text {
        "true" => Ok(true.into()),
        "false" => Ok(false.into()),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

/// A mask in the names of the contract is taken too; ProtoJSON knows only
/// camelCase.
fn camel_case(mask: &str) -> String {
    let mut camel = String::with_capacity(mask.len());
    let mut upper = false;
    for letter in mask.chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            _ => camel.push(letter),
        }
    }
    camel
}

fn append(message: &mut DynamicMessage, fields: &[FieldDescriptor], value: Value) {
    let Some((first, rest)) = fields.split_first() else { return };
    match message.get_field_mut(first) {
        Value::List(list) if rest.is_empty() => list.push(value),
        Value::Message(inner) => append(inner, rest, value),
        _ => {}
    }
}
