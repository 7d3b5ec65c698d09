use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;

fn plan(assets: u32, batch_size: usize, rate: f64) -> Arc<Plan> {
    Arc::new(Plan {
        seed: 11,
        assets,
        batch_size,
        duplicate_rate: rate,
        reorder_rate: rate,
        corrupt_rate: rate,
        cluster: "sim".to_owned(),
    })
}

fn all(agent: &mut Agent) -> Vec<Parcel> {
    std::iter::from_fn(|| agent.next()).collect()
}

/// What a processor makes of messages, in whatever order they come: the state
/// hash of each asset that is there, by kind and key.
fn fold(parcels: &[Parcel]) -> BTreeMap<(i32, String), Vec<u8>> {
    let batches: BTreeMap<i64, EventBatch> = parcels
        .iter()
        .filter(|parcel| parcel.content != Content::Corrupt)
        .map(|parcel| (parcel.sequence, EventBatch::decode(parcel.body.as_slice()).unwrap()))
        .collect();
    let mut assets = BTreeMap::new();
    for observation in batches.into_values().flat_map(|batch| batch.observations) {
        let key = (observation.kind, observation.natural_key);
        if observation.presence == i32::from(Presence::Absent) {
            assets.remove(&key);
        } else {
            assets.insert(key, observation.state_hash);
        }
    }
    assets
}

fn digests(assets: &BTreeMap<(i32, String), Vec<u8>>) -> BTreeMap<i32, Digest> {
    let mut digests: BTreeMap<i32, Digest> = BTreeMap::new();
    for ((kind, _), hash) in assets {
        digests.entry(*kind).or_default().add(&hash.as_slice().try_into().unwrap());
    }
    digests
}

fn told(agent: &Agent) -> BTreeMap<i32, Digest> {
    let there = agent.digests().filter(|(_, digest)| digest.count > 0);
    there.map(|(kind, digest)| (kind.into(), digest)).collect()
}

#[test]
fn digests_are_those_of_what_was_told() {
    for (assets, batch_size, rate) in [(1, 1, 0.0), (30, 7, 0.0), (700, 500, 0.0), (400, 20, 0.2)] {
        let mut agent = Agent::new(plan(assets, batch_size, rate), 3);
        let mut parcels = all(&mut agent);
        assert_eq!(digests(&fold(&parcels)), told(&agent), "listed");
        agent.change_rounds(60);
        parcels.extend(all(&mut agent));
        assert_eq!(digests(&fold(&parcels)), told(&agent), "changed");
        agent.change(25);
        parcels.extend(all(&mut agent));
        assert_eq!(digests(&fold(&parcels)), told(&agent), "changed a little");
        let there: u64 = told(&agent).values().map(|digest| digest.count).sum();
        assert_eq!(there, agent.assets().count() as u64);
        let hashes: BTreeSet<Vec<u8>> =
            agent.assets().map(|(kind, asset)| hash_of(kind, &asset).to_vec()).collect();
        assert_eq!(hashes, fold(&parcels).into_values().collect());
        assert!(!agent.is_busy());
    }
}

#[test]
fn sequences_have_no_gaps_and_snapshots_span_their_batches() {
    let mut agent = Agent::new(plan(2000, 100, 0.0), 0);
    let parcels = all(&mut agent);
    let sequences: Vec<i64> = parcels.iter().map(|parcel| parcel.sequence).collect();
    assert_eq!(sequences, (1..=i64::try_from(parcels.len()).unwrap()).collect::<Vec<_>>());
    let mut ended = BTreeSet::new();
    let mut began: HashMap<i32, i64> = HashMap::new();
    for parcel in &parcels {
        let batch = EventBatch::decode(parcel.body.as_slice()).unwrap();
        assert_eq!((batch.sequence, batch.stream), (parcel.sequence, parcel.stream.to_string()));
        for observation in &batch.observations {
            assert!(!ended.contains(&observation.kind), "told after its end");
            began.entry(observation.kind).or_insert(batch.sequence);
        }
        for snapshot in &batch.snapshots {
            assert_eq!(snapshot.first_sequence, began[&snapshot.kind]);
            assert_eq!(snapshot.last_sequence, batch.sequence);
            assert!(ended.insert(snapshot.kind));
        }
    }
    assert_eq!(ended.len(), began.len());
    assert_eq!(agent.made().listed, 2000);
}

