//! Pausing and resuming, and watching it.

use std::{sync::Arc, time::Duration};

use contracts::v1::{
    CollectorState, PauseConsumptionRequest, ResumeConsumptionRequest, WatchCollectorStatsRequest,
};
use prost_types::Duration as ProtoDuration;
use testkit::{amqp_url, namespace, wait_until};
use tokio::sync::Notify;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    fixture::{Collector, DEADLINE, committed, wait_for_batches},
    processor::{Mood, Processor},
    published::{Publisher, batch},
};

fn pause(reason: &str) -> PauseConsumptionRequest {
    PauseConsumptionRequest { reason: reason.to_owned() }
}

/// What is being committed ends and is acknowledged, the rest goes back, on
/// every collector; both stay ready, and heartbeats go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_all_collectors_and_ends_what_is_under_way() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let flags = ["--queues", "2"];
    let first = Collector::start(&url, &namespace, &running.url(), &flags).await;
    let second = Collector::start(&url, &namespace, &running.url(), &flags).await;
    for collector in [&first, &second] {
        collector.wait_for_state(CollectorState::Consuming).await;
        wait_until(DEADLINE, "ready", async || collector.ready().await.0 == 200).await;
        assert_eq!(collector.stats().await.consumption, None);
    }
    wait_until(DEADLINE, "both streams", async || processor.streams() == 2).await;

    let publisher = Publisher::connect(&url, &namespace).await;
    let go = Arc::new(Notify::new());
    processor.mood(Mood::Waits(go.clone()));
    let under_way = batch(1, 1, 1);
    publisher.batch(&under_way).await;
    wait_until(DEADLINE, "the call", async || processor.seen().calls == 1).await;

    let told = second.client().await.pause_consumption(pause("disk swap")).await.unwrap().into_inner();
    assert!(told.paused && told.change_time.is_some());
    for collector in [&first, &second] {
        collector.wait_for_state(CollectorState::Paused).await;
        let stats = collector.stats().await;
        assert_eq!((stats.state_reason.as_str(), stats.consumption), ("disk swap", Some(told.clone())));
        assert_eq!(collector.metric("paused").await, 1);
    }
    processor.mood(Mood::Commits);
    go.notify_one();
    for collector in [&first, &second] {
        let idle = async || collector.stats().await.in_flight_messages == 0;
        wait_until(DEADLINE, "nothing in flight", idle).await;
    }
    assert_eq!(committed(&processor), std::slice::from_ref(&under_way));
    assert_eq!(publisher.depth(2).await, 0, "it was acknowledged");

    let mut sent: Vec<_> = (0..20).map(|n| batch(n, 2, 2)).collect();
    for batch in &sent {
        publisher.batch(batch).await;
    }
    let heartbeats = processor.seen().heartbeats.len();
    wait_until(DEADLINE, "heartbeats", async || processor.seen().heartbeats.len() > heartbeats + 2).await;
    assert_eq!(publisher.depth(2).await, 20);
    assert_eq!(processor.seen().committed.len(), 1);
    for collector in [&first, &second] {
        assert_eq!(collector.ready().await.0, 200, "a paused collector is healthy");
    }

    let told = first.client().await.resume_consumption(ResumeConsumptionRequest {}).await.unwrap();
    assert!(!told.into_inner().paused);
    let resumed = Duration::from_secs(5);
    wait_until(resumed, "the first one", async || processor.seen().committed.len() > 1).await;
    sent.push(under_way);
    wait_for_batches(&processor, &sent).await;
    for collector in [first, second] {
        collector.wait_for_state(CollectorState::Consuming).await;
        collector.stop().await;
    }
    assert_eq!(processor.seen().duplicates, 0);
}

/// A collector that starts while it is paused learns it from its stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_a_restart() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    collector.client().await.pause_consumption(pause("night")).await.unwrap();
    collector.wait_for_state(CollectorState::Paused).await;
    collector.stop().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Paused).await;
    assert_eq!(collector.stats().await.state_reason, "night");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_reason_is_named_and_without_a_processor_nothing_changes() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let mut client = collector.client().await;
    for wrong in ["", "a\0b", &"x".repeat(1025)] {
        let status = client.pause_consumption(pause(wrong)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, "reason", "{wrong:?}");
    }
    assert_eq!(processor.seen().set, []);
    client.pause_consumption(pause(&"x".repeat(1024))).await.unwrap();
    client.resume_consumption(ResumeConsumptionRequest {}).await.unwrap();

    running.stop().await;
    for status in [
        client.pause_consumption(pause("x")).await.unwrap_err(),
        client.resume_consumption(ResumeConsumptionRequest {}).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "PROCESSOR_UNAVAILABLE");
    }
    assert_eq!(processor.seen().set.len(), 2);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_now_and_at_its_interval_until_the_shutdown() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let mut client = collector.client().await;
    for wrong in [(0, 499_999_999), (60, 1), (-1, 0)] {
        let interval = Some(ProtoDuration { seconds: wrong.0, nanos: wrong.1 });
        let request = WatchCollectorStatsRequest { interval };
        let status = client.watch_collector_stats(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, "interval", "{wrong:?}");
    }
    let interval = Some(ProtoDuration { seconds: 0, nanos: 500_000_000 });
    let watch = client.watch_collector_stats(WatchCollectorStatsRequest { interval }).await.unwrap();
    let mut watch = watch.into_inner();
    let mut next = async || tokio::time::timeout(DEADLINE, watch.message()).await.expect("an answer");
    assert_eq!(next().await.unwrap().unwrap().state(), CollectorState::Consuming);
    client.pause_consumption(pause("watched")).await.unwrap();
    while next().await.unwrap().unwrap().state() != CollectorState::Paused {}

    // A watch does not hold up the shutdown.
    tokio::time::timeout(DEADLINE, collector.stop()).await.expect("it ends");
    while let Some(stats) = next().await.unwrap() {
        assert!(!stats.collector.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_bounded() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    let mut client = collector.client().await;
    let mut watches = Vec::new();
    let refused = loop {
        match client.watch_collector_stats(WatchCollectorStatsRequest { interval: None }).await {
            Ok(watch) => watches.push(watch),
            Err(status) => break status,
        }
        assert!(watches.len() <= 1000);
    };
    assert_eq!((refused.code(), watches.len()), (Code::ResourceExhausted, 256));
    // Who goes makes room.
    watches.pop();
    let room = async || {
        client.clone().watch_collector_stats(WatchCollectorStatsRequest { interval: None }).await.is_ok()
    };
    wait_until(DEADLINE, "room for one", room).await;
    drop(watches);
    collector.stop().await;
}
