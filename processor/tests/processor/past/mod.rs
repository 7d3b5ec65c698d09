//! The inventory as it was: what a read at an earlier time answers is the fold of
//! what the log has until then, told here from the log alone.

mod bounds;

use std::collections::{BTreeMap, HashMap};

use contracts::v1::{
    Asset, AssetDetails, AssetDifferenceType, AssetKind, AssetState, CreateAssetRequest, DeleteAssetRequest,
    DiffAssetsRequest, EventType, GetAssetRequest, ListAssetsRequest, ManagedFields, Observation, Presence,
    SummarizeAssetsRequest, UpdateAssetRequest,
};
use prost::Message as _;
use prost_types::{FieldMask, Timestamp};
use rand::{RngExt as _, rngs::StdRng};
use testkit::{Seed, wait_until};
use tokio_postgres::Client;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    history::{DEADLINE, live, package_uid, told, verify, verify_equal},
    retention::{KEEP_30, age, dropped},
    running::{Agent, Running, package},
};

/// Microseconds since the epoch.
type Micros = i64;

pub fn at(micros: Micros) -> Option<Timestamp> {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap();
    Some(Timestamp { seconds: micros.div_euclid(1_000_000), nanos })
}

/// What is told of an asset, by whoever tells it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    kind: i32,
    display_name: String,
    node: String,
    natural_key: String,
    state: i32,
    details: Option<AssetDetails>,
    managed: Option<ManagedFields>,
    revision: i64,
    managed_revision: i64,
    update_time: Micros,
    deleted: bool,
}

fn micros(time: Option<&Timestamp>) -> Micros {
    time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000)
}

impl From<&Asset> for Told {
    fn from(asset: &Asset) -> Self {
        Self {
            kind: asset.kind,
            display_name: asset.display_name.clone(),
            node: asset.node.clone(),
            natural_key: asset.natural_key.clone(),
            state: asset.state,
            details: asset.details.clone(),
            managed: asset.managed.clone(),
            revision: asset.revision,
            managed_revision: asset.managed_revision,
            update_time: micros(asset.update_time.as_ref()),
            deleted: asset.delete_time.is_some(),
        }
    }
}

/// A row of the log that counted.
struct Logged {
    asset: String,
    time: Micros,
    event_type: i32,
    told: Told,
}

/// The log, oldest first.
async fn log(client: &Client) -> Vec<Logged> {
    let query = "SELECT asset_uid::text, (extract(epoch FROM record_time) * 1000000)::bigint, type::int, \
         kind::int, display_name, coalesce('nodes/' || node_uid, ''), natural_key, state::int, details, \
         managed, revision, managed_revision FROM asset_event WHERE revision IS NOT NULL \
         ORDER BY record_time, id";
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter()
        .map(|row| Logged {
            asset: format!("assets/{}", row.get::<_, String>(0)),
            time: row.get(1),
            event_type: row.get(2),
            told: Told {
                kind: row.get(3),
                display_name: row.get(4),
                node: row.get(5),
                natural_key: row.get(6),
                state: row.get(7),
                details: row.get::<_, Option<Vec<u8>>>(8).map(|bytes| AssetDetails::decode(&*bytes).unwrap()),
                managed: row
                    .get::<_, Option<Vec<u8>>>(9)
                    .map(|bytes| ManagedFields::decode(&*bytes).unwrap()),
                revision: row.get(10),
                managed_revision: row.get(11),
                update_time: row.get(1),
                deleted: false,
            },
        })
        .collect()
}

/// What the log says of all assets until a time, by their names.
fn folded(log: &[Logged], until: Micros) -> BTreeMap<String, Told> {
    let mut assets: BTreeMap<String, Told> = BTreeMap::new();
    for row in log.iter().filter(|row| row.time <= until) {
        let deleted = row.event_type == EventType::Deleted as i32
            || (row.told.state != AssetState::Active as i32
                && assets.get(&row.asset).is_some_and(|before| before.deleted));
        assets.insert(row.asset.clone(), Told { deleted, ..row.told.clone() });
    }
    assets
}

async fn list(running: &Running, time: Micros, request: ListAssetsRequest) -> Vec<Asset> {
    let mut request = ListAssetsRequest { read_time: at(time), ..request };
    let mut listed = Vec::new();
    loop {
        let page = running.assets().list_assets(request.clone()).await.unwrap().into_inner();
        listed.extend(page.assets);
        if page.next_page_token.is_empty() {
            return listed;
        }
        request.page_token = page.next_page_token;
    }
}

fn by_name(listed: &[Asset]) -> BTreeMap<String, Told> {
    listed.iter().map(|asset| (asset.name.clone(), Told::from(asset))).collect()
}

