//! Processor and collector of the tests: real gRPC servers whose answers show
//! what reached them.

use std::{net::SocketAddr, time::Duration};

use contracts::v1::{
    asset_service_server::{AssetService, AssetServiceServer},
    collector_service_server::{CollectorService, CollectorServiceServer},
    event_service_server::{EventService, EventServiceServer},
    node_service_server::{NodeService, NodeServiceServer},
    overview_service_server::{OverviewService, OverviewServiceServer},
    *,
};
use kit::{grpc::Routes, readiness::Readiness, shutdown::CancellationToken};
use prost_types::{FieldMask, Timestamp};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};

/// Starts a processor.
pub async fn processor(listener: TcpListener, stop: CancellationToken) {
    let routes = Routes::new(AssetServiceServer::new(Processor))
        .add_service(NodeServiceServer::new(Processor))
        .add_service(EventServiceServer::new(Processor))
        .add_service(OverviewServiceServer::new(Processor));
    serve(listener, routes, stop).await;
}

/// Starts a collector with this name.
pub async fn collector(listener: TcpListener, name: &str, stop: CancellationToken) {
    serve(listener, Routes::new(CollectorServiceServer::new(Collector(name.to_owned()))), stop).await;
}

async fn serve(listener: TcpListener, routes: Routes, stop: CancellationToken) {
    let grace = Duration::from_millis(100);
    tokio::spawn(async move { kit::grpc::serve(listener, routes, Readiness::default(), grace, stop).await });
}

/// A listener on a port of its own.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

struct Processor;

/// An asset with something in most fields.
pub fn asset(name: &str) -> Asset {
    Asset {
        name: name.to_owned(),
        kind: AssetKind::Package.into(),
        display_name: "öpenssl \"3\"\n".to_owned(),
        node: "nodes/n-1".to_owned(),
        natural_key: "dpkg/openssl:amd64".to_owned(),
        state: AssetState::Active.into(),
        managed: Some(ManagedFields {
            owner: "team-a".to_owned(),
            lifecycle: Lifecycle::InService.into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..ManagedFields::default()
        }),
        revision: 9_007_199_254_740_993,
        etag: "e1".to_owned(),
        create_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
        ..Asset::default()
    }
}

#[tonic::async_trait]
impl AssetService for Processor {
    /// Gives the asset back as it came.
    async fn create_asset(&self, request: Request<CreateAssetRequest>) -> Result<Response<Asset>, Status> {
        let asset = request.into_inner().asset;
        asset.map(Response::new).ok_or_else(|| kit::status::invalid_field("asset", "REQUIRED", "is required"))
    }

    /// `assets/missing`, `assets/busy`, `assets/slow` and `assets/headers` are
    /// special.
    async fn get_asset(&self, request: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        let metadata = format!("{:?}", request.metadata());
        let name = request.into_inner().name;
        match name.as_str() {
            "assets/missing" => Err(kit::status::not_found("assettrack.v1.Asset", &name)),
            "assets/busy" => {
                let delay = Duration::from_millis(2500);
                Err(kit::status::retry_later(Code::ResourceExhausted, "POOL_BUSY", "the pool is busy", delay))
            }
            "assets/bare" => Err(Status::internal("no details: ä%")),
            "assets/slow" => std::future::pending().await,
            "assets/headers" => Ok(Response::new(Asset { natural_key: metadata, ..asset(&name) })),
            _ => Ok(Response::new(asset(&name))),
        }
    }

    /// One asset whose natural key is the filter; none for an empty filter.
    /// A page size over 1,000 gives that many large ones.
    async fn list_assets(
        &self,
        request: Request<ListAssetsRequest>,
    ) -> Result<Response<ListAssetsResponse>, Status> {
        let request = request.into_inner();
        let mut answer =
            ListAssetsResponse { next_page_token: request.page_token, ..ListAssetsResponse::default() };
        if !request.filter.is_empty() {
            answer.assets.push(Asset { natural_key: request.filter, ..asset("assets/a") });
        }
        for _ in 1000..request.page_size {
            answer.assets.push(Asset { natural_key: "x".repeat(1024 * 1024), ..Asset::default() });
        }
        Ok(Response::new(answer))
    }

    /// One group, of the fields that are asked for.
    async fn summarize_assets(
        &self,
        request: Request<SummarizeAssetsRequest>,
    ) -> Result<Response<SummarizeAssetsResponse>, Status> {
        let group = AssetGroup { values: request.into_inner().group_by, count: 1 };
        Ok(Response::new(SummarizeAssetsResponse {
            groups: vec![group],
            total_count: 1,
            ..Default::default()
        }))
    }

    /// Gives the asset back, with the mask in its natural key.
    async fn update_asset(&self, request: Request<UpdateAssetRequest>) -> Result<Response<Asset>, Status> {
        let UpdateAssetRequest { asset, update_mask } = request.into_inner();
        let mut paths = update_mask.map(|FieldMask { paths }| paths).unwrap_or_default();
        paths.sort();
        Ok(Response::new(Asset { natural_key: paths.join(","), ..asset.unwrap_or_default() }))
    }

