//! The store against real files.

use std::collections::BTreeMap;
use std::fs;

use contracts::v1::{EventBatch, KernelModuleDetails, Presence, asset_details::Details};

use super::*;

mod damage;
mod disk;

const KIND: AssetKind = AssetKind::KernelModule;

fn settings(folder: &std::path::Path) -> Settings {
    let node_uid = Uuid::from_u128(7);
    Settings {
        folder: folder.to_owned(),
        node: NodeIdentity { uid: node_uid.to_string(), cluster: "c".into(), display_name: "n".into() },
        node_uid,
        outbox_limit_bytes: 64 * 1024 * 1024,
    }
}

fn modules(assets: &[(&str, u64)]) -> Vec<ScannedAsset> {
    let module = |(name, size_bytes): &(&str, u64)| {
        let details =
            KernelModuleDetails { module: (*name).into(), size_bytes: *size_bytes, ..Default::default() };
        ScannedAsset::new(*name, *name, Details::KernelModule(details))
    };
    assets.iter().map(module).collect()
}

fn many(count: u64, size: u64) -> Vec<ScannedAsset> {
    let names: Vec<String> = (0..count).map(|n| format!("module_{n:05}")).collect();
    modules(&names.iter().map(|name| (name.as_str(), size)).collect::<Vec<_>>())
}

fn record(store: &Store, assets: &[ScannedAsset]) -> Result<Recording, StoreError> {
    store.record(KIND, assets, &[])
}

fn confirm(store: &Store, stream: Uuid, sequences: &[i64]) {
    let generation = store.figures().newest.0;
    let receipt = |sequence: &i64| Receipt { stream, position: (generation, *sequence) };
    store.confirm(&sequences.iter().map(receipt).collect::<Vec<_>>()).unwrap();
}

fn decode(parcel: &Parcel) -> EventBatch {
    let body = match parcel.compressed {
        true => zstd::bulk::decompress(&parcel.body, kit::queue::MAX_BATCH_BYTES).unwrap(),
        false => parcel.body.clone(),
    };
    EventBatch::decode(body.as_slice()).unwrap()
}

fn outbox(store: &Store) -> Vec<EventBatch> {
    store.parcels((0, 0), usize::MAX, u64::MAX).unwrap().iter().map(decode).collect()
}

/// What a receiver of all batches would believe.
fn fold(batches: &[EventBatch]) -> BTreeMap<String, AssetDetails> {
    let mut state = BTreeMap::new();
    for observation in batches.iter().flat_map(|batch| &batch.observations) {
        match observation.presence() {
            Presence::Absent => state.remove(&observation.natural_key),
            _ => state.insert(observation.natural_key.clone(), observation.details.clone().unwrap()),
        };
    }
    state
}

fn recorded(store: &Store) -> BTreeMap<String, AssetDetails> {
    let assets = store.assets(None, None, usize::MAX).unwrap();
    assets.into_iter().map(|asset| (asset.natural_key, asset.details)).collect()
}

#[test]
fn the_first_scan_is_a_snapshot_and_later_ones_only_differences() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &modules(&[("a", 1), ("b", 1)])).unwrap();
    let batches = outbox(&store);
    assert_eq!(batches.len(), 1);
    assert!(batches[0].observations.iter().all(|observation| observation.presence() == Presence::Listed));
    assert_eq!((batches[0].snapshots[0].first_sequence, batches[0].snapshots[0].last_sequence), (1, 1));
    assert_eq!(batches[0].snapshots[0].kind(), KIND);

    let same = record(&store, &modules(&[("b", 1), ("a", 1)])).unwrap();
    assert_eq!(same, Recording::Taken { observations: 0, doubled: vec![] });
    record(&store, &modules(&[("a", 2), ("c", 1)])).unwrap();
    let batches = outbox(&store);
    assert_eq!(batches.len(), 2);
    let said: Vec<(Presence, &str)> =
        batches[1].observations.iter().map(|o| (o.presence(), o.natural_key.as_str())).collect();
    assert_eq!(said, [(Presence::Present, "a"), (Presence::Present, "c"), (Presence::Absent, "b")]);
    assert!(batches[1].snapshots.is_empty());
    assert_eq!(fold(&batches), recorded(&store));
}

