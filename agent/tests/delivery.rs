//! The agent's program against a real broker: killed at any moment, nothing is
//! lost, and what comes twice is the same.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use contracts::v1::agent_service_client::AgentServiceClient;
use contracts::v1::{
    AgentStatus, AssetKind, EventBatch, GetAgentStatusRequest, Heartbeat, ListLocalAssetsRequest, Presence,
    TriggerScanRequest, asset_details::Details,
};
use kit::queue::{HEADER_NODE, HEADER_SEQUENCE, HEADER_STREAM, Topology};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use prost::Message;
use rand::RngExt;
use testkit::{Seed, Service, amqp_url, free_address, namespace, wait_until};
use tonic::Code;
use tonic::transport::Channel as GrpcChannel;

const SOON: Duration = Duration::from_secs(40);

/// A node made of files, with packages to change.
struct Node {
    root: tempfile::TempDir,
    store: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { root: tempfile::tempdir().unwrap(), store: tempfile::tempdir().unwrap() };
        for (path, text) in [
            ("proc/version", "Linux\n"),
            ("proc/sys/kernel/hostname", "test-node\n"),
            ("proc/1/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"),
            ("proc/1/net/tcp", "header\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("sys/block/sda/size", "2048\n"),
            ("sys/class/net/eth0/ifindex", "2\n"),
        ] {
            node.write(path, text);
        }
        node
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As dpkg does: a reader never sees half a file.
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn install(&self, packages: &BTreeMap<String, u32>) {
        let stanza = |(name, version): (&String, &u32)| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n"
            )
        };
        self.write("var/lib/dpkg/status", &packages.iter().map(stanza).collect::<String>());
    }

    fn agent(&self, namespace: &str, grpc: SocketAddr, admin: SocketAddr) -> Service {
        let path = |path: &Path| path.display().to_string();
        Service::new("assettrack-agent")
            .env("ASSETTRACK_AMQP_URL", &amqp_url())
            .env("ASSETTRACK_QUEUE_NAMESPACE", namespace)
            .env("ASSETTRACK_HOST_ROOT", &path(self.root.path()))
            .env("ASSETTRACK_STORE_DIR", &path(self.store.path()))
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
            .env("ASSETTRACK_SCAN_INTERVAL_SECONDS", "1")
    }
}

/// The receiving side of the queue.
struct Queue {
    channel: Channel,
    topology: Topology,
    _connection: Connection,
}

impl Queue {
    async fn new(namespace: &str) -> Self {
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { channel, topology: Topology::new(namespace), _connection: connection }
    }

