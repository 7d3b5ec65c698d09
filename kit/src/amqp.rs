//! The connection to the broker: `amqp://` or `amqps://` (rustls), with a
//! heartbeat and a deadline. Who uses it supervises it: channels and delivery
//! tags die with their connection, so it is rebuilt, never recovered in place.

use std::{path::PathBuf, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::{
    Connection, ConnectionProperties,
    tcp::{AMQPUriTcpExt, OwnedTLSConfig},
    uri::AMQPUri,
};

use crate::settings::{Secret, SettingError, secret};

/// How long connecting may take, handshakes included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A silent peer is given up after two of these.
const HEARTBEAT_SECONDS: u16 = 10;
/// Most bytes of the broker's first frame.
const MAX_START_BYTES: u32 = 64 * 1024;

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
    /// It does not say its version, as every AMQP 0-9-1 broker does first.
    #[error("the broker does not say its version: {0}")]
    Version(#[from] std::io::Error),
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
        // The parser's own text quotes the URL, and so the password.
        let mut uri: AMQPUri = url.expose().parse().map_err(|_: String| {
            SettingError::new("amqp-url", "must be amqp://user:password@host:port/vhost, or amqps://")
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

    /// Asks for frames of at most `bytes`, at least 4,096. The client keeps 32
    /// frames in each direction in memory: 8 MiB with the broker's 128 KiB.
    #[must_use]
    pub fn with_frame_max(mut self, bytes: u32) -> Self {
        self.uri.query.frame_max = Some(bytes);
        self
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

    /// Version of the broker, such as `3.10.8`, by the first frame of a short
    /// connection of its own: the client library reads it and keeps it to itself.
    ///
    /// # Errors
    /// The broker cannot be reached, does not answer in time, or says nothing.
    pub async fn version(&self) -> Result<String, ConnectError> {
        let asking = async {
            let runtime = lapin::runtime::default_runtime()?;
            let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
            let mut stream = self.uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            // Frame: type, channel (2 bytes), size (4 bytes), payload, end.
            let mut head = [0; 7];
            stream.read_exact(&mut head).await?;
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(MAX_START_BYTES);
            let mut start = vec![0; size as usize];
            stream.read_exact(&mut start).await?;
            version_in(&start).ok_or_else(|| std::io::Error::other("no such property").into())
        };
        tokio::time::timeout(CONNECT_DEADLINE, asking).await.map_err(|_| ConnectError::Deadline)?
    }
}

/// The field `version` (a long string) of the server's properties in the
/// payload of Connection.Start.
fn version_in(start: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = start.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let (length, rest) = start.get(at..)?.split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_be_bytes(*length) as usize)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_named_without_its_password() {
        for url in ["guest:hunter2@h", "http://guest:hunter2@h", "amqp://guest:hunter2@h:port"] {
            let settings = Settings {
                amqp_url: Some(Secret::new(url)),
                amqp_url_file: None,
                amqp_ca_file: None,
                queue_namespace: "assettrack".to_owned(),
            };
            let error = settings.broker("test").err().expect(url).to_string();
            assert!(error.contains("ASSETTRACK_AMQP_URL") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_version_is_read_from_the_first_frame() {
        let start = |tail: &[u8]| [b"\0\x0a\0\x0a\0\x09\0\0\0\x30\x07productS\0\0\0\x01R", tail].concat();
        assert_eq!(version_in(&start(b"\x07versionS\0\0\0\x064.1.0!!")).as_deref(), Some("4.1.0!"));
        for wrong in
            [&b""[..], b"\x07version", b"\x07versionS\0\0", b"\x07versionS\0\0\0\x094.1", b"\x07versionI1234"]
        {
            assert_eq!(version_in(&start(wrong)), None, "{wrong:?}");
        }
    }
}
