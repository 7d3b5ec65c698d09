//! Simulated fleets against a broker.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc, sync::Mutex, time::Duration};

use assettrack_cli::simulate::{Outcome, Settings, SimulateError, run};
use clap::Parser;
use contracts::v1::EventBatch;
use kit::{
    queue::{HEADER_SEQUENCE, Topology},
    shutdown::CancellationToken,
};
use lapin::{
    Channel, ExchangeKind,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use prost::Message;
use testkit::{Seed, amqp_url, broker_by_proxy, namespace, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

fn settings(url: &str, namespace: &str, flags: &[&str]) -> Settings {
    let seed = Seed::draw().value().to_string();
    let fixed = ["simulate", "--amqp-url", url, "--queue-namespace", namespace, "--seed", &seed];
    Program::try_parse_from(fixed.iter().chain(flags)).unwrap().settings
}

/// A run whose lines of progress can be looked at.
struct Running {
    lines: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<Result<Outcome, SimulateError>>,
}

impl Running {
    fn start(settings: Settings) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let task = tokio::spawn(async move {
            run(&settings, CancellationToken::new(), |line| kept.lock().unwrap().push(line.to_owned())).await
        });
        Self { lines, task }
    }

    async fn says(&self, text: &str) {
        let says = async || self.lines.lock().unwrap().iter().any(|line| line.contains(text));
        wait_until(DEADLINE, &format!("a line with {text:?}"), says).await;
    }

    async fn end(self) -> Outcome {
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap()
    }
}

struct Corner {
    channel: Channel,
    topology: Topology,
    namespace: String,
}

impl Corner {
    /// A namespace with the exchange, and no queue yet.
    async fn new() -> Self {
        let namespace = namespace();
        let settings = settings(&amqp_url(), &namespace, &[]);
        let connection = settings.broker.broker("test").unwrap().connect().await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let topology = Topology::new(&namespace);
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(topology.exchange().into(), ExchangeKind::Topic, options, FieldTable::default())
            .await
            .unwrap();
        Self { channel, topology, namespace }
    }

    async fn declare(&self, arguments: FieldTable) {
        let queue = self.topology.event_queue(0);
        let options = QueueDeclareOptions::default();
        self.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let (exchange, options) = (self.topology.exchange(), QueueBindOptions::default());
        self.channel
            .queue_bind(queue.into(), exchange.into(), "shard.#".into(), options, FieldTable::default())
            .await
            .unwrap();
    }

    /// Takes what is in the queue: batches by node and sequence, and how many
    /// messages there were.
    async fn take(&self) -> (BTreeMap<(String, i64), EventBatch>, u64) {
        let (mut batches, mut messages) = (BTreeMap::new(), 0);
        let queue = self.topology.event_queue(0);
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(queue.as_str().into(), options).await.unwrap() {
            messages += 1;
            let properties = &message.delivery.properties;
            let body = match properties.content_encoding() {
                Some(_) => zstd::bulk::decompress(&message.delivery.data, 64 << 10).unwrap(),
                None => message.delivery.data.clone(),
            };
            let batch = EventBatch::decode(body.as_slice()).unwrap();
            let headers = properties.headers().as_ref().unwrap().inner();
            assert_eq!(headers[HEADER_SEQUENCE], AMQPValue::LongLongInt(batch.sequence));
            let node = batch.node.as_ref().unwrap().uid.clone();
            let before = batches.insert((node, batch.sequence), batch.clone());
            assert!(before.is_none_or(|before| before == batch), "each attempt sends the same");
        }
        (batches, messages)
    }
}

fn observations(batches: &BTreeMap<(String, i64), EventBatch>) -> u64 {
    batches.values().map(|batch| batch.observations.len() as u64).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_queue_takes_is_sent_again_until_one_does() {
    let corner = Corner::new().await;
    let running = Running::start(settings(
        &amqp_url(),
        &corner.namespace,
        &["--nodes", "3", "--assets", "50", "--rounds", "3", "--connections", "1"],
    ));
    running.says("no queue takes it").await;
    corner.declare(FieldTable::default()).await;
    let outcome = running.end().await;
    let report = &outcome.report;
    assert!(report.returned > 0 && report.resent > 0, "{report:?}");
    assert_eq!((report.outstanding, report.confirmed), (0, report.batches));
    let (batches, _) = corner.take().await;
    assert_eq!(batches.len() as u64, report.batches);
    assert_eq!(observations(&batches), report.observations());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_refuses_is_sent_again_once_there_is_room() {
    let corner = Corner::new().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    corner.declare(arguments).await;
    let flags = ["--nodes", "2", "--assets", "50", "--batch-size", "10", "--heartbeat-seconds", "0"];
    let running = Running::start(settings(&amqp_url(), &corner.namespace, &flags));
    running.says("refused a batch").await;
    let (mut all, mut messages) = (BTreeMap::new(), 0);
    wait_until(DEADLINE, "all to be taken", async || {
        let (batches, count) = corner.take().await;
        all.extend(batches);
        messages += count;
        running.task.is_finished()
    })
    .await;
    let report = running.end().await.report;
    let (batches, count) = corner.take().await;
    all.extend(batches);
    messages += count;
    assert!(report.refused > 0, "{report:?}");
    assert_eq!((report.outstanding, report.confirmed), (0, report.batches));
    assert_eq!(all.len() as u64, report.batches);
    assert_eq!(messages, report.batches, "what is refused is not in the queue");
    assert_eq!(observations(&all), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_come_back_and_nothing_is_lost() {
    let corner = Corner::new().await;
    corner.declare(FieldTable::default()).await;
    let (proxy, url) = broker_by_proxy().await;
    let flags = [
        "--nodes",
        "20",
        "--assets",
        "100",
        "--rounds",
        "20",
        "--batch-size",
        "10",
        "--rate",
        "4000",
        "--connection-per-node",
    ];
    let running = Running::start(settings(&url, &corner.namespace, &flags));
    running.says("messages confirmed").await;
    proxy.cut();
    running.says("cannot connect").await;
    proxy.carry();
    let report = running.end().await.report;
    assert!(report.disconnects >= 20, "{report:?}");
    assert_eq!((report.outstanding, report.confirmed), (0, report.batches));
    let (batches, messages) = corner.take().await;
    assert_eq!(batches.len() as u64, report.batches);
    assert!(messages >= report.batches);
    assert_eq!(observations(&batches), report.observations());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_there_is_told_at_once() {
    let settings = settings("amqp://guest:secret@127.0.0.1:1/", "nowhere", &[]);
    let error = run(&settings, CancellationToken::new(), |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && !error.contains("secret"), "{error}");
}
