//! Limits of calls: how many at once, and how long. What is over them gets the
//! status that says so; tonic's own layers answer CANCELLED and UNKNOWN.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::{Code, body::Body};
use tower::{Layer, Service};

use crate::status;

/// When to come back after a refusal.
const RETRY: Duration = Duration::from_millis(200);

/// Puts the limits around a server's services.
#[derive(Clone, Debug)]
pub(super) struct LimitsLayer {
    calls: Arc<Semaphore>,
    longest: Duration,
}

impl LimitsLayer {
    /// At most `calls` in progress, none longer than `longest` or than its
    /// `grpc-timeout`.
    pub(super) fn new(calls: usize, longest: Duration) -> Self {
        Self { calls: Arc::new(Semaphore::new(calls)), longest }
    }
}

impl<S> Layer<S> for LimitsLayer {
    type Service = Limits<S>;

    fn layer(&self, inner: S) -> Limits<S> {
        Limits { inner, limits: self.clone() }
    }
}

/// A service within limits.
#[derive(Clone, Debug)]
pub(super) struct Limits<S> {
    inner: S,
    limits: LimitsLayer,
}

impl<S> Service<Request<Body>> for Limits<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Ok(permit) = self.limits.calls.clone().try_acquire_owned() else {
            let text = "too many calls are in progress; try again";
            let refused = status::retry_later(Code::ResourceExhausted, "TOO_MANY_CALLS", text, RETRY);
            return Box::pin(async move { Ok(refused.into_http()) });
        };
        let asked = request.headers().get("grpc-timeout").and_then(|value| timeout(value.as_bytes()));
        let longest = asked.map_or(self.limits.longest, |asked| asked.min(self.limits.longest));
        // The timer starts here, before tonic's own does, and so fires first.
        let answer = tokio::time::timeout(longest, self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            drop(permit);
            answer.unwrap_or_else(|_| {
                let text = format!("no answer within {} ms", longest.as_millis());
                Ok(status::error(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text, &[]).into_http())
            })
        })
    }
}

/// Reads `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2).
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (value, expected) in [
            ("2S", Some(Duration::from_secs(2))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("1H", Some(Duration::from_secs(3600))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("123456789S", None),
            ("1x", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
    }
}
