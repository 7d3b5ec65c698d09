//! The rules of the fold, one by one, and that the order of arrival does not matter.

use super::*;

const NODE: Uuid = Uuid::from_u128(1);
const ASSET: Uuid = Uuid::from_u128(2);

fn see(sequence: i64, presence: Presence, hash: u8) -> Observed {
    let details = if presence == Presence::Absent { Bytes::new() } else { vec![hash].into() };
    Observed {
        version: Version { stream_number: 1, sequence, index: 0 },
        stream: Uuid::nil(),
        current_stream: true,
        event: Uuid::from_u128(u128::from(sequence.unsigned_abs()) + 100),
        node: NODE,
        asset: ASSET,
        kind: AssetKind::Package,
        natural_key: "dpkg/x:all".into(),
        display_name: if presence == Presence::Absent { "".into() } else { "x".into() },
        presence,
        state_hash: details.clone(),
        details,
        attributes: "{}".into(),
        observe_time: None,
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

/// Folds calls one after the other, as the database would.
fn run(calls: &[Vec<Observed>]) -> (Option<Known>, Vec<Logged>) {
    let descriptors = Descriptors::default();
    let mut known: HashMap<Uuid, Known> = HashMap::new();
    let mut log = Vec::new();
    for (second, call) in calls.iter().enumerate() {
        let now = at(i64::try_from(second).unwrap());
        let folded = fold(known.clone(), call.clone(), now, &descriptors);
        for asset in folded.assets {
            known.insert(asset.asset, asset);
        }
        log.extend(folded.log);
    }
    (known.remove(&ASSET), log)
}

#[test]
fn a_life_is_told_in_revisions() {
    use Presence::{Absent, Listed, Present};
    let (known, log) = run(&[
        vec![see(1, Listed, 1)],
        vec![see(2, Present, 2)],
        vec![see(3, Absent, 0)],
        vec![see(4, Present, 2)],
    ]);
    let told: Vec<_> = log.iter().map(|row| (row.event_type, row.revision)).collect();
    use EventType::{Appeared, Changed, Removed};
    assert_eq!(told, [(Appeared, Some(1)), (Changed, Some(2)), (Removed, Some(3)), (Appeared, Some(4))]);
    let known = known.unwrap();
    assert_eq!((known.state, known.revision, known.remove_time), (AssetState::Active, 4, None));
    assert_eq!(known.first_seen_time, Some(at(0)));
}

#[test]
fn the_end_is_the_same_in_any_order() {
    use Presence::{Absent, Listed, Present};
    let named =
        |sequence, name: &str, hash| Observed { display_name: name.into(), ..see(sequence, Present, hash) };
    for steps in [
        [see(1, Present, 1), see(2, Present, 2), see(3, Absent, 0), see(4, Present, 4)],
        [named(1, "one", 1), see(2, Absent, 0), named(3, "three", 3), see(4, Absent, 0)],
        [see(1, Absent, 0), see(2, Listed, 2), see(3, Listed, 2), see(4, Absent, 0)],
    ] {
        let (expected, _) = run(&[steps.to_vec()]);
        let expected = expected.unwrap();
        for permutation in permutations(4) {
            let calls: Vec<_> = permutation.iter().map(|index| vec![steps[*index].clone()]).collect();
            let (known, log) = run(&calls);
            let known = known.unwrap();
            assert_eq!(
                (known.state, &known.details, &known.display_name, known.version, known.seen),
                (expected.state, &expected.details, &expected.display_name, expected.version, expected.seen),
                "{permutation:?}"
            );
            let revisions: Vec<_> = log.iter().filter_map(|row| row.revision).collect();
            assert_eq!(revisions, (1..=known.revision).collect::<Vec<_>>(), "{permutation:?}");
            let changes = steps.iter().filter(|step| step.presence != Listed).count();
            assert!(log.len() >= changes, "every event is in the log: {permutation:?}");
        }
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(n - 1) {
        for place in 0..=shorter.len() {
            let mut longer = shorter.clone();
            longer.insert(place, n - 1);
            all.push(longer);
        }
    }
    all
}

#[test]
fn a_listed_entry_that_is_known_is_no_event() {
    use Presence::{Listed, Present};
    let (known, log) = run(&[vec![see(1, Present, 7)], vec![see(2, Listed, 7)]]);
    let known = known.unwrap();
    assert_eq!((log.len(), known.revision, known.version.sequence), (1, 1, 2));
    let (known, log) = run(&[vec![see(1, Present, 7)], vec![see(2, Listed, 8)]]);
    assert_eq!((log.len(), known.unwrap().revision), (2, 2));
}

#[test]
fn an_older_stream_is_logged_and_changes_nothing() {
    use Presence::Present;
    let mut old = see(9, Present, 9);
    old.version.stream_number = 0;
    old.current_stream = false;
    let (known, log) = run(&[vec![old]]);
    assert_eq!((known, log[0].revision), (None, None));
}

#[test]
fn record_times_grow_though_the_clock_goes_back() {
    use Presence::Present;
    let descriptors = Descriptors::default();
    let first = fold(HashMap::new(), vec![see(1, Present, 1)], at(100), &descriptors);
    let known = first.assets.into_iter().map(|asset| (asset.asset, asset)).collect();
    let second = fold(known, vec![see(2, Present, 2)], at(50), &descriptors);
    assert!(second.log[0].record_time > at(100));
}

#[test]
fn a_snapshot_retires_what_it_did_not_list() {
    let (known, _) = run(&[vec![see(1, Presence::Present, 1)]]);
    let version = Version { stream_number: 2, sequence: 5, index: i32::MAX };
    let folded = retire(vec![known.unwrap()], Uuid::nil(), version, at(9));
    assert_eq!(folded.assets[0].state, AssetState::Removed);
    assert_eq!((folded.log[0].revision, folded.assets[0].version), (Some(2), version));
    assert_eq!(folded.assets[0].details, Some(vec![1].into()), "what was last seen stays");
}
