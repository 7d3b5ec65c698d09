//! Calls through the gateway.

use std::{ops::ControlFlow, time::Duration};

use kit::{grpc::MAX_MESSAGE_BYTES, settings::SettingError};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::failure::{Failure, root};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest that one call may take. The gateway and the processor keep to it
/// too, as it is sent along.
const DEADLINE: Duration = Duration::from_secs(60);
/// Notices while following that the other side is gone without a word.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Enough to be fast over many pages, little enough to show the first soon.
const PAGE_SIZE: u64 = 200;
/// Largest page that is taken. What is stored may be larger than what one
/// request may carry, and a page holds many.
pub const MAX_PAGE_BYTES: usize = 16 * MAX_MESSAGE_BYTES;

/// The gateway, connected.
pub struct Gateway {
    url: String,
    channel: Channel,
}

/// Checks the address.
///
/// # Errors
/// It is not `http://host:port`.
pub fn endpoint(url: &str) -> Result<Endpoint, SettingError> {
    let wrong = |problem: &str| SettingError::new("gateway-url", format!("`{url}` {problem}"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong("is not a URL"))?;
    if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
        return Err(wrong("must be http://host:port"));
    }
    let endpoint = endpoint
        .user_agent(concat!("assettrack/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| wrong("cannot be called"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE))
}

impl Gateway {
    /// Connects at once, so that a wrong address shows before anything else.
    ///
    /// # Errors
    /// [`Failure::Away`].
    pub async fn connect(url: &str, endpoint: &Endpoint) -> Result<Self, Failure> {
        let away =
            |error: tonic::transport::Error| Failure::Away { url: url.to_owned(), cause: root(&error) };
        Ok(Self { url: url.to_owned(), channel: endpoint.connect().await.map_err(away)? })
    }

    /// Makes one call, with a deadline and a request ID of its own.
    ///
    /// # Errors
    /// [`Failure::Away`] and [`Failure::Refused`].
    pub async fn call<Q, A>(
        &self,
        message: Q,
        rpc: impl AsyncFnOnce(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let (mut request, request_id) = identified(message);
        request.set_timeout(DEADLINE);
        match rpc(self.channel.clone(), request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(Failure::of_call(status, &self.url, &request_id)),
        }
    }

    /// Makes a call that answers many times, for as long as it takes.
    ///
    /// # Errors
    /// [`Failure::Away`] and [`Failure::Refused`].
    pub async fn open<Q, A>(
        &self,
        message: Q,
        rpc: impl AsyncFnOnce(Channel, Request<Q>) -> Result<Response<Streaming<A>>, Status>,
    ) -> Result<Answers<A>, Failure> {
        let (request, request_id) = identified(message);
        match rpc(self.channel.clone(), request).await {
            Ok(response) => Ok(Answers { url: self.url.clone(), request_id, stream: response.into_inner() }),
            Err(status) => Err(Failure::of_call(status, &self.url, &request_id)),
        }
    }
}

/// A request with an ID of its own.
fn identified<Q>(message: Q) -> (Request<Q>, String) {
    let request_id = uuid::Uuid::now_v7().to_string();
    let mut request = Request::new(message);
    if let Ok(id) = MetadataValue::try_from(&request_id) {
        request.metadata_mut().insert("x-request-id", id);
    }
    (request, request_id)
}

/// Answers of one call, as they come.
pub struct Answers<A> {
    url: String,
    request_id: String,
    stream: Streaming<A>,
}

impl<A> Answers<A> {
    /// The next one; none at the end.
    ///
    /// # Errors
    /// [`Failure::Away`], also after a `silence`, and [`Failure::Refused`].
    pub async fn next(&mut self, silence: Duration) -> Result<Option<A>, Failure> {
        match tokio::time::timeout(silence, self.stream.message()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Failure::of_call(status, &self.url, &self.request_id)),
            Err(_) => Err(self.away(format!("silent for {} s", silence.as_secs()))),
        }
    }

    /// The answers ended before the last one.
    pub fn cut(&self) -> Failure {
        self.away("the answer ended before its end".to_owned())
    }

    fn away(&self, cause: String) -> Failure {
        Failure::Away { url: self.url.clone(), cause }
    }
}

impl Gateway {
    /// Makes one call that answers with a stream, with a request ID of its own
    /// and no deadline: it takes as long as there is something to tell.
    ///
    /// # Errors
    /// [`Failure::Away`] and [`Failure::Refused`].
    pub async fn stream<Q, A>(
        &self,
        message: Q,
        rpc: impl AsyncFnOnce(Channel, Request<Q>) -> Result<Response<Streaming<A>>, Status>,
        mut see: impl FnMut(A),
    ) -> Result<(), Failure> {
        let request_id = uuid::Uuid::now_v7().to_string();
        let mut request = Request::new(message);
        if let Ok(id) = MetadataValue::try_from(&request_id) {
            request.metadata_mut().insert("x-request-id", id);
        }
        let failed = |status| Failure::of_call(status, &self.url, &request_id);
        let mut answers = rpc(self.channel.clone(), request).await.map_err(failed)?.into_inner();
        while let Some(answer) = answers.message().await.map_err(failed)? {
            see(answer);
        }
        Ok(())
    }
}

/// Reads a list page by page, up to `limit` items: `fetch` is given page size
/// and token and answers items and the next token, `show` gets each page, the
/// first one even if it is empty, and may say that it is enough.
///
/// # Errors
/// Those of `fetch` and `show`.
pub async fn pages<T>(
    limit: Option<u64>,
    mut fetch: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Failure>,
    mut show: impl FnMut(Vec<T>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut token = String::new();
    loop {
        let size = left.min(PAGE_SIZE);
        let (mut items, next) = fetch(i32::try_from(size).unwrap_or(i32::MAX), token).await?;
        items.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= items.len() as u64;
        if show(items)?.is_break() || left == 0 || next.is_empty() {
            return Ok(());
        }
        token = next;
    }
}
