//! Builds the services.

use crate::{checkout::Checkout, command, error::Error, interrupt::Interrupt};

/// Builds every binary of the workspace but this one, which is running.
pub fn services(checkout: &Checkout, interrupt: &Interrupt) -> Result<(), Error> {
    let mut cargo = checkout.cargo();
    cargo.args(["build", "--workspace", "--exclude", "xtask", "--bins"]);
    command::run(&mut cargo, interrupt)
}

/// Builds binaries as the services are shipped.
pub fn release(checkout: &Checkout, packages: &[&str], interrupt: &Interrupt) -> Result<(), Error> {
    let mut cargo = checkout.cargo();
    cargo.args(["build", "--release", "--bins"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo, interrupt)
}

/// Builds binaries as what runs on every node is shipped.
pub fn small(checkout: &Checkout, packages: &[&str], interrupt: &Interrupt) -> Result<(), Error> {
    let mut cargo = checkout.cargo();
    cargo.args(["build", "--profile", "small", "--bins"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo, interrupt)
}
