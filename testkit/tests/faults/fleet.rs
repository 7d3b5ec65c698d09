//! Publishes for simulated nodes as an agent does: persistent, mandatory,
//! confirmed, with an outbox that only a confirm empties, and a new connection
//! after any failure.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use contracts::v1::EventBatch;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use kit::{
    amqp::Broker,
    queue::{
        CONTENT_TYPE, HEADER_NODE, HEADER_PUBLISHED, HEADER_SEQUENCE, HEADER_STREAM, Topology, batch_key,
    },
};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::{wait_for, wait_until};
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use crate::{
    bed::PATIENCE,
    load::{Node, Seen},
};

const IN_FLIGHT: usize = 32;
/// As the agent's.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);
/// Batches at which nodes report no more until some are confirmed.
const OUTBOX: usize = 400;
/// Time between two reports of a node.
const ROUND: Duration = Duration::from_millis(60);

/// A message as it is published.
#[derive(Clone)]
pub struct Parcel {
    pub key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Parcel {
    /// As an agent makes it.
    pub fn of(batch: &EventBatch, published_millis: i64) -> Self {
        let node: Uuid = batch.node.as_ref().unwrap().uid.parse().unwrap();
        let mut headers = FieldTable::default();
        headers.insert(HEADER_NODE.into(), AMQPValue::LongString(node.to_string().into()));
        headers.insert(HEADER_STREAM.into(), AMQPValue::LongString(batch.stream.clone().into()));
        headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongLongInt(batch.sequence));
        headers.insert(HEADER_PUBLISHED.into(), AMQPValue::LongLongInt(published_millis));
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(2)
            .with_message_id(Uuid::now_v7().to_string().into())
            .with_headers(headers);
        Self { key: batch_key(node), properties, body: batch.encode_to_vec() }
    }
}

#[derive(Default)]
struct Inner {
    nodes: Vec<Node>,
    outbox: BTreeMap<u64, Parcel>,
    next: u64,
    confirmed: usize,
    /// All that was ever published, for replays.
    sent: Vec<Parcel>,
    rounds: usize,
    fresh: usize,
    flows: bool,
}

