//! Processes that are killed at failpoints, and a rolling restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use contracts::v1::{ListEventsRequest, ListEventsResponse, event_service_client::EventServiceClient};
use rand::RngExt as _;
use testkit::{Service, wait_for};
use tonic::{Code, Status, transport::Endpoint};
use uuid::Uuid;

use crate::{
    bed::{Bed, Ground, PATIENCE},
    fleet::Fleet,
    oracle::check,
    row::{self, Run},
};

const FAILPOINT: &str = "ASSETTRACK_FAILPOINT";

fn kills(run: &Run) -> usize {
    if run.short { 3 } else { 10 }
}

/// Waits until a process dies at its failpoint.
async fn dies(service: &mut Service) {
    let ended =
        wait_for(PATIENCE, "the process to come to its failpoint", async || service.exit_status()).await;
    assert_eq!(ended.signal(), Some(9), "{ended}");
}

fn arm(run: &mut Run, places: &[&str], most: u32) -> String {
    let place = places[run.rng.random_range(0..places.len())];
    run.faults += 1;
    format!("{place}:{}", run.rng.random_range(1..=most))
}

async fn fresh(run: &mut Run, bed: &Bed, fleet: &Fleet, after: &str, since: Instant) {
    let took = bed.seen(&fleet.fresh(), since).await;
    run.recovered(after, took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_killed_around_its_commit_loses_and_doubles_nothing() {
    row::run("processor_killed", async |run| {
        let mut bed = Bed::start(Ground::default()).await;
        let fleet = bed.fleet(run.seed);
        fleet.confirms(run.rng.random_range(10..60)).await;
        bed.processor.kill();
        for _ in 0..kills(run) {
            bed.processor.set(FAILPOINT, &arm(run, &["commit_before", "commit_after"], 4));
            bed.processor.start();
            dies(&mut bed.processor).await;
            bed.processor.kill();
        }
        bed.processor.set(FAILPOINT, "");
        bed.processor.start();
        bed.processor_ready().await;
        fresh(run, &bed, &fleet, "the processor's last start", Instant::now()).await;
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_killed_around_its_acknowledgement_loses_and_doubles_nothing() {
    row::run("collector_killed", async |run| {
        let mut bed = Bed::start(Ground::default()).await;
        let fleet = bed.fleet(run.seed);
        fleet.confirms(run.rng.random_range(10..60)).await;
        for _ in 0..kills(run) {
            let which = run.rng.random_range(0..bed.collectors.len());
            let failpoint = arm(run, &["ack_before", "ack_after"], 6);
            let collector = &mut bed.collectors[which];
            collector.set(FAILPOINT, &failpoint);
            collector.restart();
            dies(collector).await;
            collector.kill();
            collector.set(FAILPOINT, "");
            collector.start();
        }
        fresh(run, &bed, &fleet, "the collectors' last start", Instant::now()).await;
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
    })
    .await;
}

/// A page of events through the gateway.
async fn page(bed: &Bed, token: &str) -> Result<ListEventsResponse, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", bed.gateway_address)).unwrap();
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = ListEventsRequest { page_size: 40, page_token: token.to_owned(), ..Default::default() };
    let mut client = EventServiceClient::new(channel);
    let asking = client.list_events(request);
    let answer = tokio::time::timeout(Duration::from_secs(10), asking).await;
    answer.map_err(|_| Status::deadline_exceeded("no answer"))?.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_on_without_a_gap_when_the_gateway_is_killed() {
    row::run("gateway_killed", async |run| {
        let mut bed = Bed::start(Ground::default()).await;
        let fleet = bed.fleet_with((run.seed, run.seed), 6, 0, Some(if run.short { 20 } else { 60 }));
        fleet.rounds_end().await;
        check(run, &bed, &[&fleet], 0).await;
        // The log stands still now, so that one walk over it must find all of it.
        let mut left = kills(run);
        bed.gateway.kill();
        let mut seen: BTreeMap<Uuid, usize> = BTreeMap::new();
        let (mut token, mut calls) = (String::new(), 0);
        loop {
            if !bed.gateway.is_running() {
                bed.gateway.kill();
                let failpoint =
                    if left > 0 { arm(run, &["forward_before", "forward_after"], 3) } else { String::new() };
                left = left.saturating_sub(1);
                bed.gateway.set(FAILPOINT, &failpoint);
                bed.gateway.start();
                bed.gateway_ready().await;
            }
            calls += 1;
            match page(&bed, &token).await {
                Ok(answer) => {
                    for event in answer.events {
                        let uid = event.name.trim_start_matches("events/").parse().unwrap();
                        *seen.entry(uid).or_default() += 1;
                    }
                    if answer.next_page_token.is_empty() {
                        break;
                    }
                    token = answer.next_page_token;
                }
                // A connection that breaks under a call is told as the transport's error.
                Err(status) => {
                    let broken = std::error::Error::source(&status).is_some();
                    run.holds(broken || status.code() == Code::Unavailable, || format!("a page: {status}"));
                }
            }
        }
        let events = bed.count("SELECT count(*) FROM asset_event").await;
        let walked = seen.len();
        run.holds(seen.values().all(|times| *times == 1) && i64::try_from(walked).unwrap() == events, || {
            format!("{walked} events in pages of {calls} calls, {events} in the log; some twice")
        });
        bed.gateway.set(FAILPOINT, "");
        bed.gateway.restart();
        let started = Instant::now();
        let once = bed.fleet_with((run.seed.wrapping_sub(1), run.seed), 1, 0, Some(0));
        fresh(run, &bed, &once, "the gateway's last start", started).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_nothing_and_fails_no_call_for_good() {
    row::run("rolling_restart", async |run| {
        let mut bed = Bed::start(Ground::default()).await;
        let fleet = bed.fleet(run.seed);
        fleet.confirms(run.rng.random_range(20..80)).await;
        let mut codes: BTreeSet<String> = BTreeSet::new();
        for turn in 0..if run.short { 1 } else { 3 } {
            let mut order = [0, 1, 2, 3];
            for place in (1..order.len()).rev() {
                order.swap(place, run.rng.random_range(0..=place));
            }
            for which in order {
                run.faults += 1;
                let (service, name) = match which {
                    0 => (&mut bed.processor, "processor"),
                    1 => (&mut bed.gateway, "gateway"),
                    other => (&mut bed.collectors[other - 2], "collector"),
                };
                let ended = service.stop(PATIENCE).await;
                run.holds(ended.success(), || format!("turn {turn}: the {name} ended with {ended}"));
                service.start();
                let started = Instant::now();
                fresh(run, &bed, &fleet, &format!("the restart of the {name}"), started).await;
                bed.all_ready().await;
                // Retried, a call succeeds; until then it says that it may be.
                wait_for(row::RECOVERY, "a call through the gateway", async || match page(&bed, "").await {
                    Ok(_) => Some(()),
                    Err(status) => {
                        codes.insert(format!("{:?}", status.code()));
                        None
                    }
                })
                .await;
            }
        }
        run.holds(codes.iter().all(|code| code == "Unavailable"), || format!("calls failed with {codes:?}"));
        check(run, &bed, &[&fleet], 0).await;
    })
    .await;
}
