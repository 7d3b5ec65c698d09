//! Messages that no collector can ever apply, each for another reason. Pure.

use contracts::v1::{AssetKind, EventBatch, Presence, asset_details::Details};
use kit::queue::MAX_BATCH_BYTES;
use prost::Message;

use super::dice::Dice;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No Protobuf.
    Garbage,
    /// Said to be zstd, and is none.
    TornCompression,
    /// Of a version that nobody knows.
    UnknownVersion,
    /// A hash of three bytes.
    ShortHash,
    /// A kind that no agent can see.
    ForeignKind,
    /// A NUL character in a text of the details, which PostgreSQL cannot store.
    NulInText,
    /// A node that is no UUID.
    NoNode,
    /// Another sequence than in its header.
    OtherSequence,
    /// More bytes than a batch may have.
    TooLarge,
    /// An observation of no presence.
    NoPresence,
}

/// All of them.
pub const FAULTS: [Fault; 10] = [
    Fault::Garbage,
    Fault::TornCompression,
    Fault::UnknownVersion,
    Fault::ShortHash,
    Fault::ForeignKind,
    Fault::NulInText,
    Fault::NoNode,
    Fault::OtherSequence,
    Fault::TooLarge,
    Fault::NoPresence,
];

/// Makes a good batch, which has observations with details, a bad one. Answers
/// the body and whether it is said to be compressed.
pub fn corrupt(fault: Fault, mut batch: EventBatch, dice: &mut Dice) -> (Vec<u8>, bool) {
    let first = batch.observations.first_mut();
    match fault {
        Fault::Garbage | Fault::TornCompression => {
            // Field 31 of a wire type that there is none of; unique, so that no
            // two of them count as one dead letter.
            let mut body = vec![0xff, 0xff];
            body.extend_from_slice(&dice.bytes());
            return (body, fault == Fault::TornCompression);
        }
        Fault::UnknownVersion => batch.schema_version = 99,
        Fault::ShortHash => {
            if let Some(first) = first {
                first.state_hash.truncate(3);
            }
        }
        Fault::ForeignKind => {
            if let Some(first) = first {
                first.kind = AssetKind::Custom.into();
            }
        }
        Fault::NulInText => {
            let details = first.and_then(|first| first.details.as_mut());
            if let Some(Details::Package(package)) = details.and_then(|details| details.details.as_mut()) {
                package.version.push('\0');
            }
        }
        Fault::NoNode => {
            if let Some(node) = &mut batch.node {
                node.uid = node.uid.to_uppercase();
            }
        }
        Fault::OtherSequence => batch.sequence += 1_000_000,
        Fault::TooLarge => {
            let mut body = batch.encode_to_vec();
            // Encoded messages one after the other are one message, whose last
            // value of a field counts.
            let longer = EventBatch { stream: "x".repeat(MAX_BATCH_BYTES), ..EventBatch::default() };
            body.extend_from_slice(&longer.encode_to_vec());
            return (body, false);
        }
        Fault::NoPresence => {
            if let Some(first) = first {
                first.presence = Presence::Unspecified.into();
            }
        }
    }
    (batch.encode_to_vec(), false)
}
