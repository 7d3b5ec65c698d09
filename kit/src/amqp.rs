//! The connection to the broker: `amqp://` or `amqps://` (rustls), with a
//! heartbeat and a deadline. Who uses it supervises it: channels and delivery
//! tags die with their connection, so it is rebuilt, never recovered in place.

use std::{path::PathBuf, time::Duration};

use lapin::{Connection, ConnectionProperties, tcp::OwnedTLSConfig, uri::AMQPUri};

use crate::settings::{Secret, SettingError, secret};

/// How long connecting may take, handshakes included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A silent peer is given up after two of these.
const HEARTBEAT_SECONDS: u16 = 10;

/// Where the broker is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Broker")]
pub struct Settings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS; an empty
    /// path or `%2f` is the default virtual host.
    #[arg(long, env = "ASSETTRACK_AMQP_URL", hide_env_values = true)]
    pub amqp_url: Option<Secret>,
    /// File that holds the URL.
    #[arg(long, env = "ASSETTRACK_AMQP_URL_FILE")]
    pub amqp_url_file: Option<PathBuf>,
    /// Certificates (PEM) to trust with `amqps://`, beside the system's.
    #[arg(long, env = "ASSETTRACK_AMQP_CA_FILE")]
    pub amqp_ca_file: Option<PathBuf>,
    /// Prefix of the names of exchanges and queues; another one where several
    /// installations share a virtual host.
    #[arg(long, env = "ASSETTRACK_QUEUE_NAMESPACE", default_value = "assettrack",
          value_parser = crate::queue::check_namespace)]
    pub queue_namespace: String,
}

/// A broker that can be connected to.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    ca: Option<String>,
    name: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker or the network refuses.
    #[error("{0}")]
    Refused(#[from] lapin::Error),
    /// It takes too long.
    #[error("no connection within {} s", CONNECT_DEADLINE.as_secs())]
    Deadline,
}

impl Settings {
    /// Checks the settings. `name` is shown in the broker's list of connections.
    ///
    /// # Errors
    /// The URL is missing or malformed, or the certificates cannot be read.
    pub fn broker(&self, name: &str) -> Result<Broker, SettingError> {
        let url = secret("amqp-url", self.amqp_url.as_ref(), self.amqp_url_file.as_ref())?;
        let mut uri: AMQPUri = url.expose().parse().map_err(|problem: String| {
            SettingError::new("amqp-url", format!("not an AMQP URL: {problem}"))
        })?;
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECONDS));
        let ca = match &self.amqp_ca_file {
            None => None,
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                SettingError::new("amqp-ca-file", format!("cannot read {}: {error}", path.display()))
            })?),
        };
        Ok(Broker { uri, ca, name: name.to_owned() })
    }
}

impl Broker {
    /// Host and port, for logs.
    pub fn address(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// Connects once, within 10 s.
    ///
    /// # Errors
    /// The broker refuses, cannot be reached, or does not answer in time.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime);
        Ok(tokio::time::timeout(CONNECT_DEADLINE, connecting).await.map_err(|_| ConnectError::Deadline)??)
    }
}