#[test]
fn a_kind_without_assets_has_a_snapshot_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    store.record(AssetKind::Disk, &[], &[]).unwrap();
    record(&store, &many(1200, 1)).unwrap();
    let batches = outbox(&store);
    assert!(batches[0].observations.is_empty());
    assert_eq!(batches[0].snapshots[0].kind(), AssetKind::Disk);
    let last = batches.last().unwrap();
    assert_eq!((last.snapshots[0].first_sequence, last.snapshots[0].last_sequence), (2, last.sequence));
    assert!(last.sequence >= 4, "1,200 observations need three batches");
    store.record(AssetKind::Disk, &[], &[]).unwrap();
    assert_eq!(outbox(&store).len(), batches.len(), "a second empty scan says nothing");
}

#[test]
fn everything_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(600, 1)).unwrap();
    let before = (store.figures(), store.parcels((0, 0), 100, u64::MAX).unwrap(), recorded(&store));
    drop(store);
    let store = Store::open(settings(folder.path())).unwrap();
    assert_eq!((store.figures(), store.parcels((0, 0), 100, u64::MAX).unwrap(), recorded(&store)), before);
    assert_eq!(record(&store, &many(600, 1)).unwrap(), Recording::Taken { observations: 0, doubled: vec![] });
}

#[test]
fn only_what_is_confirmed_leaves_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(2000, 1)).unwrap();
    let stream = store.figures().stream;
    let all = store.parcels((0, 0), 100, u64::MAX).unwrap();
    assert!(all.len() >= 4);
    confirm(&store, Uuid::from_u128(99), &[1, 2, 3]);
    assert_eq!(store.parcels((0, 0), 100, u64::MAX).unwrap(), all, "another stream's confirms are not ours");
    confirm(&store, stream, &[2, 2, 77]);
    let left = store.parcels((0, 0), 100, u64::MAX).unwrap();
    assert_eq!(left.iter().map(|p| p.sequence).collect::<Vec<_>>()[..2], [1, 3]);
    let bytes: u64 = left.iter().map(Parcel::bytes).sum();
    let figures = store.figures();
    assert_eq!((figures.outbox_batches, figures.outbox_bytes), (left.len() as u64, bytes));
    confirm(&store, stream, &left.iter().map(|p| p.sequence).collect::<Vec<_>>());
    assert_eq!(store.figures().outbox_bytes, 0);
    record(&store, &many(1, 1)).unwrap();
    assert_eq!(store.parcels((0, 0), 1, u64::MAX).unwrap()[0].sequence, all.last().unwrap().sequence + 1);
}

#[test]
fn a_full_outbox_takes_nothing_and_later_the_newest_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Settings { outbox_limit_bytes: 1000, ..settings(folder.path()) }).unwrap();
    // The first always fits, or a small limit would stop the agent for ever.
    record(&store, &many(500, 1)).unwrap();
    assert_eq!(record(&store, &many(500, 2)).unwrap(), Recording::OutboxFull);
    assert_eq!(record(&store, &many(400, 3)).unwrap(), Recording::OutboxFull);
    let first = outbox(&store);
    assert_eq!(fold(&first), recorded(&store), "state and outbox agree");
    let stream = store.figures().stream;
    confirm(&store, stream, &first.iter().map(|batch| batch.sequence).collect::<Vec<_>>());
    record(&store, &many(400, 3)).unwrap();
    let all: Vec<EventBatch> = first.into_iter().chain(outbox(&store)).collect();
    assert_eq!(fold(&all), recorded(&store));
    assert_eq!(recorded(&store).len(), 400);
    let sequences: Vec<i64> = all.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, (1..=i64::try_from(all.len()).unwrap()).collect::<Vec<_>>(), "no gap");
}

