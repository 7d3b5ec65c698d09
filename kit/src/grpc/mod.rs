//! gRPC servers and channels, built one way for all services.

mod limits;
mod reflection;

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, channel::Change, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use limits::LimitsLayer;
use reflection::{Reflection, V1, V1Alpha};

use crate::{readiness::Readiness, settings::SettingError};

/// Largest message a server or client takes or sends, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Longest that a call may take, whatever its caller's deadline.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// Calls in progress in one process; more are refused at once.
const MAX_CALLS: usize = 1024;
/// Streams on one connection.
const MAX_STREAMS: u32 = 512;
/// Flow control: the connection's window must hold many stalled streams, or
/// one slow reader blocks all others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Between two pings, and for the answer to one: a half-open connection is known
/// as dead within twice of it, and its calls are made again over another.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Connections a channel opens to one address: one does not scale over cores.
const CONNECTIONS: usize = 2;

pub use tonic::service::Routes;

/// Why a server stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("gRPC server: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Calls in progress did not end in time.
    #[error("calls were still in progress {0:?} after the shutdown began")]
    Grace(Duration),
}

/// Serves `routes` with health and reflection (v1 and v1alpha) until
/// `shutdown`, then lets calls in progress end, for `grace` at most.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    mut routes: Routes,
    readiness: Readiness,
    grace: Duration,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report_health(reporter, readiness, shutdown.clone()));
    routes = routes
        .add_service(health)
        .add_service(Reflection::<V1>::default())
        .add_service(Reflection::<V1Alpha>::default());

    // The whole stack: what is over the limits is refused at once, with the
    // right status, instead of queueing.
    let limits = LimitsLayer::new(MAX_CALLS, LONGEST_CALL);
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(limits)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.clone().cancelled_owned(),
        );
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = overdue => Err(ServeError::Grace(grace)),
    }
}

/// Keeps gRPC health in step with `readiness`: serving while every condition
/// holds, not serving from `shutdown` on. Ends with `shutdown`.
pub async fn report_health(reporter: HealthReporter, readiness: Readiness, shutdown: CancellationToken) {
    let mut ready = readiness.watch();
    loop {
        let serving = *ready.borrow_and_update() && !shutdown.is_cancelled();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        tokio::select! {
            changed = ready.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => {
                reporter.set_service_status("", ServingStatus::NotServing).await;
                return;
            }
        }
    }
}

/// A channel to one service, opened on first use, over two connections.
///
/// # Errors
/// The URL is not `http://host:port`; the error names `flag`.
pub fn channel(flag: &str, url: &str) -> Result<Channel, SettingError> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| SettingError::new(flag, format!("`{url}` is not a URL: {error}")))?;
    if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
        return Err(SettingError::new(flag, format!("`{url}` must be http://host:port (the mesh encrypts)")));
    }
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(3))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    // By number: a list is keyed by address, and equal ones replace each other.
    let (channel, changes) = Channel::balance_channel(CONNECTIONS);
    for number in 0..CONNECTIONS {
        changes.try_send(Change::Insert(number, endpoint.clone())).expect("it has room for all of them");
    }
    Ok(channel)
}

/// Binds the address that a setting gives.
///
/// # Errors
/// It cannot be bound; the error names the setting.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, SettingError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| SettingError::new(flag, format!("cannot listen on {address}: {error}")))
}

/// Whether a call may succeed if it is made again, unchanged, a little later.
///
/// A connection that breaks under a call comes as UNKNOWN or INTERNAL, but with
/// the transport's error as its source; what a server answers has none.
pub fn is_transient(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || matches!(
            status.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::ResourceExhausted
                | Code::Aborted
        )
}
