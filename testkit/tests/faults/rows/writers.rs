//! Calls that are dropped in the middle, and many writers of the same keys.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use contracts::v1::{
    Asset, EventBatch, IngestEventsRequest, ManagedFields, QueueMessage, UpdateAssetRequest,
    asset_service_client::AssetServiceClient, ingest_service_client::IngestServiceClient,
    queue_message::Content,
};
use kit::identity::{Collection, asset_uid};
use prost_types::FieldMask;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tonic::{Code, Status, transport::Channel};

use crate::{
    bed::{Bed, Ground, PATIENCE},
    fleet::Parcel,
    load::Seen,
    oracle::check,
    row,
};

const WRITERS: u64 = 4;

/// Statuses that a caller was shown.
type Shown = Arc<Mutex<BTreeSet<String>>>;

fn show(shown: &Shown, status: &Status) {
    shown.lock().unwrap().insert(format!("{:?} {}", status.code(), status.message()));
}

/// Delivers all batches in an order of its own, dropping a third of the calls in
/// the middle, until each has been answered.
async fn deliver(channel: Channel, mut batches: Vec<EventBatch>, mut rng: StdRng, shown: Shown) {
    let mut client = IngestServiceClient::new(channel);
    batches.shuffle(&mut rng);
    while !batches.is_empty() {
        let count = rng.random_range(1..=30).min(batches.len());
        let messages = batches[batches.len() - count..]
            .iter()
            .map(|batch| QueueMessage {
                message_id: String::new(),
                queue: "faults".to_owned(),
                content: Some(Content::Batch(batch.clone())),
            })
            .collect();
        let call = client.ingest_events(IngestEventsRequest { messages });
        let patience =
            if rng.random_bool(0.3) { Duration::from_millis(rng.random_range(0..60)) } else { PATIENCE };
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(_)) => batches.truncate(batches.len() - count),
            // Four connections, four writers and calls that were dropped: busy is an answer.
            Ok(Err(status)) if status.code() == Code::ResourceExhausted => {}
            Ok(Err(status)) => {
                show(&shown, &status);
                return;
            }
            // Dropped: whether it was committed is for the next attempt to find.
            Err(_) => {}
        }
    }
}

/// Edits assets at random, dropping a third of the calls in the middle; answers
/// how many were done.
async fn edit(channel: Channel, nodes: Vec<Seen>, edits: usize, mut rng: StdRng, shown: Shown) {
    let mut client = AssetServiceClient::new(channel);
    for number in 0..edits {
        let node = &nodes[rng.random_range(0..nodes.len())];
        let keys: Vec<&String> = node.assets.keys().collect();
        let key = keys[rng.random_range(0..keys.len())];
        let uid = asset_uid(node.uid, contracts::v1::AssetKind::KernelModule, key);
        let managed = ManagedFields { owner: format!("owner-{number}"), ..ManagedFields::default() };
        let asset = Asset { name: Collection::Assets.name(uid), managed: Some(managed), ..Asset::default() };
        let mask = FieldMask { paths: vec!["managed.owner".to_owned()] };
        let call = client.update_asset(UpdateAssetRequest {
            asset: Some(asset),
            update_mask: Some(mask),
            ..Default::default()
        });
        let patience =
            if rng.random_bool(0.3) { Duration::from_millis(rng.random_range(0..30)) } else { PATIENCE };
        match tokio::time::timeout(patience, call).await {
            // Not there yet, or another change won: both are answers.
            Ok(Err(status)) if matches!(status.code(), Code::NotFound | Code::Aborted) => {}
            Ok(Err(status)) => show(&shown, &status),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_and_writers_of_the_same_keys_leave_no_transaction_and_no_deadlock() {
    row::run("cancelled_calls", async |run| {
        let bed = Bed::start(Ground::default()).await;
        // Nothing flows yet: the writers bring the same batches that the queue brings later.
        let fleet = bed.fleet_with((run.seed, run.seed), 6, 0, Some(if run.short { 25 } else { 100 }));
        fleet.rounds_end().await;
        let nodes = fleet.nodes();
        let batches: Vec<EventBatch> = fleet.sent().iter().map(decoded).collect();
        let channel = Channel::from_shared(format!("http://{}", bed.processor_address)).unwrap();
        let channel = channel.connect().await.unwrap();
        let shown = Shown::default();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let rng = StdRng::seed_from_u64(run.seed ^ (writer + 1));
            tasks.spawn(deliver(channel.clone(), batches.clone(), rng, shown.clone()));
            let rng = StdRng::seed_from_u64(run.seed ^ (writer + 100));
            let edits = if run.short { 60 } else { 300 };
            tasks.spawn(edit(channel.clone(), nodes.clone(), edits, rng, shown.clone()));
            run.faults += 2;
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let shown = shown.lock().unwrap().clone();
        run.holds(shown.is_empty(), || format!("callers were shown {shown:?}"));
        check(run, &bed, &[&fleet], 0).await;
        let deadlocks =
            bed.count("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await;
        println!("  {deadlocks} deadlocks within, none shown");
    })
    .await;
}

fn decoded(parcel: &Parcel) -> EventBatch {
    prost::Message::decode(parcel.body.as_slice()).unwrap()
}