/// An observation under one key, with a name that changes.
fn renamed(key: &str, display_name: &str, version: &str) -> Observation {
    let mut seen = package(Presence::Present, key, version);
    seen.display_name = display_name.to_owned();
    let details = seen.details.as_ref().unwrap().encode_to_vec();
    seen.state_hash =
        kit::digest::state_hash(AssetKind::Package, &seen.natural_key, display_name, &details).to_vec();
    seen
}

/// Names that change there and back, several times in one call too, and assets that
/// people create, rename and delete.
async fn rename(running: &Running, rng: &mut StdRng) {
    let agent = Agent::new();
    let names = ["alpha", "beta", "package-5", "Zeta"];
    let mut custom: Vec<Asset> = Vec::new();
    for sequence in 1..=12 {
        let seen = (0..rng.random_range(1..6)).map(|_| {
            let key = format!("key-{}", rng.random_range(0..4));
            match rng.random_range(0..8) {
                0 => package(Presence::Absent, &key, ""),
                _ => renamed(&key, names[rng.random_range(0..4)], &format!("{}", rng.random_range(0..3))),
            }
        });
        let batch = agent.batch(sequence, seen.collect());
        running.deliver(vec![batch]).await;
        let display_name = names[rng.random_range(0..4)].to_owned();
        match rng.random_range(0..3) {
            0 => {
                let asset = Asset { display_name, ..Asset::default() };
                let created = running
                    .assets()
                    .create_asset(CreateAssetRequest { asset: Some(asset), ..CreateAssetRequest::default() })
                    .await;
                custom.push(created.unwrap().into_inner());
            }
            1 if !custom.is_empty() => {
                let name = custom[rng.random_range(0..custom.len())].name.clone();
                let asset = Asset { name, display_name, ..Asset::default() };
                let update_mask = Some(FieldMask { paths: vec!["display_name".to_owned()] });
                let edit =
                    UpdateAssetRequest { asset: Some(asset), update_mask, ..UpdateAssetRequest::default() };
                running.assets().update_asset(edit).await.unwrap();
            }
            _ if custom.len() > 1 => {
                let gone = custom.swap_remove(0);
                let delete = DeleteAssetRequest { name: gone.name, ..Default::default() };
                running.assets().delete_asset(delete).await.unwrap();
            }
            _ => {}
        }
    }
    // What an agent does not see any more can be deleted, and be seen again.
    for asset in running.list("state=REMOVED").await.into_iter().filter(|_| rng.random_bool(0.3)) {
        let delete = DeleteAssetRequest { name: asset.name, ..Default::default() };
        running.assets().delete_asset(delete).await.unwrap();
    }
    let back = (0..4).map(|key| renamed(&format!("key-{key}"), "alpha", "9")).collect();
    running.deliver(vec![agent.batch(13, back)]).await;
}

/// Counts by kind, state and name, as the processor has them.
async fn counts(running: &Running, time: Micros) -> BTreeMap<(String, String, String), i64> {
    let request = SummarizeAssetsRequest {
        group_by: ["kind", "state", "display_name"].map(str::to_owned).to_vec(),
        max_groups: 1000,
        read_time: at(time),
        ..Default::default()
    };
    let answer = running.assets().summarize_assets(request).await.unwrap().into_inner();
    assert_eq!(answer.other_groups, 0);
    let key = |values: Vec<String>| (values[0].clone(), values[1].clone(), values[2].clone());
    answer.groups.into_iter().map(|group| (key(group.values), group.count)).collect()
}

fn counted(assets: &BTreeMap<&String, &Told>) -> BTreeMap<(String, String, String), i64> {
    let mut counts = BTreeMap::new();
    for told in assets.values() {
        let kind = AssetKind::try_from(told.kind).unwrap().as_str_name().to_owned();
        let state = AssetState::try_from(told.state).unwrap().as_str_name().to_owned();
        *counts.entry((kind, state, told.display_name.clone())).or_default() += 1;
    }
    counts
}

/// Times to read at: those of the log, just before and after, and in between.
fn times(log: &[Logged], rng: &mut StdRng, count: usize) -> Vec<Micros> {
    let (first, last) = (log[0].time, log[log.len() - 1].time);
    let mut times = vec![first - 1, first, last];
    for _ in 0..count {
        let exact = log[rng.random_range(0..log.len())].time;
        times.push(match rng.random_range(0..4) {
            0 => exact,
            1 => exact - 1,
            2 => exact + 1,
            _ => rng.random_range(first..=last),
        });
    }
    times
}

