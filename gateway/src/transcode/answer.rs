//! The answer as ProtoJSON: camelCase, 64-bit integers as strings, defaults
//! left out. One addition: an empty list at the top is written as `[]`, so that
//! `GET /v1/assets` always has `assets`.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions};
use serde_json::Value as Json;

/// Why an answer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is not the message that the contract says.
    #[error("the upstream's answer cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A value has no JSON form, such as a timestamp out of range.
    #[error("the upstream's answer has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes an answer, or the one field of it that the binding asks for.
///
/// # Errors
/// See [`AnswerError`].
pub fn write(
    output: &MessageDescriptor,
    field: Option<&FieldDescriptor>,
    bytes: &[u8],
) -> Result<Vec<u8>, AnswerError> {
    let message = DynamicMessage::decode(output.clone(), bytes)?;
    let Some(field) = field else { return write_message(&message, bytes.len()) };
    let mut whole = message
        .serialize_with_options(serde_json::value::Serializer, &options().skip_default_fields(false))?;
    Ok(serde_json::to_vec(&whole.get_mut(field.json_name()).map_or(Json::Null, Json::take))?)
}

fn write_message(message: &DynamicMessage, size: usize) -> Result<Vec<u8>, AnswerError> {
    use prost_reflect::ReflectMessage;
    // Names and quotes about double the size of the wire form.
    let mut json = Vec::with_capacity(size * 2 + 64);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options())?;
    let descriptor = message.descriptor();
    let mut empty = String::new();
    for field in descriptor.fields().filter(|field| field.is_list() && !message.has_field(field)) {
        empty.push_str(&format!("\"{}\":[],", field.json_name()));
    }
    if !empty.is_empty() && super::json::is_plain(&descriptor) {
        if json == b"{}" {
            empty.pop();
        }
        json.splice(1..1, empty.into_bytes());
    }
    Ok(json)
}

fn options() -> SerializeOptions {
    SerializeOptions::new()
}
