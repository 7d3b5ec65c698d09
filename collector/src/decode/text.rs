//! Finds NUL characters in details and contents of images: PostgreSQL refuses
//! them in text and jsonb, so such a batch could never be stored.

use contracts::{
    v1::{AssetDetails, ImageContent},
    walk::{Walk, Walker},
};
use prost::Message;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, MessageDescriptor, Value};

/// What the contracts say of the messages that are searched; read once, cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Contract {
    details: MessageDescriptor,
    content: MessageDescriptor,
}

/// Looks for NUL in any string field of any kind of details, and of contents of
/// images, also in those that are added to the contract later.
pub struct NulFinder {
    contract: Contract,
    encoded: Vec<u8>,
}

/// The contracts lack a message, or carry no valid descriptors.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The descriptor set cannot be read.
    #[error("the contracts' descriptors: {0}")]
    Descriptors(#[from] DescriptorError),
    /// The message is not in it.
    #[error("the contracts' descriptors have no assettrack.v1.{0}")]
    Missing(&'static str),
}

impl Contract {
    /// Reads the descriptors.
    ///
    /// # Errors
    /// The contracts are not what this crate was written for.
    pub fn new() -> Result<Self, ContractError> {
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET)?;
        let message = |name: &'static str| {
            let found = pool.get_message_by_name(&format!("assettrack.v1.{name}"));
            found.ok_or(ContractError::Missing(name))
        };
        Ok(Self { details: message("AssetDetails")?, content: message("ImageContent")? })
    }
}

impl NulFinder {
    /// One with a buffer of its own.
    pub fn new(contract: &Contract) -> Self {
        Self { contract: contract.clone(), encoded: Vec::new() }
    }

    /// Path of the first string that has a NUL, such as `package.version`.
    pub fn in_details(&mut self, details: &mut AssetDetails) -> Option<String> {
        let mut seen = Seen(false);
        details.walk(&mut seen);
        seen.0.then(|| path(&self.contract.details, details, &mut self.encoded))
    }

    /// Path of the first string that has a NUL, such as `packages[3].version`.
    /// The digest is not looked at.
    pub fn in_content(&mut self, content: &mut ImageContent) -> Option<String> {
        let mut seen = Seen(false);
        content.packages.iter_mut().for_each(|package| package.walk(&mut seen));
        seen.0.then(|| path(&self.contract.content, content, &mut self.encoded))
    }
}

/// Whether a NUL was seen. The walk does not name the fields, but costs next to
/// nothing; only if there is a NUL are they looked at one by one.
struct Seen(bool);

impl Walker for Seen {
    fn text(&mut self, text: &mut String) {
        self.0 |= text.as_bytes().contains(&0);
    }

    fn texts(&mut self, texts: &mut Vec<String>) {
        texts.iter_mut().for_each(|text| self.text(text));
    }

    fn longest_list(&mut self, length: usize) -> usize {
        length
    }
}

fn path(descriptor: &MessageDescriptor, message: &impl Message, encoded: &mut Vec<u8>) -> String {
    encoded.clear();
    let found = message
        .encode(encoded)
        .ok()
        .and_then(|()| in_message(&DynamicMessage::decode(descriptor.clone(), encoded.as_slice()).ok()?));
    found.unwrap_or_else(|| "some text".to_owned())
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
            // Zero bytes that are no text, once encoded: two empty messages.
            (Details::Node(NodeDetails { boot_time: Some(Default::default()), ..Default::default() }), None),
            (Details::Node(NodeDetails::default()), None),
        ];
        let mut finder = NulFinder::new(&Contract::new().unwrap());
        for (details, path) in table {
            let mut details = AssetDetails { details: Some(details), ..AssetDetails::default() };
            assert_eq!(finder.in_details(&mut details).as_deref(), path, "{details:?}");
        }
    }
}
