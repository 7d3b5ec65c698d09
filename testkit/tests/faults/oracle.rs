//! The one oracle: what must hold after any fault, once all is drained.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    time::Duration,
};

use futures::FutureExt as _;
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use testkit::{wait_for, wait_until};
use uuid::Uuid;

use crate::{
    bed::{Bed, PATIENCE, QUEUES},
    fleet::Fleet,
    load::Expected,
    row::Run,
};

/// Ends the fleets' reports, waits until everything has arrived, and checks the
/// standing invariants:
///
/// - every confirmed event is in the log exactly once, and nothing else is;
/// - each asset is what its newest observation by version says;
/// - no sequence is missing;
/// - so many dead letters as there should be, and no more;
/// - no connection stays idle in a transaction.
pub async fn check(run: &mut Run, bed: &Bed, fleets: &[&Fleet], dead_letters: i64) {
    for fleet in fleets {
        fleet.end().await;
    }
    let mut nodes: Vec<_> = fleets.iter().flat_map(|fleet| fleet.nodes()).collect();
    nodes.sort_by_key(|node| node.uid);
    let uids: Vec<String> = nodes.iter().map(|node| node.uid.to_string()).collect();
    let must: BTreeSet<Uuid> = nodes.iter().flat_map(|node| node.events.iter().copied()).collect();
    arrived(run, bed, &uids, must.len()).await;
    settled(bed).await;

    let client = bed.sql().await;
    // What has no time of observation was found by a snapshot, not told.
    let told = "SELECT event_uid::text FROM asset_event WHERE observe_time IS NOT NULL \
                AND node_uid::text = ANY($1)";
    let mut logged: BTreeMap<Uuid, usize> = BTreeMap::new();
    for row in client.query(told, &[&uids]).await.unwrap() {
        *logged.entry(row.get::<_, String>(0).parse().unwrap()).or_default() += 1;
    }
    run.events += logged.len();
    let may: BTreeSet<Uuid> = nodes.iter().flat_map(|node| node.listed.iter().copied()).collect();
    let missing = must.iter().filter(|event| !logged.contains_key(event)).count();
    run.holds(missing == 0, || format!("{missing} of {} events are not in the log", must.len()));
    let doubled = bed.count("SELECT count(*) - count(DISTINCT event_uid) FROM asset_event").await;
    run.holds(doubled == 0, || format!("{doubled} events are in the log more than once"));
    let foreign = logged.keys().filter(|event| !must.contains(event) && !may.contains(event)).count();
    run.holds(foreign == 0, || format!("{foreign} events in the log were never published"));

    for node in &nodes {
        let rows = client
            .query(
                "SELECT natural_key, state, attributes #>> '{details,kernel_module,version}', sequence, \
                 batch_index FROM asset WHERE node_uid = $1::text::uuid",
                &[&node.uid.to_string()],
            )
            .await
            .unwrap();
        let stored: BTreeMap<String, Expected> = rows
            .iter()
            .map(|row| {
                let asset = Expected {
                    state: row.get(1),
                    version: row.get(2),
                    sequence: row.get(3),
                    index: row.get(4),
                };
                (row.get(0), asset)
            })
            .collect();
        let differ: Vec<_> = node
            .assets
            .iter()
            .filter(|(key, asset)| !stored.get(*key).is_some_and(|row| asset.is(row)))
            .map(|(key, asset)| format!("{key} is {:?}, must be {asset:?}", stored.get(key)))
            .collect();
        run.holds(differ.is_empty() && stored.len() == node.assets.len(), || {
            let (found, made) = (stored.len(), node.assets.len());
            let first = differ.first().cloned().unwrap_or_default();
            format!("{} assets are not the fold, {found} of {made} are there; {first}", differ.len())
        });
        let received = "SELECT received::text FROM node_stream WHERE node_uid = $1::text::uuid";
        let rows = client.query(received, &[&node.uid.to_string()]).await.unwrap();
        let ranges: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let whole = format!("{{[1,{})}}", node.sequence + 1);
        run.holds(node.sequence == 0 || ranges == [whole], || {
            format!("received {ranges:?} of {} sequences", node.sequence)
        });
    }
    let letters = bed.count("SELECT count(*) FROM dead_letter").await;
    run.holds(letters == dead_letters, || format!("{letters} dead letters, must be {dead_letters}"));
    idle(run, bed).await;
}

/// Waits until so many events of these nodes are in the log; which are missing in
/// the end is found by the comparison.
async fn arrived(run: &mut Run, bed: &Bed, nodes: &Vec<String>, events: usize) {
    let client = bed.sql().await;
    let goal = i64::try_from(events).unwrap();
    let count = "SELECT count(DISTINCT event_uid) FROM asset_event WHERE observe_time IS NOT NULL \
                 AND node_uid::text = ANY($1)";
    let waiting = wait_for(PATIENCE, "every event in the log", async || {
        (client.query_one(count, &[nodes]).await.unwrap().get::<_, i64>(0) >= goal).then_some(())
    });
    let came = AssertUnwindSafe(waiting).catch_unwind().await;
    run.holds(came.is_ok(), || "not every event came into the log in time".to_owned());
}

/// Waits until neither a queue nor a collector holds a message, looked at twice:
/// what is on its way from the broker is in neither place.
pub async fn settled(bed: &Bed) {
    let (_connection, channel) = wait_for(PATIENCE, "the broker", async || bed.broker_channel().await).await;
    let topology = kit::queue::Topology::new(&bed.namespace);
    let mut quiet = 0;
    wait_until(PATIENCE, "nothing left to deliver", async || {
        let mut waiting = 0;
        for index in 0..QUEUES {
            let options = QueueDeclareOptions::durable().passive();
            let name = topology.event_queue(index);
            let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
            waiting += queue.message_count();
        }
        let held = held(bed).await;
        quiet = if waiting == 0 && held == Some(0) { quiet + 1 } else { 0 };
        quiet > 3
    })
    .await;
}

/// Messages that collectors hold, if both say so.
async fn held(bed: &Bed) -> Option<u64> {
    let overview = bed.try_get("/v1/overview").await?;
    let collectors = overview["collectors"].as_array()?;
    if collectors.len() != bed.collectors.len() {
        return None;
    }
    // 64-bit numbers are strings in JSON; 0 is left out.
    let count = |text: &str| text.parse::<u64>().unwrap();
    Some(collectors.iter().map(|one| one["inFlightMessages"].as_str().map_or(0, count)).sum())
}

/// A statement may be between two others of a transaction; not for long.
async fn idle(run: &mut Run, bed: &Bed) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND state LIKE 'idle in transaction%' AND now() - state_change > interval '2 s'";
    let waiting = wait_until(Duration::from_secs(3), "no connection idle in a transaction", async || {
        bed.count(query).await == 0
    });
    let came = AssertUnwindSafe(waiting).catch_unwind().await;
    run.holds(came.is_ok(), || "a connection stays idle in a transaction".to_owned());
}
