//! The processor or the broker goes away and comes back.

use contracts::v1::CollectorState;

use testkit::{Proxy, amqp_url, broker_by_proxy, namespace, wait_until};
use tokio::net::TcpListener;

use crate::{
    fixture::{Collector, DEADLINE, wait_for_batches},
    processor::{Mood, Processor},
    published::{Publisher, batch},
};

/// Metric of failed IngestEvents calls, whatever their code.
const FAILED_INGEST: &str = "assettrack_collector_failed_calls_total{call=\"IngestEvents\"";

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_gets_its_messages_back_while_the_processor_is_away() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let flags = ["--hold-seconds", "2"];
    let collector = Collector::start(&url, &namespace, &running.url(), &flags).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    wait_until(DEADLINE, "ready", async || collector.ready().await.0 == 200).await;
    let address = running.stop().await;

    let publisher = Publisher::connect(&url, &namespace).await;
    let sent: Vec<_> = (0..20).map(|n| batch(n, 1, 3)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    collector.wait_for_state(CollectorState::Holding).await;
    wait_until(DEADLINE, "all messages back", async || publisher.depth(4).await == 20).await;
    let stats = collector.stats().await;
    assert_eq!(stats.in_flight_messages, 0);
    assert!(!stats.state_reason.is_empty());
    let (status, reasons) = collector.ready().await;
    assert_eq!(status, 503);
    assert!(reasons.starts_with("processor: "), "{reasons}");

    let _running = processor.start_on(TcpListener::bind(address).await.unwrap());
    wait_for_batches(&processor, &sent).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    wait_until(DEADLINE, "ready again", async || collector.ready().await.0 == 200).await;
    collector.stop().await;
    assert_eq!(publisher.depth(4).await, 0);
}

/// It comes as UNKNOWN, as a refusal may, and is none: the message goes out
/// again at once, and nobody is called to look at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_under_a_call_is_no_refusal() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let proxy = Proxy::start(running.address.to_string()).await;
    processor.mood(Mood::Hangs);
    let way = format!("http://{}", proxy.address);
    let collector = Collector::start(&url, &namespace, &way, &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let sent = batch(1, 1, 1);
    publisher.batch(&sent).await;
    wait_until(DEADLINE, "the call", async || processor.seen().calls == 1).await;
    processor.mood(Mood::Commits);
    proxy.cut();
    // Some call must have met the cut before there is a way again.
    wait_until(DEADLINE, "a failed call", async || {
        let metrics = testkit::http_get(collector.admin, "/metrics").await.unwrap().1;
        metrics.lines().any(|line| line.starts_with(FAILED_INGEST))
    })
    .await;
    proxy.carry();
    wait_for_batches(&processor, &[sent]).await;
    let metrics = testkit::http_get(collector.admin, "/metrics").await.unwrap().1;
    assert!(metrics.contains("assettrack_collector_refused_total 0"), "{metrics}");
    collector.stop().await;
}

/// The deadline of a call does not keep the messages of others from the
/// broker: the gate closes, and the hanging call is given up with its channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_processor_that_hangs() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    processor.mood(Mood::Hangs);
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    publisher.batch(&batch(1, 1, 1)).await;
    wait_until(DEADLINE, "the call", async || processor.seen().calls == 1).await;
    tokio::time::timeout(DEADLINE, collector.stop()).await.expect("the grace is 2 s");
    wait_until(DEADLINE, "the message back", async || publisher.depth(1).await == 1).await;
}

/// What is being committed when the shutdown begins is acknowledged, not left
/// to be delivered again.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_deliveries_under_way_end() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    processor.mood(Mood::Fails(tonic::Code::Unavailable));
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    publisher.batch(&batch(1, 1, 1)).await;
    wait_until(DEADLINE, "the call", async || processor.seen().calls >= 1).await;
    // Still on its way when the shutdown begins, committed within the grace.
    let stopping = tokio::spawn(collector.stop());
    processor.mood(Mood::Commits);
    stopping.await.unwrap();
    assert_eq!(processor.seen().committed.len(), 1);
    assert_eq!(publisher.depth(1).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_to_the_broker_is_rebuilt_and_nothing_is_lost() {
    let (namespace, processor) = (namespace(), Processor::default());
    let (proxy, url) = broker_by_proxy().await;
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &[]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&amqp_url(), &namespace).await;
    let mut sent = Vec::new();
    for round in 1..=3 {
        for n in 0..10 {
            sent.push(batch(n, round, 5));
            publisher.batch(sent.last().unwrap()).await;
        }
        proxy.cut();
        collector.wait_for_state(CollectorState::Disconnected).await;
        assert!(!collector.stats().await.state_reason.is_empty());
        let reasons = collector.ready().await.1;
        assert!(reasons.contains("broker: "), "{reasons}");
        proxy.carry();
        collector.wait_for_state(CollectorState::Consuming).await;
    }
    wait_for_batches(&processor, &sent).await;
    wait_until(DEADLINE, "ready again", async || collector.ready().await.0 == 200).await;
    // What was committed when the connection went comes again; a collector that
    // is stopped before gives it back.
    wait_until(DEADLINE, "all acknowledged", async || {
        publisher.depth(4).await == 0 && collector.stats().await.in_flight_messages == 0
    })
    .await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_noticed_by_its_heartbeat() {
    let (namespace, processor) = (namespace(), Processor::default());
    let (proxy, url) = broker_by_proxy().await;
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    proxy.silence();
    let publisher = Publisher::connect(&amqp_url(), &namespace).await;
    let sent = batch(1, 1, 5);
    publisher.batch(&sent).await;
    collector.wait_for_state(CollectorState::Disconnected).await;
    proxy.carry();
    wait_for_batches(&processor, &[sent]).await;
    collector.stop().await;
}