#[test]
fn parcels_come_in_portions() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(2000, 1)).unwrap();
    assert_eq!(store.parcels((0, 0), 2, u64::MAX).unwrap().len(), 2);
    assert_eq!(store.parcels((1, 2), 1, u64::MAX).unwrap()[0].sequence, 3);
    assert_eq!(store.parcels((0, 0), 10, 1).unwrap().len(), 1);
    assert!(store.parcels((1, i64::MAX), 10, 1).unwrap().is_empty());
}

#[test]
fn assets_are_paged_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(5, 1)).unwrap();
    store.record(AssetKind::Disk, &[], &[]).unwrap();
    let mut seen = Vec::new();
    let mut place: Option<Place> = None;
    loop {
        let page = store.assets(Some(KIND), place.as_ref(), 2).unwrap();
        let Some(last) = page.last() else { break };
        place = Some((last.kind as i32, last.natural_key.clone()));
        seen.extend(page.into_iter().map(|asset| asset.natural_key));
    }
    assert_eq!(seen, many(5, 1).into_iter().map(|asset| asset.natural_key).collect::<Vec<_>>());
    assert!(store.assets(Some(AssetKind::Disk), None, 2).unwrap().is_empty());
    // A place that is gone meanwhile still has what comes after it.
    let between = (KIND as i32, "module_00002x".to_owned());
    assert_eq!(store.assets(None, Some(&between), 1).unwrap()[0].natural_key, "module_00003");
}

#[test]
fn a_second_agent_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let second = Store::open(settings(folder.path())).err().unwrap();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    drop(store);
}

#[test]
fn another_nodes_store_begins_a_new_stream() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let stream = store.figures().stream;
    record(&store, &many(3, 1)).unwrap();
    drop(store);
    let other = Settings { node_uid: Uuid::from_u128(8), ..settings(folder.path()) };
    let store = Store::open(other).unwrap();
    let figures = store.figures();
    assert_eq!(figures.set_aside, [SetAside::OtherNode]);
    assert_ne!(figures.stream, stream);
    assert_eq!(figures.newest.1, 0);
    assert!(folder.path().join("store.redb.damaged-1").exists());
}

#[test]
fn an_unusable_folder_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::open(settings(&folder.path().join("file/store"))).err().unwrap();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

#[test]
fn a_new_stream_is_sent_after_what_is_left_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(1200, 1)).unwrap();
    let old = store.figures();
    store.new_stream().unwrap();
    let new = store.figures();
    assert!(new.stream != old.stream && new.newest > old.newest, "{new:?}");
    assert_eq!((new.newest.1, new.outbox_batches), (0, old.outbox_batches));
    assert!(recorded(&store).is_empty() && new.digests.is_empty());
    record(&store, &many(3, 1)).unwrap();
    let sent = outbox(&store);
    let streams: Vec<&str> = sent.iter().map(|batch| batch.stream.as_str()).collect();
    let (of_old, of_new) = streams.split_at(streams.len() - 1);
    assert!(of_old.iter().all(|stream| *stream == old.stream.to_string()), "{streams:?}");
    assert_eq!(of_new, [new.stream.to_string()]);
    assert_eq!(sent.last().unwrap().snapshots.len(), 1, "it begins with a snapshot");
    // A confirm of the old one's sequence 1 is not one of the new one's.
    let first = store.parcels((0, 0), 1, u64::MAX).unwrap()[0].receipt();
    store.confirm(&[first]).unwrap();
    assert_eq!(outbox(&store).len(), sent.len() - 1);
    assert_eq!(outbox(&store).last(), sent.last());
}

