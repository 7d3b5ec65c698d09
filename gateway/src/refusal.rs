//! Errors as REST clients see them: always the JSON body of AIP-193, with an
//! ErrorInfo and the request ID, and the HTTP status of the code.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER},
};
use http_body_util::Full;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use crate::transcode::Invalid;

/// A request that gets an error, with what only HTTP can say.
#[derive(Debug)]
pub struct Refusal {
    /// Code, message and details.
    pub status: Status,
    /// HTTP status.
    pub http: StatusCode,
    /// A header that belongs to it, such as Allow.
    pub header: Option<(HeaderName, HeaderValue)>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let http = http_status(status.code());
        Self { status, http, header: None }
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        kit::status::invalid_field(&invalid.field, invalid.reason, invalid.problem).into()
    }
}

impl Refusal {
    /// An error that HTTP knows better than gRPC does.
    pub fn new(http: StatusCode, code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self { status: kit::status::error(code, reason, message, &[]), http, header: None }
    }

    /// 405 with the methods that are allowed.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let message = format!("this path takes {allowed}");
        let refusal =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "METHOD_NOT_ALLOWED", message);
        Self { header: HeaderValue::from_str(allowed).ok().map(|value| (ALLOW, value)), ..refusal }
    }

    /// 404 for a path that no RPC has.
    pub fn unknown_path(path: &str) -> Self {
        let message = format!("there is nothing at {path}");
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, "UNKNOWN_PATH", message)
    }

    /// The JSON of AIP-193. Details are rendered by their descriptors.
    pub fn json(&self, pool: &DescriptorPool, request_id: &str) -> Vec<u8> {
        let code = self.status.code();
        let name = code_name(code);
        let mut details = details(pool, &self.status);
        if !details.iter().any(|detail| detail["@type"] == ERROR_INFO) {
            details.push(json!({"@type": ERROR_INFO, "reason": name, "domain": kit::status::DOMAIN}));
        }
        details.push(json!({"@type": REQUEST_INFO, "requestId": request_id}));
        let message = self.status.message();
        let error = Error { code: self.http.as_u16(), message, status: name, details };
        // Texts and JSON values: nothing in it that could fail to be written.
        serde_json::to_vec(&Envelope { error }).unwrap_or_default()
    }

    /// The response.
    pub fn into_response(self, pool: &DescriptorPool, request_id: &str) -> Response<Body> {
        let json = self.json(pool, request_id);
        let mut response = Response::new(Body::new(Full::new(Bytes::from(json))));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(delay) = self.status.get_details_retry_info().and_then(|info| info.retry_delay) {
            // Whole seconds, and never too early.
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(delay.as_secs() + u64::from(delay.subsec_nanos() > 0)),
            );
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}

/// The body of AIP-193, in the order that people read it.
#[derive(Serialize)]
struct Envelope<'e> {
    error: Error<'e>,
}

#[derive(Serialize)]
struct Error<'e> {
    code: u16,
    message: &'e str,
    status: &'static str,
    details: Vec<Json>,
}

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const REQUEST_INFO: &str = "type.googleapis.com/google.rpc.RequestInfo";

fn details(pool: &DescriptorPool, status: &Status) -> Vec<Json> {
    let Ok(rich) = tonic_types::Status::decode(status.details()) else { return Vec::new() };
    rich.details.iter().filter_map(|any| detail(pool, &any.type_url, &any.value)).collect()
}

/// One detail as the JSON of an Any; none if its type is not in the contract,
/// or its bytes are not of that type: the code and message still stand.
fn detail(pool: &DescriptorPool, type_url: &str, value: &[u8]) -> Option<Json> {
    let name = type_url.rsplit('/').next()?;
    let message = DynamicMessage::decode(pool.get_message_by_name(name)?, value).ok()?;
    let Ok(Json::Object(fields)) = serde_json::to_value(&message) else { return None };
    let mut any = Map::new();
    any.insert("@type".to_owned(), type_url.into());
    any.extend(fields);
    Some(any.into())
}

/// HTTP status of a code: googleapis/google/rpc/code.proto.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // 499 is nginx's "client closed request"; no one reads it.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Name of a code: googleapis/google/rpc/code.proto.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    async fn body(refusal: Refusal) -> (http::response::Parts, Json) {
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
        let (parts, body) = refusal.into_response(&pool, "r-1").into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn details_are_rendered_with_their_types() {
        let status = kit::status::invalid_field("filter", "BAD_FILTER", "expected `=`");
        let (parts, json) = body(status.into()).await;
        assert_eq!(parts.status, 400);
        let expected = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "filter: expected `=`", "details": [
            {"@type": ERROR_INFO, "reason": "BAD_FILTER", "domain": "assettrack", "metadata": {"field": "filter"}},
            {"@type": "type.googleapis.com/google.rpc.BadRequest",
             "fieldViolations": [{"field": "filter", "description": "expected `=`"}]},
            {"@type": REQUEST_INFO, "requestId": "r-1"},
        ]}});
        assert_eq!(json, expected);
    }

    #[tokio::test]
    async fn a_bare_status_still_gets_an_error_info() {
        let (parts, json) = body(Status::not_found("no").into()).await;
        assert_eq!(parts.status, 404);
        assert_eq!(
            json["error"]["details"][0],
            json!({"@type": ERROR_INFO, "reason": "NOT_FOUND", "domain": "assettrack"})
        );
    }

    #[tokio::test]
    async fn a_retry_delay_becomes_a_header_in_whole_seconds() {
        let delay = Duration::from_millis(1500);
        let status = kit::status::retry_later(Code::ResourceExhausted, "BUSY", "busy", delay);
        let (parts, _) = body(status.into()).await;
        assert_eq!(
            (parts.status.as_u16(), &parts.headers[RETRY_AFTER]),
            (429, &HeaderValue::from_static("2"))
        );
    }

    #[tokio::test]
    async fn a_detail_of_an_unknown_type_does_not_hide_the_error() {
        let any = prost_types::Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![1] };
        let rich = tonic_types::Status { code: 5, message: "no".into(), details: vec![any] };
        let status = Status::with_details(Code::NotFound, "no", rich.encode_to_vec().into());
        let (_, json) = body(status.into()).await;
        assert_eq!(json["error"]["status"], "NOT_FOUND");
    }
}
