//! The overview: the processor's part joined with every collector's.

use std::time::Duration;

use contracts::v1::{
    CollectorStats, GetCollectorStatsRequest, GetOverviewRequest, Overview as Answer, UnavailablePart,
    collector_service_client::CollectorServiceClient, overview_service_client::OverviewServiceClient,
    overview_service_server::OverviewService,
};
use futures::future::join_all;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    observe::REQUEST_ID,
    upstream::{Peer, Upstreams},
};

/// How long a part may take: a page that shows the rest is better than one
/// that waits.
const PART_DEADLINE: Duration = Duration::from_secs(1);

/// Answers OverviewService.
#[derive(Clone, Debug)]
pub struct Overview {
    upstreams: Upstreams,
}

impl Overview {
    /// Asks these processes.
    pub fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }
}

#[tonic::async_trait]
impl OverviewService for Overview {
    async fn get_overview(&self, request: Request<GetOverviewRequest>) -> Result<Response<Answer>, Status> {
        let (processor, metadata) = (self.upstreams.processor(), request.metadata());
        let collectors = join_all(self.upstreams.collectors().iter().map(|peer| stats(peer, metadata)));
        let (inventory, collectors) = tokio::join!(inventory(processor, metadata), collectors);
        let mut answer = Answer::default();
        match inventory {
            Ok(inventory) => answer = inventory,
            Err(status) => answer.unavailable.push(unavailable(processor, &status)),
        }
        for (peer, stats) in self.upstreams.collectors().iter().zip(collectors) {
            match stats {
                Ok(stats) => answer.collectors.push(stats),
                Err(status) => answer.unavailable.push(unavailable(peer, &status)),
            }
        }
        Ok(Response::new(answer))
    }
}

async fn inventory(processor: &Peer, metadata: &MetadataMap) -> Result<Answer, Status> {
    let mut client = OverviewServiceClient::new(processor.clone());
    in_time(client.get_overview(part(GetOverviewRequest {}, metadata))).await
}

async fn stats(collector: &Peer, metadata: &MetadataMap) -> Result<CollectorStats, Status> {
    let mut client = CollectorServiceClient::new(collector.clone());
    in_time(client.get_collector_stats(part(GetCollectorStatsRequest {}, metadata))).await
}

/// A call for one part: with its own deadline, under the ID and trace of the
/// call for the whole.
fn part<T>(message: T, whole: &MetadataMap) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PART_DEADLINE);
    for name in [REQUEST_ID, "traceparent", "tracestate"] {
        if let Some(value) = whole.get(name) {
            request.metadata_mut().insert(name, value.clone());
        }
    }
    request
}

async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(PART_DEADLINE, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {PART_DEADLINE:?}"))),
    }
}

fn unavailable(peer: &Peer, status: &Status) -> UnavailablePart {
    UnavailablePart { part: peer.label(), reason: status.message().to_owned() }
}
