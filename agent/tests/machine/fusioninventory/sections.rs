//! Finds in our inventory what an item of FusionInventory stands for, and
//! compares field by field.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use contracts::v1::asset_details::Details;
use contracts::v1::{BoardDetails, NetworkInterfaceDetails, NodeDetails, PciDeviceDetails};

use super::{Check, Own, plain};

/// All assets of one kind.
macro_rules! all {
    ($own:expr, $kind:ident) => {
        $own.0.iter().filter_map(|asset| match &asset.details {
            Details::$kind(one) => Some(one),
            _ => None,
        })
    };
}

const MB: u64 = 1000 * 1000;

/// Compares the item at this place of a section; false if we have no such thing.
pub fn compare(section: &str, place: usize, check: &mut Check, own: &Own) -> bool {
    let found = match section {
        "OPERATINGSYSTEM" => operating_system(check, own),
        "HARDWARE" => hardware(check, own),
        "BIOS" => bios(check, own),
        "CPUS" => processor(place, check, own),
        "MEMORIES" => memory_module(check, own),
        "CONTROLLERS" => pci_device(check, own),
        "SOUNDS" => pci_device_named("NAME", check, own),
        "MODEMS" => pci_device_named("DESCRIPTION", check, own),
        "USBDEVICES" => usb_device(check, own),
        "STORAGES" => disk(check, own),
        "DRIVES" => file_system(check, own),
        "LOGICAL_VOLUMES" => logical_volume(check, own),
        "NETWORKS" => network_interface(check, own),
        "SOFTWARES" => package(check, own),
        "LOCAL_USERS" => user(check, own),
        "LOCAL_GROUPS" => group(check, own),
        _ => None,
    };
    found.is_some()
}

fn node(own: &Own) -> Option<&NodeDetails> {
    all!(own, Node).next()
}

