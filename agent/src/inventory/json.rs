//! An array of assets, as the REST interface has them. Written by the fields that
//! the contracts know at compile time: by descriptor it took half of a scan.

use std::io::Write;

use contracts::json::{JsonObject, Name};
use contracts::v1::{AssetDetails, AssetState};
use kit::json::{Object, Style};

use super::{InventoryError, workers};
use crate::asset::ScannedAsset;

/// An array of `Asset` in ProtoJSON, one a line.
pub(super) fn write(out: &mut impl Write, mut assets: Vec<ScannedAsset>) -> Result<(), InventoryError> {
    if assets.is_empty() {
        return Ok(writeln!(out, "[]")?);
    }
    let each = assets.len().div_ceil(workers());
    let texts = std::thread::scope(|scope| {
        let mut rendering = Vec::new();
        while !assets.is_empty() {
            let rest = assets.split_off(each.min(assets.len()));
            let part = std::mem::replace(&mut assets, rest);
            rendering.push(scope.spawn(|| render(part)));
        }
        rendering.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut separator = "[\n";
    for text in texts {
        let text = text.map_err(|_| InventoryError::Json("a thread panicked".to_owned()))?;
        out.write_all(separator.as_bytes())?;
        out.write_all(text.as_bytes())?;
        separator = ",\n";
    }
    Ok(writeln!(out, "\n]")?)
}

/// Of one asset, so that the text need not be moved as it grows.
const USUAL_BYTES: usize = 512;

/// Objects, separated by commas.
fn render(assets: Vec<ScannedAsset>) -> String {
    let mut text = String::with_capacity(assets.len() * USUAL_BYTES);
    for asset in assets {
        if !text.is_empty() {
            text.push_str(",\n");
        }
        let mut object = Object::begin(&mut text, Style::ProtoJson);
        let name = |json| Name { json, proto: json };
        object.word(name("kind"), asset.kind() as i32, Some(asset.kind().as_str_name()));
        object.text(name("displayName"), &asset.display_name);
        object.text(name("naturalKey"), &asset.natural_key);
        object.word(name("state"), AssetState::Active as i32, Some(AssetState::Active.as_str_name()));
        let details = AssetDetails { details: Some(asset.details), relations: asset.relations };
        object.message(name("details"), &details);
        object.end();
    }
    text
}

#[cfg(test)]
mod tests {
    use contracts::v1::asset_details::Details;
    use contracts::v1::{
        Asset, AssetKind, CertificateDetails, NumaNodeDetails, PciDeviceDetails, RelationType, SwapDetails,
    };
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage};
    use prost_types::Timestamp;

    use super::*;

    /// The same by descriptor, which knows nothing of what is generated.
    fn by_descriptor(asset: &ScannedAsset) -> serde_json::Value {
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
        let asset = Asset {
            kind: asset.kind().into(),
            display_name: asset.display_name.clone(),
            natural_key: asset.natural_key.clone(),
            state: AssetState::Active.into(),
            details: Some(asset.to_details()),
            ..Asset::default()
        };
        let descriptor = pool.get_message_by_name("assettrack.v1.Asset").unwrap();
        let message = DynamicMessage::decode(descriptor, asset.encode_to_vec().as_slice()).unwrap();
        serde_json::to_value(&message).unwrap()
    }

    fn odd() -> Vec<ScannedAsset> {
        let time = |seconds, nanos| Some(Timestamp { seconds, nanos });
        let certificate = CertificateDetails {
            not_before_time: time(0, 0),
            not_after_time: time(-62_135_596_800, 1_000_000),
            subject: "a\"b\\c\n\t\u{7f}\u{1f600}".into(),
            ..CertificateDetails::default()
        };
        let later = CertificateDetails {
            not_before_time: time(253_402_300_799, 999_999_999),
            not_after_time: time(1, 120_000),
            is_ca: true,
            ..CertificateDetails::default()
        };
        let numa =
            NumaNodeDetails { distances: vec![10, 0, 21], memory_bytes: u64::MAX, ..Default::default() };
        let pci = PciDeviceDetails { numa_node: Some(0), iommu_group: None, ..Default::default() };
        [
            Details::Certificate(certificate),
            Details::Certificate(later),
            Details::NumaNode(numa),
            Details::PciDevice(pci),
            Details::Swap(SwapDetails { priority: -2, ..SwapDetails::default() }),
        ]
        .map(|details| {
            let mut asset = ScannedAsset::new("key", "name", details).related(
                RelationType::PartOf,
                AssetKind::Disk,
                "serial:1",
            );
            asset.relations.push(contracts::v1::Relation { r#type: 99, ..Default::default() });
            asset
        })
        .to_vec()
    }

    #[test]
    fn what_is_written_is_what_the_descriptors_say() {
        let host = crate::host::HostRoot::new("/").unwrap();
        let context = crate::probe::Context::forgetful(crate::config::ProbeArgs::default());
        let mut assets = odd();
        for probe in crate::probe::all(&context) {
            assets.extend(probe.scan(&host).map(|scan| scan.assets).unwrap_or_default().into_iter().take(20));
        }
        for asset in &assets {
            let text = render(vec![asset.clone()]);
            let written: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(written, by_descriptor(asset), "{text}");
        }
    }
}
