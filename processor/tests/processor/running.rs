//! A processor that runs in the test, and batches as an agent would make them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use contracts::v1::{
    Asset, AssetDetails, AssetKind, EventBatch, IngestEventsRequest, IngestResult, ListAssetsRequest,
    NodeIdentity, Observation, PackageDetails, Presence, QueueMessage, Snapshot, asset_details::Details,
    asset_service_client::AssetServiceClient, event_service_client::EventServiceClient,
    ingest_service_client::IngestServiceClient, integrity_service_client::IntegrityServiceClient,
    node_service_client::NodeServiceClient, queue_message::Content,
};
use kit::shutdown::CancellationToken;
use processor::config::Config;
use prost::Message as _;
use testkit::Database;
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

/// A processor with a database of its own.
pub struct Running {
    pub channel: Channel,
    pub database: Arc<Database>,
    pub admin: SocketAddr,
    replica: Replica,
}

/// One of the processors on a database.
pub struct Replica {
    pub channel: Channel,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub shutdown: CancellationToken,
    task: JoinHandle<Result<(), processor::Error>>,
}

impl Replica {
    /// The scrub repairs what tests alter, so it is off unless a test wants it.
    pub async fn start(url: &str, settings: &[&str]) -> Self {
        let (grpc, admin) = (testkit::listener().await, testkit::listener().await);
        let address = grpc.local_addr().unwrap();
        let admin_address = admin.local_addr().unwrap();
        let mut arguments = vec!["processor", "--database-url", url];
        if !settings.contains(&"--scrub-interval-seconds") {
            arguments.extend(["--scrub-interval-seconds", "0"]);
        }
        arguments.extend(settings);
        let config = Config::parse_from(arguments);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(processor::run(config, grpc, admin, shutdown.clone()));
        testkit::wait_until(Duration::from_secs(30), "the processor is ready", async || {
            assert!(!task.is_finished(), "the processor ended at its start");
            matches!(testkit::http_get(admin_address, "/readyz").await, Ok((200, _)))
        })
        .await;
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, address, admin: admin_address, shutdown, task }
    }

    /// Stops it, and sees that it ends well.
    pub async fn stop(self) {
        drop(self.channel);
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap().unwrap();
    }
}

impl Running {
    pub async fn start() -> Self {
        Self::start_on(Arc::new(Database::create().await), &[]).await
    }

    /// One on a database that may be there already.
    pub async fn start_on(database: Arc<Database>, settings: &[&str]) -> Self {
        let replica = Replica::start(&database.url(), settings).await;
        Self { channel: replica.channel.clone(), database, admin: replica.admin, replica }
    }

    /// Another processor on the same database.
    pub async fn another(&self) -> Replica {
        Replica::start(&self.database.url(), &[]).await
    }

    /// Where it serves.
    pub fn address(&self) -> String {
        format!("http://{}", self.replica.address)
    }

    /// A figure of its metrics; 0 if it is not there.
    pub async fn metric(&self, line: &str) -> f64 {
        let (_, text) = testkit::http_get(self.admin, "/metrics").await.unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn assets(&self) -> AssetServiceClient<Channel> {
        AssetServiceClient::new(self.channel.clone())
    }

    pub fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone())
    }

    pub fn integrity(&self) -> IntegrityServiceClient<Channel> {
        IntegrityServiceClient::new(self.channel.clone())
    }

    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    pub fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone())
    }

    pub async fn deliver(&self, batches: Vec<EventBatch>) -> Vec<IngestResult> {
        let messages = batches.into_iter().map(message).collect();
        let answer = self.ingest().ingest_events(IngestEventsRequest { messages }).await.unwrap();
        answer.into_inner().results().collect()
    }

    pub async fn list(&self, filter: &str) -> Vec<Asset> {
        self.try_list(filter).await.unwrap()
    }

    pub async fn try_list(&self, filter: &str) -> Result<Vec<Asset>, Status> {
        let request = ListAssetsRequest { filter: filter.to_owned(), page_size: 1000, ..Default::default() };
        Ok(self.assets().list_assets(request).await?.into_inner().assets)
    }

    /// Stops it, and sees that it ends well.
    pub async fn stop(self) {
        drop(self.channel);
        self.replica.stop().await;
    }
}

pub fn message(batch: EventBatch) -> QueueMessage {
    QueueMessage {
        message_id: Uuid::now_v7().to_string(),
        queue: "test".to_owned(),
        content: Some(Content::Batch(batch)),
    }
}

/// One agent.
#[derive(Clone)]
pub struct Agent {
    pub node: Uuid,
    pub stream: Uuid,
}

impl Agent {
    pub fn new() -> Self {
        Self { node: Uuid::new_v4(), stream: Uuid::new_v4() }
    }

    pub fn batch(&self, sequence: i64, observations: Vec<Observation>) -> EventBatch {
        EventBatch {
            schema_version: 1,
            node: Some(NodeIdentity {
                uid: self.node.to_string(),
                cluster: "test".to_owned(),
                display_name: "node-1".to_owned(),
            }),
            stream: self.stream.to_string(),
            sequence,
            observations,
            snapshots: Vec::new(),
            ..EventBatch::default()
        }
    }
}

pub fn snapshot(mut batch: EventBatch, first_sequence: i64) -> EventBatch {
    batch.snapshots.push(Snapshot {
        kind: AssetKind::Package.into(),
        first_sequence,
        last_sequence: batch.sequence,
    });
    batch
}

pub fn package(presence: Presence, name: &str, version: &str) -> Observation {
    let absent = presence == Presence::Absent;
    let details = PackageDetails {
        package: name.to_owned(),
        version: version.to_owned(),
        installed_size_bytes: 1000 + version.len() as u64,
        ..PackageDetails::default()
    };
    let details = AssetDetails { details: Some(Details::Package(details)), ..AssetDetails::default() };
    let natural_key = format!("dpkg/{name}:amd64");
    let state_hash =
        kit::digest::state_hash(AssetKind::Package, &natural_key, name, &details.encode_to_vec());
    Observation {
        event_id: Uuid::now_v7().to_string(),
        presence: presence.into(),
        kind: AssetKind::Package.into(),
        natural_key,
        display_name: if absent { String::new() } else { name.to_owned() },
        observe_time: Some(kit::time::now()),
        state_hash: if absent { Vec::new() } else { state_hash.to_vec() },
        details: (!absent).then_some(details),
    }
}
