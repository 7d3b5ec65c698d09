//! A server of the contracts, on a port of its own, with a few things in it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use contracts::v1::{asset_service_server::*, event_service_server::*, image_service_server::*};
use contracts::v1::{
    dead_letter_service_server::DeadLetterServiceServer, integrity_service_server::*, node_service_server::*,
    overview_service_server::*, *,
};
use futures::{StreamExt, stream, stream::BoxStream};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

/// What it holds and what it was asked.
#[derive(Clone, Default)]
pub struct Inventory {
    pub assets: Arc<Vec<Asset>>,
    /// In the order of their recording.
    pub events: Arc<Mutex<Vec<Event>>>,
    /// Filters and tokens of the watches of events that it was asked for.
    pub watches: Arc<Mutex<Vec<(String, String)>>>,
    pub letters: Arc<Mutex<Vec<DeadLetter>>>,
    /// What it was asked about letters, but for single ones.
    pub asked: Arc<Mutex<Vec<String>>>,
}

pub fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

pub fn asset(number: u32, display_name: &str) -> Asset {
    let package =
        PackageDetails { package: display_name.into(), version: "3.0".into(), ..Default::default() };
    Asset {
        name: format!("assets/{number}"),
        kind: AssetKind::Package.into(),
        display_name: display_name.into(),
        node_display_name: "web-1".into(),
        state: AssetState::Active.into(),
        details: Some(AssetDetails {
            details: Some(asset_details::Details::Package(package)),
            ..AssetDetails::default()
        }),
        managed: Some(ManagedFields {
            owner: "ops".into(),
            labels: HashMap::from([("env".into(), "prod".into()), ("a".into(), "b".into())]),
            ..Default::default()
        }),
        revision: 2,
        update_time: time(1_772_496_000),
        ..Asset::default()
    }
}

pub fn event(number: u32, seconds: i64) -> Event {
    Event {
        name: format!("events/{number}"),
        r#type: EventType::Changed.into(),
        record_time: time(seconds),
        changed_fields: vec!["details.package.version".into()],
        actor: "agent".into(),
        ..Event::default()
    }
}

/// One page of `all`; a token is the number of items before the page.
pub fn page<T: Clone>(all: &[T], size: i32, token: &str) -> Result<(Vec<T>, String), Status> {
    let start: usize = if token.is_empty() { 0 } else { token.parse().unwrap() };
    let end = all.len().min(start + usize::try_from(size).unwrap());
    let next = if end < all.len() { end.to_string() } else { String::new() };
    Ok((all[start..end].to_vec(), next))
}

