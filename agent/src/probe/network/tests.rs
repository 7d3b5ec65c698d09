use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// An interface in a fake tree; `place` is its folder below /sys/devices.
fn interface(root: &Path, name: &str, place: &str, index: &str, files: &[(&str, &str)]) {
    let folder = root.join("sys/devices").join(place).join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(root.join(NET)).unwrap();
    symlink(format!("../../devices/{place}/{name}"), root.join(NET).join(name)).unwrap();
    for (file, text) in [("ifindex", index), ("iflink", index), ("type", "1")].iter().chain(files) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

fn below(root: &Path, name: &str, others: &[&str]) {
    for other in others {
        symlink(format!("../{other}"), root.join(NET).join(name).join(format!("lower_{other}"))).unwrap();
        symlink(format!("../{name}"), root.join(NET).join(other).join("upper_it")).unwrap();
    }
}

fn master(root: &Path, name: &str, controller: &str) {
    symlink(format!("../{controller}"), root.join(NET).join(name).join("master")).unwrap();
}

fn proc(root: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = root.join("proc/1/net").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Interfaces with their relations, by natural key.
type Found = BTreeMap<String, (NetworkInterfaceDetails, Vec<String>)>;

fn found(root: &Path) -> (Found, Vec<String>) {
    let scan = scan(&HostRoot::new(root).unwrap()).unwrap();
    let mut all = Found::new();
    for asset in scan.assets {
        let mut relations = Vec::new();
        for relation in &asset.relations {
            let (verb, kind) = (relation.r#type().as_str_name(), relation.kind().as_str_name());
            let verb = verb.strip_prefix("RELATION_TYPE_").unwrap();
            let kind = kind.strip_prefix("ASSET_KIND_").unwrap();
            relations.push(format!("{verb} {kind} {}", relation.natural_key));
        }
        let Details::NetworkInterface(interface) = asset.details else { panic!("no interface") };
        all.insert(asset.natural_key, (interface, relations));
    }
    (all, scan.warnings)
}

const VIRTUAL: &str = "virtual/net";

#[test]
fn reads_a_node_with_a_bond_a_vlan_and_containers() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let physical = [("mtu", "9000"), ("address", "02:FC:00:00:00:01"), ("operstate", "up"), ("speed", "-1")];
    interface(root, "ens3", "pci0000:00/0000:00:03.0/virtio2/net", "2", &physical);
    let device = root.join(NET).join("ens3/device");
    fs::create_dir_all(&device).unwrap();
    symlink("../../../bus/drivers/virtio_net", device.join("driver")).unwrap();
    let fast = [("duplex", "full"), ("speed", "25000"), ("device/x", "")];
    for (file, value) in [("idVendor", "0bda\n"), ("idProduct", "8153\n"), ("serial", "001\n")] {
        let folder = root.join("sys/bus/usb/devices/1-1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), value).unwrap();
    }
    interface(root, "ens4", "pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net", "3", &fast);
    let bond =
        [("bonding/mode", "802.3ad 4"), ("uevent", "DEVTYPE=bond\nINTERFACE=bond0"), ("duplex", "unknown")];
    interface(root, "bond0", VIRTUAL, "4", &bond);
    let vlan = ("uevent", "DEVTYPE=vlan\nINTERFACE=x");
    interface(root, "bond0.100", VIRTUAL, "5", &[vlan, ("iflink", "4")]);
    interface(root, "storage", VIRTUAL, "6", &[vlan, ("iflink", "4")]);
    interface(root, "cni0", VIRTUAL, "7", &[("uevent", "DEVTYPE=bridge"), ("bridge/x", "")]);
    interface(root, "veth0a1b2c3d", VIRTUAL, "8", &[("iflink", "2")]);
    for port in ["ens3", "ens4"] {
        master(root, port, "bond0");
    }
    master(root, "veth0a1b2c3d", "cni0");
    below(root, "cni0", &["veth0a1b2c3d"]);
    for port in ["ens3", "ens4"] {
        symlink(format!("../{port}"), root.join(NET).join(format!("bond0/lower_{port}"))).unwrap();
    }
    for name in ["bond0.100", "storage"] {
        symlink("../bond0", root.join(NET).join(name).join("lower_bond0")).unwrap();
    }
    fs::write(root.join(NET).join("bonding_masters"), "bond0\n").unwrap();
    proc(
        root,
        &[
            ("dev", ""),
            ("route", "Iface\tDestination\nbond0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"),
            (
                "fib_trie",
                "Main:\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 10.9.9.9\n        /32 host LOCAL\n",
            ),
            ("if_inet6", "fe8000000000000000fc00fffe000001 04 40 20 80    bond0\n"),
        ],
    );

    let (all, warnings) = found(root);
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["bond0", "bond0.100", "cni0", "ens3", "ens4", "storage"]);
    let (ens3, relations) = &all["ens3"];
    assert_eq!((ens3.mac_address.as_str(), ens3.mtu, ens3.speed_mbps), ("02:fc:00:00:00:01", 9000, 0));
    assert_eq!((ens3.driver.as_str(), ens3.r#type.as_str()), ("virtio_net", "physical"));
    assert_eq!((ens3.controller.as_str(), ens3.pci_slot.as_str()), ("bond0", "0000:00:03.0"));
    assert_eq!(relations[..], ["PART_OF NETWORK_INTERFACE bond0", "ATTACHED_TO PCI_DEVICE 0000:00:03.0"]);
    let (ens4, relations) = &all["ens4"];
    assert_eq!((ens4.pci_slot.as_str(), ens4.duplex.as_str(), ens4.speed_mbps), ("", "full", 25000));
    assert_eq!(relations[1], "ATTACHED_TO USB_DEVICE 1-1/0bda:8153/001");
    let (bond, relations) = &all["bond0"];
    assert_eq!((bond.bond_mode.as_str(), bond.duplex.as_str(), bond.parent.as_str()), ("802.3ad", "", ""));
    assert_eq!((bond.ports[..].join(" "), relations.len()), ("ens3 ens4".to_owned(), 0));
    assert_eq!(bond.addresses, ["192.0.2.2/24", "fe80::fc:ff:fe00:1/64"]);
    let (vlan, relations) = &all["bond0.100"];
    assert_eq!((vlan.vlan_id, vlan.parent.as_str(), vlan.r#type.as_str()), (100, "bond0", "vlan"));
    assert_eq!(relations[..], ["GOES_THROUGH NETWORK_INTERFACE bond0"]);
    assert!(all["cni0"].0.ports.is_empty(), "a container's end is no lasting port");
    assert_eq!(
        warnings,
        [
            "1 IPv4 addresses cannot be told to an interface from outside the node's network",
            "VLAN ID of storage: cannot be read, needs root or the node's network",
        ]
    );

    let config = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
        bond0.100      | 101  | bond0\nstorage        | 4094  | bond0\n";
    proc(root, &[("vlan/config", config)]);
    let (all, warnings) = found(root);
    assert_eq!((all["bond0.100"].0.vlan_id, all["storage"].0.vlan_id, warnings.len()), (101, 4094, 1));
}

#[test]
fn an_unknown_view_of_the_network_fails_the_probe() {
    let root = tempfile::tempdir().unwrap();
    interface(root.path(), "of-no-machine0", VIRTUAL, "4242", &[("address", "02:00:00:00:00:01")]);
    let host = HostRoot::new(root.path()).unwrap();
    assert!(matches!(scan(&host).unwrap_err(), ProbeError::Read { .. }), "no view of process 1");
    proc(root.path(), &[("dev", "")]);
    assert!(matches!(scan(&host).unwrap_err(), ProbeError::Read { .. }), "no routes to place addresses by");
}
