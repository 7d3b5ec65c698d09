//! PATCH without a mask: the fields that the JSON names are the ones to write,
//! so that an explicit `false`, `""` or `null` counts (AIP-134).

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::Value as Json;

use super::json::{field, is_plain};
use crate::table::{Binding, Body};

const MASK_FIELD: &str = "update_mask";
const MASK_TYPE: &str = "google.protobuf.FieldMask";

/// Sets `update_mask` from the JSON of the body, if this is a PATCH of a
/// resource, the request has such a field, and nothing set it yet.
pub fn infer(message: &mut DynamicMessage, binding: &Binding, body: &FieldDescriptor, json: &Json) {
    let Some(mask_field) = binding.rpc.input.get_field_by_name(MASK_FIELD) else { return };
    let (Kind::Message(mask_type), Kind::Message(resource)) = (mask_field.kind(), body.kind()) else {
        return;
    };
    let patches = binding.method == http::Method::PATCH && binding.body == Body::Field(body.clone());
    if !patches || mask_type.full_name() != MASK_TYPE || message.has_field(&mask_field) {
        return;
    }
    let mut paths = Vec::new();
    collect(&resource, json, "", &mut paths);
    // The path names the resource, and the etag is a condition (AIP-154):
    // neither is something to write.
    let bound: Vec<String> = binding
        .path_fields
        .iter()
        .filter(|fields| fields.first() == Some(body))
        .map(|fields| fields.iter().skip(1).map(FieldDescriptor::name).collect::<Vec<_>>().join("."))
        .collect();
    paths.retain(|path| path != "etag" && !bound.contains(path));
    if paths.is_empty() {
        return;
    }
    let mut mask = DynamicMessage::new(mask_type);
    mask.set_field_by_name("paths", Value::List(paths.into_iter().map(Value::String).collect()));
    message.set_field(&mask_field, Value::Message(mask));
}

/// Adds the path of each field present. Lists, maps and well-known types are
/// written as a whole.
fn collect(message: &MessageDescriptor, json: &Json, at: &str, paths: &mut Vec<String>) {
    let Json::Object(object) = json else { return };
    for (key, value) in object {
        let Some(field) = field(message, key) else { continue };
        let path = if at.is_empty() { field.name().to_owned() } else { format!("{at}.{}", field.name()) };
        match (field.kind(), value) {
            (Kind::Message(inner), Json::Object(members))
                if !field.is_list() && !field.is_map() && is_plain(&inner) && !members.is_empty() =>
            {
                collect(&inner, value, &path, paths);
            }
            _ => paths.push(path),
        }
    }
}
