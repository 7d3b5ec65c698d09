//! What can never be applied holds up nothing and retires nothing, and digests
//! are those of the rows.

use std::collections::HashMap;

use contracts::v1::{
    AssetState, DeadLetterReason, GetNodeRequest, Heartbeat, IngestEventsRequest, IngestResult, Presence,
    QueueMessage, ReceivedHeartbeat, RecordHeartbeatsRequest, RejectedMessage, queue_message::Content,
};
use rand::{RngExt as _, seq::SliceRandom};
use testkit::Seed;

use crate::running::{Agent, Running, message, package, snapshot};

use IngestResult::{Committed, DeadLettered, Duplicate};
use Presence::{Absent, Listed, Present};

/// A message that a collector could not decode, of this place.
fn garbage(agent: &Agent, sequence: i64) -> QueueMessage {
    let headers = HashMap::from([
        (kit::queue::HEADER_NODE.to_owned(), agent.node.to_string()),
        (kit::queue::HEADER_STREAM.to_owned(), agent.stream.to_string()),
        (kit::queue::HEADER_SEQUENCE.to_owned(), sequence.to_string()),
    ]);
    let rejected = RejectedMessage {
        reason: DeadLetterReason::Undecodable.into(),
        detail: "body: not a Protobuf message".to_owned(),
        body: sequence.to_be_bytes().to_vec(),
        headers,
        body_size_bytes: 8,
    };
    QueueMessage { content: Some(Content::Rejected(rejected)), ..QueueMessage::default() }
}

async fn send(running: &Running, messages: Vec<QueueMessage>) -> Vec<IngestResult> {
    let request = IngestEventsRequest { messages };
    running.ingest().ingest_events(request).await.unwrap().into_inner().results().collect()
}

