//! Obeys commands: rescan, resync, new stream. Beside the publisher on its
//! connection, over a channel of its own: what fails here is tried again and
//! never stops the publishing.
//!
//! The queue of a node's commands is exclusive to its agent, so a second agent
//! under the same identity cannot have it, and so learns that it is the second.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contracts::v1::{AgentCommand, AssetKind, agent_command::Command};
use futures::StreamExt;
use kit::identity::parse_uuid;
use kit::queue::{COMMAND_TTL_MILLIS, SCHEMA_VERSION, Topology, command_key};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ErrorKind};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::{AgentMetrics, CommandLabel};
use crate::scheduler::Trigger;
use crate::status::Status;
use crate::store::{Store, StoreError};

/// After this long the queue is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long another connection may hold the queue before it counts as another
/// agent's: the broker needs two heartbeats of 10 s to give up one of our own
/// that was cut.
const CONFLICT_AFTER: Duration = Duration::from_secs(30);
/// Commands whose IDs are remembered.
const REMEMBERED: usize = 64;
/// AMQP's reply code for a queue that is another connection's.
const RESOURCE_LOCKED: u16 = 405;

/// What obeys commands.
pub struct Commander {
    topology: Topology,
    store: Arc<Store>,
    status: Status,
    metrics: AgentMetrics,
    /// Kind of each probe, by its place.
    kinds: Vec<AssetKind>,
    triggers: mpsc::Sender<Trigger>,
    conflict_after: Duration,
    memory: Mutex<Memory>,
}

/// What outlives a connection.
#[derive(Default)]
struct Memory {
    /// IDs of the commands obeyed last.
    obeyed: VecDeque<String>,
    /// Since when another connection has held the queue.
    held_since: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("the broker ended the consumer")]
    Cancelled,
}

/// Why a command is not obeyed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("schema_version {0} is not known")]
    Version(u32),
    #[error("command_id {0:?} is no UUID of 36 characters in lower case")]
    NoId(String),
    #[error("no probe finds what it asks for")]
    NoProbe,
    #[error("is for node {0:?}")]
    OtherNode(String),
    #[error("has expired")]
    Expired,
    #[error("was obeyed before")]
    Repeated,
    #[error("says nothing that is known")]
    Empty,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the agent is shutting down")]
    Stopping,
}

impl Commander {
    /// What obeys commands for a store's node. `kinds` are those of the probes
    /// by their places.
    #[must_use]
    pub fn new(
        topology: Topology,
        store: Arc<Store>,
        status: Status,
        metrics: AgentMetrics,
        kinds: Vec<AssetKind>,
        triggers: mpsc::Sender<Trigger>,
    ) -> Self {
        let (conflict_after, memory) = (CONFLICT_AFTER, Mutex::default());
        Self { topology, store, status, metrics, kinds, triggers, conflict_after, memory }
    }

    /// The same with another time after which a held queue is a conflict.
    #[must_use]
    pub fn conflict_after(mut self, conflict_after: Duration) -> Self {
        self.conflict_after = conflict_after;
        self
    }

