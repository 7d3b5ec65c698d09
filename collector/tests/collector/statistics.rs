//! What GetCollectorStats tells.

use contracts::v1::{AssetKind, CollectorState, TrafficWindow};
use kit::identity::Collection;
use testkit::{amqp_url, namespace, wait_for, wait_until};

use crate::{
    fixture::{Collector, DEADLINE},
    processor::Processor,
    published::{Publisher, batch, node},
};

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_by_result_node_kind_and_queue() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "2"]).await;
    let start = collector.stats().await;
    assert!(start.start_time.is_some());
    assert_eq!(start.lag, None);
    collector.wait_for_state(CollectorState::Consuming).await;

    let publisher = Publisher::connect(&url, &namespace).await;
    for sent in [batch(1, 1, 3), batch(1, 2, 4), batch(40, 1, 2), batch(1, 2, 4)] {
        publisher.batch(&sent).await;
    }
    let expected = TrafficWindow { messages: 3, events: 9, duplicate_messages: 1, dead_letters: 0 };
    wait_until(DEADLINE, "all four counted", async || {
        collector.stats().await.total.unwrap().last_minute == Some(expected)
    })
    .await;
    let stats = collector.stats().await;
    assert_eq!(stats.total.unwrap().last_hour, Some(expected));
    let kinds: Vec<_> = stats
        .node_kinds
        .iter()
        .map(|one| (one.node.clone(), one.node_display_name.as_str(), one.kind(), one.events_last_hour))
        .collect();
    assert_eq!(
        kinds,
        [
            (Collection::Nodes.name(node(1)), "n1", AssetKind::Package, 7),
            (Collection::Nodes.name(node(40)), "n40", AssetKind::Package, 2),
        ]
    );
    assert!(stats.lag.unwrap().seconds < 60);

    let queues = wait_for(DEADLINE, "a measurement", async || {
        let queues = collector.stats().await.queues;
        (!queues.is_empty()).then_some(queues)
    })
    .await;
    let names: Vec<_> = queues.iter().map(|queue| queue.queue.clone()).collect();
    assert_eq!(
        names,
        [format!("{namespace}.events.0"), format!("{namespace}.events.1"), format!("{namespace}.heartbeats")]
    );
    assert!(queues.iter().all(|queue| queue.measure_time.is_some()));
    collector.stop().await;
}
