use super::*;
use std::fs;
use std::path::Path;

use table::{fib_parser, ipv4_line, ipv6_line};

const IPV4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
*\t0000F40A\t00000000\t0001\t0\t0\t0\tC0FFFFFF\t0\t0\t0
*\t0001F40A\t00000000\t0201\t0\t0\t5\t00FFFFFF\t0\t0\t0
*\t0002F40A\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0
cali0123abcd\t0500F40A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth0\t000200C0\t00000000\t0000\t0\t0\t100\t00FFFFFF\t0\t0\t0
";

const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.244.2.0
        /24 universe PROHIBIT
";

const IPV6: &str = "\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001 cali0123abcd
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
fd0000000000000000000000000000ff 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000002 00000000 00200200       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001       lo
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

fn node(root: &Path) -> HostRoot {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(ROUTE, IPV4);
    write(FIB_TRIE, TRIE);
    write(IPV6_ROUTE, IPV6);
    for (name, index, link) in [("eth0", "2", "2"), ("lo", "1", "1"), ("cali0123abcd", "9", "3")] {
        write(&format!("sys/class/net/{name}/ifindex"), index);
        write(&format!("sys/class/net/{name}/iflink"), link);
        write(&format!("sys/class/net/{name}/type"), "1");
    }
    HostRoot::new(root).unwrap()
}

#[test]
fn reads_the_routes_of_a_node() {
    let root = tempfile::tempdir().unwrap();
    let host = node(root.path());
    let scan = scan(&host).unwrap();
    let rows: Vec<(String, String, usize)> = scan
        .assets
        .into_iter()
        .map(|asset| {
            let Details::Route(route) = asset.details else { panic!("no route") };
            (asset.natural_key, route.r#type, asset.relations.len())
        })
        .collect();
    let row = |key: &str, kind: &str, relations| (key.to_owned(), kind.to_owned(), relations);
    assert_eq!(
        rows,
        [
            row("ipv4/default via 192.0.2.1 dev eth0 metric 100", "unicast", 1),
            row("ipv4/192.0.2.0/24 dev eth0 metric 100", "unicast", 1),
            row("ipv4/10.244.0.0/26 metric 0", "blackhole", 0),
            row("ipv4/10.244.1.0/24 metric 5", "unreachable", 0),
            row("ipv4/10.244.2.0/24 metric 0", "prohibit", 0),
            row("ipv6/fd00::/64 dev eth0 metric 256", "unicast", 1),
            row("ipv6/default via fd00::1 dev eth0 metric 1024", "unicast", 1),
            row("ipv6/fd00::ff/128 metric 1024", "unreachable", 0),
        ]
    );
    assert!(scan.warnings.is_empty(), "{:?}", scan.warnings);
}

#[test]
fn a_route_through_an_interface_that_is_gone_is_told() {
    let root = tempfile::tempdir().unwrap();
    let host = node(root.path());
    fs::remove_dir_all(root.path().join("sys/class/net/eth0")).unwrap();
    let scan = scan(&host).unwrap();
    assert_eq!((scan.assets.len(), scan.warnings.len()), (4, 4), "{:?}", scan.warnings);
}

#[test]
fn tables_that_are_not_there() {
    let root = tempfile::tempdir().unwrap();
    let host = node(root.path());
    fs::remove_file(root.path().join(IPV6_ROUTE)).unwrap();
    assert_eq!(scan(&host).unwrap().assets.len(), 5, "a kernel without IPv6");
    fs::remove_file(root.path().join(ROUTE)).unwrap();
    assert!(scan(&host).is_err(), "no look at process 1 is no want of routes");
}

#[test]
fn garbage_is_no_route() {
    for line in ["", "a b c", "eth0 0 0 0001 0 0 x 0", "eth0 0 0 0001", "eth0 zz 0 0001 0 0 0 0"] {
        assert_eq!(ipv4_line(line.as_bytes()), None, "{line}");
        assert_eq!(ipv6_line(line.as_bytes()), None, "{line}");
    }
    let mut found = 0;
    let mut parse = fib_parser(|_| found += 1);
    for line in
        ["/32 host LOCAL", "|-- 10.0.0.x", "/32 host LOCAL", "|-- 10.0.0.1", "/33 host LOCAL", "/x", "\u{1}"]
    {
        parse(line.as_bytes());
    }
    drop(parse);
    assert_eq!(found, 0);
}

#[test]
fn a_table_beyond_measure_is_cut_and_told() {
    let root = tempfile::tempdir().unwrap();
    let host = node(root.path());
    let mut text = String::from("Iface\n");
    for at in 0..MAX_ROUTES + 3 {
        text += &format!("eth0\t{:04X}F40A\t00000000\t0001\t0\t0\t{at}\t00FFFFFF\t0\t0\t0\n", at % 0xffff);
    }
    fs::write(root.path().join(ROUTE), text).unwrap();
    fs::remove_file(root.path().join(IPV6_ROUTE)).unwrap();
    let scan = scan(&host).unwrap();
    assert_eq!(scan.assets.len(), MAX_ROUTES);
    assert_eq!(scan.warnings, ["3 routes beyond 2000 of a family are left out"]);
}
