//! Publishes the outbox and the heartbeats. Its own supervisor: a connection or
//! channel that fails is dropped and built anew, and the outbox is sent again
//! from its beginning, in order. A batch leaves the outbox only after the broker
//! has confirmed it and not returned it as unroutable.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::v1::Heartbeat;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kit::amqp::{Broker, ConnectError};
use kit::queue::{SCHEMA_VERSION, Topology};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::commander::Commander;
use crate::message;
use crate::metrics::{AgentMetrics, ResultLabel};
use crate::status::{Status, VERSION};
use crate::store::{Parcel, Position, Receipt, Store, StoreError};

/// Batches published and not confirmed.
const MAX_IN_FLIGHT: usize = 16;
/// Bytes of batches that are read ahead from the store.
const MAX_IN_FLIGHT_BYTES: u64 = 512 * 1024;
/// A broker in a memory alarm neither confirms nor refuses.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);
/// How often a connection that the broker blocks is looked at.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Short enough that what is fresh is seen within 10 s of the broker's return.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(6);

/// What the publisher works with.
pub struct Publisher {
    /// Where it connects to.
    pub broker: Broker,
    /// Names of exchange and keys.
    pub topology: Topology,
    /// What it publishes.
    pub store: Arc<Store>,
    /// Where it says how it goes.
    pub status: Status,
    /// Where it is counted.
    pub metrics: AgentMetrics,
    /// Interval of heartbeats.
    pub heartbeat_interval: Duration,
    /// What obeys commands.
    pub commander: Commander,
}

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("no confirm within {} s: the broker may be in a memory or disk alarm", CONFIRM_DEADLINE.as_secs())]
    Deadline,
    #[error("the broker refused a batch: its queue is full or fails")]
    Refused,
    #[error("no queue takes batch {sequence}: {code} {text}; the collector declares the queues")]
    Unroutable { sequence: i64, code: u16, text: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a task of the store ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl SessionError {
    fn result(&self) -> &'static str {
        match self {
            Self::Deadline => "timeout",
            Self::Refused => "refused",
            Self::Unroutable { .. } => "returned",
            _ => "failed",
        }
    }
}

