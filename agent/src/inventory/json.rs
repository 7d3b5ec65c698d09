//! An array of assets, as the REST interface has them.

use std::io::Write;

use contracts::v1::{Asset, AssetState};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::{InventoryError, workers};
use crate::asset::ScannedAsset;

/// What the contracts say of an asset.
pub(super) struct Form(MessageDescriptor);

impl Form {
    pub(super) fn new() -> Result<Self, InventoryError> {
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).map_err(|error| problem(&error))?;
        let descriptor = pool
            .get_message_by_name("assettrack.v1.Asset")
            .ok_or_else(|| InventoryError::Json("the contracts have no Asset".to_owned()))?;
        Ok(Self(descriptor))
    }

    /// An array of `Asset` in ProtoJSON, one a line.
    pub(super) fn write(&self, out: &mut impl Write, assets: &[ScannedAsset]) -> Result<(), InventoryError> {
        if assets.is_empty() {
            return Ok(writeln!(out, "[]")?);
        }
        let texts = std::thread::scope(|scope| {
            let parts = assets.chunks(assets.len().div_ceil(workers()));
            let rendering: Vec<_> = parts.map(|part| scope.spawn(|| self.render(part))).collect();
            rendering.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let mut separator = "[\n";
        for text in texts {
            let text = text.map_err(|_| InventoryError::Json("a thread panicked".to_owned()))??;
            out.write_all(separator.as_bytes())?;
            out.write_all(&text)?;
            separator = ",\n";
        }
        Ok(writeln!(out, "\n]")?)
    }

    /// Objects, separated by commas.
    fn render(&self, assets: &[ScannedAsset]) -> Result<Vec<u8>, InventoryError> {
        let mut text = Vec::new();
        for asset in assets {
            let asset = Asset {
                kind: asset.kind().into(),
                display_name: asset.display_name.clone(),
                natural_key: asset.natural_key.clone(),
                state: AssetState::Active.into(),
                details: Some(asset.to_details()),
                ..Asset::default()
            };
            let message = DynamicMessage::decode(self.0.clone(), asset.encode_to_vec().as_slice())
                .map_err(|error| problem(&error))?;
            if !text.is_empty() {
                text.extend(b",\n");
            }
            let mut serializer = serde_json::Serializer::new(&mut text);
            message
                .serialize_with_options(&mut serializer, &SerializeOptions::new())
                .map_err(|error| problem(&error))?;
        }
        Ok(text)
    }
}

fn problem(error: &dyn std::fmt::Display) -> InventoryError {
    InventoryError::Json(error.to_string())
}
