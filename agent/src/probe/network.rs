//! Network interfaces: `/sys/class/net`, whose mount shows the network namespace
//! of who mounted it, so below the host root the node's.

pub(super) mod addresses;
mod links;
pub(super) mod vlans;

use contracts::v1::{AssetKind, NetworkInterfaceDetails, RelationType, asset_details::Details};

use self::links::{Link, NET};
use self::vlans::Vlans;
use super::sysfs::{self, Object};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) use self::links::Links;

pub(super) const WATCHED: &[&str] = &[];

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    let links = Links::read(host)?;
    let own = addresses::is_nodes_namespace(host, &links)?;
    let (mut addresses, warning) = addresses::read(host, own)?;
    scan.warnings.extend(warning);
    let vlans = Vlans::read(host, own)?;
    for link in &links.kept {
        let mut interface = read_interface(host, link, &links)?;
        // Gone, or another by now: what was read of it is of nothing.
        if Object::new(host, format!("{NET}/{}", link.name)).number("ifindex")? != Some(link.index) {
            continue;
        }
        interface.addresses = addresses.remove(&link.name).unwrap_or_default();
        if interface.r#type == "vlan" {
            interface.vlan_id = vlans.id(link, &interface.parent)?;
            if interface.vlan_id == 0 {
                let needed = "needs root or the node's network";
                scan.warnings.push(format!("VLAN ID of {}: cannot be read, {needed}", link.name));
            }
        }
        scan.assets.push(with_relations(host, interface)?);
    }
    Ok(scan)
}

fn read_interface(
    host: &HostRoot,
    link: &Link,
    links: &Links,
) -> Result<NetworkInterfaceDetails, ProbeError> {
    let object = Object::new(host, format!("{NET}/{}", link.name));
    let kind = link.traits.interface_type();
    // `lower_NAME` is a link to each interface below: ports, or the parent.
    let below: Vec<String> = object
        .names("")?
        .iter()
        .filter_map(|name| name.strip_prefix("lower_").map(str::to_owned))
        .filter(|name| !links.leads_to_container(name))
        .collect();
    let has_ports =
        matches!(kind, "bridge" | "bond") || matches!(link.traits.dev_type.as_str(), "vrf" | "team");
    let parent = if has_ports { None } else { below.first().cloned() };
    let duplex = object.text("duplex")?;
    Ok(NetworkInterfaceDetails {
        interface: link.name.clone(),
        mac_address: if kind == "loopback" { String::new() } else { object.text("address")?.to_lowercase() },
        mtu: object.number("mtu")?.unwrap_or(0),
        operational_state: object.text("operstate")?,
        r#type: kind.to_owned(),
        driver: object.link("device/driver")?,
        // -1 or an error where the link is down or has no speed.
        speed_mbps: object.number("speed")?.unwrap_or(0),
        addresses: Vec::new(),
        controller: object.link("master")?,
        parent: parent.unwrap_or_default(),
        vlan_id: 0,
        // The mode and its number, such as `802.3ad 4`.
        bond_mode: object.text("bonding/mode")?.split_whitespace().next().unwrap_or_default().to_owned(),
        ports: if has_ports { below } else { Vec::new() },
        duplex: if matches!(duplex.as_str(), "full" | "half") { duplex } else { String::new() },
        pci_slot: sysfs::pci_slot(&sysfs::link(host, &format!("{NET}/{}", link.name))?),
    })
}

fn with_relations(host: &HostRoot, interface: NetworkInterfaceDetails) -> Result<ScannedAsset, ProbeError> {
    let name = interface.interface.clone();
    let path = sysfs::link(host, &format!("{NET}/{name}"))?;
    let (controller, parent) = (interface.controller.clone(), interface.parent.clone());
    let mut asset = ScannedAsset::new(name.clone(), name, Details::NetworkInterface(interface));
    for (relation, other) in [(RelationType::PartOf, controller), (RelationType::GoesThrough, parent)] {
        if !other.is_empty() {
            asset = asset.related(relation, AssetKind::NetworkInterface, other);
        }
    }
    if let Some((kind, device)) = sysfs::attached_to(host, &path)? {
        asset = asset.related(RelationType::AttachedTo, kind, device);
    }
    Ok(asset)
}

#[cfg(test)]
mod tests;