impl Publisher {
    /// Publishes until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let began = Instant::now();
            let mut confirmed_any = false;
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.session(&mut confirmed_any) => ended,
            };
            self.metrics.broker_connected.set(0);
            let Err(error) = ended;
            tracing::warn!(%error, broker = %self.broker.address(), "not connected to the broker, batches wait in the outbox");
            self.status.disconnected(error.to_string());
            // A session that did some good: what ended it is news.
            if confirmed_any || began.elapsed() > LONGEST_BACK_OFF {
                back_off = FIRST_BACK_OFF;
            }
            let wait = back_off.mul_f64(rand::random_range(0.5..=1.0));
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One connection, until it fails.
    async fn session(&self, confirmed_any: &mut bool) -> Result<Infallible, SessionError> {
        let connection = self.broker.connect().await?;
        let ended = tokio::select! {
            ended = self.publish_all(&connection, confirmed_any) => ended,
            never = self.commander.follow(&connection) => match never {},
        };
        let Err(error) = ended;
        if is_held(&connection) {
            self.metrics.broker_connected.set(0);
            tracing::warn!(%error, broker = %self.broker.address(), "the broker blocks publishers, batches wait in the outbox");
            self.status.disconnected(format!("the broker blocks publishers (memory or disk alarm): {error}"));
        }
        // lapin writes nothing to a blocked connection, so that it cannot close
        // it: dropped now, its thread and socket would stay until the alarm ends.
        while is_held(&connection) {
            tokio::time::sleep(BLOCKED_INTERVAL).await;
        }
        Err(error)
    }

    /// Publishes over a connection until it fails. What is in flight then is
    /// sent again over the next one: its delivery tags died with the channel.
    async fn publish_all(
        &self,
        connection: &Connection,
        confirmed_any: &mut bool,
    ) -> Result<Infallible, SessionError> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        // The first confirm shows that the exchange is there and may be written to.
        self.heartbeat(&channel).await?;
        tracing::info!(broker = %self.broker.address(), "connected to the broker");
        self.status.connected();
        self.metrics.broker_connected.set(1);

        let mut figures = self.store.watch();
        let mut beat = tokio::time::interval_at(
            tokio::time::Instant::now() + self.heartbeat_interval,
            self.heartbeat_interval,
        );
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut published: Position = (0, 0);
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < MAX_IN_FLIGHT {
                let parcels = self.next(published, MAX_IN_FLIGHT - in_flight.len()).await?;
                if parcels.is_empty() {
                    break;
                }
                for parcel in parcels {
                    published = parcel.position();
                    in_flight.push(self.publish(&channel, parcel));
                }
            }
            tokio::select! {
                Some(confirmed) = in_flight.next() => {
                    let mut receipts = vec![confirmed?];
                    // What is confirmed already goes into the same transaction.
                    while let Some(Some(more)) = futures::FutureExt::now_or_never(in_flight.next()) {
                        receipts.push(more?);
                    }
                    self.confirm(receipts).await?;
                    *confirmed_any = true;
                }
                _ = beat.tick() => self.heartbeat(&channel).await?,
                changed = figures.changed() => {
                    // The store lives as long as the publisher.
                    if changed.is_err() {
                        return Err(SessionError::Store(StoreError::Panicked));
                    }
                }
            }
        }
    }

    async fn next(&self, published: Position, count: usize) -> Result<Vec<Parcel>, SessionError> {
        if self.store.figures().newest <= published {
            return Ok(Vec::new());
        }
        let store = self.store.clone();
        Ok(tokio::task::spawn_blocking(move || store.parcels(published, count, MAX_IN_FLIGHT_BYTES))
            .await??)
    }

    /// Publishes one batch and waits until the broker answers for it.
    async fn publish(&self, channel: &Channel, parcel: Parcel) -> Result<Receipt, SessionError> {
        kit::failpoint::pass("before_publish");
        let began = Instant::now();
        let result = self.publish_once(channel, &parcel).await;
        let label = result.as_ref().map_or_else(SessionError::result, |()| "confirmed");
        self.metrics.publishes.get_or_create(&ResultLabel { result: label }).inc();
        result?;
        self.metrics.confirm_seconds.observe(began.elapsed().as_secs_f64());
        Ok(parcel.receipt())
    }

    async fn publish_once(&self, channel: &Channel, parcel: &Parcel) -> Result<(), SessionError> {
        let node = self.store.node_uid();
        let publishing = async {
            let confirm = channel.basic_publish(
                self.topology.exchange().into(),
                kit::queue::batch_key(node).into(),
                BasicPublishOptions { mandatory: true, immediate: false },
                &parcel.body,
                message::of_batch(node, parcel),
            );
            let confirm = confirm.await?;
            kit::failpoint::pass("after_publish");
            confirm.await
        };
        let confirmation = tokio::time::timeout(CONFIRM_DEADLINE, publishing).await;
        match confirmation.map_err(|_| SessionError::Deadline)?? {
            Confirmation::Ack(None) => Ok(()),
            // An unroutable message is returned first, and then confirmed.
            Confirmation::Ack(Some(returned)) => Err(unroutable(parcel.sequence, &returned)),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(SessionError::Refused),
        }
    }

    async fn confirm(&self, receipts: Vec<Receipt>) -> Result<(), SessionError> {
        self.status.confirmed();
        let store = self.store.clone();
        Ok(tokio::task::spawn_blocking(move || store.confirm(&receipts)).await??)
    }

    /// Says that the node lives. Not kept for later: an old heartbeat says
    /// nothing, and one that no queue takes is no loss.
    async fn heartbeat(&self, channel: &Channel) -> Result<(), SessionError> {
        let figures = self.store.figures();
        let heartbeat = Heartbeat {
            schema_version: SCHEMA_VERSION,
            node: Some(self.store.node().clone()),
            stream: figures.stream.to_string(),
            last_sequence: figures.newest.1,
            agent_version: VERSION.to_owned(),
            interval_seconds: u32::try_from(self.heartbeat_interval.as_secs()).unwrap_or(u32::MAX),
            outbox_batches: figures.outbox_batches,
            outbox_bytes: figures.outbox_bytes,
            digests: figures.digests.iter().map(|(kind, digest)| digest.of_kind(*kind)).collect(),
            identity_conflict: self.status.has_identity_conflict(),
        };
        let node = self.store.node_uid();
        let body = heartbeat.encode_to_vec();
        let publishing = async {
            let confirm = channel.basic_publish(
                self.topology.exchange().into(),
                kit::queue::heartbeat_key(node).into(),
                BasicPublishOptions::default(),
                &body,
                message::of_heartbeat(node, figures.stream),
            );
            confirm.await?.await
        };
        match tokio::time::timeout(CONFIRM_DEADLINE, publishing)
            .await
            .map_err(|_| SessionError::Deadline)??
        {
            Confirmation::Ack(_) => Ok(()),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(SessionError::Refused),
        }
    }
}

/// Whether the broker has the connection wait (`connection.blocked`).
fn is_held(connection: &Connection) -> bool {
    let status = connection.status();
    status.blocked() && status.connected()
}

fn unroutable(sequence: i64, returned: &BasicReturnMessage) -> SessionError {
    SessionError::Unroutable { sequence, code: returned.reply_code, text: returned.reply_text.to_string() }
}
