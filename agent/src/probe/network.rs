//! Network interfaces: `/sys/class/net` and the addresses that the kernel
//! lists. The agent shares the node's network namespace (`hostNetwork`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use contracts::v1::{NetworkInterfaceDetails, asset_details::Details};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const NET: &str = "sys/class/net";

pub(super) const WATCHED: &[&str] = &[];

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    scan_with(host, getifaddrs())
}

fn scan_with(
    host: &HostRoot,
    listed: nix::Result<impl Iterator<Item = InterfaceAddress>>,
) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    let addresses = addresses(listed.map_err(|error| ProbeError::Addresses(error.into()))?);
    for name in host.list(NET).map_err(ProbeError::read(NET))? {
        let name = clean(name.as_encoded_bytes());
        // `bonding_masters` is a file among the interfaces.
        if !host.exists(format!("{NET}/{name}/ifindex")) {
            continue;
        }
        let addresses = addresses.get(&name).cloned().unwrap_or_default();
        let details = read_interface(host, &name, addresses);
        scan.assets.push(ScannedAsset::new(name.clone(), name, Details::NetworkInterface(details)));
    }
    Ok(scan)
}

fn read_interface(host: &HostRoot, name: &str, addresses: Vec<String>) -> NetworkInterfaceDetails {
    let folder = format!("{NET}/{name}");
    let line = |file: &str| host.line(format!("{folder}/{file}"));
    let number = |file: &str| line(file)?.parse::<i64>().ok();
    let link_type = number("type").unwrap_or(0);
    let traits = Traits {
        link_type,
        dev_type: line("uevent").as_deref().and_then(dev_type).unwrap_or_default(),
        has_device: host.exists(format!("{folder}/device")),
        is_bridge: host.exists(format!("{folder}/bridge")),
        is_bond: host.exists(format!("{folder}/bonding")),
        is_tun: host.exists(format!("{folder}/tun_flags")),
        peer_elsewhere: number("iflink") != number("ifindex"),
    };
    let driver = host.read_link(format!("{folder}/device/driver")).ok();
    let driver = driver.as_ref().and_then(|path| path.file_name());
    NetworkInterfaceDetails {
        interface: name.to_owned(),
        mac_address: line("address")
            .filter(|_| link_type != ARPHRD_LOOPBACK)
            .unwrap_or_default()
            .to_lowercase(),
        mtu: number("mtu").and_then(|mtu| u32::try_from(mtu).ok()).unwrap_or(0),
        operational_state: line("operstate").unwrap_or_default(),
        r#type: traits.interface_type().to_owned(),
        driver: driver.map(|name| clean(name.as_encoded_bytes())).unwrap_or_default(),
        // -1 or an error where the link is down or has no speed.
        speed_mbps: number("speed").and_then(|speed| u64::try_from(speed).ok()).unwrap_or(0),
        addresses,
        ..NetworkInterfaceDetails::default()
    }
}

/// ARPHRD_LOOPBACK of include/uapi/linux/if_arp.h.
const ARPHRD_LOOPBACK: i64 = 772;
/// ARPHRD_TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE and NONE (tun, WireGuard).
const ARPHRD_TUNNELS: [i64; 6] = [768, 769, 776, 778, 823, 65534];

/// What tells the kinds of interface apart.
#[derive(Debug, Default)]
struct Traits {
    link_type: i64,
    dev_type: String,
    has_device: bool,
    is_bridge: bool,
    is_bond: bool,
    is_tun: bool,
    peer_elsewhere: bool,
}

impl Traits {
    fn interface_type(&self) -> &'static str {
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
        } else if self.peer_elsewhere {
            // Without a type of its own, linked to another interface: a veth
            // pair (macvlan and ipvlan name themselves in DEVTYPE).
            if self.dev_type.is_empty() { "veth" } else { "virtual" }
        } else {
            "virtual"
        }
    }
}

fn dev_type(uevent: &str) -> Option<String> {
    uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).map(str::to_owned)
}

fn addresses(listed: impl Iterator<Item = InterfaceAddress>) -> BTreeMap<String, Vec<String>> {
    let mut by_name: BTreeMap<String, Vec<(IpAddr, u32)>> = BTreeMap::new();
    for entry in listed {
        let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) else { continue };
        by_name.entry(entry.interface_name).or_default().push((address, prefix_length(mask)));
    }
    by_name
        .into_iter()
        .map(|(name, mut addresses)| {
            addresses.sort();
            addresses.dedup();
            (name, addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect())
        })
        .collect()
}

fn ip(address: Option<SockaddrStorage>) -> Option<IpAddr> {
    let address = address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn prefix_length(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
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
            (Traits { peer_elsewhere: true, ..traits(1, "macvlan") }, "virtual"),
            (traits(1, ""), "virtual"),
        ] {
            assert_eq!(traits.interface_type(), expected, "{traits:?}");
        }
    }

    #[test]
    fn reads_masks_and_uevents() {
        assert_eq!(prefix_length("255.255.254.0".parse().unwrap()), 23);
        assert_eq!(prefix_length("ffff:ffff:ffff:ffff::".parse().unwrap()), 64);
        assert_eq!(prefix_length("0.0.0.0".parse().unwrap()), 0);
        assert_eq!(dev_type("DEVTYPE=bridge\nINTERFACE=br0\n").as_deref(), Some("bridge"));
        assert_eq!(dev_type("INTERFACE=eth0"), None);
    }

    #[test]
    fn addresses_that_cannot_be_listed_fail_the_probe() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(NET)).unwrap();
        let listed: nix::Result<std::iter::Empty<InterfaceAddress>> = Err(nix::errno::Errno::EMFILE);
        let error = scan_with(&HostRoot::new(root.path()).unwrap(), listed).unwrap_err();
        assert!(matches!(error, ProbeError::Addresses(_)), "{error}");
    }

    #[test]
    fn reads_a_tree_of_sys() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(NET).join("ens3");
        std::fs::create_dir_all(folder.join("device")).unwrap();
        for (file, text) in [
            ("ifindex", "2"),
            ("iflink", "2"),
            ("type", "1"),
            ("mtu", "9000"),
            ("address", "02:FC:00:00:00:01"),
            ("operstate", "up"),
            ("speed", "-1"),
        ] {
            std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
        std::os::unix::fs::symlink("../../../bus/drivers/virtio_net", folder.join("device/driver")).unwrap();
        std::fs::write(root.path().join(NET).join("bonding_masters"), "\n").unwrap();
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        assert_eq!(scan.assets.len(), 1);
        let Details::NetworkInterface(ens3) = &scan.assets[0].details else { panic!("no interface") };
        assert_eq!((ens3.mac_address.as_str(), ens3.mtu, ens3.speed_mbps), ("02:fc:00:00:00:01", 9000, 0));
        assert_eq!((ens3.driver.as_str(), ens3.r#type.as_str()), ("virtio_net", "physical"));
    }
}
