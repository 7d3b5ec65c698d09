//! Encodes batches as they are made up, each asset once: its hash is taken over
//! the very bytes that the batch carries. Pure.

use contracts::v1::{AssetKind, NodeIdentity, Presence, Snapshot};
use kit::digest::{StateHash, state_hash};
use kit::queue::{MAX_BATCH_BYTES, SCHEMA_VERSION};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost_types::Timestamp;
use uuid::Uuid;

use super::assets::Asset;

/// Fields of `EventBatch` and `Observation`, as event.proto numbers them.
mod field {
    pub(super) const OBSERVATIONS: u32 = 5;
    pub(super) const SNAPSHOTS: u32 = 6;
    pub(super) const EVENT_ID: u32 = 1;
    pub(super) const PRESENCE: u32 = 2;
    pub(super) const KIND: u32 = 3;
    pub(super) const NATURAL_KEY: u32 = 4;
    pub(super) const DISPLAY_NAME: u32 = 5;
    pub(super) const OBSERVE_TIME: u32 = 6;
    pub(super) const STATE_HASH: u32 = 7;
    pub(super) const DETAILS: u32 = 8;
}

/// Room kept for a snapshot: kind, two sequences and what is around them.
const SNAPSHOT_BYTES: usize = 32;

/// What one observation says.
pub struct Seen<'a> {
    /// ID of the event.
    pub event_id: Uuid,
    /// Whether the asset is there.
    pub presence: Presence,
    /// Its kind.
    pub kind: AssetKind,
    /// The asset; of one that is gone only the key is told.
    pub asset: &'a Asset,
}

/// A batch that is being made up.
pub struct Batch {
    bytes: Vec<u8>,
    observations: usize,
    limit: usize,
    observe_time: Vec<u8>,
    /// Kept between observations for their buffers.
    details: Vec<u8>,
    observation: Vec<u8>,
}

impl Batch {
    /// An empty one that takes at most `limit` observations.
    pub fn new(node: &NodeIdentity, stream: Uuid, sequence: i64, limit: usize, time: Timestamp) -> Self {
        let envelope = contracts::v1::EventBatch {
            schema_version: SCHEMA_VERSION,
            node: Some(node.clone()),
            stream: stream.to_string(),
            sequence,
            ..Default::default()
        };
        let mut bytes = Vec::with_capacity(MAX_BATCH_BYTES.min(512 * (limit + 1)));
        // A vector grows as it must.
        envelope.encode_raw(&mut bytes);
        Self {
            bytes,
            observations: 0,
            limit,
            observe_time: time.encode_to_vec(),
            details: Vec::new(),
            observation: Vec::new(),
        }
    }

    /// Observations in it.
    pub fn len(&self) -> usize {
        self.observations
    }

    /// Adds an observation, if there is room, and answers the hash of the state
    /// that it tells of.
    pub fn push(&mut self, seen: &Seen<'_>) -> Option<StateHash> {
        let (kind, asset) = (seen.kind, seen.asset);
        let mut hash = StateHash::default();
        let one = &mut self.observation;
        one.clear();
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        put_bytes(one, field::EVENT_ID, seen.event_id.hyphenated().encode_lower(&mut id).as_bytes());
        put_number(one, field::PRESENCE, seen.presence as u64);
        put_number(one, field::KIND, kind as u64);
        put_bytes(one, field::NATURAL_KEY, asset.natural_key.as_bytes());
        if seen.presence != Presence::Absent {
            put_bytes(one, field::DISPLAY_NAME, asset.display_name.as_bytes());
        }
        put_bytes(one, field::OBSERVE_TIME, &self.observe_time);
        if seen.presence != Presence::Absent {
            self.details.clear();
            asset.details.encode_raw(&mut self.details);
            hash = state_hash(kind, &asset.natural_key, &asset.display_name, &self.details);
            put_bytes(one, field::STATE_HASH, &hash);
            put_bytes(one, field::DETAILS, &self.details);
        }
        let size = 1 + encoded_len_varint(one.len() as u64) + one.len();
        if self.observations >= self.limit || self.bytes.len() + size + SNAPSHOT_BYTES > MAX_BATCH_BYTES {
            return None;
        }
        put_bytes(&mut self.bytes, field::OBSERVATIONS, one);
        self.observations += 1;
        Some(hash)
    }

