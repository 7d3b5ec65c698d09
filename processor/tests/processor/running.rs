//! A processor that runs in the test, and batches as an agent would make them.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use contracts::v1::{
    Asset, AssetDetails, AssetKind, EventBatch, IngestEventsRequest, IngestResult, ListAssetsRequest,
    NodeIdentity, Observation, PackageDetails, Presence, QueueMessage, Snapshot, asset_details::Details,
    asset_service_client::AssetServiceClient, event_service_client::EventServiceClient,
    ingest_service_client::IngestServiceClient, node_service_client::NodeServiceClient,
    queue_message::Content,
};
use kit::shutdown::CancellationToken;
use processor::config::Config;
use testkit::Database;
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

/// A processor with a database of its own.
pub struct Running {
    pub channel: Channel,
    pub database: Database,
    pub admin: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), processor::Error>>,
}

impl Running {
    pub async fn start() -> Self {
        let database = Database::create().await;
        let (grpc, admin) = (testkit::listener().await, testkit::listener().await);
        let address = grpc.local_addr().unwrap();
        let admin_address = admin.local_addr().unwrap();
        let config = Config::parse_from(["processor", "--database-url", &database.url()]);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(processor::run(config, grpc, admin, shutdown.clone()));
        testkit::wait_until(Duration::from_secs(30), "the processor is ready", async || {
            assert!(!task.is_finished(), "the processor ended at its start");
            matches!(testkit::http_get(admin_address, "/readyz").await, Ok((200, _)))
        })
        .await;
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, database, admin: admin_address, shutdown, task }
    }

    pub fn assets(&self) -> AssetServiceClient<Channel> {
        AssetServiceClient::new(self.channel.clone())
    }

    pub fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone())
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
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap().unwrap();
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
    let mut state_hash = [0_u8; 16];
    for (place, byte) in name.bytes().chain(*b"/").chain(version.bytes()).enumerate() {
        state_hash[place % 16] = state_hash[place % 16].wrapping_mul(31).wrapping_add(byte);
    }
    let details = PackageDetails {
        package: name.to_owned(),
        version: version.to_owned(),
        installed_size_bytes: 1000 + version.len() as u64,
        ..PackageDetails::default()
    };
    Observation {
        event_id: Uuid::now_v7().to_string(),
        presence: presence.into(),
        kind: AssetKind::Package.into(),
        natural_key: format!("dpkg/{name}:amd64"),
        display_name: if absent { String::new() } else { name.to_owned() },
        observe_time: Some(kit::time::now()),
        state_hash: if absent { Vec::new() } else { state_hash.to_vec() },
        details: (!absent)
            .then_some(AssetDetails { details: Some(Details::Package(details)), ..AssetDetails::default() }),
    }
}
