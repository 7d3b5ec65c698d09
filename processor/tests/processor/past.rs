//! The inventory as it was: what a read at an earlier time answers is the fold of
//! what the log has until then, told here from the log alone.

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

async fn now(client: &Client) -> Micros {
    let query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    client.query_one(query, &[]).await.unwrap().get(0)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata.remove(key).unwrap_or_default()
}

async fn read(running: &Running, time: Micros) -> Result<Vec<Asset>, Status> {
    let request = ListAssetsRequest { page_size: 1000, read_time: at(time), ..Default::default() };
    Ok(running.assets().list_assets(request).await?.into_inner().assets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_still_being_recorded_is_waited_for() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    let client = running.database.connect().await;
    let before = now(&client).await;
    assert_eq!(read(&running, before).await.unwrap()[0].revision, 1);

    // As ingest and edits do it: locked, the time taken, written, not committed.
    let writer = running.database.connect().await;
    let write = "BEGIN; SELECT FROM node FOR NO KEY UPDATE; \
         UPDATE asset SET revision = 2, update_time = clock_timestamp()";
    writer.batch_execute(write).await.unwrap();
    let during = now(&client).await;
    assert_eq!(read(&running, before).await.unwrap()[0].revision, 1, "what is older is settled");
    let refused = read(&running, during).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "READ_TIME_NOT_SETTLED"));
    assert!(refused.get_details_retry_info().is_some());

    // One that waits gets what was committed meanwhile.
    let channel = running.channel.clone();
    let waiting = tokio::spawn(async move {
        let mut assets = contracts::v1::asset_service_client::AssetServiceClient::new(channel);
        let request = ListAssetsRequest { read_time: at(during), ..Default::default() };
        assets.list_assets(request).await.map(|answer| answer.into_inner().assets)
    });
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND query LIKE '%is_settled FROM past_horizon%' AND pid <> pg_backend_pid() \
         AND query_start > to_timestamp($1::bigint / 1000000.0)";
    let begun = now(&client).await;
    wait_until(DEADLINE, "it looks", async || {
        client.query_one(looks, &[&begun]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    assert!(!waiting.is_finished());
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap()[0].revision, 2);
    assert_eq!(read(&running, before).await.unwrap()[0].revision, 1);

    // A reader holds nobody up, and writers of other things end.
    let reader = running.database.connect().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM asset").await.unwrap();
    let later = now(&client).await;
    assert_eq!(read(&running, later).await.unwrap()[0].revision, 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_in_the_future_is_refused_and_a_moment_ahead_is_waited_for() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let refused = read(&running, now(&client).await + 60_000_000).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "READ_TIME_IN_FUTURE"));
    assert_eq!(metadata(&refused, "field"), "read_time");
    let soon = now(&client).await + 300_000;
    read(&running, soon).await.unwrap();
    assert!(now(&client).await > soon);
    let refused = read(&running, earliest(&client).await - 1_000_000).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "READ_TIME_TOO_OLD"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_past_stays_the_same_while_others_write() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (channel, agent) = (running.channel.clone(), Agent::new());
        writers.push(tokio::spawn(async move {
            let mut ingest = contracts::v1::ingest_service_client::IngestServiceClient::new(channel);
            for sequence in 1..=60 {
                let version = sequence.to_string();
                let seen = (0..8).map(|n| package(Presence::Present, &format!("p{n}"), &version)).collect();
                let messages = vec![crate::running::message(agent.batch(sequence, seen))];
                let request = contracts::v1::IngestEventsRequest { messages };
                ingest.ingest_events(request).await.unwrap();
            }
        }));
    }
    let mut answers = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let time = now(&client).await;
        answers.push((time, by_name(&read(&running, time).await.unwrap())));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let log = log(&client).await;
    assert!(answers.len() > 3, "{} answers", answers.len());
    for (time, answer) in answers {
        assert_eq!(answer, folded(&log, time), "at {time}");
    }
    running.stop().await;
}

