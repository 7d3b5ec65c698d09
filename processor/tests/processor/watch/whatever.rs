//! Random writers, replicas that come and go, and watches that are cut off: what
//! each holds is what its filter finds in the table.

use std::sync::{Arc, Mutex, PoisonError};

use contracts::v1::{
    Asset, CreateAssetRequest, DeleteAssetRequest, ManagedFields, Observation, Presence, UpdateAssetRequest,
    WatchAssetsRequest, WatchEventsRequest,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::{Seed, wait_for, wait_until};
use tonic::{Code, Status, transport::Channel};

use super::{DEADLINE, Fold, comparable, ending, logged, synced, table, watch_assets, watch_events};
use crate::running::{Agent, Replica, Running, package};

const ROUNDS: usize = 60;
const FILTERS: [(&str, bool); 6] = [
    ("", false),
    ("", true),
    ("state=ACTIVE details.package.version:\"1.2*\"", false),
    ("managed.owner=\"owner-3\" OR kind=CUSTOM", false),
    ("kind=PACKAGE NOT details.package.version=\"1.1\" revision>2", false),
    ("delete_time:* OR managed.labels.env=prod OR display_name=\"package-1*\"", true),
];

/// Where replicas are now.
type Replicas = Arc<Mutex<Vec<Channel>>>;

fn any(replicas: &Replicas, rng: &mut StdRng) -> Channel {
    let replicas = replicas.lock().unwrap_or_else(PoisonError::into_inner);
    replicas[rng.random_range(0..replicas.len())].clone()
}

/// Whether a watch that ended may go on; and that it was told where.
fn goes_on(status: &Status, token: &str) {
    let (reason, resume) = ending(status);
    match reason.as_str() {
        "SHUTTING_DOWN" => assert!(resume.is_empty() || resume == token, "told to go on elsewhere"),
        "SLOW_CLIENT" | "WATCH_FAILED" => assert_eq!(resume, token),
        // The connection itself.
        "" => assert!(
            matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal),
            "{status:?}"
        ),
        _ => panic!("{status:?}"),
    }
}

/// Watches for ever, on any replica; cut off now and then.
async fn follow(
    replicas: Replicas,
    filter: &str,
    show_deleted: bool,
    fold: Arc<Mutex<Fold>>,
    mut rng: StdRng,
) {
    let page_size = rng.random_range(1..50);
    loop {
        let token = fold.lock().unwrap().token.clone();
        let request = WatchAssetsRequest {
            filter: filter.to_owned(),
            show_deleted,
            page_size,
            resume_token: token.clone(),
            ..Default::default()
        };
        let mut stream = match watch_assets(&any(&replicas, &mut rng), request).await {
            Ok(stream) => stream,
            Err(status) => {
                goes_on(&status, &token);
                tokio::task::yield_now().await;
                continue;
            }
        };
        let answers = rng.random_range(1..60);
        for _ in 0..answers {
            match stream.message().await {
                Ok(answer) => fold.lock().unwrap().take(answer.expect("a status at the end")),
                Err(status) => {
                    goes_on(&status, &fold.lock().unwrap().token);
                    break;
                }
            }
        }
        fold.lock().unwrap().resumed += 1;
    }
}

/// The same of all events.
async fn follow_events(
    replicas: Replicas,
    told: Arc<Mutex<Vec<String>>>,
    mut token: String,
    mut rng: StdRng,
) {
    loop {
        let request = WatchEventsRequest { resume_token: token.clone(), ..Default::default() };
        let Ok(mut stream) = watch_events(&any(&replicas, &mut rng), request).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let answers = rng.random_range(1..40);
        for _ in 0..answers {
            let Ok(Some(answer)) = stream.message().await else { break };
            token.clone_from(&answer.resume_token);
            told.lock().unwrap().extend(super::names(&answer.events));
        }
    }
}

fn observations(rng: &mut StdRng) -> Vec<Observation> {
    let count = rng.random_range(1..30);
    (0..count)
        .map(|_| {
            let name = format!("package-{}", rng.random_range(0..25));
            let version = format!("1.{}", rng.random_range(0..4));
            match rng.random_range(0..4) {
                0 => package(Presence::Absent, &name, ""),
                1 => package(Presence::Listed, &name, &version),
                _ => package(Presence::Present, &name, &version),
            }
        })
        .collect()
}

