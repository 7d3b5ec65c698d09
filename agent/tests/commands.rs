//! Commands over the real broker, and two agents of one identity.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use agent::asset::ScannedAsset;
use agent::commander::Commander;
use agent::metrics::AgentMetrics;
use agent::publisher::Publisher;
use agent::scheduler::Trigger;
use agent::status::Status;
use agent::store::{self, Recording, Store};
use contracts::v1::{
    AgentCommand, AgentStatus, AssetKind, Heartbeat, KernelModuleDetails, NewStreamCommand, NodeIdentity,
    RescanCommand, ResyncCommand, agent_command::Command, asset_details::Details,
};
use kit::metrics::Metrics;
use kit::queue::{SCHEMA_VERSION, Topology, command_key};
use kit::settings::Secret;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use prost::Message;
use testkit::{amqp_url, broker_by_proxy, namespace, wait_until};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
const KIND: AssetKind = AssetKind::KernelModule;
const NODE: Uuid = Uuid::from_u128(0x1234_5678);

struct Running {
    store: Arc<Store>,
    status: Status,
    triggers: mpsc::Receiver<Trigger>,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(url: &str, topology: &Topology, conflict_after: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = store::Settings {
            folder: folder.path().to_owned(),
            node: NodeIdentity { uid: NODE.to_string(), ..Default::default() },
            node_uid: NODE,
            outbox_limit_bytes: u64::MAX,
        };
        let store = Arc::new(Store::open(settings).unwrap());
        let (send, triggers) = mpsc::channel(16);
        let status = Status::new([]);
        let metrics = AgentMetrics::new(&Metrics::default());
        let commander = Commander::new(
            topology.clone(),
            store.clone(),
            status.clone(),
            metrics.clone(),
            vec![AssetKind::Node, KIND],
            send,
        );
        let amqp = kit::amqp::Settings {
            amqp_url: Some(Secret::new(url)),
            amqp_url_file: None,
            amqp_ca_file: None,
            queue_namespace: String::new(),
        };
        let publisher = Publisher {
            broker: amqp.broker("test").unwrap(),
            topology: topology.clone(),
            store: store.clone(),
            status: status.clone(),
            metrics,
            heartbeat_interval: Duration::from_millis(200),
            commander: commander.conflict_after(conflict_after),
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(publisher.run(shutdown.clone()));
        Self { store, status, triggers, shutdown, _folder: folder }
    }

    fn report(&self) -> AgentStatus {
        self.status.report(&self.store)
    }

    async fn listens(&self) {
        wait_until(SOON, "commands can be received", async || self.report().command_error.is_empty()).await;
    }

    fn record(&self, count: usize) -> usize {
        let module = |n: usize| {
            let details = KernelModuleDetails { module: format!("m{n}"), ..Default::default() };
            ScannedAsset::new(format!("m{n}"), format!("m{n}"), Details::KernelModule(details))
        };
        match self.store.record(KIND, &(0..count).map(module).collect::<Vec<_>>(), &[]).unwrap() {
            Recording::Taken { observations, .. } => observations,
            Recording::OutboxFull => panic!("the outbox is full"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The broker as collectors leave it.
struct Broker {
    channel: Channel,
    topology: Topology,
    _connection: Connection,
}

impl Broker {
    async fn new() -> Self {
        let topology = Topology::new(namespace());
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let none = FieldTable::default;
        for (exchange, kind) in
            [(topology.exchange(), ExchangeKind::Topic), (topology.command_exchange(), ExchangeKind::Direct)]
        {
            channel.exchange_declare(exchange.into(), kind, durable, none()).await.unwrap();
        }
        for (queue, key) in
            [(topology.event_queue(0), "shard.#"), (topology.heartbeat_queue(), "heartbeat.#")]
        {
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue.as_str().into(), durable, none()).await.unwrap();
            let exchange = topology.exchange().into();
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.into(), exchange, key.into(), options, none()).await.unwrap();
        }
        Self { channel, topology, _connection: connection }
    }

    async fn send(&self, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm = self
            .channel
            .basic_publish(
                self.topology.command_exchange().into(),
                command_key(NODE).into(),
                options,
                body,
                BasicProperties::default(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(confirm.take_message().is_none(), "the agent's queue takes it");
    }

    async fn command(&self, command: Command) {
        self.send(&of(command).encode_to_vec()).await;
    }

    /// The newest heartbeat, if one came.
    async fn heartbeat(&self) -> Option<Heartbeat> {
        let queue = self.topology.heartbeat_queue();
        let mut newest = None;
        while let Some(message) =
            self.channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            newest = Some(Heartbeat::decode(message.data.as_slice()).unwrap());
        }
        newest
    }
}

fn of(command: Command) -> AgentCommand {
    AgentCommand {
        schema_version: SCHEMA_VERSION,
        command_id: Uuid::now_v7().to_string(),
        node_uid: NODE.to_string(),
        expire_time: None,
        command: Some(command),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_obeyed() {
    let broker = Broker::new().await;
    let mut running = Running::start(&amqp_url(), &broker.topology, SOON);
    running.listens().await;

    broker.command(Command::Rescan(RescanCommand { kinds: vec![KIND.into()] })).await;
    let trigger = tokio::time::timeout(SOON, running.triggers.recv()).await.unwrap().unwrap();
    assert_eq!(trigger.probes, [1], "the probe of that kind");
    broker.command(Command::Rescan(RescanCommand { kinds: vec![] })).await;
    let trigger = tokio::time::timeout(SOON, running.triggers.recv()).await.unwrap().unwrap();
    assert!(trigger.probes.is_empty(), "all");

    assert_eq!(running.record(3), 3);
    let stream = running.store.figures().stream;
    broker.command(Command::Resync(ResyncCommand { kinds: vec![KIND.into()] })).await;
    wait_until(SOON, "the resync", async || running.store.figures().resyncs == 1).await;
    assert_eq!((running.record(3), running.record(3)), (3, 0), "listed once more");
    assert_eq!(running.store.figures().stream, stream);

    broker.command(Command::NewStream(NewStreamCommand {})).await;
    wait_until(SOON, "the new stream", async || running.store.figures().stream != stream).await;
    assert_eq!(running.record(3), 3, "a snapshot");
    wait_until(SOON, "all of it is published", async || running.store.figures().outbox_batches == 0).await;
    assert!(running.report().last_command_time.is_some());

    let figures = running.store.figures();
    wait_until(SOON, "a heartbeat with the digest as of the last sequence", async || {
        broker.heartbeat().await.is_some_and(|heartbeat| {
            heartbeat.stream == figures.stream.to_string()
                && heartbeat.last_sequence == figures.newest.1
                && heartbeat.digests == [figures.digests[0].1.of_kind(KIND)]
                && heartbeat.digests[0].count == 3
                && !heartbeat.identity_conflict
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_cannot_be_obeyed_harms_nobody() {
    let broker = Broker::new().await;
    let mut running = Running::start(&amqp_url(), &broker.topology, SOON);
    running.listens().await;
    let rescan = || of(Command::Rescan(RescanCommand::default()));
    let past = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    for wrong in [
        AgentCommand { schema_version: 99, ..rescan() },
        AgentCommand { node_uid: Uuid::from_u128(9).to_string(), ..rescan() },
        AgentCommand { expire_time: past, ..rescan() },
        AgentCommand { command: None, ..rescan() },
        AgentCommand { command_id: String::new(), ..rescan() },
        // A kind that no probe here finds does not mean all.
        of(Command::Rescan(RescanCommand { kinds: vec![AssetKind::Custom.into()] })),
    ] {
        broker.send(&wrong.encode_to_vec()).await;
    }
    broker.send(b"\xff\xffgarbled").await;
    let twice = rescan();
    broker.send(&twice.encode_to_vec()).await;
    broker.send(&twice.encode_to_vec()).await;
    let last = of(Command::Rescan(RescanCommand { kinds: vec![KIND.into()] }));
    broker.send(&last.encode_to_vec()).await;
    let mut obeyed = Vec::new();
    while obeyed.len() < 2 {
        let trigger = tokio::time::timeout(SOON, running.triggers.recv()).await.unwrap().unwrap();
        obeyed.push(trigger.probes);
    }
    assert_eq!(obeyed, [vec![], vec![1]], "the one that came twice once, and the one after all others");
    assert!(running.report().command_error.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_agent_of_an_identity_says_so() {
    let broker = Broker::new().await;
    let first = Running::start(&amqp_url(), &broker.topology, Duration::ZERO);
    first.listens().await;
    let second = Running::start(&amqp_url(), &broker.topology, Duration::ZERO);
    wait_until(SOON, "the conflict", async || second.report().identity_conflict).await;
    assert!(second.report().command_error.contains("RESOURCE_LOCKED"), "{:?}", second.report());
    assert!(!first.report().identity_conflict, "the first one has its queue");
    wait_until(SOON, "a heartbeat that says so", async || {
        broker.heartbeat().await.is_some_and(|heartbeat| heartbeat.identity_conflict)
    })
    .await;
    // It publishes all the same: what it sees is not lost.
    second.record(3);
    wait_until(SOON, "an empty outbox", async || second.store.figures().outbox_batches == 0).await;
    drop(first);
    wait_until(SOON, "the end of the conflict", async || !second.report().identity_conflict).await;
    second.listens().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_no_conflict() {
    let broker = Broker::new().await;
    let (proxy, url) = broker_by_proxy().await;
    let mut running = Running::start(&url, &broker.topology, SOON);
    running.listens().await;
    // The broker still holds the queue for the connection that it has not given up.
    proxy.silence();
    wait_until(SOON, "the loss of the connection", async || !running.report().connected).await;
    proxy.carry();
    running.listens().await;
    assert!(!running.report().identity_conflict);
    broker.command(Command::Rescan(RescanCommand::default())).await;
    assert!(tokio::time::timeout(SOON, running.triggers.recv()).await.unwrap().is_some());
}