#[test]
fn a_resync_lists_everything_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    record(&store, &many(5, 1)).unwrap();
    store.record(AssetKind::Disk, &[], &[]).unwrap();
    let before = store.figures();
    store.resync(&[AssetKind::Disk]).unwrap();
    assert_eq!(record(&store, &many(5, 1)).unwrap(), taken(0), "another kind was asked for");
    store.resync(&[KIND]).unwrap();
    assert_eq!(store.figures().resyncs, 2);
    assert_eq!(record(&store, &many(4, 1)).unwrap(), taken(5), "four listed, one gone");
    let last = outbox(&store).pop().unwrap();
    assert_eq!(last.snapshots[0].kind(), KIND);
    assert_eq!(last.stream, before.stream.to_string(), "the stream goes on");
    assert_eq!(record(&store, &many(4, 1)).unwrap(), taken(0));
    store.resync(&[]).unwrap();
    assert_eq!(record(&store, &many(4, 1)).unwrap(), taken(4), "none means all");
}

fn taken(observations: usize) -> Recording {
    Recording::Taken { observations, doubled: vec![] }
}

/// What the digest of the batches' fold would be.
fn digest_of(batches: &[EventBatch]) -> Digest {
    let mut state = BTreeMap::new();
    for observation in batches.iter().flat_map(|batch| &batch.observations) {
        match observation.presence() {
            Presence::Absent => state.remove(&observation.natural_key),
            _ => state.insert(observation.natural_key.clone(), observation.state_hash.clone()),
        };
    }
    let mut digest = Digest::default();
    state.values().for_each(|hash| digest.add(hash.as_slice().try_into().unwrap()));
    digest
}

#[test]
fn the_digest_is_that_of_what_was_reported() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let mut rng = testkit::Seed::draw().rng();
    for _ in 0..40 {
        let names: Vec<String> =
            (0..rand::RngExt::random_range(&mut rng, 0..30)).map(|n| format!("m{n}")).collect();
        let assets: Vec<(&str, u64)> =
            names.iter().map(|name| (name.as_str(), rand::RngExt::random_range(&mut rng, 0..3))).collect();
        if rand::RngExt::random_bool(&mut rng, 0.2) {
            store.resync(&[]).unwrap();
        }
        record(&store, &modules(&assets)).unwrap();
        assert_eq!(store.figures().digests, [(KIND, digest_of(&outbox(&store)))]);
    }
    let before = store.figures().digests;
    drop(store);
    assert_eq!(Store::open(settings(folder.path())).unwrap().figures().digests, before);
}

#[test]
fn the_contents_of_an_image_are_sent_once_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let contents = |digest: &str| ImageContents {
        image_digest: digest.into(),
        packages: vec![contracts::v1::PackageDetails { package: "a".into(), ..Default::default() }],
        source: contracts::v1::ImageContentSource::Layers,
    };
    let sent = |store: &Store| {
        outbox(store)
            .iter()
            .flat_map(|batch| batch.image_contents.clone())
            .map(|part| part.image_digest)
            .collect::<Vec<_>>()
    };
    let images = |digests: &[&str]| digests.iter().map(|digest| contents(digest)).collect::<Vec<_>>();
    store.record(KIND, &[], &images(&["sha256:a"])).unwrap();
    store.record(KIND, &[], &images(&["sha256:a", "sha256:b"])).unwrap();
    assert_eq!(sent(&store), ["sha256:a", "sha256:b"]);
    assert!(store.knows_image("sha256:b").unwrap() && !store.knows_image("sha256:c").unwrap());
    store.new_stream().unwrap();
    assert!(!store.knows_image("sha256:b").unwrap());
}

#[test]
fn few_stores_that_were_set_aside_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..6 {
        fs::write(folder.path().join("store.redb"), "garbage that is no database at all").unwrap();
        drop(Store::open(settings(folder.path())).unwrap());
    }
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "store.redb",
            "store.redb.damaged-4",
            "store.redb.damaged-5",
            "store.redb.damaged-6",
            "store.stream"
        ]
    );
}
