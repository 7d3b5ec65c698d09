//! A Python that can check a bill of materials against CycloneDX's own schema, in
//! `.local/python`.

use std::{path::PathBuf, process::Command};

use super::node;
use crate::{checkout::Checkout, command, error::Error, interrupt::Interrupt, progress::Progress};

/// CycloneDX's library brings the schemas; the other reads package URLs.
const PACKAGES: [&str; 2] = ["cyclonedx-python-lib[json-validation]>=11,<12", "packageurl-python"];

/// A Python with these packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// The interpreter.
    pub program: PathBuf,
}

impl Python {
    /// Our own, if it is whole.
    pub fn find(checkout: &Checkout) -> Option<Self> {
        let program = checkout.root().join(".local/python/bin/python");
        let imports = "import cyclonedx.validation.json, jsonschema, packageurl";
        let whole = command::output(Command::new(&program).args(["-c", imports])).is_ok();
        whole.then_some(Self { program })
    }
}

/// Finds it, or makes it; `None` where there is no Python with venv.
pub fn install(
    checkout: &Checkout,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Option<Python>, Error> {
    if let Some(found) = Python::find(checkout) {
        return Ok(Some(found));
    }
    let Some(python) = node::python() else { return Ok(None) };
    let environment = checkout.root().join(".local/python");
    let log = checkout.local()?.join("log/build/python.log");
    progress.say("missing: Python packages that check a bill of materials");
    progress.say(&format!(
        "installing them into {}: pip install {}",
        environment.display(),
        PACKAGES.join(" ")
    ));
    let mut venv = Command::new(python);
    command::run_quietly(venv.args(["-m", "venv", "--clear"]).arg(&environment), &log, interrupt)?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--no-input", "--disable-pip-version-check"]).args(PACKAGES);
    command::run_quietly(&mut pip, &log, interrupt)?;
    Ok(Python::find(checkout))
}
