//! A simulated fleet with all that can go wrong on the way ends in the inventory
//! as the fleet says it must.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use assettrack_cli::simulate::{Outcome, Settings, run};
use clap::Parser;
use contracts::v1::{AgentCommand, AssetKind, NewStreamCommand, ResyncCommand, agent_command::Command};
use kit::{
    digest::Digest,
    queue::{Topology, command_key},
    shutdown::CancellationToken,
};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use prost::Message;
use testkit::{Database, Seed, Service, amqp_url, free_address, namespace, wait_for, wait_until};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(90);

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

/// From the queue to the database: nobody asks through a gateway here.
pub struct Pipeline {
    _collector: Service,
    _processor: Service,
    pub database: Database,
    /// Of the processor.
    pub grpc: SocketAddr,
    namespace: String,
}

impl Pipeline {
    async fn start() -> Self {
        // Rounds of the scrub would only cost time.
        Self::with_scrub(0).await
    }

    /// With so many seconds between two rounds of the scrub.
    pub async fn with_scrub(seconds: u64) -> Self {
        let (database, namespace) = (Database::create().await, namespace());
        let (grpc, admin) = (free_address().await, free_address().await);
        let mut processor = Service::new("assettrack-processor")
            .env("ASSETTRACK_DATABASE_URL", &database.url())
            .env("ASSETTRACK_SCRUB_INTERVAL_SECONDS", &seconds)
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin);
        processor.start();
        processor.ready(admin, DEADLINE).await;
        let admin = free_address().await;
        let mut collector = Service::new("assettrack-collector")
            .env("ASSETTRACK_AMQP_URL", &amqp_url())
            .env("ASSETTRACK_QUEUE_NAMESPACE", &namespace)
            .env("ASSETTRACK_PROCESSOR_URL", &format!("http://{grpc}"))
            .env("ASSETTRACK_GRPC_ADDRESS", &free_address().await)
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin);
        collector.start();
        collector.ready(admin, DEADLINE).await;
        Self { _collector: collector, _processor: processor, database, grpc, namespace }
    }
}

pub fn settings(pipeline: &Pipeline, seed: Seed, flags: &[&str]) -> Settings {
    let (url, seed) = (amqp_url(), seed.value().to_string());
    let fixed = ["simulate", "--amqp-url", &url, "--queue-namespace", &pipeline.namespace, "--seed", &seed];
    Program::try_parse_from(fixed.iter().chain(flags)).unwrap().settings
}

async fn simulate(settings: &Settings) -> Outcome {
    run(settings, CancellationToken::new(), |line| println!("{line}")).await.unwrap()
}

/// ACTIVE assets as recorded: node, kind, natural key and name; and the digest of
/// each kind on each node.
type Assets = BTreeSet<(String, i32, String, String)>;
type Digests = BTreeMap<(String, String), (u64, String)>;

async fn recorded(pipeline: &Pipeline) -> (Assets, Digests) {
    let database = pipeline.database.connect().await;
    let rows = database
        .query(
            "SELECT node_uid::text, kind::integer, natural_key, display_name, state_hash \
             FROM asset WHERE state = 1",
            &[],
        )
        .await
        .unwrap();
    let mut assets = Assets::new();
    let mut digests: BTreeMap<(String, String), Digest> = BTreeMap::new();
    for row in rows {
        let (node, kind): (String, i32) = (row.get(0), row.get(1));
        assets.insert((node.clone(), kind, row.get(2), row.get(3)));
        let name = AssetKind::try_from(kind).unwrap().as_str_name().to_owned();
        let hash: Vec<u8> = row.get(4);
        digests.entry((node, name)).or_default().add(&hash.try_into().unwrap());
    }
    let written = digests.into_iter().map(|(key, one)| (key, (one.count, format!("{:032x}", one.sum))));
    (assets, written.collect())
}

fn expected(outcome: &Outcome) -> (Assets, Digests) {
    let assets = outcome.assets().map(|(node, kind, key, name)| (node.to_string(), kind.into(), key, name));
    let nodes = outcome.expectation.nodes.iter();
    let digests = nodes.flat_map(|node| {
        let present = node.kinds.iter().filter(|kind| kind.count > 0);
        present.map(|kind| ((node.node.clone(), kind.kind.clone()), (kind.count, kind.sum.clone())))
    });
    (assets.collect(), digests.collect())
}

