//! The assets of a simulated node. Each is made anew from its place and its
//! revision whenever it is told of, so that none has to be kept. Pure.

mod machine;
pub use machine::node_name;
mod software;
mod workload;

use contracts::v1::{AssetDetails, AssetKind, Relation, RelationType, asset_details::Details};

use super::dice::Dice;

/// Where an asset is in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Seed of the fleet.
    pub seed: u64,
    /// Number of its node.
    pub node: u32,
    /// Its kind.
    pub kind: AssetKind,
    /// Its number among those of its kind on its node.
    pub number: u32,
}

impl Place {
    /// What differs from node to node and from asset to asset.
    fn dice(&self) -> Dice {
        Dice::of(&[self.seed, u64::from(self.node), self.kind as u64, u64::from(self.number)])
    }

    /// What is the same on every node, as the list of packages of one release.
    fn shared_dice(&self) -> Dice {
        Dice::of(&[self.seed, u64::MAX, self.kind as u64, u64::from(self.number)])
    }
}

/// An asset as an agent would tell of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    /// Identifies it among those of its kind on its node.
    pub natural_key: String,
    /// Name for people.
    pub display_name: String,
    /// Its state.
    pub details: AssetDetails,
}

impl Asset {
    fn new(natural_key: impl Into<String>, display_name: impl Into<String>, details: Details) -> Self {
        Self {
            natural_key: natural_key.into(),
            display_name: display_name.into(),
            details: AssetDetails { details: Some(details), relations: Vec::new() },
        }
    }

    fn related(mut self, relation: RelationType, kind: AssetKind, natural_key: impl Into<String>) -> Self {
        self.details.relations.push(Relation {
            r#type: relation.into(),
            kind: kind.into(),
            natural_key: natural_key.into(),
        });
        self
    }
}

/// The asset at a place after so many changes.
pub fn asset(place: Place, revision: u32) -> Asset {
    match place.kind {
        AssetKind::Package => software::package(place, revision),
        AssetKind::SystemdUnit => software::unit(place, revision),
        AssetKind::KernelModule => software::module(place, revision),
        AssetKind::ListeningSocket => software::socket(place, revision),
        AssetKind::KernelParameter => software::parameter(place, revision),
        AssetKind::User => software::user(place, revision),
        AssetKind::Group => software::group(place, revision),
        AssetKind::CronEntry => software::cron_entry(place, revision),
        AssetKind::Container => workload::container(place, revision),
        AssetKind::Pod => workload::pod(place, revision),
        AssetKind::ContainerImage => workload::image(place, revision),
        AssetKind::Certificate => workload::certificate(place, revision),
        AssetKind::Disk => machine::disk(place, revision),
        AssetKind::Filesystem => machine::filesystem(place, revision),
        AssetKind::NetworkInterface => machine::interface(place, revision),
        AssetKind::Route => machine::route(place, revision),
        AssetKind::PciDevice => machine::pci_device(place, revision),
        AssetKind::MemoryModule => machine::memory_module(place, revision),
        AssetKind::Processor => machine::processor(place, revision),
        AssetKind::Firmware => machine::firmware(place, revision),
        // The others are in no mix.
        _ => machine::node(place, revision),
    }
}

/// Kinds in the order in which a small node has them, with the share of a large
/// one in thousandths. A node has one of those whose share is 0.
const MIX: [(AssetKind, u64); 21] = [
    (AssetKind::Node, 0),
    (AssetKind::Package, 560),
    (AssetKind::SystemdUnit, 150),
    (AssetKind::ListeningSocket, 25),
    (AssetKind::Disk, 5),
    (AssetKind::NetworkInterface, 15),
    (AssetKind::Container, 50),
    (AssetKind::Filesystem, 15),
    (AssetKind::Pod, 20),
    (AssetKind::ContainerImage, 15),
    (AssetKind::User, 20),
    (AssetKind::Group, 25),
    (AssetKind::KernelModule, 40),
    (AssetKind::KernelParameter, 20),
    (AssetKind::Certificate, 10),
    (AssetKind::PciDevice, 15),
    (AssetKind::Route, 5),
    (AssetKind::CronEntry, 4),
    (AssetKind::MemoryModule, 4),
    (AssetKind::Processor, 2),
    (AssetKind::Firmware, 0),
];

/// How many of each kind a node with so many assets has, of which there must be
/// one.
pub fn mix(assets: u32) -> Vec<(AssetKind, u32)> {
    let present = &MIX[..MIX.len().min(assets as usize)];
    // Beyond one of each.
    let more = u64::from(assets) - present.len() as u64;
    let mut kinds: Vec<(AssetKind, u32)> =
        present.iter().map(|(kind, share)| (*kind, 1 + (more * share / 1000) as u32)).collect();
    let told: u32 = kinds.iter().map(|(_, count)| count).sum();
    // What rounding left over are packages.
    if let Some((_, packages)) = kinds.get_mut(1) {
        *packages += assets - told;
    }
    kinds
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kit::identity::kind_of;
    use prost::Message;

    use super::*;

    #[test]
    fn a_node_has_as_many_assets_as_it_shall() {
        for assets in (1..200).chain([500, 1000, 100_000]) {
            let kinds = mix(assets);
            let total: u32 = kinds.iter().map(|(_, count)| count).sum();
            assert_eq!(total, assets, "{kinds:?}");
        }
    }

    #[test]
    fn each_asset_is_of_its_kind_and_has_a_key_of_its_own() {
        for (kind, _) in MIX {
            let mut keys = HashSet::new();
            for number in 0..3000 {
                let place = Place { seed: 7, node: 3, kind, number };
                let first = asset(place, 0);
                assert_eq!(first, asset(place, 0));
                assert_eq!(kind_of(first.details.details.as_ref().unwrap()), kind);
                assert!(!first.display_name.is_empty() && first.details.encoded_len() < 2048);
                let changed = asset(place, 1);
                assert_eq!(changed.natural_key, first.natural_key);
                assert_ne!(changed.details, first.details, "{kind:?} {number}: a change changes it");
                // There is one node and one firmware.
                if matches!(kind, AssetKind::Node | AssetKind::Firmware) {
                    break;
                }
                assert!(keys.insert(first.natural_key.clone()), "{kind:?}: {} twice", first.natural_key);
            }
        }
    }
}
