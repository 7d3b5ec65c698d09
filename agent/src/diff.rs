//! What changed between the state last recorded and a scan. Pure.

use std::collections::BTreeMap;

use contracts::v1::{AssetKind, Observation, Presence};
use kit::digest::{StateHash, state_hash};
use prost::Message;
use prost_types::Timestamp;
use uuid::Uuid;

use crate::asset::ScannedAsset;

/// State last recorded of one kind: natural key → hash.
pub type Recorded = BTreeMap<String, StateHash>;

/// A scanned asset with its hash and encoded details.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its natural key.
    pub natural_key: String,
    /// Its name for people.
    pub display_name: String,
    /// Hash of its state.
    pub hash: StateHash,
    /// Encoded `AssetDetails`.
    pub details: Vec<u8>,
}

/// One difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<'a> {
    /// New or changed.
    Present(&'a Entry),
    /// There, as part of a full listing.
    Listed(&'a Entry),
    /// Gone; the natural key.
    Absent(&'a str),
}

impl Change<'_> {
    /// Natural key of the asset that changed.
    #[must_use]
    pub fn natural_key(&self) -> &str {
        match self {
            Self::Present(entry) | Self::Listed(entry) => &entry.natural_key,
            Self::Absent(key) => key,
        }
    }
}

/// Prepares a scan for comparison: sorted by natural key, one entry a key. Of
/// two assets with one key the first in the probe's order stays, so a probe
/// decides by its order; the others' keys are returned for a warning.
#[must_use]
pub fn entries(kind: AssetKind, scanned: &[ScannedAsset]) -> (Vec<Entry>, Vec<String>) {
    let mut by_key: BTreeMap<&str, Entry> = BTreeMap::new();
    let mut doubled = Vec::new();
    for asset in scanned {
        if by_key.contains_key(asset.natural_key.as_str()) {
            doubled.push(asset.natural_key.clone());
            continue;
        }
        let details = asset.to_details().encode_to_vec();
        let hash = state_hash(kind, &asset.natural_key, &asset.display_name, &details);
        let entry = Entry {
            natural_key: asset.natural_key.clone(),
            display_name: asset.display_name.clone(),
            hash,
            details,
        };
        by_key.insert(&asset.natural_key, entry);
    }
    (by_key.into_values().collect(), doubled)
}

/// Differences between `recorded` and the sorted `entries`, in order of natural
/// key. With `snapshot`, every entry is listed whether it changed or not.
#[must_use]
pub fn diff<'a>(recorded: &'a Recorded, entries: &'a [Entry], snapshot: bool) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    for entry in entries {
        if snapshot {
            changes.push(Change::Listed(entry));
        } else if recorded.get(&entry.natural_key) != Some(&entry.hash) {
            changes.push(Change::Present(entry));
        }
    }
    for key in recorded.keys() {
        if entries.binary_search_by(|entry| entry.natural_key.as_str().cmp(key)).is_err() {
            changes.push(Change::Absent(key));
        }
    }
    changes
}

/// The observation that reports a change. `event_id` is its ID for ever.
///
/// # Errors
/// The entry's details are no `AssetDetails`.
pub fn observe(
    kind: AssetKind,
    change: Change<'_>,
    event_id: Uuid,
    time: Timestamp,
) -> Result<Observation, prost::DecodeError> {
    let (presence, entry) = match change {
        Change::Absent(natural_key) => {
            return Ok(Observation {
                event_id: event_id.to_string(),
                presence: Presence::Absent.into(),
                kind: kind.into(),
                natural_key: natural_key.to_owned(),
                observe_time: Some(time),
                ..Observation::default()
            });
        }
        Change::Present(entry) => (Presence::Present, entry),
        Change::Listed(entry) => (Presence::Listed, entry),
    };
    Ok(Observation {
        event_id: event_id.to_string(),
        presence: presence.into(),
        kind: kind.into(),
        natural_key: entry.natural_key.clone(),
        display_name: entry.display_name.clone(),
        observe_time: Some(time),
        state_hash: entry.hash.to_vec(),
        details: Some(contracts::v1::AssetDetails::decode(entry.details.as_slice())?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::v1::{KernelModuleDetails, asset_details::Details};

    fn module(name: &str, size_bytes: u64) -> ScannedAsset {
        let details = KernelModuleDetails { module: name.into(), size_bytes, ..Default::default() };
        ScannedAsset::new(name, name, Details::KernelModule(details))
    }

    fn scan(assets: &[(&str, u64)]) -> Vec<Entry> {
        let assets: Vec<ScannedAsset> = assets.iter().map(|(name, size)| module(name, *size)).collect();
        entries(AssetKind::KernelModule, &assets).0
    }

    fn recorded(assets: &[(&str, u64)]) -> Recorded {
        scan(assets).into_iter().map(|entry| (entry.natural_key, entry.hash)).collect()
    }

    fn names(changes: &[Change<'_>]) -> Vec<String> {
        changes
            .iter()
            .map(|change| match change {
                Change::Present(entry) => format!("+{}", entry.natural_key),
                Change::Listed(entry) => format!("={}", entry.natural_key),
                Change::Absent(key) => format!("-{key}"),
            })
            .collect()
    }

    #[test]
    fn reports_what_changed_and_nothing_else() {
        for (before, after, snapshot, expected) in [
            (&[][..], &[][..], false, &[][..]),
            (&[("a", 1)], &[("a", 1)], false, &[]),
            (&[], &[("b", 1), ("a", 1)], false, &["+a", "+b"]),
            (&[("a", 1), ("b", 1)], &[("a", 2), ("b", 1)], false, &["+a"]),
            (&[("a", 1), ("b", 1)], &[("b", 1)], false, &["-a"]),
            (&[("a", 1), ("b", 1)], &[], false, &["-a", "-b"]),
            (&[], &[("a", 1), ("b", 1)], true, &["=a", "=b"]),
            (&[("a", 1), ("c", 1)], &[("a", 1), ("b", 1)], true, &["=a", "=b", "-c"]),
        ] {
            let (before, after) = (recorded(before), scan(after));
            assert_eq!(names(&diff(&before, &after, snapshot)), expected);
        }
    }

    #[test]
    fn of_two_with_one_key_the_first_stays() {
        let (kept, doubled) =
            entries(AssetKind::KernelModule, &[module("b", 1), module("a", 1), module("b", 2)]);
        assert_eq!(kept, scan(&[("a", 1), ("b", 1)]));
        assert_eq!(doubled, ["b"]);
    }

    #[test]
    fn an_observation_carries_the_state_and_an_absence_none() {
        let scanned = scan(&[("a", 1)]);
        let time = Timestamp { seconds: 7, nanos: 0 };
        let present =
            observe(AssetKind::KernelModule, Change::Present(&scanned[0]), Uuid::from_u128(1), time).unwrap();
        assert_eq!(present.details, Some(module("a", 1).to_details()));
        assert_eq!(present.state_hash, scanned[0].hash);
        let absent = observe(AssetKind::KernelModule, Change::Absent("a"), Uuid::from_u128(2), time).unwrap();
        assert_eq!((absent.details, absent.state_hash, absent.display_name), (None, vec![], String::new()));
        assert_eq!(absent.natural_key, "a");
    }
}
