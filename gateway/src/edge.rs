//! Where a request goes: gRPC and gRPC-Web by content type, REST by path, and
//! everything else to the web UI's files.

use std::{convert::Infallible, sync::Arc, task::Poll, time::Duration};

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{ACCEPT, CONTENT_TYPE, HeaderName},
};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status, body::Body, service::Routes};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};

use crate::{
    grpc::PassThrough,
    host,
    observe::{CallMetrics, Protocol, RequestId},
    refusal::Refusal,
    rest,
    table::Table,
    ui::Ui,
    upstream::Upstreams,
};

/// Calls that wait for an answer at a time; more are refused at once instead
/// of queueing.
const MAX_CALLS: usize = 1024;

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    /// All RPCs and REST bindings.
    pub table: Table,
    /// The processes behind.
    pub upstreams: Upstreams,
    /// Health, reflection and the overview.
    pub local: Routes,
    /// Metrics of calls.
    pub calls: CallMetrics,
    /// How long a call may take whose client sets no deadline; streams may
    /// take for ever.
    pub request_timeout: Duration,
    /// The web UI's files.
    pub ui: Ui,
    /// Room for calls.
    pub room: Arc<Semaphore>,
}

impl Shared {
    /// Room for [`MAX_CALLS`].
    pub fn room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_CALLS))
    }

    /// Lets a call in.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if there are too many already.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            let message = format!("{MAX_CALLS} calls are in progress");
            kit::status::retry_later(
                Code::ResourceExhausted,
                "TOO_MANY_CALLS",
                message,
                Duration::from_secs(1),
            )
        })
    }
}

/// The service behind the layers of `serve`.
#[derive(Clone, Debug)]
pub struct Edge {
    shared: Arc<Shared>,
    grpc: GrpcWebService<PassThrough>,
}

impl Edge {
    /// Sorts requests by what they are.
    pub fn new(shared: Arc<Shared>) -> Self {
        let grpc = GrpcWebLayer::new().layer(PassThrough::new(Arc::clone(&shared)));
        Self { shared, grpc }
    }
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        let request_id = request
            .extensions()
            .get::<RequestId>()
            .cloned()
            .unwrap_or_else(|| RequestId::from_headers(request.headers()));
        match Kind::of(request.uri(), request.headers(), request.version()) {
            Kind::Grpc(protocol) => {
                request.extensions_mut().insert(protocol);
                plain_content_types(request.headers_mut());
                Box::pin(self.grpc.call(request))
            }
            Kind::Refused(refusal) => {
                let shared = Arc::clone(&self.shared);
                Box::pin(async move { Ok(rest::refuse(&shared, request, request_id, refusal).await) })
            }
            Kind::Other => {
                let shared = Arc::clone(&self.shared);
                Box::pin(async move { Ok(other(&shared, request, request_id).await) })
            }
        }
    }
}

async fn other(shared: &Shared, request: Request<Body>, request_id: RequestId) -> Response<Body> {
    let path = request.uri().path();
    if shared.table.is_rest(path) {
        return rest::answer(shared, request, request_id).await;
    }
    if shared.table.rpc(path).is_some() {
        let message = "this is the path of an RPC: call it with content-type application/grpc or application/grpc-web, or use its REST path";
        let refusal = Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            "UNSUPPORTED_CONTENT_TYPE",
            message,
        );
        return rest::refuse(shared, request, request_id, refusal).await;
    }
    let (parts, body) = request.into_parts();
    match shared.ui.answer(&parts).await {
        Ok(response) => response,
        Err(refusal) => rest::refuse(shared, Request::from_parts(parts, body), request_id, refusal).await,
    }
}

/// What a request is, by its host and content type.
enum Kind {
    Grpc(Protocol),
    Refused(Refusal),
    Other,
}

