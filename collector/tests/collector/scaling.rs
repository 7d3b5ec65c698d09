//! Several collectors and a changing number of queues, while events flow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contracts::v1::{CollectorState, EventBatch};
use testkit::{amqp_url, namespace, wait_until};

use crate::{
    fixture::{Collector, DEADLINE, committed, wait_for_batches},
    processor::Processor,
    published::{Publisher, batch},
};

/// Longest until bindings that two collectors undid for each other are there
/// again: they look each 30 s.
const LOOKED_AGAIN: Duration = Duration::from_secs(90);

/// Publishes batch after batch, one of each of 64 nodes in turn, until told to
/// stop; answers all of them.
async fn publish(url: String, namespace: String, stop: Arc<AtomicBool>) -> Vec<EventBatch> {
    let publisher = Publisher::connect(&url, &namespace).await;
    let mut sent = Vec::new();
    for sequence in 1.. {
        for node in 0..64 {
            let batch = batch(node, sequence, 2);
            publisher.insist(&batch).await;
            sent.push(batch);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    sent
}

/// As a rolling update does it: one collector after the other, so that for a
/// while they want different numbers of queues.
#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_go_from_two_queues_to_four_to_one_under_load_and_nothing_is_lost_or_doubled() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let start = async |queues: &str| {
        let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", queues]).await;
        collector.wait_for_state(CollectorState::Consuming).await;
        collector
    };
    let mut collectors = vec![start("2").await, start("2").await];
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish(url.clone(), namespace.clone(), stop.clone()));
    for queues in ["4", "1"] {
        for _ in 0..2 {
            let before = processor.seen().committed.len();
            collectors.remove(0).stop().await;
            collectors.push(start(queues).await);
            // All 64 shards are bound again, at the latest after the next look.
            let more = async || processor.seen().committed.len() >= before + 128;
            wait_until(LOOKED_AGAIN, "events that flow", more).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent = publishing.await.unwrap();
    wait_for_batches(&processor, &sent).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    wait_until(DEADLINE, "empty queues", async || publisher.depth(4).await == 0).await;
    for collector in collectors {
        wait_until(DEADLINE, "all settled", async || collector.stats().await.in_flight_messages == 0).await;
        assert_eq!(collector.stats().await.queues.len(), 5, "those left over are consumed");
        collector.stop().await;
    }
    assert_eq!(publisher.depth(4).await, 0);
    assert_eq!(committed(&processor).len(), sent.len());
}
