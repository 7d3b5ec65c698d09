//! Prints the inventory of this node once.

mod cyclonedx;
mod json;
mod table;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contracts::v1::AssetKind;
use kit::settings::SettingError;

use crate::config::{Output, ScanArgs, host_root};
use crate::host::HostRoot;
use crate::probe::{self, Probe, ProbeError, Scan};

/// Why an inventory could not be printed, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// A thread that writes failed.
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
    // What is in images is not printed, so it need not be read.
    let context = probe::Context {
        knows_image: Arc::new(|_| true),
        sockets_wait: true,
        ..probe::Context::forgetful(args.probes.clone())
    };
    let probes = probe::all(&context);
    let scans = scan_all(&host, &probes);
    let (mut assets, mut failed) = (Vec::new(), 0);
    for (probe, scan) in probes.iter().zip(scans) {
        match scan {
            Some(Ok(scan)) => {
                assets.extend(scan.assets);
                for warning in scan.warnings {
                    writeln!(io::stderr(), "warning: {}: {warning}", probe.name)?;
                }
            }
            Some(Err(error)) => {
                failed += 1;
                writeln!(io::stderr(), "error: {}: {error}", probe.name)?;
            }
            None => {
                failed += 1;
                writeln!(io::stderr(), "error: {}: panicked", probe.name)?;
            }
        }
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    match args.output {
        Output::Table => table::write(&mut out, &assets)?,
        Output::Json => json::write(&mut out, assets)?,
        Output::Cyclonedx => cyclonedx::write(&mut out, &assets, failed == 0)?,
    }
    out.flush()?;
    if failed > 0 { Err(InventoryError::Incomplete(failed)) } else { Ok(()) }
}

type Scanned = Option<Result<Scan, ProbeError>>;

/// Runs all probes, a few at a time; `None` for one that panicked. A person waits
/// for the answer, unlike that of the running agent, which takes one by one.
fn scan_all(host: &HostRoot, probes: &[Probe]) -> Vec<Scanned> {
    let order = order(probes);
    let next = AtomicUsize::new(0);
    let scanned = Mutex::new(Vec::new());
    let work = || {
        while let Some(&place) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scan = catch_unwind(AssertUnwindSafe(|| probes[place].scan(host)));
            scanned.lock().unwrap_or_else(PoisonError::into_inner).push((place, scan.ok()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers() {
            scope.spawn(work);
        }
        work();
    });
    let mut scans: Vec<Scanned> = probes.iter().map(|_| None).collect();
    for (place, scan) in scanned.into_inner().unwrap_or_else(PoisonError::into_inner) {
        scans[place] = scan;
    }
    scans
}

/// Places of the probes as they are begun, the long ones first. The containers go
/// before the sockets, which wait for them (see [`probe::Context::sockets_wait`]):
/// so whoever waits knows that another, or itself before, has begun what it waits
/// for.
fn order(probes: &[Probe]) -> Vec<usize> {
    const LONG: [AssetKind; 6] = [
        AssetKind::Container,
        AssetKind::ListeningSocket,
        AssetKind::Package,
        AssetKind::SystemdUnit,
        AssetKind::Pod,
        AssetKind::ContainerImage,
    ];
    let rank =
        |&place: &usize| LONG.iter().position(|&kind| probes[place].kind == kind).unwrap_or(LONG.len());
    let mut places: Vec<usize> = (0..probes.len()).collect();
    places.sort_by_key(rank);
    places
}

/// Threads that a short piece of work is spread over.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
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
    fn each_probe_is_begun_once_and_the_sockets_after_the_containers() {
        let probes = probe::all(&probe::Context::forgetful(crate::config::ProbeArgs::default()));
        let mut places = order(&probes);
        let place = |kind| places.iter().position(|&place| probes[place].kind == kind).unwrap();
        assert!(place(AssetKind::Container) < place(AssetKind::ListeningSocket));
        places.sort_unstable();
        assert_eq!(places, (0..probes.len()).collect::<Vec<_>>());
    }

    #[test]
    fn json_is_an_array_in_the_form_of_the_contracts() {
        let mut out = Vec::new();
        json::write(&mut out, assets()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value[1]["kind"], "ASSET_KIND_PACKAGE");
        assert_eq!(value[1]["details"]["package"]["version"], "1");
        let mut out = Vec::new();
        json::write(&mut out, vec![]).unwrap();
        assert_eq!(out, b"[]\n");
    }

    #[test]
    fn a_table_has_one_line_an_asset() {
        let mut out = Vec::new();
        table::write(&mut out, &assets()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
    }
}
