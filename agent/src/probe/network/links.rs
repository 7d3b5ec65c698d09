//! Which interfaces the node has, of what kind each is, and which of them are
//! only the near end of a container.

use std::collections::BTreeSet;

use super::super::ProbeError;
use super::super::sysfs::Object;
use crate::host::HostRoot;
use crate::text::clean;

pub(super) const NET: &str = "sys/class/net";

/// ARPHRD_LOOPBACK of include/uapi/linux/if_arp.h.
const ARPHRD_LOOPBACK: i64 = 772;
/// ARPHRD_TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE and NONE (tun, WireGuard).
const ARPHRD_TUNNELS: [i64; 6] = [768, 769, 776, 778, 823, 65534];

/// Names that network plugins give to the near ends of containers.
const CONTAINER_NAMES: [&str; 3] = ["veth", "cali", "lxc"];

/// The node's interfaces.
#[derive(Debug, Default)]
pub(in super::super) struct Links {
    /// Those that are recorded, by name.
    pub(super) kept: Vec<Link>,
    /// Names of those that lead to a container.
    pub(super) of_containers: BTreeSet<String>,
}

impl Links {
    pub(in super::super) fn read(host: &HostRoot) -> Result<Self, ProbeError> {
        let mut all = Vec::new();
        for name in host.list(NET).map_err(ProbeError::read(NET))? {
            let name = clean(name.as_encoded_bytes());
            let object = Object::new(host, format!("{NET}/{name}"));
            // `bonding_masters` is a file among the interfaces.
            if let Some(index) = object.number("ifindex")? {
                all.push(Link::read(name, index, &object)?);
            }
        }
        Ok(Self::sorted(all))
    }

    fn sorted(all: Vec<Link>) -> Self {
        let of_containers: BTreeSet<String> =
            all.iter().filter(|link| leads_to_container(link, &all)).map(|link| link.name.clone()).collect();
        let kept = all.into_iter().filter(|link| !of_containers.contains(&link.name)).collect();
        Self { kept, of_containers }
    }

    pub(in super::super) fn has(&self, name: &str) -> bool {
        self.kept.iter().any(|link| link.name == name)
    }

    /// Whether an interface leads to a container, see [`leads_to_container`].
    pub(in super::super) fn leads_to_container(&self, name: &str) -> bool {
        self.of_containers.contains(name)
    }
}

/// The near end of a container's veth (or netkit) pair comes and goes with the
/// container and mostly has a name by chance, so it is not recorded; its pod
/// is, with its addresses. It is told by its far end being in another network
/// namespace: no interface here has that index and points back.
///
/// Where the node is itself a container, its own interface is such an end too,
/// and is kept for its name, which is one that machines have: `eth0`, `host0`
/// (systemd-nspawn), `net1`. And where both ends by chance have one index,
/// which looks like no pair at all, the near end is told by its name.
fn leads_to_container(link: &Link, all: &[Link]) -> bool {
    let numbered =
        |prefix: &str| link.name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok());
    if numbered("eth") || numbered("net") || numbered("host") {
        return false;
    }
    match link.traits.interface_type() {
        "veth" => !all.iter().any(|other| other.index == link.below && other.below == link.index),
        "virtual" => {
            link.traits.dev_type.is_empty()
                && link.index == link.below
                && CONTAINER_NAMES.iter().any(|prefix| link.name.starts_with(prefix))
        }
        _ => false,
    }
}

/// An interface.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) index: u32,
    /// Index of the far end of a pair, or of the interface below.
    below: u32,
    pub(super) traits: Traits,
}

impl Link {
    fn read(name: String, index: u32, object: &Object) -> Result<Self, ProbeError> {
        let below = object.number("iflink")?.unwrap_or(index);
        let traits = Traits {
            link_type: object.number("type")?.unwrap_or(0),
            dev_type: object.uevent("DEVTYPE")?,
            has_device: object.has("device")?,
            is_bridge: object.has("bridge")?,
            is_bond: object.has("bonding")?,
            is_tun: object.has("tun_flags")?,
            // The interface below a macvlan or ipvlan is linked; the far end of
            // a pair is not below.
            peer_elsewhere: below != index
                && !object.names("")?.iter().any(|name| name.starts_with("lower_")),
        };
        Ok(Self { name, index, below, traits })
    }
}