/// What date(1) prints; empty if it fails.
fn date(args: &[&str], zone: Option<&str>) -> String {
    let mut command = Command::new("date");
    if let Some(zone) = zone {
        command.env("TZ", format!(":{zone}"));
    }
    let output = command.args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn operating_system(check: &mut Check, own: &Own) -> Option<()> {
    let node = node(own)?;
    check.same("ARCH", &node.architecture);
    check.same("KERNEL_VERSION", &node.kernel_release);
    check.same("FULL_NAME", &node.os_name);
    check.holds("NAME", &node.os_name, |value| node.os_name.starts_with(value));
    // Rule: what follows, such as a point release, says the package of os-release.
    check.holds("VERSION", &node.os_version, |value| value.starts_with(&node.os_version));
    // Rule: it takes the uptime, in whole seconds, from the time.
    let boot = node.boot_time.map_or(0, |time| time.seconds);
    check.holds("BOOT_TIME", &boot.to_string(), |value| {
        let seconds: Result<i64, _> = date(&["-d", value, "+%s"], None).parse();
        seconds.is_ok_and(|seconds| seconds.abs_diff(boot) <= 3)
    });
    // Rule: for `Etc/UTC` it has `UTC`, and an abbreviation if Perl lacks a module.
    let zone = Some(node.time_zone.as_str());
    check.one_of("TIMEZONE/NAME", &[node.time_zone.clone(), date(&["+%Z"], zone)]);
    check.same("TIMEZONE/OFFSET", &date(&["+%z"], zone));
    Some(())
}

fn hardware(check: &mut Check, own: &Own) -> Option<()> {
    if let Some(node) = node(own) {
        // Rule: it cuts the name at the first dot.
        check.same("NAME", node.hostname.split('.').next().unwrap_or_default());
        check.same("OSNAME", &node.os_name);
        check.same("OSVERSION", &node.kernel_release);
        check.same("OSCOMMENTS", &node.kernel_version);
        check.same("MEMORY", &(node.memory_bytes >> 20));
        // Rule: it has other names for some, and takes KVM for QEMU.
        check.holds("VMSYSTEM", &node.virtualization, |value| match value {
            "Physical" => node.virtualization == "none",
            "QEMU" | "KVM" => ["qemu", "kvm"].contains(&node.virtualization.as_str()),
            "Hyper-V" => node.virtualization == "microsoft",
            "VirtualBox" => node.virtualization == "oracle",
            "Virtual Machine" => !["", "none"].contains(&node.virtualization.as_str()),
            other => other.to_lowercase() == node.virtualization,
        });
    }
    let swap: u64 = all!(own, Swap).map(|area| area.size_bytes).sum();
    check.holds("SWAP", &(swap >> 20).to_string(), |value| {
        value.parse::<u64>().is_ok_and(|megabytes| megabytes.abs_diff(swap >> 20) <= 1)
    });
    check.same("PROCESSORN", &all!(own, Processor).count());
    check.one_of(
        "PROCESSORT",
        &all!(own, Processor).map(|processor| processor.model.clone()).collect::<Vec<_>>(),
    );
    let addresses: Vec<&str> = all!(own, NetworkInterface)
        .flat_map(|interface| &interface.addresses)
        .filter_map(|address| address.split('/').next())
        .collect();
    each_of(check, "IPADDR", &addresses);
    let gateways: Vec<&str> = all!(own, Route)
        .filter(|route| route.destination == "default")
        .map(|route| route.gateway.as_str())
        .collect();
    each_of(check, "DEFAULTGATEWAY", &gateways);
    let resolvers = || all!(own, DnsResolver);
    let servers: Vec<&str> =
        resolvers().flat_map(|resolver| &resolver.name_servers).map(String::as_str).collect();
    each_of(check, "DNS", &servers);
    // Rule: what follows the dot of the host's name goes before the search domains.
    let domain = node(own).and_then(|node| node.hostname.split_once('.')).map(|(_, domain)| domain);
    let domains: Vec<&str> = resolvers()
        .flat_map(|resolver| &resolver.search_domains)
        .map(|domain| domain.trim_end_matches('.'))
        .chain(domain)
        .collect();
    each_of(check, "WORKGROUP", &domains);
    // Rule: in a container it makes up a UUID.
    let in_container =
        node(own).is_some_and(|node| ["docker", "lxc"].contains(&node.virtualization.as_str()));
    let system = board(own, "system");
    check.holds("UUID", &system.uuid, |value| in_container || value.eq_ignore_ascii_case(&system.uuid));
    told(check, "CHASSIS_TYPE", &board(own, "chassis").chassis_type);
    Some(())
}

/// Each part of a value, which slashes part, must be ours.
fn each_of(check: &mut Check, field: &'static str, own: &[&str]) {
    check.holds(field, &own.join(", "), |value| value.split('/').all(|part| own.contains(&part)));
}

fn board(own: &Own, kind: &str) -> BoardDetails {
    all!(own, Board).find(|board| board.r#type == kind).cloned().unwrap_or_default()
}

/// What SMBIOS says must be ours. Rule: what stands for nothing is empty.
fn told(check: &mut Check, field: &'static str, own: &str) {
    const FILLERS: &[&str] = &[
        "not specified",
        "not settable",
        "not present",
        "unknown",
        "other",
        "none",
        "default string",
        "to be filled by o.e.m.",
        "no asset tag",
        "system serial number",
        "0",
    ];
    let own = plain(own);
    check.holds(field, &own, |value| {
        value == own || own.is_empty() && FILLERS.contains(&value.to_lowercase().as_str())
    });
}

fn bios(check: &mut Check, own: &Own) -> Option<()> {
    let firmware = all!(own, Firmware).next().cloned().unwrap_or_default();
    let (system, base) = (board(own, "system"), board(own, "baseboard"));
    let chassis = board(own, "chassis");
    told(check, "BMANUFACTURER", &firmware.vendor);
    told(check, "BVERSION", &firmware.version);
    told(check, "BDATE", &firmware.release_date);
    // Rule: for Lenovo it takes the version for the model.
    let lenovo = system.vendor.eq_ignore_ascii_case("lenovo");
    told(check, "SMODEL", if lenovo { &system.version } else { &system.product });
    told(check, "SMANUFACTURER", &system.vendor);
    told(check, "SKUNUMBER", &system.sku);
    // Rule: that of the chassis where the system has none.
    told(check, "SSN", if system.serial.is_empty() { &chassis.serial } else { &system.serial });
    told(check, "MMANUFACTURER", &base.vendor);
    told(check, "MMODEL", &base.product);
    told(check, "MSN", &base.serial);
    told(check, "ASSETTAG", &chassis.asset_tag);
    Some(())
}

fn processor(place: usize, check: &mut Check, own: &Own) -> Option<()> {
    // Rule: without `physical id` in cpuinfo it takes each thread for a processor
    // of one core.
    let counts_threads = place >= all!(own, Processor).count() || check.get("CORE") == "1";
    let one = all!(own, Processor).nth(place).or_else(|| all!(own, Processor).next())?;
    let maker = match one.vendor.as_str() {
        "GenuineIntel" => "Intel",
        "AuthenticAMD" => "AMD",
        "HygonGenuine" => "Hygon",
        other => other,
    };
    check.same("MANUFACTURER", maker);
    check.same("NAME", &one.model);
    let mut signature = one.signature.split('-');
    check.same("FAMILYNUMBER", signature.next().unwrap_or_default());
    check.same("MODEL", signature.next().unwrap_or_default());
    check.same("STEPPING", signature.next().unwrap_or_default());
    for (field, number) in [("CORE", one.cores), ("THREAD", one.threads)] {
        check.holds(field, &number.to_string(), |value| counts_threads || value == number.to_string());
    }
    Some(())
}

fn memory_module(check: &mut Check, own: &Own) -> Option<()> {
    let (locator, serial) = (check.get("CAPTION"), check.get("SERIALNUMBER"));
    let capacity: u64 = check.get("CAPACITY").parse().ok()?;
    let found: Vec<_> = all!(own, MemoryModule)
        .filter(|module| plain(&module.locator) == locator && module.size_bytes >> 20 == capacity)
        .collect();
    let one = *found.iter().find(|module| plain(&module.serial) == serial).or(found.first())?;
    check.same("CAPTION", &one.locator);
    check.same("CAPACITY", &(one.size_bytes >> 20));
    told(check, "DESCRIPTION", &one.form_factor);
    told(check, "TYPE", &one.r#type);
    check.same("SPEED", &one.speed_mts);
    told(check, "SERIALNUMBER", &one.serial);
    told(check, "MODEL", &one.part_number);
    // Rule: it knows some makers by their part numbers.
    check.holds("MANUFACTURER", &one.vendor, |value| {
        value == plain(&one.vendor) || value.split(' ').next() == one.vendor.split(' ').next()
    });
    check.holds("MEMORYCORRECTION", &one.ecc.to_string(), |value| match value {
        "Single-bit ECC" | "Multi-bit ECC" => one.ecc,
        "None" | "Parity" | "CRC" => !one.ecc,
        // Rule: it does not say, and we take the width.
        _ => true,
    });
    Some(())
}

/// The device in a slot. Rule: lspci leaves out the domain where there is one.
fn in_slot<'a>(own: &'a Own, slot: &str) -> Option<&'a PciDeviceDetails> {
    all!(own, PciDevice).find(|device| device.slot == slot || device.slot == format!("0000:{slot}"))
}

fn pci_device(check: &mut Check, own: &Own) -> Option<()> {
    let one = in_slot(own, check.get("PCISLOT"))?;
    check.found_by(&["PCISLOT"]);
    check.same("VENDORID", &one.vendor_id);
    check.same("PRODUCTID", &one.device_id);
    check.same("PCISUBSYSTEMID", &one.subsystem_id);
    check.same("PCICLASS", &one.class_id[..4]);
    check.same("REV", &one.revision);
    check.same("TYPE", &one.class);
    check.same("CAPTION", &one.product);
    check.same("MANUFACTURER", &one.vendor);
    // Rule: it cuts `virtio-pci` at the hyphen.
    check
        .one_of("DRIVER", &[one.driver.clone(), one.driver.split('-').next().unwrap_or_default().to_owned()]);
    Some(())
}

/// Sound cards and modems are PCI devices whose class or name says so.
fn pci_device_named(field: &'static str, check: &mut Check, own: &Own) -> Option<()> {
    let name = check.get(field);
    all!(own, PciDevice).find(|device| device.class == name || device.product.contains(name))?;
    check.found_by(&[field]);
    Some(())
}

fn usb_device(check: &mut Check, own: &Own) -> Option<()> {
    let (vendor, product) = (check.get("VENDORID").to_lowercase(), check.get("PRODUCTID").to_lowercase());
    // Rule: it takes a serial number's first word.
    let serial = check.get("SERIAL");
    let one = all!(own, UsbDevice).find(|device| {
        device.vendor_id == vendor && device.product_id == product && device.serial.starts_with(serial)
    })?;
    check.same("VENDORID", &one.vendor_id);
    check.same("PRODUCTID", &one.product_id);
    check.found_by(&["SERIAL"]);
    Some(())
}

fn disk(check: &mut Check, own: &Own) -> Option<()> {
    let (name, serial) = (check.get("NAME"), check.get("SERIALNUMBER"));
    // Rule: two paths to one disk are one disk, found by its serial number.
    let one = all!(own, Disk)
        .find(|disk| disk.device == name)
        .or_else(|| all!(own, Disk).find(|disk| !serial.is_empty() && plain(&disk.serial) == serial))?;
    check.found_by(&["NAME"]);
    let size = one.size_bytes / MB;
    check.holds("DISKSIZE", &size.to_string(), |value| {
        value.parse::<u64>().is_ok_and(|listed| listed.abs_diff(size) <= 1)
    });
    // Rule: it tells the maker by the model for ATA and where there is none, and
    // has the name for the number of a PCI vendor.
    let number = one.vendor.strip_prefix("0x").unwrap_or_default();
    let named: Vec<&str> = all!(own, PciDevice)
        .filter(|device| device.vendor_id == number)
        .map(|device| device.vendor.as_str())
        .collect();
    check.holds("MANUFACTURER", &format!("{}, {named:?}", one.vendor), |value| {
        ["", "ATA"].contains(&one.vendor.as_str()) || value == plain(&one.vendor) || named.contains(&value)
    });
    // Rule: where smartctl is there, its longer names are taken.
    let either = |value: &str, own: &str| value.contains(&plain(own)) || plain(own).contains(value);
    check.holds("MODEL", &one.model, |value| either(value, &one.model));
    check.holds("FIRMWARE", &one.firmware_version, |value| either(value, &one.firmware_version));
    check.holds("WWN", &one.wwn, |value| {
        let digits = |text: &str| text.to_lowercase().replace(|one: char| !one.is_ascii_alphanumeric(), "");
        digits(&one.wwn).ends_with(digits(value).trim_start_matches("0x"))
    });
    // Rule: for a disk without one it takes the partition table's or LVM's.
    check.holds("SERIALNUMBER", &one.serial, |value| one.serial.is_empty() || value == plain(&one.serial));
    Some(())
}

fn file_system(check: &mut Check, own: &Own) -> Option<()> {
    let one = all!(own, Filesystem).find(|one| one.mount_point == check.get("TYPE"))?;
    check.same("TYPE", &one.mount_point);
    check.same("VOLUMN", &one.source);
    check.same("FILESYSTEM", &one.r#type);
    check.same("TOTAL", &(one.size_bytes >> 20));
    // Rule: it reads the device, as root may. We ask what udev read there.
    let has_udev = std::fs::metadata("/run/udev/data").is_ok();
    for (field, own) in [("SERIAL", &one.uuid), ("LABEL", &one.label)] {
        check.holds(field, own, |value| !has_udev || value == plain(own));
    }
    Some(())
}

fn logical_volume(check: &mut Check, own: &Own) -> Option<()> {
    // Device mapper's UUID of it: `LVM-`, that of the group, its own, no hyphens.
    let digits = |field: &str| check.get(field).replace('-', "");
    let uuid = format!("LVM-{}{}", digits("VG_UUID"), digits("LV_UUID"));
    let one = all!(own, Volume).find(|volume| volume.uuid.starts_with(&uuid))?;
    check.found_by(&["LV_UUID", "VG_UUID"]);
    // Rule: brackets stand around those that LVM keeps for itself.
    check.holds("LV_NAME", &one.logical_volume, |value| value.trim_matches(['[', ']']) == one.logical_volume);
    check.same("SIZE", &(one.size_bytes / MB));
    Some(())
}

/// Name of an interface. Rule: ip(8) adds the other end, and the label of an
/// address may stand instead.
pub fn interface(listed: &str) -> &str {
    listed.split(['@', ':']).next().unwrap_or_default()
}

fn network_interface(check: &mut Check, own: &Own) -> Option<()> {
    let name = interface(check.get("DESCRIPTION"));
    let one = all!(own, NetworkInterface).find(|one| one.interface == name)?;
    check.found_by(&["DESCRIPTION"]);
    check.holds("MACADDR", &one.mac_address, |value| match one.r#type.as_str() {
        // Rule: the loopback's address of zeros is none.
        "loopback" => value == "00:00:00:00:00:00",
        // Rule: for a port of a bond it asks for the permanent one.
        _ => value.eq_ignore_ascii_case(&one.mac_address) || !one.controller.is_empty(),
    });
    addresses(check, one);
    check.same("MTU", &one.mtu);
    // Rule: it says whether an interface is wanted up, and we whether it is.
    check.holds("STATUS", &one.operational_state, |value| value == "Up" || one.operational_state == "down");
    // Rule: zero and less are no speed.
    check.holds("SPEED", &one.speed_mbps.to_string(), |value| {
        value.parse::<i64>().is_ok_and(|speed| speed <= 0) || value == one.speed_mbps.to_string()
    });
    check.holds("TYPE", &one.r#type, |value| match value {
        "ethernet" | "wifi" | "infiniband" => one.r#type == "physical",
        "aggregate" => one.r#type == "bond",
        // Rule: for these it only looks at the name.
        "alias" | "dialup" => true,
        other => other == one.r#type,
    });
    let is_virtual = one.r#type != "physical";
    check.same("VIRTUALDEV", &u8::from(is_virtual));
    check.same("DRIVER", &one.driver);
    check.same("PCISLOT", &one.pci_slot);
    let ids = in_slot(own, &one.pci_slot)
        .map(|device| format!("{}:{}:{}", device.vendor_id, device.device_id, device.subsystem_id))
        .unwrap_or_default();
    check.holds("PCIID", &ids, |value| value.eq_ignore_ascii_case(&ids));
    check.holds("SLAVES", &one.ports.join(","), |value| {
        value.split(',').all(|port| one.ports.iter().any(|own| own == port))
    });
    // Rule: of an address with a label it is the interface.
    check.holds("BASE", &one.parent, |value| value == one.parent || value == one.interface);
    check.one_of("IPGATEWAY", &all!(own, Route).map(|route| route.gateway.clone()).collect::<Vec<_>>());
    Some(())
}