#[tonic::async_trait]
impl AssetService for Inventory {
    async fn get_asset(&self, request: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        let name = request.into_inner().name;
        let found = self.assets.iter().find(|asset| asset.name == name);
        found.cloned().map(Response::new).ok_or_else(|| kit::status::not_found("Asset", &name))
    }
    async fn list_assets(
        &self,
        request: Request<ListAssetsRequest>,
    ) -> Result<Response<ListAssetsResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"));
        let request = request.into_inner();
        if request.filter == "kind=" {
            return Err(kit::status::invalid_field("filter", "INVALID_FILTER", "a value must follow"));
        }
        let listed: Vec<Asset> = self
            .assets
            .iter()
            .filter(|asset| request.show_deleted || asset.delete_time.is_none())
            .filter(|asset| asset.display_name.contains(&request.filter))
            .cloned()
            .collect();
        let (assets, next_page_token) = page(&listed, request.page_size, &request.page_token)?;
        Ok(Response::new(ListAssetsResponse { assets, next_page_token, ..Default::default() }))
    }
    async fn summarize_assets(
        &self,
        _: Request<SummarizeAssetsRequest>,
    ) -> Result<Response<SummarizeAssetsResponse>, Status> {
        Err(Status::unimplemented("the tool does not ask for it"))
    }
    async fn list_asset_revisions(
        &self,
        request: Request<ListAssetRevisionsRequest>,
    ) -> Result<Response<ListAssetRevisionsResponse>, Status> {
        let parent = request.into_inner().parent;
        let revision = |number: i64| AssetRevision {
            name: format!("{parent}/revisions/{number}"),
            revision: number,
            event: Some(event(7, 1_772_496_000)),
            asset: None,
            record_time: time(1_772_496_000 + number),
        };
        let revisions = vec![revision(2), revision(1)];
        Ok(Response::new(ListAssetRevisionsResponse { revisions, next_page_token: String::new() }))
    }

    type WatchAssetsStream = BoxStream<'static, Result<WatchAssetsResponse, Status>>;

    /// Its assets, then that one left, then a refusal.
    async fn watch_assets(
        &self,
        request: Request<WatchAssetsRequest>,
    ) -> Result<Response<Self::WatchAssetsStream>, Status> {
        let added = self.assets.iter().map(|asset| AssetChange {
            r#type: AssetChangeType::Added.into(),
            name: asset.name.clone(),
            revision: asset.revision,
            asset: Some(asset.clone()),
            leave_reason: 0,
        });
        let left = AssetChange {
            r#type: AssetChangeType::Left.into(),
            name: "assets/1".into(),
            revision: 3,
            asset: None,
            leave_reason: AssetLeaveReason::Changed.into(),
        };
        let answer = |answer_type: WatchResponseType, changes| {
            let token = "there".to_owned();
            Ok(WatchAssetsResponse { r#type: answer_type.into(), changes, resume_token: token, lag: None })
        };
        let answers = match request.into_inner().resume_token.as_str() {
            "" => vec![
                answer(WatchResponseType::Snapshot, added.collect()),
                answer(WatchResponseType::Synced, Vec::new()),
                Err(Status::unavailable("shutting down")),
            ],
            "there" => vec![
                answer(WatchResponseType::Changes, vec![left]),
                Err(Status::failed_precondition("the database was restored")),
            ],
            other => panic!("{other}"),
        };
        Ok(Response::new(stream::iter(answers).boxed()))
    }

    async fn create_asset(&self, _: Request<CreateAssetRequest>) -> Result<Response<Asset>, Status> {
        Err(Status::permission_denied("the tool must only read"))
    }
    async fn update_asset(&self, _: Request<UpdateAssetRequest>) -> Result<Response<Asset>, Status> {
        Err(Status::permission_denied("the tool must only read"))
    }
    async fn delete_asset(&self, _: Request<DeleteAssetRequest>) -> Result<Response<Asset>, Status> {
        Err(Status::permission_denied("the tool must only read"))
    }
}

#[tonic::async_trait]
impl EventService for Inventory {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let mut listed = self.events.lock().unwrap().clone();
        listed.sort_by_key(|event| std::cmp::Reverse(event.record_time.unwrap().seconds));
        let (events, next_page_token) = page(&listed, request.page_size, &request.page_token)?;
        Ok(Response::new(ListEventsResponse { events, next_page_token }))
    }

    type WatchEventsStream = BoxStream<'static, Result<WatchEventsResponse, Status>>;

    /// A token is the number of events before it. Ends after each event.
    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"));
        let request = request.into_inner();
        let now = self.events.lock().unwrap().len();
        let place = if request.resume_token.is_empty() { now } else { request.resume_token.parse().unwrap() };
        self.watches.lock().unwrap().push((request.filter, request.resume_token));
        let synced = WatchEventsResponse {
            r#type: WatchResponseType::Synced.into(),
            resume_token: place.to_string(),
            ..Default::default()
        };
        let events = self.events.clone();
        let next = async move {
            let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
            let event = loop {
                looks.tick().await;
                if let Some(event) = events.lock().unwrap().get(place) {
                    break event.clone();
                }
            };
            Ok(WatchEventsResponse {
                r#type: WatchResponseType::Changes.into(),
                events: vec![event],
                resume_token: (place + 1).to_string(),
                lag: None,
            })
        };
        let end = async { Err(Status::unavailable("shutting down")) };
        let answers = stream::once(async { Ok(synced) }).chain(stream::once(next)).chain(stream::once(end));
        Ok(Response::new(answers.boxed()))
    }
}

