//! Domain code imports no transport and no driver (docs/ARCHITECTURE.md).

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files and folders of pure code.
const DOMAIN: [&str; 15] = [
    "processor/src/domain",
    "collector/src/decode",
    "collector/src/batch.rs",
    "collector/src/stats",
    "agent/src/probe",
    "agent/src/asset.rs",
    "agent/src/batch.rs",
    "agent/src/diff.rs",
    "cli/src/simulate/agent.rs",
    "cli/src/simulate/assets",
    "cli/src/simulate/corrupt.rs",
    "cli/src/simulate/dice.rs",
    "cli/src/simulate/outbox.rs",
    "cli/src/simulate/pack.rs",
    "cli/src/simulate/parcel.rs",
];
const OUTSIDE: [&str; 8] =
    ["tonic::", "diesel::", "diesel_async::", "lapin::", "hyper::", "axum::", "redb::", "tokio_postgres::"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

#[test]
fn domain_code_imports_no_transport_and_no_driver() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for path in DOMAIN {
        let path = root.join(path);
        assert!(path.exists(), "{} has moved: say where in this list", path.display());
        sources(&path, &mut files);
    }
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for crate_path in OUTSIDE {
            assert!(!text.contains(crate_path), "{} uses {crate_path}", file.display());
        }
    }
}
