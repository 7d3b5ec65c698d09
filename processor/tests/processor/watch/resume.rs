//! How watches end, and where they go on.

use std::{sync::Arc, time::Duration};

use contracts::v1::{
    AssetDetails, EventBatch, IngestEventsRequest, Observation, PackageDetails, Presence, WatchAssetsRequest,
    WatchEventsRequest, WatchResponseType, asset_details::Details,
    ingest_service_client::IngestServiceClient,
};
use processor::domain::{
    feed::{Cluster, Place, Resume, ResumeTokens},
    page_token::PageTokens,
};
use prost::Message as _;
use testkit::{Database, private::Postgres, wait_until};
use tonic::{Code, transport::Endpoint};

use super::{DEADLINE, Fold, answer, assets, ending, logged, synced, watch_assets, watch_events};
use crate::running::{Agent, Replica, Running, message, package};

const STALLED: &str = "assettrack_watch_stalled_total";

/// A package of 1 KiB.
fn large(number: i64) -> Observation {
    let summary = "x".repeat(1000);
    let name = format!("package-{number}");
    let package = PackageDetails { package: name.clone(), summary, ..PackageDetails::default() };
    let details = AssetDetails { details: Some(Details::Package(package)), ..AssetDetails::default() };
    let mut observation = crate::running::package(Presence::Present, &name, "1");
    let kind = contracts::v1::AssetKind::Package;
    observation.state_hash =
        kit::digest::state_hash(kind, &observation.natural_key, &name, &details.encode_to_vec()).to_vec();
    observation.details = Some(details);
    observation
}

