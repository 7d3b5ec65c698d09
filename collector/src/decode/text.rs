//! Finds NUL characters in details: PostgreSQL refuses them in text and jsonb,
//! so such a batch could never be stored.

use contracts::v1::AssetDetails;
use prost::Message;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, MessageDescriptor, Value};

/// What the contracts say of details; read once, cheap to clone.
#[derive(Clone, Debug)]
pub struct Contract {
    details: MessageDescriptor,
}

/// Looks for NUL in any string field of any kind of details, also in those
/// that are added to the contract later.
pub struct NulFinder {
    details: MessageDescriptor,
    encoded: Vec<u8>,
}

/// The contracts carry no message `AssetDetails`, or no valid descriptors.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The descriptor set cannot be read.
    #[error("the contracts' descriptors: {0}")]
    Descriptors(#[from] DescriptorError),
    /// The message is not in it.
    #[error("the contracts' descriptors have no assettrack.v1.AssetDetails")]
    NoDetails,
}

impl Contract {
    /// Reads the descriptors.
    ///
    /// # Errors
    /// The contracts are not what this crate was written for.
    pub fn new() -> Result<Self, ContractError> {
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET)?;
        let details =
            pool.get_message_by_name("assettrack.v1.AssetDetails").ok_or(ContractError::NoDetails)?;
        Ok(Self { details })
    }
}

impl NulFinder {
    /// One with a buffer of its own.
    pub fn new(contract: &Contract) -> Self {
        Self { details: contract.details.clone(), encoded: Vec::new() }
    }

    /// Path of the first string that has a NUL, such as `package.version`.
    ///
    /// Nearly always one pass over the encoded bytes: a NUL in a string is a
    /// zero byte there, and other zero bytes are rare (an empty message). Only
    /// if there is one are the fields looked at one by one.
    pub fn find(&mut self, details: &AssetDetails) -> Option<String> {
        self.encoded.clear();
        details.encode(&mut self.encoded).ok()?;
        if !self.encoded.contains(&0) {
            return None;
        }
        let message = DynamicMessage::decode(self.details.clone(), self.encoded.as_slice()).ok()?;
        in_message(&message)
    }
}

fn in_message(message: &DynamicMessage) -> Option<String> {
    for (field, value) in message.fields() {
        if let Some(rest) = in_value(value) {
            return Some(format!("{}{rest}", field.name()));
        }
    }
    None
}

/// The rest of the path below a field: empty for a string itself.
fn in_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Message(message) => in_message(message).map(|path| format!(".{path}")),
        Value::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| in_value(item).map(|rest| format!("[{index}]{rest}"))),
        Value::Map(entries) => entries.iter().find_map(|(key, item)| {
            let in_key = key.as_str().is_some_and(|key| key.contains('\0'));
            if in_key {
                Some("[key]".to_owned())
            } else {
                in_value(item).map(|rest| format!("[value]{rest}"))
            }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use contracts::v1::{
        DiskDetails, FilesystemDetails, NodeDetails, PackageDetails, Partition, asset_details::Details,
    };

    use super::*;

    #[test]
    fn nul_is_found_wherever_it_stands() {
        let text = |text: &str| text.to_owned();
        let nul = || "a\0b".to_owned();
        let table = [
            (Details::Package(PackageDetails { version: text("1.0"), ..Default::default() }), None),
            (
                Details::Package(PackageDetails { version: nul(), ..Default::default() }),
                Some("package.version"),
            ),
            (
                Details::Filesystem(FilesystemDetails {
                    options: vec![text("rw"), nul()],
                    ..Default::default()
                }),
                Some("filesystem.options[1]"),
            ),
            (
                Details::Disk(DiskDetails {
                    partitions: vec![Partition::default(), Partition { device: nul(), ..Default::default() }],
                    ..Default::default()
                }),
                Some("disk.partitions[1].device"),
            ),
            // Zero bytes that are no text: two empty messages.
            (Details::Node(NodeDetails { boot_time: Some(Default::default()), ..Default::default() }), None),
            (Details::Node(NodeDetails::default()), None),
        ];
        let mut finder = NulFinder::new(&Contract::new().unwrap());
        for (details, path) in table {
            let details = AssetDetails { details: Some(details), ..AssetDetails::default() };
            assert_eq!(finder.find(&details).as_deref(), path, "{details:?}");
        }
    }
}
