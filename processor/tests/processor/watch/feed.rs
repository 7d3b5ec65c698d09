//! The feed: nothing is skipped, and what belongs together stays in order.

use std::time::Duration;

use contracts::v1::{ListEventsRequest, Presence, WatchEventsRequest, WatchResponseType};
use testkit::wait_until;
use uuid::Uuid;

use super::{DEADLINE, answer, logged, names, synced, watch_events};
use crate::running::{Agent, Running, package};

/// A row of the log by hand, as a transaction of a replica would write it.
fn row(asset: Uuid, revision: i64) -> String {
    format!(
        "INSERT INTO asset_event (record_time, event_uid, type, asset_uid, kind, display_name, natural_key, \
         revision, managed_revision, state, actor) VALUES (clock_timestamp(), gen_random_uuid(), 5, '{asset}', \
         99, 'by hand', '', {revision}, {revision}, 0, 'test')"
    )
}

async fn begin(running: &Running) -> tokio_postgres::Client {
    let client = running.database.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_open_transaction_wrote_before_others_is_not_skipped() {
    let running = Running::start().await;
    let agent = Agent::new();
    let heartbeat_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = WatchEventsRequest { heartbeat_interval, ..Default::default() };
    let mut stream = watch_events(&running.channel, request).await.unwrap();
    synced(&mut stream).await;

    let held = begin(&running).await;
    held.batch_execute(&row(Uuid::new_v4(), 1)).await.unwrap();
    for sequence in 1..=5 {
        let version = format!("1.{sequence}");
        running
            .deliver(vec![agent.batch(sequence, vec![package(Presence::Present, "bash", &version)])])
            .await;
    }
    wait_until(DEADLINE, "the feed to say how far it is behind", async || {
        let rows = running.metric("assettrack_feed_lag_rows").await;
        rows > 4.5 && running.metric("assettrack_feed_lag_seconds").await > 0.5
    })
    .await;
    // What came later is committed, and is not told before what may come earlier.
    let mut lag = None;
    for _ in 0..2 {
        let idle = answer(&mut stream).await.unwrap();
        assert_eq!(idle.r#type(), WatchResponseType::Heartbeat, "{idle:?}");
        lag = idle.lag;
    }
    assert!(Duration::try_from(lag.unwrap()).unwrap() > Duration::from_millis(500));

    held.batch_execute("COMMIT").await.unwrap();
    let mut told = Vec::new();
    while told.len() < 6 {
        told.extend(answer(&mut stream).await.unwrap().events);
    }
    assert_eq!(told[0].display_name, "by hand", "in the order of the log");
    let mut told = names(&told);
    told.sort();
    assert_eq!(told, logged(&running).await);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_are_told_in_order_whichever_transaction_began_first() {
    let running = Running::start().await;
    let mut stream = watch_events(&running.channel, WatchEventsRequest::default()).await.unwrap();
    synced(&mut stream).await;
    let (asset, number) = (Uuid::new_v4(), "SELECT pg_current_xact_id()::text");

    // The one that waits for the lock of the other has the lower number, and one
    // between the two goes on when both have ended.
    let waits = begin(&running).await;
    waits.query_one(number, &[]).await.unwrap();
    let between = begin(&running).await;
    between.query_one(number, &[]).await.unwrap();
    let holds = begin(&running).await;
    holds.batch_execute(&row(asset, 1)).await.unwrap();
    holds.batch_execute("COMMIT").await.unwrap();
    waits.batch_execute(&row(asset, 2)).await.unwrap();
    waits.batch_execute("COMMIT").await.unwrap();
    wait_until(DEADLINE, "the feed to see both rows", async || {
        running.metric("assettrack_feed_lag_rows").await > 0.5
            || running.metric("assettrack_feed_rows_total").await > 0.5
    })
    .await;
    between.batch_execute("COMMIT").await.unwrap();
    let mut revisions = Vec::new();
    while revisions.len() < 2 {
        revisions.extend(answer(&mut stream).await.unwrap().events.iter().map(|event| event.revision));
    }
    assert_eq!(revisions, [1, 2]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_told_from_a_time_on_and_under_their_filter() {
    let running = Running::start().await;
    let agent = Agent::new();
    let send = async |sequence: i64| {
        let version = format!("1.{sequence}");
        let seen = ["bash", "zsh"].map(|name| package(Presence::Present, name, &version));
        running.deliver(vec![agent.batch(sequence, seen.to_vec())]).await;
    };
    for sequence in 1..=3 {
        send(sequence).await;
    }
    let listed = running.events().list_events(ListEventsRequest::default()).await.unwrap().into_inner();
    let second = listed.events.iter().filter(|event| event.revision == 2);
    let start_time =
        second.filter_map(|event| event.record_time).min_by_key(|time| (time.seconds, time.nanos));
    let request =
        WatchEventsRequest { start_time, filter: "bash type=CHANGED".to_owned(), ..Default::default() };
    let mut stream = watch_events(&running.channel, request).await.unwrap();
    let mut revisions = Vec::new();
    let mut synced = false;
    while revisions.len() < 3 {
        let answer = answer(&mut stream).await.unwrap();
        if answer.r#type() == WatchResponseType::Synced {
            synced = true;
            assert_eq!(revisions, [2, 3], "what was there comes before SYNCED");
            send(4).await;
        }
        for event in answer.events {
            assert_eq!((event.display_name.as_str(), event.node_display_name.as_str()), ("bash", "node-1"));
            revisions.push(event.revision);
        }
    }
    assert!(synced);
    assert_eq!(revisions, [2, 3, 4]);
    running.stop().await;
}
