//! Nothing is acknowledged before it is committed; what is bad does not stop
//! its neighbours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::v1::{CollectorState, DeadLetterReason, queue_message::Content};
use kit::queue::batch_key;
use testkit::{amqp_url, broker_by_proxy, namespace, wait_until};
use tokio::sync::Notify;
use tonic::Code;

use crate::{
    fixture::{Collector, DEADLINE, committed, wait_for_batches},
    processor::{Mood, Processor},
    published::{Publisher, batch, node, properties},
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_it_is_committed() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    processor.mood(Mood::Fails(Code::Unavailable));
    let collector = Collector::start(&url, &namespace, &running.url(), &[]).await;
    collector.wait_for_state(CollectorState::Consuming).await;

    let publisher = Publisher::connect(&url, &namespace).await;
    let sent: Vec<_> = (0..20).map(|n| batch(n, 1, 3)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    wait_until(DEADLINE, "some failed calls", async || processor.seen().calls >= 8).await;
    assert_eq!(committed(&processor), []);
    collector.stop().await;
    // All 20 are back: none was acknowledged.
    wait_until(DEADLINE, "all messages back", async || publisher.depth(4).await == 20).await;

    processor.mood(Mood::Commits);
    let collector = Collector::start(&url, &namespace, &running.url(), &[]).await;
    wait_for_batches(&processor, &sent).await;
    wait_until(DEADLINE, "all acknowledged", async || collector.stats().await.in_flight_messages == 0).await;
    collector.stop().await;
    assert_eq!(publisher.depth(4).await, 0);
    assert_eq!(processor.seen().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_short_of_a_result_is_not_believed() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    processor.mood(Mood::Miscounts);
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    publisher.batch(&batch(1, 1, 1)).await;
    wait_until(DEADLINE, "a second attempt", async || processor.seen().calls >= 2).await;
    assert_eq!(collector.stats().await.in_flight_messages, 1);
    processor.mood(Mood::Commits);
    wait_until(DEADLINE, "the acknowledgement", async || collector.stats().await.in_flight_messages == 0)
        .await;
    collector.stop().await;
    assert_eq!(publisher.depth(1).await, 0);
    assert_eq!(processor.seen().committed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_arrives_with_its_reason_among_its_neighbours() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let sent = [batch(1, 1, 2), batch(1, 2, 2)];
    let mut unhashed = batch(1, 3, 2);
    unhashed.observations[1].state_hash.clear();

    publisher.batch(&sent[0]).await;
    let stream = &sent[0].stream;
    publisher.publish(&batch_key(node(1)), properties(node(1), stream, 9), b"no protobuf").await;
    publisher.batch(&unhashed).await;
    publisher.batch(&sent[1]).await;

    wait_until(DEADLINE, "all four", async || processor.seen().committed.len() == 4).await;
    wait_for_batches(&processor, &sent).await;
    let rejected: Vec<_> = processor
        .seen()
        .committed
        .iter()
        .filter_map(|message| match &message.content {
            Some(Content::Rejected(rejected)) => Some((message.clone(), rejected.clone())),
            _ => None,
        })
        .collect();
    let (message, undecodable) = &rejected[0];
    assert_eq!(undecodable.reason(), DeadLetterReason::Undecodable);
    assert_eq!(undecodable.body, b"no protobuf");
    assert_eq!(undecodable.body_size_bytes, 11);
    assert_eq!(undecodable.headers["assettrack-sequence"], "9");
    assert_eq!(undecodable.headers["routing_key"], batch_key(node(1)));
    assert_eq!(message.queue, format!("{namespace}.events.0"));
    assert_eq!(message.message_id.len(), 36);
    assert_eq!(rejected[1].1.reason(), DeadLetterReason::InvalidField);
    assert!(rejected[1].1.detail.starts_with("observations[1].state_hash"), "{}", rejected[1].1.detail);

    wait_until(DEADLINE, "all acknowledged", async || collector.stats().await.in_flight_messages == 0).await;
    let hour = collector.stats().await.total.unwrap().last_hour.unwrap();
    assert_eq!((hour.messages, hour.events, hour.dead_letters), (2, 4, 2));
    let metrics = testkit::http_get(collector.admin, "/metrics").await.unwrap().1;
    for line in [
        "assettrack_collector_rejected_total{reason=\"UNDECODABLE\"} 1",
        "assettrack_collector_rejected_total{reason=\"INVALID_FIELD\"} 1",
        "assettrack_collector_messages_total{result=\"committed\"} 2",
        "assettrack_collector_messages_total{result=\"dead_lettered\"} 2",
        "assettrack_collector_events_total 4",
        "assettrack_collector_broker_connected 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    collector.stop().await;
    assert_eq!(publisher.depth(1).await, 0);
}

/// The answer to a call whose channel is gone settles nothing of the next one,
/// whose tags begin at 1 again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_before_the_channel_went_acknowledges_nothing_on_the_next() {
    let (namespace, processor) = (namespace(), Processor::default());
    let (proxy, url) = broker_by_proxy().await;
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&amqp_url(), &namespace).await;
    let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    processor.mood(Mood::Waits(first.clone()));
    publisher.batch(&batch(1, 1, 1)).await;
    wait_until(DEADLINE, "the first call", async || processor.seen().calls == 1).await;

    processor.mood(Mood::Waits(second.clone()));
    proxy.cut();
    collector.wait_for_state(CollectorState::Disconnected).await;
    proxy.carry();
    wait_until(DEADLINE, "the second call", async || processor.seen().calls == 2).await;
    first.notify_one();
    // Had the answer counted, the queue would be empty now and stay so.
    publisher.batch(&batch(2, 1, 1)).await;
    wait_until(DEADLINE, "another message held", async || collector.stats().await.in_flight_messages == 2)
        .await;
    collector.stop().await;
    wait_until(DEADLINE, "both back", async || publisher.depth(1).await == 2).await;
    second.notify_waiters();
}

/// The processor refuses a whole request because of one message: the others get
/// through, and the bad one is neither acknowledged nor dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_processor_refuses_is_kept_and_blocks_nobody() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    processor.mood(Mood::Fails(Code::Unavailable));
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let mut sent: Vec<_> = (1..=30).map(|sequence| batch(1, sequence, 1)).collect();
    sent[17].observations[0].natural_key = "poison".into();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    wait_until(DEADLINE, "all of them held", async || collector.stats().await.in_flight_messages == 30).await;
    processor.mood(Mood::Refuses("poison"));
    let poison = sent.remove(17);
    wait_for_batches(&processor, &sent).await;
    wait_until(DEADLINE, "one left", async || collector.stats().await.in_flight_messages == 1).await;
    collector.stop().await;
    wait_until(DEADLINE, "the poison in the queue", async || publisher.depth(1).await == 1).await;

    processor.mood(Mood::Commits);
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    sent.push(poison);
    wait_for_batches(&processor, &sent).await;
    collector.stop().await;
}

/// Who refuses is there: the broker does not get its messages back.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_only_refuses_is_not_away() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    processor.mood(Mood::Fails(Code::InvalidArgument));
    let flags = ["--queues", "1", "--hold-seconds", "1"];
    let collector = Collector::start(&url, &namespace, &running.url(), &flags).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    publisher.batch(&batch(1, 1, 1)).await;
    // The third call is at least 1.5 s after the first: over the time to hold.
    wait_until(DEADLINE, "four calls", async || processor.seen().calls >= 4).await;
    let stats = collector.stats().await;
    assert_eq!((stats.state(), stats.in_flight_messages), (CollectorState::Consuming, 1));
    let metrics = testkit::http_get(collector.admin, "/metrics").await.unwrap().1;
    assert!(metrics.contains("assettrack_collector_redelivered_total 0"), "{metrics}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_processor_is_left_alone_as_long_as_it_asks() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let pause = Duration::from_secs(2);
    processor.mood(Mood::Busy(pause));
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    publisher.batch(&batch(1, 1, 1)).await;
    wait_until(DEADLINE, "the first call", async || processor.seen().calls == 1).await;
    let refused = Instant::now();
    processor.mood(Mood::Commits);
    wait_until(DEADLINE, "the commit", async || processor.seen().committed.len() == 1).await;
    assert!(refused.elapsed() >= pause - Duration::from_millis(200), "{:?}", refused.elapsed());
    assert_eq!(processor.seen().calls, 2);
    collector.stop().await;
}

/// Many small messages make few requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_delivered_in_full_requests() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let flags = ["--queues", "1", "--prefetch-bytes", "67108864"];
    // It declares the queues and is stopped: the backlog grows.
    let collector = Collector::start(&url, &namespace, &running.url(), &flags).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    collector.stop().await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let sent: Vec<_> = (1..=200).map(|sequence| batch(7, sequence, 50)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    let collector = Collector::start(&url, &namespace, &running.url(), &flags).await;
    wait_for_batches(&processor, &sent).await;
    let calls = processor.seen().calls;
    assert!(calls <= 60, "{calls} calls for 200 messages of 50 events");
    collector.stop().await;
}
