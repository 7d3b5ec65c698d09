use super::*;
use contracts::v1::{DiskDetails, KernelModuleDetails, ListeningSocketDetails};
use std::collections::BTreeSet;

fn assets() -> Vec<ScannedAsset> {
    let node = NodeDetails {
        hostname: "worker-7".into(),
        os_id: "debian".into(),
        os_version: "12".into(),
        os_name: "Debian 12".into(),
        ..NodeDetails::default()
    };
    let package = PackageDetails {
        package: "bash".into(),
        version: "5.2-1".into(),
        architecture: "amd64".into(),
        manager: "dpkg".into(),
        license: "MIT".into(),
        homepage: "https://example.org/bash".into(),
        ..PackageDetails::default()
    };
    let odd = PackageDetails { homepage: "see README".into(), version: String::new(), ..package.clone() };
    let digest = format!("sha256:{}", "ab".repeat(32));
    let image = ContainerImageDetails {
        digest: digest.clone(),
        tags: vec!["registry:5000/team/app:1".into(), "app:latest".into()],
        ..ContainerImageDetails::default()
    };
    let firmware = FirmwareDetails { vendor: "Maker".into(), version: "1.2".into(), ..Default::default() };
    let disk = DiskDetails { vendor: "V".into(), model: "M".into(), size_bytes: 512, ..Default::default() };
    let module = KernelModuleDetails { module: "ext4".into(), ..Default::default() };
    vec![
        ScannedAsset::new("node", "worker-7", Details::Node(node)),
        ScannedAsset::new("dpkg/bash:amd64", "bash", Details::Package(package.clone())),
        ScannedAsset::new("dpkg/bash:amd64", "bash", Details::Package(package)),
        ScannedAsset::new("dpkg/odd:amd64", "odd", Details::Package(odd)),
        ScannedAsset::new(digest, "app", Details::ContainerImage(image)),
        ScannedAsset::new("firmware", "BIOS", Details::Firmware(firmware)),
        ScannedAsset::new("sda", "sda", Details::Disk(disk)),
        ScannedAsset::new("ext4", "ext4", Details::KernelModule(module)),
        ScannedAsset::new("tcp/x", "x", Details::ListeningSocket(ListeningSocketDetails::default())),
    ]
}

#[test]
fn every_part_is_there_once_and_always_the_same() {
    let one = bill(&assets(), true, "urn:uuid:x", "t");
    let mut reversed = assets();
    reversed[3..].reverse();
    assert_eq!(one, bill(&reversed, true, "urn:uuid:x", "t"));
    let components = one["components"].as_array().unwrap();
    let kinds: Vec<(&str, &str)> = components
        .iter()
        .map(|component| (component["type"].as_str().unwrap(), component["name"].as_str().unwrap()))
        .collect();
    let expected = [
        ("container", "registry:5000/team/app"),
        ("device", "M"),
        ("firmware", "BIOS"),
        ("device-driver", "ext4"),
        ("operating-system", "debian"),
        ("library", "bash"),
        ("library", "bash"),
    ];
    assert_eq!(kinds, expected);
    let references: BTreeSet<&str> =
        components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
    assert_eq!(references.len(), components.len());
    assert_eq!(one["metadata"]["component"]["name"], "worker-7");
    assert_eq!(components[5]["purl"], "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12");
    assert_eq!(components[5]["externalReferences"][0]["url"], "https://example.org/bash");
    assert!(components[6].get("externalReferences").is_none());
    assert_eq!(components[0]["hashes"][0]["content"], "ab".repeat(32));
}

#[test]
fn what_could_not_be_looked_at_makes_it_incomplete() {
    let bill = bill(&[], false, "urn:uuid:x", "t");
    assert_eq!(bill["compositions"][0]["aggregate"], "incomplete");
    assert_eq!(bill["components"], json!([]));
}

#[test]
fn serial_numbers_are_never_the_same() {
    let serial = || {
        let mut out = Vec::new();
        write(&mut out, &assets(), true).unwrap();
        let bill: Value = serde_json::from_slice(&out).unwrap();
        bill["serialNumber"].as_str().unwrap().to_owned()
    };
    let one = serial();
    assert_ne!(one, serial());
    assert!(one.starts_with("urn:uuid:"));
}
