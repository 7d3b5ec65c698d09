//! `cargo xtask ci`: what must pass before a change goes in.

use std::process::ExitCode;

use crate::{
    checkout::Checkout,
    command,
    error::Error,
    interrupt::Interrupt,
    test::{self, Counts, Report},
};

/// Format, clippy, then all tests.
pub fn run(checkout: &Checkout, interrupt: &Interrupt) -> Result<ExitCode, Error> {
    let mut report = Report::new(checkout)?;
    report.step("format", |_| {
        command::run(checkout.cargo().args(["fmt", "--all", "--check"]), interrupt)
            .map(|()| Counts::ONE_PASSED)
    })?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    report.step("clippy", |_| {
        command::run(checkout.cargo().args(clippy), interrupt).map(|()| Counts::ONE_PASSED)
    })?;
    test::all(checkout, interrupt, &mut report)?;
    Ok(report.finish())
}
