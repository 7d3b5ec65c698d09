//! The web UI: its packages, its build, its stubs.

use std::{fs, path::PathBuf};

use crate::{
    checkout::Checkout,
    command,
    error::{Context, Error},
    fingerprint,
    interrupt::Interrupt,
    need::Node,
};

/// Whether the last build is of the sources as they are now.
pub fn is_built(checkout: &Checkout) -> Result<bool, Error> {
    let stamp = fs::read_to_string(build_stamp(checkout)).unwrap_or_default();
    Ok(checkout.webui().join("dist/index.html").is_file() && stamp == sources(checkout)?)
}

/// Builds the web UI unless [`is_built`].
pub fn build(node: &Node, checkout: &Checkout, interrupt: &Interrupt) -> Result<(), Error> {
    install_packages(node, checkout, interrupt)?;
    // Of before the build: a change during it makes the next one build again.
    let sources = sources(checkout)?;
    let log = checkout.local()?.join("log/build/webui.log");
    command::run_quietly(node.npm(checkout).args(["run", "build"]), &log, interrupt)?;
    let stamp = build_stamp(checkout);
    fs::write(&stamp, sources).on("write", &stamp)
}

/// Installs the packages of the lock file, unless they are there.
pub fn install_packages(node: &Node, checkout: &Checkout, interrupt: &Interrupt) -> Result<(), Error> {
    let lock = format!("{:016x}", fingerprint::file(&checkout.webui().join("package-lock.json"))?);
    // Inside what it vouches for, so that they go together.
    let modules = checkout.webui().join("node_modules");
    let stamp = modules.join(".assettrack-lock");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let log = checkout.local()?.join("log/build/webui-packages.log");
    command::run_quietly(
        node.npm(checkout).args(["ci", "--include=dev", "--no-audit", "--no-fund"]),
        &log,
        interrupt,
    )?;
    // Not made where the lock file names nothing.
    fs::create_dir_all(&modules).on("make", &modules)?;
    fs::write(&stamp, lock).on("write", &stamp)
}

fn build_stamp(checkout: &Checkout) -> PathBuf {
    checkout.root().join(".local/webui.stamp")
}

fn sources(checkout: &Checkout) -> Result<String, Error> {
    Ok(format!("{:016x}", fingerprint::contents(&checkout.webui())?))
}
