//! REST: a request becomes the RPC that its google.api.http rule names, and
//! the answer becomes JSON.

mod stream;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    request::Parts,
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use crate::{
    body::{AnswerBody, deadline_exceeded},
    edge::Shared,
    grpc, headers,
    observe::{Call, Protocol, REQUEST_ID, RequestId},
    refusal::Refusal,
    table::{Binding, Body as BodyRule, router::Route},
    transcode::{self, answer},
};

/// Largest answer of an upstream, in bytes: a page of 1,000 assets is far less.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Before each message: a flag and its length.
const FRAME_HEADER: usize = 5;
/// How much of a refused body is still read, so that a client which is busy
/// sending gets to see the answer, and for how long.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Answers a request whose path belongs to the API.
pub async fn answer(shared: &Shared, request: Request<Body>, request_id: RequestId) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let (binding, segments) = match shared.table.find(&method, &path) {
        Ok(Route::Found { binding, segments }) => (binding, segments),
        Ok(Route::OtherMethods(allowed)) => {
            let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            if method == Method::OPTIONS {
                return options(&allowed);
            }
            return refuse_unbound(shared, request, request_id, Refusal::method_not_allowed(&allowed)).await;
        }
        Ok(Route::Unknown) => {
            return refuse_unbound(shared, request, request_id, Refusal::unknown_path(&path)).await;
        }
        Err(error) => {
            let refusal = kit::status::invalid_field("path", "INVALID_PATH", error.to_string()).into();
            return refuse_unbound(shared, request, request_id, refusal).await;
        }
    };
    let Some(binding) = shared.table.bindings().get(binding) else {
        return refuse_unbound(shared, request, request_id, Refusal::unknown_path(&path)).await;
    };
    let mut call = shared.calls.begin(Protocol::Rest, &binding.rpc.path, request_id.clone());
    if binding.rpc.server_streaming {
        return match open(shared, binding, &segments, request, &request_id).await {
            Ok((deadline, body)) => {
                let body = AnswerBody::new(body, deadline, call);
                stream::response(body, binding, shared.table.pool(), &request_id.0)
            }
            Err(refusal) => refused(shared, &mut call, refusal, &request_id),
        };
    }
    match serve(shared, binding, &segments, request, &request_id).await {
        Ok(json) => {
            call.end(Code::Ok, "");
            json_response(json, method == Method::HEAD)
        }
        Err(refusal) => refused(shared, &mut call, refusal, &request_id),
    }
}

async fn refuse_unbound(
    shared: &Shared,
    request: Request<Body>,
    request_id: RequestId,
    refusal: Refusal,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    drain(&parts, body).await;
    let mut call = shared.calls.begin(Protocol::Rest, "unknown", request_id.clone());
    refused(shared, &mut call, refusal, &request_id)
}

/// Answers a request that is none of the API's business with an error of the
/// API all the same.
pub async fn refuse(
    shared: &Shared,
    request: Request<Body>,
    request_id: RequestId,
    refusal: Refusal,
) -> Response<Body> {
    refuse_unbound(shared, request, request_id, refusal).await
}

fn refused(shared: &Shared, call: &mut Call, refusal: Refusal, request_id: &RequestId) -> Response<Body> {
    call.end(refusal.status.code(), refusal.status.message());
    refusal.into_response(shared.table.pool(), &request_id.0)
}

/// An RPC as a request asks for it.
struct Asked {
    deadline: Option<Instant>,
    headers: HeaderMap,
    message: Vec<u8>,
}

async fn serve(
    shared: &Shared,
    binding: &Binding,
    segments: &[&str],
    request: Request<Body>,
    request_id: &RequestId,
) -> Result<Vec<u8>, Refusal> {
    let _permit = shared.admit()?;
    let asked = ask(shared, binding, segments, request, request_id).await?;
    let call = unary(shared, binding, asked.headers, &asked.message);
    let bytes = in_time(asked.deadline, call).await?;
    answer::write(&binding.rpc.output, binding.response_body.as_ref(), &bytes).map_err(|error| {
        kit::status::error(Code::Internal, "UNREADABLE_ANSWER", error.to_string(), &[]).into()
    })
}

