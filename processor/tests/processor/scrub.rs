//! The scrub repairs what was altered behind the processor's back; and who has
//! the duties.

use std::sync::Arc;

use contracts::v1::{
    Asset, AssetState, ManagedFields,
    Presence::{Listed, Present},
    UpdateAssetRequest,
};
use testkit::{Database, http_get, wait_for, wait_until};

use crate::{
    history::{DEADLINE, package_uid, scrub, verify_equal},
    running::{Agent, Running, package},
};

fn metric(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

/// Three packages, the third one edited.
async fn three(database: &Arc<Database>) -> Agent {
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    let packages = ["one", "two", "three"].map(|name| package(Present, name, "1.0"));
    running.deliver(vec![agent.batch(1, packages.to_vec())]).await;
    let managed = ManagedFields { owner: "ops".to_owned(), ..ManagedFields::default() };
    let name = format!("assets/{}", package_uid(agent.node, "three"));
    let asset = Some(Asset { name, managed: Some(managed), ..Asset::default() });
    running.assets().update_asset(UpdateAssetRequest { asset, ..Default::default() }).await.unwrap();
    running.stop().await;
    agent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_become_those_of_the_stored_rows() {
    let database = Arc::new(Database::create().await);
    let agent = three(&database).await;
    scrub(&database).await;
    let client = database.connect().await;
    let digest = async || {
        let query = "SELECT count, sum::text FROM node_kind WHERE node_uid = $1::text::uuid";
        let row = client.query_one(query, &[&agent.node.to_string()]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, String>(1))
    };
    let mut expected = kit::digest::Digest::default();
    for name in ["one", "two", "three"] {
        expected.add(&package(Present, name, "1.0").state_hash.try_into().unwrap());
    }
    let whole = digest().await;
    assert_eq!(whole, (3, expected.sum.to_string()));
    let metrics = scrub(&database).await;
    assert_eq!(metric(&metrics, "assettrack_scrub_digests_corrected_total"), 0, "nothing was wrong");
    assert_eq!(metric(&metrics, "assettrack_scrub_assets_total"), 3);

    let uid = package_uid(agent.node, "one");
    client.batch_execute(&format!("UPDATE asset SET state = 2 WHERE uid = '{uid}'")).await.unwrap();
    let metrics = scrub(&database).await;
    assert_eq!(digest().await.0, 2, "an agent's heartbeat will differ");
    assert_eq!(metric(&metrics, "assettrack_scrub_digests_corrected_total"), 1);
    client.batch_execute("UPDATE asset SET state = 2").await.unwrap();
    scrub(&database).await;
    assert_eq!(digest().await, (0, "0".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_altered_is_written_anew_by_the_next_listing() {
    let database = Arc::new(Database::create().await);
    let agent = three(&database).await;
    scrub(&database).await;
    let client = database.connect().await;
    let uid = package_uid(agent.node, "one");
    let alter = format!(
        "UPDATE asset SET details = (SELECT details FROM asset WHERE uid = '{}') WHERE uid = '{uid}'",
        package_uid(agent.node, "two")
    );
    client.batch_execute(&alter).await.unwrap();
    let sum =
        async || client.query_one("SELECT sum::text FROM node_kind", &[]).await.unwrap().get::<_, String>(0);
    let before = sum().await;
    let metrics = scrub(&database).await;
    assert_eq!(metric(&metrics, "assettrack_scrub_hashes_replaced_total"), 1);
    assert_ne!(sum().await, before, "an agent's heartbeat will differ");
    let metrics = scrub(&database).await;
    assert_eq!(metric(&metrics, "assettrack_scrub_hashes_replaced_total"), 0, "it is known");

    let running = Running::start_on(database.clone(), &[]).await;
    let listed = ["one", "two", "three"].map(|name| package(Listed, name, "1.0"));
    running.deliver(vec![agent.batch(2, listed.to_vec())]).await;
    let found = running.list("display_name=one").await.remove(0);
    assert_eq!(found.details, package(Present, "one", "1.0").details);
    assert_eq!(running.list("display_name=two").await[0].revision, 1, "the others are as they were");
    running.stop().await;
    scrub(&database).await;
    assert_eq!(sum().await, before);
    let running = Running::start_on(database, &[]).await;
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_missing_is_made_anew_from_the_log() {
    let database = Arc::new(Database::create().await);
    let agent = three(&database).await;
    scrub(&database).await;
    let client = database.connect().await;
    let row = "SELECT (to_jsonb(asset) - 'create_time' - 'first_seen_time')::text FROM asset ORDER BY uid";
    let rows = async || -> Vec<String> {
        client.query(row, &[]).await.unwrap().into_iter().map(|row| row.get(0)).collect()
    };
    let before = rows().await;
    client.batch_execute("DELETE FROM asset").await.unwrap();
    let metrics = scrub(&database).await;
    assert_eq!(metric(&metrics, "assettrack_scrub_assets_restored_total"), 3);
    assert_eq!(rows().await, before, "what people recorded is not lost either");

    let running = Running::start_on(database, &[]).await;
    running.deliver(vec![agent.batch(2, vec![package(Present, "three", "2.0")])]).await;
    let found = running.list("managed.owner=ops").await.remove(0);
    assert_eq!((found.revision, found.state()), (3, AssetState::Active), "its revisions go on");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_that_came_with_fields_unknown_here_are_left_alone() {
    let database = Arc::new(Database::create().await);
    let agent = three(&database).await;
    let running = Running::start_on(database.clone(), &[]).await;
    let mut newer = package(Present, "one", "2.0");
    newer.state_hash = vec![7; 16];
    running.deliver(vec![agent.batch(2, vec![newer])]).await;
    running.stop().await;
    let metrics = scrub(&database).await;
    assert_eq!(metric(&metrics, "assettrack_scrub_hashes_replaced_total"), 0);
    let client = database.connect().await;
    let kept = "SELECT count(*) FROM asset WHERE state_hash = decode(repeat('07', 16), 'hex')";
    assert_eq!(client.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_has_the_duties_when_the_first_loses_its_connection() {
    let database = Arc::new(Database::create().await);
    let one = Running::start_on(database.clone(), &[]).await;
    let elected = async |running: &Running| {
        let (_, metrics) = http_get(running.admin, "/metrics").await.unwrap();
        metric(&metrics, "assettrack_duties_elected") == 1
    };
    wait_until(DEADLINE, "the first has the duties", async || elected(&one).await).await;
    let other = Running::start_on(database.clone(), &[]).await;
    let client = database.connect().await;
    let sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'assettrack-duties' ORDER BY backend_start";
    let holder: i32 = wait_for(DEADLINE, "the second stands for them", async || {
        let found = client.query(sessions, &[]).await.unwrap();
        (found.len() == 2).then(|| found[0].get(0))
    })
    .await;
    assert!(!elected(&other).await, "one has them at a time");
    // The holder notices a little later than the server: for that time alone
    // both may think that they have them.
    client.execute("SELECT pg_terminate_backend($1)", &[&holder]).await.unwrap();
    wait_until(DEADLINE, "they change hands", async || elected(&other).await && !elected(&one).await).await;
    other.stop().await;
    wait_until(DEADLINE, "they come back at a shutdown", async || elected(&one).await).await;
    one.stop().await;
    let left = client.query(sessions, &[]).await.unwrap().len();
    assert_eq!(left, 0, "nothing is left of them");
}
