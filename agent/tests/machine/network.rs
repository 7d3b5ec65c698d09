//! Interfaces, addresses, routes and resolvers beside iproute2: of this machine,
//! and of a network namespace with one of everything that the kernel can make.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contracts::v1::asset_details::Details;
use contracts::v1::{NetworkInterfaceDetails, RouteDetails};
use serde_json::Value;
use testkit::wait_until;

use crate::namespaces::{PART, in_own_namespaces};
use crate::{scan, tool};

fn json(program: &str, args: &[&str]) -> Option<Vec<Value>> {
    let listed = tool(program, args)?;
    // Nothing at all instead of an empty list, where there is nothing.
    if listed.trim().is_empty() {
        return Some(Vec::new());
    }
    Some(serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap().clone())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Rule: the near end of a container's veth pair is not recorded; ip shows the
/// namespace of its far end. An own interface of a machine that is a container
/// itself is kept by its name.
fn leads_to_container(link: &Value) -> bool {
    let name = text(&link["ifname"]);
    let own = ["eth", "net", "host"]
        .iter()
        .any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok()));
    let kind = text(&link["linkinfo"]["info_kind"]);
    let elsewhere = !link["link_netnsid"].is_null() || !link["link_netns"].is_null();
    !own && matches!(kind.as_str(), "veth" | "netkit") && elsewhere
}

/// Interfaces that are left out for that.
pub fn interfaces_to_containers() -> BTreeSet<String> {
    let links = json("ip", &["-j", "-d", "address"]).unwrap_or_default();
    links.iter().filter(|link| leads_to_container(link)).map(|link| text(&link["ifname"])).collect()
}

/// Interfaces as `ip -j -d address` shows them, in the words of the contract.
fn interfaces_of_ip(args: &[&str]) -> Option<BTreeMap<String, NetworkInterfaceDetails>> {
    let links = json(args[0], &[&args[1..], &["-j", "-d", "address"]].concat())?;
    let mut expected = BTreeMap::new();
    let left_out: BTreeSet<String> =
        links.iter().filter(|link| leads_to_container(link)).map(|link| text(&link["ifname"])).collect();
    for link in links.iter().filter(|link| !leads_to_container(link)) {
        let name = text(&link["ifname"]);
        let kind = text(&link["linkinfo"]["info_kind"]);
        let mut addresses: Vec<String> = link["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"]))
            .collect();
        addresses.sort();
        // Rule: the loopback's address of zeros is none.
        let mac_address =
            if text(&link["link_type"]) == "loopback" { String::new() } else { text(&link["address"]) };
        let mut ports: Vec<String> = links
            .iter()
            .filter(|port| port["master"] == link["ifname"])
            .map(|port| text(&port["ifname"]))
            .filter(|port| !left_out.contains(port))
            .collect();
        ports.sort();
        let parent = match kind.as_str() {
            // Rule: what is linked to a veth is its other end, and is not below it.
            "veth" => String::new(),
            "vxlan" => text(&link["linkinfo"]["info_data"]["link"]),
            _ => text(&link["link"]),
        };
        let details = NetworkInterfaceDetails {
            interface: name.clone(),
            mac_address,
            mtu: u32::try_from(link["mtu"].as_u64().unwrap()).unwrap(),
            operational_state: text(&link["operstate"]).to_lowercase(),
            addresses,
            controller: text(&link["master"]),
            parent,
            vlan_id: link["linkinfo"]["info_data"]["id"]
                .as_u64()
                .filter(|_| kind == "vlan")
                .map_or(0, |id| u32::try_from(id).unwrap()),
            bond_mode: if kind == "bond" {
                text(&link["linkinfo"]["info_data"]["mode"])
            } else {
                String::new()
            },
            ports,
            ..Default::default()
        };
        expected.insert(name, details);
    }
    Some(expected)
}

/// What ip shows too, of the interfaces that the probe finds.
fn interfaces_found() -> BTreeMap<String, NetworkInterfaceDetails> {
    scan("network")
        .assets
        .into_iter()
        .map(|asset| match asset.details {
            Details::NetworkInterface(mut interface) => {
                interface.addresses.sort();
                // Not told by ip: see `tells_kinds_apart` for the type.
                for other in [
                    &mut interface.r#type,
                    &mut interface.driver,
                    &mut interface.duplex,
                    &mut interface.pci_slot,
                ] {
                    other.clear();
                }
                interface.speed_mbps = 0;
                (interface.interface.clone(), interface)
            }
            other => panic!("no interface: {other:?}"),
        })
        .collect()
}

