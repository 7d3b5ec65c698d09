//! Builds the services.

use crate::{checkout::Checkout, command, error::Error, interrupt::Interrupt};

/// Builds every binary of the workspace but this one, which is running.
pub fn services(checkout: &Checkout, interrupt: &Interrupt) -> Result<(), Error> {
    let mut cargo = checkout.cargo();
    cargo.args(["build", "--workspace", "--exclude", "xtask", "--bins"]);
    command::run(&mut cargo, interrupt)
}
