//! The number of queues may change; what the broker has otherwise is named.

use std::time::Duration;

use contracts::v1::CollectorState;
use kit::queue::Topology;
use lapin::{
    ExchangeKind,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use testkit::{amqp_url, free_address, namespace, wait_until};
use tokio::net::TcpListener;

use crate::{
    fixture::{Collector, DEADLINE, wait_for_batches},
    processor::Processor,
    published::{Publisher, batch},
};

/// Longest until the broker is looked at again: each 30 s.
const LOOKED_AGAIN: Duration = Duration::from_secs(60);
/// Batches of one node in each shard.
const NODES: u128 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_queues_changes_and_nothing_is_lost_or_doubled() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let publisher = Publisher::connect(&url, &namespace).await;
    // Nobody listens there: the collectors declare, and hold.
    let nowhere = format!("http://{}", free_address().await);
    let mut sent = Vec::new();
    for (round, queues) in [(1, "4"), (2, "2"), (3, "7"), (4, "4")] {
        let collector = Collector::start(&url, &namespace, &nowhere, &["--queues", queues]).await;
        collector.wait_for_state(CollectorState::Holding).await;
        collector.stop().await;
        for n in 0..NODES {
            sent.push(batch(n, round, 1));
            publisher.batch(sent.last().unwrap()).await;
        }
        let existing = if round < 3 { 4 } else { 7 };
        // One queue a message: as many as were sent.
        let total = u32::try_from(sent.len()).unwrap();
        wait_until(DEADLINE, "all in the queues", async || publisher.depth(existing).await == total).await;
    }
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "2"]).await;
    wait_for_batches(&processor, &sent).await;
    wait_until(DEADLINE, "all acknowledged", async || collector.stats().await.in_flight_messages == 0).await;
    collector.stop().await;
    assert_eq!(publisher.depth(7).await, 0);
    assert_eq!(processor.seen().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_a_named_problem_and_consumed_all_the_same() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let publisher = Publisher::connect(&url, &namespace).await;
    let foreign = Topology::new(&namespace).event_queue(1);
    let channel = publisher.connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions::durable();
    channel.queue_declare(foreign.as_str().into(), durable, FieldTable::default()).await.unwrap();

    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &[]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let (status, reasons) = collector.ready().await;
    assert_eq!(status, 503);
    assert!(reasons.starts_with(&format!("topology: {foreign}: ")), "{reasons}");
    for differs in
        ["x-max-length-bytes: wanted 1073741824, found none", "x-queue-type: wanted quorum, found none"]
    {
        assert!(reasons.contains(differs), "{differs} in {reasons}");
    }
    let problems = collector.stats().await.topology_problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].subject, foreign);
    assert!(problems[0].problem.starts_with("x-max-length-bytes: wanted "), "{problems:?}");
    assert_eq!(collector.metric("topology_problems").await, 1);
    assert!(collector.stats().await.broker_version.starts_with(|c: char| c.is_ascii_digit()));
    let sent: Vec<_> = (0..NODES).map(|n| batch(n, 1, 1)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    wait_for_batches(&processor, &sent).await;

    // The operator removes it; the collector notices and declares its own.
    channel.queue_delete(foreign.into(), QueueDeleteOptions::default()).await.unwrap();
    wait_until(DEADLINE, "ready", async || collector.ready().await.0 == 200).await;
    assert_eq!(collector.stats().await.topology_problems, []);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_differs_is_named_with_both_values() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let flags = ["--queues", "1", "--queue-max-bytes", "2097152"];
    let collector = Collector::start(&url, &namespace, &running.url(), &flags).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    collector.stop().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let problems = collector.stats().await.topology_problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].problem, "x-max-length-bytes: wanted 1073741824, found 2097152");
    collector.stop().await;
}