    /// Says that a snapshot ends here, if there is room for that.
    pub fn end_snapshot(&mut self, kind: AssetKind, first_sequence: i64, last_sequence: i64) -> bool {
        let snapshot = Snapshot { kind: kind.into(), first_sequence, last_sequence };
        if self.bytes.len() + SNAPSHOT_BYTES > MAX_BATCH_BYTES {
            return false;
        }
        put_bytes(&mut self.bytes, field::SNAPSHOTS, &snapshot.encode_to_vec());
        true
    }

    /// The encoded batch.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Hash of an asset's state, without a batch to tell of it.
pub fn hash_of(kind: AssetKind, asset: &Asset) -> StateHash {
    state_hash(kind, &asset.natural_key, &asset.display_name, &asset.details.encode_to_vec())
}

fn put_bytes(buffer: &mut Vec<u8>, tag: u32, value: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(value.len() as u64, buffer);
    buffer.extend_from_slice(value);
}

fn put_number(buffer: &mut Vec<u8>, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, buffer);
    encode_varint(value, buffer);
}

#[cfg(test)]
mod tests {
    use contracts::v1::{EventBatch, Observation};

    use super::*;
    use crate::simulate::assets::{Place, asset};

    fn identity() -> NodeIdentity {
        NodeIdentity { uid: Uuid::from_u128(1).to_string(), cluster: "c".into(), display_name: "n".into() }
    }

    fn place(number: u32) -> Place {
        Place { seed: 1, node: 2, kind: AssetKind::Package, number }
    }

    #[test]
    fn it_is_encoded_as_the_contract_says() {
        let time = kit::time::of_unix_millis(1_767_225_600_001);
        let mut batch = Batch::new(&identity(), Uuid::from_u128(2), 7, 500, time);
        let (there, gone) = (asset(place(0), 3), asset(place(1), 0));
        let event_id = Uuid::from_u128(9);
        let kind = AssetKind::Package;
        let seen = Seen { event_id, presence: Presence::Listed, kind, asset: &there };
        let hash = batch.push(&seen).unwrap();
        assert_eq!(hash, hash_of(kind, &there));
        batch.push(&Seen { event_id, presence: Presence::Absent, kind, asset: &gone }).unwrap();
        assert!(batch.end_snapshot(kind, 5, 7));
        let expected = EventBatch {
            schema_version: 1,
            node: Some(identity()),
            stream: Uuid::from_u128(2).to_string(),
            sequence: 7,
            observations: vec![
                Observation {
                    event_id: event_id.to_string(),
                    presence: Presence::Listed.into(),
                    kind: kind.into(),
                    natural_key: there.natural_key.clone(),
                    display_name: there.display_name.clone(),
                    observe_time: Some(time),
                    state_hash: hash.to_vec(),
                    details: Some(there.details),
                },
                Observation {
                    event_id: event_id.to_string(),
                    presence: Presence::Absent.into(),
                    kind: kind.into(),
                    natural_key: gone.natural_key,
                    observe_time: Some(time),
                    ..Observation::default()
                },
            ],
            snapshots: vec![Snapshot { kind: kind.into(), first_sequence: 5, last_sequence: 7 }],
            ..EventBatch::default()
        };
        let bytes = batch.into_bytes();
        assert_eq!(EventBatch::decode(bytes.as_slice()).unwrap(), expected);
        assert_eq!(bytes, expected.encode_to_vec(), "byte for byte");
    }

    #[test]
    fn it_obeys_both_limits() {
        for (limit, most) in [(1, 1), (50, 50), (500, 500)] {
            let mut batch = Batch::new(&identity(), Uuid::nil(), 1, limit, kit::time::now());
            let mut pushed = 0;
            for number in 0..600 {
                let one = asset(place(number), 0);
                let kind = AssetKind::Package;
                let seen = Seen { event_id: Uuid::nil(), presence: Presence::Present, kind, asset: &one };
                pushed += usize::from(batch.push(&seen).is_some());
            }
            assert_eq!(pushed, batch.len());
            assert!((1..=most).contains(&pushed));
            assert!(batch.end_snapshot(AssetKind::Package, 1, 1));
            let bytes = batch.into_bytes();
            assert!(bytes.len() <= MAX_BATCH_BYTES);
            assert!(limit < 500 || bytes.len() > MAX_BATCH_BYTES - 1024, "filled well: {}", bytes.len());
        }
    }
}
