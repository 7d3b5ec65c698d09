//! Commands on their way to agents, and whether collectors consume.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contracts::v1::{
    AgentCommand, AssetKind, Consumption, Heartbeat, ReceivedHeartbeat, RecordHeartbeatsRequest,
    RequestScanRequest, SetConsumptionRequest, StreamCommandsRequest, StreamCommandsResponse,
    agent_command::Command, ingest_service_client::IngestServiceClient,
};
use kit::{queue::COMMAND_TTL_MILLIS, settings::Secret, shutdown::CancellationToken};
use processor::{
    delivery::{
        DeliveryMetrics,
        streams::{CommandStreams, Patience},
    },
    store::pool,
};
use testkit::{wait_for, wait_until};
use tokio::sync::mpsc;
use tonic::{Code, Streaming, transport::Channel};
use uuid::Uuid;

use crate::running::{Agent, Running};

const SOON: Duration = Duration::from_secs(10);

async fn listen(channel: &Channel, collector: &str) -> (Consumption, Streaming<StreamCommandsResponse>) {
    let request = StreamCommandsRequest { collector: collector.to_owned() };
    let stream = IngestServiceClient::new(channel.clone()).stream_commands(request).await;
    let mut stream = stream.unwrap().into_inner();
    let first = next(&mut stream).await;
    assert!(first.commands.is_empty());
    (first.consumption.unwrap(), stream)
}

async fn next(stream: &mut Streaming<StreamCommandsResponse>) -> StreamCommandsResponse {
    tokio::time::timeout(SOON, stream.message()).await.unwrap().unwrap().unwrap()
}

async fn hear(running: &Running, agent: &Agent) {
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
}

