//! A PostgreSQL of a test's own, and its standby.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use nix::sys::signal::Signal;

use super::{Account, Server, directory, output, program, version};
use crate::{connect, free_address};

const ROLE: &str = "assettrack";
const PASSWORD: &str = "private";

/// A private server with one database. It ends, and its data goes, with this
/// value.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    account: Account,
    home: tempfile::TempDir,
    address: SocketAddr,
}

impl Postgres {
    /// Makes and starts one.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not come up.
    pub async fn start() -> Self {
        let mut made = Self::empty().await;
        let secret = made.home.path().join("password");
        if let Err(error) = fs::write(&secret, PASSWORD) {
            panic!("cannot write {}: {error}", secret.display());
        }
        made.account.own(&secret);
        let mut initdb = made.tool("initdb");
        initdb.arg("--pgdata").arg(made.data()).arg("--pwfile").arg(&secret);
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.args(["--username", ROLE]);
        output(initdb);
        made.start_again().await;
        made.execute("postgres", &format!("CREATE DATABASE {ROLE}")).await;
        made
    }

    /// A standby of this server, which from now on confirms no commit before the
    /// standby has it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn synchronous_standby(&self) -> Self {
        let mut standby = Self::empty().await;
        let mut copy = standby.tool("pg_basebackup");
        let source = format!("{}?application_name=standby", self.url_of("postgres"));
        copy.arg("--dbname").arg(source).arg("--pgdata").arg(standby.data());
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        output(copy);
        standby.start_again().await;
        self.execute("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        self.execute("postgres", "SELECT pg_reload_conf()").await;
        crate::wait_until(super::PATIENCE, "the synchronous standby", async || {
            let Ok(client) = connect(&self.url_of("postgres")).await else { return false };
            let query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            client.query_one(query, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
        })
        .await;
        standby
    }

    /// Makes a standby the primary.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn promote(&self) {
        self.execute("postgres", "SELECT pg_promote()").await;
    }

    /// Ends as by a power cut, and goes on with a timeline of its own, as after a
    /// restore from a copy.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn begin_timeline(&mut self) {
        self.stop_immediately().await;
        let signal = self.data().join("standby.signal");
        if let Err(error) = fs::write(&signal, "") {
            panic!("cannot write {}: {error}", signal.display());
        }
        self.account.own(&signal);
        self.start_again().await;
        self.promote().await;
    }

    /// URL of the database.
    pub fn url(&self) -> String {
        self.url_of(ROLE)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Stops it as `pg_ctl stop -m immediate` does, and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop_immediately(&mut self) {
        self.server.end(Signal::SIGQUIT).await;
    }

    /// Starts it on what it has stored, and waits until it accepts connections.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        let mut command = self.tool("postgres");
        command.arg("-D").arg(self.data());
        let port = format!("port={}", self.address.port());
        // A killed process loses nothing that the kernel has: no fsync needed.
        for setting in [
            &port,
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=32MB",
            "fsync=off",
            "timezone=UTC",
            "logging_collector=off",
        ] {
            command.args(["-c", setting]);
        }
        self.server.start(command);
        let url = self.url_of("postgres");
        self.server.await_ready(async || connect(&url).await.is_ok()).await;
    }

    /// Makes transactions read-only from now on, or no longer.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn read_only(&self, on: bool) {
        let state = if on { "on" } else { "off" };
        let statement = format!("ALTER SYSTEM SET default_transaction_read_only = {state}");
        self.execute("postgres", &statement).await;
        self.execute("postgres", "SELECT pg_reload_conf()").await;
    }

    async fn empty() -> Self {
        let account = Account::find();
        let home = directory(account);
        let server = Server::new("postgres", home.path());
        Self { server, account, home, address: free_address().await }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgresql://{ROLE}:{PASSWORD}@{}/{database}", self.address)
    }

    async fn execute(&self, database: &str, statement: &str) {
        let done = async { connect(&self.url_of(database)).await?.batch_execute(statement).await };
        if let Err(error) = done.await {
            panic!("{statement}: {error}");
        }
    }

    /// A program of the newest installation.
    fn tool(&self, name: &str) -> Command {
        let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut installed: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| Some((version(&entry.file_name())?, entry.path().join("bin").join(name))))
            .collect();
        installed.sort();
        let newest: Vec<PathBuf> = installed.into_iter().rev().map(|(_, path)| path).collect();
        self.account.command(&program(&newest, name), self.home.path())
    }
}

#[cfg(test)]
mod tests {
    use super::Postgres;
    use crate::connect;

    #[tokio::test]
    async fn a_promoted_synchronous_standby_has_all_that_was_committed() {
        let mut primary = Postgres::start().await;
        let client = connect(&primary.url()).await.unwrap();
        client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        let standby = primary.synchronous_standby().await;
        client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
        primary.kill();
        standby.promote().await;
        let client = connect(&standby.url()).await.unwrap();
        client.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();
        let sum: i64 = client.query_one("SELECT sum(n) FROM kept", &[]).await.unwrap().get(0);
        assert_eq!(sum, 3);
        standby.read_only(true).await;
        let client = connect(&standby.url()).await.unwrap();
        assert!(client.batch_execute("INSERT INTO kept VALUES (3)").await.is_err());
    }
}
