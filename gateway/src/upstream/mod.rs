//! The processes behind the gateway: a few HTTP/2 connections to each, kept
//! open, and calls spread over those that stand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use tonic::{Code, Status, body::Body};

use crate::table::Upstream;

pub mod connection;
mod peer;

pub use peer::{Address, AddressError, Peer};

/// All processes behind the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstreams {
    processor: Peer,
    collectors: Arc<[Peer]>,
    next: Arc<AtomicUsize>,
}

impl Upstreams {
    /// One processor and any number of collectors.
    pub fn new(processor: Peer, collectors: Vec<Peer>) -> Self {
        Self { processor, collectors: collectors.into(), next: Arc::default() }
    }

    /// The processor.
    pub fn processor(&self) -> &Peer {
        &self.processor
    }

    /// Every collector.
    pub fn collectors(&self) -> &[Peer] {
        &self.collectors
    }

    /// Sends a call to the process that answers it: of several collectors the
    /// next that is connected.
    ///
    /// # Errors
    /// UNAVAILABLE, with every peer that was asked and why it is not reachable.
    pub async fn send(
        &self,
        upstream: Upstream,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Status> {
        match upstream {
            Upstream::Processor => self.processor.send(request).await,
            Upstream::Collector => self.collector()?.send(request).await,
            Upstream::Gateway => Err(Status::internal("the gateway's own services are not upstream")),
        }
    }

    fn collector(&self) -> Result<&Peer, Status> {
        let count = self.collectors.len();
        if count == 0 {
            return Err(unavailable("no collector is configured".to_owned()));
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..count).filter_map(|step| self.collectors.get((start + step) % count));
        if let Some(peer) = in_turn.clone().find(|peer| peer.may_answer()) {
            return Ok(peer);
        }
        let reasons: Vec<String> = in_turn.map(Peer::unreachable_message).collect();
        Err(unavailable(reasons.join("; ")))
    }
}

/// UNAVAILABLE for a process that cannot be reached; worth another try soon.
pub(crate) fn unavailable(message: String) -> Status {
    kit::status::retry_later(Code::Unavailable, "UPSTREAM_UNREACHABLE", message, Duration::from_secs(1))
}

/// Generated clients call a peer directly, as the overview does.
impl tower::Service<Request<Body>> for Peer {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = self.clone();
        Box::pin(async move { peer.send(request).await })
    }
}

/// The URI of an RPC's path at a peer.
fn target(authority: &http::uri::Authority, path: &Uri) -> Result<Uri, http::Error> {
    Uri::builder().scheme("http").authority(authority.clone()).path_and_query(path.path()).build()
}
