//! What can go wrong, in words that say what to do next.

use std::{io, path::Path};

/// A failed developer command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried: "read /a/b".
        action: String,
        source: io::Error,
    },
    /// A file of ours holds what we did not write.
    #[error("{path} is damaged ({source}); `cargo xtask reset` starts anew")]
    Damaged { path: String, source: serde_json::Error },
    /// Results that this version cannot add to.
    #[error("{path} holds something else than results ({source}); move it away")]
    ForeignResults { path: String, source: serde_json::Error },
    /// Not inside a checkout.
    #[error("no AssetTrack checkout here: run `cargo xtask` inside one")]
    NoCheckout,
    /// Tools that are missing and were not installed.
    #[error("missing on this machine:{}", list(.0))]
    Missing(Vec<Shortage>),
    /// A command ended with a failure.
    #[error("`{command}` failed: {status}{output}")]
    Command {
        command: String,
        status: String,
        /// Its last lines, each after a line break, or empty where the user saw them.
        output: String,
    },
    /// A process ended while it was starting.
    #[error("{name} ended while starting: {status}. The end of {log}:\n{tail}")]
    Died { name: String, status: String, log: String, tail: String },
    /// A process started but does not become ready.
    #[error("{name} is not ready after {seconds} s: {reason}. The end of {log}:\n{tail}")]
    NotReady { name: String, seconds: u64, reason: String, log: String, tail: String },
    /// The public port is in use.
    #[error("port {port} is in use by {owner}; choose another: `cargo xtask up --port {suggestion}`")]
    PortTaken { port: u16, owner: String, suggestion: u16 },
    /// No free port.
    #[error("no free port on 127.0.0.1 between {first} and {last}")]
    NoPort { first: u16, last: u16 },
    /// Another `cargo xtask` is at work on the same instance.
    #[error("another `cargo xtask up`, `down` or `test` is at work in this checkout; wait for it to end")]
    Busy,
    /// The data was made by a server that is not there any more.
    #[error(
        "the data in {path} is of PostgreSQL {version}, and no such server is installed: \
         install postgresql-{version}, or `cargo xtask reset` to start anew"
    )]
    NoServerForData { path: String, version: String },
    /// No directory for the servers' data.
    #[error(
        "user {account} can reach none of these directories, which must hold the servers' data: {directories}"
    )]
    Unreachable { account: String, directories: String },
    /// There is no such log.
    #[error("no log of `{name}`; there are: {known}")]
    NoLog { name: String, known: String },
}

/// A tool that is missing, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What is missing and why it is needed.
    pub what: String,
    /// The command that installs it.
    pub remedy: String,
}

fn list(shortages: &[Shortage]) -> String {
    shortages.iter().map(|Shortage { what, remedy }| format!("\n  {what}; install it: {remedy}")).collect()
}

/// Names what was tried when the operating system refuses.
pub trait Context<T> {
    /// `action` completes the sentence "cannot …".
    fn trying(self, action: impl FnOnce() -> String) -> Result<T, Error>;
    /// The action is a verb on a path.
    fn on(self, verb: &str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn trying(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action: action(), source: source.into() })
    }

    fn on(self, verb: &str, path: &Path) -> Result<T, Error> {
        self.trying(|| format!("{verb} {}", path.display()))
    }
}
