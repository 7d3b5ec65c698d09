//! The Rust tests.

use std::env;

use crate::{
    checkout::Checkout,
    command,
    error::Error,
    interrupt::Interrupt,
    need::{Node, Python},
    session::Session,
    test::{Counts, libtest::Libtest},
};

/// Builds every binary and every test, which runs them: built apart, what both
/// depend on would be compiled twice.
pub fn build(checkout: &Checkout, interrupt: &Interrupt) -> Result<(), Error> {
    command::run(checkout.cargo().args(["build", "--workspace", "--bins", "--lib", "--tests"]), interrupt)
}

/// Runs all tests of the workspace, or those whose names hold one of `names`.
pub fn test(
    checkout: &Checkout,
    session: &Session,
    node: Option<&Node>,
    python: Option<&Python>,
    names: &[String],
    interrupt: &Interrupt,
    show: &mut dyn FnMut(&str),
) -> Result<Counts, Error> {
    let mut cargo = checkout.cargo();
    // A developer's settings must not decide what a test sees.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ASSETTRACK_") && !text.starts_with("ASSETTRACK_TEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
        .args(["test", "--workspace", "--no-fail-fast", "--color=never", "--", "--show-output"])
        .args(names)
        .env("ASSETTRACK_TEST_DATABASE_URL", &session.urls.database)
        .env("ASSETTRACK_TEST_AMQP_URL", &session.urls.amqp)
        .env("ASSETTRACK_BIN_DIR", checkout.binaries());
    if let Some(node) = node {
        // The system tests run buf, a program of Node.js.
        cargo.env("PATH", node.path());
    }
    if let Some(python) = python {
        cargo.env("ASSETTRACK_TEST_PYTHON", &python.program);
    }
    let mut libtest = Libtest::default();
    let status = command::run_lines(&mut cargo, interrupt, |line| {
        if let Some(shown) = libtest.line(line) {
            show(&shown);
        }
    })?;
    // A filter may fit nothing in most test programs, but not in all.
    Ok(libtest.counts.confirmed(status.success(), false))
}
