//! JSON of a request body. Stricter than ProtoJSON asks, so that nothing a
//! client sent is lost in silence: an unknown field, a key that stands twice,
//! two members of one oneof are errors that name the field.

use std::{collections::HashSet, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::Invalid;

/// Parses a body.
///
/// # Errors
/// It is not JSON, nested deeper than 128 levels, or has a key twice; with
/// line and column.
pub fn parse(body: &[u8]) -> Result<Json, Invalid> {
    match serde_json::from_slice::<Unique>(body) {
        Ok(Unique(json)) => Ok(json),
        Err(error) => Err(Invalid::new("body", "MALFORMED_JSON", error.to_string())),
    }
}

/// A JSON value in which no object has a key twice.
struct Unique(Json);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key `{key}` stands twice")));
            }
            let Unique(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Json::Object(map))
    }
}

/// Whether JSON stands for the message by its fields, and not in a form of its
/// own as for the well-known types.
pub fn is_plain(message: &MessageDescriptor) -> bool {
    message.parent_file().package_name() != "google.protobuf"
}

/// The field that a JSON key means: by its JSON name or its name in the
/// contract.
pub fn field(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key))
}

/// Reads a message. `at` is where it stands: a field path, empty for the whole
/// request.
///
/// # Errors
/// The first field that is wrong.
pub fn message(descriptor: &MessageDescriptor, json: &Json, at: &str) -> Result<DynamicMessage, Invalid> {
    if !is_plain(descriptor) {
        return DynamicMessage::deserialize(descriptor.clone(), json).map_err(|error| wrong(at, &error));
    }
    let Json::Object(object) = json else {
        return Err(Invalid::new(
            here(at),
            "WRONG_TYPE",
            format!("must be a JSON object, not {}", kind_of(json)),
        ));
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen = HashSet::new();
    for (key, value) in object {
        let Some(field) = field(descriptor, key) else {
            return Err(Invalid::new(here(&join(at, key)), "UNKNOWN_FIELD", "there is no such field"));
        };
        let at = join(at, field.name());
        if !seen.insert(field.number()) {
            return Err(Invalid::new(at, "DUPLICATE_FIELD", "stands twice: in camelCase and in snake_case"));
        }
        let Some(value) = field_value(&field, value, &at)? else { continue };
        if let Some(oneof) = field.containing_oneof()
            && let Some(other) = oneof.fields().find(|other| *other != field && message.has_field(other))
        {
            return Err(Invalid::new(
                at,
                "DUPLICATE_FIELD",
                format!("cannot be set together with `{}`", other.name()),
            ));
        }
        message.set_field(&field, value);
    }
    Ok(message)
}

/// Reads the value of a field; none for a `null` that leaves it unset.
fn field_value(field: &FieldDescriptor, json: &Json, at: &str) -> Result<Option<Value>, Invalid> {
    match (field.kind(), json) {
        (Kind::Message(inner), Json::Array(list)) if field.is_list() && is_plain(&inner) => {
            let mut values = Vec::with_capacity(list.len());
            for (index, element) in list.iter().enumerate() {
                values.push(Value::Message(message(&inner, element, &format!("{at}[{index}]"))?));
            }
            Ok(Some(Value::List(values)))
        }
        (Kind::Message(inner), Json::Object(_))
            if !field.is_list() && !field.is_map() && is_plain(&inner) =>
        {
            Ok(Some(Value::Message(message(&inner, json, at)?)))
        }
        (_, Json::Array(list)) if field.is_list() && list.contains(&Json::Null) => {
            Err(Invalid::new(at, "WRONG_TYPE", "must not hold null"))
        }
        _ => leaf(field, json).map_err(|error| wrong(at, &error)),
    }
}

/// Reads a value by prost-reflect's ProtoJSON, which reads whole messages: so
/// one is made with this field alone.
pub fn leaf(field: &FieldDescriptor, json: &Json) -> Result<Option<Value>, serde_json::Error> {
    let mut object = Map::new();
    object.insert(field.json_name().to_owned(), json.clone());
    let mut message = DynamicMessage::deserialize(field.parent_message().clone(), Json::Object(object))?;
    // An explicit default of a field without presence is not "set".
    Ok((!json.is_null() || message.has_field(field)).then(|| message.get_field_mut(field).clone()))
}

fn wrong(at: &str, error: &serde_json::Error) -> Invalid {
    Invalid::new(here(at), "WRONG_VALUE", error.to_string())
}

fn here(at: &str) -> &str {
    if at.is_empty() { "body" } else { at }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
