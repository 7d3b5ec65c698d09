//! Prints the inventory of this node once.

mod cyclonedx;
mod json;
mod table;

use std::io::{self, Write};

use kit::settings::SettingError;

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
        Output::Table => table::write(&mut out, &assets)?,
        Output::Json => json::write(&mut out, &assets)?,
        Output::Cyclonedx => cyclonedx::write(&mut out, &assets, failed == 0)?,
    }
    out.flush()?;
    if failed > 0 { Err(InventoryError::Incomplete(failed)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asset::ScannedAsset;
    use contracts::v1::{PackageDetails, asset_details::Details};

    fn assets() -> Vec<ScannedAsset> {
        let details = PackageDetails { package: "a\nb".into(), version: "1".into(), ..Default::default() };
        vec![ScannedAsset::new("dpkg/a:all", "a\nb", Details::Package(details)); 2]
    }

    #[test]
    fn json_is_an_array_in_the_form_of_the_contracts() {
        let mut out = Vec::new();
        json::write(&mut out, &assets()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value[1]["kind"], "ASSET_KIND_PACKAGE");
        assert_eq!(value[1]["details"]["package"]["version"], "1");
        let mut out = Vec::new();
        json::write(&mut out, &[]).unwrap();
        assert_eq!(out, b"[]\n");
    }

    #[test]
    fn a_table_has_one_line_an_asset() {
        let mut out = Vec::new();
        table::write(&mut out, &assets()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
    }
}
