//! What simulated nodes see, by a seed, and what must come of it: the model that
//! the oracle compares with.

use std::collections::{BTreeMap, BTreeSet};

use contracts::v1::{
    AssetDetails, AssetKind, EventBatch, KernelModuleDetails, NodeIdentity, Observation, Presence, Snapshot,
    asset_details::Details,
};
use prost_types::Timestamp;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

/// Natural keys that a node's observations are about.
const KEYS: u32 = 24;
/// Most observations of a batch that is no snapshot.
const OBSERVATIONS: u32 = 8;

/// What must be known of one asset: its newest observation by version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    /// `assettrack.v1.AssetState`: 1 active, 2 removed.
    pub state: i16,
    /// Module version, of the last time that it was there.
    pub version: Option<String>,
    pub sequence: i64,
    pub index: i32,
}

impl Expected {
    /// Whether a row says this. What is gone may be retired by any later snapshot
    /// that did not list it, if that is whole before its end has arrived.
    pub fn is(&self, row: &Self) -> bool {
        let retired = self.state == 2 && row.index == i32::MAX && row.sequence >= self.sequence;
        let same_version = (self.sequence, self.index) == (row.sequence, row.index);
        self.state == row.state && self.version == row.version && (same_version || retired)
    }
}

/// What a node has reported so far, and what must be known of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub uid: Uuid,
    pub stream: Uuid,
    pub sequence: i64,
    pub assets: BTreeMap<String, Expected>,
    /// Events that must be in the log.
    pub events: BTreeSet<Uuid>,
    /// Entries of snapshots that say nothing new: in the log only if they came late.
    pub listed: BTreeSet<Uuid>,
}

/// A node whose agent never fails.
#[derive(Debug)]
pub struct Node {
    pub seen: Seen,
    /// Seconds by which its clock is wrong.
    skew: i64,
    rng: StdRng,
}

impl Node {
    /// A node whose identity and content have seeds of their own. Its clock is
    /// wrong by `skew` seconds.
    pub fn new(identity: u64, content: u64, skew: i64) -> Self {
        let mut names = StdRng::seed_from_u64(identity);
        let seen = Seen {
            uid: Uuid::from_u128(names.random()),
            stream: Uuid::from_u128(names.random()),
            sequence: 0,
            assets: BTreeMap::new(),
            events: BTreeSet::new(),
            listed: BTreeSet::new(),
        };
        Self { seen, skew, rng: StdRng::seed_from_u64(content) }
    }

    /// What its agent reports next: one batch, or those of a snapshot.
    pub fn next(&mut self) -> Vec<EventBatch> {
        if self.seen.sequence == 0 || self.rng.random_bool(0.05) {
            return self.snapshot();
        }
        let mut observations = Vec::new();
        self.seen.sequence += 1;
        for _ in 0..self.rng.random_range(1..=OBSERVATIONS) {
            let key = self.key();
            let version = self.rng.random_bool(0.75).then(|| self.version());
            observations.push(self.observe(key, version, observations.len()));
        }
        vec![self.batch(observations)]
    }

    /// A batch with one asset that nobody has seen before.
    pub fn fresh(&mut self, key: &str) -> EventBatch {
        self.seen.sequence += 1;
        let version = self.version();
        let observation = self.observe(key.to_owned(), Some(version), 0);
        self.batch(vec![observation])
    }