async fn count(pipeline: &Pipeline, query: &str) -> u64 {
    let count: i64 = pipeline.database.connect().await.query_one(query, &[]).await.unwrap().get(0);
    count.cast_unsigned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_fleet_with_faults_ends_as_it_says() {
    let seed = Seed::draw();
    let pipeline = Pipeline::start().await;
    let fleet = ["--nodes", "7", "--assets", "90", "--batch-size", "20"];
    let faults = ["--duplicate-rate", "0.2", "--reorder-rate", "0.2", "--corrupt-rate", "0.1"];
    let flags: Vec<&str> = fleet.into_iter().chain(faults).collect();
    let first = simulate(&settings(&pipeline, seed, &[&flags[..], &["--rounds", "20"]].concat())).await;
    // A second run goes on where the first one ended.
    let more = ["--after-rounds", "20", "--rounds", "10", "--connection-per-node"];
    let second = simulate(&settings(&pipeline, seed, &[&flags[..], &more].concat())).await;

    for report in [&first.report, &second.report] {
        assert_eq!(report.confirmed, report.batches + report.duplicates + report.corrupted, "{report:?}");
        assert_eq!(report.outstanding, 0);
        assert!(report.duplicates > 0 && report.reordered > 0 && report.corrupted > 0, "{report:?}");
        assert!(report.heartbeats >= 14, "{report:?}");
    }
    assert_eq!(first.report.listed, 7 * 90);
    assert_eq!(second.report.listed, 0);
    let corrupted = first.report.corrupted + second.report.corrupted;
    let last: i64 = second.expectation.nodes.iter().map(|node| node.last_sequence).sum();
    assert_eq!(
        (first.report.batches + second.report.batches + corrupted).cast_signed(),
        last,
        "sequences have no gaps"
    );
    wait_until(DEADLINE, "every corrupted message to be a dead letter", async || {
        count(&pipeline, "SELECT count(*) FROM dead_letter").await == corrupted
    })
    .await;
    let observations = first.report.observations() + second.report.observations();
    wait_until(DEADLINE, "every observation to be recorded", async || {
        let received = "SELECT sum((SELECT sum(upper(r) - lower(r)) FROM unnest(received) r))::bigint \
                        FROM node_stream";
        // Waived sequences may count as received.
        count(&pipeline, received).await >= first.report.batches + second.report.batches
    })
    .await;
    println!("{observations} observations");
    let (assets, digests) = recorded(&pipeline).await;
    let (expected_assets, expected_digests) = expected(&second);
    assert_eq!(digests, expected_digests);
    assert_eq!(assets, expected_assets);
    // An event of each observation; a listing of what is known makes none.
    assert_eq!(count(&pipeline, "SELECT count(DISTINCT event_uid) FROM asset_event").await, observations);
    assert_eq!(count(&pipeline, "SELECT count(*) FROM asset_event").await, observations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_agents_obey_commands() {
    let seed = Seed::draw();
    let pipeline = Pipeline::start().await;
    let settings = settings(
        &pipeline,
        seed,
        &["--nodes", "2", "--assets", "40", "--duration", "600", "--obey-commands", "--churn", "2"],
    );
    let broker = settings.broker.broker("system test").unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { run(&settings, shutdown, |line| println!("{line}")).await.unwrap() }
    });
    let database = pipeline.database.connect().await;
    let nodes: Vec<Uuid> = wait_for(DEADLINE, "both nodes to be known", async || {
        let rows = database.query("SELECT uid::text FROM node ORDER BY uid", &[]).await.unwrap();
        (rows.len() == 2).then(|| rows.iter().map(|row| row.get::<_, String>(0).parse().unwrap()).collect())
    })
    .await;
    let connection = broker.connect().await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let topology = Topology::new(&pipeline.namespace);
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    // Answers whether there is a queue to take it.
    let send = async |node: Uuid, command: Command| {
        let command = AgentCommand {
            schema_version: 1,
            command_id: Uuid::now_v7().to_string(),
            node_uid: node.to_string(),
            expire_time: None,
            command: Some(command),
        };
        let (exchange, key) = (topology.command_exchange(), command_key(node));
        let (options, body) =
            (BasicPublishOptions { mandatory: true, ..Default::default() }, command.encode_to_vec());
        let properties = BasicProperties::default();
        let publishing = channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
        publishing.await.unwrap().await.unwrap().take_message().is_none()
    };
    let streams = async |node: Uuid| {
        let query = "SELECT count(*) FROM node_stream WHERE node_uid = $1::text::uuid";
        database.query_one(query, &[&node.to_string()]).await.unwrap().get::<_, i64>(0)
    };
    wait_until(DEADLINE, "a queue of the first node's commands", async || {
        send(nodes[0], Command::NewStream(NewStreamCommand {})).await
    })
    .await;
    wait_until(DEADLINE, "a new stream of the first node", async || streams(nodes[0]).await == 2).await;
    assert_eq!(streams(nodes[1]).await, 1, "the other node was told nothing");
    // What is altered behind the agent's back comes right with a listing.
    database
        .execute("UPDATE asset SET state_hash = '\\x00', display_name = 'altered' WHERE kind = 5", &[])
        .await
        .unwrap();
    let kinds = vec![AssetKind::Package.into()];
    for node in nodes {
        assert!(send(node, Command::Resync(ResyncCommand { kinds: kinds.clone() })).await);
    }
    wait_until(DEADLINE, "the listing", async || {
        count(&pipeline, "SELECT count(*) FROM asset WHERE display_name = 'altered' AND state = 1").await == 0
    })
    .await;
    shutdown.cancel();
    let outcome = tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap();
    assert!(outcome.report.commands >= 3, "{:?}", outcome.report);
    assert_eq!(outcome.report.outstanding, 0);
    wait_until(DEADLINE, "the end state", async || recorded(&pipeline).await == expected(&outcome)).await;
}