/// What tells the kinds of interface apart.
#[derive(Debug, Default)]
pub(super) struct Traits {
    link_type: i64,
    pub(super) dev_type: String,
    has_device: bool,
    is_bridge: bool,
    is_bond: bool,
    is_tun: bool,
    peer_elsewhere: bool,
}

impl Traits {
    pub(super) fn interface_type(&self) -> &'static str {
        if self.link_type == ARPHRD_LOOPBACK {
            return "loopback";
        }
        match self.dev_type.as_str() {
            "bridge" => return "bridge",
            "bond" => return "bond",
            "vlan" => return "vlan",
            "vxlan" | "geneve" | "wireguard" | "gre" | "gretap" => return "tunnel",
            _ => {}
        }
        if self.is_bridge {
            "bridge"
        } else if self.is_bond {
            "bond"
        } else if self.is_tun || ARPHRD_TUNNELS.contains(&self.link_type) {
            "tunnel"
        } else if self.has_device {
            "physical"
        } else if self.peer_elsewhere && matches!(self.dev_type.as_str(), "" | "netkit") {
            // Without a type of its own, linked to another interface: a pair.
            "veth"
        } else {
            "virtual"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_interfaces_apart() {
        let traits = |link_type: i64, dev_type: &str| Traits {
            link_type,
            dev_type: dev_type.into(),
            ..Default::default()
        };
        for (traits, expected) in [
            (traits(772, ""), "loopback"),
            (traits(1, "vlan"), "vlan"),
            (traits(1, "vxlan"), "tunnel"),
            (traits(65534, ""), "tunnel"),
            (traits(776, ""), "tunnel"),
            (Traits { is_bridge: true, ..traits(1, "") }, "bridge"),
            (Traits { is_bond: true, ..traits(1, "") }, "bond"),
            (Traits { has_device: true, ..traits(1, "wlan") }, "physical"),
            (Traits { peer_elsewhere: true, ..traits(1, "") }, "veth"),
            (Traits { peer_elsewhere: true, ..traits(1, "netkit") }, "veth"),
            (Traits { peer_elsewhere: true, ..traits(1, "macvlan") }, "virtual"),
            (traits(1, ""), "virtual"),
        ] {
            assert_eq!(traits.interface_type(), expected, "{traits:?}");
        }
    }

    #[test]
    fn near_ends_of_containers_are_left_out() {
        let link = |name: &str, index: u32, below: u32, dev_type: &str| Link {
            name: name.into(),
            index,
            below,
            traits: Traits {
                link_type: 1,
                dev_type: dev_type.into(),
                peer_elsewhere: index != below,
                ..Default::default()
            },
        };
        let links = Links::sorted(vec![
            link("eth0", 2, 77, ""),
            link("cilium_host", 4, 5, ""),
            link("cilium_net", 5, 4, ""),
            link("dummy0", 6, 6, ""),
            link("macvlan0", 7, 2, "macvlan"),
            // Its far end has the index of eth0, which does not point back.
            link("veth1a2b", 8, 2, ""),
            link("eni0123abcd", 9, 3, ""),
            link("lxc0123", 10, 10, ""),
            link("nk0", 11, 3, "netkit"),
            link("cni0", 12, 12, "bridge"),
        ]);
        let kept: Vec<&str> = links.kept.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(kept, ["eth0", "cilium_host", "cilium_net", "dummy0", "macvlan0", "cni0"]);
        assert!(links.has("eth0") && !links.has("nk0"));
        assert!(links.leads_to_container("veth1a2b") && !links.leads_to_container("gone"));
    }
}
