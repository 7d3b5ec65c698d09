//! A thousand agents, each with a connection of its own, whose broker goes and
//! comes back.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use contracts::v1::AssetKind;
use serde_json::Value;
use testkit::{Service, private::Broker, wait_for, wait_until};

use crate::{
    bed::{Bed, Ground, PATIENCE},
    oracle::settled,
    row::{self, Run},
};

const AGENTS: i64 = 1000;
/// All agents must have spoken again by then after the broker's return: their
/// longest pause between two attempts, and half of it for the crowd at the door.
const BOUND: Duration = Duration::from_secs(45);
/// How long the agents live, the fault included.
const LIFETIME_SECONDS: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_agents_come_back_to_a_broker_that_was_killed() {
    row::run("broker_crowd", async |run| {
        if run.short {
            println!("SKIPPED broker_crowd: takes minutes; `cargo xtask faults` runs it");
            return;
        }
        let mut broker = Broker::start().await;
        let mut bed = Bed::start(Ground { amqp: Some(broker.url()), database: None }).await;
        let expect = tempfile::tempdir().unwrap();
        let path = expect.path().join("expect.json");
        let mut crowd = Service::new("assettrack")
            .env("ASSETTRACK_AMQP_URL", &broker.url())
            .env("ASSETTRACK_QUEUE_NAMESPACE", &bed.namespace)
            .arg("simulate");
        for (flag, value) in [
            ("--nodes", AGENTS.to_string()),
            ("--assets", "10".to_owned()),
            ("--churn", "0.03".to_owned()),
            ("--seed", run.seed.to_string()),
            ("--duration", LIFETIME_SECONDS.to_string()),
            ("--expect", path.display().to_string()),
        ] {
            crowd = crowd.arg(flag).arg(&value);
        }
        crowd = crowd.arg("--connection-per-node");
        crowd.start();
        let speaking = "SELECT count(*) FROM node WHERE heartbeat_time IS NOT NULL";
        wait_until(PATIENCE, "all agents to speak", async || {
            assert!(crowd.is_running(), "the simulation ended early: {}", crowd.log());
            bed.count(speaking).await == AGENTS
        })
        .await;

        run.faults += 1;
        broker.kill();
        broker.start_again().await;
        let since = Instant::now();
        let clock = bed.sql().await;
        let back: String = clock.query_one("SELECT now()::text", &[]).await.unwrap().get(0);
        let again = "SELECT count(*) FROM node WHERE heartbeat_time > $1::text::timestamptz";
        wait_for(PATIENCE, "all agents to speak again", async || {
            (clock.query_one(again, &[&back]).await.unwrap().get::<_, i64>(0) == AGENTS).then_some(())
        })
        .await;
        let took = since.elapsed();
        println!("  all {AGENTS} agents have spoken again after {:.1} s", took.as_secs_f64());
        run.recoveries.push(took);
        run.holds(took <= BOUND, || format!("the last of {AGENTS} agents came back after {took:?}"));

        // It ends by itself once its time is over and its outboxes are empty.
        let ended = wait_for(PATIENCE, "the simulation's end", async || crowd.exit_status()).await;
        run.holds(ended.success(), || format!("the simulation ended with {ended}"));
        bed.all_ready().await;
        settled(&bed).await;
        compare(run, &bed, &serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()).await;
    })
    .await;
}

/// What the simulation says must be known, against what is: the last sequence of
/// each node, and count and digest of each kind.
async fn compare(run: &mut Run, bed: &Bed, expected: &Value) {
    let client = bed.sql().await;
    let rows = client.query("SELECT node_uid::text, received::text FROM node_stream", &[]).await.unwrap();
    let received: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut known: BTreeMap<(String, String), (u64, u128)> = BTreeMap::new();
    let active = "SELECT node_uid::text, kind::integer, state_hash FROM asset WHERE state = 1";
    for row in client.query(active, &[]).await.unwrap() {
        let kind = AssetKind::try_from(row.get::<_, i32>(1)).unwrap().as_str_name().to_owned();
        let hash: Vec<u8> = row.get(2);
        let (count, sum) = known.entry((row.get(0), kind)).or_default();
        *count += 1;
        *sum = sum.wrapping_add(u128::from_be_bytes(hash.try_into().unwrap()));
    }
    let (mut wrong, mut made) = (0, BTreeMap::new());
    for node in expected["nodes"].as_array().unwrap() {
        let uid = node["node"].as_str().unwrap().to_owned();
        let whole = format!("{{[1,{})}}", node["last_sequence"].as_i64().unwrap() + 1);
        wrong += usize::from(received.get(&uid) != Some(&whole));
        for kind in node["kinds"].as_array().unwrap() {
            let count = kind["count"].as_u64().unwrap();
            let sum = u128::from_str_radix(kind["sum"].as_str().unwrap(), 16).unwrap();
            if count > 0 {
                made.insert((uid.clone(), kind["kind"].as_str().unwrap().to_owned()), (count, sum));
            }
        }
    }
    run.holds(wrong == 0, || format!("sequences are missing of {wrong} nodes"));
    run.holds(known == made, || {
        let differ = made.iter().filter(|(key, digest)| known.get(*key) != Some(digest)).count();
        format!("{differ} of {} kinds on nodes are not as simulated", made.len())
    });
    let events = bed.count("SELECT count(*) FROM asset_event").await;
    run.events += usize::try_from(events).unwrap();
    let doubled = bed.count("SELECT count(*) - count(DISTINCT event_uid) FROM asset_event").await;
    run.holds(doubled == 0, || format!("{doubled} events are doubled"));
    let letters = bed.count("SELECT count(*) FROM dead_letter").await;
    run.holds(letters == 0, || format!("{letters} dead letters"));
}
