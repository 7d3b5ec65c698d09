//! Random histories, and whether the record is still what their log says.

use std::{sync::Arc, time::Duration};

use contracts::v1::{
    Asset, AssetKind, CreateAssetRequest, Difference, DifferenceType, EventBatch, ManagedFields, Presence,
    RetireNodeRequest, UpdateAssetRequest, VerifyInventoryRequest, VerifyInventoryResponse,
};
use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom};
use testkit::{Database, wait_until};
use uuid::Uuid;

use crate::running::{Agent, Running, package, snapshot};

pub const DEADLINE: Duration = Duration::from_secs(30);

/// Two nodes, each with three streams, batches late, doubled and shuffled,
/// listings whole and in part, heartbeats that name an older stream, edits. One is
/// retired, and something of it comes all the same.
pub async fn live(running: &Running, rng: &mut StdRng) {
    for number in 0..2 {
        let mut agent = Agent::new();
        let mut deliveries: Vec<EventBatch> = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..3 {
            agent = Agent { node: agent.node, stream: Uuid::new_v4() };
            streams.push(agent.stream);
            let mut batches = stream(&agent, rng);
            let again: Vec<EventBatch> = batches.iter().filter(|_| rng.random_bool(0.2)).cloned().collect();
            batches.extend(again);
            batches.shuffle(rng);
            // Some of it comes after the next stream has begun.
            let late = batches.split_off(batches.len() * 4 / 5);
            let place = deliveries.len().saturating_sub(3);
            deliveries.splice(place..place, batches);
            deliveries.extend(late);
        }
        for chunk in deliveries.chunks(4) {
            running.deliver(chunk.to_vec()).await;
            if rng.random_bool(0.3) {
                edit(running, agent.node, rng).await;
            }
        }
        if number == 0 {
            let name = format!("nodes/{}", agent.node);
            running.nodes().retire_node(RetireNodeRequest { name }).await.unwrap();
            for sequence in [20, 19, 18] {
                running.deliver(vec![agent.batch(sequence, observations(rng))]).await;
            }
        } else {
            rename_streams(running, agent.node, streams[1]).await;
            let agent = Agent { node: agent.node, stream: streams[1] };
            for sequence in 100..110 {
                running.deliver(vec![agent.batch(sequence, observations(rng))]).await;
            }
        }
    }
    let asset = Asset {
        display_name: "Rack 7".to_owned(),
        managed: Some(ManagedFields { owner: "ops".to_owned(), ..ManagedFields::default() }),
        ..Asset::default()
    };
    running
        .assets()
        .create_asset(CreateAssetRequest { asset: Some(asset), ..Default::default() })
        .await
        .unwrap();
}

fn observations(rng: &mut StdRng) -> Vec<contracts::v1::Observation> {
    let count = rng.random_range(1..6);
    (0..count)
        .map(|_| {
            let name = format!("package-{}", rng.random_range(0..10));
            let version = format!("1.{}", rng.random_range(0..4));
            match rng.random_range(0..4) {
                0 => package(Presence::Absent, &name, ""),
                1 => package(Presence::Listed, &name, &version),
                _ => package(Presence::Present, &name, &version),
            }
        })
        .collect()
}

fn stream(agent: &Agent, rng: &mut StdRng) -> Vec<EventBatch> {
    let mut batches = Vec::new();
    for sequence in 1..=rng.random_range(6..16) {
        let batch = agent.batch(sequence, observations(rng));
        batches.push(if rng.random_bool(0.2) { snapshot(batch, (sequence - 1).max(1)) } else { batch });
    }
    batches
}

/// What heartbeats do that name a stream that another one had overtaken.
async fn rename_streams(running: &Running, node: Uuid, stream: Uuid) {
    let set = "UPDATE node SET stream = $1::text::uuid, heartbeat_time = clock_timestamp() + interval '60 s' \
         WHERE uid = $2::text::uuid";
    let database = running.database.connect().await;
    database.execute(set, &[&stream.to_string(), &node.to_string()]).await.unwrap();
}

async fn edit(running: &Running, node: Uuid, rng: &mut StdRng) {
    let found = running.list(&format!("node=nodes/{node}")).await;
    let asset = &found[rng.random_range(0..found.len())];
    let managed =
        ManagedFields { owner: format!("owner-{}", rng.random_range(0..9)), ..ManagedFields::default() };
    let asset = Asset { name: asset.name.clone(), managed: Some(managed), ..Asset::default() };
    running
        .assets()
        .update_asset(UpdateAssetRequest { asset: Some(asset), ..Default::default() })
        .await
        .unwrap();
}

/// All that verifying answers.
pub async fn verify(running: &Running, node: &str) -> (VerifyInventoryResponse, Vec<Difference>) {
    let request = VerifyInventoryRequest { node: node.to_owned() };
    let mut stream = running.integrity().verify_inventory(request).await.unwrap().into_inner();
    let (mut last, mut differences) = (VerifyInventoryResponse::default(), Vec::new());
    while let Some(answer) = stream.message().await.unwrap() {
        assert!(!last.done, "nothing comes after the end");
        differences.extend(answer.differences.clone());
        last = answer;
    }
    assert!(last.done);
    (last, differences)
}

/// Sees that nothing differs.
pub async fn verify_equal(running: &Running) {
    let (_, differences) = verify(running, "").await;
    assert_eq!(differences, [], "{} differences", differences.len());
}

/// What differs, for a table in a test.
pub fn told(differences: &[Difference]) -> Vec<(DifferenceType, String)> {
    differences.iter().map(|one| (one.r#type(), one.detail.clone())).collect()
}

/// One round of the scrub, by a processor of its own. No other one may run.
pub async fn scrub(database: &Arc<Database>) -> String {
    let client = database.connect().await;
    client.batch_execute("DELETE FROM scrub_round").await.unwrap();
    let running = Running::start_on(database.clone(), &["--scrub-interval-seconds", "86400"]).await;
    wait_until(DEADLINE, "the round ends", async || {
        let ended = "SELECT count(*) FROM scrub_round WHERE end_time IS NOT NULL";
        client.query_one(ended, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    let (_, metrics) = testkit::http_get(running.admin, "/metrics").await.unwrap();
    running.stop().await;
    metrics
}

/// UUID of the package `name` of a node.
pub fn package_uid(node: Uuid, name: &str) -> Uuid {
    kit::identity::asset_uid(node, AssetKind::Package, &format!("dpkg/{name}:amd64"))
}
