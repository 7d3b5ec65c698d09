//! An array of assets, as the REST interface has them.

use std::io::Write;

use contracts::v1::{Asset, AssetState};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::InventoryError;
use crate::asset::ScannedAsset;

/// An array of `Asset` in ProtoJSON, as the REST interface has them.
pub(super) fn write(out: &mut impl Write, assets: &[ScannedAsset]) -> Result<(), InventoryError> {
    let problem = |error: &dyn std::fmt::Display| InventoryError::Json(error.to_string());
    let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).map_err(|error| problem(&error))?;
    let descriptor = pool
        .get_message_by_name("assettrack.v1.Asset")
        .ok_or_else(|| InventoryError::Json("the contracts have no Asset".to_owned()))?;
    let mut separator = "[\n";
    for asset in assets {
        let asset = Asset {
            kind: asset.kind().into(),
            display_name: asset.display_name.clone(),
            natural_key: asset.natural_key.clone(),
            state: AssetState::Active.into(),
            details: Some(asset.to_details()),
            ..Asset::default()
        };
        let message = DynamicMessage::decode(descriptor.clone(), asset.encode_to_vec().as_slice())
            .map_err(|error| problem(&error))?;
        out.write_all(separator.as_bytes())?;
        let mut serializer = serde_json::Serializer::new(&mut *out);
        message
            .serialize_with_options(&mut serializer, &SerializeOptions::new())
            .map_err(|error| problem(&error))?;
        separator = ",\n";
    }
    writeln!(out, "{}", if assets.is_empty() { "[]" } else { "\n]" })?;
    Ok(())
}
