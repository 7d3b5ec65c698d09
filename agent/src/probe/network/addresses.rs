//! Addresses of the node's interfaces. Where the agent is in the node's network
//! namespace the kernel lists them (getifaddrs(3)). Else they are made out from
//! process 1's view in /proc, as far as that goes: IPv6 addresses are there
//! whole, but of IPv4 only the addresses (`fib_trie`) and the networks behind
//! each interface (`route`). An address is given to the interface whose network
//! holds it, so that
//!
//! - an address without a network of its own (a /32 on a dummy interface) is
//!   told to no interface, or to the one whose network it lies in;
//! - an address in a network that two interfaces share is told to none.
//!
//! How many are told to none is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

use super::super::routes::table::{FIB_TRIE, FibEntry, Ipv4Route, ROUTE, fib_entries, ipv4_routes, lines};
use super::super::sysfs::Object;
use super::super::{ProbeError, is_absent};
use super::links::{Links, NET};
use crate::host::HostRoot;

const IF_INET6: &str = "proc/1/net/if_inet6";
const NODES_DEV: &str = "proc/1/net/dev";

/// kube-proxy puts the address of each service of the cluster here (IPVS):
/// thousands that change with the services, and none is the node's.
const SERVICES_INTERFACE: &str = "kube-ipvs0";

type Addresses = BTreeMap<String, BTreeSet<(IpAddr, u32)>>;

/// Addresses with prefix length, sorted, by interface.
type Shown = BTreeMap<String, Vec<String>>;

/// The addresses, and a warning of those that cannot be told to an interface;
/// `own` if the agent's network namespace is the node's.
pub(super) fn read(host: &HostRoot, own: bool) -> Result<(Shown, Option<String>), ProbeError> {
    let (found, warning) = if own { of_own(getifaddrs())? } else { of_process_one(host)? };
    let mut shown = Shown::new();
    for (name, addresses) in found {
        if name != SERVICES_INTERFACE {
            let texts = addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
            shown.insert(name, texts);
        }
    }
    Ok((shown, warning))
}

/// Whether the agent's own network namespace is that of process 1.
pub(super) fn is_nodes_namespace(host: &HostRoot, links: &Links) -> Result<bool, ProbeError> {
    match host.shares_network() {
        // Process 1 is hidden (`hidepid` of proc(5)). Then the agent's own view
        // must have the same interfaces as the node's /sys.
        Err(error) if is_absent(&error) && has_these_interfaces(host, links)? => Ok(true),
        shared => shared.map_err(ProbeError::read(NODES_DEV)),
    }
}

fn has_these_interfaces(host: &HostRoot, links: &Links) -> Result<bool, ProbeError> {
    let mut own = BTreeSet::new();
    for entry in getifaddrs().map_err(|error| ProbeError::Addresses(error.into()))? {
        if let Some(link) = entry.address.as_ref().and_then(SockaddrStorage::as_link_addr) {
            let mac = link.addr().unwrap_or_default();
            own.insert((entry.interface_name, link.ifindex(), mac));
        }
    }
    for link in &links.kept {
        let text = Object::new(host, format!("{NET}/{}", link.name)).text("address")?;
        let mut mac = [0; 6];
        for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
        }
        if !own.contains(&(link.name.clone(), link.index as usize, mac)) {
            return Ok(false);
        }
    }
    Ok(!links.kept.is_empty())
}

fn of_own(
    listed: nix::Result<impl Iterator<Item = InterfaceAddress>>,
) -> Result<(Addresses, Option<String>), ProbeError> {
    let (mut found, mut interfaces) = (Addresses::new(), BTreeSet::new());
    for entry in listed.map_err(|error| ProbeError::Addresses(error.into()))? {
        if entry.address.as_ref().is_some_and(|address| address.as_link_addr().is_some()) {
            interfaces.insert(entry.interface_name);
            continue;
        }
        let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) else { continue };
        found.entry(entry.interface_name).or_default().insert((address, prefix_length(mask)));
    }
    Ok(without_labels(found, &interfaces))
}

