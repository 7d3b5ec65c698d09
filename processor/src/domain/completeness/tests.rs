use super::*;

const STREAM: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const DISK: i16 = 2;
const PACKAGE: i16 = 5;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn digest(count: u64, sum: u128) -> Digest {
    Digest { count, sum }
}

fn point(second: i64, sequence: i64) -> Point {
    Point { time: at(second), stream: STREAM, sequence }
}

fn beat(second: i64, sequence: i64, digests: &[(i16, Digest)]) -> Compared {
    Compared { at: point(second, sequence), digests: digests.iter().copied().collect() }
}

fn recorded(digests: &[(i16, Digest)]) -> Recorded {
    Recorded { digests: digests.iter().copied().collect(), ..Recorded::default() }
}

#[test]
fn only_what_is_exactly_as_of_the_same_sequence_is_compared() {
    let current =
        |next_sequence, whole| CurrentStream { stream: STREAM, next_sequence, whole, receive_time: at(100) };
    for (recorded, stream, sequence, comparable) in [
        (current(5, true), STREAM, 4, true),
        (current(1, true), STREAM, 0, true),
        (current(5, true), OTHER, 4, false),
        (current(5, true), STREAM, 5, false),
        (current(5, true), STREAM, 3, false),
        (current(5, false), STREAM, 4, false),
    ] {
        let found = recorded.is_exactly(stream, sequence);
        assert_eq!(found, comparable, "{recorded:?} {stream} {sequence}");
    }
}

#[test]
fn an_agent_went_back_only_if_no_old_heartbeat_can_say_so() {
    let current = CurrentStream { stream: STREAM, next_sequence: 5, whole: true, receive_time: at(100) };
    for (stream, sequence, second, back) in [
        (STREAM, 3, 146, true),
        (STREAM, 3, 145, false),
        (STREAM, 4, 146, false),
        (STREAM, 9, 146, false),
        (OTHER, 3, 146, false),
    ] {
        let found = current.went_back(stream, sequence, at(second), TimeDelta::seconds(45));
        assert_eq!(found, back, "{stream} {sequence} {second}");
    }
}

#[test]
fn the_back_off_doubles_up_to_an_hour() {
    assert!(may_ask(at(0), None, 0));
    for (count, minutes) in
        [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (64, 60), (65, 60), (i32::MAX, 60)]
    {
        let after = |seconds: i64| may_ask(at(1_000_000 + seconds), Some(at(1_000_000)), count);
        assert!(!after(0), "{count}");
        assert!(!after(minutes * 60 - 1), "{count}");
        assert!(after(minutes * 60), "{count}");
        assert!(after(-1), "the clock was put back");
    }
}

#[test]
fn equal_digests_leave_no_gap_and_different_ones_are_asked_for_at_once() {
    let told = beat(10, 4, &[(DISK, digest(1, 7)), (PACKAGE, digest(2, 9)), (8, digest(0, 0))]);
    let equal = compare(at(10), &told, &recorded(&[(DISK, digest(1, 7)), (PACKAGE, digest(2, 9))]));
    assert_eq!(equal, Comparison::default(), "none of a kind is (0, 0)");
    assert!(equal.is_equal());

    for wrong in [digest(2, 8), digest(1, 9), Digest::default()] {
        let found = compare(at(10), &told, &recorded(&[(DISK, digest(1, 7)), (PACKAGE, wrong)]));
        assert_eq!(found.resync, [PACKAGE]);
        assert!(!found.is_equal());
        let asked = Some(Asked { at: point(10, 4), count: 1 });
        let gap = Gap { different: true, count: wrong.count, complete: None, asked };
        assert_eq!(found.gaps, BTreeMap::from([(PACKAGE, gap)]));
    }
}

#[test]
fn a_kind_that_is_not_scanned_is_unknown_and_not_asked_for() {
    let told = beat(10, 4, &[(DISK, digest(1, 7))]);
    let here = recorded(&[(DISK, digest(1, 7)), (PACKAGE, digest(2, 9)), (8, digest(0, 0))]);
    assert_eq!(compare(at(10), &told, &here), Comparison::default(), "there is nothing to keep of it");
    // It was complete in the stream before: that is kept.
    let before = beat(5, 90, &[(PACKAGE, digest(2, 9))]);
    let found = compare(at(10), &told, &Recorded { compared: Some(before), ..here });
    let gap = Gap { different: false, count: 2, complete: Some(point(5, 90)), asked: None };
    assert_eq!(found, Comparison { gaps: BTreeMap::from([(PACKAGE, gap)]), resync: Vec::new() });
    assert!(found.is_equal());
}