    /// Obeys for as long as the connection lasts.
    pub(crate) async fn follow(&self, connection: &Connection) -> Infallible {
        loop {
            let Err(failure) = self.consume(connection).await;
            if is_locked(&failure) {
                let since = *self.memory().held_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.conflict_after && self.status.set_identity_conflict(true) {
                    self.metrics.identity_conflict.set(1);
                    tracing::error!(
                        node = %self.store.node_uid(),
                        "another agent lives under this node's identity: give each machine its own machine-id"
                    );
                }
            }
            self.status.commands_fail(failure.to_string());
            tracing::debug!(error = %failure, "commands cannot be received");
            tokio::time::sleep(RETRY_INTERVAL.mul_f64(rand::random_range(0.8..=1.2))).await;
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn consume(&self, connection: &Connection) -> Result<Infallible, Failure> {
        let channel = connection.create_channel().await?;
        let queue = self.topology.command_queue(self.store.node_uid());
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-message-ttl".into(), AMQPValue::LongUInt(COMMAND_TTL_MILLIS));
        channel.queue_declare(queue.as_str().into(), options, arguments).await?;
        self.memory().held_since = None;
        if self.status.set_identity_conflict(false) {
            self.metrics.identity_conflict.set(0);
            tracing::info!("no other agent lives under this node's identity any more");
        }
        let key = command_key(self.store.node_uid());
        let exchange = self.topology.command_exchange();
        let none = FieldTable::default();
        channel
            .queue_bind(queue.as_str().into(), exchange.into(), key.into(), QueueBindOptions::default(), none)
            .await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let tag = "assettrack-agent";
        let mut consumer =
            channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?;
        self.status.commands_work();
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            match self.obey(&delivery.data).await {
                Ok(name) => {
                    self.status.obeyed();
                    self.metrics
                        .commands
                        .get_or_create(&CommandLabel { command: name, result: "obeyed" })
                        .inc();
                    delivery.acker.ack(BasicAckOptions::default()).await?;
                }
                Err(refusal) => {
                    tracing::warn!(%refusal, "a command is not obeyed");
                    let label = CommandLabel { command: "unknown", result: "refused" };
                    self.metrics.commands.get_or_create(&label).inc();
                    delivery.acker.reject(BasicRejectOptions { requeue: false }).await?;
                }
            }
        }
        Err(Failure::Cancelled)
    }

    /// Obeys one command; answers its name.
    async fn obey(&self, body: &[u8]) -> Result<&'static str, Refusal> {
        let command = AgentCommand::decode(body)?;
        if command.schema_version != SCHEMA_VERSION {
            return Err(Refusal::Version(command.schema_version));
        }
        if command.node_uid != self.store.node_uid().to_string() {
            return Err(Refusal::OtherNode(command.node_uid));
        }
        if parse_uuid(&command.command_id).is_none() {
            return Err(Refusal::NoId(command.command_id));
        }
        if self.memory().obeyed.contains(&command.command_id) {
            return Err(Refusal::Repeated);
        }
        let now = kit::time::now();
        if command.expire_time.is_some_and(|time| (time.seconds, time.nanos) < (now.seconds, now.nanos)) {
            return Err(Refusal::Expired);
        }
        let name = match command.command.ok_or(Refusal::Empty)? {
            Command::Rescan(rescan) => {
                let places = self.places(&rescan.kinds().collect::<Vec<_>>());
                // No places would mean all of them.
                if places.is_empty() && !rescan.kinds.is_empty() {
                    return Err(Refusal::NoProbe);
                }
                tracing::info!(probes = places.len(), "told to scan");
                self.scan(places).await?;
                "rescan"
            }
            Command::Resync(resync) => {
                let kinds: Vec<AssetKind> = resync.kinds().collect();
                tracing::info!(?kinds, "told to send snapshots");
                self.on_store(move |store| store.resync(&kinds)).await?;
                "resync"
            }
            Command::NewStream(_) => {
                tracing::info!("told to begin a new stream");
                self.on_store(Store::new_stream).await?;
                "new_stream"
            }
        };
        let mut memory = self.memory();
        if memory.obeyed.len() == REMEMBERED {
            memory.obeyed.pop_front();
        }
        memory.obeyed.push_back(command.command_id);
        Ok(name)
    }

    async fn on_store(
        &self,
        act: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), Refusal> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || act(&store)).await.map_err(|_| Refusal::Stopping)??;
        Ok(())
    }

    /// Probes of these kinds; none means all.
    fn places(&self, kinds: &[AssetKind]) -> Vec<usize> {
        let places = self.kinds.iter().enumerate();
        places.filter(|(_, kind)| kinds.contains(kind)).map(|(place, _)| place).collect()
    }

    async fn scan(&self, probes: Vec<usize>) -> Result<(), Refusal> {
        // Nobody waits for the answer.
        let (reply, _) = oneshot::channel();
        self.triggers.send(Trigger { probes, reply }).await.map_err(|_| Refusal::Stopping)
    }
}

fn is_locked(failure: &Failure) -> bool {
    let Failure::Broker(error) = failure else { return false };
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == RESOURCE_LOCKED)
}