fn addresses(check: &mut Check, one: &NetworkInterfaceDetails) {
    let shown = one.addresses.join(", ");
    let parts = || one.addresses.iter().filter_map(|address| address.split_once('/'));
    for field in ["IPADDRESS", "IPADDRESS6"] {
        check.holds(field, &shown, |value| parts().any(|(address, _)| address == value));
    }
    check.found_by(&["IPMASK", "IPMASK6"]);
    let prefix = |address: &str| parts().find(|(own, _)| *own == address)?.1.parse::<u32>().ok();
    if let Some(bits) = prefix(check.get("IPADDRESS")) {
        check.same("IPMASK", &Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0)));
    }
    if let Some(bits) = prefix(check.get("IPADDRESS6")) {
        let mask = Ipv6Addr::from(u128::MAX.checked_shl(128 - bits).unwrap_or(0));
        // Rule: of 128 bits it reads the first two digits, and miscounts.
        check.holds("IPMASK6", &mask.to_string(), |value| bits >= 100 || value == mask.to_string());
    }
}

fn package(check: &mut Check, own: &Own) -> Option<()> {
    let manager = if check.get("FROM") == "deb" { "dpkg" } else { "rpm" };
    let (name, architecture) = (check.get("NAME"), check.get("ARCH"));
    let version = check.get("VERSION");
    // Rule: it asks rpm for no epoch. Several versions of one may be installed.
    let is_version = |own: &str| own == version || manager == "rpm" && own.ends_with(&format!(":{version}"));
    let ours = || {
        all!(own, Package).filter(|one| {
            one.manager == manager
                && one.package == name
                && (one.architecture == architecture || architecture.is_empty())
        })
    };
    let one = ours().find(|one| is_version(&one.version)).or_else(|| ours().next())?;
    check.found_by(&["NAME", "ARCH", "FROM"]);
    check.holds("VERSION", &one.version, |_| is_version(&one.version));
    check.same("FILESIZE", &one.installed_size_bytes);
    // Rule: what rpm does not have, it calls `(none)`.
    for (field, own) in [("SYSTEM_CATEGORY", &one.section), ("COMMENTS", &one.summary)] {
        check.holds(field, own, |value| value == plain(own) || value == "(none)");
    }
    Some(())
}

fn user(check: &mut Check, own: &Own) -> Option<()> {
    let one = all!(own, User).find(|user| user.user == check.get("LOGIN"))?;
    check.same("LOGIN", &one.user);
    check.same("ID", &one.uid);
    check.same("HOME", &one.home);
    check.same("SHELL", &one.shell);
    Some(())
}

fn group(check: &mut Check, own: &Own) -> Option<()> {
    let one = all!(own, Group).find(|group| group.group == check.get("NAME"))?;
    check.same("NAME", &one.group);
    check.same("ID", &one.gid);
    check.one_of("MEMBER", &one.members);
    Some(())
}
