//! Cross-origin requests from browsers: refused unless the origin is named in
//! the settings. A page of the gateway's own origin needs no leave.

use std::{convert::Infallible, sync::Arc, task::Poll};

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use tonic::body::Body;
use tower::{Layer, Service};

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Where gRPC-Web has its status when there is no message.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id";
/// A browser need not ask again for two hours, the most that Chromium keeps.
const MAX_AGE_SECONDS: u32 = 7200;

/// Lets pages of these origins call the API.
#[derive(Clone, Debug)]
pub struct CorsLayer {
    origins: Arc<[HeaderValue]>,
}

impl CorsLayer {
    /// Origins such as `https://assets.example`; none for no page but our own.
    pub fn new(origins: impl IntoIterator<Item = HeaderValue>) -> Self {
        Self { origins: origins.into_iter().collect() }
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;

    fn layer(&self, inner: S) -> Cors<S> {
        Cors { inner, origins: Arc::clone(&self.origins) }
    }
}

/// Answers preflight requests, and marks answers for allowed origins.
#[derive(Clone, Debug)]
pub struct Cors<S> {
    inner: S,
    origins: Arc<[HeaderValue]>,
}

impl<S, B> Service<Request<B>> for Cors<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let origin = request.headers().get(ORIGIN).cloned();
        let allowed = origin.clone().filter(|origin| self.origins.contains(origin));
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if preflight && origin.is_some() {
            let response = answer_preflight(request.headers(), allowed);
            return Box::pin(async move { Ok(response) });
        }
        let answer = self.inner.call(request);
        if self.origins.is_empty() {
            return Box::pin(answer);
        }
        Box::pin(async move {
            let mut response = answer.await?;
            // Caches must not give one origin the answer for another.
            response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
            if let Some(origin) = allowed {
                response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                response
                    .headers_mut()
                    .insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            }
            Ok(response)
        })
    }
}

/// Without the headers below a browser does not send the request itself.
fn answer_preflight(asked: &HeaderMap, allowed: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("origin, access-control-request-headers"));
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
        if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn ask(origins: &[&'static str], method: Method, headers: &[(&str, &str)]) -> Response<Body> {
        let inner = service_fn(|_: Request<()>| async { Ok(Response::new(Body::empty())) });
        let service =
            CorsLayer::new(origins.iter().map(|origin| HeaderValue::from_static(origin))).layer(inner);
        let mut request = Request::builder().method(method).uri("/v1/assets");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        service.oneshot(request.body(()).unwrap()).await.unwrap()
    }

    const PREFLIGHT: &[(&str, &str)] = &[
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-grpc-web"),
    ];

    #[tokio::test]
    async fn no_origin_is_allowed_unless_named() {
        for origins in [&[][..], &["https://b.example"]] {
            let preflight = ask(origins, Method::OPTIONS, PREFLIGHT).await;
            assert_eq!(preflight.status(), 204);
            assert!(!preflight.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
            let answer = ask(origins, Method::GET, &[("origin", "https://a.example")]).await;
            assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }

    #[tokio::test]
    async fn a_named_origin_may_call_and_read_the_status() {
        let origins = &["https://a.example"];
        let preflight = ask(origins, Method::OPTIONS, PREFLIGHT).await;
        assert_eq!(preflight.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(preflight.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "x-grpc-web");
        let answer = ask(origins, Method::POST, &[("origin", "https://a.example")]).await;
        assert!(
            answer.headers()[ACCESS_CONTROL_EXPOSE_HEADERS]
                .to_str()
                .unwrap()
                .contains("grpc-status-details-bin")
        );
        assert_eq!(answer.headers()[VARY], "origin");
    }
}
