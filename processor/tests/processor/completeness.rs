//! Digests of heartbeats against what is recorded: what is complete, what is
//! asked for, and when.

use contracts::v1::{
    AgentCommand, AssetKind, Completeness, EventBatch, GetNodeRequest, Heartbeat, IngestResult,
    KindCompleteness, ListNodesRequest, Node, NodeHealth, Presence, ReceivedHeartbeat,
    RecordHeartbeatsRequest, RetireNodeRequest, agent_command::Command,
};
use kit::digest::Digest;
use prost::Message;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::running::{Agent, Running, package, snapshot};

use Completeness::{Complete, Incomplete, Unknown};
use Presence::{Listed, Present};

const PACKAGE: i32 = AssetKind::Package as i32;
const DISK: i32 = AssetKind::Disk as i32;

/// A processor, one agent, and what the agent believes.
struct Scene {
    running: Running,
    database: Client,
    agent: Agent,
}

impl Scene {
    async fn start() -> Self {
        let running = Running::start().await;
        let database = running.database.connect().await;
        Self { running, database, agent: Agent::new() }
    }

    async fn deliver(&self, batch: EventBatch) {
        assert_eq!(self.running.deliver(vec![batch]).await, [IngestResult::Committed]);
    }

    /// Puts the digests right of what is recorded.
    async fn settle(&self) {
        let settle = "DELETE FROM node_kind; INSERT INTO node_kind (node_uid, kind, count, sum) \
             SELECT node_uid, kind, count(*), mod(sum(hash_number(state_hash)), 340282366920938463463374607431768211456) \
             FROM asset WHERE node_uid IS NOT NULL AND state = 1 GROUP BY node_uid, kind";
        self.database.batch_execute(settle).await.unwrap();
    }

    async fn execute(&self, statement: &str) -> u64 {
        self.database.execute(statement, &[]).await.unwrap()
    }

    /// A heartbeat that has just come, as of a sequence.
    async fn beat(&self, sequence: i64, digests: &[(i32, Digest)]) {
        self.beat_held(sequence, digests, 0).await;
    }

    async fn beat_held(&self, sequence: i64, digests: &[(i32, Digest)], seconds: i64) {
        let heartbeat = self.heartbeat(sequence, digests);
        let held_for = Some(prost_types::Duration { seconds, nanos: 0 });
        let heartbeats = vec![ReceivedHeartbeat { heartbeat: Some(heartbeat), held_for }];
        let request = RecordHeartbeatsRequest { collector: "test/1".to_owned(), heartbeats };
        self.running.ingest().record_heartbeats(request).await.unwrap();
    }

    fn heartbeat(&self, sequence: i64, digests: &[(i32, Digest)]) -> Heartbeat {
        let one = |(kind, digest): &(i32, Digest)| digest.of_kind(AssetKind::try_from(*kind).unwrap());
        Heartbeat {
            schema_version: 1,
            node: self.agent.batch(1, Vec::new()).node,
            stream: self.agent.stream.to_string(),
            last_sequence: sequence,
            interval_seconds: 15,
            digests: digests.iter().map(one).collect(),
            ..Heartbeat::default()
        }
    }

    fn name(&self) -> String {
        format!("nodes/{}", self.agent.node)
    }

    async fn node(&self) -> Node {
        let node = self.running.nodes().get_node(GetNodeRequest { name: self.name() }).await.unwrap();
        let node = node.into_inner();
        let listed = self.running.nodes().list_nodes(ListNodesRequest::default()).await.unwrap().into_inner();
        let whole = Node { kinds: Vec::new(), active_kinds: Vec::new(), ..node.clone() };
        assert_eq!(listed.nodes, [whole], "both tell the same");
        node
    }

    async fn kind(&self, kind: i32) -> KindCompleteness {
        self.node().await.kinds.into_iter().find(|told| told.kind == kind).unwrap()
    }

    /// The commands that wait for a collector, which are then gone.
    async fn commands(&self) -> Vec<AgentCommand> {
        let rows = self.database.query("SELECT command FROM agent_command ORDER BY uid", &[]).await.unwrap();
        self.execute("DELETE FROM agent_command").await;
        rows.iter().map(|row| AgentCommand::decode(row.get::<_, &[u8]>(0)).unwrap()).collect()
    }

    /// The kinds that listings are asked of, a command each.
    async fn resyncs(&self) -> Vec<Vec<i32>> {
        let asked = self.commands().await.into_iter().map(|command| match command.command {
            Some(Command::Resync(resync)) => resync.kinds,
            other => panic!("{other:?}"),
        });
        asked.collect()
    }

