//! A RabbitMQ of a test's own, with an Erlang port mapper of its own.

use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Account, Server, directory, output, program};
use crate::{free_address, wait_until};

/// Memory above which it blocks publishers, unless told otherwise.
const MEMORY: &str = "512MB";
/// Free disk below which it does.
const DISK: &str = "50MB";

/// A private broker. It ends, and its data goes, with this value.
#[derive(Debug)]
pub struct Broker {
    server: Server,
    _mapper: Server,
    account: Account,
    home: tempfile::TempDir,
    address: SocketAddr,
    mapper: SocketAddr,
    distribution: SocketAddr,
}

impl Broker {
    /// Starts one on nothing, and waits until it speaks AMQP.
    ///
    /// # Panics
    /// When RabbitMQ is not installed, or does not come up.
    pub async fn start() -> Self {
        let account = Account::find();
        let home = directory(account);
        let (address, mapper, distribution) =
            (free_address().await, free_address().await, free_address().await);
        let configuration = format!(
            "listeners.tcp.1 = {address}\ndefault_user = assettrack\ndefault_pass = private\n\
             vm_memory_high_watermark.absolute = {MEMORY}\ndisk_free_limit.absolute = {DISK}\n\
             raft.wal_max_size_bytes = 67108864\nlog.file = false\nlog.console = true\nlog.console.level = info\n"
        );
        let files =
            [("rabbitmq.conf", configuration.as_str()), ("enabled_plugins", "[].\n"), ("environment", "")];
        for (name, text) in files {
            let path = home.path().join(name);
            if let Err(error) = fs::write(&path, text)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            {
                panic!("cannot write {}: {error}", path.display());
            }
            account.own(&path);
        }
        let mut epmd = Server::new("epmd", home.path());
        let mut command = account.command(&program(&[], "epmd"), home.path());
        command.args(["-port", &mapper.port().to_string()]).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        epmd.start(command);
        epmd.await_ready(async || TcpStream::connect(mapper).await.is_ok()).await;
        let server = Server::new("rabbitmq", home.path());
        let mut broker = Self { server, _mapper: epmd, account, home, address, mapper, distribution };
        broker.start_again().await;
        broker
    }

    /// Its AMQP URL.
    pub fn url(&self) -> String {
        format!("amqp://assettrack:private@{}/%2f", self.address)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// When it does not.
    pub async fn stop(&mut self) {
        self.server.end(Signal::SIGTERM).await;
    }

    /// Starts it on what it has stored, and waits until it speaks AMQP.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        let mut command = self.command("rabbitmq-server");
        command.env("RABBITMQ_DIST_PORT", self.distribution.port().to_string());
        self.server.start(command);
        let address = self.address;
        self.server.await_ready(async || speaks_amqp(address).await).await;
    }

    /// Raises or ends its memory alarm, and waits until it has.
    ///
    /// # Panics
    /// When `rabbitmqctl` fails.
    pub async fn memory_alarm(&self, on: bool) {
        let limit: &[&str] = if on { &["absolute", "1MB"] } else { &["absolute", MEMORY] };
        self.control(&[&["set_vm_memory_high_watermark"], limit].concat());
        self.alarmed(on).await;
    }

    /// Raises or ends its disk alarm, and waits until it has.
    ///
    /// # Panics
    /// When `rabbitmqctl` fails.
    pub async fn disk_alarm(&self, on: bool) {
        self.control(&["set_disk_free_limit", if on { "1000000GB" } else { DISK }]);
        self.alarmed(on).await;
    }

    async fn alarmed(&self, on: bool) {
        let what = if on { "the broker's alarm" } else { "the end of the broker's alarm" };
        wait_until(Duration::from_secs(60), what, async || {
            let alarms = self.control(&["eval", "length(rabbit_alarm:get_alarms())."]);
            (alarms.trim() != "0") == on
        })
        .await;
    }

    fn control(&self, arguments: &[&str]) -> String {
        let mut command = self.command("rabbitmqctl");
        command.arg("--quiet").args(arguments);
        output(command)
    }

    fn command(&self, name: &str) -> Command {
        // What Debian has in PATH insists on being root or `rabbitmq`; the script
        // behind it does not.
        let script = program(&[PathBuf::from("/usr/lib/rabbitmq/bin").join(name)], name);
        let home = self.home.path();
        let mut command = self.account.command(&script, home);
        command
            .env("HOME", home)
            .env("RABBITMQ_NODENAME", "assettrack@localhost")
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_CONFIG_FILES", home.join("conf.d"))
            .env("RABBITMQ_CONF_ENV_FILE", home.join("environment"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            .env("RABBITMQ_PID_FILE", home.join("pid"))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper.port().to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        command
    }
}

async fn speaks_amqp(address: SocketAddr) -> bool {
    const METHOD_FRAME: u8 = 1;
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await
    };
    matches!(timeout(Duration::from_secs(2), asking).await, Ok(Ok(METHOD_FRAME)))
}

#[cfg(test)]
mod tests {
    use super::Broker;

    #[tokio::test]
    async fn a_private_broker_is_killed_and_keeps_what_it_has() {
        let mut broker = Broker::start().await;
        broker.control(&["add_vhost", "kept"]);
        broker.kill();
        assert!(!super::speaks_amqp(broker.address).await);
        broker.start_again().await;
        assert!(broker.control(&["list_vhosts"]).lines().any(|line| line == "kept"));
        broker.memory_alarm(true).await;
        broker.memory_alarm(false).await;
    }
}
