//! A private PostgreSQL.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    apt, command,
    credentials::{Credentials, write_private},
    error::{Context, Error},
    instance::{Instance, Launch},
    servers::{Durability, Setting, foreign_settings},
};

/// Name of the process, its port and its directory.
pub const NAME: &str = "postgres";
/// Oldest version that AssetTrack's SQL works on (multiranges).
const OLDEST: u32 = 14;
/// Role and database.
const ROLE: &str = "assettrack";
/// How long a start may take; recovery after a crash included.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// An installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Installation {
    version: u32,
    programs: PathBuf,
}

/// What is installed and new enough, newest first.
pub fn installations() -> Vec<Installation> {
    let mut directories: BTreeSet<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    // Where Debian keeps them apart, by version, and out of PATH.
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        directories.insert(entry.path().join("bin"));
    }
    let mut found: Vec<Installation> = directories
        .into_iter()
        .filter(|directory| {
            ["postgres", "initdb", "psql", "createdb", "pg_isready"]
                .iter()
                .all(|program| apt::is_program(&directory.join(program)))
        })
        .filter_map(|programs| {
            let text = command::output(Command::new(programs.join("postgres")).arg("--version")).ok()?;
            Some(Installation { version: parse_version(&text)?, programs })
        })
        .filter(|installation| installation.version >= OLDEST)
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Starts the server, makes its data first where there is none, waits until it
/// answers, and tells its URL.
pub fn start(instance: &mut Instance, setting: &Setting) -> Result<String, Error> {
    let port = instance.port(NAME)?;
    let password = &setting.credentials.postgres;
    let url = format!("postgresql://{ROLE}:{password}@127.0.0.1:{port}/{ROLE}");
    if instance.is_running(NAME) {
        return Ok(url);
    }
    let data = setting.data.join(NAME);
    let installation = choose(&data)?;
    if !data.join("PG_VERSION").exists() {
        initialise(&installation, &data, setting)?;
    }
    let mut server = instance.start(Launch {
        name: NAME.to_owned(),
        program: installation.programs.join("postgres"),
        arguments: arguments(&data, port, setting.durability).into_iter().map(Into::into).collect(),
        environment: Vec::new(),
        hidden: foreign_settings(),
        account: setting.account.clone(),
        directory: data,
        port: Some(port),
        admin_port: None,
    })?;
    let tool = |name: &str| {
        let mut tool = Command::new(installation.programs.join(name));
        tool.args([
            "--host=127.0.0.1",
            &format!("--port={port}"),
            &format!("--username={ROLE}"),
            "--no-password",
        ]);
        tool.env("PGPASSWORD", password);
        tool
    };
    server.await_ready(START_DEADLINE, setting.interrupt, || {
        // pg_isready knows no --no-password.
        let mut probe = Command::new(installation.programs.join("pg_isready"));
        probe.args(["--quiet", "--host=127.0.0.1", &format!("--port={port}"), "--timeout=2"]);
        command::output(&mut probe).map(drop).map_err(|_| "it does not accept connections".to_owned())
    })?;
    let exists = command::output(tool("psql").args([
        "--dbname=postgres",
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        &format!("--command=SELECT 1 FROM pg_database WHERE datname = '{ROLE}'"),
    ]))?;
    if exists.trim().is_empty() {
        command::output(tool("createdb").arg(ROLE))?;
    }
    Ok(url)
}

/// A running server of ours, for psql.
pub struct Server {
    psql: PathBuf,
    port: u16,
    password: String,
}

/// The server of an instance, which must run.
pub fn server(instance: &mut Instance) -> Result<Server, Error> {
    let port = instance.port(NAME)?;
    let password = Credentials::load(instance.directory())?.postgres;
    let data = instance.state.data.clone().unwrap_or_default().join(NAME);
    Ok(Server { psql: choose(&data)?.programs.join("psql"), port, password })
}

impl Server {
    /// URL of a database. Secret: it holds a password.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{ROLE}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// psql on a database, which prints nothing but values, `|` between them.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        psql.args(["--host=127.0.0.1", &format!("--port={}", self.port), &format!("--username={ROLE}")]);
        psql.args([&format!("--dbname={database}"), "--no-password", "--no-psqlrc"]);
        psql.args(["--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        psql.env("PGPASSWORD", &self.password);
        psql
    }
}

/// The installation that the data is of, else the newest.
fn choose(data: &Path) -> Result<Installation, Error> {
    let version = fs::read_to_string(data.join("PG_VERSION")).ok();
    let wanted = version.as_deref().map(str::trim);
    installations()
        .into_iter()
        .find(|installation| wanted.is_none_or(|version| installation.version.to_string() == version))
        .ok_or_else(|| Error::NoServerForData {
            path: data.display().to_string(),
            version: wanted.unwrap_or("14 or newer").to_owned(),
        })
}

/// Makes the data directory, beside its place first, so that an interrupted
/// attempt leaves nothing that looks whole.
fn initialise(installation: &Installation, data: &Path, setting: &Setting) -> Result<(), Error> {
    let new = data.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).on("remove", &new)?;
    }
    let secret = data.with_extension("password");
    if secret.exists() {
        fs::remove_file(&secret).on("remove", &secret)?;
    }
    write_private(&secret, &setting.credentials.postgres)?;
    let mut initdb = Command::new(installation.programs.join("initdb"));
    initdb
        .arg("--pgdata")
        .arg(&new)
        .arg("--pwfile")
        .arg(&secret)
        .args([
            "--username",
            ROLE,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
        ])
        .current_dir(&setting.data);
    if let Some(account) = &setting.account {
        account.own(&secret)?;
        initdb.uid(account.user).gid(account.group);
    }
    let done = command::output(&mut initdb);
    fs::remove_file(&secret).on("remove", &secret)?;
    done?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).on("close to others", &new)?;
    fs::rename(&new, data).on("rename", &new)
}

fn arguments(data: &Path, port: u16, durability: Durability) -> Vec<String> {
    let port = port.to_string();
    let mut settings = vec![
        ("port", port.as_str()),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", "200"),
        ("shared_buffers", if durability == Durability::Measured { "2GB" } else { "128MB" }),
        ("max_wal_size", "2GB"),
        // A query over the whole log locks each day and its indexes.
        ("max_locks_per_transaction", "256"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        // Ours goes to standard error, whatever a distribution's default says.
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
    ];
    if durability == Durability::Thrown {
        settings.extend([("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")]);
    }
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    for (name, value) in settings {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    arguments
}

/// Major version of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn parse_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once(" (PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{arguments, parse_version};
    use crate::servers::Durability;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("mysqld 8"), None);
    }

    #[test]
    fn only_a_test_run_goes_without_fsync() {
        let has_fsync_off =
            |durability| arguments(Path::new("/d"), 1, durability).contains(&"fsync=off".to_owned());
        assert!(!has_fsync_off(Durability::Kept));
        assert!(has_fsync_off(Durability::Thrown));
    }
}