/// Calls an RPC that answers with a stream; the deadline is that of the stream,
/// if the client wants one.
async fn open(
    shared: &Shared,
    binding: &Binding,
    segments: &[&str],
    request: Request<Body>,
    request_id: &RequestId,
) -> Result<(Option<Instant>, Body), Refusal> {
    let _permit = shared.admit()?;
    let asked = ask(shared, binding, segments, request, request_id).await?;
    let call = async {
        grpc::send(shared, binding.rpc.upstream, framed(binding, asked.headers, &asked.message)?).await
    };
    let (parts, body) = in_time(asked.deadline, call).await?.into_parts();
    match Status::from_header_map(&parts.headers) {
        Some(status) if status.code() != Code::Ok => Err(status.into()),
        _ => Ok((asked.deadline, body)),
    }
}

async fn in_time<T>(
    deadline: Option<Instant>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match deadline {
        Some(deadline) => {
            tokio::time::timeout_at(deadline, call).await.unwrap_or_else(|_| Err(deadline_exceeded()))
        }
        None => call.await,
    }
}

async fn ask(
    shared: &Shared,
    binding: &Binding,
    segments: &[&str],
    request: Request<Body>,
    request_id: &RequestId,
) -> Result<Asked, Refusal> {
    let (parts, body) = request.into_parts();
    let timeout = headers::timeout(&parts.headers)
        .map_err(|problem| kit::status::invalid_field(headers::GRPC_TIMEOUT, "INVALID_TIMEOUT", problem))?
        // Streams may take for ever.
        .or((!binding.rpc.server_streaming).then_some(shared.request_timeout));
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let body = match check_body(binding, &parts, &body) {
        Ok(()) => read(&parts, body).await?,
        Err(refusal) => {
            drain(&parts, body).await;
            return Err(refusal);
        }
    };
    let message = transcode::request(binding, segments, parts.uri.query().unwrap_or_default(), &body)?;
    let mut headers = headers::rest_to_upstream(&parts.headers);
    if let Some(timeout) = timeout {
        headers::set_timeout(&mut headers, timeout);
    }
    if let Ok(id) = HeaderValue::from_str(&request_id.0) {
        headers.insert(REQUEST_ID, id);
    }
    Ok(Asked { deadline, headers, message: message.encode_to_vec() })
}

/// Refuses a body by its headers alone.
fn check_body(binding: &Binding, parts: &Parts, body: &Body) -> Result<(), Refusal> {
    use http_body::Body as _;
    if body.is_end_stream() {
        return Ok(());
    }
    if binding.body == BodyRule::None {
        return Err(transcode::Invalid {
            field: "body".into(),
            reason: "UNEXPECTED_BODY",
            problem: "this call takes no body".into(),
        }
        .into());
    }
    let unsupported = |reason, message: String| {
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, reason, message)
    };
    if parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported(
            "UNSUPPORTED_ENCODING",
            "content-encoding: the body must not be compressed".to_owned(),
        ));
    }
    let given = parts.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    if !is_json(given) {
        let given = if given.is_empty() { "none".to_owned() } else { format!("`{given}`") };
        return Err(unsupported(
            "UNSUPPORTED_CONTENT_TYPE",
            format!("content-type: must be application/json, not {given}"),
        ));
    }
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > kit::grpc::MAX_MESSAGE_BYTES) {
        return Err(too_large());
    }
    Ok(())
}

/// `application/json`, in UTF-8 if a charset is named.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| {
            let charset = parameter.to_ascii_lowercase();
            !charset.starts_with("charset=")
                || charset.trim_start_matches("charset=").trim_matches('"') == "utf-8"
        })
}

fn too_large() -> Refusal {
    let message = format!("the body is larger than {} bytes", kit::grpc::MAX_MESSAGE_BYTES);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, "BODY_TOO_LARGE", message)
}

