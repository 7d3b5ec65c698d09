//! Content that is late, early, doubled, or wrong.

use std::collections::{BTreeMap, BTreeSet};

use contracts::v1::{AssetKind, DeadLetterReason, EventBatch, KernelModuleDetails, asset_details::Details};
use kit::queue::{MAX_BATCH_BYTES, SHARDS, shard};
use prost::Message as _;
use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    bed::{Bed, Ground},
    fleet::Parcel,
    load::Node,
    oracle::{check, settled},
    row,
};

const YEAR: i64 = 365 * 24 * 3600;

/// Everything observed of all assets with their versions, as one hash. What is
/// gone has only the version of when it was last there: whether its end or a
/// later snapshot retired it depends on the order of arrival.
async fn state(bed: &Bed) -> (String, BTreeSet<String>) {
    let query = "SELECT concat_ws('|', uid, natural_key, state, display_name, encode(details, 'hex'), attributes, \
                 encode(state_hash, 'hex'), stream_number, \
                 CASE WHEN state = 1 THEN concat(sequence, '.', batch_index) END, seen_sequence, \
                 seen_batch_index) FROM asset ORDER BY uid";
    let rows = bed.sql().await.query(query, &[]).await.unwrap();
    let rows: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut hash = Sha256::new();
    for row in &rows {
        hash.update(row);
        hash.update([0]);
    }
    (hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), rows)
}

