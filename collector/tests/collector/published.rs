//! Publishes as agents do: persistent, mandatory, confirmed.

use contracts::v1::{
    AssetDetails, AssetKind, EventBatch, NodeIdentity, Observation, PackageDetails, Presence,
    asset_details::Details,
};
use kit::queue::{HEADER_NODE, HEADER_PUBLISHED, HEADER_SEQUENCE, HEADER_STREAM, Topology, batch_key};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message;
use uuid::Uuid;

/// A publisher with its own connection.
pub struct Publisher {
    pub connection: Connection,
    pub topology: Topology,
    channel: Channel,
}

impl Publisher {
    pub async fn connect(url: &str, namespace: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, topology: Topology::new(namespace), channel }
    }

    /// Publishes a batch as its agent would.
    pub async fn batch(&self, batch: &EventBatch) {
        let node = node_of(batch);
        let properties = properties(node, &batch.stream, batch.sequence);
        self.publish(&batch_key(node), properties, &batch.encode_to_vec()).await;
    }

    /// Publishes a batch until there is a queue for it, as an agent does.
    pub async fn insist(&self, batch: &EventBatch) {
        let node = node_of(batch);
        let (key, body) = (batch_key(node), batch.encode_to_vec());
        let properties = properties(node, &batch.stream, batch.sequence);
        while !self.try_publish(&key, properties.clone(), &body).await {}
    }

    /// Publishes anything, and waits until the broker has it in a queue.
    pub async fn publish(&self, key: &str, properties: BasicProperties, body: &[u8]) {
        assert!(self.try_publish(key, properties, body).await, "{key} is not routed");
    }

    /// Answers whether there is a queue that has it now.
    async fn try_publish(&self, key: &str, properties: BasicProperties, body: &[u8]) -> bool {
        let exchange = self.topology.exchange();
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm =
            self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap();
        let confirmation = confirm.await.unwrap();
        assert!(confirmation.is_ack(), "{confirmation:?}");
        confirmation.take_message().is_none()
    }

    /// Messages that wait in the first `queues` event queues together.
    pub async fn depth(&self, queues: u8) -> u32 {
        let channel = self.connection.create_channel().await.unwrap();
        let mut depth = 0;
        for index in 0..queues {
            let options = QueueDeclareOptions::durable().passive();
            let name = self.topology.event_queue(index);
            let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
            depth += queue.message_count();
        }
        depth
    }
}

/// The properties that an agent sets.
pub fn properties(node: Uuid, stream: &str, sequence: i64) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(HEADER_NODE.into(), AMQPValue::LongString(node.to_string().into()));
    headers.insert(HEADER_STREAM.into(), AMQPValue::LongString(stream.into()));
    headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongLongInt(sequence));
    headers.insert(HEADER_PUBLISHED.into(), AMQPValue::LongLongInt(kit::time::unix_millis()));
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers)
        .with_message_id(Uuid::now_v7().to_string().into())
}

/// A node that falls into shard `number % 64`.
pub fn node(number: u128) -> Uuid {
    Uuid::from_u128((0x5000 << 64) | number)
}

/// A batch of a node with `events` packages.
pub fn batch(number: u128, sequence: i64, events: usize) -> EventBatch {
    let one = |index: usize| Observation {
        event_id: Uuid::now_v7().to_string(),
        presence: Presence::Present.into(),
        kind: AssetKind::Package.into(),
        natural_key: format!("dpkg/p{index}"),
        display_name: format!("p{index}"),
        observe_time: Some(kit::time::now()),
        state_hash: vec![0; 16],
        details: Some(AssetDetails {
            details: Some(Details::Package(PackageDetails {
                package: format!("p{index}"),
                version: format!("1.{sequence}"),
                ..Default::default()
            })),
            ..AssetDetails::default()
        }),
    };
    EventBatch {
        schema_version: 1,
        node: Some(NodeIdentity {
            uid: node(number).to_string(),
            cluster: "test".into(),
            display_name: format!("n{number}"),
        }),
        stream: Uuid::from_u128(number + 1).to_string(),
        sequence,
        observations: (0..events).map(one).collect(),
        snapshots: Vec::new(),
        ..EventBatch::default()
    }
}

fn node_of(batch: &EventBatch) -> Uuid {
    batch.node.as_ref().unwrap().uid.parse().unwrap()
}