#[test]
fn the_same_settings_give_the_same_messages_and_another_seed_gives_others() {
    let run = |seed| {
        let plan = Plan { seed, ..(*plan(300, 20, 0.1)).clone() };
        let mut agent = Agent::new(Arc::new(plan), 1);
        agent.change_rounds(20);
        all(&mut agent)
    };
    // But for the time at which it was seen.
    let identities = |parcels: &[Parcel]| -> Vec<(Uuid, i64, usize)> {
        parcels.iter().map(|parcel| (parcel.message_id, parcel.sequence, parcel.body.len())).collect()
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(fold(&one), fold(&again));
    assert_eq!(one.len(), again.len());
    let ids = |parcels: &[Parcel]| identities(parcels).into_iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(ids(&one), ids(&again));
    assert_ne!(ids(&one), ids(&other));
}

#[test]
fn a_later_run_goes_on_where_an_earlier_one_ended() {
    let mut whole = Agent::new(plan(300, 20, 0.1), 1);
    let mut first = all(&mut whole);
    whole.change_rounds(10);
    first.extend(all(&mut whole));
    whole.change_rounds(5);
    let rest = all(&mut whole);

    let mut later = Agent::new(plan(300, 20, 0.1), 1);
    later.skip();
    later.change_rounds(10);
    later.skip();
    later.change_rounds(5);
    let resumed = all(&mut later);
    let keys = |parcels: &[Parcel]| -> Vec<(i64, Uuid)> {
        parcels.iter().map(|parcel| (parcel.sequence, parcel.message_id)).collect()
    };
    assert_eq!(keys(&rest), keys(&resumed));
    assert_eq!(told(&whole), told(&later));
}

#[test]
fn rates_are_kept_and_nothing_is_lost_by_them() {
    let mut agent = Agent::new(plan(500, 10, 0.2), 2);
    agent.change_rounds(2000);
    let parcels = all(&mut agent);
    let made = agent.made();
    let sent: Vec<&Parcel> = parcels.iter().filter(|parcel| parcel.content != Content::Corrupt).collect();
    assert_eq!(sent.len() as u64, made.batches + made.duplicates);
    let last = agent.sequence().cast_unsigned();
    assert_eq!(made.batches + made.corrupted, last, "each sequence is used");
    let sequences: BTreeSet<i64> = parcels.iter().map(|parcel| parcel.sequence).collect();
    assert_eq!(sequences.len() as u64, last);
    for (what, count) in
        [("duplicates", made.duplicates), ("reordered", made.reordered), ("corrupted", made.corrupted)]
    {
        assert!((150..650).contains(&count), "{what}: {count} of {}", made.batches);
    }
    let mut newest = 0;
    let mut overtaken = BTreeSet::new();
    for parcel in &sent {
        if parcel.sequence < newest && parcel.sequence + 1 < newest {
            overtaken.insert(parcel.sequence);
        }
        newest = newest.max(parcel.sequence);
    }
    assert!(!overtaken.is_empty(), "some come late");
}

#[test]
fn a_new_stream_begins_anew_and_a_resync_lists_what_is_there() {
    let mut agent = Agent::new(plan(300, 50, 0.0), 1);
    agent.change_rounds(30);
    agent.skip();
    let (stream, known) = (agent.stream(), told(&agent));
    agent.resync(&[AssetKind::Package]);
    let listed = all(&mut agent);
    let packages = i32::from(AssetKind::Package);
    assert_eq!(digests(&fold(&listed)), BTreeMap::from([(packages, known[&packages])]));
    agent.new_stream();
    let anew = all(&mut agent);
    assert_ne!(agent.stream(), stream);
    assert_eq!(anew[0].sequence, 1);
    assert_eq!(digests(&fold(&anew)), known);
    assert_eq!(told(&agent), known);
}

#[test]
fn heartbeats_have_the_digests_of_what_was_listed_whole() {
    let mut agent = Agent::new(plan(300, 50, 0.0), 1);
    let decode = |parcel: Parcel| Heartbeat::decode(parcel.body.as_slice()).unwrap();
    let first = decode(agent.heartbeat(15, 0, 0));
    assert_eq!((first.last_sequence, first.digests.len()), (0, 0));
    agent.next();
    let second = decode(agent.heartbeat(15, 1, 2));
    assert_eq!((second.last_sequence, second.outbox_batches, second.outbox_bytes), (1, 1, 2));
    assert!(second.digests.len() < 21);
    agent.skip();
    let last = decode(agent.heartbeat(15, 0, 0));
    assert_eq!(last.digests.len(), 21);
    assert_eq!(last.last_sequence, agent.sequence());
    let digests: BTreeMap<i32, u64> = last.digests.iter().map(|digest| (digest.kind, digest.count)).collect();
    let expected: BTreeMap<i32, u64> =
        told(&agent).into_iter().map(|(kind, digest)| (kind, digest.count)).collect();
    assert_eq!(digests, expected);
}
