//! The searchable form of an asset's details and managed fields: JSON with the
//! field names of the contracts, numbers as numbers, defaults left out.

use contracts::{
    json::{JsonObject, Name},
    v1::AssetDetails,
};
use kit::json::{Object, Style};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

/// `{"details": …}`, as text; `{}` without any. By fields known at compile time:
/// this runs for each event.
pub fn searchable_details(details: Option<&AssetDetails>) -> String {
    let mut text = String::new();
    let mut object = Object::begin(&mut text, Style::Searchable);
    if let Some(details) = details {
        object.message(Name { json: "details", proto: "details" }, details);
    }
    object.end();
    text
}

/// [`searchable_details`] of encoded ones. What cannot be decoded has none; it was
/// checked before it was stored.
pub fn searchable_encoded(encoded: Option<&[u8]>) -> String {
    searchable_details(encoded.and_then(|encoded| AssetDetails::decode(encoded).ok()).as_ref())
}

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
    use contracts::v1::{
        AssetKind, CertificateDetails, DiskDetails, KernelModuleDetails, Lifecycle, ManagedFields, Partition,
        PciDeviceDetails, Relation, RelationType, asset_details::Details,
    };
    use prost::Message;
    use prost_types::Timestamp;
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

    #[test]
    fn details_are_written_as_by_descriptor() {
        let certificate = CertificateDetails {
            subject: "CN=\"a\\b\"\n\u{1}ä".to_owned(),
            not_after_time: Some(Timestamp { seconds: 1_772_496_000, nanos: 5_000_000 }),
            ..Default::default()
        };
        let disk = DiskDetails {
            size_bytes: u64::MAX,
            partitions: vec![Partition { size_bytes: 7, ..Default::default() }, Partition::default()],
            ..Default::default()
        };
        let device = PciDeviceDetails { numa_node: Some(0), ..Default::default() };
        let descriptors = Descriptors::default();
        for details in [
            Details::Certificate(certificate),
            Details::Disk(disk),
            Details::PciDevice(device),
            Details::KernelModule(KernelModuleDetails::default()),
        ] {
            let relation = Relation {
                r#type: RelationType::AttachedTo.into(),
                kind: AssetKind::NumaNode.into(),
                natural_key: "0".to_owned(),
            };
            let details = AssetDetails { details: Some(details), relations: vec![relation] };
            let written: Value = serde_json::from_str(&searchable_details(Some(&details))).unwrap();
            let expected = searchable(descriptors.details(), &details.encode_to_vec());
            assert_eq!(written, json!({ "details": expected }));
        }
        assert_eq!(searchable_details(None), "{}");
    }
}