impl Kind {
    fn of(uri: &Uri, headers: &HeaderMap, version: Version) -> Self {
        if !host::is_local(uri, headers) {
            let message =
                "host: must be localhost or a loopback address, since there is no access control yet";
            let forbidden = StatusCode::FORBIDDEN;
            return Self::Refused(Refusal::new(forbidden, Code::PermissionDenied, "FOREIGN_HOST", message));
        }
        let content_type = headers.get(CONTENT_TYPE).map(without_parameters).unwrap_or_default();
        let Some(format) = content_type.strip_prefix("application/grpc") else { return Self::Other };
        match format {
            "" | "+proto" if version == Version::HTTP_2 => Self::Grpc(Protocol::Grpc),
            "" | "+proto" => Self::Refused(Refusal {
                header: Some((http::header::UPGRADE, HeaderValue::from_static("h2c"))),
                ..Refusal::new(
                    StatusCode::UPGRADE_REQUIRED,
                    Code::FailedPrecondition,
                    "HTTP2_REQUIRED",
                    "gRPC needs HTTP/2; over HTTP/1.1 use gRPC-Web",
                )
            }),
            "-web" | "-web+proto" | "-web-text" | "-web-text+proto" => Self::Grpc(Protocol::GrpcWeb),
            _ => Self::Refused(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
                "UNSUPPORTED_CONTENT_TYPE",
                format!("content-type: `{content_type}` is not taken; messages must be `+proto`"),
            )),
        }
    }
}

fn without_parameters(value: &HeaderValue) -> String {
    let text = value.to_str().unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// tonic-web compares content types to the letter, and answers in text only if
/// Accept says so, not because the request is text.
fn plain_content_types(headers: &mut HeaderMap) {
    let cut = |headers: &mut HeaderMap, name: HeaderName| {
        let plain = headers.get(&name).map(without_parameters)?;
        headers.insert(name, HeaderValue::from_str(&plain).ok()?);
        Some(plain)
    };
    let content_type = cut(headers, CONTENT_TYPE).unwrap_or_default();
    let accept = cut(headers, ACCEPT).unwrap_or_default();
    if content_type.starts_with("application/grpc-web-text") && !accept.starts_with("application/grpc-web") {
        headers.insert(ACCEPT, HeaderValue::from_static("application/grpc-web-text"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(content_type: &str, version: Version) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        match Kind::of(&Uri::from_static("/"), &headers, version) {
            Kind::Grpc(protocol) => format!("{protocol:?}"),
            Kind::Refused(refusal) => refusal.http.as_u16().to_string(),
            Kind::Other => "other".to_owned(),
        }
    }

    #[test]
    fn content_types_decide() {
        for (content_type, version, expected) in [
            ("application/grpc", Version::HTTP_2, "Grpc"),
            ("application/grpc+proto", Version::HTTP_2, "Grpc"),
            ("application/grpc", Version::HTTP_11, "426"),
            ("application/grpc+json", Version::HTTP_2, "415"),
            ("application/grpc-web", Version::HTTP_11, "GrpcWeb"),
            ("application/grpc-web+proto; charset=utf-8", Version::HTTP_11, "GrpcWeb"),
            ("Application/gRPC-Web-Text", Version::HTTP_2, "GrpcWeb"),
            ("application/grpc-web+json", Version::HTTP_11, "415"),
            ("application/json", Version::HTTP_11, "other"),
            ("", Version::HTTP_2, "other"),
        ] {
            assert_eq!(kind(content_type, version), expected, "{content_type}");
        }
    }

    #[test]
    fn a_text_request_gets_a_text_answer() {
        for (accept, expected) in [
            (None, "application/grpc-web-text"),
            (Some("*/*"), "application/grpc-web-text"),
            (Some("application/grpc-web+proto; q=1"), "application/grpc-web+proto"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, "application/grpc-web-text; x=y".parse().unwrap());
            if let Some(accept) = accept {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            plain_content_types(&mut headers);
            assert_eq!(headers[ACCEPT], expected);
            assert_eq!(headers[CONTENT_TYPE], "application/grpc-web-text");
        }
    }
}
