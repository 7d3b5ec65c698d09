//! The public port: accepting connections, and the whole stack that a request
//! goes through.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, header::X_CONTENT_TYPE_OPTIONS};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kit::shutdown::CancellationToken;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{Service, ServiceBuilder, util::BoxCloneService};

use crate::{
    cors::CorsLayer,
    edge::{Edge, Shared},
    observe::{REQUEST_ID, RequestId},
    sniff::{self, HttpVersion},
};

/// Connections at a time; more wait in the system's own queue.
const MAX_CONNECTIONS: usize = 4096;
/// A client must say something within this time, and send a whole head.
const FIRST_BYTES: Duration = Duration::from_secs(10);
const HEAD_TIME: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 256;
/// Flow control towards clients: a request is at most 4 MiB.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What one stream may hold for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// After a failed accept, as with no file descriptor left, until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Stack = BoxCloneService<Request<Incoming>, Response<Body>, Infallible>;

/// The whole stack, outermost first.
fn stack(shared: Arc<Shared>, cors: CorsLayer) -> Stack {
    BoxCloneService::new(
        ServiceBuilder::new()
            // First, so that everything below, refusals included, is logged
            // and answered under one ID.
            .layer(tower::layer::layer_fn(|inner| WithRequestId { inner }))
            // Before the edge: a preflight is no request of the API, and every
            // answer, errors too, must be readable to an allowed page.
            .layer(cors)
            // gRPC and gRPC-Web (with tonic-web's layer inside), REST, UI.
            .service(Edge::new(shared)),
    )
}

/// Serves until `shutdown`, then lets calls in progress end, for `grace` at
/// most; what is left then is cut off.
///
/// # Errors
/// Connections were cut off.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    cors: CorsLayer,
    grace: Duration,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let stack = stack(shared, cors);
    let (connections, room) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let cut = CancellationToken::new();
    loop {
        let accepting = async {
            let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            Ok::<_, io::Error>((stream, permit))
        };
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let serving = connection(stream, stack.clone(), shutdown.clone());
                let serving = cut.clone().run_until_cancelled_owned(serving);
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_ok() {
        return Ok(());
    }
    let left = connections.len();
    cut.cancel();
    connections.wait().await;
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{left} connections were still busy {grace:?} after the shutdown began"),
    ))
}

async fn connection(stream: TcpStream, stack: Stack, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let sniffed = tokio::select! {
        sniffed = sniff::version(stream, FIRST_BYTES) => sniffed,
        () = shutdown.cancelled() => return,
    };
    let (version, stream) = match sniffed {
        Ok(sniffed) => sniffed,
        Err(error) => {
            tracing::debug!(%error, "a connection said nothing");
            return;
        }
    };
    let (stream, service) = (TokioIo::new(stream), TowerToHyperService::new(stack));
    let served = match version {
        HttpVersion::One => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(MAX_HEAD_BYTES)
                .max_headers(MAX_HEADERS)
                .serve_connection(stream, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                served = connection.as_mut() => served,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        HttpVersion::Two => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HEAD_BYTES as u32)
                .max_concurrent_streams(MAX_STREAMS)
                .max_send_buf_size(SEND_BUFFER)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .serve_connection(stream, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                served = connection.as_mut() => served,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

/// Gives each request its ID and each answer the headers that all have.
#[derive(Clone, Debug)]
struct WithRequestId<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for WithRequestId<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = RequestId::from_headers(request.headers());
        let echoed = HeaderValue::from_str(&id.0);
        request.extensions_mut().insert(id);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            let headers = response.headers_mut();
            if let Ok(id) = echoed {
                headers.insert(REQUEST_ID, id);
            }
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            Ok(response)
        })
    }
}
