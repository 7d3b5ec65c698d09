//! One line an asset, for a person.

use std::io::{self, Write};

use crate::asset::ScannedAsset;

pub(super) fn write(out: &mut impl Write, assets: &[ScannedAsset]) -> io::Result<()> {
    writeln!(out, "{:<18} {:<40} NATURAL KEY", "KIND", "NAME")?;
    for asset in assets {
        let kind = asset.kind().as_str_name().trim_start_matches("ASSET_KIND_");
        // One line an asset, whatever the names hold.
        let line = format!("{kind:<18} {:<40} {}", asset.display_name, asset.natural_key);
        writeln!(out, "{}", line.replace(['\n', '\t'], " "))?;
    }
    Ok(())
}
