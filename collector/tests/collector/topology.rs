//! The number of queues may change; what the broker has otherwise is named.

use contracts::v1::CollectorState;
use kit::queue::Topology;
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use testkit::{amqp_url, free_address, namespace, wait_until};

use crate::{
    fixture::{Collector, DEADLINE, wait_for_batches},
    processor::Processor,
    published::{Publisher, batch},
};

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
    assert!(reasons.contains("inequivalent arg"), "{reasons}");
    let sent: Vec<_> = (0..NODES).map(|n| batch(n, 1, 1)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    wait_for_batches(&processor, &sent).await;

    // The operator removes it; the collector notices and declares its own.
    channel.queue_delete(foreign.into(), QueueDeleteOptions::default()).await.unwrap();
    wait_until(DEADLINE, "ready", async || collector.ready().await.0 == 200).await;
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
    wait_until(DEADLINE, "ready", async || collector.ready().await.0 == 200).await;
    collector.stop().await;
    // As it is declared already: the broker refuses another type or durability.
    declare(ExchangeKind::Direct, true).await.unwrap();
    assert!(declare(ExchangeKind::Direct, false).await.is_err());
    assert!(declare(ExchangeKind::Topic, true).await.is_err());
}
