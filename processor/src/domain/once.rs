//! Calls that are done once: what makes two requests the same.

use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value};
use sha2::{Digest, Sha256};

/// SHA-256 of what a request says, whatever the order in which its maps are encoded.
pub fn fingerprint(descriptor: &MessageDescriptor, encoded: &[u8]) -> Vec<u8> {
    let mut said = descriptor.full_name().as_bytes().to_vec();
    match DynamicMessage::decode(descriptor.clone(), encoded) {
        Ok(request) => message(&request, &mut said),
        // It was decoded before. If not, only the same bytes are the same.
        Err(_) => said.extend_from_slice(encoded),
    }
    Sha256::digest(&said).to_vec()
}

fn message(from: &DynamicMessage, said: &mut Vec<u8>) {
    let mut fields: Vec<_> = from.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    said.push(b'{');
    for (field, content) in fields {
        said.extend(field.number().to_be_bytes());
        value(content, said);
    }
    said.push(b'}');
}

fn value(from: &Value, said: &mut Vec<u8>) {
    match from {
        Value::Bool(value) => said.push(u8::from(*value)),
        Value::I32(value) | Value::EnumNumber(value) => said.extend(value.to_be_bytes()),
        Value::I64(value) => said.extend(value.to_be_bytes()),
        Value::U32(value) => said.extend(value.to_be_bytes()),
        Value::U64(value) => said.extend(value.to_be_bytes()),
        Value::F32(value) => said.extend(value.to_be_bytes()),
        Value::F64(value) => said.extend(value.to_be_bytes()),
        Value::String(text) => bytes(text.as_bytes(), said),
        Value::Bytes(value) => bytes(value, said),
        Value::Message(inner) => message(inner, said),
        Value::List(items) => {
            said.extend(items.len().to_be_bytes());
            items.iter().for_each(|item| value(item, said));
        }
        Value::Map(entries) => {
            let mut entries: Vec<(Vec<u8>, &Value)> =
                entries.iter().map(|(key, value)| (map_key(key), value)).collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            said.extend(entries.len().to_be_bytes());
            for (key, entry) in entries {
                bytes(&key, said);
                value(entry, said);
            }
        }
    }
}

fn map_key(key: &MapKey) -> Vec<u8> {
    match key {
        MapKey::Bool(key) => vec![u8::from(*key)],
        MapKey::I32(key) => key.to_be_bytes().to_vec(),
        MapKey::I64(key) => key.to_be_bytes().to_vec(),
        MapKey::U32(key) => key.to_be_bytes().to_vec(),
        MapKey::U64(key) => key.to_be_bytes().to_vec(),
        MapKey::String(key) => key.as_bytes().to_vec(),
    }
}

/// With the length in front, so that no two sequences of texts are the same.
fn bytes(from: &[u8], said: &mut Vec<u8>) {
    said.extend(from.len().to_be_bytes());
    said.extend_from_slice(from);
}

#[cfg(test)]
mod tests {
    use contracts::v1::{Asset, DeleteAssetRequest, ManagedFields, UpdateAssetRequest};
    use prost::Message as _;

    use super::*;
    use crate::domain::changes::Descriptors;

    fn update(labels: impl Iterator<Item = u32>, paths: &[&str]) -> Vec<u8> {
        let labels = labels.map(|n| (format!("k{n}"), "v".to_owned())).collect();
        let managed = Some(ManagedFields { labels, ..ManagedFields::default() });
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = UpdateAssetRequest {
            asset: Some(Asset { managed, ..Asset::default() }),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..UpdateAssetRequest::default()
        };
        request.encode_to_vec()
    }

    #[test]
    fn a_request_is_the_same_whatever_the_order_of_its_maps() {
        let descriptor = Descriptors::default().message("UpdateAssetRequest").unwrap();
        let print = |encoded: &[u8]| fingerprint(&descriptor, encoded);
        let one = print(&update(0..40, &["managed.owner", "managed.labels"]));
        for _ in 0..10 {
            assert_eq!(print(&update((0..40).rev(), &["managed.owner", "managed.labels"])), one);
        }
        assert_ne!(print(&update(0..39, &["managed.owner", "managed.labels"])), one);
        assert_ne!(print(&update(0..40, &["managed.owner"])), one);
        assert_ne!(print(&update(0..40, &["managed.labels", "managed.owner"])), one);
        // What JSON has no form for is told apart too.
        let odd = |path: &str| print(&update(0..1, &[path]));
        assert_ne!(odd("managed.labels.`A/b`"), odd("managed.labels.`A/c`"));
        let other = Descriptors::default().message("DeleteAssetRequest").unwrap();
        let empty = DeleteAssetRequest::default().encode_to_vec();
        assert_ne!(fingerprint(&other, &empty), fingerprint(&descriptor, &empty));
    }
}