    async fn declare_exchange(&self) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let name = self.topology.exchange();
        self.channel
            .exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default())
            .await
            .unwrap();
    }

    async fn declare_queues(&self) {
        for (queue, key, kind) in [
            (self.topology.event_queue(0), "shard.#", "quorum"),
            (self.topology.heartbeat_queue(), "heartbeat.#", "classic"),
        ] {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            self.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
            let exchange = self.topology.exchange().into();
            self.channel
                .queue_bind(
                    queue.into(),
                    exchange,
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .unwrap();
        }
    }

    /// All messages that are in the event queue.
    async fn drain(&self) -> Vec<Received> {
        let mut received = Vec::new();
        let name = self.topology.event_queue(0);
        while let Some(message) =
            self.channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await.unwrap()
        {
            message.acker.ack(BasicAckOptions::default()).await.unwrap();
            received.push(Received::new(&message.delivery));
        }
        received
    }

    async fn heartbeat(&self) -> Option<Heartbeat> {
        let name = self.topology.heartbeat_queue();
        let message = self.channel.basic_get(name.into(), BasicGetOptions { no_ack: true }).await.unwrap()?;
        Some(Heartbeat::decode(message.data.as_slice()).unwrap())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Received {
    message_id: String,
    body: Vec<u8>,
    batch: EventBatch,
}

impl Received {
    fn new(message: &lapin::message::Delivery) -> Self {
        let body = match message.properties.content_encoding() {
            Some(encoding) => {
                assert_eq!(encoding.as_str(), "zstd");
                zstd::bulk::decompress(&message.data, kit::queue::MAX_BATCH_BYTES).unwrap()
            }
            None => message.data.clone(),
        };
        assert!(body.len() <= kit::queue::MAX_BATCH_BYTES);
        let batch = EventBatch::decode(body.as_slice()).unwrap();
        let headers = message.properties.headers().as_ref().unwrap().inner();
        let text = |name: &str| headers[name].as_long_string().unwrap().to_string();
        assert_eq!(text(HEADER_NODE), batch.node.as_ref().unwrap().uid);
        assert_eq!(text(HEADER_STREAM), batch.stream);
        assert_eq!(headers[HEADER_SEQUENCE], AMQPValue::LongLongInt(batch.sequence));
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        let message_id = message.properties.message_id().as_ref().unwrap().to_string();
        Self { message_id, body, batch }
    }
}

/// The batches by sequence; what came twice must be the same.
fn by_sequence(received: Vec<Received>) -> BTreeMap<i64, Received> {
    let mut batches: BTreeMap<i64, Received> = BTreeMap::new();
    for message in received {
        if let Some(before) = batches.get(&message.batch.sequence) {
            assert_eq!(before, &message, "a duplicate differs");
        }
        batches.insert(message.batch.sequence, message);
    }
    batches
}

/// Package → version, as one who receives all batches believes.
fn fold(batches: &BTreeMap<i64, Received>) -> BTreeMap<String, u32> {
    let mut packages = BTreeMap::new();
    for observation in batches.values().flat_map(|received| &received.batch.observations) {
        if observation.kind() != AssetKind::Package {
            continue;
        }
        let name = observation.natural_key.trim_start_matches("dpkg/").trim_end_matches(":all").to_owned();
        if observation.presence() == Presence::Absent {
            packages.remove(&name);
        } else if let Some(Details::Package(package)) = observation.details.clone().unwrap().details {
            packages.insert(name, package.version.parse().unwrap());
        }
    }
    packages
}

async fn client(address: SocketAddr) -> AgentServiceClient<GrpcChannel> {
    let endpoint = GrpcChannel::from_shared(format!("http://{address}")).unwrap();
    AgentServiceClient::new(endpoint.connect_lazy())
}

async fn status(client: &mut AgentServiceClient<GrpcChannel>) -> Option<AgentStatus> {
    Some(client.get_agent_status(GetAgentStatusRequest {}).await.ok()?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_any_moment_loses_nothing() {
    let mut rng = Seed::draw().rng();
    let namespace = namespace();
    let queue = Queue::new(&namespace).await;
    queue.declare_exchange().await;
    queue.declare_queues().await;
    let node = Node::new();
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut packages: BTreeMap<String, u32> = (0..400).map(|n| (format!("package-{n:04}"), 0)).collect();
    node.install(&packages);
    let mut agent = node.agent(&namespace, grpc, admin);
    agent.start();
    let mut received = Vec::new();
    for round in 1..=40 {
        for _ in 0..rng.random_range(1..200) {
            let name = format!("package-{:04}", rng.random_range(0..800));
            if rng.random_bool(0.2) {
                packages.remove(&name);
            } else {
                packages.insert(name, round);
            }
        }
        node.install(&packages);
        // The moment of the kill is what varies: there is nothing to wait for.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..900))).await;
        agent.restart();
        received.extend(queue.drain().await);
    }
    agent.ready(admin, SOON).await;
    let mut client = client(grpc).await;
    let scanned = client.trigger_scan(TriggerScanRequest { probes: vec![] }).await.unwrap().into_inner();
    assert!(
        scanned.probes.iter().any(|probe| probe.probe == "packages" && probe.error.is_empty()),
        "{scanned:?}"
    );
    wait_until(SOON, "an empty outbox", async || {
        status(&mut client).await.is_some_and(|status| status.outbox_batches == 0 && status.connected)
    })
    .await;
    received.extend(queue.drain().await);

    let last = status(&mut client).await.unwrap();
    let count = received.len();
    let batches = by_sequence(received);
    println!("{count} messages, {} batches", batches.len());
    assert!(batches.values().all(|received| received.batch.stream == last.stream), "one store, one stream");
    assert_eq!(batches.keys().copied().collect::<Vec<_>>(), (1..=last.last_sequence).collect::<Vec<_>>());
    assert_eq!(fold(&batches), packages);
    let mut ids: Vec<&String> = batches
        .values()
        .flat_map(|received| received.batch.observations.iter().map(|observation| &observation.event_id))
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "an event ID names one event");
    assert_eq!(last.stream, queue.heartbeat().await.unwrap().stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_wait_until_there_is_a_queue_to_take_them() {
    let namespace = namespace();
    let queue = Queue::new(&namespace).await;
    let node = Node::new();
    node.install(&BTreeMap::from([("bash".to_owned(), 5)]));
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut agent = node.agent(&namespace, grpc, admin);
    agent.start();
    // Ready without a broker that can take anything: it works offline.
    agent.ready(admin, SOON).await;
    let mut client = client(grpc).await;
    let error_says = async |client: &mut AgentServiceClient<GrpcChannel>, text: &str| {
        status(client).await.is_some_and(|status| status.connection_error.contains(text))
    };
    wait_until(SOON, "the missing exchange", async || error_says(&mut client, "NOT_FOUND").await).await;
    queue.declare_exchange().await;
    wait_until(SOON, "the missing queue", async || error_says(&mut client, "no queue takes batch").await)
        .await;
    assert!(
        status(&mut client).await.unwrap().outbox_batches > 0,
        "the broker confirmed it, and it was returned"
    );
    queue.declare_queues().await;
    wait_until(SOON, "an empty outbox", async || {
        status(&mut client).await.is_some_and(|status| status.outbox_batches == 0 && status.connected)
    })
    .await;
    let batches = by_sequence(queue.drain().await);
    assert_eq!(fold(&batches), BTreeMap::from([("bash".to_owned(), 5)]));
    let kinds: Vec<AssetKind> = batches
        .values()
        .flat_map(|received| received.batch.snapshots.iter().map(contracts::v1::Snapshot::kind))
        .collect();
    // What could not be looked at is not said to be empty.
    let probes = status(&mut client).await.unwrap().probes;
    let looked = probes.iter().filter(|probe| probe.error.is_empty()).count();
    assert!(looked > 20, "{probes:?}");
    assert_eq!(kinds.len(), looked, "a snapshot of each kind, empty ones too: {kinds:?}");
    assert!(agent.stop(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_and_not_noted_comes_again_the_same() {
    let namespace = namespace();
    let queue = Queue::new(&namespace).await;
    let node = Node::new();
    node.install(&(0..300).map(|n| (format!("package-{n}"), 1)).collect());
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut agent = node.agent(&namespace, grpc, admin);
    agent.start();
    agent.ready(admin, SOON).await;
    let mut client = client(grpc).await;
    let unpublished = status(&mut client).await.unwrap().last_sequence;
    assert!(unpublished >= 8, "a snapshot of each kind");
    agent.kill();
    let (store, before) = (node.store.path().join("store.redb"), node.store.path().join("before"));
    fs::copy(&store, &before).unwrap();

    queue.declare_exchange().await;
    queue.declare_queues().await;
    let mut received = Vec::new();
    for _ in 0..2 {
        // The store as a crash after the publish and before the note leaves it.
        fs::copy(&before, &store).unwrap();
        agent.start();
        wait_until(SOON, "an empty outbox", async || {
            status(&mut client)
                .await
                .is_some_and(|status| status.outbox_batches == 0 && status.last_sequence > 0)
        })
        .await;
        agent.kill();
        received.push(by_sequence(queue.drain().await));
    }
    for sequence in 1..=unpublished {
        assert_eq!(received[0][&sequence], received[1][&sequence], "body and message ID");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_service_answers_and_refuses() {
    let node = Node::new();
    node.install(&(0..120).map(|n| (format!("p{n:03}"), 1)).collect());
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut agent = node.agent(&namespace(), grpc, admin);
    agent.start();
    agent.ready(admin, SOON).await;
    let mut client = client(grpc).await;

    let mut request = ListLocalAssetsRequest { kind: AssetKind::Package.into(), ..Default::default() };
    let mut names = Vec::new();
    loop {
        let page = client.list_local_assets(request.clone()).await.unwrap().into_inner();
        assert!(page.assets.len() <= 50);
        names.extend(page.assets.into_iter().map(|asset| asset.display_name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..120).map(|n| format!("p{n:03}")).collect::<Vec<_>>());

    request.page_token = "garbage".into();
    let wrong = client.list_local_assets(request).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("page_token:"), "{wrong:?}");
    let probes = vec!["packages".to_owned(), "quarks".to_owned()];
    let wrong = client.trigger_scan(TriggerScanRequest { probes }).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("probes[1]:") && wrong.message().contains("modules"), "{wrong:?}");

    node.install(&BTreeMap::new());
    let probes = vec!["packages".to_owned()];
    let scanned = client.trigger_scan(TriggerScanRequest { probes }).await.unwrap().into_inner();
    assert_eq!(scanned.probes.len(), 1);
    assert_eq!(scanned.probes[0].assets, 0);
    // The watch may have been quicker.
    assert!(scanned.changes == 120 || scanned.changes == 0, "{scanned:?}");
    let (_, metrics) = testkit::http_get(admin, "/metrics").await.unwrap();
    assert!(metrics.contains("assettrack_agent_outbox_batches"), "{metrics}");
    assert!(metrics.contains("assettrack_agent_observations_total{probe=\"packages\"} 240"), "{metrics}");
}
