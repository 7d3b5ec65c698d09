//! One process behind the gateway.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Uri, uri::Authority};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, body::Body};

use super::{connection, target, unavailable};
use crate::observe::UpstreamMetrics;

/// Connections to one peer: one does not scale over cores.
const CONNECTIONS: usize = 2;
/// How long a call waits for the very first attempt to connect.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
/// How often a call that never left the gateway is tried again.
const ATTEMPTS: usize = 2;

/// Address of a peer: `http://host:port`. The mesh encrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    authority: Authority,
    port: u16,
}

/// A text that is no address of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be http://host:port (the mesh encrypts)")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri: Uri = text.parse().map_err(|_| AddressError)?;
        let authority = uri.authority().cloned().ok_or(AddressError)?;
        let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("http") || authority.host().is_empty() || !bare {
            return Err(AddressError);
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Address {
    /// Host name or address, without brackets.
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// What is known of a peer's connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// Those that stand.
    pub up: Vec<Option<SendRequest<Body>>>,
    /// Whether any attempt has ended.
    pub tried: bool,
    /// Why the last attempt or connection failed.
    pub reason: String,
}

/// One process behind the gateway. Cheap to clone; its connections end with
/// the last clone.
#[derive(Clone, Debug)]
pub struct Peer {
    name: &'static str,
    address: Address,
    connections: watch::Receiver<Connections>,
    next: Arc<AtomicUsize>,
    _stop: Arc<DropGuard>,
}

impl Peer {
    /// Connects in the background, again and again. `name` is what messages
    /// call it.
    pub fn connect(name: &'static str, address: Address, metrics: &UpstreamMetrics) -> Self {
        let up = std::iter::repeat_with(|| None).take(CONNECTIONS).collect();
        let (sender, connections) = watch::channel(Connections { up, tried: false, reason: String::new() });
        let (sender, stop) = (Arc::new(sender), CancellationToken::new());
        for slot in 0..CONNECTIONS {
            let keeper = connection::Keeper {
                slot,
                name,
                address: address.clone(),
                connections: Arc::clone(&sender),
                open: metrics.connections(&format!("{name} {address}")),
            };
            tokio::spawn(stop.clone().run_until_cancelled_owned(keeper.run()));
        }
        Self { name, address, connections, next: Arc::default(), _stop: Arc::new(stop.drop_guard()) }
    }

    /// What it is, with its address.
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.address)
    }

    /// Whether a connection stands, or the first attempt is still under way.
    pub fn may_answer(&self) -> bool {
        let connections = self.connections.borrow();
        !connections.tried || connections.up.iter().any(Option::is_some)
    }

    /// None while it is connected, else why not.
    pub fn unreachable(&self) -> Option<String> {
        let connections = self.connections.borrow();
        let up = connections.up.iter().any(Option::is_some);
        (!up).then(|| if connections.tried { connections.reason.clone() } else { "connecting".to_owned() })
    }

    /// Waits until a connection comes or goes.
    pub async fn changed(&mut self) {
        // The sender lives as long as the keepers, which live as long as this.
        let _ = self.connections.changed().await;
    }

    pub(super) fn unreachable_message(&self) -> String {
        let reason = self.unreachable().unwrap_or_else(|| "its connections were lost".to_owned());
        format!("the {} is not reachable: {reason}", self.label())
    }

    /// Sends a call. One that never left the gateway, because its connection
    /// had just gone, is tried again on another.
    ///
    /// # Errors
    /// UNAVAILABLE with the reason.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Status> {
        *request.uri_mut() = target(&self.address.authority, request.uri())
            .map_err(|error| Status::internal(format!("the path cannot be sent: {error}")))?;
        *request.version_mut() = http::Version::HTTP_2;
        for _ in 0..ATTEMPTS {
            let mut sender = self.pick().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => {
                        let error = connection::causes(&error.into_error());
                        return Err(unavailable(format!("the {} broke the call off: {error}", self.label())));
                    }
                },
            }
        }
        Err(unavailable(self.unreachable_message()))
    }

    async fn pick(&self) -> Result<SendRequest<Body>, Status> {
        if !self.connections.borrow().tried {
            let mut connections = self.connections.clone();
            let first = connections.wait_for(|connections| connections.tried);
            // Over or not: what stands now is what counts.
            let _ = tokio::time::timeout(FIRST_ATTEMPT, first).await;
        }
        let connections = self.connections.borrow();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = connections.up.len();
        let mut in_turn = (0..count).filter_map(|step| connections.up.get((start + step) % count)?.as_ref());
        match in_turn.find(|sender| !sender.is_closed()) {
            Some(sender) => Ok(sender.clone()),
            None => {
                drop(connections);
                Err(unavailable(self.unreachable_message()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_http_without_a_path() {
        for (text, host, port) in [
            ("http://127.0.0.1:50051", "127.0.0.1", 50051),
            ("http://processor:50051/", "processor", 50051),
            ("http://[::1]:5", "::1", 5),
            ("http://processor", "processor", 80),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
        }
        for text in
            ["", "processor:50051", "https://x:1", "http://x:1/path", "http://u:p@x:1", "http://", "/x"]
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
