//! One AssetTrack system on this machine: a directory with its state, its logs
//! and its processes. `up` has one in `.local/`, `test` one in `.local/test/`.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    account::Account,
    error::{Context, Error},
    interrupt::Interrupt,
    logs::tail,
    ports,
    process::{ProcessId, Signal},
    state::{Process, State},
};

/// Log lines shown when a process does not come up.
const SHOWN_LINES: usize = 20;
/// Time between two looks at a process that is starting.
const LOOK: Duration = Duration::from_millis(50);

/// A system's directory and what is remembered in it.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    pub state: State,
}

/// A process to start.
#[derive(Debug)]
pub struct Launch {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, OsString)>,
    /// Variables of this process that it must not see.
    pub hidden: Vec<String>,
    /// User to run as, where that is another one.
    pub account: Option<Account>,
    pub directory: PathBuf,
    pub port: Option<u16>,
    pub admin_port: Option<u16>,
}

/// A process that was started by this command.
#[derive(Debug)]
pub struct Started {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Instance {
    /// Opens the instance of a directory, which is made when it is not there.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory.join("log")).on("make", directory)?;
        // The servers' user passes through it to the data; secrets are closed by themselves.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).on("open to others", directory)?;
        Ok(Self { directory: directory.to_owned(), state: State::load(&directory.join("state.json"))? })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("log").join(format!("{name}.log"))
    }

    /// A number that differs between checkouts.
    pub fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.directory.hash(&mut hasher);
        hasher.finish() >> 1
    }

    /// Keeps other commands from starting or stopping processes of this instance
    /// as long as the answer lives.
    pub fn lock(&self) -> Result<File, Error> {
        let path = self.directory.join("lock");
        let file = File::create(&path).on("write", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::Busy),
            Err(TryLockError::Error(error)) => Err(error).on("lock", &path),
        }
    }

    pub fn save(&self) -> Result<(), Error> {
        self.state.save(&self.directory.join("state.json"))
    }

    /// The port for a use: the one of last time when it is still free, else another.
    pub fn port(&mut self, usage: &str) -> Result<u16, Error> {
        if let Some(&port) = self.state.ports.get(usage)
            && (ports::is_free(port) || self.holds(port))
        {
            return Ok(port);
        }
        let taken: Vec<u16> = self.state.ports.values().copied().collect();
        let port = ports::find(self.seed(), &taken)?;
        self.state.ports.insert(usage.to_owned(), port);
        Ok(port)
    }

    /// Whether a running process of this instance has the port.
    pub fn holds(&self, port: u16) -> bool {
        self.state.processes.iter().any(|process| {
            (process.port == Some(port) || process.admin_port == Some(port)) && process.id.is_running()
        })
    }

    /// Whether the process runs just as `launch` would start it now.
    pub fn runs_as(&self, launch: &Launch) -> bool {
        self.state
            .process(&launch.name)
            .is_some_and(|process| process.fingerprint == launch.fingerprint() && process.id.is_running())
    }

    /// Whether the process by that name runs.
    pub fn is_running(&self, name: &str) -> bool {
        self.state.process(name).is_some_and(|process| process.id.is_running())
    }

    /// Starts a process in a session of its own, its output in its log. The log of
    /// its last run stays beside it as `.old`.
    pub fn start(&mut self, launch: Launch) -> Result<Started, Error> {
        let log = self.log(&launch.name);
        if log.exists() {
            fs::rename(&log, log.with_extension("old")).on("rename", &log)?;
        }
        let output = File::create(&log).on("write", &log)?;
        let errors = output.try_clone().on("write", &log)?;
        // setsid: a closed terminal does not take it along. It is no leader of a
        // process group yet, so setsid runs the program in this very process.
        let mut command = Command::new("setsid");
        for name in &launch.hidden {
            command.env_remove(name);
        }
        command
            .arg(&launch.program)
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        if let Some(account) = &launch.account {
            // Drops the groups of root too.
            command.uid(account.user).gid(account.group);
        }
        let fingerprint = launch.fingerprint();
        let child = command.spawn().trying(|| format!("start {}", launch.program.display()))?;
        let started = Started { name: launch.name.clone(), log, child };
        let Some(id) = ProcessId::of(started.child.id()) else {
            return Err(Error::Io {
                action: format!("find {} in /proc", launch.name),
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        self.state.processes.retain(|process| process.name != launch.name);
        self.state.processes.push(Process {
            name: launch.name,
            id,
            port: launch.port,
            admin_port: launch.admin_port,
            fingerprint,
        });
        self.save()?;
        Ok(started)
    }

    /// Stops a process and forgets it; one that does not run is only forgotten.
    pub fn stop(&mut self, name: &str, signal: Signal, grace: Duration) -> Result<(), Error> {
        if let Some(process) = self.state.process(name)
            && !process.id.stop(signal, grace)
        {
            println!("  {name} did not end within {} s and was killed", grace.as_secs());
        }
        self.state.processes.retain(|process| process.name != name);
        self.save()
    }
}

impl Launch {
    /// Differs when the program was rebuilt or would be started otherwise.
    pub fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.arguments, &self.environment, &self.directory).hash(&mut hasher);
        format!("{} {:016x}", stamp(&self.program).unwrap_or_default(), hasher.finish())
    }
}

impl Started {
    /// Waits until `ready` has no objection any more.
    pub fn await_ready(
        &mut self,
        deadline: Duration,
        interrupt: &Interrupt,
        mut ready: impl FnMut() -> Result<(), String>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            interrupt.check()?;
            if let Some(status) = self.ended()? {
                return Err(Error::Died {
                    name: self.name.clone(),
                    status: status.to_string(),
                    log: self.log.display().to_string(),
                    tail: tail(&self.log, SHOWN_LINES),
                });
            }
            let reason = match ready() {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            if start.elapsed() > deadline {
                return Err(Error::NotReady {
                    name: self.name.clone(),
                    seconds: deadline.as_secs(),
                    reason,
                    log: self.log.display().to_string(),
                    tail: tail(&self.log, SHOWN_LINES),
                });
            }
            thread::sleep(LOOK);
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().trying(|| format!("wait for {}", self.name))
    }
}

/// Time and size of a file: another one after each build that changed it.
fn stamp(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}.{:09}-{}", modified.as_secs(), modified.subsec_nanos(), metadata.len()))
}
