//! gRPC and, through tonic-web's layer around this, gRPC-Web. Bodies pass
//! through as they are; only paths, headers and deadlines are looked at.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::{
    body::{AnswerBody, Fault, RequestBody, deadline_exceeded, too_large},
    edge::Shared,
    headers, local,
    observe::{Call, Protocol, RequestId},
    table::{Rpc, Upstream},
};

/// The service that GrpcWebLayer wraps.
#[derive(Clone, Debug)]
pub struct PassThrough {
    shared: Arc<Shared>,
}

/// Room for the frame around the largest message.
const FRAME_HEADER: usize = 5;

impl PassThrough {
    /// Passes calls on by the table.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Service<Request<Body>> for PassThrough {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { Ok(pass(&shared, request).await) })
    }
}

/// Where a call goes and how long it may take.
struct Plan {
    upstream: Upstream,
    timeout: Option<Duration>,
    limit: Option<usize>,
}

async fn pass(shared: &Shared, request: Request<Body>) -> Response<Body> {
    let protocol = request.extensions().get::<Protocol>().copied().unwrap_or(Protocol::Grpc);
    let request_id = request
        .extensions()
        .get::<RequestId>()
        .cloned()
        .unwrap_or_else(|| RequestId::from_headers(request.headers()));
    let path = request.uri().path().to_owned();
    let rpc = shared.table.rpc(&path).cloned();
    let label = match &rpc {
        Some(rpc) => rpc.path.as_str(),
        None if local::is_standard(&path) => path.split('/').nth(1).unwrap_or_default(),
        None => "unknown",
    };
    let mut call = shared.calls.begin(protocol, label, request_id);
    let _permit = match shared.admit() {
        Ok(permit) => permit,
        Err(status) => return refused(call, &status),
    };
    let plan = match plan(shared, rpc.as_deref(), &path, &request) {
        Ok(plan) => plan,
        Err(status) => return refused(call, &status),
    };
    let deadline = plan.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (request, fault) = prepare(request, &plan);
    let answer = send(shared, plan.upstream, request);
    let answered = match deadline {
        Some(deadline) => {
            tokio::time::timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(deadline_exceeded()))
        }
        None => answer.await,
    };
    match answered {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            // A length counts the body without trailers, and gRPC has none.
            parts.headers.remove(CONTENT_LENGTH);
            if let Some(status) = Status::from_header_map(&parts.headers) {
                // The headers are the whole answer, and must say so: grpc-go
                // takes headers with a status and a body, be it empty, for a
                // stream that broke off.
                call.end(status.code(), status.message());
                return Response::from_parts(parts, Body::empty());
            }
            Response::from_parts(parts, Body::new(AnswerBody::new(body, deadline, call)))
        }
        // What the client did wrong explains why the stream broke.
        Err(status) => refused(call, &fault.status().unwrap_or(status)),
    }
}

fn plan(shared: &Shared, rpc: Option<&Rpc>, path: &str, request: &Request<Body>) -> Result<Plan, Status> {
    let timeout = headers::timeout(request.headers())
        .map_err(|problem| kit::status::invalid_field(headers::GRPC_TIMEOUT, "INVALID_TIMEOUT", problem))?;
    let Some(rpc) = rpc else {
        if local::is_standard(path) {
            return Ok(Plan { upstream: Upstream::Gateway, timeout, limit: None });
        }
        let message = format!("there is no RPC {path}");
        return Err(kit::status::error(Code::Unimplemented, "UNKNOWN_RPC", message, &[]));
    };
    let limit = (!rpc.client_streaming).then_some(kit::grpc::MAX_MESSAGE_BYTES + FRAME_HEADER);
    if let (Some(limit), Some(length)) = (limit, content_length(request))
        && length > limit
    {
        return Err(too_large());
    }
    let streams = rpc.client_streaming || rpc.server_streaming;
    let timeout = timeout.or((!streams).then_some(shared.request_timeout));
    Ok(Plan { upstream: rpc.upstream, timeout, limit })
}

fn content_length(request: &Request<Body>) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn prepare(request: Request<Body>, plan: &Plan) -> (Request<Body>, Fault) {
    let (mut parts, body) = request.into_parts();
    headers::to_upstream(&mut parts.headers);
    if let Some(timeout) = plan.timeout {
        headers::set_timeout(&mut parts.headers, timeout);
    }
    if let Some(id) = parts.extensions.get::<RequestId>().and_then(|id| id.0.parse().ok()) {
        parts.headers.insert(crate::observe::REQUEST_ID, id);
    }
    let (body, fault) = RequestBody::new(body, plan.limit);
    (Request::from_parts(parts, Body::new(body)), fault)
}

/// Sends a call to an upstream or to the gateway's own services.
///
/// # Errors
/// UNAVAILABLE with the reason, also for an answer that is not gRPC's, such as
/// a proxy in between gives.
pub async fn send(
    shared: &Shared,
    upstream: Upstream,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if upstream == Upstream::Gateway {
        let mut local = shared.local.clone();
        return local.call(request).await.map_err(|never| match never {});
    }
    kit::failpoint::pass("forward_before");
    let response = shared.upstreams.send(upstream, request).await?;
    kit::failpoint::pass("forward_after");
    if response.status() != StatusCode::OK && !response.headers().contains_key("grpc-status") {
        let message = format!("the answer has HTTP status {} and is not gRPC", response.status().as_u16());
        return Err(kit::status::error(Code::Unavailable, "UPSTREAM_NOT_GRPC", message, &[]));
    }
    Ok(response.map(Body::new))
}

fn refused(mut call: Call, status: &Status) -> Response<Body> {
    call.end(status.code(), status.message());
    status.clone().into_http()
}
