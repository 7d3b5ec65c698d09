//! Relations and affected packages through the gateway: the same cases over gRPC
//! and over REST, on a real processor.

use std::time::Duration;

use contracts::v1::{
    AssetDetails, AssetKind, ContainerDetails, ContainerImageDetails, EventBatch, ImageContent,
    ImageContentSource, IngestEventsRequest, IngestResult, ListRelatedAssetsRequest, NodeDetails,
    NodeIdentity, Observation, PackageDetails, PackagePlace, Presence, QueueMessage, Relation,
    RelationDirection, RelationType, SearchAffectedPackagesRequest, VersionOrder, asset_details::Details,
    asset_service_client::AssetServiceClient, image_service_client::ImageServiceClient,
    ingest_service_client::IngestServiceClient, queue_message::Content,
};
use kit::identity::{Collection, asset_uid};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use testkit::{Database, Service, free_address, http_get};
use tonic::{Response, Status, transport::Channel};
use uuid::Uuid;

const START: Duration = Duration::from_secs(60);
const DIGEST: &str = "sha256:aa";

fn observation(kind: AssetKind, key: &str, details: Details, relations: Vec<Relation>) -> Observation {
    let details = AssetDetails { details: Some(details), relations };
    let state_hash = kit::digest::state_hash(kind, key, key, &details.encode_to_vec()).to_vec();
    Observation {
        event_id: Uuid::now_v7().to_string(),
        presence: Presence::Present.into(),
        kind: kind.into(),
        natural_key: key.to_owned(),
        display_name: key.to_owned(),
        observe_time: Some(kit::time::now()),
        state_hash,
        details: Some(details),
    }
}

fn package(manager: &str, version: &str) -> PackageDetails {
    let (package, manager, version) = ("openssl".to_owned(), manager.to_owned(), version.to_owned());
    PackageDetails { package, manager, version, ..PackageDetails::default() }
}

/// A node with openssl, and with a container of an image that has it too.
fn batch(node: Uuid) -> EventBatch {
    let made_of = Relation {
        r#type: RelationType::CreatedFrom.into(),
        kind: AssetKind::ContainerImage.into(),
        natural_key: DIGEST.to_owned(),
    };
    let container = ContainerDetails { image_digest: DIGEST.to_owned(), ..Default::default() };
    let image = ContainerImageDetails { digest: DIGEST.to_owned(), ..Default::default() };
    EventBatch {
        schema_version: 1,
        node: Some(NodeIdentity {
            uid: node.to_string(),
            cluster: "test".to_owned(),
            display_name: "node-1".to_owned(),
        }),
        stream: Uuid::new_v4().to_string(),
        sequence: 1,
        observations: vec![
            observation(AssetKind::Node, "node", Details::Node(NodeDetails::default()), vec![]),
            observation(AssetKind::Package, "openssl", Details::Package(package("dpkg", "3.0.9-1")), vec![]),
            observation(AssetKind::Container, "web", Details::Container(container), vec![made_of]),
            observation(AssetKind::ContainerImage, DIGEST, Details::ContainerImage(image), vec![]),
        ],
        image_contents: vec![ImageContent {
            image_digest: DIGEST.to_owned(),
            content_hash: vec![1; 16],
            part: 1,
            parts: 1,
            packages: vec![package("apk", "3.1.4-r5")],
            source: ImageContentSource::Layers.into(),
        }],
        ..EventBatch::default()
    }
}

/// An answer as JSON, or the message and the field at fault of an error.
type Answer = Result<Value, (String, String)>;

fn of_grpc<M: Message>(name: &str, answer: Result<Response<M>, Status>) -> Answer {
    match answer {
        Ok(answer) => {
            let contracts = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
            let descriptor = contracts.get_message_by_name(&format!("assettrack.v1.{name}")).unwrap();
            let encoded = answer.into_inner().encode_to_vec();
            let message = DynamicMessage::decode(descriptor, encoded.as_slice()).unwrap();
            Ok(serde_json::to_value(&message).unwrap())
        }
        Err(status) => {
            let text = String::from_utf8_lossy(status.details()).into_owned();
            let (field, _) = status.message().split_once(':').unwrap_or_default();
            assert!(text.contains(field), "the details name the field");
            Err((status.message().to_owned(), field.to_owned()))
        }
    }
}

