//! What an event costs the collector between broker and processor: bytes of the
//! queue → checked → request. `cargo bench -p assettrack-collector`.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use collector::{
    batch::{Batcher, Limits},
    decode::{Contract, Decoder, Envelope},
    stats::Traffic,
};
use contracts::v1::{
    AssetDetails, AssetKind, EventBatch, NodeIdentity, Observation, PackageDetails, Presence,
    asset_details::Details,
};
use kit::queue::batch_key;
use prost::Message;
use uuid::Uuid;

const MEASURE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

fn batch(node: Uuid, events: usize) -> EventBatch {
    let one = |n: usize| Observation {
        event_id: Uuid::now_v7().to_string(),
        presence: Presence::Present.into(),
        kind: AssetKind::Package.into(),
        natural_key: format!("dpkg/libsomething{n}:amd64"),
        display_name: format!("libsomething{n}"),
        observe_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_456_789 }),
        state_hash: Uuid::new_v4().as_bytes().to_vec(),
        details: Some(AssetDetails {
            details: Some(Details::Package(PackageDetails {
                package: format!("libsomething{n}"),
                version: format!("1.2.{n}-3+deb12u1"),
                architecture: "amd64".into(),
                source: "something".into(),
                ..Default::default()
            })),
            ..AssetDetails::default()
        }),
    };
    EventBatch {
        schema_version: 1,
        node: Some(NodeIdentity { uid: node.to_string(), cluster: "c".into(), display_name: "n1".into() }),
        stream: Uuid::from_u128(9).to_string(),
        sequence: 7,
        observations: (0..events).map(one).collect(),
        ..EventBatch::default()
    }
}

fn main() {
    let node = Uuid::from_u128(0x5000_0000_0000_0001);
    for events in [1, 50, 200] {
        let plain = batch(node, events).encode_to_vec();
        for packed in [false, true] {
            let body = if packed { zstd::bulk::compress(&plain, 3).unwrap() } else { plain.clone() };
            let envelope = Envelope {
                message_id: "0193b1a2-0000-7000-8000-000000000000".to_owned(),
                routing_key: batch_key(node),
                content_encoding: packed.then(|| "zstd".to_owned()),
                node: Some(node.to_string()),
                stream: Some(Uuid::from_u128(9).to_string()),
                sequence: Some(7),
                published_millis: Some(1),
            };
            let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(&envelope, &body, events)).collect();
            rounds.sort_by(f64::total_cmp);
            println!(
                "{events:>4} events, {:>6} bytes{}: {:.3} µs of CPU an event (median of {ROUNDS}; {:.3} to {:.3})",
                body.len(),
                if packed { " zstd" } else { "     " },
                rounds[ROUNDS / 2],
                rounds[0],
                rounds[ROUNDS - 1]
            );
        }
    }
}

fn round(envelope: &Envelope, body: &[u8], events: usize) -> f64 {
    let mut decoder = Decoder::new(&Contract::new().unwrap());
    let mut batcher = Batcher::new(Limits::default());
    let (start, mut messages, before) = (Instant::now(), 0_u32, cpu_seconds());
    while start.elapsed() < MEASURE / ROUNDS as u32 {
        for tag in 0..100 {
            if batcher.is_full() {
                std::hint::black_box(batcher.take());
            }
            let checked = decoder.batch(envelope, "assettrack.events.0", body).unwrap();
            let traffic = Traffic::of(checked.node, &checked.batch, envelope.published_millis);
            batcher.push_encoded(start, tag, checked.request, traffic);
        }
        messages += 100;
    }
    (cpu_seconds() - before) * 1e6 / (f64::from(messages) * events as f64)
}

/// Of this thread: others on the machine do not count.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
