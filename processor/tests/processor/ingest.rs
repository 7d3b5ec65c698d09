//! Nothing lost, nothing doubled: duplicates, order, snapshots, streams.

use contracts::v1::{
    AssetState, EventType, Heartbeat, IngestResult, ListAssetRevisionsRequest, ListEventsRequest,
    ListNodesRequest, NodeHealth, NodeIdentity, Presence, ReceivedHeartbeat, RecordHeartbeatsRequest,
};
use rand::{RngExt as _, seq::SliceRandom};
use testkit::Seed;
use uuid::Uuid;

use crate::running::{Agent, Running, package, snapshot};

use IngestResult::{Committed, Duplicate};
use Presence::{Absent, Listed, Present};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_lives_and_its_revisions_tell_the_story() {
    let running = Running::start().await;
    let agent = Agent::new();
    let first = agent.batch(1, vec![package(Listed, "bash", "5.1"), package(Listed, "zsh", "5.9")]);
    assert_eq!(running.deliver(vec![snapshot(first, 1)]).await, [Committed]);
    assert_eq!(
        running.deliver(vec![agent.batch(2, vec![package(Present, "bash", "5.2")])]).await,
        [Committed]
    );
    assert_eq!(running.deliver(vec![agent.batch(3, vec![package(Absent, "bash", "")])]).await, [Committed]);

    let found = running.list("kind=PACKAGE bash").await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].state(), found[0].revision), (AssetState::Removed, 3));
    let node = uuid_of(&found[0].node);
    assert_eq!(node, agent.node);
    let expected = kit::identity::asset_uid(node, found[0].kind(), &found[0].natural_key);
    assert_eq!(found[0].name, format!("assets/{expected}"));

    let request = ListAssetRevisionsRequest { parent: found[0].name.clone(), ..Default::default() };
    let revisions = running.assets().list_asset_revisions(request).await.unwrap().into_inner().revisions;
    let story: Vec<_> = revisions
        .iter()
        .map(|revision| {
            let event = revision.event.clone().unwrap();
            (revision.revision, event.r#type(), event.changed_fields)
        })
        .collect();
    let fields = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        story,
        [
            (3, EventType::Removed, fields(&["state"])),
            (2, EventType::Changed, fields(&["details.package.version"])),
            (1, EventType::Appeared, fields(&[])),
        ]
    );
    running.stop().await;
}

