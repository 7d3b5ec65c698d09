//! A bill of materials in the form of CycloneDX 1.6 (ECMA-424), JSON: what this
//! node is made of. But for its serial number and time it is the same as long as
//! the node is.

mod licence;
mod purl;

use std::collections::BTreeMap;
use std::io::Write;

use contracts::v1::{
    ContainerImageDetails, FirmwareDetails, NodeDetails, PackageDetails, asset_details::Details,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::purl::Distribution;
use super::InventoryError;
use crate::asset::ScannedAsset;

const NODE_REFERENCE: &str = "node";

/// Writes the bill of materials; `complete` says whether all probes succeeded.
pub(super) fn write(
    out: &mut impl Write,
    assets: &[ScannedAsset],
    complete: bool,
) -> Result<(), InventoryError> {
    let serial = format!("urn:uuid:{}", Uuid::new_v4());
    let bill = bill(assets, complete, &serial, &kit::time::now().to_string());
    serde_json::to_writer_pretty(&mut *out, &bill)
        .map_err(|error| InventoryError::Json(error.to_string()))?;
    writeln!(out)?;
    Ok(())
}

fn bill(assets: &[ScannedAsset], complete: bool, serial: &str, time: &str) -> Value {
    let node = assets.iter().find_map(|asset| match &asset.details {
        Details::Node(node) => Some(node.clone()),
        _ => None,
    });
    let node = node.unwrap_or_default();
    let distribution = Distribution { id: node.os_id.clone(), version: node.os_version.clone() };
    // By reference: sorted, and each once.
    let mut components = BTreeMap::new();
    for asset in assets {
        if let Some(component) = component(asset, &distribution) {
            components.entry(component.reference()).or_insert(component);
        }
    }
    if let Some(system) = operating_system(&node) {
        components.insert(system.reference(), system);
    }
    // What could not be looked at is missing; else nobody knows what is.
    let aggregate = if complete { "unknown" } else { "incomplete" };
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial,
        "version": 1,
        "metadata": {
            "timestamp": time,
            "lifecycles": [{"phase": "operations"}],
            "tools": {"components": [{
                "type": "application",
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": node_component(&node).0,
        },
        "components": components.into_values().map(|component| component.0).collect::<Vec<_>>(),
        "compositions": [{"aggregate": aggregate, "assemblies": [NODE_REFERENCE]}],
    })
}

/// One component.
struct Component(Map<String, Value>);

impl Component {
    fn new(kind: &str, reference: impl Into<String>, name: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("type".to_owned(), kind.into());
        fields.insert("bom-ref".to_owned(), reference.into().into());
        fields.insert("name".to_owned(), name.into());
        Self(fields)
    }

    fn reference(&self) -> String {
        self.0["bom-ref"].as_str().unwrap_or_default().to_owned()
    }

    /// A field, unless it would be empty.
    fn text(mut self, field: &str, text: &str) -> Self {
        if !text.is_empty() {
            self.0.insert(field.to_owned(), text.into());
        }
        self
    }

    fn value(mut self, field: &str, value: Option<Value>) -> Self {
        self.0.extend(value.map(|value| (field.to_owned(), value)));
        self
    }

    fn manufacturer(self, name: &str) -> Self {
        let manufacturer = (!name.is_empty()).then(|| json!({"name": name}));
        self.value("manufacturer", manufacturer)
    }

    /// What CycloneDX has no field for.
    fn property(mut self, name: &str, text: &str) -> Self {
        if !text.is_empty() {
            let properties = self.0.entry("properties").or_insert_with(|| json!([]));
            if let Value::Array(properties) = properties {
                properties.push(json!({"name": format!("assettrack:{name}"), "value": text}));
            }
        }
        self
    }
}

fn node_component(node: &NodeDetails) -> Component {
    let name = if node.hostname.is_empty() { "node" } else { &node.hostname };
    Component::new("device", NODE_REFERENCE, name)
        .manufacturer(&node.vendor)
        .property("model", &node.product)
        .property("operatingSystem", &node.os_name)
        .property("kernelRelease", &node.kernel_release)
        .property("architecture", &node.architecture)
        .property("virtualization", &node.virtualization)
}

fn operating_system(node: &NodeDetails) -> Option<Component> {
    let name = [&node.os_id, &node.os_name].into_iter().find(|name| !name.is_empty())?;
    let system = Component::new("operating-system", "operating-system", name)
        .text("version", &node.os_version)
        .text("description", &node.os_name);
    Some(system.property("kernelRelease", &node.kernel_release))
}

/// What of an asset belongs into a bill of materials: software that is installed,
/// firmware and hardware; not what is set or runs.
fn component(asset: &ScannedAsset, distribution: &Distribution) -> Option<Component> {
    let kind = asset.kind().as_str_name().trim_start_matches("ASSET_KIND_").to_lowercase();
    let reference = format!("{kind}:{}", asset.natural_key);
    let device = |vendor: &str, model: &str| {
        let name = if model.is_empty() { &asset.display_name } else { model };
        Component::new("device", &reference, name).manufacturer(vendor).property("kind", &kind)
    };
    let bytes = |size: u64| if size == 0 { String::new() } else { size.to_string() };
    Some(match &asset.details {
        Details::Package(package) => of_package(&reference, package, distribution),
        Details::ContainerImage(image) => of_image(&reference, &asset.display_name, image),
        Details::Firmware(firmware) => of_firmware(&reference, &asset.display_name, firmware),
        Details::KernelModule(module) => {
            Component::new("device-driver", &reference, &module.module).text("version", &module.version)
        }
        Details::Board(board) => device(&board.vendor, &board.product)
            .text("version", &board.version)
            .property("type", &board.r#type)
            .property("serialNumber", &board.serial),
        Details::Processor(processor) => device(&processor.vendor, &processor.model)
            .property("signature", &processor.signature)
            .property("microcode", &processor.microcode),
        Details::MemoryModule(memory) => device(&memory.vendor, &memory.part_number)
            .property("type", &memory.r#type)
            .property("locator", &memory.locator)
            .property("sizeBytes", &bytes(memory.size_bytes))
            .property("serialNumber", &memory.serial),
        Details::Disk(disk) => device(&disk.vendor, &disk.model)
            .property("sizeBytes", &bytes(disk.size_bytes))
            .property("serialNumber", &disk.serial),
        Details::PciDevice(pci) => device(&pci.vendor, &pci.product)
            .property("id", &format!("{}:{}", pci.vendor_id, pci.device_id))
            .property("class", &pci.class)
            .property("slot", &pci.slot),
        Details::UsbDevice(usb) => device(&usb.vendor, &usb.product)
            .property("id", &format!("{}:{}", usb.vendor_id, usb.product_id))
            .property("class", &usb.class)
            .property("serialNumber", &usb.serial),
        Details::Accelerator(accelerator) => device(&accelerator.vendor, &accelerator.product)
            .property("type", &accelerator.r#type)
            .property("driverVersion", &accelerator.driver_version),
        _ => return None,
    })
}

fn of_package(reference: &str, package: &PackageDetails, distribution: &Distribution) -> Component {
    // The schema wants a URL as others can resolve it.
    let homepage = &package.homepage;
    let is_url = ["http://", "https://"].iter().any(|scheme| homepage.starts_with(scheme))
        && homepage.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`[]".contains(&byte));
    let website = is_url.then(|| json!([{"type": "website", "url": homepage}]));
    Component::new("library", reference, &package.package)
        .text("version", &package.version)
        .text("publisher", &package.maintainer)
        .text("description", &package.summary)
        .value("licenses", licence::licences(&package.license))
        .value("purl", purl::of_package(package, distribution).map(Value::from))
        .value("externalReferences", website)
        .property("architecture", &package.architecture)
        .property("source", &package.source)
        .property("sourceVersion", &package.source_version)
        .property("status", &package.status)
}

fn of_image(reference: &str, name: &str, image: &ContainerImageDetails) -> Component {
    // A name without tag or digest: the tag's colon comes after the last slash.
    let repository = image.repo_digests.first().and_then(|name| name.split('@').next()).or_else(|| {
        let tag = image.tags.first()?;
        let slash = tag.rfind('/').map_or(0, |slash| slash + 1);
        Some(tag[slash..].find(':').map_or(tag.as_str(), |colon| &tag[..slash + colon]))
    });
    let hash = image
        .digest
        .strip_prefix("sha256:")
        .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let purl = repository.map(|repository| purl::of_image(repository, &image.digest).into());
    let mut component = Component::new("container", reference, repository.unwrap_or(name))
        .text("version", &image.digest)
        .value("hashes", hash.map(|hash| json!([{"alg": "SHA-256", "content": hash}])))
        .value("purl", purl);
    for tag in &image.tags {
        component = component.property("tag", tag);
    }
    component
}

fn of_firmware(reference: &str, name: &str, firmware: &FirmwareDetails) -> Component {
    Component::new("firmware", reference, name)
        .text("version", &firmware.version)
        .manufacturer(&firmware.vendor)
        .property("releaseDate", &firmware.release_date)
        .property("bootMode", &firmware.boot_mode)
}

#[cfg(test)]
mod tests;