/// Gives addresses with a label to their interface. An IPv4 address with a label
/// is listed under that, which by custom is `eth0:NAME` (ip-address(8)); a name
/// of an interface has no colon. What has another label is told.
fn without_labels(found: Addresses, interfaces: &BTreeSet<String>) -> (Addresses, Option<String>) {
    let (mut placed, mut lost) = (Addresses::new(), Vec::new());
    for (label, addresses) in found {
        let name = label.split(':').next().unwrap_or_default();
        if interfaces.contains(name) {
            placed.entry(name.to_owned()).or_default().extend(addresses);
        } else {
            lost.push(label);
        }
    }
    let warning = format!("the labels of some addresses name no interface: {}", lost.join(", "));
    (placed, (!lost.is_empty()).then_some(warning))
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

fn of_process_one(host: &HostRoot) -> Result<(Addresses, Option<String>), ProbeError> {
    let mut routes = Vec::new();
    // Only attached networks, which are few, however many lie behind them.
    ipv4_routes(host, |route| {
        if is_attached(&route) {
            routes.push(route);
        }
    })
    .map_err(ProbeError::read(ROUTE))?;
    let mut local = Vec::new();
    fib_entries(host, |entry| {
        if entry.is_local() {
            local.push(entry);
        }
    })
    .map_err(ProbeError::read(FIB_TRIE))?;
    let (mut found, lost) = place(&routes, &local);
    match lines(host, IF_INET6, |line| {
        if let Some((name, address)) = inet6(line) {
            found.entry(name).or_default().insert(address);
        }
    }) {
        // A kernel without IPv6.
        Err(error) if !is_absent(&error) => return Err(ProbeError::read(IF_INET6)(error)),
        _ => {}
    }
    let warning = (lost > 0).then(|| {
        format!("{lost} IPv4 addresses cannot be told to an interface from outside the node's network")
    });
    Ok((found, warning))
}

/// Gives each local address to the interface whose network holds it. Returns
/// how many cannot be given.
fn place(routes: &[Ipv4Route], local: &[FibEntry]) -> (Addresses, usize) {
    let mut found = Addresses::new();
    let mut lost = BTreeSet::new();
    for address in local.iter().filter(|entry| entry.length == 32) {
        // The loopback's network is local as a whole.
        let own_network = local.iter().find(|net| net.length < 32 && net.holds(address.network));
        let connected = routes
            .iter()
            .filter(|route| is_attached(route) && within(address.network, route.destination, route.length));
        let longest = connected.clone().map(|route| route.length).max();
        let names: BTreeSet<&str> = connected
            .filter(|route| Some(route.length) == longest)
            .map(|route| route.interface.as_str())
            .collect();
        let (name, length) = match (own_network, names.first(), longest) {
            (Some(network), ..) => ("lo", network.length),
            (None, Some(name), Some(length)) if names.len() == 1 => (*name, length),
            _ => {
                lost.insert(address.network);
                continue;
            }
        };
        let address = (IpAddr::V4(address.network), length);
        found.entry(name.to_owned()).or_default().insert(address);
    }
    (found, lost.len())
}

/// Whether a route leads to a network at the interface itself.
fn is_attached(route: &Ipv4Route) -> bool {
    route.gateway.is_unspecified() && !route.interface.is_empty() && (1..32).contains(&route.length)
}

fn within(address: Ipv4Addr, network: Ipv4Addr, length: u32) -> bool {
    FibEntry { network, length, kind: String::new() }.holds(address)
}

/// `address index prefix_length scope flags name`, numbers in hexadecimal.
pub(in super::super) fn inet6(line: &[u8]) -> Option<(String, (IpAddr, u32))> {
    let line = str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = u128::from_str_radix(words.next()?, 16).ok()?;
    let length = u32::from_str_radix(words.nth(1)?, 16).ok().filter(|length| *length <= 128)?;
    let name = words.nth(2)?.to_owned();
    Some((name, (IpAddr::V6(Ipv6Addr::from_bits(address)), length)))
}

#[cfg(test)]
mod tests {
    use super::super::super::routes::table::{fib_parser, ipv4_line};
    use super::*;

    #[test]
    fn reads_masks() {
        assert_eq!(prefix_length("255.255.254.0".parse().unwrap()), 23);
        assert_eq!(prefix_length("ffff:ffff:ffff:ffff::".parse().unwrap()), 64);
        assert_eq!(prefix_length("0.0.0.0".parse().unwrap()), 0);
    }

    #[test]
    fn addresses_that_cannot_be_listed_fail_the_probe() {
        let listed: nix::Result<std::iter::Empty<InterfaceAddress>> = Err(nix::errno::Errno::EMFILE);
        assert!(matches!(of_own(listed).unwrap_err(), ProbeError::Addresses(_)));
    }

    #[test]
    fn addresses_with_a_label_are_those_of_the_interface() {
        let address = |text: &str| (text.parse::<IpAddr>().unwrap(), 24);
        let found = Addresses::from([
            ("eth0".to_owned(), BTreeSet::from([address("10.0.0.1")])),
            ("eth0:vip".to_owned(), BTreeSet::from([address("10.0.0.9")])),
            ("shared".to_owned(), BTreeSet::from([address("10.0.0.8")])),
        ]);
        let (placed, warning) = without_labels(found, &BTreeSet::from(["eth0".to_owned(), "lo".to_owned()]));
        let all = BTreeSet::from([address("10.0.0.1"), address("10.0.0.9")]);
        assert_eq!(placed, Addresses::from([("eth0".to_owned(), all)]));
        assert!(warning.unwrap().ends_with(": shared"));
    }

    #[test]
    fn reads_if_inet6() {
        let line = b"fe8000000000000000fc00fffe000001 04 40 20 80     eth0";
        let expected = ("eth0".to_owned(), ("fe80::fc:ff:fe00:1".parse().unwrap(), 64));
        assert_eq!(inet6(line), Some(expected));
        for bad in [&b""[..], b"\xff", b"fe80 04", b"fe80 04 ff 20 80 eth0", b"xx 04 40 20 80 eth0"] {
            assert_eq!(inet6(bad), None);
        }
    }

    #[test]
    fn gives_addresses_to_the_networks_that_hold_them() {
        let routes: Vec<Ipv4Route> = [
            "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
            "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "one\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "two\t0000000A\t00000000\t0001\t0\t0\t9\t00FFFFFF\t0\t0\t0",
            "one\t8000000A\t00000000\t0001\t0\t0\t0\t80FFFFFF\t0\t0\t0",
        ]
        .iter()
        .map(|line| ipv4_line(line.as_bytes()).unwrap())
        .collect();
        let trie = "Main:\n  +-- 127.0.0.0/8 2 0 2\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL
     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST
     |-- 10.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.129\n        /32 host LOCAL\n     |-- 10.9.9.9\n        /32 host LOCAL\nLocal:\n     |-- 10.9.9.9\n        /32 host LOCAL\n";
        let mut local = Vec::new();
        let mut parse = fib_parser(|entry| {
            if entry.is_local() {
                local.push(entry);
            }
        });
        trie.lines().for_each(|line| parse(line.as_bytes()));
        drop(parse);
        let (found, lost) = place(&routes, &local);
        let shown: Vec<String> = found
            .iter()
            .flat_map(|(name, addresses)| {
                addresses.iter().map(move |(ip, length)| format!("{name} {ip}/{length}"))
            })
            .collect();
        assert_eq!(shown, ["eth0 192.0.2.2/24", "lo 127.0.0.1/8", "one 10.0.0.129/25"]);
        assert_eq!(lost, 2, "10.0.0.1 lies in two networks, 10.9.9.9 in none");
    }
}
