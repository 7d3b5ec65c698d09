use super::*;
use crate::probe::Signal;
use kit::metrics::Metrics;

/// Runs one probe that takes `cost` of a processor under events each `every`
/// for a while, on a clock of its own; answers with the starts.
fn storm(every: Duration, cost: Duration, length: Duration) -> Vec<Duration> {
    let probe = Probe::new("any", AssetKind::Disk, Cadence::Full, &[], |_| Ok(Scan::default()))
        .woken_by(&[Signal::Containers]);
    let wakes = Wakes::new(&[probe], AgentMetrics::new(&Metrics::default()));
    let sender = wakes.sender();
    let begin = Instant::now();
    let (mut slot, mut starts) = (Slot::new(begin), Vec::new());
    let (mut now, mut event) = (begin, begin);
    while now < begin + length {
        while event <= now {
            sender.signal_at(Signal::Containers, event);
            event += every;
        }
        if let Some(since) = slot.running {
            if now >= since + cost {
                slot.running = None;
                slot.costs(now, Cost { cpu: cost, wall: cost });
            }
        } else {
            let (at, cause) = slot.next_start(Duration::from_secs(3600), wakes.ready(0));
            if at <= now {
                wakes.take(0);
                slot.starts(now, cause, 1.0);
                starts.push(now.duration_since(begin));
            }
        }
        now += Duration::from_millis(1);
    }
    starts
}

#[test]
fn a_storm_of_events_never_runs_a_probe_back_to_back() {
    let minutes = Duration::from_secs(300);
    for (cost, most) in [(0, 300 / 2 + 1), (10, 300 / 2 + 1), (100, 300 / 5 + 1), (1_000, 300 / 50 + 1)] {
        let cost = Duration::from_millis(cost);
        let starts = storm(Duration::from_millis(3), cost, minutes);
        assert!(starts.len() <= most, "{cost:?}: {} runs", starts.len());
        assert!(starts.len() > most / 2, "{cost:?}: {} runs", starts.len());
        for pair in starts.windows(2) {
            assert!(pair[1] - pair[0] >= cost * 50 + cost, "{cost:?}: {pair:?}");
        }
    }
}

#[test]
fn single_events_are_answered_within_half_a_second() {
    let every = Duration::from_secs(20);
    let starts = storm(every, Duration::from_millis(20), Duration::from_secs(200));
    // The first start is the agent's, with the first event still to come to rest.
    assert_eq!(starts.len(), 10, "{starts:?}");
    for (number, start) in starts.iter().enumerate().skip(1) {
        let event = every * u32::try_from(number).unwrap();
        assert!(*start - event < Duration::from_millis(500), "{start:?}");
    }
}

#[test]
fn a_request_waits_for_nothing_and_a_run_that_was_given_up_holds_all() {
    let now = Instant::now();
    let mut slot = Slot::new(now);
    let interval = Duration::from_secs(10);
    assert_eq!(slot.next_start(interval, None), (now, Cause::Start));
    slot.starts(now, Cause::Start, 0.9);
    slot.running = None;
    slot.costs(now, Cost { cpu: Duration::from_millis(100), wall: Duration::ZERO });
    assert_eq!(slot.next_start(interval, None), (now + interval.mul_f64(0.9), Cause::Interval));
    let event = Some((now, Cause::Signal(Signal::Network)));
    assert_eq!(
        slot.next_start(interval, event),
        (now + Duration::from_secs(5), Cause::Signal(Signal::Network))
    );
    slot.not_before = now + Duration::from_secs(20);
    assert_eq!(slot.next_start(interval, event).0, slot.not_before);
    slot.at = Some((now, Cause::Request));
    assert_eq!(slot.next_start(interval, event), (now, Cause::Request));
}

#[test]
fn what_could_not_be_looked_at_stays_as_it_was() {
    use contracts::v1::{CertificateDetails, NodeIdentity, RelationType};
    let folder = tempfile::tempdir().unwrap();
    let node_uid = Uuid::from_u128(1);
    let store = Store::open(crate::store::Settings {
        folder: folder.path().to_owned(),
        node: NodeIdentity { uid: node_uid.to_string(), ..NodeIdentity::default() },
        node_uid,
        outbox_limit_bytes: u64::MAX,
    })
    .unwrap();
    let kind = AssetKind::Certificate;
    let scan = |keys: &[&str], unread: &[&str]| {
        let asset = |key: &&str| {
            let details = CertificateDetails { subject: (*key).to_owned(), ..CertificateDetails::default() };
            ScannedAsset::new(*key, "name", Details::Certificate(details)).related(
                RelationType::StoredOn,
                AssetKind::Disk,
                "disk",
            )
        };
        let assets = keys.iter().map(asset).collect();
        Scan { assets, unread: unread.iter().map(|&key| key.to_owned()).collect(), ..Scan::default() }
    };
    let keys = || -> Vec<String> {
        store.assets(Some(kind), None, usize::MAX).unwrap().into_iter().map(|one| one.natural_key).collect()
    };
    for (found, unread, changes, expected) in [
        (&["/a/1", "/a/2", "/b/1", "/b/2"][..], &[][..], 4, &["/a/1", "/a/2", "/b/1", "/b/2"][..]),
        // The folder /a may not be looked into; of /b one is gone.
        (&["/b/2"], &["/a/"], 1, &["/a/1", "/a/2", "/b/2"]),
        (&[], &[""], 0, &["/a/1", "/a/2", "/b/2"]),
        // What is found is not what it was, whatever could not be read beside it.
        (&["/a/1", "/b/2"], &["/a/1", "/c"], 1, &["/a/1", "/b/2"]),
        (&[], &[], 2, &[]),
    ] {
        let outcome = record(&store, kind, scan(found, unread)).unwrap();
        let Recording::Taken { observations, doubled } = outcome.recording else { panic!("full") };
        assert_eq!((observations, doubled.len()), (changes, 0), "{found:?}");
        assert_eq!(keys(), expected, "{found:?}");
        assert_eq!(outcome.assets, expected.len());
        assert_eq!(outcome.warnings.len(), usize::from(expected.len() > found.len()));
    }
}