/// The newest sequence below which nothing is missing.
async fn received(running: &Running, agent: &Agent) -> i64 {
    let heartbeat = Heartbeat {
        schema_version: 1,
        node: agent.batch(1, Vec::new()).node,
        stream: agent.stream.to_string(),
        interval_seconds: 15,
        ..Heartbeat::default()
    };
    let heartbeats = vec![ReceivedHeartbeat { heartbeat: Some(heartbeat), held_for: None }];
    let request = RecordHeartbeatsRequest { collector: "test/1".to_owned(), heartbeats };
    running.ingest().record_heartbeats(request).await.unwrap();
    let name = format!("nodes/{}", agent.node);
    running.nodes().get_node(GetNodeRequest { name }).await.unwrap().into_inner().received_sequence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_counts_as_received_and_its_snapshot_retires_nothing() {
    let running = Running::start().await;
    let agent = Agent::new();
    let whole = agent.batch(1, vec![package(Listed, "bash", "1"), package(Listed, "zsh", "1")]);
    assert_eq!(running.deliver(vec![snapshot(whole, 1)]).await, [Committed]);

    // A listing in three batches, of which the second cannot be read.
    let first = message(agent.batch(2, vec![package(Listed, "bash", "1")]));
    let last = message(snapshot(agent.batch(4, vec![package(Listed, "dash", "1")]), 2));
    assert_eq!(
        send(&running, vec![last, garbage(&agent, 3), first]).await,
        [Committed, DeadLettered, Committed]
    );
    assert_eq!(received(&running, &agent).await, 4);
    let active = running.list("kind=PACKAGE state=ACTIVE").await.len();
    assert_eq!(active, 3, "zsh may have been listed in what could not be read");

    // It came all the same, as the agent sent it once more: it is applied, once.
    let sound = || agent.batch(3, vec![package(Listed, "zsh", "2")]);
    assert_eq!(running.deliver(vec![sound(), sound()]).await, [Committed, Duplicate]);
    assert_eq!(running.deliver(vec![sound()]).await, [Duplicate]);
    let zsh = running.list("kind=PACKAGE zsh").await;
    assert_eq!((zsh[0].state(), zsh[0].revision), (AssetState::Active, 2));

    // The next listing is whole, and retires.
    let again = agent.batch(5, vec![package(Listed, "bash", "1"), package(Listed, "zsh", "2")]);
    assert_eq!(running.deliver(vec![snapshot(again, 5)]).await, [Committed]);
    assert_eq!(running.list("kind=PACKAGE state=ACTIVE").await.len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_may_begin_with_a_dead_letter() {
    let running = Running::start().await;
    let agent = Agent::new();
    // Nothing is known of this node yet, and garbage makes none.
    assert_eq!(
        send(&running, vec![garbage(&agent, 1), garbage(&Agent::new(), 1)]).await,
        [DeadLettered, DeadLettered]
    );
    let database = running.database.connect().await;
    let nodes: i64 = database.query_one("SELECT count(*) FROM node", &[]).await.unwrap().get(0);
    assert_eq!(nodes, 0);
    running.deliver(vec![agent.batch(2, vec![package(Present, "bash", "1")])]).await;
    assert_eq!(received(&running, &agent).await, 2);
    // Garbage that names a place which is taken changes nothing.
    assert_eq!(send(&running, vec![garbage(&agent, 2)]).await, [DeadLettered]);
    assert_eq!(running.deliver(vec![agent.batch(2, vec![package(Present, "x", "1")])]).await, [Duplicate]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_are_those_of_the_rows_whatever_happens() {
    let running = Running::start().await;
    let seed = Seed::draw();
    let mut rng = seed.rng();
    let database = running.database.connect().await;
    let mut agents = [Agent::new(), Agent::new()];
    for round in 0..4 {
        for agent in &mut agents {
            if round == 2 {
                agent.stream = uuid::Uuid::new_v4();
            }
            let mut batches = Vec::new();
            for sequence in (round % 2) * 10 + 1..=(round % 2) * 10 + 10 {
                let observations = (0..rng.random_range(1..6)).map(|_| {
                    let presence = [Present, Listed, Absent, Present][rng.random_range(0..4)];
                    let name = format!("p{}", rng.random_range(0..8));
                    package(presence, &name, &rng.random_range(0..3).to_string())
                });
                batches.push(agent.batch(sequence, observations.collect()));
            }
            let last = batches.pop().unwrap();
            let first_sequence = last.sequence - rng.random_range(0..5);
            batches.push(snapshot(last, first_sequence));
            batches.extend(batches.clone());
            batches.shuffle(&mut rng);
            for some in batches.chunks(3) {
                running.deliver(some.to_vec()).await;
            }
        }
        let wrong = "SELECT node_uid, kind, own.count::text, own.sum::text, rows.count::text, rows.sum::text \
             FROM node_kind AS own FULL JOIN (SELECT node_uid, kind, count(*) AS count, \
             mod(sum(hash_number(state_hash)), 340282366920938463463374607431768211456) AS sum \
             FROM asset WHERE state = 1 GROUP BY node_uid, kind) AS rows USING (node_uid, kind) \
             WHERE own.count IS DISTINCT FROM coalesce(rows.count, 0) \
             OR own.sum IS DISTINCT FROM coalesce(rows.sum, 0)";
        let rows = database.query(wrong, &[]).await.unwrap();
        assert!(rows.is_empty(), "round {round}: {rows:?}");
    }
    // The database's arithmetic against ours.
    let hashes = [[0xff_u8; 16], [0; 16], [0x80; 16], [1; 16]];
    let mut digest = kit::digest::Digest::default();
    hashes.iter().for_each(|hash| digest.add(hash));
    let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 16]>::as_slice).collect();
    let sum = "SELECT mod(sum(hash_number(hash)), 340282366920938463463374607431768211456)::text \
         FROM unnest($1::bytea[]) AS hash";
    let sum: String = database.query_one(sum, &[&hashes]).await.unwrap().get(0);
    assert_eq!(sum, digest.sum.to_string());
    running.stop().await;
}