fn package(number: usize) -> PackageDetails {
    PackageDetails {
        package: format!("package-{number}"),
        version: "1.0".into(),
        manager: "apk".into(),
        license: "MIT".into(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl ImageService for Inventory {
    async fn list_image_packages(
        &self,
        request: Request<ListImagePackagesRequest>,
    ) -> Result<Response<ListImagePackagesResponse>, Status> {
        let request = request.into_inner();
        if request.parent != "assets/1" {
            return Err(kit::status::precondition("NOT_AN_IMAGE", &request.parent, "is no container image"));
        }
        let all: Vec<_> = (0..250).map(package).collect();
        let (packages, next_page_token) = page(&all, request.page_size, &request.page_token)?;
        Ok(Response::new(ListImagePackagesResponse { packages, next_page_token, ..Default::default() }))
    }
    async fn search_image_packages(
        &self,
        request: Request<SearchImagePackagesRequest>,
    ) -> Result<Response<SearchImagePackagesResponse>, Status> {
        let found = ImagePackage {
            image_digest: "sha256:ab".into(),
            package: Some(PackageDetails { package: request.into_inner().package, ..package(1) }),
            source: ImageContentSource::Layers.into(),
            active_nodes: 4,
        };
        Ok(Response::new(SearchImagePackagesResponse { image_packages: vec![found], ..Default::default() }))
    }
}

#[tonic::async_trait]
impl NodeService for Inventory {
    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        Err(kit::status::not_found("Node", &request.into_inner().name))
    }
    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        let node = Node {
            name: "nodes/1".into(),
            display_name: "web-1".into(),
            health: NodeHealth::Stale.into(),
            completeness: Completeness::Incomplete.into(),
            complete_time: time(1_772_496_000),
            active_assets: 3,
            identity_conflict: true,
            ..Node::default()
        };
        Ok(Response::new(ListNodesResponse { nodes: vec![node], next_page_token: String::new() }))
    }
    async fn request_scan(
        &self,
        request: Request<RequestScanRequest>,
    ) -> Result<Response<RequestScanResponse>, Status> {
        let request = request.into_inner();
        if request.name != "nodes/1" {
            return Err(kit::status::not_found("Node", &request.name));
        }
        let command_id = format!("{:?} {}", request.kinds, request.resync);
        Ok(Response::new(RequestScanResponse { command_id, expire_time: time(1_772_496_060) }))
    }
    async fn retire_node(&self, request: Request<RetireNodeRequest>) -> Result<Response<Node>, Status> {
        let name = request.into_inner().name;
        if name != "nodes/1" {
            return Err(kit::status::precondition("NODE_HEALTHY", &name, "its agent is heard"));
        }
        let health = NodeHealth::Retired.into();
        Ok(Response::new(Node { name, health, retire_time: time(1_772_496_000), ..Node::default() }))
    }
}

#[tonic::async_trait]
impl IntegrityService for Inventory {
    type VerifyInventoryStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<VerifyInventoryResponse, Status>>>;
    async fn verify_inventory(
        &self,
        request: Request<VerifyInventoryRequest>,
    ) -> Result<Response<Self::VerifyInventoryStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"), "it takes as long as it takes");
        let answer = |verified_assets, differences: &[Difference], done| {
            Ok(VerifyInventoryResponse {
                verified_assets,
                total_assets: 20,
                verified_nodes: i64::from(done),
                total_nodes: 1,
                differences: differences.to_vec(),
                done,
            })
        };
        let altered = Difference {
            r#type: DifferenceType::AlteredAsset.into(),
            node: "nodes/1".into(),
            kind: AssetKind::Package.into(),
            asset: "assets/1".into(),
            detail: "revision: is 7, should be 3".into(),
        };
        let digest = Difference {
            r#type: DifferenceType::WrongDigest.into(),
            asset: String::new(),
            detail: "digest: \u{1b}[2J".into(),
            ..altered.clone()
        };
        let answers = match request.into_inner().node.as_str() {
            "nodes/1" => {
                vec![answer(5, &[altered], false), answer(6, &[], false), answer(20, &[digest], true)]
            }
            "nodes/2" => vec![answer(5, &[], false)],
            "nodes/3" => vec![answer(5, &[altered], false), Err(Status::unavailable("gone"))],
            "" => vec![answer(10, &[], false), answer(20, &[], true)],
            other => return Err(kit::status::not_found("Node", other)),
        };
        Ok(Response::new(tokio_stream::iter(answers)))
    }
}

#[tonic::async_trait]
impl OverviewService for Inventory {
    async fn get_overview(&self, _: Request<GetOverviewRequest>) -> Result<Response<Overview>, Status> {
        let kind = AssetKind::Disk.into();
        Ok(Response::new(Overview {
            measure_time: time(1_772_496_000),
            kinds: vec![KindCount { kind, state: AssetState::Removed.into(), count: 4 }],
            nodes: vec![HealthCount { health: NodeHealth::Healthy.into(), count: 2 }],
            events_last_hour: 5,
            dead_letters: 6,
            collectors: vec![CollectorStats {
                collector: "c/1".into(),
                state: CollectorState::Holding.into(),
                state_reason: "processor away".into(),
                queues: vec![QueueStats { queue: "q.0".into(), depth: 9, ..QueueStats::default() }],
                ..CollectorStats::default()
            }],
            unavailable: vec![UnavailablePart { part: "collector x:1".into(), reason: "refused".into() }],
        }))
    }
}

/// Serves on a free port until the runtime ends; answers the URL.
pub async fn serve(inventory: Inventory) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(AssetServiceServer::new(inventory.clone()))
        .add_service(EventServiceServer::new(inventory.clone()))
        .add_service(ImageServiceServer::new(inventory.clone()))
        .add_service(IntegrityServiceServer::new(inventory.clone()))
        .add_service(NodeServiceServer::new(inventory.clone()))
        .add_service(DeadLetterServiceServer::new(inventory.clone()))
        .add_service(OverviewServiceServer::new(inventory))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(server);
    url
}
