//! Listening sockets, against ss(8).

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};

use agent::config::ProbeArgs;
use agent::host::HostRoot;
use agent::probe::{Context, all};
use contracts::v1::asset_details::Details;

use super::{scan, tool};

#[test]
fn sockets_are_those_of_ss() {
    // Something to find whatever else runs.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0").ok();
    let udp = (10_000..20_000).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok()).unwrap();
    let ss = || {
        let listed = tool("ss", &["-H", "-l", "-n", "-t", "-u"])?;
        Some(listed.lines().filter_map(socket_of_ss).collect::<BTreeSet<_>>())
    };
    // Sockets of other tests and services come and go: two equal answers of ss
    // around the scan, or it counts for nothing.
    for _ in 0..50 {
        let Some(before) = ss() else { return };
        let found = scan("sockets");
        if ss() != Some(before.clone()) {
            continue;
        }
        let keys: BTreeSet<String> = found.assets.iter().map(|asset| asset.natural_key.clone()).collect();
        assert_eq!(keys, before);
        let own = format!("tcp/{}", tcp.local_addr().unwrap());
        let own = found.assets.iter().find(|asset| asset.natural_key == own).unwrap();
        let Details::ListeningSocket(own) = &own.details else { panic!("no socket") };
        assert_eq!(own.executable, std::env::current_exe().unwrap().to_str().unwrap());
        assert!(keys.contains(&format!("udp/{}", udp.local_addr().unwrap())));
        if let Some(tcp6) = &tcp6 {
            assert!(keys.contains(&format!("tcp6/{}", tcp6.local_addr().unwrap())));
        }
        return;
    }
    panic!("the sockets of this machine never came to rest");
}

/// `tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*` as a natural key.
fn socket_of_ss(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(4)?.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    // Rule: a UDP socket on a port that the kernel chose is a client's until it
    // has been there for a minute. One of TCP counts with the first look of a
    // probe, which this is (probe/sockets.rs).
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let range: Vec<u16> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
    if words[0] == "udp" && (range[0]..=range[1]).contains(&port) {
        return None;
    }
    // `127.0.0.53%lo` is bound to an interface; `*` takes both families.
    let address = address.split('%').next()?.trim_matches(['[', ']']);
    let address = if address == "*" { "::" } else { address };
    Some(if address.contains(':') {
        format!("{}6/[{address}]:{port}", words[0])
    } else {
        format!("{}/{address}:{port}", words[0])
    })
}

#[test]
fn what_listens_on_a_port_of_the_kernel_counts_with_the_second_look() {
    let probe = all(&Context::forgetful(ProbeArgs::default()));
    let probe = probe.iter().find(|probe| probe.name == "sockets").unwrap();
    let host = HostRoot::new("/").unwrap();
    probe.scan(&host).unwrap();
    // Port 0: the kernel chooses one of its range.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = format!("tcp/{}", listener.local_addr().unwrap());
    let looks = || probe.scan(&host).unwrap().assets.iter().any(|asset| asset.natural_key == key);
    assert_eq!([looks(), looks(), looks()], [false, true, true]);
}