async fn edit(running: &Running, rng: &mut StdRng) {
    let found: Vec<Asset> = running.list("").await;
    if found.is_empty() {
        return;
    }
    let asset = &found[rng.random_range(0..found.len())];
    if rng.random_bool(0.4) {
        // Refused while an agent sees it.
        let request = DeleteAssetRequest {
            name: asset.name.clone(),
            etag: String::new(),
            ..DeleteAssetRequest::default()
        };
        let _ = running.assets().delete_asset(request).await;
        return;
    }
    let mut managed =
        ManagedFields { owner: format!("owner-{}", rng.random_range(0..5)), ..ManagedFields::default() };
    if rng.random_bool(0.5) {
        managed.labels.insert("env".to_owned(), ["prod", "test"][rng.random_range(0..2)].to_owned());
    }
    let asset = Asset { name: asset.name.clone(), managed: Some(managed), ..Asset::default() };
    // Deleted in between, perhaps.
    let request =
        UpdateAssetRequest { asset: Some(asset), update_mask: None, ..UpdateAssetRequest::default() };
    let _ = running.assets().update_asset(request).await;
}

/// Randomness of one of those who act.
fn course(seed: Seed, number: u64) -> StdRng {
    StdRng::seed_from_u64(seed.value().wrapping_add(number))
}

/// Three agents and people, at the same time.
async fn write(running: &Running, seed: Seed, round: u64) {
    let agent = async |number: u64| {
        let mut rng = course(seed, number);
        let agent = Agent::new();
        for sequence in 1..=i64::try_from(ROUNDS).unwrap() {
            running.deliver(vec![agent.batch(sequence, observations(&mut rng))]).await;
        }
    };
    let people = async {
        let mut rng = course(seed, round * 10 + 9);
        for number in 0..ROUNDS {
            edit(running, &mut rng).await;
            if rng.random_bool(0.3) {
                let asset = Some(Asset { display_name: format!("rack {number}"), ..Asset::default() });
                running
                    .assets()
                    .create_asset(CreateAssetRequest { asset, ..CreateAssetRequest::default() })
                    .await
                    .unwrap();
            }
        }
    };
    let first = round * 10;
    tokio::join!(agent(first), agent(first + 1), agent(first + 2), people);
}

/// Replicas that go and come back.
async fn restart(running: &Running, replicas: &Replicas, mut stopped: Vec<Replica>) -> Vec<Replica> {
    for round in 0..4 {
        let gone = stopped.remove(0);
        // Followers find it gone: it is on the list until another one is there.
        gone.stop().await;
        let new = running.another().await;
        replicas.lock().unwrap()[round % 2] = new.channel.clone();
        stopped.push(new);
    }
    stopped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_watch_holds_what_its_filter_finds_whatever_happens() {
    let running = Running::start().await;
    let seed = Seed::draw();
    let two = vec![running.another().await, running.another().await];
    let replicas: Replicas =
        Arc::new(Mutex::new(two.iter().map(|replica| replica.channel.clone()).collect()));
    write(&running, seed, 0).await;

    let mut stream = watch_events(&running.channel, WatchEventsRequest::default()).await.unwrap();
    let first = synced(&mut stream).await;
    let before = logged(&running).await;
    let told = Arc::new(Mutex::new(before.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(follow_events(replicas.clone(), told.clone(), first.resume_token, course(seed, 100)));
    let folds: Vec<Arc<Mutex<Fold>>> = FILTERS.iter().map(|_| Arc::default()).collect();
    for (number, ((filter, deleted), fold)) in (101..).zip(FILTERS.into_iter().zip(&folds)) {
        tasks.spawn(follow(replicas.clone(), filter, deleted, fold.clone(), course(seed, number)));
    }
    let (left, ()) = tokio::join!(restart(&running, &replicas, two), async {
        for round in 1..4 {
            write(&running, seed, round).await;
        }
    });

    let log = wait_for(DEADLINE, "all events to be told", async || {
        failed(&mut tasks);
        let mut told = told.lock().unwrap().clone();
        told.sort();
        let log = logged(&running).await;
        (told.len() >= log.len()).then_some((told, log))
    })
    .await;
    assert_eq!(log.0, log.1, "each once");
    assert!(log.1.len() > before.len());
    for ((filter, deleted), fold) in FILTERS.into_iter().zip(&folds) {
        let expected = table(&running, filter, deleted).await;
        assert!(!expected.is_empty(), "{filter}");
        wait_until(DEADLINE, &format!("the watch of {filter:?} to hold {expected:?}"), async || {
            failed(&mut tasks);
            comparable(&fold.lock().unwrap().held) == expected
        })
        .await;
        assert!(fold.lock().unwrap().resumed > 1, "{filter}");
    }
    tasks.abort_all();
    for replica in left {
        replica.stop().await;
    }
    running.stop().await;
}

/// A follower ends only by what it must not be told.
fn failed(tasks: &mut tokio::task::JoinSet<()>) {
    if let Some(Err(died)) = tasks.try_join_next() {
        std::panic::resume_unwind(died.into_panic());
    }
}
