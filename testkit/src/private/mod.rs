//! Servers of a test's own, which it may kill, starve and cut off: the shared
//! ones must not be disturbed.
//!
//! They run as the unprivileged account that `cargo xtask test` makes, where the
//! test is run by root: PostgreSQL refuses to be root.

mod broker;
mod postgres;

use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};

pub use broker::Broker;
pub use postgres::Postgres;

use crate::wait_for;

/// The account, see `xtask/src/account.rs`.
const ACCOUNT: &str = "assettrack-dev";
/// How long a server may take to come up on a loaded machine, or to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Variables that would change what a private server does.
const FOREIGN: [&str; 4] = ["RABBITMQ_", "ERL_", "PG", "ASSETTRACK_"];

/// Who the servers run as; `None` for whoever runs the test.
#[derive(Clone, Copy, Debug)]
struct Account(Option<(u32, u32)>);

impl Account {
    fn find() -> Self {
        if !Uid::effective().is_root() {
            return Self(None);
        }
        match User::from_name(ACCOUNT) {
            Ok(Some(user)) => Self(Some((user.uid.as_raw(), user.gid.as_raw()))),
            _ => panic!("there is no user {ACCOUNT}: run `cargo xtask test`, which makes it"),
        }
    }

    fn own(self, path: &Path) {
        if let Some((user, group)) = self.0
            && let Err(error) = chown(path, Some(user), Some(group))
        {
            panic!("cannot give {} to {ACCOUNT}: {error}", path.display());
        }
    }

    /// A program that runs as this account and sees none of our settings.
    fn command(self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if FOREIGN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.current_dir(directory).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

/// A directory of the account's, removed with this value.
fn directory(account: Account) -> tempfile::TempDir {
    match tempfile::Builder::new().prefix("assettrack-").tempdir() {
        Ok(directory) => {
            account.own(directory.path());
            directory
        }
        Err(error) => panic!("cannot make a directory for a private server: {error}"),
    }
}

/// Runs a short program to its end; answers its standard output.
fn output(mut command: Command) -> String {
    let what = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(done) if done.status.success() => String::from_utf8_lossy(&done.stdout).into_owned(),
        Ok(done) => panic!("{what} failed: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)),
        Err(error) => panic!("cannot run {what}: {error}"),
    }
}

/// The first of these that is a file, else the program in `PATH`.
fn program(likely: &[PathBuf], name: &str) -> PathBuf {
    let in_path = env::var_os("PATH").unwrap_or_default();
    let found = likely.iter().cloned().chain(env::split_paths(&in_path).map(|folder| folder.join(name)));
    match found.into_iter().find(|path| path.is_file()) {
        Some(path) => path,
        None => panic!("there is no `{name}` on this machine: run `cargo xtask test`, which installs it"),
    }
}

/// A server process with all that it starts.
#[derive(Debug)]
struct Server {
    name: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    fn new(name: &str, directory: &Path) -> Self {
        Self { name: name.to_owned(), log: directory.join(format!("{name}.log")), child: None }
    }

    fn start(&mut self, mut command: Command) {
        let log = File::options().create(true).append(true).open(&self.log);
        let logs = log.and_then(|log| Ok((log.try_clone()?, log)));
        match logs {
            Ok((out, errors)) => command.stdout(out).stderr(errors),
            Err(error) => panic!("cannot write {}: {error}", self.log.display()),
        };
        match command.spawn() {
            Ok(child) => self.child = Some(child),
            Err(error) => panic!("cannot start {}: {error}", self.name),
        }
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills it with all its children (SIGKILL), and waits for its end.
    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        for pid in family(child.id()) {
            // An error means that it has ended by itself.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = child.wait();
    }

    /// Sends a signal to its first process, and waits for its end.
    async fn end(&mut self, signal: Signal) {
        let Some(child) = &self.child else { return };
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        let what = format!("{} to end", self.name);
        wait_for(PATIENCE, &what, async || (!self.is_running()).then_some(())).await;
        self.child = None;
    }

    async fn await_ready(&mut self, mut ready: impl AsyncFnMut() -> bool) {
        let what = format!("{} to be ready", self.name);
        let came = wait_for(PATIENCE, &what, async || {
            if !self.is_running() {
                return Some(false);
            }
            ready().await.then_some(true)
        })
        .await;
        if !came {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("{} ended before it was ready:\n{log}", self.name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process and all its descendants, by `/proc`.
fn family(first: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything; state and parent follow.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![first];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    all
}

/// Whether a folder's name is a version, for `/usr/lib/postgresql/<version>`.
fn version(folder: &OsStr) -> Option<u32> {
    folder.to_str()?.parse().ok()
}