/// Routes as ip shows them: `family/destination via gateway dev interface metric
/// n` and the type.
fn routes_of_ip(args: &[&str]) -> Option<BTreeSet<(String, String)>> {
    let links = json(args[0], &[&args[1..], &["-j", "-d", "link"]].concat())?;
    // Rule: routes through a container's interface come and go with it.
    let left_out: BTreeSet<String> =
        links.iter().filter(|link| leads_to_container(link)).map(|link| text(&link["ifname"])).collect();
    let mut expected = BTreeSet::new();
    for (family, flag) in [("ipv4", "-4"), ("ipv6", "-6")] {
        for route in json(args[0], &[&args[1..], &[flag, "-j", "-d", "route"]].concat())? {
            let mut kind = text(&route["type"]);
            if left_out.contains(&text(&route["dev"])) || kind == "multicast" {
                continue;
            }
            let destination = match text(&route["dst"]).as_str() {
                "default" => "default".to_owned(),
                net if net.contains('/') => net.to_owned(),
                host => format!("{host}/{}", if family == "ipv4" { 32 } else { 128 }),
            };
            // Rule: of several next hops /proc shows the first.
            let hop = if route["nexthops"].is_array() { &route["nexthops"][0] } else { &route };
            let (gateway, mut device) = (text(&hop["gateway"]), text(&hop["dev"]));
            // Rule: the loopback's own address is no route to elsewhere, and
            // what goes nowhere goes through no interface.
            if device == "lo" {
                if kind == "unicast" {
                    continue;
                }
                device.clear();
            }
            // Rule: /proc does not tell how an IPv6 route refuses.
            if family == "ipv6" && kind != "unicast" {
                kind = "unreachable".to_owned();
            }
            let part = |word: &str, value: &str| {
                if value.is_empty() { String::new() } else { format!(" {word} {value}") }
            };
            let metric = route["metric"].as_u64().unwrap_or(0);
            let (via, dev) = (part("via", &gateway), part("dev", &device));
            expected.insert((format!("{family}/{destination}{via}{dev} metric {metric}"), kind));
        }
    }
    Some(expected)
}