fn batches(agent: &Agent, sequences: std::ops::RangeInclusive<i64>) -> Vec<EventBatch> {
    sequences
        .map(|sequence| agent.batch(sequence, (0..40).map(|n| large(sequence * 40 + n)).collect()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_is_ended_with_a_token_and_holds_up_nobody() {
    let database = Arc::new(Database::create().await);
    let running = Running::start_on(database, &["--watch-patience-seconds", "1"]).await;
    // A small window of its own connection, so that little is under way.
    let narrow = Endpoint::from_shared(running.address()).unwrap().initial_stream_window_size(65_535);
    let narrow = narrow.initial_connection_window_size(65_535).connect().await.unwrap();
    let new = WatchAssetsRequest { omit_snapshot: true, ..assets("") };
    let mut slow = watch_assets(&narrow, new.clone()).await.unwrap();
    let mut quick = watch_assets(&running.channel, new.clone()).await.unwrap();
    let (mut slow_fold, mut quick_fold) = (Fold::default(), Fold::default());
    slow_fold.sync(&mut slow).await;
    quick_fold.sync(&mut quick).await;

    let agent = Agent::new();
    let write = async {
        for batch in batches(&agent, 1..=60) {
            running.deliver(vec![batch]).await;
        }
    };
    let read = async {
        while quick_fold.held.len() < 2400 {
            quick_fold.take(answer(&mut quick).await.unwrap());
        }
    };
    tokio::join!(write, read);
    wait_until(DEADLINE, "the slow watch to be ended", async || running.metric(STALLED).await > 0.5).await;
    // What was under way arrives, and then the end, which says where to go on.
    let status = loop {
        match answer(&mut slow).await {
            Ok(answer) => slow_fold.take(answer),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(ending(&status), ("SLOW_CLIENT".to_owned(), slow_fold.token.clone()));
    assert!(slow_fold.held.len() < 2400, "{} were under way", slow_fold.held.len());

    // Further than the pages reach that are kept, from another connection.
    let again = WatchAssetsRequest { resume_token: slow_fold.token.clone(), ..new };
    let mut slow = watch_assets(&running.channel, again).await.unwrap();
    slow_fold.equals_table(&running, &mut slow, "").await;
    assert_eq!(running.metric(STALLED).await as u64, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_belongs_to_its_question_its_database_and_its_timeline() {
    let running = Running::start().await;
    let mut stream = watch_assets(&running.channel, assets("kind=PACKAGE")).await.unwrap();
    let token = answer(&mut stream).await.unwrap().resume_token;
    let with = |token: &str| WatchAssetsRequest { resume_token: token.to_owned(), ..assets("kind=PACKAGE") };
    assert!(watch_assets(&running.channel, with(&token)).await.is_ok());

    let deleted = WatchAssetsRequest { show_deleted: true, ..with(&token) };
    let other = WatchAssetsRequest { filter: "kind=DISK".to_owned(), ..with(&token) };
    let mut altered = token.clone().into_bytes();
    altered[20] ^= 1;
    let altered = with(std::str::from_utf8(&altered).unwrap());
    for request in [deleted, other, altered] {
        let status = watch_assets(&running.channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(ending(&status).0, "INVALID_RESUME_TOKEN");
    }
    let events = WatchEventsRequest { resume_token: token.clone(), ..Default::default() };
    let status = watch_events(&running.channel, events).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    // Of a timeline that this one left, and of one to which more had happened.
    let client = running.database.connect().await;
    let key = "SELECT key FROM signing_key WHERE name = 'page-token'";
    let tokens = ResumeTokens::new(PageTokens::new(client.query_one(key, &[]).await.unwrap().get(0)));
    let question = ["watch assets", "kind=PACKAGE", ""];
    let (cluster, resume) = tokens.open(&token, &question).unwrap().unwrap();
    let elsewhere = Cluster(format!("{}0", cluster.0));
    let ahead = Resume { place: Place { xid: resume.place.xid + 1_000_000, ..resume.place }, ..resume };
    for token in [tokens.issue(&question, &elsewhere, &resume), tokens.issue(&question, &cluster, &ahead)] {
        let status = watch_assets(&running.channel, with(&token)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert_eq!(ending(&status).0, "DATABASE_RESTORED");
        assert!(status.message().contains("start again without a token"));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_at_a_failover_and_goes_on_after_a_crash() {
    let mut postgres = Postgres::start().await;
    let replica = Replica::start(&postgres.url(), &[]).await;
    let agent = Agent::new();
    let seen = |sequence: i64| {
        message(agent.batch(sequence, vec![package(Presence::Present, "bash", &sequence.to_string())]))
    };
    let deliver = async |sequence: i64| {
        let request = IngestEventsRequest { messages: vec![seen(sequence)] };
        IngestServiceClient::new(replica.channel.clone()).ingest_events(request).await.is_ok()
    };
    assert!(deliver(1).await);
    let mut stream = watch_assets(&replica.channel, assets("")).await.unwrap();
    let mut fold = Fold::default();
    fold.sync(&mut stream).await;

    // The same database, after a crash: nothing is missed.
    postgres.stop_immediately().await;
    postgres.start_again().await;
    wait_until(DEADLINE, "the processor to deliver again", async || deliver(2).await).await;
    while fold.held.values().all(|asset| asset.revision < 2) {
        match answer(&mut stream).await {
            Ok(answer) => fold.take(answer),
            Err(status) => {
                // It was reading for itself just then.
                assert_eq!(ending(&status), ("WATCH_FAILED".to_owned(), fold.token.clone()));
                let again = WatchAssetsRequest { resume_token: fold.token.clone(), ..assets("") };
                stream = watch_assets(&replica.channel, again).await.unwrap();
            }
        }
    }

    // One that went another way since: what was told may never have happened.
    postgres.begin_timeline().await;
    let status = loop {
        let status = match answer(&mut stream).await {
            Ok(answer) => {
                fold.take(answer);
                continue;
            }
            Err(status) => status,
        };
        if status.code() != Code::Unavailable {
            break status;
        }
        let again = WatchAssetsRequest { resume_token: fold.token.clone(), ..assets("") };
        match watch_assets(&replica.channel, again).await {
            Ok(resumed) => stream = resumed,
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let again = WatchAssetsRequest { resume_token: fold.token, ..assets("") };
    let status = watch_assets(&replica.channel, again).await.unwrap_err();
    assert_eq!(ending(&status).0, "DATABASE_RESTORED", "{status:?}");
    let mut stream = watch_assets(&replica.channel, assets("")).await.unwrap();
    Fold::default().sync(&mut stream).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_dropped_or_a_dump_brought_is_out_of_range() {
    let database = Arc::new(Database::create().await);
    let client = database.connect().await;
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    let mut stream = watch_events(&running.channel, WatchEventsRequest::default()).await.unwrap();
    let old = synced(&mut stream).await.resume_token;
    for sequence in 1..=2 {
        let version = format!("1.{sequence}");
        running
            .deliver(vec![agent.batch(sequence, vec![package(Presence::Present, "bash", &version)])])
            .await;
    }
    while answer(&mut stream).await.unwrap().events.is_empty() {}
    running.stop().await;
    let age = "UPDATE asset_event SET record_time = record_time - interval '40 days'; \
         UPDATE asset SET update_time = update_time - interval '40 days'";
    client.batch_execute(age).await.unwrap();

    let running = Running::start_on(database.clone(), &["--retention-days", "30"]).await;
    wait_until(DEADLINE, "the old rows are dropped", async || logged(&running).await.is_empty()).await;
    let resume = WatchEventsRequest { resume_token: old.clone(), ..Default::default() };
    let status = watch_events(&running.channel, resume).await.unwrap_err();
    assert_eq!((status.code(), ending(&status).0.as_str()), (Code::OutOfRange, "OUT_OF_RETENTION"));
    let ago = |days: i64| {
        let now = kit::time::now();
        Some(prost_types::Timestamp { seconds: now.seconds - days * 86_400, nanos: 0 })
    };
    let from = |days| WatchEventsRequest { start_time: ago(days), ..Default::default() };
    let status = watch_events(&running.channel, from(50)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().starts_with("start_time: what was recorded before 20"), "{status:?}");
    running.deliver(vec![agent.batch(3, vec![package(Presence::Present, "bash", "1.3")])]).await;
    let mut stream = watch_events(&running.channel, from(30)).await.unwrap();
    let told = loop {
        let told = answer(&mut stream).await.unwrap().events;
        if !told.is_empty() {
            break told;
        }
    };
    assert_eq!(told.len(), 1, "{told:?}");
    running.stop().await;

    // Numbers of another system: what came with a dump is no news.
    client.batch_execute("UPDATE feed SET system_identifier = 7").await.unwrap();
    let running = Running::start_on(database, &[]).await;
    let status = watch_events(&running.channel, from(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let mut stream = watch_assets(&running.channel, assets("")).await.unwrap();
    let mut fold = Fold::default();
    fold.sync(&mut stream).await;
    running.deliver(vec![agent.batch(4, vec![package(Presence::Present, "bash", "1.4")])]).await;
    fold.equals_table(&running, &mut stream, "").await;
    assert_eq!(fold.held.len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_quiet_beats_and_ends_at_once_with_the_process() {
    let running = Running::start().await;
    let heartbeat_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = WatchAssetsRequest { heartbeat_interval, ..assets("kind=DISK") };
    let mut stream = watch_assets(&running.channel, request.clone()).await.unwrap();
    let mut fold = Fold::default();
    fold.sync(&mut stream).await;
    // What the filter does not hold moves the token all the same.
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    let first = fold.token.clone();
    wait_until(DEADLINE, "a heartbeat with another token", async || {
        let idle = answer(&mut stream).await.unwrap();
        assert_eq!(idle.r#type(), WatchResponseType::Heartbeat);
        fold.take(idle);
        fold.token != first
    })
    .await;
    assert!((running.metric("assettrack_watch_streams{what=\"assets\"}").await - 1.0).abs() < 0.1);
    let (other, _database) = (running.another().await, running.database.clone());
    let began = std::time::Instant::now();
    let stopping = tokio::spawn(running.stop());
    let status = loop {
        match answer(&mut stream).await {
            Ok(answer) => fold.take(answer),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), ending(&status)),
        (Code::Unavailable, ("SHUTTING_DOWN".to_owned(), fold.token.clone()))
    );
    stopping.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "the process waits for no watch");
    let request = WatchAssetsRequest { resume_token: fold.token.clone(), ..request };
    let mut stream = watch_assets(&other.channel, request).await.unwrap();
    fold.sync(&mut stream).await;
    other.stop().await;
}
