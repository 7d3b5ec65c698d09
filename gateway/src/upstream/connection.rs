//! Keeps one HTTP/2 connection to a peer open: connect, serve until it ends,
//! wait a little, and again.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{net::TcpStream, sync::watch};
use tonic::body::Body;

use super::peer::{Address, Connections};

/// Flow control: the connection's window must hold many stalled streams, or
/// one slow reader blocks all others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A half-open connection is noticed within the sum of these two.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// A connection that stood this long was a good one.
const GOOD: Duration = Duration::from_secs(1);

/// One connection, and whom to tell about it.
#[derive(Debug)]
pub(super) struct Keeper {
    pub slot: usize,
    pub name: &'static str,
    pub address: Address,
    pub connections: Arc<watch::Sender<Connections>>,
    pub open: Gauge,
}

impl Keeper {
    /// Never ends; is cancelled with the peer.
    pub async fn run(self) {
        let mut delay = FIRST_DELAY;
        let mut attempt = self.slot;
        loop {
            let started = Instant::now();
            let failure = match self.open(attempt).await {
                Ok((sender, connection)) => {
                    self.report(Some(sender), String::new());
                    tracing::info!(peer = self.name, address = %self.address, slot = self.slot, "upstream connected");
                    self.open.inc();
                    let ended = connection.await;
                    self.open.dec();
                    ended.err().map_or_else(|| "it closed the connection".to_owned(), |error| causes(&error))
                }
                Err(error) => error.to_string(),
            };
            // Once for each outage, not once for each attempt.
            if self.report(None, failure.clone()) {
                tracing::warn!(peer = self.name, address = %self.address, slot = self.slot, reason = failure, "upstream away");
            }
            if started.elapsed() >= GOOD {
                delay = FIRST_DELAY;
            }
            tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
            delay = (delay * 2).min(LONGEST_DELAY);
            attempt += 1;
        }
    }

    /// Says how the connection stands; whether that is news.
    fn report(&self, sender: Option<SendRequest<Body>>, reason: String) -> bool {
        let mut news = false;
        self.connections.send_modify(|connections| {
            if let Some(slot) = connections.up.get_mut(self.slot) {
                news = !connections.tried || slot.is_some() != sender.is_some();
                *slot = sender;
            }
            connections.tried = true;
            connections.reason = reason;
        });
        news
    }

    async fn open(&self, attempt: usize) -> io::Result<(SendRequest<Body>, Connection)> {
        let timed_out =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_TIMEOUT:?}"));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.tcp(attempt)).await.map_err(timed_out)??;
        stream.set_nodelay(true)?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        handshake.await.map_err(io::Error::other)
    }

    /// A name with several addresses gets connections to different ones.
    async fn tcp(&self, attempt: usize) -> io::Result<TcpStream> {
        let mut addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((self.address.host(), self.address.port())).await?.collect();
        addresses.sort_unstable();
        let Some(address) = addresses.get(attempt % addresses.len().max(1)) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        };
        TcpStream::connect(address).await
    }
}

type Connection = http2::Connection<TokioIo<TcpStream>, Body, TokioExecutor>;

/// An error with what caused it, on one line.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
