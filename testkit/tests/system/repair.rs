//! What somebody alters behind the processor's back is found, told and repaired,
//! and nobody has to do anything.

use std::time::Duration;

use assettrack_cli::simulate::run;
use contracts::v1::{
    Completeness, Difference, ListNodesRequest, VerifyInventoryRequest,
    integrity_service_client::IntegrityServiceClient, node_service_client::NodeServiceClient,
};
use kit::shutdown::CancellationToken;
use testkit::{Seed, wait_for, wait_until};
use tonic::transport::Channel;

use crate::simulated::{Pipeline, settings};

const DEADLINE: Duration = Duration::from_secs(90);

async fn completeness(channel: &Channel) -> Vec<Completeness> {
    let mut nodes = NodeServiceClient::new(channel.clone());
    let nodes = nodes.list_nodes(ListNodesRequest::default()).await.unwrap().into_inner().nodes;
    nodes.iter().map(contracts::v1::Node::completeness).collect()
}

/// What an asset is like, without its versions and times.
const STATE: &str =
    "SELECT details, display_name, state::int, state_hash FROM asset WHERE uid = $1::text::uuid";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_altered_behind_the_back_is_found_and_repaired_by_itself() {
    let pipeline = Pipeline::with_scrub(1).await;
    let seed = Seed::draw();
    let flags = ["--nodes=2", "--assets=80", "--heartbeat-seconds=1", "--obey-commands", "--duration=3600"];
    let settings = settings(&pipeline, seed, &flags);
    let shutdown = CancellationToken::new();
    let fleet = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { run(&settings, shutdown, |line| println!("{line}")).await.unwrap() }
    });
    let channel = Channel::from_shared(format!("http://{}", pipeline.grpc)).unwrap().connect_lazy();
    let all_complete = async || {
        let nodes = completeness(&channel).await;
        nodes.len() == 2 && nodes.iter().all(|node| *node == Completeness::Complete)
    };
    wait_until(DEADLINE, "both nodes are complete", all_complete).await;

    let database = pipeline.database.connect().await;
    let chosen = "SELECT uid::text FROM asset WHERE kind = 5 AND state = 1 ORDER BY uid LIMIT 4";
    let chosen: Vec<String> =
        database.query(chosen, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let [altered, deleted, hidden, model] = &chosen[..] else { panic!("too few packages: {chosen:?}") };
    type State = (Option<Vec<u8>>, String, i32, Option<Vec<u8>>);
    let state = async |uid: &str| -> Option<State> {
        let row = database.query_opt(STATE, &[&uid]).await.unwrap()?;
        Some((row.get(0), row.get(1), row.get(2), row.get(3)))
    };
    let mut before = Vec::new();
    for uid in [altered, deleted, hidden] {
        before.push(state(uid).await);
    }
    // As an intruder would: a version that looks patched, a package that is not
    // there, and one that is said to be gone.
    let alter = "UPDATE asset SET details = (SELECT details FROM asset WHERE uid = $2::text::uuid) WHERE uid = $1::text::uuid";
    assert_eq!(database.execute(alter, &[altered, model]).await.unwrap(), 1);
    assert_eq!(
        database.execute("DELETE FROM asset WHERE uid = $1::text::uuid", &[deleted]).await.unwrap(),
        1
    );
    let hide = "UPDATE asset SET state = 2 WHERE uid = $1::text::uuid";
    assert_eq!(database.execute(hide, &[hidden]).await.unwrap(), 1);

    wait_until(DEADLINE, "it is told that something is wrong", async || {
        completeness(&channel).await.contains(&Completeness::Incomplete)
    })
    .await;
    let after = wait_for(DEADLINE, "all is as it was", async || {
        let mut after = Vec::new();
        for uid in [altered, deleted, hidden] {
            after.push(state(uid).await);
        }
        (after == before).then_some(after)
    })
    .await;
    assert_eq!(after.len(), 3);
    wait_until(DEADLINE, "both nodes are complete again", all_complete).await;

    shutdown.cancel();
    fleet.await.unwrap();
    // What was hidden was superseded as such: that, too, is put right.
    wait_until(DEADLINE, "verifying finds nothing", async || differences(&channel).await.is_empty()).await;
}

/// What verifying all of it finds.
async fn differences(channel: &Channel) -> Vec<Difference> {
    let mut integrity = IntegrityServiceClient::new(channel.clone());
    let mut answers =
        integrity.verify_inventory(VerifyInventoryRequest::default()).await.unwrap().into_inner();
    let mut differences = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        differences.extend(answer.differences);
    }
    println!("verifying finds {differences:?}");
    differences
}
