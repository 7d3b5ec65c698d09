//! Commands from the processor to the queues of agents.

use std::time::Duration;

use contracts::v1::{AgentCommand, AssetKind, CollectorState, RescanCommand, agent_command::Command};
use futures::StreamExt;
use kit::queue::{COMMAND_TTL_MILLIS, SCHEMA_VERSION, Topology, command_key};
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message;
use testkit::{Proxy, amqp_url, broker_by_proxy, namespace, wait_until};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    fixture::{Collector, DEADLINE},
    processor::Processor,
    published::node,
};

/// The queue of one node's agent, as it declares and binds it.
struct Agent {
    _connection: Connection,
    _channel: Channel,
    consumer: Consumer,
}

impl Agent {
    async fn connect(namespace: &str, number: u128) -> Self {
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let topology = Topology::new(namespace);
        let queue = topology.command_queue(node(number));
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-message-ttl".into(), AMQPValue::LongUInt(COMMAND_TTL_MILLIS));
        channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let (key, none) = (command_key(node(number)), FieldTable::default());
        let (exchange, bind) = (topology.command_exchange(), QueueBindOptions::default());
        channel.queue_bind(queue.as_str().into(), exchange.into(), key.into(), bind, none).await.unwrap();
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let consumer = channel
            .basic_consume(queue.into(), "agent".into(), options, FieldTable::default())
            .await
            .unwrap();
        Self { _connection: connection, _channel: channel, consumer }
    }

    async fn next(&mut self) -> (AgentCommand, Delivery) {
        let next = tokio::time::timeout(DEADLINE, self.consumer.next()).await.expect("a command");
        let delivery = next.unwrap().unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        (AgentCommand::decode(delivery.data.as_slice()).unwrap(), delivery)
    }
}

fn command(number: u128, seconds: Option<i64>) -> AgentCommand {
    let now = kit::time::now();
    AgentCommand {
        schema_version: SCHEMA_VERSION,
        command_id: Uuid::now_v7().to_string(),
        node_uid: node(number).to_string(),
        expire_time: seconds.map(|seconds| prost_types::Timestamp { seconds: now.seconds + seconds, ..now }),
        command: Some(Command::Rescan(RescanCommand { kinds: vec![AssetKind::Package.into()] })),
    }
}

/// Millis of the property `expiration`.
fn expiration(delivery: &Delivery) -> u32 {
    delivery.properties.expiration().as_ref().unwrap().as_str().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reaches_its_agent_and_no_other_and_what_nobody_can_obey_vanishes() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    wait_until(DEADLINE, "the stream", async || processor.streams() == 1).await;
    let name = collector.stats().await.collector;
    assert_eq!(processor.seen().followers[0], name);
    assert_eq!(collector.metric("command_stream").await, 1);
    let (mut one, mut two) = (Agent::connect(&namespace, 1).await, Agent::connect(&namespace, 2).await);
    // The connection for commands may still be on its way: some are dropped.
    let mut lost = 0;
    wait_until(DEADLINE, "the first one", async || {
        processor.command(vec![command(99, None)]);
        lost += 1;
        collector.metric("commands_total{result=\"unroutable\"}").await > 0
    })
    .await;

    let (lasting, short, second) = (command(1, None), command(1, Some(20)), command(2, Some(3600)));
    let nobody = AgentCommand { node_uid: "nobody".into(), ..command(1, None) };
    let nameless = AgentCommand { command_id: "x".repeat(300), ..command(1, None) };
    processor.command(vec![command(1, Some(-1)), nobody, nameless, lasting.clone(), command(3, None)]);
    processor.command(vec![short.clone(), second.clone()]);
    let (got, delivery) = one.next().await;
    assert_eq!(got, lasting);
    assert_eq!(expiration(&delivery), COMMAND_TTL_MILLIS);
    assert_eq!(*delivery.properties.delivery_mode(), Some(1), "not persistent");
    assert_eq!(delivery.properties.message_id().as_ref().unwrap().as_str(), lasting.command_id);
    let (got, delivery) = one.next().await;
    assert_eq!(got, short);
    assert!((15_000..=20_000).contains(&expiration(&delivery)), "{}", expiration(&delivery));
    let (got, delivery) = two.next().await;
    assert_eq!(got, second);
    assert_eq!(expiration(&delivery), COMMAND_TTL_MILLIS);
    collector.wait_for_metric("commands_total{result=\"published\"}", 3).await;
    collector.wait_for_metric("commands_total{result=\"expired\"}", 1).await;
    collector.wait_for_metric("commands_total{result=\"invalid\"}", 2).await;
    let unroutable = collector.metric("commands_total{result=\"unroutable\"}").await;
    assert_eq!(unroutable + collector.metric("commands_total{result=\"disconnected\"}").await, lost + 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_dropped_while_the_broker_is_away_and_flow_afterwards() {
    let (namespace, processor) = (namespace(), Processor::default());
    let (proxy, url) = broker_by_proxy().await;
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    wait_until(DEADLINE, "the stream", async || processor.streams() == 1).await;
    let mut agent = Agent::connect(&namespace, 1).await;
    proxy.cut();
    collector.wait_for_state(CollectorState::Disconnected).await;
    let dropped = "commands_total{result=\"disconnected\"}";
    wait_until(DEADLINE, "what is dropped", async || {
        processor.command(vec![command(1, None)]);
        collector.metric(dropped).await >= 3
    })
    .await;
    proxy.carry();
    // The first that is told apart from those before is the first that arrives.
    let mut sent = Vec::new();
    wait_until(DEADLINE, "one that is published", async || {
        sent.push(command(1, Some(600)));
        processor.command(sent.last().cloned().into_iter().collect());
        collector.metric("commands_total{result=\"published\"}").await > 0
    })
    .await;
    let (got, _) = agent.next().await;
    assert!(sent.contains(&got), "one from before the outage was kept");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_opened_again_and_consumption_stays_as_it_was() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    wait_until(DEADLINE, "the stream", async || processor.streams() == 1).await;
    let mut client = collector.client().await;
    let pause = contracts::v1::PauseConsumptionRequest { reason: "upgrade".into() };
    client.pause_consumption(pause).await.unwrap();
    collector.wait_for_state(CollectorState::Paused).await;

    let address = running.stop().await;
    wait_until(DEADLINE, "the loss", async || collector.metric("command_stream").await == 0).await;
    assert_eq!(collector.stats().await.state(), CollectorState::Paused);
    let _running = processor.start_on(TcpListener::bind(address).await.unwrap());
    wait_until(DEADLINE, "another stream", async || processor.seen().followers.len() >= 2).await;
    wait_until(DEADLINE, "it is up", async || collector.metric("command_stream").await == 1).await;
    assert_eq!(collector.stats().await.state(), CollectorState::Paused);
    collector.stop().await;
}

/// Nothing arrives, and nobody says that the connection is gone: the keepalive
/// of 20 s and its answer's deadline of 20 s find out.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_silent_is_noticed_by_the_keepalive() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let proxy = Proxy::start(running.address.to_string()).await;
    let way = format!("http://{}", proxy.address);
    let collector = Collector::start(&url, &namespace, &way, &["--queues", "1"]).await;
    wait_until(DEADLINE, "the stream", async || processor.seen().followers.len() == 1).await;
    proxy.silence();
    let noticed = async || collector.metric("command_stream").await == 0;
    wait_until(Duration::from_secs(60), "the silence noticed", noticed).await;
    proxy.carry();
    wait_until(Duration::from_secs(60), "another stream", async || processor.seen().followers.len() >= 2)
        .await;
    collector.stop().await;
}
