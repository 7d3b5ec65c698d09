//! Processes are killed while events flow; nothing is missing or doubled.

use std::{collections::HashMap, time::Duration};

use contracts::v1::{
    AssetDetails, AssetKind, EventBatch, KernelModuleDetails, NodeIdentity, Observation, Presence,
    asset_details::Details,
};
use kit::queue::{
    CONTENT_TYPE, HEADER_NODE, HEADER_PUBLISHED, HEADER_SEQUENCE, HEADER_STREAM, Topology, batch_key,
};
use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message;
use rand::{RngExt as _, rngs::StdRng};
use serde_json::Value;
use testkit::{Seed, wait_until};
use uuid::Uuid;

use crate::system::System;

const NODES: usize = 4;
const BATCHES: i64 = 60;
const EVENTS_PER_BATCH: usize = 10;
const KILLS: usize = 6;
/// Event queues of a collector that is told nothing else.
const QUEUES: u8 = 4;

/// What a node's agent has published: the oracle.
struct Node {
    uid: Uuid,
    stream: Uuid,
    /// Natural key → newest state; none if it is gone.
    state: HashMap<String, Option<String>>,
    events: Vec<String>,
}

impl Node {
    fn new() -> Self {
        Self { uid: Uuid::new_v4(), stream: Uuid::new_v4(), state: HashMap::new(), events: Vec::new() }
    }

    fn batch(&mut self, sequence: i64, rng: &mut StdRng) -> EventBatch {
        let mut observations = Vec::new();
        for _ in 0..EVENTS_PER_BATCH {
            let key = format!("module_{}", rng.random_range(0..25));
            let version = (rng.random_range(0..4) > 0).then(|| format!("{}", rng.random::<u32>()));
            let event_id = Uuid::now_v7().to_string();
            self.events.push(event_id.clone());
            observations.push(observation(event_id, &key, version.as_deref()));
            self.state.insert(key, version);
        }
        EventBatch {
            schema_version: 1,
            node: Some(NodeIdentity {
                uid: self.uid.to_string(),
                cluster: "faults".to_owned(),
                display_name: format!("node-{}", self.uid),
            }),
            stream: self.stream.to_string(),
            sequence,
            observations,
            snapshots: Vec::new(),
            ..EventBatch::default()
        }
    }
}

fn observation(event_id: String, key: &str, version: Option<&str>) -> Observation {
    let details = version.map(|version| AssetDetails {
        details: Some(Details::KernelModule(KernelModuleDetails {
            module: key.to_owned(),
            version: version.to_owned(),
            ..Default::default()
        })),
        ..AssetDetails::default()
    });
    let mut state_hash = version.unwrap_or_default().as_bytes().to_vec();
    state_hash.resize(16, 0);
    Observation {
        event_id,
        presence: if version.is_some() { Presence::Present } else { Presence::Absent }.into(),
        kind: AssetKind::KernelModule.into(),
        natural_key: key.to_owned(),
        display_name: if version.is_some() { key.to_owned() } else { String::new() },
        observe_time: Some(kit::time::now()),
        state_hash: if version.is_some() { state_hash } else { Vec::new() },
        details,
    }
}

/// Publishes as an agent does: persistent, mandatory, confirmed.
async fn publish(channel: &Channel, topology: &Topology, batch: &EventBatch) {
    let node: Uuid = batch.node.as_ref().unwrap().uid.parse().unwrap();
    let mut headers = FieldTable::default();
    headers.insert(HEADER_NODE.into(), AMQPValue::LongString(node.to_string().into()));
    headers.insert(HEADER_STREAM.into(), AMQPValue::LongString(batch.stream.clone().into()));
    headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongLongInt(batch.sequence));
    headers.insert(HEADER_PUBLISHED.into(), AMQPValue::LongLongInt(kit::time::unix_millis()));
    let properties = BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(2)
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let confirm = channel
        .basic_publish(
            topology.exchange().into(),
            batch_key(node).into(),
            options,
            &batch.encode_to_vec(),
            properties,
        )
        .await
        .unwrap()
        .await
        .unwrap();
    assert!(confirm.is_ack() && confirm.take_message().is_none(), "confirmed and routed");
}

