//! A simulated node itself, and what it is made of.

use contracts::v1::{
    AssetKind, DiskDetails, FilesystemDetails, FirmwareDetails, MemoryModuleDetails, NetworkInterfaceDetails,
    NodeDetails, Partition, PciDeviceDetails, ProcessorDetails, RelationType, RouteDetails,
    asset_details::Details,
};

use super::{Asset, Place};

const MODELS: [(&str, &str); 4] = [
    ("Samsung", "PM9A3 1.92TB"),
    ("Intel", "SSDPE2KX010T8"),
    ("Seagate", "ST4000NM000A"),
    ("Micron", "7450 MTFDKCC3T8TFR"),
];
const GIB: u64 = 1 << 30;

/// Name of a node for people.
pub fn node_name(number: u32) -> String {
    format!("sim-{number:05}")
}

pub(super) fn node(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let sockets = dice.below(2) + 1;
    let details = NodeDetails {
        hostname: node_name(place.node),
        boot_id: Place { number: revision, ..place }.dice().uuid().to_string(),
        os_name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        os_id: "debian".to_owned(),
        os_version: "12".to_owned(),
        kernel_release: format!("6.1.0-{}-amd64", 18 + revision),
        architecture: "x86_64".to_owned(),
        cpu_model: "AMD EPYC 9354P 32-Core Processor".to_owned(),
        cpu_sockets: sockets,
        cpu_cores: sockets * 32,
        cpu_threads: sockets * 64,
        memory_bytes: u64::from(sockets) * 256 * GIB,
        virtualization: "none".to_owned(),
        vendor: "Supermicro".to_owned(),
        product: "AS-1115CS-TNR".to_owned(),
        time_zone: "Etc/UTC".to_owned(),
        kubernetes_node_name: node_name(place.node),
        init: "systemd".to_owned(),
        ..NodeDetails::default()
    };
    Asset::new("node", details.hostname.clone(), Details::Node(details))
}

pub(super) fn disk(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let device = format!("/dev/nvme{}n1", place.number);
    let (vendor, model) = dice.pick(&MODELS);
    let serial = format!("S{:014X}", dice.roll() >> 8);
    let size = u64::from(dice.below(4) + 1) * 960 * 1_000_000_000;
    let partition = |number: u32| Partition {
        device: format!("{device}p{number}"),
        number,
        start_bytes: u64::from(number) * GIB,
        size_bytes: size / 4,
        uuid: Place { number: place.number * 8 + number, ..place }.dice().uuid().to_string(),
        ..Partition::default()
    };
    let details = DiskDetails {
        vendor: vendor.to_owned(),
        model: model.to_owned(),
        wwn: format!("eui.{:016x}", dice.roll()),
        size_bytes: size,
        transport: "nvme".to_owned(),
        firmware_version: format!("GDC7{revision:04}"),
        physical_block_bytes: 4096,
        partitions: (1..=dice.below(3)).map(partition).collect(),
        serial: serial.clone(),
        device: device.clone(),
        ..DiskDetails::default()
    };
    Asset::new(format!("serial/{serial}"), device, Details::Disk(details))
}

pub(super) fn filesystem(place: Place, revision: u32) -> Asset {
    let mount_point = if place.number == 0 { "/".to_owned() } else { format!("/srv/data-{}", place.number) };
    let device = format!("/dev/mapper/vg0-data{}", place.number);
    let mut options = vec!["rw".to_owned(), "relatime".to_owned()];
    options.push(format!("commit={}", 5 + revision));
    let details = FilesystemDetails {
        source: device,
        r#type: "ext4".to_owned(),
        root: "/".to_owned(),
        size_bytes: u64::from(place.dice().below(500) + 1) * GIB,
        uuid: place.dice().uuid().to_string(),
        mount_point: mount_point.clone(),
        options,
        ..FilesystemDetails::default()
    };
    Asset::new(mount_point.clone(), mount_point, Details::Filesystem(details))
}

pub(super) fn interface(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let interface =
        if place.number < 2 { format!("eno{}", place.number + 1) } else { format!("veth{}", place.number) };
    let mac = dice.roll().to_be_bytes();
    let octets: Vec<String> = mac[2..8].iter().map(|octet| format!("{octet:02x}")).collect();
    let details = NetworkInterfaceDetails {
        mac_address: octets.join(":"),
        mtu: if place.number < 2 { 9000 } else { 1450 },
        operational_state: if revision.is_multiple_of(2) { "up" } else { "down" }.to_owned(),
        r#type: if place.number < 2 { "ethernet" } else { "veth" }.to_owned(),
        driver: if place.number < 2 { "mlx5_core" } else { "veth" }.to_owned(),
        speed_mbps: if place.number < 2 { 25_000 } else { 10_000 },
        addresses: vec![format!("10.{}.{}.{}/24", dice.below(256), dice.below(256), revision % 250 + 1)],
        interface: interface.clone(),
        ..NetworkInterfaceDetails::default()
    };
    Asset::new(interface.clone(), interface, Details::NetworkInterface(details))
}