    async fn delete_asset(&self, request: Request<DeleteAssetRequest>) -> Result<Response<Asset>, Status> {
        let request = request.into_inner();
        Ok(Response::new(Asset { name: request.name, etag: request.etag, ..Asset::default() }))
    }

    type WatchAssetsStream =
        futures::stream::Iter<std::array::IntoIter<Result<WatchAssetsResponse, Status>, 2>>;

    /// Gives the filter back as a token, and ends as slow clients are ended.
    async fn watch_assets(
        &self,
        request: Request<WatchAssetsRequest>,
    ) -> Result<Response<Self::WatchAssetsStream>, Status> {
        let resume_token = request.into_inner().filter;
        let end = kit::status::error(
            Code::ResourceExhausted,
            "SLOW_CLIENT",
            "the client takes nothing",
            &[("resume_token", &resume_token)],
        );
        let answer = WatchAssetsResponse { resume_token, ..Default::default() };
        Ok(Response::new(futures::stream::iter([Ok(answer), Err(end)])))
    }

    async fn list_asset_revisions(
        &self,
        request: Request<ListAssetRevisionsRequest>,
    ) -> Result<Response<ListAssetRevisionsResponse>, Status> {
        let name = format!("{}/revisions/1", request.into_inner().parent);
        let revision = AssetRevision { name, revision: 1, ..AssetRevision::default() };
        Ok(Response::new(ListAssetRevisionsResponse { revisions: vec![revision], ..Default::default() }))
    }
}

#[tonic::async_trait]
impl NodeService for Processor {
    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        Ok(Response::new(Node {
            name: request.into_inner().name,
            health: NodeHealth::Healthy.into(),
            ..Node::default()
        }))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse::default()))
    }

    async fn request_scan(
        &self,
        request: Request<contracts::v1::RequestScanRequest>,
    ) -> Result<Response<contracts::v1::RequestScanResponse>, Status> {
        let command_id = request.into_inner().name;
        Ok(Response::new(contracts::v1::RequestScanResponse { command_id, expire_time: None }))
    }

    async fn retire_node(
        &self,
        request: Request<contracts::v1::RetireNodeRequest>,
    ) -> Result<Response<Node>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(Node { name, health: NodeHealth::Retired.into(), ..Node::default() }))
    }
}

#[tonic::async_trait]
impl EventService for Processor {
    type WatchEventsStream = futures::stream::Empty<Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Ok(Response::new(futures::stream::empty()))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let event = Event { actor: request.into_inner().filter, revision: -1, ..Event::default() };
        Ok(Response::new(ListEventsResponse { events: vec![event], ..ListEventsResponse::default() }))
    }
}

#[tonic::async_trait]
impl OverviewService for Processor {
    /// Under the request ID `count-9` the answer is another.
    async fn get_overview(&self, request: Request<GetOverviewRequest>) -> Result<Response<Overview>, Status> {
        let is_nine = request.metadata().get("x-request-id").is_some_and(|id| id == "count-9");
        Ok(Response::new(Overview { dead_letters: if is_nine { 9 } else { 7 }, ..Overview::default() }))
    }
}

struct Collector(String);

#[tonic::async_trait]
impl CollectorService for Collector {
    async fn get_collector_stats(
        &self,
        _: Request<GetCollectorStatsRequest>,
    ) -> Result<Response<CollectorStats>, Status> {
        Ok(Response::new(CollectorStats { collector: self.0.clone(), ..CollectorStats::default() }))
    }

    type WatchCollectorStatsStream =
        futures::stream::Iter<std::vec::IntoIter<Result<CollectorStats, Status>>>;

    async fn watch_collector_stats(
        &self,
        request: Request<contracts::v1::WatchCollectorStatsRequest>,
    ) -> Result<Response<Self::WatchCollectorStatsStream>, Status> {
        let interval = request.into_inner().interval.unwrap_or_default().seconds;
        if interval < 0 {
            return Err(Status::invalid_argument("interval: is negative"));
        }
        let stats = CollectorStats { collector: self.0.clone(), ..CollectorStats::default() };
        let mut answers = vec![Ok(stats.clone()), Ok(stats)];
        if interval == 9 {
            answers.push(Err(Status::resource_exhausted("too slow")));
        }
        Ok(Response::new(futures::stream::iter(answers)))
    }

    async fn pause_consumption(
        &self,
        request: Request<contracts::v1::PauseConsumptionRequest>,
    ) -> Result<Response<contracts::v1::Consumption>, Status> {
        let reason = request.into_inner().reason;
        Ok(Response::new(contracts::v1::Consumption { paused: true, reason, change_time: None }))
    }

    async fn resume_consumption(
        &self,
        _: Request<contracts::v1::ResumeConsumptionRequest>,
    ) -> Result<Response<contracts::v1::Consumption>, Status> {
        Ok(Response::new(contracts::v1::Consumption::default()))
    }
}