/// Whether neither a queue nor a collector holds a message. The queues are asked
/// of the broker: the depths in the overview are up to 5 s old.
async fn settled(system: &System, channel: &Channel, topology: &Topology) -> bool {
    for index in 0..QUEUES {
        let options = QueueDeclareOptions::durable().passive();
        let name = topology.event_queue(index);
        let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
        if queue.message_count() > 0 {
            return false;
        }
    }
    // 64-bit numbers are strings in JSON; 0 is left out.
    let is_zero = |count: &Value| count.is_null() || count == "0";
    let overview = system.get("/v1/overview").await;
    let collectors = overview["collectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    collectors.len() == system.collectors.len()
        && collectors.iter().all(|collector| {
            let mut queues = collector["queues"].as_array().into_iter().flatten();
            is_zero(&collector["inFlightMessages"]) && queues.all(|queue| is_zero(&queue["depth"]))
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_lose_and_double_nothing() {
    let seed = Seed::draw();
    let mut rng = seed.rng();
    let mut system = System::start().await;
    let topology = Topology::new(&system.namespace);
    let connection = system.broker().connect().await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();

    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::new()).collect();
    let kill_at: Vec<i64> = (0..KILLS).map(|_| rng.random_range(1..BATCHES)).collect();
    for sequence in 1..=BATCHES {
        for node in &mut nodes {
            let batch = node.batch(sequence, &mut rng);
            publish(&channel, &topology, &batch).await;
            if rng.random_bool(0.2) {
                // A confirm that was lost on the way: the agent sends it again.
                publish(&channel, &topology, &batch).await;
            }
        }
        for _ in kill_at.iter().filter(|at| **at == sequence) {
            match rng.random_range(0..3) {
                0 => system.processor.restart(),
                which => system.collectors[which - 1].restart(),
            }
        }
    }
    // A garbled message among them is kept, and holds up nobody.
    let garbled = BasicProperties::default().with_delivery_mode(2);
    let key = batch_key(nodes[0].uid);
    channel
        .basic_publish(
            topology.exchange().into(),
            key.into(),
            Default::default(),
            b"\xff\xffgarbled",
            garbled,
        )
        .await
        .unwrap()
        .await
        .unwrap();

    system.all_ready().await;
    let expected = NODES * EVENTS_PER_BATCH * usize::try_from(BATCHES).unwrap();
    let database = system.database.connect().await;
    let count = async |query: &str| database.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    wait_until(Duration::from_secs(90), "every event in the log and the garbled one kept", async || {
        let events = count("SELECT count(*) FROM asset_event").await;
        usize::try_from(events).unwrap() >= expected && count("SELECT count(*) FROM dead_letter").await == 1
    })
    .await;
    wait_until(Duration::from_secs(60), "nothing left to deliver again", async || {
        // Twice: what is on its way from the broker is in neither place.
        settled(&system, &channel, &topology).await && settled(&system, &channel, &topology).await
    })
    .await;

    let mut logged: Vec<String> = database
        .query("SELECT event_uid::text FROM asset_event", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut published: Vec<String> = nodes.iter().flat_map(|node| node.events.clone()).collect();
    logged.sort_unstable();
    published.sort_unstable();
    assert_eq!(logged, published, "every event exactly once; seed {}", seed.value());

    for node in &nodes {
        let rows = database
            .query(
                "SELECT natural_key, CASE state WHEN 1 THEN attributes #>> '{details,kernel_module,version}' END \
                 FROM asset WHERE node_uid = $1::text::uuid",
                &[&node.uid.to_string()],
            )
            .await
            .unwrap();
        let stored: HashMap<String, Option<String>> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(stored, node.state, "each asset equals the fold; seed {}", seed.value());
    }
}