/// The gap after beats at these seconds, all different, and when it was asked.
fn beats(seconds: impl Iterator<Item = i64>, mut state: Recorded) -> (Recorded, Vec<i64>) {
    let mut asked = Vec::new();
    for second in seconds {
        let told = beat(second, second, &[(PACKAGE, digest(1, 1))]);
        let found = compare(at(second), &told, &state);
        asked.extend(found.resync.iter().map(|_| second));
        state = Recorded { gaps: found.gaps, compared: Some(told), ..state };
    }
    (state, asked)
}

#[test]
fn a_difference_that_stays_is_asked_for_less_and_less() {
    let start = Recorded { compared: Some(beat(0, 1, &[(PACKAGE, digest(0, 0))])), ..Recorded::default() };
    let (state, asked) = beats((15..1000).step_by(15), start);
    assert_eq!(asked, [15, 75, 195, 435, 915]);
    let gap = state.gaps[&PACKAGE];
    assert_eq!(gap.complete, Some(point(0, 1)), "as of when it was complete stays");
    assert_eq!(gap.asked.unwrap().count, 5);
    // Equal once, and the next difference begins anew.
    let equal = Recorded { digests: Digests::from([(PACKAGE, digest(1, 1))]), ..state };
    let told = beat(1005, 1005, &[(PACKAGE, digest(1, 1))]);
    assert_eq!(compare(at(1005), &told, &equal), Comparison::default());
    let (_, asked) =
        beats((1020..1100).step_by(15), Recorded { compared: Some(told), ..Recorded::default() });
    assert_eq!(asked, [1020, 1080]);
}

#[test]
fn what_is_dead_lettered_is_not_asked_for_again_until_something_changes() {
    let gap =
        Gap { different: true, count: 0, complete: None, asked: Some(Asked { at: point(0, 10), count: 1 }) };
    let with = |waived: &[(i64, &[i16])]| Recorded {
        gaps: BTreeMap::from([(PACKAGE, gap)]),
        waived: waived
            .iter()
            .map(|(sequence, kinds)| Waived { sequence: *sequence, kinds: kinds.to_vec() })
            .collect(),
        ..Recorded::default()
    };
    let told = |stream| {
        let mut told = beat(7200, 20, &[(PACKAGE, digest(1, 1))]);
        told.at.stream = stream;
        told
    };
    let is_asked = |state: &Recorded, stream| !compare(at(7200), &told(stream), state).resync.is_empty();
    for (waived, asked) in [
        (&[] as &[(i64, &[i16])], true),
        (&[(11, &[PACKAGE])], false),
        (&[(11, &[])], false),
        (&[(11, &[DISK])], true),
        (&[(11, &[DISK]), (12, &[DISK, PACKAGE])], false),
        (&[(10, &[PACKAGE])], true),
        (&[(9, &[])], true),
    ] {
        assert_eq!(is_asked(&with(waived), STREAM), asked, "{waived:?}");
        assert!(is_asked(&with(waived), OTHER), "a new stream is a new state: {waived:?}");
    }
    // The first listing is asked for, whatever was waived before.
    let never_asked = Recorded { gaps: BTreeMap::new(), ..with(&[(11, &[])]) };
    assert!(is_asked(&never_asked, STREAM));
}

#[test]
fn what_is_told_of_kinds_is_what_the_newest_comparison_showed() {
    use Completeness::{Complete, Incomplete, Unknown};
    let told = beat(10, 4, &[(DISK, digest(3, 7)), (PACKAGE, digest(2, 9))]);
    let reported = Digests::from([(DISK, digest(4, 8)), (PACKAGE, digest(2, 9)), (8, digest(1, 1))]);
    let active = BTreeMap::from([(DISK, 3), (PACKAGE, 1), (9, 6), (11, 0)]);
    let gap = Gap { different: true, count: 1, complete: Some(point(5, 2)), asked: None };
    let gaps = BTreeMap::from([(PACKAGE, gap)]);
    let states = kinds(true, &reported, &active, Some(&told), &gaps);
    let shown: Vec<_> = states
        .iter()
        .map(|state| (state.kind, state.completeness, state.complete, state.count, state.reported_count))
        .collect();
    assert_eq!(
        shown,
        [
            (DISK, Complete, Some(point(10, 4)), 3, 4),
            (PACKAGE, Incomplete, Some(point(5, 2)), 1, 2),
            (8, Unknown, None, 0, 1),
            (9, Unknown, None, 6, 0),
        ]
    );
    assert_eq!(together(&states), (Incomplete, None));
    assert_eq!(together(&states[..2]), (Incomplete, Some(at(5))), "the oldest of its kinds");
    assert_eq!(together(&states[..1]), (Complete, Some(at(10))));
    assert_eq!(together(&states[2..]), (Unknown, None));
    assert_eq!(together(&[]), (Unknown, None));
    let stale = kinds(false, &reported, &active, Some(&told), &gaps);
    assert!(stale.iter().all(|state| state.completeness == Unknown));
    assert_eq!(stale[0].complete, Some(point(10, 4)), "as of when it was complete stays");
}
