//! Contracts and web UI: linted, regenerated, tested, built.

use std::{fs, process::Command};

use crate::{
    checkout::Checkout,
    command,
    error::{Context, Error},
    fingerprint,
    interrupt::Interrupt,
    need::Node,
    test::{Counts, Report, node_output},
    webui,
};

/// Steps on the Protobuf contracts.
pub fn contracts(
    checkout: &Checkout,
    node: &Node,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), Error> {
    report.step("buf lint", |show| run(buf(checkout, node).arg("lint"), interrupt, show))?;
    // What is published by others stays as they wrote it.
    let format = ["format", "--diff", "--exit-code", "--path", "proto/assettrack"];
    report.step("buf format", |show| run(buf(checkout, node).args(format), interrupt, show))?;
    report.step("generated stubs are up to date", |show| stubs(checkout, node, interrupt, show))
}

/// Steps on the web UI.
pub fn all(
    checkout: &Checkout,
    node: &Node,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), Error> {
    let npm = |script: &str| {
        let mut npm = node.npm(checkout);
        npm.args(["run", script]);
        npm
    };
    report.step("web UI lint", |show| run(&mut npm("lint"), interrupt, show))?;
    report.step("web UI tests", |show| {
        let mut counts = Counts::default();
        let status = command::run_lines(&mut npm("test"), interrupt, |line| {
            show(line);
            if let Some(sum) = node_output::vitest(line) {
                counts += sum;
                if sum.skipped > 0 {
                    show(&format!("SKIPPED {} web UI tests: marked as skipped in their source", sum.skipped));
                }
            }
        })?;
        Ok(counts.confirmed(status.success(), false))
    })?;
    report.step("web UI build", |_| webui::build(node, checkout, interrupt).map(|()| Counts::ONE_PASSED))
}

/// Generates the TypeScript stubs elsewhere and compares.
fn stubs(
    checkout: &Checkout,
    node: &Node,
    interrupt: &Interrupt,
    show: &mut dyn FnMut(&str),
) -> Result<Counts, Error> {
    const STUBS: &str = "webui/src/gen";
    let elsewhere = checkout.local()?.join("test/stubs");
    if elsewhere.exists() {
        fs::remove_dir_all(&elsewhere).on("remove", &elsewhere)?;
    }
    let generated = run(buf(checkout, node).args(["generate", "--output"]).arg(&elsewhere), interrupt, show)?;
    if generated.failed > 0 {
        return Ok(generated);
    }
    if fingerprint::contents(&checkout.root().join(STUBS))? == fingerprint::contents(&elsewhere.join(STUBS))?
    {
        return Ok(Counts::ONE_PASSED);
    }
    let mut diff = Command::new("diff");
    diff.args(["--recursive", "--brief", STUBS]).arg(elsewhere.join(STUBS)).current_dir(checkout.root());
    command::run_lines(&mut diff, interrupt, |line| show(line))?;
    show("run `npm run generate` in webui/ and commit the result");
    Ok(Counts { failed: 1, ..Counts::default() })
}

/// The web UI's own buf, on the whole checkout.
fn buf(checkout: &Checkout, node: &Node) -> Command {
    let mut buf = node.command(&checkout.webui().join("node_modules/.bin/buf"));
    buf.current_dir(checkout.root());
    buf
}

/// Runs a step that passes or fails as a whole.
fn run(command: &mut Command, interrupt: &Interrupt, show: &mut dyn FnMut(&str)) -> Result<Counts, Error> {
    let status = command::run_lines(command, interrupt, |line| show(line))?;
    Ok(if status.success() { Counts::ONE_PASSED } else { Counts { failed: 1, ..Counts::default() } })
}
