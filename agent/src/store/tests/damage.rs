//! Files with a bit flipped or cut off, at every place.

#![allow(clippy::print_stdout)]

use super::*;

/// Damages a copy of a store at every place; each time the agent must start and
/// end with the right state. One in sixteen places a run, by the seed; all with
/// `ASSETTRACK_TEST_EVERY_OFFSET` set.
#[test]
fn a_damaged_store_always_starts_and_ends_right() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(40, 1)).unwrap();
    drop(store);
    let whole = fs::read(folder.path().join("store.redb")).unwrap();
    let (step, first) = match std::env::var_os("ASSETTRACK_TEST_EVERY_OFFSET") {
        Some(_) => (1, 0),
        None => (16, rand::RngExt::random_range(&mut testkit::Seed::draw().rng(), 0..16)),
    };
    let places: Vec<usize> = (first..whole.len()).step_by(step).collect();
    let set_aside = std::sync::atomic::AtomicUsize::new(0);
    let damaged = |bytes: Vec<u8>, what: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("store.redb"), bytes).unwrap();
        let store = Store::open(settings(folder.path())).unwrap();
        let count = store.figures().set_aside.len();
        set_aside.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        if record(&store, &many(41, 2)).is_err() {
            record(&store, &many(41, 2)).unwrap();
        }
        assert_eq!(recorded(&store).len(), 41, "{what}");
        assert_eq!(fold(&outbox(&store)), recorded(&store), "{what}");
        assert_eq!(store.figures().digests, [(KIND, digest_of(&outbox(&store)))], "{what}");
    };
    std::thread::scope(|scope| {
        for half in places.chunks(places.len().div_ceil(2)) {
            let (whole, damaged) = (&whole, &damaged);
            scope.spawn(move || {
                for &at in half {
                    let mut bytes = whole.clone();
                    bytes[at] ^= 1 << (at % 8);
                    damaged(bytes, &format!("bit flipped at {at}"));
                    // Cuts differ less: one in sixteen of these.
                    if at / step % 16 == 0 {
                        damaged(whole[..at].to_vec(), &format!("cut at {at}"));
                    }
                }
            });
        }
    });
    damaged(b"not a database, but longer than its magic number".to_vec(), "no database");
    let set_aside = set_aside.into_inner();
    println!("{} places of {} bytes, {set_aside} set aside", places.len(), whole.len());
    // Most of the file are pages that no table uses.
    assert!(set_aside > places.len() / 8, "only {set_aside} were noticed");
}
