//! Heartbeats: the newest of each node, and a sign of life when there is none.

use contracts::v1::{AssetKind, CollectorState, Heartbeat, KindDigest, NodeIdentity};
use kit::queue::heartbeat_key;
use lapin::BasicProperties;
use prost::Message;
use testkit::{amqp_url, namespace, wait_for, wait_until};
use uuid::Uuid;

use crate::{
    fixture::{Collector, DEADLINE},
    processor::Processor,
    published::{Publisher, node},
};

fn heartbeat(number: u128, last_sequence: i64) -> Heartbeat {
    Heartbeat {
        schema_version: 1,
        node: Some(NodeIdentity {
            uid: node(number).to_string(),
            cluster: "c".into(),
            display_name: "n".into(),
        }),
        stream: Uuid::from_u128(number).to_string(),
        last_sequence,
        agent_version: "0.1.0".into(),
        interval_seconds: 15,
        outbox_batches: 0,
        outbox_bytes: 0,
        digests: vec![KindDigest { kind: AssetKind::Package.into(), count: 7, sum: vec![1; 16] }],
        ..Heartbeat::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_heartbeat_of_each_node_is_forwarded_and_silence_too() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    wait_until(DEADLINE, "a call without heartbeats", async || {
        processor.seen().heartbeats.iter().any(|call| call.heartbeats.is_empty())
    })
    .await;

    let publisher = Publisher::connect(&url, &namespace).await;
    let publish = async |number, body: Vec<u8>| {
        publisher.publish(&heartbeat_key(node(number)), BasicProperties::default(), &body).await;
    };
    for sequence in 1..=20 {
        publish(1, heartbeat(1, sequence).encode_to_vec()).await;
    }
    // Of two agents with one identity the first knows, the second one's is newer.
    let knows = Heartbeat { identity_conflict: true, ..heartbeat(4, 1) };
    for beat in [knows, heartbeat(4, 2)] {
        publish(4, beat.encode_to_vec()).await;
    }
    publish(2, b"no heartbeat".to_vec()).await;
    publish(3, heartbeat(3, 7).encode_to_vec()).await;

    let forwarded = async || {
        let calls = &processor.seen().heartbeats;
        calls.iter().flat_map(|call| call.heartbeats.clone()).collect::<Vec<_>>()
    };
    let all = wait_for(DEADLINE, "both nodes", async || {
        let all = forwarded().await;
        let newest = |beat: &Heartbeat| *beat == heartbeat(1, 20) || *beat == heartbeat(3, 7);
        (all.iter().filter(|beat| newest(beat.heartbeat.as_ref().unwrap())).count() == 2).then_some(all)
    })
    .await;
    assert!(all.len() < 20, "{} heartbeats forwarded of 21", all.len());
    assert!(all.iter().all(|beat| beat.held_for.is_some()));
    // However they came together, the conflict arrives.
    wait_until(DEADLINE, "the conflict", async || {
        let all = forwarded().await;
        let of_4 = all.iter().filter_map(|beat| beat.heartbeat.as_ref());
        let of_4: Vec<_> = of_4.filter(|beat| beat.stream == Uuid::from_u128(4).to_string()).collect();
        of_4.iter().any(|beat| beat.last_sequence == 2) && of_4.iter().any(|beat| beat.identity_conflict)
    })
    .await;
    let name = processor.seen().heartbeats[0].collector.clone();
    assert_eq!(name, collector.stats().await.collector);
    assert!(name.ends_with(&format!("/{}", std::process::id())), "{name}");
    collector.stop().await;
}
