//! What the gateway tells about its calls: metrics, and a log line for each.

use std::{fmt, sync::Arc, time::Instant};

use kit::metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use tonic::Code;

use crate::refusal::code_name;

/// Name of the header, and of the field in log lines and errors.
pub const REQUEST_ID: &str = "x-request-id";

/// How a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, binary or text.
    GrpcWeb,
    /// JSON over HTTP.
    Rest,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc_web",
            Self::Rest => "rest",
        }
    }
}

/// ID of a request: the client's own if it is sane, else a UUIDv7.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RequestId {
    /// Takes the client's ID (1 to 128 visible ASCII characters) or makes one.
    pub fn from_headers(headers: &http::HeaderMap) -> Self {
        let sane =
            |id: &&str| !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic());
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(sane);
        Self(given.map_or_else(|| uuid::Uuid::now_v7().to_string().into(), Into::into))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    protocol: &'static str,
    method: String,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
    method: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

/// From 1 ms to 16 s, by doubling.
fn durations() -> Histogram {
    Histogram::new((0..15).map(|step| 0.001 * f64::from(1 << step)))
}

/// Metrics of calls.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    durations: Family<ProtocolLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

impl CallMetrics {
    /// Registers `gateway_requests`, `gateway_request_duration_seconds` and
    /// `gateway_requests_in_flight`.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register("gateway_requests", "API calls answered, by gRPC code", own.calls.clone());
            let help = "Time from a call's first byte to the end of its answer";
            let unit = prometheus_client::registry::Unit::Seconds;
            registry.register_with_unit("gateway_request_duration", help, unit, own.durations.clone());
            registry.register("gateway_requests_in_flight", "API calls in progress", own.in_flight.clone());
        });
        own
    }

    /// Begins to observe a call. `method` is an RPC's path, or a fixed word
    /// for what is none, so that clients cannot make labels up.
    pub fn begin(&self, protocol: Protocol, method: &str, request_id: RequestId) -> Call {
        self.in_flight.inc();
        Call {
            metrics: self.clone(),
            protocol: protocol.name(),
            method: method.trim_start_matches('/').to_owned(),
            request_id,
            started: Instant::now(),
            ended: false,
        }
    }
}

/// A call in progress. One that is dropped before it ended was cancelled.
#[derive(Debug)]
pub struct Call {
    metrics: CallMetrics,
    protocol: &'static str,
    method: String,
    request_id: RequestId,
    started: Instant,
    ended: bool,
}

impl Call {
    /// The call is over; only the first time counts.
    pub fn end(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.metrics.in_flight.dec();
        let (protocol, method, code_text) = (self.protocol, self.method.clone(), code_name(code));
        let elapsed = self.started.elapsed();
        self.metrics
            .durations
            .get_or_create(&ProtocolLabels { protocol, method: method.clone() })
            .observe(elapsed.as_secs_f64());
        self.metrics.calls.get_or_create(&CallLabels { protocol, method, code: code_text }).inc();
        let (method, request_id) = (&self.method, &self.request_id);
        let milliseconds = elapsed.as_secs_f64() * 1000.0;
        match code {
            Code::Ok => {
                tracing::debug!(protocol, method, code = code_text, %request_id, milliseconds, "call");
            }
            Code::Unknown | Code::Internal | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded => {
                tracing::warn!(protocol, method, code = code_text, error = message, %request_id, milliseconds, "call failed");
            }
            _ => {
                tracing::info!(protocol, method, code = code_text, error = message, %request_id, milliseconds, "call refused");
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "the client went away");
    }
}

/// Metrics of the connections to other processes.
#[derive(Clone, Debug, Default)]
pub struct UpstreamMetrics {
    connections: Family<PeerLabels, Gauge>,
}

impl UpstreamMetrics {
    /// Registers `gateway_upstream_connections`.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        let help = "Connections open to other processes";
        metrics.register(|registry| {
            registry.register("gateway_upstream_connections", help, own.connections.clone());
        });
        own
    }

    /// The gauge of one peer.
    pub fn connections(&self, peer: &str) -> Gauge {
        self.connections.get_or_create(&PeerLabels { peer: peer.to_owned() }).clone()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_another_replaced() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, text.parse().unwrap());
            RequestId::from_headers(&headers).to_string()
        };
        assert_eq!(of("abc-1"), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            assert_eq!(uuid::Uuid::parse_str(&of(bad)).unwrap().get_version_num(), 7, "{bad}");
        }
    }

    #[test]
    fn each_call_is_counted_once_and_a_dropped_one_as_cancelled() {
        let metrics = Metrics::default();
        let calls = CallMetrics::register(&metrics);
        let begin = || calls.begin(Protocol::Rest, "/a.B/C", RequestId("r".into()));
        let mut call = begin();
        call.end(Code::NotFound, "no");
        call.end(Code::Ok, "");
        drop(call);
        drop(begin());
        let text = metrics.encode().unwrap();
        for line in [
            r#"assettrack_gateway_requests_total{protocol="rest",method="a.B/C",code="NOT_FOUND"} 1"#,
            r#"assettrack_gateway_requests_total{protocol="rest",method="a.B/C",code="CANCELLED"} 1"#,
            "assettrack_gateway_requests_in_flight 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
