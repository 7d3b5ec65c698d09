//! Old days of the log are dropped, and the fold still holds.

use std::sync::Arc;

use contracts::v1::{AssetState, ListAssetRevisionsRequest, Presence};
use testkit::{Database, Seed, wait_for, wait_until};
use tokio_postgres::Client;

use crate::{
    history::{DEADLINE, live, package_uid, verify_equal},
    running::{Agent, Running, package},
};

pub const KEEP_30: &[&str] = &["--retention-days", "30"];

/// Puts what is in the log back by days; to a day of its own, or into the default
/// partition.
pub async fn age(client: &Client, days: i32, partition: bool) {
    if partition {
        let create = format!(
            "DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date - {days}; BEGIN FOR n IN 0..1 LOOP \
             EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF asset_event FOR VALUES FROM (%L) TO (%L)', \
             'asset_event_' || to_char(day - n, 'YYYYMMDD'), (day - n) || ' 00:00:00+00', \
             (day - n + 1) || ' 00:00:00+00'); END LOOP; END $$"
        );
        client.batch_execute(&create).await.unwrap();
    }
    let shift = format!(
        "UPDATE asset_event SET record_time = record_time - interval '{days} days'; \
         UPDATE asset_base SET record_time = record_time - interval '{days} days'; \
         UPDATE asset_past SET update_time = update_time - interval '{days} days', \
         until_time = until_time - interval '{days} days'; \
         UPDATE past_horizon SET earliest_time = earliest_time - interval '{days} days'; \
         UPDATE asset SET update_time = update_time - interval '{days} days', \
         create_time = create_time - interval '{days} days', \
         delete_time = delete_time - interval '{days} days'"
    );
    client.batch_execute(&shift).await.unwrap();
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

const OLD_ROWS: &str = "SELECT count(*) FROM asset_event WHERE record_time < now() - interval '32 days'";
const OLD_DAYS: &str = "SELECT count(*) FROM event_partitions_before(30)";

/// Waits until a processor that keeps 30 days has dropped the others.
pub async fn dropped(client: &Client) {
    wait_until(DEADLINE, "the old days are dropped", async || {
        count(client, OLD_DAYS).await == 0 && count(client, OLD_ROWS).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_and_log_are_the_fold_when_old_days_are_dropped() {
    let database = Arc::new(Database::create().await);
    let client = database.connect().await;
    let mut rng = Seed::draw().rng();
    // Old in the default partition, less old in one of its own, new.
    for (days, partition) in [(50, false), (40, true), (0, true)] {
        let running = Running::start_on(database.clone(), &["--retention-days", "0"]).await;
        live(&running, &mut rng).await;
        running.stop().await;
        if days > 0 {
            age(&client, days, partition).await;
        }
    }
    let running = Running::start_on(database.clone(), &["--retention-days", "0"]).await;
    verify_equal(&running).await;
    assert!(count(&client, OLD_ROWS).await > 0, "0 keeps all");
    running.stop().await;
    let assets = count(&client, "SELECT count(DISTINCT asset_uid) FROM asset_event WHERE revision > 0").await;
    let old = "SELECT count(DISTINCT asset_uid) FROM asset_event WHERE revision > 0 \
         AND record_time < now() - interval '32 days'";
    let old = count(&client, old).await;

    let running = Running::start_on(database.clone(), KEEP_30).await;
    dropped(&client).await;
    assert_eq!(count(&client, "SELECT count(*) FROM asset_base").await, old);
    assert!(old > 0 && old < assets);
    verify_equal(&running).await;
    running.stop().await;

    // All that is left grows old too, and a second carrying replaces the first.
    age(&client, 40, true).await;
    let running = Running::start_on(database.clone(), KEEP_30).await;
    dropped(&client).await;
    assert_eq!(count(&client, "SELECT count(*) FROM asset_event").await, 0);
    assert_eq!(count(&client, "SELECT count(*) FROM asset_base").await, assets);
    verify_equal(&running).await;
    live(&running, &mut rng).await;
    running.stop().await;
    let running = Running::start_on(database, KEEP_30).await;
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_revision_that_is_kept_is_the_bases() {
    let database = Arc::new(Database::create().await);
    let client = database.connect().await;
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    for sequence in 1..=3 {
        let version = format!("1.{sequence}");
        let seen = ["bash", "gone"].map(|name| package(Presence::Present, name, &version));
        running.deliver(vec![agent.batch(sequence, seen.to_vec())]).await;
    }
    running.deliver(vec![agent.batch(4, vec![package(Presence::Absent, "gone", "")])]).await;
    running.stop().await;
    age(&client, 40, true).await;
    let running = Running::start_on(database, KEEP_30).await;
    dropped(&client).await;
    for sequence in 5..=6 {
        let version = format!("2.{sequence}");
        running
            .deliver(vec![agent.batch(sequence, vec![package(Presence::Present, "bash", &version)])])
            .await;
    }
    let revisions = async |name: &str, page_size: i32| {
        let parent = format!("assets/{}", package_uid(agent.node, name));
        let mut request = ListAssetRevisionsRequest { parent, page_size, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let page = running.assets().list_asset_revisions(request.clone()).await.unwrap().into_inner();
            found.extend(page.revisions);
            if page.next_page_token.is_empty() {
                return found;
            }
            request.page_token = page.next_page_token;
        }
    };
    for page_size in [1, 2, 3, 50] {
        let found = revisions("bash", page_size).await;
        let numbers: Vec<i64> = found.iter().map(|revision| revision.revision).collect();
        assert_eq!(numbers, [5, 4, 3], "pages of {page_size}");
        let details = found[2].asset.as_ref().unwrap().details.clone();
        assert_eq!(details, package(Presence::Present, "bash", "1.3").details);
    }
    // What is gone and has no history any more is still known to be gone.
    let gone = revisions("gone", 50).await;
    assert_eq!(gone.len(), 1);
    assert_eq!(running.list("display_name=gone").await[0].state(), AssetState::Removed);
    running.deliver(vec![agent.batch(7, vec![package(Presence::Present, "gone", "3")])]).await;
    assert_eq!(running.list("display_name=gone").await[0].revision, 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_that_is_killed_changes_nothing_and_one_that_waits_holds_up_nobody() {
    let database = Arc::new(Database::create().await);
    let client = database.connect().await;
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    running.stop().await;
    age(&client, 40, true).await;

    // A reader of the log: the day is carried, and its drop has to wait.
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM asset_event").await.unwrap();
    let running = Running::start_on(database.clone(), KEEP_30).await;
    let at_work = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'assettrack-duty' AND xact_start IS NOT NULL \
         AND query LIKE '%drop_event_partition%'";
    let at_work = async || -> i32 {
        wait_for(DEADLINE, "the drop waits", async || {
            client.query(at_work, &[]).await.unwrap().first().map(|row| row.get(0))
        })
        .await
    };
    let first = at_work().await;
    assert_eq!(count(&client, "SELECT count(*) FROM asset_base").await, 0, "not committed");
    for sequence in 2..=20 {
        let version = format!("{sequence}");
        running
            .deliver(vec![agent.batch(sequence, vec![package(Presence::Present, "bash", &version)])])
            .await;
    }
    client.execute("SELECT pg_terminate_backend($1)", &[&first]).await.unwrap();
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
    wait_until(DEADLINE, "it is gone", async || {
        client.query_one(gone, &[&first]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert_eq!(count(&client, "SELECT count(*) FROM asset_base").await, 0);
    assert_eq!(count(&client, OLD_ROWS).await, 1);
    assert_eq!(count(&client, OLD_DAYS).await, 2);

    // It is tried again by itself.
    assert_ne!(at_work().await, first);
    reader.batch_execute("ROLLBACK").await.unwrap();
    dropped(&client).await;
    assert_eq!(count(&client, "SELECT count(*) FROM asset_base").await, 1);
    verify_equal(&running).await;
    running.stop().await;
}
