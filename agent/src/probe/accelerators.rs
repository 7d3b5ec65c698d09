//! GPUs and other accelerators: PCI devices of the classes "display controller",
//! "processing accelerators" and "co-processor", with the nodes in /dev that
//! their drivers make. The display of a server's management controller is one,
//! too: its class does not tell it apart.

use contracts::v1::{AcceleratorDetails, AssetKind, RelationType, asset_details::Details};

use super::pci::{self, Device};
use super::sysfs::{attribute, link_name, names, number};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

const NVIDIA: &str = "proc/driver/nvidia";

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut devices = pci::devices(host)?;
    devices.retain(|device| accelerator_type(device).is_some());
    let list = pci::names(host, &devices)?;
    let mut scan = Scan::default();
    for device in devices {
        let folder = device.folder();
        let information = attribute(host, &format!("{NVIDIA}/gpus/{}/information", device.slot))?;
        let mut product = list.product(device.vendor, device.product);
        if product.is_empty() {
            product = nvidia_field(&information, "Model").to_owned();
        }
        let driver = link_name(host, &format!("{folder}/driver"))?;
        let details = AcceleratorDetails {
            r#type: accelerator_type(&device).unwrap_or_default().to_owned(),
            vendor: device.maker(&list),
            product,
            pci_slot: device.slot.clone(),
            driver_version: driver_version(host, &folder, &driver)?,
            driver,
            memory_bytes: memory_bytes(host, &folder)?,
            device_nodes: device_nodes(host, &folder, &information)?,
        };
        let name = device.display_name(&details.vendor, &details.product);
        let asset = ScannedAsset::new(device.slot.clone(), name, Details::Accelerator(details));
        scan.assets.push(asset.related(RelationType::AttachedTo, AssetKind::PciDevice, device.slot));
    }
    Ok(scan)
}

/// `None` for what is no accelerator.
fn accelerator_type(device: &Device) -> Option<&'static str> {
    match (device.subclass() >> 8, device.subclass()) {
        (0x03, _) => Some("gpu"),
        (0x12, _) => Some("processing accelerator"),
        (_, 0x0b40) => Some("co-processor"),
        _ => None,
    }
}