/// All differences of the stream, and its tokens.
async fn compare(
    running: &Running,
    request: DiffAssetsRequest,
) -> (Vec<contracts::v1::AssetDifference>, Vec<String>) {
    let mut stream = running.assets().diff_assets(request).await.unwrap().into_inner();
    let (mut found, mut tokens, mut done) = (Vec::new(), Vec::new(), false);
    while let Some(answer) = stream.message().await.unwrap() {
        assert!(!done, "nothing comes after the end");
        done = answer.done;
        found.extend(answer.differences);
        tokens.push(answer.resume_token);
    }
    assert!(done);
    (found, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_between_two_times_is_what_two_reads_tell() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let mut rng = Seed::draw().rng();
    // More than two pages.
    let agent = Agent::new();
    for (sequence, version) in [(1, "1"), (2, "2")] {
        let seen = (0..450).map(|n| package(Presence::Present, &format!("bulk-{n}"), version)).collect();
        running.deliver(vec![agent.batch(sequence, seen)]).await;
    }
    rename(&running, &mut rng).await;
    let gone = (0..50).map(|n| package(Presence::Absent, &format!("bulk-{n}"), "")).collect();
    running.deliver(vec![agent.batch(3, gone)]).await;
    let log = log(&client).await;
    for _ in 0..12 {
        let mut ends = times(&log, &mut rng, 2).split_off(3);
        ends.sort_unstable();
        let (base, newer) = (ends[0].max(earliest(&client).await), ends[1].max(earliest(&client).await));
        for filter in ["", "display_name=alpha", "details.package.version=1"] {
            let there = async |time| -> HashMap<String, Asset> {
                let request =
                    ListAssetsRequest { page_size: 1000, filter: filter.to_owned(), ..Default::default() };
                let listed = list(&running, time, request).await.into_iter();
                let there = listed.filter(|asset| asset.state() != AssetState::Removed);
                there.map(|asset| (asset.name.clone(), asset)).collect()
            };
            let (before, after) = (there(base).await, there(newer).await);
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            let kind = |name: &String| match (before.get(name), after.get(name)) {
                (None, _) => Some(AssetDifferenceType::Added),
                (_, None) => Some(AssetDifferenceType::Removed),
                (Some(old), Some(new)) => {
                    let content = |asset: &Asset| {
                        (
                            asset.display_name.clone(),
                            asset.state,
                            asset.details.clone(),
                            asset.managed.clone(),
                        )
                    };
                    (content(old) != content(new)).then_some(AssetDifferenceType::Changed)
                }
            };
            let expected: Vec<(String, AssetDifferenceType)> =
                names.into_iter().filter_map(|name| Some((name.clone(), kind(name)?))).collect();
            let request = DiffAssetsRequest {
                base_read_time: at(base),
                read_time: at(newer),
                filter: filter.to_owned(),
                ..Default::default()
            };
            let (found, tokens) = compare(&running, request.clone()).await;
            let told: Vec<(String, AssetDifferenceType)> =
                found.iter().map(|one| (one.asset.clone(), one.r#type())).collect();
            assert_eq!(told, expected, "{filter} from {base} to {newer}");
            for one in &found {
                let fields: Vec<&str> = one.fields.iter().map(|field| field.path.as_str()).collect();
                assert_eq!(one.r#type() == AssetDifferenceType::Changed, !fields.is_empty(), "{one:?}");
            }
            // Each token goes on behind what came with it.
            let token = tokens[rng.random_range(0..tokens.len())].clone();
            let (rest, _) = compare(&running, DiffAssetsRequest { resume_token: token, ..request }).await;
            assert!(found.ends_with(&rest), "{filter} from {base} to {newer}");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_token_belongs_to_its_time() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let agent = Agent::new();
    let seen = ["a", "b", "c"].map(|name| package(Presence::Present, name, "1"));
    running.deliver(vec![agent.batch(1, seen.to_vec())]).await;
    let time = now(&client).await;
    let request = ListAssetsRequest { page_size: 1, read_time: at(time), ..Default::default() };
    let page = running.assets().list_assets(request.clone()).await.unwrap().into_inner();
    let page_token = page.next_page_token;
    for other in [None, at(time + 1)] {
        let request =
            ListAssetsRequest { read_time: other, page_token: page_token.clone(), ..request.clone() };
        let refused = running.assets().list_assets(request).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
    }
    // Nothing that is below a microsecond was recorded.
    let read_time = request.read_time.map(|time| Timestamp { nanos: time.nanos + 999, ..time });
    let same = ListAssetsRequest { read_time, page_token, ..request };
    assert_eq!(running.assets().list_assets(same).await.unwrap().into_inner().assets[0].display_name, "b");
    let read_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    let order_by = "last_seen_time".to_owned();
    let unknown = ListAssetsRequest { order_by, read_time: at(time), ..Default::default() };
    let refused = running.assets().list_assets(unknown).await.unwrap_err();
    assert_eq!(metadata(&refused, "field"), "order_by");
    let get = GetAssetRequest { name: format!("assets/{}", Uuid::nil()), read_time };
    let refused = running.assets().get_asset(get).await.unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), metadata(&refused, "field").as_str()),
        ("INVALID_TIME", "read_time")
    );
    running.stop().await;
}

fn version(asset: &Asset) -> String {
    match asset.details.as_ref().and_then(|details| details.details.as_ref()) {
        Some(contracts::v1::asset_details::Details::Package(package)) => package.version.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_reaches_as_far_as_retention_keeps() {
    let database = std::sync::Arc::new(testkit::Database::create().await);
    let client = database.connect().await;
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    for sequence in 1..=3 {
        let seen = package(Presence::Present, "bash", &sequence.to_string());
        running.deliver(vec![agent.batch(sequence, vec![seen])]).await;
    }
    running.stop().await;
    age(&client, 40, true).await;
    let month = "DO $$ DECLARE month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') - interval '4 months'; \
         BEGIN EXECUTE format('CREATE TABLE asset_past_%s PARTITION OF asset_past FOR VALUES FROM (%L) TO (%L)', \
         to_char(month, 'YYYYMM'), month || '+00', (month + interval '1 month') || '+00'); END $$";
    client.batch_execute(month).await.unwrap();
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'asset_past'::regclass";
    let before: i64 = client.query_one(partitions, &[]).await.unwrap().get(0);

    let running = Running::start_on(database.clone(), KEEP_30).await;
    dropped(&client).await;
    running.deliver(vec![agent.batch(4, vec![package(Presence::Present, "bash", "4")])]).await;
    let earliest = earliest(&client).await;
    let day: bool = client
        .query_one("SELECT earliest_time = date_trunc('day', earliest_time, 'UTC') FROM past_horizon", &[])
        .await
        .unwrap()
        .get(0);
    assert!(day, "the end of a day");
    // What was believed then is in the base alone; since then it has changed.
    for time in [earliest, earliest + 1] {
        let found = read(&running, time).await.unwrap();
        assert_eq!((version(&found[0]), found[0].revision), ("3".to_owned(), 3));
    }
    let refused = read(&running, earliest - 1).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "READ_TIME_TOO_OLD"));
    let named = metadata(&refused, "earliest_time");
    let named = chrono::DateTime::parse_from_rfc3339(&named).unwrap().timestamp_micros();
    assert_eq!(named, earliest, "{refused:?}");
    assert!(refused.message().contains("read_time"), "{refused:?}");
    wait_until(DEADLINE, "what cannot be read is dropped", async || {
        let left =
            "SELECT count(*) FROM asset_past WHERE until_time <= (SELECT earliest_time FROM past_horizon)";
        client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0
            && client.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0) == before - 1
    })
    .await;
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_past_that_was_tampered_with_is_found() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let agent = Agent::new();
    for sequence in 1..=4 {
        let version = sequence.to_string();
        let seen = ["a", "b", "c", "d"].map(|name| package(Presence::Present, name, &version));
        running.deliver(vec![agent.batch(sequence, seen.to_vec())]).await;
    }
    verify_equal(&running).await;
    let uid = |name: &str| package_uid(agent.node, name);
    let statement = format!(
        "DELETE FROM asset_past WHERE uid = '{}' AND revision = 2; \
         UPDATE asset_past SET state = 2 WHERE uid = '{}' AND revision = 1; \
         UPDATE asset_past SET until_time = until_time + interval '1 ms' WHERE uid = '{}' AND revision = 3; \
         INSERT INTO asset_past SELECT uid, 9, 0, update_time, until_time, NULL, NULL, 1, false, 'x', '{{}}' \
         FROM asset_past WHERE uid = '{}' AND revision = 1",
        uid("a"),
        uid("b"),
        uid("c"),
        uid("d")
    );
    client.batch_execute(&statement).await.unwrap();
    let (_, differences) = verify(&running, "").await;
    let mut assets: Vec<String> = differences.iter().map(|one| one.asset.clone()).collect();
    assets.sort_unstable();
    let mut expected: Vec<String> = ["a", "b", "c", "d"].map(|name| format!("assets/{}", uid(name))).into();
    expected.sort_unstable();
    assert_eq!(assets, expected, "{differences:?}");
    for (kind, detail) in told(&differences) {
        assert_eq!(kind, contracts::v1::DifferenceType::WrongHistory, "{detail}");
        assert!(detail.starts_with("history of revision "), "{detail}");
    }
    running.stop().await;
}