    /// Makes time pass: what is stored becomes older.
    async fn pass(&self, seconds: i64) {
        let back = format!("- interval '{seconds} s'");
        for (table, columns) in [
            ("node", &["heartbeat_time", "compare_time", "new_stream_time", "retire_time"] as &[&str]),
            ("node_stream", &["create_time", "receive_time"]),
            ("kind_gap", &["complete_time", "resync_time"]),
        ] {
            let set: Vec<String> =
                columns.iter().map(|column| format!("{column} = {column} {back}")).collect();
            self.execute(&format!("UPDATE {table} SET {}", set.join(", "))).await;
        }
    }

    /// Says that sequences of the agent's stream can never be applied.
    async fn waive(&self, sequence: i64, kinds: &str) {
        let Agent { node, stream } = &self.agent;
        self.execute(&format!(
            "INSERT INTO waived_sequence VALUES ('{node}', '{stream}', {sequence}, '{kinds}', now())"
        ))
        .await;
        self.execute(&format!(
            "UPDATE node_stream SET received = received + int8multirange(int8range({sequence}, {sequence}, '[]')) \
             WHERE stream = '{stream}'"
        ))
        .await;
    }
}

fn digest_of(packages: &[(&str, &str)]) -> Digest {
    let mut digest = Digest::default();
    for (name, version) in packages {
        digest.add(&package(Present, name, version).state_hash.try_into().unwrap());
    }
    digest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_digests_say_as_of_when_a_node_is_complete() {
    let scene = Scene::start().await;
    let first = scene.agent.batch(1, vec![package(Listed, "bash", "5.1"), package(Listed, "zsh", "5.9")]);
    scene.deliver(snapshot(first, 1)).await;
    assert_eq!(scene.node().await.completeness(), Unknown);

    let digests = [(PACKAGE, digest_of(&[("zsh", "5.9"), ("bash", "5.1")])), (DISK, Digest::default())];
    scene.beat(1, &digests).await;
    let node = scene.node().await;
    assert_eq!((node.completeness(), node.complete_time), (Complete, node.last_heartbeat_time));
    let told = scene.kind(PACKAGE).await;
    assert_eq!((told.count, told.reported_count, told.complete_sequence), (2, 2, 1));
    assert_eq!((told.completeness(), told.complete_time), (Complete, node.last_heartbeat_time));
    assert_eq!(scene.kind(DISK).await.completeness(), Complete, "none is (0, 0)");

    // Newer ones count without a row for each kind.
    scene.beat(1, &digests).await;
    let newer = scene.node().await;
    assert_ne!(newer.complete_time, node.complete_time);
    assert_eq!(newer.complete_time, newer.last_heartbeat_time);
    assert_eq!(scene.execute("SELECT FROM kind_gap").await, 0);
    // One that was held longer than the newest is older: it says nothing.
    scene.beat_held(1, &[(PACKAGE, Digest::default())], 30).await;
    assert_eq!(scene.node().await, newer);

    // Nothing could be compared for three intervals.
    scene.pass(44).await;
    assert_eq!(scene.node().await.completeness(), Complete);
    scene.pass(2).await;
    let stale = scene.node().await;
    assert_eq!((stale.health(), stale.completeness()), (NodeHealth::Stale, Unknown));
    assert!(stale.complete_time.is_some(), "as of when it was complete stays");
    assert_eq!(scene.commands().await, []);
    let compared = "assettrack_delivery_comparisons_total{result=\"equal\"}";
    assert!((scene.running.metric(compared).await - 2.0).abs() < 0.1);
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_exactly_as_recorded_is_compared() {
    let scene = Scene::start().await;
    let wrong = [(PACKAGE, digest_of(&[("other", "1")]))];
    let silent = async |why: &str| {
        assert_eq!(scene.commands().await, [], "{why}");
        assert_eq!(scene.node().await.completeness(), Unknown, "{why}");
    };
    scene.beat(3, &wrong).await;
    silent("nothing was ever received").await;
    scene.deliver(scene.agent.batch(1, vec![package(Present, "bash", "1")])).await;
    scene.deliver(scene.agent.batch(3, vec![package(Present, "zsh", "1")])).await;
    scene.beat(3, &wrong).await;
    silent("2 is missing").await;
    scene.deliver(scene.agent.batch(2, vec![])).await;
    scene.beat(4, &wrong).await;
    silent("4 is under way").await;
    scene.beat(2, &wrong).await;
    silent("3 is in already").await;
    let other = Scene { agent: Agent { stream: Uuid::new_v4(), ..scene.agent.clone() }, ..scene };
    other.beat(3, &wrong).await;
    assert_eq!(other.commands().await, [], "another stream");
    let scene = Scene { agent: Agent { stream: Uuid::nil(), ..other.agent.clone() }, ..other };
    scene.deliver(scene.agent.batch(1, vec![])).await;
    scene.beat(1, &[]).await;
    let node = scene.node().await;
    assert_eq!((node.completeness(), node.kinds.len()), (Unknown, 1), "never scanned in this stream");
    assert_eq!((scene.commands().await, node.kinds[0].complete_time), (Vec::new(), None));
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_is_asked_for_with_back_off_until_it_is_gone() {
    let scene = Scene::start().await;
    scene.deliver(scene.agent.batch(1, vec![package(Present, "bash", "1")])).await;
    scene.beat(1, &[(PACKAGE, digest_of(&[("bash", "1")]))]).await;
    let complete = scene.node().await.complete_time;
    // Behind our back.
    scene.execute("UPDATE node_kind SET sum = sum + 1").await;
    let told = [(PACKAGE, digest_of(&[("bash", "1")])), (DISK, digest_of(&[("sda", "1")]))];
    scene.beat(1, &told).await;
    let commands = scene.commands().await;
    let [AgentCommand { schema_version: 1, command: Some(Command::Resync(resync)), .. }] = &commands[..]
    else {
        panic!("{commands:?}");
    };
    assert_eq!(resync.kinds, [DISK, PACKAGE], "one command for all kinds");
    assert_eq!(commands[0].node_uid, scene.agent.node.to_string());
    assert!(kit::identity::parse_uuid(&commands[0].command_id).is_some());
    let node = scene.node().await;
    assert_eq!((node.completeness(), node.complete_time), (Incomplete, None));
    let told_of = scene.kind(PACKAGE).await;
    assert_eq!((told_of.completeness(), told_of.complete_time), (Incomplete, complete));
    assert_eq!(
        (told_of.resync_count, told_of.resync_time.is_some(), told_of.complete_sequence),
        (1, true, 1)
    );
    let told_of = scene.kind(DISK).await;
    assert_eq!((told_of.count, told_of.reported_count, told_of.complete_time), (0, 1, None));

    // 1, 2, 4 … minutes, to an hour.
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        scene.beat(1, &told).await;
        scene.pass(minutes * 60 - 5).await;
        scene.beat(1, &told).await;
        assert!(scene.resyncs().await.is_empty(), "not before {minutes} minutes have passed");
        scene.pass(5).await;
        scene.beat(1, &told).await;
        assert_eq!(scene.resyncs().await, [[DISK, PACKAGE]], "after {minutes} minutes");
    }
    // Equal once, and it begins anew.
    scene.settle().await;
    scene.beat(1, &told[..1]).await;
    let told_of = scene.kind(PACKAGE).await;
    assert_eq!((told_of.completeness(), told_of.resync_count, told_of.resync_time), (Complete, 0, None));
    scene.execute("UPDATE node_kind SET sum = sum + 1").await;
    scene.beat(1, &told[..1]).await;
    assert_eq!(scene.resyncs().await, [[PACKAGE]]);
    testkit::wait_until(std::time::Duration::from_secs(30), "the gauge tells", async || {
        scene.running.metric("assettrack_delivery_incomplete_kinds").await > 0.5
    })
    .await;
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_dead_lettered_is_not_asked_for_again() {
    let scene = Scene::start().await;
    scene.deliver(scene.agent.batch(1, vec![package(Present, "bash", "1")])).await;
    let told = [(PACKAGE, digest_of(&[("bash", "1"), ("wrong", "1")]))];
    scene.waive(2, "{5}").await;
    scene.beat(2, &told).await;
    assert_eq!(scene.resyncs().await, [[PACKAGE]], "once, whatever was waived before");
    assert_eq!(scene.kind(PACKAGE).await.dead_letters, 1);
    // The listing ends as a dead letter, too.
    for (sequence, kinds) in [(3, "{5,2}"), (4, "{}")] {
        scene.waive(sequence, kinds).await;
        scene.pass(3600).await;
        scene.beat(sequence, &told).await;
        assert!(scene.resyncs().await.is_empty(), "{kinds}");
        assert_eq!(scene.kind(PACKAGE).await.dead_letters, sequence - 1);
    }
    let node = scene.node().await;
    assert_eq!(node.completeness(), Incomplete);
    // They are replayed: what still differs is asked for.
    scene.execute("DELETE FROM waived_sequence WHERE sequence > 2").await;
    scene.beat(4, &told).await;
    assert_eq!(scene.resyncs().await, [[PACKAGE]]);
    // What was waived for another kind does not matter.
    scene.waive(5, "{2}").await;
    scene.pass(3600).await;
    scene.beat(5, &told).await;
    assert_eq!(scene.resyncs().await, [[PACKAGE]]);
    // A new stream is a new state.
    scene.waive(6, "{5}").await;
    let scene = Scene { agent: Agent { stream: Uuid::new_v4(), ..scene.agent.clone() }, ..scene };
    scene.deliver(scene.agent.batch(1, vec![package(Listed, "bash", "1")])).await;
    scene.beat(1, &told).await;
    assert_eq!(scene.resyncs().await, [[PACKAGE]]);
    assert_eq!(scene.kind(PACKAGE).await.dead_letters, 0, "those of the old stream do not matter");
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_went_back_is_told_to_begin_a_new_stream() {
    let scene = Scene::start().await;
    for sequence in 1..=5 {
        scene.deliver(scene.agent.batch(sequence, vec![package(Present, "bash", "1")])).await;
    }
    scene.execute("UPDATE node_stream SET receive_time = now()").await;
    let told = [(PACKAGE, digest_of(&[("bash", "1")]))];
    scene.pass(44).await;
    scene.beat(3, &told).await;
    assert_eq!(scene.commands().await, [], "that heartbeat may have waited since before 4 and 5");
    scene.pass(2).await;
    scene.beat(7, &told).await;
    assert_eq!(scene.commands().await, [], "what is under way is no reason");
    let asked = async || {
        scene.beat(3, &told).await;
        let commands = scene.commands().await;
        let new_stream = |command: &AgentCommand| matches!(command.command, Some(Command::NewStream(_)));
        assert!(commands.iter().all(new_stream), "{commands:?}");
        commands.len()
    };
    assert_eq!(asked().await, 1);
    for minutes in [1, 2, 4] {
        scene.pass(minutes * 60 - 5).await;
        assert_eq!(asked().await, 0, "{minutes}");
        scene.pass(5).await;
        assert_eq!(asked().await, 1, "{minutes}");
    }
    // It has caught up; the next time it begins anew.
    scene.beat(5, &told).await;
    assert_eq!(asked().await, 1);
    scene.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_retired_and_returns() {
    let scene = Scene::start().await;
    let both = vec![package(Present, "bash", "1"), package(Present, "zsh", "1")];
    scene.deliver(scene.agent.batch(1, both)).await;
    let told = [(PACKAGE, digest_of(&[("bash", "1"), ("zsh", "1")]))];
    scene.beat(1, &told).await;
    let retire = async || {
        let request = RetireNodeRequest { name: scene.name() };
        scene.running.nodes().retire_node(request).await.map(tonic::Response::into_inner)
    };
    let refused = retire().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("is heard"), "{refused:?}");
    scene.pass(46).await;
    let retired = retire().await.unwrap();
    assert_eq!((retired.health(), retired.active_assets), (NodeHealth::Retired, 0));
    assert!(retired.retire_time.is_some());
    assert_eq!((retired.completeness(), retired.kinds.len()), (Unknown, 0));
    let gone = scene.running.list("state=REMOVED").await;
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|asset| asset.revision == 2 && asset.details.is_some()), "{gone:?}");
    let request =
        contracts::v1::ListEventsRequest { filter: "type=REMOVED".to_owned(), ..Default::default() };
    let events = scene.running.events().list_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!((event.actor.as_str(), event.revision), ("anonymous", 2));
        assert_eq!(event.changed_fields, ["state"]);
    }
    assert_eq!(retire().await.unwrap(), retired, "retiring what is retired changes nothing");
    assert_eq!(scene.execute("SELECT FROM asset_event").await, 4);

    // One that waited since before tells nothing of a return.
    scene.beat_held(1, &told, 1).await;
    assert_eq!(scene.node().await.health(), NodeHealth::Retired);
    scene.commands().await;
    scene.pass(5).await;
    scene.beat(1, &told).await;
    let node = scene.node().await;
    assert_eq!((node.health(), node.retire_time), (NodeHealth::Healthy, None));
    assert_eq!(node.completeness(), Incomplete);
    scene.pass(60).await;
    scene.beat(1, &told).await;
    assert_eq!(scene.resyncs().await, [[PACKAGE]]);
    // The listing that it sends is newer than what retired it.
    let listed = vec![package(Listed, "bash", "1"), package(Listed, "zsh", "1")];
    scene.deliver(snapshot(scene.agent.batch(2, listed), 2)).await;
    scene.beat(2, &told).await;
    let node = scene.node().await;
    assert_eq!((node.completeness(), node.active_assets), (Complete, 2));
    assert_eq!(scene.running.list("state=ACTIVE").await.len(), 2);
    scene.running.stop().await;
}