/// What the driver's module states; drivers of the kernel itself state nothing,
/// as they have its version.
fn driver_version(host: &HostRoot, folder: &str, driver: &str) -> Result<String, ProbeError> {
    if driver.is_empty() {
        return Ok(String::new());
    }
    // A driver need not have the name of its module.
    let module = match link_name(host, &format!("{folder}/driver/module"))? {
        module if module.is_empty() => driver.to_owned(),
        module => module,
    };
    let version = attribute(host, &format!("sys/module/{module}/version"))?;
    if version.is_empty() && driver == "nvidia" {
        return Ok(nvidia_version(&attribute(host, &format!("{NVIDIA}/version"))?));
    }
    Ok(version)
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug …`: the
/// first word that is numbers and dots.
fn nvidia_version(text: &str) -> String {
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let line = text.lines().find(|line| line.starts_with("NVRM version:")).unwrap_or_default();
    line.split_whitespace().find(is_version).unwrap_or_default().to_owned()
}

/// A field of `/proc/driver/nvidia/gpus/SLOT/information`; empty without it.
fn nvidia_field<'a>(information: &'a str, field: &str) -> &'a str {
    let of_field = |line: &'a str| line.split_once(':').filter(|(name, _)| name.trim() == field);
    information.lines().find_map(of_field).map_or("", |(_, value)| value.trim())
}

/// Where sysfs states it: amdgpu for its device, i915 for the card.
fn memory_bytes(host: &HostRoot, folder: &str) -> Result<u64, ProbeError> {
    if let Some(bytes) = number(host, &format!("{folder}/mem_info_vram_total"))? {
        return Ok(bytes);
    }
    for card in names(host, &format!("{folder}/drm"))? {
        if let Some(bytes) = number(host, &format!("{folder}/drm/{card}/lmem_total_bytes"))? {
            return Ok(bytes);
        }
    }
    Ok(0)
}

fn device_nodes(host: &HostRoot, folder: &str, information: &str) -> Result<Vec<String>, ProbeError> {
    let mut nodes = Vec::new();
    for (class, below) in [("drm", "/dev/dri"), ("accel", "/dev/accel")] {
        for name in names(host, &format!("{folder}/{class}"))? {
            // Beside the devices there may be links of old forms.
            let is_device = ["card", "renderD", "accel"]
                .iter()
                .any(|prefix| name.strip_prefix(prefix).is_some_and(|number| number.parse::<u32>().is_ok()));
            if is_device {
                nodes.push(format!("{below}/{name}"));
            }
        }
    }
    if let Ok(minor) = nvidia_field(information, "Device Minor").parse::<u32>() {
        nodes.push(format!("/dev/nvidia{minor}"));
    }
    nodes.sort();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::pci::tree::add_device;
    use std::fs;
    use std::path::Path;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn accelerators(root: &Path) -> Vec<(ScannedAsset, AcceleratorDetails)> {
        let scan = scan(&HostRoot::new(root).unwrap()).unwrap();
        let accelerator = |asset: ScannedAsset| match asset.details.clone() {
            Details::Accelerator(accelerator) => (asset, accelerator),
            other => panic!("no accelerator: {other:?}"),
        };
        scan.assets.into_iter().map(accelerator).collect()
    }

    #[test]
    fn an_nvidia_gpu_is_told_by_its_driver() {
        let root = tempfile::tempdir().unwrap();
        let gpu = [
            ("vendor", "0x10de"),
            ("device", "0x20b2"),
            ("class", "0x030200"),
            ("driver@", "../../../bus/pci/drivers/nvidia"),
            ("drm/card1/dev", "226:1"),
            ("drm/renderD128/dev", "226:128"),
        ];
        add_device(root.path(), "0000:41:00.0", &gpu);
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n\
            GCC version:  gcc version 11.4.0\n";
        write(root.path(), "proc/driver/nvidia/version", version);
        let information =
            "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 123\nDevice Minor: \t 3\nGPU UUID: \t GPU-1\n";
        write(root.path(), "proc/driver/nvidia/gpus/0000:41:00.0/information", information);
        let (asset, found) = accelerators(root.path()).remove(0);
        let expected = AcceleratorDetails {
            r#type: "gpu".into(),
            vendor: "NVIDIA Corporation".into(),
            product: "NVIDIA A100-SXM4-80GB".into(),
            pci_slot: "0000:41:00.0".into(),
            driver: "nvidia".into(),
            driver_version: "535.104.05".into(),
            memory_bytes: 0,
            device_nodes: vec!["/dev/dri/card1".into(), "/dev/dri/renderD128".into(), "/dev/nvidia3".into()],
        };
        assert_eq!(found, expected);
        assert_eq!(asset.natural_key, "0000:41:00.0");
        assert_eq!(asset.relations[0].kind(), AssetKind::PciDevice);
        write(root.path(), "sys/module/nvidia/version", "550.54.14\n");
        assert_eq!(accelerators(root.path())[0].1.driver_version, "550.54.14");
    }

    #[test]
    fn others_are_told_by_sysfs() {
        let root = tempfile::tempdir().unwrap();
        let amd = [
            ("vendor", "0x1002"),
            ("device", "0x740c"),
            ("class", "0x120000"),
            ("mem_info_vram_total", "68702699520"),
            ("drm/card0/dev", "226:0"),
            ("drm/version", "1"),
        ];
        add_device(root.path(), "0000:01:00.0", &amd);
        let intel = [
            ("vendor", "0x8086"),
            ("device", "0x56c0"),
            ("class", "0x038000"),
            ("drm/card2/lmem_total_bytes", "17179869184"),
        ];
        add_device(root.path(), "0000:02:00.0", &intel);
        let crypto = [("vendor", "0x8086"), ("device", "0x4940"), ("class", "0x0b4000")];
        add_device(root.path(), "0000:03:00.0", &crypto);
        let habana = [
            ("vendor", "0x1da3"),
            ("device", "0x1020"),
            ("class", "0x120000"),
            ("accel/accel0/dev", "261:0"),
        ];
        add_device(root.path(), "0000:04:00.0", &habana);
        add_device(
            root.path(),
            "0000:05:00.0",
            &[("vendor", "0x8086"), ("device", "0x1"), ("class", "0x020000")],
        );
        let found: Vec<_> = accelerators(root.path())
            .into_iter()
            .map(|(_, one)| (one.r#type, one.memory_bytes, one.device_nodes.join(" ")))
            .collect();
        let expected = [
            ("processing accelerator", 68_702_699_520, "/dev/dri/card0"),
            ("gpu", 17_179_869_184, "/dev/dri/card2"),
            ("co-processor", 0, ""),
            ("processing accelerator", 0, "/dev/accel/accel0"),
        ];
        assert_eq!(found, expected.map(|(kind, bytes, nodes)| (kind.to_owned(), bytes, nodes.to_owned())));
    }
}
