//! The publisher by itself, when its store is replaced and when the broker has
//! publishers wait.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::asset::ScannedAsset;
use agent::commander::Commander;
use agent::metrics::AgentMetrics;
use agent::publisher::Publisher;
use agent::status::Status;
use agent::store::{self, Store};
use contracts::v1::{AssetKind, KernelModuleDetails, NodeIdentity, asset_details::Details};
use kit::metrics::Metrics;
use kit::queue::Topology;
use kit::settings::Secret;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use testkit::{amqp_url, namespace, wait_until};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);
const KIND: AssetKind = AssetKind::KernelModule;

struct Running {
    store: Arc<Store>,
    status: Status,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(url: &str, namespace: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node_uid = Uuid::from_u128(1);
        let settings = store::Settings {
            folder: folder.path().to_owned(),
            node: NodeIdentity { uid: node_uid.to_string(), ..Default::default() },
            node_uid,
            outbox_limit_bytes: u64::MAX,
        };
        let store = Arc::new(Store::open(settings).unwrap());
        let status = Status::new([]);
        let amqp = kit::amqp::Settings {
            amqp_url: Some(Secret::new(url)),
            amqp_url_file: None,
            amqp_ca_file: None,
            queue_namespace: namespace.to_owned(),
        };
        let metrics = AgentMetrics::new(&Metrics::default());
        // Commands are tested elsewhere.
        let (triggers, _) = mpsc::channel(1);
        let topology = Topology::new(namespace);
        let commander =
            Commander::new(topology, store.clone(), status.clone(), metrics.clone(), Vec::new(), triggers);
        let publisher = Publisher {
            broker: amqp.broker("test").unwrap(),
            topology: Topology::new(namespace),
            store: store.clone(),
            status: status.clone(),
            metrics,
            commander,
            // Nothing but the store's changes makes it act.
            heartbeat_interval: Duration::from_secs(3600),
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(publisher.run(shutdown.clone()));
        Self { store, status, shutdown, folder }
    }

    async fn error_says(&self, text: &str) {
        wait_until(SOON, text, async || self.status.report(&self.store).connection_error.contains(text))
            .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn modules(count: usize) -> Vec<ScannedAsset> {
    let module = |n: usize| {
        let details = KernelModuleDetails { module: format!("m{n}"), ..Default::default() };
        ScannedAsset::new(format!("m{n}"), format!("m{n}"), Details::KernelModule(details))
    };
    (0..count).map(module).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_replaces_another_is_published_over_the_same_connection() {
    let namespace = namespace();
    let topology = Topology::new(namespace.clone());
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (exchange, queue) = (topology.exchange(), topology.event_queue(0));
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default;
    channel.exchange_declare(exchange.clone().into(), ExchangeKind::Topic, durable, none()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.clone().into(), durable, none()).await.unwrap();
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), "shard.#".into(), options, none()).await.unwrap();

    let running = Running::start(&amqp_url(), &namespace);
    // More than the store's cache holds, so that it must read the file again.
    running.store.record(KIND, &modules(15_000), &[]).unwrap();
    let old = running.store.figures();
    assert!(old.newest.1 > 2, "the new stream must be behind the old one");
    wait_until(SOON, "the old stream", async || running.store.figures().outbox_batches == 0).await;

    let path = running.folder.path().join("store.redb");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(length).unwrap();
    running.store.record(KIND, &modules(1), &[]).unwrap();
    let new = running.store.figures();
    assert!(new.stream != old.stream && new.newest.1 == 1, "{new:?}");
    wait_until(SOON, "the new stream", async || running.store.figures().outbox_batches == 0).await;
    assert_eq!(running.status.report(&running.store).connection_error, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_broker_blocks_is_kept_until_it_can_be_closed() {
    let (broker, mut seen) = BlockingBroker::start();
    let running = Running::start(&broker.url, "any");
    assert_eq!(seen.recv().await, Some(Seen::Connection));
    running.error_says("the broker blocks publishers").await;
    // Several times the first back-off, after which it would connect again.
    let more = tokio::time::timeout(Duration::from_secs(4), seen.recv()).await;
    assert!(more.is_err(), "{more:?} while the broker blocks");
    broker.unblock();
    let next = tokio::time::timeout(SOON, async { [seen.recv().await, seen.recv().await] }).await.unwrap();
    assert_eq!(next, [Some(Seen::Close), Some(Seen::Connection)]);
}

#[derive(Debug, PartialEq)]
enum Seen {
    Connection,
    Close,
}

/// Says what a broker in a memory alarm says: that of the tests serves other
/// tests too, and an alarm is for all. Frames as AMQP 0-9-1, 4.2.3.
struct BlockingBroker {
    url: String,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl BlockingBroker {
    fn start() -> (Self, mpsc::UnboundedReceiver<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("amqp://{}", listener.local_addr().unwrap());
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (tell, seen) = mpsc::unbounded_channel();
        let kept = streams.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                kept.lock().unwrap().push(stream.try_clone().unwrap());
                let tell = tell.clone();
                // Ends with the connection, as a broker's does.
                std::thread::spawn(move || drop(serve(stream, &tell)));
            }
        });
        (Self { url, streams }, seen)
    }

    fn unblock(&self) {
        for stream in self.streams.lock().unwrap().iter_mut() {
            send(stream, 0, (10, 61), b"").unwrap();
        }
    }
}

/// One connection: answers the handshakes, and a publish with
/// `connection.blocked`.
fn serve(mut stream: TcpStream, tell: &mpsc::UnboundedSender<Seen>) -> io::Result<()> {
    stream.read_exact(&mut [0; 8])?;
    let _ = tell.send(Seen::Connection);
    // Start: version, no properties, mechanisms, locales.
    send(&mut stream, 0, (10, 10), b"\x00\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US")?;
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; size as usize + 1];
        stream.read_exact(&mut payload)?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        if head[0] != 1 {
            continue;
        }
        let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        match (number(0), number(2)) {
            // Start-Ok: Tune with 2,047 channels, frames of 128 KiB, 10 s.
            (10, 11) => send(&mut stream, 0, (10, 30), b"\x07\xff\0\x02\0\0\0\x0a")?,
            (10, 40) => send(&mut stream, 0, (10, 41), b"\0")?,
            (10, 50) => {
                let _ = tell.send(Seen::Close);
                return send(&mut stream, 0, (10, 51), b"");
            }
            (20, 10) => send(&mut stream, channel, (20, 11), b"\0\0\0\0")?,
            (20, 40) => send(&mut stream, channel, (20, 41), b"")?,
            (85, 10) => send(&mut stream, channel, (85, 11), b"")?,
            (60, 40) => send(&mut stream, 0, (10, 60), b"\x0dlow on memory")?,
            _ => {}
        }
    }
}

fn send(stream: &mut TcpStream, channel: u16, method: (u16, u16), arguments: &[u8]) -> io::Result<()> {
    let mut frame = vec![1];
    frame.extend(channel.to_be_bytes());
    frame.extend((arguments.len() as u32 + 4).to_be_bytes());
    frame.extend(method.0.to_be_bytes());
    frame.extend(method.1.to_be_bytes());
    frame.extend(arguments);
    frame.push(0xce);
    stream.write_all(&frame)
}