/// `amq.` is the broker's own: it refuses all names below it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_permit_is_named_and_no_reason_to_reconnect() {
    let (url, processor) = (amqp_url(), Processor::default());
    let namespace = format!("amq.{}", namespace());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "2"]).await;
    let topology = Topology::new(&namespace);
    let queues = [topology.event_queue(0), topology.event_queue(1), topology.heartbeat_queue()];
    wait_until(DEADLINE, "the problems", async || collector.stats().await.topology_problems.len() == 5).await;
    let problems = collector.stats().await.topology_problems;
    for name in [topology.exchange(), topology.command_exchange()].iter().chain(&queues) {
        let one = problems.iter().find(|one| one.subject == *name).expect(name);
        assert!(one.problem.contains("ACCESS_REFUSED"), "{one:?}");
    }
    let (status, reasons) = collector.ready().await;
    assert_eq!(status, 503);
    assert!(reasons.contains("ACCESS_REFUSED"), "{reasons}");
    // Depths are asked for each 5 s, and refused too.
    wait_until(DEADLINE, "calm", async || collector.stats().await.state() == CollectorState::Consuming).await;
    assert_eq!(collector.metric("broker_connections_total").await, 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_another_consumes_alone_is_named_and_the_others_go_on() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "2"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    collector.stop().await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let taken = Topology::new(&namespace).heartbeat_queue();
    let channel = publisher.connection.create_channel().await.unwrap();
    let alone = BasicConsumeOptions { exclusive: true, ..Default::default() };
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let tag = "alone";
    // It consumes for as long as it is kept.
    let consuming = channel.basic_consume(taken.as_str().into(), tag.into(), alone, FieldTable::default());
    let consumer = consuming.await.unwrap();

    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "2"]).await;
    wait_until(DEADLINE, "the problem", async || {
        let problems = collector.stats().await.topology_problems;
        problems.iter().any(|one| one.subject == taken && one.problem.contains("ACCESS_REFUSED"))
    })
    .await;
    let sent: Vec<_> = (0..NODES).map(|n| batch(n, 1, 1)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    wait_for_batches(&processor, &sent).await;
    assert_eq!(collector.metric("broker_connections_total").await, 1);

    channel.basic_cancel(tag.into(), BasicCancelOptions::default()).await.unwrap();
    drop(consumer);
    wait_until(LOOKED_AGAIN, "ready", async || collector.ready().await.0 == 200).await;
    collector.stop().await;
}

/// Removed by a person while it runs: noticed by the look each 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_is_removed_is_made_again() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let channel = publisher.connection.create_channel().await.unwrap();
    let topology = Topology::new(&namespace);
    let (queue, exchange) = (topology.event_queue(0), topology.exchange());
    let none = FieldTable::default();
    channel.queue_unbind(queue.into(), exchange.into(), "shard.5.#".into(), none).await.unwrap();
    let sent = batch(5, 1, 1);
    let insisted = tokio::time::timeout(LOOKED_AGAIN, publisher.insist(&sent));
    insisted.await.expect("the binding is made again");
    wait_for_batches(&processor, &[sent]).await;
    assert_eq!(collector.metric("broker_connections_total").await, 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_left_over_is_a_problem_for_as_long_as_it_holds_messages() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let publisher = Publisher::connect(&url, &namespace).await;
    let nowhere = format!("http://{}", free_address().await);
    let collector = Collector::start(&url, &namespace, &nowhere, &["--queues", "2"]).await;
    collector.wait_for_state(CollectorState::Holding).await;
    collector.stop().await;
    let sent = batch(63, 1, 1);
    publisher.batch(&sent).await;

    let listener = testkit::listener().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let way = format!("http://{address}");
    let collector = Collector::start(&url, &namespace, &way, &["--queues", "1"]).await;
    let left = Topology::new(&namespace).event_queue(1);
    wait_until(DEADLINE, "the problem", async || {
        let problems = collector.stats().await.topology_problems;
        problems.len() == 1 && problems[0].subject == left && problems[0].problem.contains("left from")
    })
    .await;
    assert!(collector.ready().await.1.contains(&left));
    let _running = processor.start_on(TcpListener::bind(address).await.unwrap());
    wait_for_batches(&processor, &[sent]).await;
    wait_until(DEADLINE, "ready", async || collector.ready().await.0 == 200).await;
    assert_eq!(collector.metric("broker_connections_total").await, 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_of_commands_is_declared_and_one_of_another_type_is_a_named_problem() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let publisher = Publisher::connect(&url, &namespace).await;
    let name = Topology::new(&namespace).command_exchange();
    let declare = async |kind, durable| {
        let channel = publisher.connection.create_channel().await.unwrap();
        let options = ExchangeDeclareOptions { durable, ..Default::default() };
        channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default()).await
    };
    declare(ExchangeKind::Fanout, true).await.unwrap();

    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let (status, reasons) = collector.ready().await;
    assert_eq!(status, 503);
    assert!(reasons.starts_with(&format!("topology: {name}: ")), "{reasons}");

    let channel = publisher.connection.create_channel().await.unwrap();
    channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    wait_until(LOOKED_AGAIN, "ready", async || collector.ready().await.0 == 200).await;
    collector.stop().await;
    // As it is declared already: the broker refuses another type or durability.
    declare(ExchangeKind::Direct, true).await.unwrap();
    assert!(declare(ExchangeKind::Direct, false).await.is_err());
    assert!(declare(ExchangeKind::Topic, true).await.is_err());
}