/// Simulated nodes and their publisher, which ends with this value.
pub struct Fleet {
    inner: Arc<Mutex<Inner>>,
    news: Arc<Notify>,
    tasks: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Nodes that begin to report at once. `identity` and `content` seed who they
    /// are and what they see; their clocks are wrong by `skew` seconds. They stop
    /// after `rounds` reports each, if that is given.
    pub fn start(
        broker: Broker,
        topology: Topology,
        (identity, content): (u64, u64),
        nodes: u64,
        skew: i64,
        rounds: Option<usize>,
    ) -> Self {
        let nodes =
            (0..nodes).map(|n| Node::new(identity.wrapping_add(n), content.wrapping_add(n), skew)).collect();
        let inner = Arc::new(Mutex::new(Inner { nodes, flows: true, ..Inner::default() }));
        let news = Arc::new(Notify::new());
        let tasks = vec![
            tokio::spawn(report(inner.clone(), news.clone(), StdRng::seed_from_u64(content), rounds)),
            tokio::spawn(publish(broker, topology, inner.clone(), news.clone())),
        ];
        Self { inner, news, tasks }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Waits until so many more batches are confirmed.
    pub async fn confirms(&self, more: usize) {
        let goal = self.inner().confirmed + more;
        wait_until(PATIENCE, "confirms of the broker", async || self.inner().confirmed >= goal).await;
    }

    /// Waits until each node has reported so many more times, or does not any
    /// more because its outbox is full.
    pub async fn reports(&self, more: usize) {
        let goal = self.inner().rounds + more;
        wait_until(PATIENCE, "reports of the nodes", async || {
            let inner = self.inner();
            inner.rounds >= goal || inner.outbox.len() >= OUTBOX
        })
        .await;
    }

    /// Has the first node report an asset that is new; answers its name.
    pub fn fresh(&self) -> String {
        let mut inner = self.inner();
        inner.fresh += 1;
        let name = format!("fresh{}", Uuid::new_v4().simple());
        let batch = inner.nodes[0].fresh(&name);
        let parcel = Parcel::of(&batch, inner.nodes[0].published_millis());
        inner.put(parcel);
        drop(inner);
        self.news.notify_waiters();
        name
    }

    /// Publishes messages that no node knows of, as they are.
    pub fn put(&self, parcels: impl IntoIterator<Item = Parcel>) {
        let mut inner = self.inner();
        for parcel in parcels {
            let number = inner.next;
            inner.next += 1;
            inner.outbox.insert(number, parcel);
        }
        drop(inner);
        self.news.notify_waiters();
    }

    /// All that was published, in order.
    pub fn sent(&self) -> Vec<Parcel> {
        self.inner().sent.clone()
    }

    /// Waits until each node has made all its reports.
    pub async fn rounds_end(&self) {
        wait_until(PATIENCE, "the last reports", async || !self.inner().flows).await;
    }

    /// No more reports; waits until all are confirmed.
    pub async fn end(&self) {
        self.inner().flows = false;
        wait_for(PATIENCE, "an empty outbox", async || self.inner().outbox.is_empty().then_some(())).await;
    }

    /// What the nodes have seen.
    pub fn nodes(&self) -> Vec<Seen> {
        self.inner().nodes.iter().map(|node| node.seen.clone()).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    fn put(&mut self, parcel: Parcel) {
        self.sent.push(parcel.clone());
        self.outbox.insert(self.next, parcel);
        self.next += 1;
    }
}

async fn report(inner: Arc<Mutex<Inner>>, news: Arc<Notify>, mut rng: StdRng, rounds: Option<usize>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        {
            let mut inner = inner.lock().unwrap();
            if !inner.flows || rounds.is_some_and(|rounds| inner.rounds >= rounds) {
                inner.flows = false;
                return;
            }
            if inner.outbox.len() >= OUTBOX {
                continue;
            }
            inner.rounds += 1;
            for n in 0..inner.nodes.len() {
                for batch in inner.nodes[n].next() {
                    let parcel = Parcel::of(&batch, inner.nodes[n].published_millis());
                    inner.put(parcel.clone());
                    if rng.random_bool(0.1) {
                        // A confirm that was lost on the way: it is sent again.
                        inner.put(parcel);
                    }
                }
            }
        }
        news.notify_waiters();
    }
}

async fn publish(broker: Broker, topology: Topology, inner: Arc<Mutex<Inner>>, news: Arc<Notify>) {
    loop {
        if let Err(error) = session(&broker, &topology, &inner, &news).await {
            println!("the fleet's connection: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn session(
    broker: &Broker,
    topology: &Topology,
    inner: &Mutex<Inner>,
    news: &Notify,
) -> Result<(), String> {
    let connection = broker.connect().await.map_err(|error| error.to_string())?;
    let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| error.to_string())?;
    let exchange = topology.exchange();
    let mut under_way: HashSet<u64> = HashSet::new();
    let mut in_flight = FuturesUnordered::new();
    loop {
        let more = news.notified();
        tokio::pin!(more);
        // Registers before the look at the outbox, so that no news is missed.
        more.as_mut().enable();
        let next: Vec<(u64, Parcel)> = {
            let inner = inner.lock().unwrap();
            let waiting = inner.outbox.iter().filter(|(number, _)| !under_way.contains(number));
            waiting.take(IN_FLIGHT - in_flight.len()).map(|(n, parcel)| (*n, parcel.clone())).collect()
        };
        for (number, parcel) in next {
            under_way.insert(number);
            in_flight.push(publish_one(&channel, &exchange, parcel).map(move |done| (number, done)));
        }
        let room = in_flight.len() < IN_FLIGHT;
        tokio::select! {
            Some((number, done)) = in_flight.next() => {
                done?;
                under_way.remove(&number);
                let mut inner = inner.lock().unwrap();
                inner.outbox.remove(&number);
                inner.confirmed += 1;
            }
            () = more, if room => {}
        }
    }
}

async fn publish_one(channel: &Channel, exchange: &str, parcel: Parcel) -> Result<(), String> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let publishing = async {
        let Parcel { key, properties, body } = parcel;
        channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await?.await
    };
    match tokio::time::timeout(CONFIRM_DEADLINE, publishing).await {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(other)) => Err(format!("not taken: {other:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no confirm in time".to_owned()),
    }
}
