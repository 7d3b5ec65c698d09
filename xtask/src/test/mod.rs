//! `cargo xtask test`: every test, against private servers of its own.

mod browser;
mod counts;
mod libtest;
mod node_output;
mod report;
mod rust;
mod webui;

use std::process::ExitCode;

pub use counts::Counts;
pub use report::Report;
pub use rust::build;

use crate::{
    checkout::Checkout,
    cli,
    error::Error,
    interrupt::Interrupt,
    need::{self, Need, Node, Python},
    progress::Progress,
    servers::{Durability, Given},
    session::Session,
};

/// Runs the chosen steps and prints the sum as the last line.
pub fn run(checkout: &Checkout, options: &cli::Test, interrupt: &Interrupt) -> Result<ExitCode, Error> {
    let mut report = Report::new(checkout)?;
    steps(checkout, &Selection::new(&options.filter), interrupt, &mut report)?;
    Ok(report.finish())
}

/// What the tests compare with. Each test that lacks its tool says SKIPPED, so that
/// nothing fails where one cannot be had.
fn comparisons(
    checkout: &Checkout,
    interrupt: &Interrupt,
    progress: &Progress,
    report: &mut Report,
) -> Result<Option<Python>, Error> {
    let tools = need::provide(&[Need::OtherTools], checkout, interrupt, progress);
    let python = match tools {
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            report.skip("some comparisons", &error.to_string().replace('\n', " "));
            Ok(Python::find(checkout))
        }
        Ok(()) => need::install_python(checkout, interrupt, progress),
    };
    match python {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => {
            report.skip("bills of materials", &error.to_string().replace('\n', " "));
            Ok(None)
        }
        Ok(python) => Ok(python),
    }
}

/// Runs all tests into an existing report.
pub fn all(checkout: &Checkout, interrupt: &Interrupt, report: &mut Report) -> Result<(), Error> {
    steps(checkout, &Selection::new(&[]), interrupt, report)
}

fn steps(
    checkout: &Checkout,
    selection: &Selection,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), Error> {
    for step in STEPS {
        if !selection.has(step) {
            report.skip(step, "not selected by the filter");
        }
    }
    let servers_needed = selection.has(RUST) || selection.has(BROWSER);
    let node_needed = selection.has(BUF) || selection.has(UI) || selection.has(BROWSER);

    let mut needs = vec![Need::Compiler];
    if servers_needed {
        needs.extend([Need::Postgres, Need::RabbitMq]);
    }
    if node_needed {
        needs.push(Need::Node);
    }
    let progress = Progress::start();
    let tools = report.prepare("tools", || need::provide(&needs, checkout, interrupt, &progress))?;
    if tools.is_none() {
        return Ok(());
    }
    let mut session = None;
    if servers_needed {
        // Ends with this function, whichever way that ends.
        session = report.prepare("private servers", || {
            Session::start(checkout, "test", Given::default(), Durability::Thrown, interrupt, &progress)
        })?;
    }
    // Before the Rust tests: the system tests ask the gateway by buf curl, too.
    let node = if node_needed { Node::find(checkout) } else { None };
    let mut packages = None;
    if let Some(node) = &node {
        packages = report
            .prepare("web UI packages", || crate::webui::install_packages(node, checkout, interrupt))?;
    }
    let built = match (selection.has(RUST), servers_needed) {
        (true, _) => report.prepare("build of services and tests", || rust::build(checkout, interrupt))?,
        (false, true) => {
            report.prepare("build of services", || crate::build::services(checkout, interrupt))?
        }
        (false, false) => None,
    };
    if selection.has(RUST) {
        match (&session, built) {
            (Some(session), Some(())) => {
                let python = comparisons(checkout, interrupt, &progress, report)?;
                report.step("Rust tests", |log| {
                    let (node, python) = (node.as_ref(), python.as_ref());
                    rust::test(checkout, session, node, python, &selection.names, interrupt, log)
                })?;
            }
            _ => report.skip(RUST, "its servers or the build failed"),
        }
    }
    if !node_needed {
        return Ok(());
    }
    let (Some(node), Some(())) = (node, packages) else {
        for step in [BUF, UI, BROWSER].into_iter().filter(|step| selection.has(step)) {
            report.skip(step, "the web UI's packages could not be installed");
        }
        return Ok(());
    };
    if selection.has(BUF) {
        webui::contracts(checkout, &node, interrupt, report)?;
    }
    if selection.has(UI) {
        webui::all(checkout, &node, interrupt, report)?;
    }
    if selection.has(BROWSER) {
        match (&mut session, built) {
            (Some(session), Some(())) => {
                browser::run(checkout, &node, session, interrupt, &progress, report)?;
            }
            _ => report.skip(BROWSER, "its servers or the build failed"),
        }
    }
    Ok(())
}

const RUST: &str = "rust";
const BUF: &str = "buf";
const UI: &str = "ui";
const BROWSER: &str = "browser";
const STEPS: [&str; 4] = [RUST, BUF, UI, BROWSER];

/// What the filter on the command line means.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    steps: Vec<&'static str>,
    /// Parts of Rust tests' names.
    names: Vec<String>,
}

impl Selection {
    fn new(filter: &[String]) -> Self {
        let mut selection = Self { steps: Vec::new(), names: Vec::new() };
        for word in filter {
            match STEPS.into_iter().find(|step| step == word) {
                Some(step) => selection.steps.push(step),
                None => selection.names.push(word.clone()),
            }
        }
        if !selection.names.is_empty() {
            selection.steps.push(RUST);
        }
        if selection.steps.is_empty() {
            selection.steps = STEPS.to_vec();
        }
        selection
    }

    fn has(&self, step: &str) -> bool {
        self.steps.contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::{BROWSER, BUF, RUST, STEPS, Selection, UI};

    #[test]
    fn a_filter_names_steps_or_parts_of_test_names() {
        let select =
            |words: &[&str]| Selection::new(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(STEPS.into_iter().all(|step| select(&[]).has(step)));
        let ui = select(&["ui", "browser"]);
        assert!(ui.has(UI) && ui.has(BROWSER) && !ui.has(RUST) && !ui.has(BUF));
        let named = select(&["etag", "mask"]);
        assert!(named.has(RUST) && !named.has(UI));
        assert_eq!(named.names, ["etag", "mask"]);
    }
}
