//! The searchable form of an asset's details and managed fields: JSON with the
//! field names of the contracts, numbers as numbers, defaults left out.

use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

/// Searchable form of an encoded message. What cannot be decoded has none; it
/// was checked before it was stored.
pub fn searchable(descriptor: &MessageDescriptor, encoded: &[u8]) -> Value {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(true);
    DynamicMessage::decode(descriptor.clone(), encoded)
        .ok()
        .and_then(|message| message.serialize_with_options(serde_json::value::Serializer, &options).ok())
        .unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use contracts::v1::{Lifecycle, ManagedFields};
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::domain::changes::Descriptors;

    #[test]
    fn uses_the_names_of_the_contract() {
        let managed = ManagedFields {
            owner: "ops".to_owned(),
            lifecycle: Lifecycle::InService.into(),
            labels: [("app.kubernetes.io/name".to_owned(), "x".to_owned())].into(),
            ..ManagedFields::default()
        };
        let descriptor = Descriptors::default().message("ManagedFields").unwrap();
        assert_eq!(
            searchable(&descriptor, &managed.encode_to_vec()),
            json!({"owner": "ops", "lifecycle": "LIFECYCLE_IN_SERVICE", "labels": {"app.kubernetes.io/name": "x"}})
        );
    }
}
