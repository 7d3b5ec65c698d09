//! Who is who: deterministic UUIDs and resource names, so that an agent knows
//! an asset's name without asking.

use contracts::v1::{AssetKind, asset_details::Details};
use uuid::Uuid;

/// Namespace of node UUIDs; drawn once, never to change.
const NODES: Uuid = uuid::uuid!("6f1c2b58-0f0e-4d0c-9a55-3f0d0c9e7a41");

/// UUID of a node: version 5 of cluster and machine identity. The identity
/// itself never leaves the machine (machine-id(5) asks for that).
pub fn node_uid(cluster: &str, machine_identity: &str) -> Uuid {
    Uuid::new_v5(&NODES, format!("{cluster}\0{machine_identity}").as_bytes())
}

/// UUID of an observed asset: version 5 of node, kind and natural key. The
/// asset of kind NODE has the UUID of its node.
pub fn asset_uid(node: Uuid, kind: AssetKind, natural_key: &str) -> Uuid {
    if kind == AssetKind::Node {
        return node;
    }
    Uuid::new_v5(&node, format!("{}\0{natural_key}", kind.as_str_name()).as_bytes())
}

/// The kind that an asset with these details has.
pub fn kind_of(details: &Details) -> AssetKind {
    match details {
        Details::Node(_) => AssetKind::Node,
        Details::Disk(_) => AssetKind::Disk,
        Details::Filesystem(_) => AssetKind::Filesystem,
        Details::NetworkInterface(_) => AssetKind::NetworkInterface,
        Details::Package(_) => AssetKind::Package,
        Details::SystemdUnit(_) => AssetKind::SystemdUnit,
        Details::KernelModule(_) => AssetKind::KernelModule,
        Details::ListeningSocket(_) => AssetKind::ListeningSocket,
        Details::Firmware(_) => AssetKind::Firmware,
        Details::Board(_) => AssetKind::Board,
        Details::Processor(_) => AssetKind::Processor,
        Details::MemoryModule(_) => AssetKind::MemoryModule,
        Details::NumaNode(_) => AssetKind::NumaNode,
        Details::Volume(_) => AssetKind::Volume,
        Details::Swap(_) => AssetKind::Swap,
        Details::Route(_) => AssetKind::Route,
        Details::DnsResolver(_) => AssetKind::DnsResolver,
        Details::PciDevice(_) => AssetKind::PciDevice,
        Details::UsbDevice(_) => AssetKind::UsbDevice,
        Details::Accelerator(_) => AssetKind::Accelerator,
        Details::CronEntry(_) => AssetKind::CronEntry,
        Details::KernelParameter(_) => AssetKind::KernelParameter,
        Details::User(_) => AssetKind::User,
        Details::Group(_) => AssetKind::Group,
        Details::Certificate(_) => AssetKind::Certificate,
        Details::Pod(_) => AssetKind::Pod,
        Details::Container(_) => AssetKind::Container,
        Details::ContainerImage(_) => AssetKind::ContainerImage,
    }
}

/// A collection of resources, as in the first segment of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// `assets/{uuid}`.
    Assets,
    /// `nodes/{uuid}`.
    Nodes,
    /// `events/{uuid}`.
    Events,
    /// `deadLetters/{uuid}`.
    DeadLetters,
    /// `savedSearches/{uuid}`.
    SavedSearches,
}

impl Collection {
    /// First segment of the names.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Nodes => "nodes",
            Self::Events => "events",
            Self::DeadLetters => "deadLetters",
            Self::SavedSearches => "savedSearches",
        }
    }

    /// Name of a resource.
    pub fn name(self, uid: Uuid) -> String {
        format!("{}/{uid}", self.segment())
    }

    /// UUID in a name; `None` unless it is exactly as [`Self::name`] writes it.
    pub fn parse(self, name: &str) -> Option<Uuid> {
        let text = name.strip_prefix(self.segment())?.strip_prefix('/')?;
        parse_uuid(text)
    }
}

/// A UUID in its usual form: 36 characters, lower case, hyphens.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let uid = Uuid::try_parse(text).ok()?;
    (uid.as_hyphenated().to_string() == text).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_fixed_for_ever() {
        let node = node_uid("default", "4a1c");
        assert_eq!(node, node_uid("default", "4a1c"));
        assert_ne!(node, node_uid("defaul", "t4a1c"));
        assert_eq!(asset_uid(node, AssetKind::Node, "node"), node);
        let package = asset_uid(node, AssetKind::Package, "dpkg/openssl:amd64");
        assert_ne!(package, asset_uid(node, AssetKind::Disk, "dpkg/openssl:amd64"));
        // Stored inventories depend on these two; computed with Python's uuid.
        assert_eq!(node.to_string(), "1368ea7e-dfe3-5393-9a69-91e01a346240");
        assert_eq!(package.to_string(), "47555973-505e-5a51-a067-6b0b36c361d5");
    }

    #[test]
    fn names_have_one_form() {
        let uid = Uuid::from_u128(7);
        let name = Collection::Assets.name(uid);
        assert_eq!(Collection::Assets.parse(&name), Some(uid));
        for wrong in
            ["", "assets", "assets/", "nodes/x", &name.to_uppercase(), &format!("{name}/x"), &name[7..]]
        {
            assert_eq!(Collection::Assets.parse(wrong), None, "{wrong}");
        }
        assert_eq!(Collection::Assets.parse(&format!("assets/{}", uid.simple())), None);
    }
}