async fn earliest(client: &Client) -> Micros {
    let query = "SELECT ceil(extract(epoch FROM earliest_time) * 1000000)::bigint FROM past_horizon";
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_the_past_is_the_fold_of_the_log_until_then() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let mut rng = Seed::draw().rng();
    live(&running, &mut rng).await;
    rename(&running, &mut rng).await;
    let log = log(&client).await;
    let (mut superseded, mut renames) = (0, 0);
    for time in times(&log, &mut rng, 60) {
        if time < earliest(&client).await {
            continue;
        }
        let all = folded(&log, time);
        let page_size = rng.random_range(1..40);
        let request = ListAssetsRequest { page_size, show_deleted: true, ..Default::default() };
        let listed = list(&running, time, request).await;
        assert_eq!(by_name(&listed), all, "at {time}");
        assert_eq!(listed.len(), all.len(), "each once, at {time}");
        let place = |asset: &Asset| (asset.display_name.clone(), asset.name.clone());
        assert!(listed.is_sorted_by_key(place), "at {time}");
        for asset in &listed {
            let active = asset.state() == AssetState::Active;
            assert_eq!(asset.last_seen_time.is_some(), asset.state() == AssetState::Removed, "{asset:?}");
            assert!(!active || !asset.node_display_name.is_empty());
        }
        let request = ListAssetsRequest { page_size: 1000, ..Default::default() };
        let kept: BTreeMap<_, _> = all.iter().filter(|(_, told)| !told.deleted).collect();
        let listed = list(&running, time, request).await;
        assert_eq!(by_name(&listed).iter().collect::<BTreeMap<_, _>>(), kept, "at {time}");
        // By a field that lasts, by one that does not, and by both.
        for (filter, holds) in [
            ("display_name=alpha", (|told| told.display_name == "alpha") as fn(&Told) -> bool),
            ("state=REMOVED", |told| told.state == AssetState::Removed as i32),
            ("kind=PACKAGE AND NOT state=ACTIVE", |told| {
                told.kind == AssetKind::Package as i32 && told.state != AssetState::Active as i32
            }),
            ("managed.owner:*", |told| {
                told.managed.as_ref().is_some_and(|managed| !managed.owner.is_empty())
            }),
        ] {
            let request =
                ListAssetsRequest { filter: filter.to_owned(), show_deleted: true, ..Default::default() };
            let wanted: BTreeMap<_, _> = all.iter().filter(|(_, told)| holds(told)).collect();
            let listed = by_name(&list(&running, time, request).await);
            assert_eq!(listed.iter().collect::<BTreeMap<_, _>>(), wanted, "{filter} at {time}");
        }
        // In other orders, with a total.
        for order_by in ["display_name desc", "kind,display_name", "name desc", "update_time desc,kind"] {
            let request = ListAssetsRequest {
                page_size: rng.random_range(5..40),
                order_by: order_by.to_owned(),
                return_total_size: true,
                ..Default::default()
            };
            let first = ListAssetsRequest { read_time: at(time), ..request.clone() };
            let first = running.assets().list_assets(first).await.unwrap().into_inner();
            assert_eq!((first.total_size, first.total_size_estimated), (kept.len() as i64, false));
            let listed = list(&running, time, request).await;
            assert_eq!(listed.len(), kept.len(), "{order_by} at {time}");
            assert_eq!(by_name(&listed).iter().collect::<BTreeMap<_, _>>(), kept, "{order_by} at {time}");
            let in_order = match order_by {
                "display_name desc" => {
                    listed.is_sorted_by(|one, other| one.display_name >= other.display_name)
                }
                "kind,display_name" => {
                    listed.is_sorted_by_key(|asset| (asset.kind, asset.display_name.clone()))
                }
                "name desc" => listed.is_sorted_by(|one, other| one.name >= other.name),
                _ => listed.is_sorted_by_key(|asset| -micros(asset.update_time.as_ref())),
            };
            assert!(in_order, "{order_by} at {time}");
        }
        assert_eq!(counts(&running, time).await, counted(&kept), "at {time}");
        let names: Vec<&String> = log.iter().map(|row| &row.asset).collect();
        for _ in 0..5 {
            let name = names[rng.random_range(0..names.len())];
            let get = GetAssetRequest { name: name.clone(), read_time: at(time) };
            match running.assets().get_asset(get).await {
                Ok(asset) => assert_eq!(Some(&Told::from(asset.get_ref())), all.get(name), "at {time}"),
                Err(status) => {
                    assert_eq!((status.code(), all.get(name)), (Code::NotFound, None), "at {time}");
                }
            }
        }
        let now = folded(&log, Micros::MAX);
        superseded += all.iter().filter(|(name, told)| now[*name].revision != told.revision).count();
        renames += all.iter().filter(|(name, told)| now[*name].display_name != told.display_name).count();
    }
    assert!(superseded > 100 && renames > 0, "{superseded} superseded states, {renames} under other names");
    verify_equal(&running).await;
    running.stop().await;
}