/// What two states do not have in common, at most two rows of each.
fn difference(one: &BTreeSet<String>, other: &BTreeSet<String>) -> String {
    let only =
        |one: &BTreeSet<String>, other| one.difference(other).take(2).cloned().collect::<Vec<_>>().join("; ");
    format!("only before: {}; only after: {}", only(one, other), only(other, one))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_wrong_by_a_year_change_no_state() {
    row::run("clock_skew", async |run| {
        let bed = Bed::start(Ground::default()).await;
        let rounds = Some(if run.short { 30 } else { 150 });
        run.faults += 2;
        let fleets = [0, -YEAR, YEAR].map(|skew| {
            let identity = run.seed.wrapping_mul(31).wrapping_add(skew.cast_unsigned());
            bed.fleet_with((identity, run.seed), 3, skew, rounds)
        });
        for fleet in &fleets {
            fleet.rounds_end().await;
        }
        check(run, &bed, &[&fleets[0], &fleets[1], &fleets[2]], 0).await;
        // The oracle has compared each with its model; the models are one.
        let [right, behind, ahead] = fleets
            .each_ref()
            .map(|fleet| fleet.nodes().into_iter().map(|node| node.assets).collect::<Vec<_>>());
        run.holds(right == behind && right == ahead, || "the final states differ".to_owned());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_again_three_times_in_any_order_changes_nothing() {
    row::run("replay", async |run| {
        let bed = Bed::start(Ground::default()).await;
        let rounds = if run.short { 25 } else { 120 };
        let fleet = bed.fleet_with((run.seed, run.seed), 6, 0, Some(rounds));
        fleet.rounds_end().await;
        check(run, &bed, &[&fleet], 0).await;
        let before = state(&bed).await;

        let mut again: Vec<Parcel> = Vec::new();
        for _ in 0..3 {
            again.extend(fleet.sent());
        }
        run.faults += again.len();
        again.shuffle(&mut run.rng);
        fleet.put(again.iter().cloned());
        check(run, &bed, &[&fleet], 0).await;
        let after = state(&bed).await;
        run.holds(before.0 == after.0, || difference(&before.1, &after.1));

        // The same on nothing: the order of arrival makes no difference.
        let empty = Bed::start(Ground::default()).await;
        let other = empty.fleet_with((run.seed, run.seed), 0, 0, Some(0));
        again.shuffle(&mut run.rng);
        other.put(again);
        other.end().await;
        settled(&empty).await;
        let shuffled = state(&empty).await;
        run.holds(before.0 == shuffled.0, || {
            format!("in another order the state is another: {}", difference(&before.1, &shuffled.1))
        });
        println!("  the state's hash is {}", before.0);
    })
    .await;
}

/// What is wrong with a message, and the reason that it must get.
const POISONS: [(&str, DeadLetterReason); 9] = [
    ("undecodable", DeadLetterReason::Undecodable),
    ("wrongly compressed", DeadLetterReason::Undecodable),
    ("oversize", DeadLetterReason::TooLarge),
    ("unknown version", DeadLetterReason::UnknownVersion),
    ("NUL", DeadLetterReason::InvalidField),
    ("impossible time", DeadLetterReason::InvalidField),
    ("foreign shard", DeadLetterReason::InvalidNode),
    ("foreign header", DeadLetterReason::InvalidNode),
    ("no identity", DeadLetterReason::InvalidNode),
];

fn poison(which: &str, rng: &mut StdRng) -> Parcel {
    // A node of its own: what is wrong takes no other's sequence.
    let mut node = Node::new(rng.random(), rng.random(), 0);
    let mut batch = node.fresh("poisoned");
    let good = Parcel::of(&batch, node.published_millis());
    let with = |batch: &EventBatch| Parcel { body: batch.encode_to_vec(), ..good.clone() };
    match which {
        "undecodable" => Parcel { body: rng.random::<[u8; 32]>().map(|byte| byte | 0x80).to_vec(), ..good },
        "wrongly compressed" => {
            Parcel { properties: good.properties.clone().with_content_encoding("zstd".into()), ..good }
        }
        "oversize" => {
            let details = batch.observations[0].details.as_mut().unwrap();
            details.details = Some(Details::KernelModule(KernelModuleDetails {
                module: "x".repeat(MAX_BATCH_BYTES),
                ..Default::default()
            }));
            with(&batch)
        }
        "unknown version" => {
            batch.schema_version = 2 + rng.random_range(0..100);
            with(&batch)
        }
        "NUL" => {
            let details = batch.observations[0].details.as_mut().unwrap();
            details.details = Some(Details::KernelModule(KernelModuleDetails {
                module: format!("a\0{}", rng.random::<u32>()),
                ..Default::default()
            }));
            with(&batch)
        }
        "impossible time" => {
            batch.observations[0].observe_time.as_mut().unwrap().seconds = 253_402_300_800;
            with(&batch)
        }
        "foreign shard" => {
            Parcel { key: format!("shard.{}.{}", (shard(node.seen.uid) + 1) % SHARDS, node.seen.uid), ..good }
        }
        "foreign header" => Parcel { body: good.body.clone(), ..of_another(&batch, rng) },
        "no identity" => {
            batch.node = None;
            batch.observations[0].kind = AssetKind::KernelModule.into();
            with(&batch)
        }
        other => panic!("{other}"),
    }
}

/// Headers and key of another node.
fn of_another(batch: &EventBatch, rng: &mut StdRng) -> Parcel {
    let mut other = batch.clone();
    other.node.as_mut().unwrap().uid = Uuid::from_u128(rng.random()).to_string();
    Parcel::of(&other, 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_poisoned_messages_only_the_bad_become_dead_letters() {
    row::run("poison", async |run| {
        let bed = Bed::start(Ground::default()).await;
        // Six messages a round, more with snapshots and doubles: one in 500 is bad, in a short run one in 40.
        let rounds_each = if run.short { 6 } else { 76 };
        let fleet = bed.fleet_with((run.seed, run.seed), 6, 0, None);
        let mut expected: BTreeMap<i16, i64> = BTreeMap::new();
        let mut kinds = POISONS;
        kinds.shuffle(&mut run.rng);
        for (which, reason) in kinds {
            fleet.reports(rounds_each).await;
            fleet.put([poison(which, &mut run.rng)]);
            *expected.entry(i16::try_from(reason as i32).unwrap()).or_default() += 1;
            run.faults += 1;
        }
        check(run, &bed, &[&fleet], i64::try_from(POISONS.len()).unwrap()).await;
        let rows =
            bed.sql().await.query("SELECT reason, count(*) FROM dead_letter GROUP BY 1", &[]).await.unwrap();
        let found: BTreeMap<i16, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        run.holds(found == expected, || format!("reasons {found:?}, must be {expected:?}"));
        println!("  {} bad among {} others", run.faults, fleet.sent().len());
    })
    .await;
}