fn scan(agent: &Agent, kinds: &[AssetKind], resync: bool) -> RequestScanRequest {
    let kinds = kinds.iter().map(|kind| *kind as i32).collect();
    RequestScanRequest { name: format!("nodes/{}", agent.node), kinds, resync }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_that_is_asked_for_reaches_a_collector() {
    let running = Running::start().await;
    let agent = Agent::new();
    hear(&running, &agent).await;
    let (consumption, mut stream) = listen(&running.channel, "collector/1").await;
    assert_eq!(consumption, Consumption::default());
    let kinds = [AssetKind::Package, AssetKind::Disk, AssetKind::Package];
    for resync in [false, true] {
        let asked = Instant::now();
        let answer = running.nodes().request_scan(scan(&agent, &kinds, resync)).await.unwrap().into_inner();
        let told = next(&mut stream).await;
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert_eq!((told.consumption, told.commands.len()), (None, 1));
        let AgentCommand { schema_version, command_id, node_uid, expire_time, command } = &told.commands[0];
        assert_eq!((*schema_version, node_uid), (1, &agent.node.to_string()));
        assert_eq!((command_id, expire_time), (&answer.command_id, &answer.expire_time));
        assert!(kit::identity::parse_uuid(command_id).is_some());
        let left = answer.expire_time.unwrap().seconds - kit::time::now().seconds;
        assert!((0..=i64::from(COMMAND_TTL_MILLIS) / 1000).contains(&left), "{left}");
        let asked_kinds = match command {
            Some(Command::Rescan(rescan)) if !resync => &rescan.kinds,
            Some(Command::Resync(listing)) if resync => &listing.kinds,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked_kinds, &[2, 5], "each once");
    }
    wait_until(SOON, "both are counted", async || {
        let sent = async |command| {
            running.metric(&format!("assettrack_delivery_commands_sent_total{{command=\"{command}\"}}")).await
        };
        sent("rescan").await + sent("resync").await > 1.5
    })
    .await;
    drop(stream);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_is_refused_by_reason() {
    let running = Running::start().await;
    let agent = Agent::new();
    let refused =
        async |request: RequestScanRequest| running.nodes().request_scan(request).await.unwrap_err();
    assert_eq!(refused(scan(&agent, &[], false)).await.code(), Code::NotFound);
    running.deliver(vec![agent.batch(1, Vec::new())]).await;
    let unheard = refused(scan(&agent, &[], false)).await;
    assert_eq!(unheard.code(), Code::FailedPrecondition);
    assert!(unheard.message().contains("no heartbeat"), "{unheard:?}");
    hear(&running, &agent).await;
    for kind in [AssetKind::Unspecified, AssetKind::Custom] {
        let wrong = refused(scan(&agent, &[AssetKind::Disk, kind], false)).await;
        assert_eq!(wrong.code(), Code::InvalidArgument);
        assert!(wrong.message().starts_with("kinds[1]:"), "{wrong:?}");
    }
    let unknown = RequestScanRequest { kinds: vec![99], ..scan(&agent, &[], false) };
    assert!(refused(unknown).await.message().starts_with("kinds[0]:"));
    let name = RequestScanRequest { name: "nodes/x".to_owned(), ..scan(&agent, &[], false) };
    assert!(refused(name).await.message().starts_with("name:"));
    let database = running.database.connect().await;
    database.execute("UPDATE node SET retire_time = now()", &[]).await.unwrap();
    let retired = refused(scan(&agent, &[], false)).await;
    assert_eq!(retired.code(), Code::FailedPrecondition);
    assert!(retired.message().contains("retired"), "{retired:?}");
    let rows = database.execute("SELECT FROM agent_command", &[]).await.unwrap();
    assert_eq!(rows, 0, "nothing of it was kept");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_reaches_one_collector_of_two_replicas_once() {
    let running = Running::start().await;
    let other = running.another().await;
    let agent = Agent::new();
    hear(&running, &agent).await;
    let (_, one) = listen(&running.channel, "collector/1").await;
    let (_, two) = listen(&running.channel, "collector/2").await;
    let (_, three) = listen(&other.channel, "collector/3").await;
    let (told, mut commands) = mpsc::unbounded_channel();
    for (place, mut stream) in [one, two, three].into_iter().enumerate() {
        let told = told.clone();
        tokio::spawn(async move {
            while let Ok(Some(answer)) = stream.message().await {
                for command in answer.commands {
                    let _ = told.send((place, command.command_id));
                }
            }
        });
    }
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..120 {
        let answer = running.nodes().request_scan(scan(&agent, &[], false)).await.unwrap();
        expected.insert(answer.into_inner().command_id, 0);
    }
    let mut shares = [0; 3];
    for _ in 0..expected.len() {
        let (place, id) = tokio::time::timeout(SOON, commands.recv()).await.unwrap().unwrap();
        shares[place] += 1;
        *expected.get_mut(&id).unwrap() += 1;
    }
    assert!(expected.values().all(|count| *count == 1), "{expected:?}");
    assert!(shares[0] > 0 && shares[1] > 0, "in turn: {shares:?}");
    let database = running.database.connect().await;
    assert_eq!(database.execute("SELECT FROM agent_command", &[]).await.unwrap(), 0);
    assert!(commands.try_recv().is_err(), "none came twice");
    other.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_dropped_and_nothing_is_taken_while_nobody_listens() {
    let running = Running::start().await;
    let agent = Agent::new();
    hear(&running, &agent).await;
    running.nodes().request_scan(scan(&agent, &[], false)).await.unwrap();
    let database = running.database.connect().await;
    let age = "UPDATE agent_command SET expire_time = now() - interval '1 s'";
    assert_eq!(database.execute(age, &[]).await.unwrap(), 1);
    let live = running.nodes().request_scan(scan(&agent, &[], false)).await.unwrap().into_inner();
    assert_eq!(database.execute("SELECT FROM agent_command", &[]).await.unwrap(), 2);
    let (_, mut stream) = listen(&running.channel, "collector/1").await;
    let told = next(&mut stream).await;
    let ids: Vec<_> = told.commands.iter().map(|command| &command.command_id).collect();
    assert_eq!(ids, [&live.command_id]);
    assert_eq!(database.execute("SELECT FROM agent_command", &[]).await.unwrap(), 0);
    assert!((running.metric("assettrack_delivery_commands_expired_total").await - 1.0).abs() < 0.1);
    drop(stream);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_learn_within_a_second_whether_to_consume() {
    let running = Running::start().await;
    let other = running.another().await;
    let (_, mut here) = listen(&running.channel, "collector/1").await;
    let (_, mut there) = listen(&other.channel, "collector/2").await;
    let set = async |paused: bool, reason: &str| {
        let request = SetConsumptionRequest { paused, reason: reason.to_owned() };
        running.ingest().set_consumption(request).await.map(tonic::Response::into_inner)
    };
    for (paused, reason) in [(true, ""), (true, &*"x".repeat(1025)), (true, "a\0b"), (false, "why")] {
        let wrong = set(paused, reason).await.unwrap_err();
        assert_eq!(wrong.code(), Code::InvalidArgument);
        assert!(wrong.message().starts_with("reason:"), "{wrong:?}");
    }
    assert_eq!(set(false, "").await.unwrap(), Consumption::default(), "resuming what is not paused");
    let mut before = Consumption::default();
    for (paused, reason) in [(true, &*"x".repeat(1024)), (true, "database upgrade"), (false, "")] {
        let began = Instant::now();
        let now = set(paused, reason).await.unwrap();
        assert_eq!((now.paused, now.reason.as_str()), (paused, reason));
        assert_ne!(now.change_time, before.change_time);
        for stream in [&mut here, &mut there] {
            assert_eq!(next(stream).await.consumption, Some(now.clone()));
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(set(paused, reason).await.unwrap(), now, "the same again changes nothing");
        let (first, _) = listen(&other.channel, "collector/3").await;
        assert_eq!(first, now);
        before = now;
    }
    drop((here, there));
    other.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_do_not_hold_up_a_shutdown() {
    let running = Running::start().await;
    let other = running.another().await;
    let (_, mut stream) = listen(&other.channel, "collector/1").await;
    let began = Instant::now();
    other.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(stream.message().await.unwrap(), None, "it ended well");
    let wrong = running.ingest().stream_commands(StreamCommandsRequest::default()).await.unwrap_err();
    assert!(wrong.message().starts_with("collector:"), "{wrong:?}");
    running.stop().await;
}

/// Streams whose readers are this test, with a poller of their own.
async fn streams(running: &Running, patience: Patience) -> (CommandStreams, DeliveryMetrics) {
    let url = Secret::new(running.database.url());
    let metrics = DeliveryMetrics::default();
    let streams = CommandStreams::new(pool::pool(&url, 2).unwrap(), metrics.clone(), patience);
    tokio::spawn(streams.clone().run(CancellationToken::new()));
    (streams, metrics)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_blocks_nobody_and_is_given_up() {
    let running = Running::start().await;
    let agent = Agent::new();
    hear(&running, &agent).await;
    let patience = Patience { keepalive: Duration::from_millis(50), stalled: Duration::from_secs(1) };
    let (streams, metrics) = streams(&running, patience).await;
    // Never read: what it has room for fills up with words of life.
    let stuck = streams.add("stuck".to_owned()).await.unwrap();
    let mut live = streams.add("live".to_owned()).await.unwrap();
    let full = async || stuck.len() == stuck.max_capacity();
    wait_until(SOON, "the stream that is not read is full", full).await;
    for _ in 0..8 {
        let id =
            running.nodes().request_scan(scan(&agent, &[], false)).await.unwrap().into_inner().command_id;
        let got = wait_for(SOON, "the command comes", async || live.recv().await?.commands.pop()).await;
        assert_eq!(got.command_id, id);
    }
    wait_until(SOON, "the stuck one is given up", async || {
        while live.try_recv().is_ok() {}
        stuck.is_closed()
    })
    .await;
    assert_eq!(metrics.streams.get(), 1);
    // Readers that go away are forgotten, and nothing is taken any more.
    drop(live);
    wait_until(SOON, "no stream is open", async || metrics.streams.get() == 0).await;
    running.nodes().request_scan(scan(&agent, &[], false)).await.unwrap();
    let mut late = streams.add("late".to_owned()).await.unwrap();
    let got = wait_for(SOON, "the command comes", async || late.recv().await?.commands.pop()).await;
    assert_eq!(got.node_uid, agent.node.to_string());
    assert_eq!(metrics.lost.get(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_poller_survives_a_database_that_goes_away() {
    let running = Running::start().await;
    let agent = Agent::new();
    hear(&running, &agent).await;
    let (_, mut stream) = listen(&running.channel, "collector/1").await;
    let database = running.database.connect().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    database.execute(end, &[]).await.unwrap();
    let id = Uuid::now_v7();
    let insert =
        "INSERT INTO agent_command SELECT $1::text::uuid, uid, $2, now(), now() + interval '1 min' FROM node";
    let command = prost::Message::encode_to_vec(&AgentCommand {
        command_id: id.to_string(),
        ..AgentCommand::default()
    });
    database.execute(insert, &[&id.to_string(), &command]).await.unwrap();
    assert_eq!(next(&mut stream).await.commands[0].command_id, id.to_string());
    drop(stream);
    running.stop().await;
}