fn of_rest(status: u16, body: &str) -> Answer {
    let mut body: Value = serde_json::from_str(body).unwrap();
    if status != 200 {
        let error = &body["error"];
        let violation = &error["details"][1]["fieldViolations"][0]["field"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return Err((text(&error["message"]), text(violation)));
    }
    // Lists that are empty are written by REST, and by nobody else.
    body.as_object_mut().unwrap().retain(|_, value| *value != json!([]));
    Ok(body)
}

fn related_cases(image: &str) -> Vec<(String, ListRelatedAssetsRequest)> {
    let ask = || ListRelatedAssetsRequest { parent: image.to_owned(), ..Default::default() };
    vec![
        (String::new(), ask()),
        (
            "direction=RELATION_DIRECTION_INCOMING&types=RELATION_TYPE_CREATED_FROM&depth=2".to_owned(),
            ListRelatedAssetsRequest {
                direction: RelationDirection::Incoming.into(),
                types: vec![RelationType::CreatedFrom.into()],
                depth: 2,
                ..ask()
            },
        ),
        (
            "kinds=ASSET_KIND_POD&pageSize=1".to_owned(),
            ListRelatedAssetsRequest { kinds: vec![AssetKind::Pod.into()], page_size: 1, ..ask() },
        ),
        ("pageSize=1".to_owned(), ListRelatedAssetsRequest { page_size: 1, ..ask() }),
        ("depth=6".to_owned(), ListRelatedAssetsRequest { depth: 6, ..ask() }),
        ("pageToken=x".to_owned(), ListRelatedAssetsRequest { page_token: "x".to_owned(), ..ask() }),
    ]
}

fn affected_cases() -> Vec<(&'static str, SearchAffectedPackagesRequest)> {
    let ask = || SearchAffectedPackagesRequest { package: "openssl".to_owned(), ..Default::default() };
    let below = |version: &str| SearchAffectedPackagesRequest { below_version: version.to_owned(), ..ask() };
    vec![
        ("package=openssl", ask()),
        (
            "package=openssl&below_version=3.0.11-1~deb12u2&version_order=VERSION_ORDER_DEBIAN",
            SearchAffectedPackagesRequest {
                version_order: VersionOrder::Debian.into(),
                ..below("3.0.11-1~deb12u2")
            },
        ),
        (
            "package=openssl&belowVersion=9&places=PACKAGE_PLACE_CONTAINER&places=PACKAGE_PLACE_IMAGE",
            SearchAffectedPackagesRequest {
                places: vec![PackagePlace::Container.into(), PackagePlace::Image.into()],
                ..below("9")
            },
        ),
        ("package=openssl&below_version=0.1", below("0.1")),
        ("package=openssl&below_version=1%202", below("1 2")),
        ("", SearchAffectedPackagesRequest::default()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relations_and_affected_packages_are_the_same_over_grpc_and_rest() {
    let database = Database::create().await;
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut processor = Service::new("assettrack-processor")
        .env("ASSETTRACK_DATABASE_URL", &database.url())
        .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
        .env("ASSETTRACK_ADMIN_ADDRESS", &admin);
    processor.start();
    processor.ready(admin, START).await;
    let (address, gateway_admin) = (free_address().await, free_address().await);
    let mut gateway = Service::new("assettrack-gateway")
        .env("ASSETTRACK_LISTEN_ADDRESS", &address)
        .env("ASSETTRACK_ADMIN_ADDRESS", &gateway_admin)
        .env("ASSETTRACK_PROCESSOR_URL", &format!("http://{grpc}"));
    gateway.start();
    gateway.ready(gateway_admin, START).await;

    let node = Uuid::new_v4();
    let message = QueueMessage {
        message_id: "1".to_owned(),
        queue: "test".to_owned(),
        content: Some(Content::Batch(batch(node))),
    };
    let connect =
        async |address| Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut ingest = IngestServiceClient::new(connect(grpc).await);
    let delivered = ingest.ingest_events(IngestEventsRequest { messages: vec![message] }).await.unwrap();
    assert_eq!(delivered.into_inner().results().collect::<Vec<_>>(), [IngestResult::Committed]);

    let channel = connect(address).await;
    let image = Collection::Assets.name(asset_uid(node, AssetKind::ContainerImage, DIGEST));
    let mut found = Vec::new();
    for (query, request) in related_cases(&image) {
        let answer = AssetServiceClient::new(channel.clone()).list_related_assets(request).await;
        let answer = of_grpc("ListRelatedAssetsResponse", answer);
        let path = format!("/v1/{image}/relatedAssets?{query}");
        let (status, body) = http_get(address, &path).await.unwrap();
        assert_eq!(of_rest(status, &body), answer, "{path}");
        found.push(answer.map(|answer| answer["relatedAssets"].as_array().map_or(0, Vec::len)));
    }
    let fields = |found: Vec<Result<usize, (String, String)>>| {
        found.into_iter().map(|one| one.map_err(|(_, field)| field)).collect::<Vec<_>>()
    };
    let refused = |field: &str| Err(field.to_owned());
    assert_eq!(fields(found), [Ok(2), Ok(1), Ok(0), Ok(1), refused("depth"), refused("page_token")]);

    let mut found = Vec::new();
    for (query, request) in affected_cases() {
        let answer = ImageServiceClient::new(channel.clone()).search_affected_packages(request).await;
        let answer = of_grpc("SearchAffectedPackagesResponse", answer);
        let path = format!("/v1/packages:affected?{query}");
        let (status, body) = http_get(address, &path).await.unwrap();
        assert_eq!(of_rest(status, &body), answer, "{path}");
        found.push(answer.map(|answer| answer["affectedPackages"].as_array().map_or(0, Vec::len)));
    }
    assert_eq!(fields(found), [Ok(2), Ok(1), Ok(1), Ok(0), refused("below_version"), refused("package")]);
}