fn uuid_of(name: &str) -> Uuid {
    name.rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_again_changes_nothing() {
    let running = Running::start().await;
    let agent = Agent::new();
    let batch = agent.batch(1, vec![package(Present, "bash", "5.1")]);
    assert_eq!(running.deliver(vec![batch.clone(), batch.clone()]).await, [Committed, Duplicate]);
    assert_eq!(running.deliver(vec![batch]).await, [Duplicate]);
    assert_eq!(running.list("bash").await[0].revision, 1);
    assert_eq!(count_events(&running).await, 1);
    running.stop().await;
}

async fn count_events(running: &Running) -> usize {
    let request = ListEventsRequest { page_size: 1000, ..Default::default() };
    running.events().list_events(request).await.unwrap().into_inner().events.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shuffled_and_doubled_batches_end_as_ordered_ones() {
    let seed = Seed::draw();
    let mut rng = seed.rng();
    let ordered = Agent::new();
    let mut batches = Vec::new();
    for sequence in 1..=40 {
        let observations = (0..5)
            .map(|_| {
                let name = format!("package-{}", rng.random_range(0..12));
                match rng.random_range(0..4) {
                    0 => package(Absent, &name, ""),
                    _ => package(Present, &name, &format!("1.{}", rng.random_range(0..9))),
                }
            })
            .collect();
        batches.push(ordered.batch(sequence, observations));
    }
    let shuffled = Agent::new();
    let mut others: Vec<_> =
        batches.iter().map(|batch| shuffled.batch(batch.sequence, batch.observations.clone())).collect();
    let again: Vec<_> = others.iter().filter(|_| rng.random_bool(0.3)).cloned().collect();
    others.extend(again);
    others.shuffle(&mut rng);

    let running = Running::start().await;
    for batch in batches {
        running.deliver(vec![batch]).await;
    }
    // Two writers at once, some batches alone, some together.
    let (one, two) = others.split_at(others.len() / 2);
    let deliver = async |part: &[contracts::v1::EventBatch]| {
        for chunk in part.chunks(3) {
            running.deliver(chunk.to_vec()).await;
        }
    };
    futures::future::join(deliver(one), deliver(two)).await;

    let state = async |agent: &Agent| {
        let assets = running.list(&format!("node=nodes/{}", agent.node)).await;
        let mut told: Vec<_> = assets
            .into_iter()
            .map(|asset| (asset.natural_key, asset.display_name, asset.state, asset.details))
            .collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        told
    };
    assert_eq!(state(&ordered).await, state(&shuffled).await, "seed {}", seed.value());
    assert_eq!(count_events(&running).await, 400, "each event is in the log once; seed {}", seed.value());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_retires_what_it_does_not_list_once_it_is_whole() {
    let running = Running::start().await;
    let old = Agent::new();
    running
        .deliver(vec![old.batch(1, vec![package(Present, "gone", "1"), package(Present, "kept", "1")])])
        .await;
    // The store was lost: a new stream, its last batch first.
    let new = Agent { stream: Uuid::new_v4(), ..old.clone() };
    let last = snapshot(new.batch(2, vec![package(Listed, "new", "1")]), 1);
    running.deliver(vec![last]).await;
    assert_eq!(running.list("gone state=ACTIVE").await.len(), 1, "one batch is missing: nothing is retired");
    running.deliver(vec![new.batch(1, vec![package(Listed, "kept", "1")])]).await;
    assert_eq!(running.list("state=REMOVED").await[0].display_name, "gone");
    let active: Vec<_> =
        running.list("state=ACTIVE").await.into_iter().map(|a| (a.display_name, a.revision)).collect();
    assert_eq!(
        active,
        [("kept".to_owned(), 1), ("new".to_owned(), 1)],
        "what is listed and known is no event"
    );
    // What is left of the old stream is logged, never folded.
    running.deliver(vec![old.batch(2, vec![package(Present, "gone", "2")])]).await;
    assert_eq!(running.list("gone state=ACTIVE").await.len(), 0);
    let late = ListEventsRequest { filter: "gone revision=0".to_owned(), ..Default::default() };
    assert_eq!(running.events().list_events(late).await.unwrap().into_inner().events.len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_after_a_later_snapshot_that_did_not_list_it_is_retired() {
    let running = Running::start().await;
    let agent = Agent::new();
    let whole = |sequence| snapshot(agent.batch(sequence, vec![package(Listed, "kept", "1")]), sequence);
    running.deliver(vec![agent.batch(1, vec![package(Present, "kept", "1")])]).await;
    // Twice, so that a newer one takes the place of the first.
    running.deliver(vec![whole(4)]).await;
    running.deliver(vec![whole(5)]).await;
    for (sequence, name) in [(3, "late"), (2, "later")] {
        running.deliver(vec![agent.batch(sequence, vec![package(Present, name, "1")])]).await;
        let gone = running.list(&format!("display_name=\"{name}\" state=REMOVED")).await;
        assert_eq!(gone.len(), 1, "{name}");
    }
    // Nothing is missing any more: what comes now is newer.
    running.deliver(vec![agent.batch(6, vec![package(Present, "late", "2")])]).await;
    let names: Vec<String> =
        running.list("state=ACTIVE").await.into_iter().map(|asset| asset.display_name).collect();
    assert_eq!(names, ["kept", "late"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_found_by_what_it_was_when_it_was_last_there() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Present, "known", "1")])]).await;
    // Changed and gone in one call; new and gone in one call.
    let both = vec![package(Present, "known", "2"), package(Present, "brief", "3")];
    let gone = vec![package(Absent, "known", ""), package(Absent, "brief", "")];
    running.deliver(vec![agent.batch(2, both), agent.batch(3, gone)]).await;
    for (version, name) in [("2", "known"), ("3", "brief")] {
        let found = running.list(&format!("state=REMOVED details.package.version=\"{version}\"")).await;
        let names: Vec<&str> = found.iter().map(|asset| asset.display_name.as_str()).collect();
        assert_eq!(names, [name], "by version {version}");
    }
    assert_eq!(running.list("details.package.version=\"1\"").await.len(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_that_heartbeats_name_is_the_current_one() {
    let running = Running::start().await;
    let live = Agent::new();
    let left_over = Agent { stream: Uuid::new_v4(), ..live.clone() };
    running.deliver(vec![live.batch(1, vec![package(Present, "bash", "1")])]).await;
    // What an older store had left in a queue arrives after it.
    running.deliver(vec![left_over.batch(1, vec![package(Present, "bash", "0")])]).await;
    running.deliver(vec![live.batch(2, vec![package(Present, "bash", "2")])]).await;
    let version =
        async |version: &str| running.list(&format!("details.package.version={version}")).await.len();
    assert_eq!(version("0").await, 1, "nothing tells yet which one lives");
    let database = running.database.connect().await;
    let set = "UPDATE node SET stream = $1::text::uuid, heartbeat_time = clock_timestamp() + make_interval(secs => $2)";
    let beat = async |seconds: f64| {
        database.execute(set, &[&live.stream.to_string(), &seconds]).await.unwrap();
    };
    beat(1.0).await;
    running.deliver(vec![live.batch(3, vec![package(Present, "bash", "3")])]).await;
    assert_eq!(version("3").await, 0, "that heartbeat may have waited in its queue");
    beat(60.0).await;
    running.deliver(vec![live.batch(4, vec![package(Present, "bash", "4")])]).await;
    assert_eq!(version("4").await, 1);
    running.deliver(vec![left_over.batch(2, vec![package(Present, "bash", "0")])]).await;
    assert_eq!(version("4").await, 1, "what is left over is logged, never folded");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_make_nodes_healthy() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Present, "bash", "1")])]).await;
    let nodes =
        async || running.nodes().list_nodes(ListNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes().await[0].health(), NodeHealth::Unknown, "no collector was ever heard");
    let mut request = RecordHeartbeatsRequest { collector: "test/1".to_owned(), heartbeats: Vec::new() };
    running.ingest().record_heartbeats(request.clone()).await.unwrap();
    assert_eq!(nodes().await[0].health(), NodeHealth::Stale);
    request.heartbeats.push(ReceivedHeartbeat {
        heartbeat: Some(Heartbeat {
            schema_version: 1,
            node: Some(NodeIdentity {
                uid: agent.node.to_string(),
                cluster: "test".to_owned(),
                display_name: "renamed".to_owned(),
            }),
            stream: agent.stream.to_string(),
            last_sequence: 7,
            agent_version: "1.2.3".to_owned(),
            interval_seconds: 15,
            ..Heartbeat::default()
        }),
        held_for: None,
    });
    running.ingest().record_heartbeats(request).await.unwrap();
    let node = nodes().await.remove(0);
    assert_eq!(node.health(), NodeHealth::Healthy);
    assert_eq!((node.display_name.as_str(), node.active_assets), ("renamed", 1));
    assert_eq!((node.last_sequence, node.received_sequence), (7, 1));
    let asset = running.list("bash").await.remove(0);
    assert_eq!(asset.node_display_name, "renamed");
    assert!(asset.last_seen_time.unwrap().seconds >= asset.first_seen_time.unwrap().seconds);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_with_one_identity_are_told_until_neither_says_so() {
    let running = Running::start().await;
    let agent = Agent::new();
    let beat = async |conflicts: &[(bool, i64)]| {
        let heartbeats = conflicts.iter().map(|(identity_conflict, held_for)| ReceivedHeartbeat {
            heartbeat: Some(Heartbeat {
                schema_version: 1,
                node: agent.batch(1, Vec::new()).node,
                stream: agent.stream.to_string(),
                interval_seconds: 15,
                digests: vec![contracts::v1::KindDigest { kind: 5, count: 1, sum: vec![0; 16] }],
                identity_conflict: *identity_conflict,
                ..Heartbeat::default()
            }),
            held_for: Some(prost_types::Duration { seconds: *held_for, nanos: 0 }),
        });
        let request =
            RecordHeartbeatsRequest { collector: "test/1".to_owned(), heartbeats: heartbeats.collect() };
        running.ingest().record_heartbeats(request).await.unwrap();
        let nodes = running.nodes().list_nodes(ListNodesRequest::default()).await.unwrap().into_inner().nodes;
        nodes[0].identity_conflict
    };
    assert!(!beat(&[(false, 0)]).await);
    // The one that knows is heard first, in one call and in two.
    assert!(beat(&[(true, 1), (false, 0)]).await);
    assert!(beat(&[(false, 0), (true, 1)]).await);
    assert!(beat(&[(false, 0)]).await);
    let database = running.database.connect().await;
    let age = "UPDATE node SET identity_conflict_time = identity_conflict_time - interval '46 s'";
    database.execute(age, &[]).await.unwrap();
    assert!(!beat(&[(false, 0)]).await);
    assert!(beat(&[(true, 0)]).await);
    running.stop().await;
}