    /// Lists all that is there in two batches. What went away unseen is not on
    /// the list; what changed unseen is.
    fn snapshot(&mut self) -> Vec<EventBatch> {
        let first_sequence = self.seen.sequence + 1;
        let mut keys: Vec<String> = self
            .seen
            .assets
            .iter()
            .filter(|(_, asset)| asset.state == 1)
            .map(|(key, _)| key.clone())
            .collect();
        if keys.is_empty() {
            keys = (0..KEYS / 2).map(name).collect();
        } else {
            keys.retain(|_| self.rng.random_bool(0.9));
        }
        let listed: BTreeSet<String> = keys.iter().cloned().collect();
        let second = keys.split_off(keys.len() / 2);
        let mut batches = Vec::new();
        for keys in [keys, second] {
            self.seen.sequence += 1;
            let mut observations = Vec::new();
            for key in keys {
                let known = self.seen.assets.get(&key).filter(|asset| asset.state == 1);
                let same =
                    known.and_then(|asset| asset.version.clone()).filter(|_| self.rng.random_bool(0.9));
                let (version, says_nothing) =
                    (same.clone().unwrap_or_else(|| self.version()), same.is_some());
                let mut one = self.observe(key, Some(version), observations.len());
                one.presence = Presence::Listed.into();
                if says_nothing {
                    let event = one.event_id.parse().unwrap();
                    self.seen.events.remove(&event);
                    self.seen.listed.insert(event);
                }
                observations.push(one);
            }
            batches.push(self.batch(observations));
        }
        let kind = AssetKind::KernelModule.into();
        batches[1].snapshots.push(Snapshot { kind, first_sequence, last_sequence: self.seen.sequence });
        for (key, asset) in &mut self.seen.assets {
            if asset.state == 1 && !listed.contains(key) {
                (asset.state, asset.sequence, asset.index) = (2, self.seen.sequence, i32::MAX);
            }
        }
        batches
    }

    fn key(&mut self) -> String {
        name(self.rng.random_range(0..KEYS))
    }

    fn version(&mut self) -> String {
        format!("{:016x}", self.rng.random::<u64>())
    }

    fn now_millis(&self) -> i64 {
        kit::time::unix_millis() + self.skew * 1000
    }

    fn observe(&mut self, key: String, version: Option<String>, index: usize) -> Observation {
        let now = self.now_millis();
        let event = uuid::Builder::from_unix_timestamp_millis(now.cast_unsigned(), &self.rng.random());
        let event = event.into_uuid();
        self.seen.events.insert(event);
        let before = self.seen.assets.get(&key).and_then(|asset| asset.version.clone());
        let asset = Expected {
            state: if version.is_some() { 1 } else { 2 },
            version: version.clone().or(before),
            sequence: self.seen.sequence,
            index: i32::try_from(index).unwrap(),
        };
        self.seen.assets.insert(key.clone(), asset);
        Observation {
            event_id: event.to_string(),
            presence: if version.is_some() { Presence::Present } else { Presence::Absent }.into(),
            kind: AssetKind::KernelModule.into(),
            display_name: if version.is_some() { key.clone() } else { String::new() },
            observe_time: Some(Timestamp { seconds: now / 1000, nanos: 0 }),
            state_hash: version.as_ref().map_or(Vec::new(), |version| version.as_bytes()[..16].to_vec()),
            details: version.map(|version| AssetDetails {
                details: Some(Details::KernelModule(KernelModuleDetails {
                    module: key.clone(),
                    version,
                    ..Default::default()
                })),
                ..AssetDetails::default()
            }),
            natural_key: key,
        }
    }

    fn batch(&self, observations: Vec<Observation>) -> EventBatch {
        EventBatch {
            schema_version: kit::queue::SCHEMA_VERSION,
            node: Some(NodeIdentity {
                uid: self.seen.uid.to_string(),
                cluster: "faults".to_owned(),
                display_name: format!("node-{}", self.seen.uid),
            }),
            stream: self.seen.stream.to_string(),
            sequence: self.seen.sequence,
            observations,
            ..EventBatch::default()
        }
    }

    /// Milliseconds since the epoch by its clock, for the header of a message.
    pub fn published_millis(&self) -> i64 {
        self.now_millis()
    }
}

fn name(number: u32) -> String {
    format!("module_{number}")
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn the_same_seed_makes_the_same_content() {
        let content = |seed| {
            let mut node = Node::new(1, seed, 0);
            for _ in 0..50 {
                node.next();
            }
            node.seen.assets
        };
        assert_eq!(content(7), content(7));
        assert_ne!(content(7), content(8));
    }
}
