//! The admin endpoint: `/metrics`, `/livez`, `/readyz` over plain HTTP.

use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, readiness::Readiness};

/// Answers until `shutdown`. `/readyz` is 503 from then on, and while a
/// condition fails, with a line `name: reason` for each.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let stopping = shutdown.clone();
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || {
                let (readiness, stopping) = (readiness.clone(), stopping.clone());
                async move { ready(&readiness, &stopping) }
            }),
        )
        .route(
            "/metrics",
            get(move || {
                let metrics = metrics.clone();
                async move { encoded(&metrics) }
            }),
        );
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn ready(readiness: &Readiness, stopping: &CancellationToken) -> impl IntoResponse + use<> {
    if stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutdown: in progress\n".to_owned());
    }
    let failing = readiness.failing();
    if failing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = failing.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

fn encoded(metrics: &Metrics) -> impl IntoResponse + use<> {
    match metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(CONTENT_TYPE, kind)], text)
        }
        Err(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], "cannot encode\n".to_owned())
        }
    }
}
