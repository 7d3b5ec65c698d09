//! Bodies on their way through: requests with a limit, answers with a
//! deadline.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::{task::AbortHandle, time::Instant};
use tonic::{Code, Status};

use crate::observe::Call;

/// What went wrong with a request's body, for the one who waits for the answer
/// and would only see that the stream broke.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<Status>>);

impl Fault {
    /// The fault, if there was one.
    pub fn status(&self) -> Option<Status> {
        self.0.get().cloned()
    }

    fn set(&self, status: Status) -> Status {
        // The first fault is the cause of those after it.
        self.0.get_or_init(|| status).clone()
    }
}

/// A request's body of at most so many bytes. It gives no size hint: tonic-web
/// passes on the size of the base64 text, and HTTP/2 would hold us to it.
#[derive(Debug)]
pub struct RequestBody<B> {
    inner: B,
    left: Option<usize>,
    /// Whether any of it has come.
    begun: bool,
    fault: Fault,
}

impl<B> RequestBody<B> {
    /// `limit` in bytes; none for a stream of messages.
    pub fn new(inner: B, limit: Option<usize>) -> (Self, Fault) {
        let fault = Fault::default();
        (Self { inner, left: limit, begun: false, fault: fault.clone() }, fault)
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                let message = format!("the request's body is broken: {error}");
                let status = kit::status::error(Code::InvalidArgument, "BROKEN_BODY", message, &[]);
                return Poll::Ready(Some(Err(this.fault.set(status))));
            }
        };
        if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
            // The frame's head says how long the message will be: refused by
            // it, the message is not sent upstream at all.
            let announced = if this.begun { None } else { data.first_chunk::<5>() };
            let announced = announced.map_or(0, |[_, length @ ..]| u32::from_be_bytes(*length) as usize);
            match left.checked_sub(data.len()) {
                Some(rest) if announced <= *left => *left = rest,
                _ => return Poll::Ready(Some(Err(this.fault.set(too_large())))),
            }
            this.begun = true;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

/// The request is larger than the gateway takes.
pub fn too_large() -> Status {
    let message = format!("the request is larger than {} bytes", kit::grpc::MAX_MESSAGE_BYTES);
    kit::status::error(Code::ResourceExhausted, "REQUEST_TOO_LARGE", message, &[])
}

/// An answer's body that always ends with a gRPC status: upstream's own, or
/// DEADLINE_EXCEEDED, or UNAVAILABLE if upstream broke off. The deadline is a
/// task: a client that stops reading stops polling, and a timer in here would
/// never fire, while upstream's body held the shared connection's window.
#[derive(Debug)]
pub struct AnswerBody<B> {
    answer: Arc<Mutex<Answer<B>>>,
    timer: Option<AbortHandle>,
}

#[derive(Debug)]
struct Answer<B> {
    /// None once it has ended.
    inner: Option<B>,
    /// The status that is still to be sent.
    last: Option<Status>,
    /// Who waits for more.
    waker: Option<Waker>,
    call: Call,
}

impl<B> Answer<B> {
    /// Ends with a status of the gateway's. Dropping upstream's body resets
    /// its stream.
    fn end(&mut self, status: Status) {
        self.inner = None;
        self.call.end(status.code(), status.message());
        self.last = Some(status);
    }
}

impl<B> AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The body of an answer whose headers have no status.
    pub fn new(inner: B, deadline: Option<Instant>, call: Call) -> Self {
        let answer = Answer { inner: Some(inner), last: None, waker: None, call };
        let answer = Arc::new(Mutex::new(answer));
        let timer = deadline.map(|deadline| {
            let answer = Arc::clone(&answer);
            let timer = async move {
                tokio::time::sleep_until(deadline).await;
                expire(&answer);
            };
            tokio::spawn(timer).abort_handle()
        });
        Self { answer, timer }
    }
}

fn expire<B>(answer: &Mutex<Answer<B>>) {
    let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
    if answer.inner.is_none() {
        return;
    }
    answer.end(deadline_exceeded());
    let waker = answer.waker.take();
    drop(answer);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = &mut answer.inner {
            match Pin::new(inner).poll_frame(cx) {
                Poll::Pending => {
                    answer.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        let status = Status::from_header_map(trailers);
                        let status = status.unwrap_or_else(|| Status::unknown("no grpc-status"));
                        answer.call.end(status.code(), status.message());
                        answer.inner = None;
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let message = format!("the answer broke off: {}", error.into());
                    answer.end(kit::status::error(Code::Unavailable, "UPSTREAM_BROKE_OFF", message, &[]));
                }
                Poll::Ready(None) => {
                    let message = "the answer ended without a status";
                    answer.end(kit::status::error(Code::Internal, "UPSTREAM_WITHOUT_STATUS", message, &[]));
                }
            }
        }
        let trailers = answer.last.take().map(|status| {
            let mut trailers = HeaderMap::new();
            // Only a message that is no header value could fail, and it is encoded.
            let _ = status.add_header(&mut trailers);
            Ok(Frame::trailers(trailers))
        });
        Poll::Ready(trailers)
    }
}

impl<B> Drop for AnswerBody<B> {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// The deadline of a call has passed.
pub fn deadline_exceeded() -> Status {
    kit::status::error(
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "the deadline passed before the answer was complete",
        &[],
    )
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http_body_util::{BodyExt, Full, channel::Channel};
    use kit::metrics::Metrics;

    use super::*;
    use crate::observe::{CallMetrics, Protocol, RequestId};

    fn call(metrics: &Metrics) -> Call {
        CallMetrics::register(metrics).begin(Protocol::Grpc, "/a.B/C", RequestId("r".into()))
    }

    #[tokio::test]
    async fn a_request_over_its_limit_is_a_fault() {
        let (body, fault) = RequestBody::new(Full::new(Bytes::from_static(b"12345")), Some(4));
        assert!(body.collect().await.is_err());
        assert_eq!(fault.status().unwrap().code(), Code::ResourceExhausted);
        let (body, fault) = RequestBody::new(Full::new(Bytes::from_static(b"\0\0\0\x01\0")), Some(8));
        assert!(body.collect().await.is_err(), "announced 256 bytes");
        assert_eq!(fault.status().unwrap().code(), Code::ResourceExhausted);
        let (body, fault) = RequestBody::new(Full::new(Bytes::from_static(b"1234")), Some(4));
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "1234");
        assert!(fault.status().is_none());
    }

    /// The body is held, not polled, as by a client that stopped reading; the
    /// upstream's side must be dropped all the same.
    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_an_answer_that_nobody_reads() {
        let (mut upstream, answer) = Channel::<Bytes, Infallible>::new(1);
        let deadline = Instant::now() + Duration::from_secs(5);
        let metrics = Metrics::default();
        let body = AnswerBody::new(answer, Some(deadline), call(&metrics));
        upstream.send_data(Bytes::from_static(b"x")).await.unwrap();
        let sent =
            tokio::time::timeout(Duration::from_secs(60), upstream.send_data(Bytes::from_static(b"y"))).await;
        assert!(sent.unwrap().is_err(), "upstream must see that its stream is gone");
        assert!(metrics.encode().unwrap().contains(r#"code="DEADLINE_EXCEEDED"} 1"#));
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn an_answer_without_a_status_gets_one() {
        let body = AnswerBody::new(Full::new(Bytes::from_static(b"x")), None, call(&Metrics::default()));
        let collected = body.collect().await.unwrap();
        assert_eq!(Status::from_header_map(collected.trailers().unwrap()).unwrap().code(), Code::Internal);
    }
}