pub(super) fn route(place: Place, revision: u32) -> Asset {
    let destination = match place.number {
        0 => "default".to_owned(),
        number => format!("10.{}.{}.0/24", number / 256 % 256, number % 256),
    };
    let details = RouteDetails {
        family: "ipv4".to_owned(),
        gateway: format!("10.0.0.{}", revision % 250 + 1),
        interface: "eno1".to_owned(),
        metric: 100,
        r#type: "unicast".to_owned(),
        destination: destination.clone(),
    };
    Asset::new(format!("{destination} eno1 100"), destination, Details::Route(details))
}

pub(super) fn pci_device(place: Place, revision: u32) -> Asset {
    let slot =
        format!("0000:{:02x}:{:02x}.{}", place.number / 256 % 256, place.number / 8 % 32, place.number % 8);
    let details = PciDeviceDetails {
        vendor_id: "15b3".to_owned(),
        device_id: "101d".to_owned(),
        vendor: "Mellanox Technologies".to_owned(),
        product: "MT2892 Family [ConnectX-6 Dx]".to_owned(),
        class_id: "020000".to_owned(),
        class: "Ethernet controller".to_owned(),
        driver: if revision.is_multiple_of(2) { "mlx5_core" } else { "vfio-pci" }.to_owned(),
        revision: format!("{:02x}", revision % 256),
        numa_node: Some(place.dice().below(2)),
        slot: slot.clone(),
        ..PciDeviceDetails::default()
    };
    Asset::new(slot.clone(), slot, Details::PciDevice(details))
}

pub(super) fn memory_module(place: Place, revision: u32) -> Asset {
    let locator = format!("DIMM_{}", place.number);
    let bank = format!("P{}_Node0_Channel{}", place.number / 12, place.number % 12);
    let details = MemoryModuleDetails {
        size_bytes: 32 * GIB,
        r#type: "DDR5".to_owned(),
        form_factor: "DIMM".to_owned(),
        speed_mts: 4800,
        configured_speed_mts: 4800 - revision % 4 * 400,
        vendor: "Samsung".to_owned(),
        part_number: "M321R4GA3BB6-CQKVG".to_owned(),
        serial: format!(
            "{:08X}",
            Place { number: place.number ^ (revision << 16), ..place }.dice().roll() >> 32
        ),
        ecc: true,
        locator: locator.clone(),
        bank: bank.clone(),
    };
    Asset::new(format!("{bank}/{locator}"), locator, Details::MemoryModule(details))
}

pub(super) fn processor(place: Place, revision: u32) -> Asset {
    const FLAGS: [&str; 12] =
        ["fpu", "sse4_2", "avx", "avx2", "aes", "sha_ni", "rdrand", "vaes", "svm", "nx", "smep", "smap"];
    let details = ProcessorDetails {
        socket: place.number,
        vendor: "AuthenticAMD".to_owned(),
        model: "AMD EPYC 9354P 32-Core Processor".to_owned(),
        signature: "family 25 model 17 stepping 1".to_owned(),
        cores: 32,
        threads: 64,
        max_mhz: 3799,
        microcode: format!("0xa10113{revision:x}"),
        flags: FLAGS.map(str::to_owned).to_vec(),
        architecture: "x86_64".to_owned(),
        ..ProcessorDetails::default()
    };
    let key = format!("socket/{}", place.number);
    Asset::new(key, details.model.clone(), Details::Processor(details)).related(
        RelationType::PartOf,
        AssetKind::Node,
        "node",
    )
}

pub(super) fn firmware(_: Place, revision: u32) -> Asset {
    let details = FirmwareDetails {
        vendor: "American Megatrends International, LLC.".to_owned(),
        version: format!("1.{revision}"),
        release_date: "2026-01-15".to_owned(),
        boot_mode: "uefi".to_owned(),
        tpm_version: "2.0".to_owned(),
        ..FirmwareDetails::default()
    };
    Asset::new("firmware", "American Megatrends International, LLC.", Details::Firmware(details))
}
