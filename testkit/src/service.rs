//! A service as its users run it: the binary, in a process of its own.

use std::{
    env, fs,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use uuid::Uuid;

use crate::{http_get, wait_for, wait_until};

/// Log lines shown when a test fails.
const SHOWN_LINES: usize = 40;

/// A service process. It is killed, and waited for, when the value goes; when
/// that is because the test fails, the end of its log is printed.
#[derive(Debug)]
pub struct Service {
    name: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// A service by the name of its binary, such as `assettrack-collector`. It
    /// is not started yet.
    pub fn new(binary: &str) -> Self {
        Self {
            name: binary.to_owned(),
            environment: Vec::new(),
            arguments: Vec::new(),
            log: env::temp_dir().join(format!("{binary}-{}.log", Uuid::new_v4().simple())),
            child: None,
        }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets a variable for the next start, in place of what it was.
    pub fn set(&mut self, name: &str, value: &(impl ToString + ?Sized)) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_string()));
    }

    /// Adds a command-line argument.
    #[must_use]
    pub fn arg(mut self, argument: &(impl ToString + ?Sized)) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    /// Starts the process, with none of this process's `ASSETTRACK_*` variables
    /// but those given. Started again, it goes on in the same log.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn start(&mut self) {
        assert!(!self.is_running(), "{} runs already", self.name);
        let log = match File::options().create(true).append(true).open(&self.log) {
            Ok(log) => log,
            Err(error) => panic!("cannot write {}: {error}", self.log.display()),
        };
        let binary = binary_directory().join(&self.name);
        let mut command = Command::new(&binary);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("ASSETTRACK_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments).stdin(Stdio::null());
        match log.try_clone() {
            Ok(errors) => command.stdout(log).stderr(errors),
            Err(error) => panic!("cannot share {}: {error}", self.log.display()),
        };
        match command.spawn() {
            Ok(child) => self.child = Some(child),
            Err(error) => panic!("cannot start {}: {error} (`cargo xtask test` builds it)", binary.display()),
        }
    }

    /// Waits until `/readyz` of its admin address says that it is ready.
    ///
    /// # Panics
    /// When it ends before, or is not ready within `deadline`.
    pub async fn ready(&mut self, admin: SocketAddr, deadline: Duration) {
        let what = format!("{} to be ready", self.name);
        let ended = wait_for(deadline, &what, async || {
            if let Some(status) = self.exit_status() {
                return Some(Some(status));
            }
            matches!(http_get(admin, "/readyz").await, Ok((200, _))).then_some(None)
        })
        .await;
        if let Some(status) = ended {
            panic!("{} ended before it was ready: {status}", self.name);
        }
    }

    /// Kills the process as a power cut would (SIGKILL), and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the process and starts it again.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// Asks the process to end (SIGTERM) and waits until it does.
    ///
    /// # Panics
    /// When it does not run, or does not end within `deadline`.
    pub async fn stop(&mut self, deadline: Duration) -> ExitStatus {
        let id = self.id();
        if let Err(error) = kill(Pid::from_raw(id.cast_signed()), Signal::SIGTERM) {
            panic!("cannot signal {}: {error}", self.name);
        }
        let what = format!("{} to end after SIGTERM", self.name);
        let status = wait_for(deadline, &what, async || self.exit_status()).await;
        self.child = None;
        status
    }

    /// Process ID, for a look at `/proc`.
    ///
    /// # Panics
    /// When it was not started.
    pub fn id(&self) -> u32 {
        match &self.child {
            Some(child) => child.id(),
            None => panic!("{} was not started", self.name),
        }
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.exit_status().is_none()
    }

    /// All that it wrote, over all its starts.
    pub fn log(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    /// When it does not within `deadline`.
    pub async fn logged(&self, text: &str, deadline: Duration) {
        let what = format!("{} to log {text:?}", self.name);
        wait_until(deadline, &what, async || self.log().contains(text)).await;
    }

    /// How the process ended; `None` while it runs, or was not started.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        match self.child.as_mut()?.try_wait() {
            Ok(status) => status,
            Err(error) => panic!("cannot wait for {}: {error}", self.name),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last lines of {}", self.name);
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                eprintln!("{line}");
            }
        }
        // It may not exist, where the process was never started.
        let _ = fs::remove_file(&self.log);
    }
}

/// Where the services' binaries are: `ASSETTRACK_BIN_DIR`, else the profile's
/// directory that the test itself was built into.
fn binary_directory() -> PathBuf {
    if let Some(directory) = env::var_os("ASSETTRACK_BIN_DIR") {
        return PathBuf::from(directory);
    }
    let executable = match env::current_exe() {
        Ok(executable) => executable,
        Err(error) => panic!("cannot tell where this test runs from: {error}"),
    };
    let directory = executable.parent().unwrap_or(Path::new("."));
    match (directory.file_name(), directory.parent()) {
        (Some(name), Some(profile)) if name == "deps" => profile.to_owned(),
        _ => directory.to_owned(),
    }
}
