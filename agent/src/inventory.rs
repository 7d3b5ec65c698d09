//! Prints the inventory of this node once.

use std::io::{self, Write};

use contracts::v1::{Asset, AssetState};
use kit::settings::SettingError;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::asset::ScannedAsset;
use crate::config::{Output, ScanArgs, host_root};
use crate::probe;

/// Why an inventory could not be printed, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The contracts do not describe an asset.
    #[error("cannot write JSON: {0}")]
    Json(String),
    /// Some probes failed; the rest is printed.
    #[error("{0} of the probes failed")]
    Incomplete(usize),
}

/// Scans all kinds and prints what was found; warnings go to standard error.
///
/// # Errors
/// See [`InventoryError`].
pub fn print(args: &ScanArgs) -> Result<(), InventoryError> {
    let host = host_root(&args.host_root)?;
    let (mut assets, mut failed) = (Vec::new(), 0);
    for probe in probe::all(&probe::Context::forgetful(args.probes.clone())) {
        match probe.scan(&host) {
            Ok(scan) => {
                assets.extend(scan.assets);
                for warning in scan.warnings {
                    writeln!(io::stderr(), "warning: {}: {warning}", probe.name)?;
                }
            }
            Err(error) => {
                failed += 1;
                writeln!(io::stderr(), "error: {}: {error}", probe.name)?;
            }
        }
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    match args.output {
        Output::Table => table(&mut out, &assets)?,
        Output::Json => json(&mut out, &assets)?,
    }
    out.flush()?;
    if failed > 0 { Err(InventoryError::Incomplete(failed)) } else { Ok(()) }
}

fn table(out: &mut impl Write, assets: &[ScannedAsset]) -> io::Result<()> {
    writeln!(out, "{:<18} {:<40} NATURAL KEY", "KIND", "NAME")?;
    for asset in assets {
        let kind = asset.kind().as_str_name().trim_start_matches("ASSET_KIND_");
        // One line an asset, whatever the names hold.
        let line = format!("{kind:<18} {:<40} {}", asset.display_name, asset.natural_key);
        writeln!(out, "{}", line.replace(['\n', '\t'], " "))?;
    }
    Ok(())
}

/// An array of `Asset` in ProtoJSON, as the REST interface has them.
fn json(out: &mut impl Write, assets: &[ScannedAsset]) -> Result<(), InventoryError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::v1::{PackageDetails, asset_details::Details};

    fn assets() -> Vec<ScannedAsset> {
        let details = PackageDetails { package: "a\nb".into(), version: "1".into(), ..Default::default() };
        vec![ScannedAsset::new("dpkg/a:all", "a\nb", Details::Package(details)); 2]
    }

    #[test]
    fn json_is_an_array_in_the_form_of_the_contracts() {
        let mut out = Vec::new();
        json(&mut out, &assets()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value[1]["kind"], "ASSET_KIND_PACKAGE");
        assert_eq!(value[1]["details"]["package"]["version"], "1");
        let mut out = Vec::new();
        json(&mut out, &[]).unwrap();
        assert_eq!(out, b"[]\n");
    }

    #[test]
    fn a_table_has_one_line_an_asset() {
        let mut out = Vec::new();
        table(&mut out, &assets()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
    }
}