async fn read(parts: &Parts, mut body: Body) -> Result<Bytes, Refusal> {
    let reading = Limited::new(&mut body, kit::grpc::MAX_MESSAGE_BYTES).collect();
    match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            drain(parts, body).await;
            Err(too_large())
        }
        Ok(Err(error)) => {
            let message = format!("the request's body is broken: {error}");
            Err(kit::status::error(Code::InvalidArgument, "BROKEN_BODY", message, &[]).into())
        }
        Err(_) => {
            let message = format!("the body did not arrive within {BODY_TIME:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "SLOW_BODY", message))
        }
    }
}

/// Reads on, within limits, what will not be used: over HTTP/1.1 a client that
/// is still sending when the connection closes sees a broken pipe instead of
/// the answer. One that asked first has not sent anything.
async fn drain(parts: &Parts, mut body: Body) {
    if parts.version == http::Version::HTTP_2 || parts.headers.contains_key(EXPECT) {
        return;
    }
    let mut left = DRAIN_BYTES;
    let draining = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Late or not, the answer follows.
    let _ = tokio::time::timeout(DRAIN_TIME, draining).await;
}

/// Calls a unary RPC with an encoded message, and gives the answer's.
async fn unary(
    shared: &Shared,
    binding: &Binding,
    headers: HeaderMap,
    message: &[u8],
) -> Result<Bytes, Status> {
    let request = framed(binding, headers, message)?;
    let response = grpc::send(shared, binding.rpc.upstream, request).await?;
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let collected = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(collected) => collected,
        Err(error) if error.is::<LengthLimitError>() => {
            let message =
                format!("the answer is larger than {MAX_ANSWER_BYTES} bytes; ask for a smaller page");
            return Err(kit::status::error(Code::ResourceExhausted, "ANSWER_TOO_LARGE", message, &[]));
        }
        Err(error) => {
            let message = format!("the answer broke off: {error}");
            return Err(kit::status::error(Code::Unavailable, "UPSTREAM_BROKE_OFF", message, &[]));
        }
    };
    match collected.trailers().and_then(Status::from_header_map) {
        Some(status) if status.code() == Code::Ok => message_of(collected.to_bytes()),
        Some(status) => Err(status),
        None => Err(unreadable("no status at its end")),
    }
}

/// A request of gRPC with one message.
fn framed(binding: &Binding, headers: HeaderMap, message: &[u8]) -> Result<Request<Body>, Status> {
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).map_err(|_| crate::body::too_large())?);
    frame.put_slice(message);
    let mut request = Request::new(Body::new(Full::new(frame.freeze())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::try_from(&binding.rpc.path)
        .map_err(|error| Status::internal(format!("{}: {error}", binding.rpc.path)))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Takes the one message out of its frame.
fn message_of(mut body: Bytes) -> Result<Bytes, Status> {
    let Some((flag, length)) =
        body.first_chunk::<FRAME_HEADER>().map(|[flag, length @ ..]| (*flag, u32::from_be_bytes(*length)))
    else {
        return Err(unreadable("no message in it"));
    };
    let message = body.split_off(FRAME_HEADER);
    if flag != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(unreadable("not exactly one plain message in it"));
    }
    Ok(message)
}

fn unreadable(what: &str) -> Status {
    kit::status::error(Code::Internal, "UNREADABLE_ANSWER", format!("the upstream's answer has {what}"), &[])
}

fn json_response(json: Vec<u8>, head: bool) -> Response<Body> {
    let length = HeaderValue::from(json.len());
    let body = if head { Body::empty() } else { Body::new(Full::new(Bytes::from(json))) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn options(allowed: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_utf8_is_json() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("text/json", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn an_answer_is_exactly_one_plain_message() {
        assert_eq!(message_of(Bytes::from_static(b"\0\0\0\0\x02hi")).unwrap(), "hi");
        assert_eq!(message_of(Bytes::from_static(b"\0\0\0\0\0")).unwrap(), "");
        for broken in [&b""[..], b"\0\0\0", b"\x01\0\0\0\x02hi", b"\0\0\0\0\x03hi", b"\0\0\0\0\x01hi"] {
            assert_eq!(message_of(Bytes::from_static(broken)).unwrap_err().code(), Code::Internal);
        }
    }
}