fn routes_found() -> BTreeSet<(String, String)> {
    let kind = |details: Details| match details {
        Details::Route(RouteDetails { r#type, .. }) => r#type,
        other => panic!("no route: {other:?}"),
    };
    scan("routes").assets.into_iter().map(|asset| (asset.natural_key, kind(asset.details))).collect()
}

/// Other programs may change the machine's network meanwhile: what the probe
/// finds counts when the tool says the same before and after.
fn at_rest<T: PartialEq + std::fmt::Debug>(ask: impl Fn() -> Option<T>, find: impl Fn() -> T) {
    for _ in 0..50 {
        let Some(before) = ask() else { return };
        let found = find();
        if ask().as_ref() == Some(&before) {
            assert_eq!(found, before);
            return;
        }
    }
    panic!("the network of this machine never came to rest");
}

#[test]
fn interfaces_are_those_of_ip() {
    at_rest(|| interfaces_of_ip(&["ip"]), interfaces_found);
}

#[test]
fn routes_are_those_of_ip() {
    at_rest(|| routes_of_ip(&["ip"]), routes_found);
}

#[test]
fn name_servers_are_the_lines_of_the_file() {
    let Ok(file) = std::fs::read_to_string("/etc/resolv.conf") else {
        println!("SKIPPED: no /etc/resolv.conf here");
        assert!(scan("dns").assets.is_empty());
        return;
    };
    let Some(servers) = tool("awk", &["$1 == \"nameserver\" && /^n/ { print $2 }", "/etc/resolv.conf"])
    else {
        return;
    };
    let found = scan("dns").assets.remove(0);
    let Details::DnsResolver(resolver) = found.details else { panic!("no resolver") };
    assert_eq!(resolver.name_servers.join("\n"), servers.trim(), "{file}");
}

/// `ip` with these words; false after saying SKIPPED.
fn ip(words: &str) -> bool {
    tool("ip", &words.split(' ').collect::<Vec<_>>()).is_some()
}

/// A process in another network namespace, as a container has.
struct Container(Child);

impl Container {
    async fn start() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).stdout(Stdio::null()).spawn();
        let container = Self(child.unwrap());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let link = format!("/proc/{}/ns/net", container.0.id());
        wait_until(Duration::from_secs(20), "a network of its own", async || {
            std::fs::read_link(&link).is_ok_and(|link| link != own)
        })
        .await;
        container
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network with one of everything that this kernel can make.
async fn build() -> Container {
    let container = Container::start().await;
    let pid = container.0.id();
    assert!(ip("link set lo up"));
    assert!(ip("link add br0 type bridge"));
    assert!(ip("link add up0 type veth peer name up1"));
    assert!(ip(&format!("link add veth1a2b3c4d type veth peer name eth0 netns {pid}")));
    assert!(ip(&format!("link add cali0123abcd index 4000 type veth peer name eth1 index 4000 netns {pid}")));
    for (interface, commands) in [
        ("dummy0", "link add dummy0 type dummy"),
        ("bond0", "link add bond0 type bond mode 802.3ad;link set dummy0 master bond0"),
        ("up0.100", "link add link up0 name up0.100 type vlan id 100"),
        ("storage", "link add link up0 name storage type vlan id 4094"),
        ("mv0", "link add link up0 name mv0 type macvlan mode bridge"),
        ("iv0", "link add link up0 name iv0 type ipvlan"),
        ("vx0", "link add vx0 type vxlan id 7 dev up0 dstport 4789"),
        ("vrf0", "link add vrf0 type vrf table 10"),
        ("wg0", "link add wg0 type wireguard"),
        ("tap0", "tuntap add tap0 mode tap"),
    ] {
        let made = commands.split(';').all(ip);
        println!("{interface}: {}", if made { "made" } else { "SKIPPED" });
        if made {
            ip(&format!("link set {interface} up"));
        }
    }
    for words in [
        "link set up1 master br0",
        "link set veth1a2b3c4d master br0",
        "link set up0 mtu 1400 up",
        "link set up1 up",
        "link set br0 up",
        "link set veth1a2b3c4d up",
        "link set cali0123abcd up",
        "address add 192.0.2.2/24 dev br0",
        "address add 192.0.2.3/24 dev br0 label br0:vip",
        "address add 198.51.100.1/25 dev up0",
        "address add fd00:1::2/64 dev br0 nodad",
        "address add fd00:2::1/127 dev up0 nodad",
        "route add default via 192.0.2.1 metric 50",
        "route add 10.1.0.0/16 via 198.51.100.2 dev up0",
        "route add 10.1.0.0/16 via 192.0.2.9 metric 7",
        "route add 10.9.9.9/32 via 192.0.2.9",
        "route add 10.244.0.5/32 dev cali0123abcd",
        "route add blackhole 10.2.0.0/26",
        "route add unreachable 10.3.0.0/24 metric 5",
        "route add prohibit 10.4.0.0/24",
        "route add throw 10.5.0.0/24",
        "route add 10.6.0.0/24 nexthop via 192.0.2.7 nexthop via 198.51.100.7",
        "-6 route add default via fd00:1::1 metric 77",
        "-6 route add fd00:3::/48 via fd00:2::0 dev up0",
        "-6 route add unreachable fd00:4::/64",
        "-6 route add blackhole fd00:5::/64",
        "-6 route add fd00:6::1/128 dev cali0123abcd",
        "-6 route add fd00:7::1/128 dev br0",
    ] {
        assert!(ip(words), "{words}");
    }
    container
}

#[tokio::test]
async fn a_network_of_everything_is_seen_from_inside_and_from_outside() {
    const NAME: &str = "network::a_network_of_everything_is_seen_from_inside_and_from_outside";
    match std::env::var(PART).as_deref() {
        Err(_) => {
            in_own_namespaces(NAME);
        }
        Ok("inside") => {
            let _container = build().await;
            compare(&["ip"]);
            tells_kinds_apart();
            // Once more with a network of its own, as a pod has that does not
            // share the node's; /sys and /proc are the node's.
            let child = Command::new("unshare")
                .arg("--net")
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .env(PART, "outside")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            print!("{said}");
            assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
        }
        Ok(_) => {
            let own = std::fs::read_link("/proc/self/ns/net").unwrap();
            assert_ne!(own, std::fs::read_link("/proc/1/ns/net").unwrap());
            compare(&["nsenter", "--target", "1", "--net", "ip"]);
        }
    }
}

fn compare(ip: &[&str]) {
    let count = interfaces_of_ip(ip).unwrap().len();
    at_rest(|| interfaces_of_ip(ip), interfaces_found);
    let routes = routes_of_ip(ip).unwrap().len();
    at_rest(|| routes_of_ip(ip), routes_found);
    println!("{count} interfaces and {routes} routes are the same by {}", ip[0]);
    assert!(count >= 4 && routes >= 15);
}

/// The kinds that ip names, in the words of the contract.
fn tells_kinds_apart() {
    for asset in scan("network").assets {
        let Details::NetworkInterface(interface) = asset.details else { panic!("no interface") };
        let link = json("ip", &["-j", "-d", "link", "show", &interface.interface]).unwrap().remove(0);
        let kind = text(&link["linkinfo"]["info_kind"]);
        let expected = match kind.as_str() {
            "" if text(&link["link_type"]) == "loopback" => "loopback",
            "" => "physical",
            kind @ ("bridge" | "bond" | "vlan" | "veth") => kind,
            "vxlan" | "wireguard" | "tun" | "sit" | "ipip" | "gre" | "gretap" | "ip6tnl" => "tunnel",
            _ => "virtual",
        };
        assert_eq!(interface.r#type, expected, "{}", interface.interface);
    }
}
