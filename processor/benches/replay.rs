//! How fast PostgreSQL itself takes what agents report: the limit that ingest is
//! measured against (docs/PERFORMANCE.md). Batches are folded beforehand; then
//! clients do nothing but run the same bulk statements, each for nodes of its own.
//! With `--commit` the batches go through ingest instead, without gRPC and broker.
//!
//! `cargo xtask bench ingest` calls it. By hand:
//! `cargo bench -p assettrack-processor --bench replay -- --database-url URL --clients 2 FILE…`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use chrono::Utc;
use clap::Parser;
use contracts::v1::{AssetKind, EventBatch, QueueMessage, queue_message::Content};
use diesel_async::AsyncPgConnection;
use kit::{
    identity::{asset_uid, parse_uuid},
    settings::Secret,
};
use processor::{
    domain::{
        attributes::searchable_details,
        changes::Descriptors,
        fold::{Known, Observed, Version, fold},
    },
    ingest::{Ingest, IngestMetrics},
    store::{
        ingest::{NewNode, Place, StreamRow, insert_stream_in_txn, lock_nodes_in_txn, statement},
        pool::{self, Pool},
        sql::{Sql, execute},
    },
};
use prost::Message;
use uuid::Uuid;

/// Replays files of length-delimited `EventBatch`es (`assettrack simulate
/// --record`), one after another, into a database of its own. Prints a line of
/// JSON a file: events and seconds.
#[derive(Parser)]
struct Options {
    /// An empty database.
    #[arg(long)]
    database_url: Secret,
    /// SQL clients, or calls to ingest, at a time.
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// Observations a statement, or a call; a batch is never divided.
    #[arg(long, default_value_t = 500)]
    observations: usize,
    /// Goes through ingest.
    #[arg(long)]
    commit: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// What to replay.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

type Groups = Vec<Vec<EventBatch>>;

#[tokio::main]
async fn main() {
    let options = Options::parse();
    pool::migrate(&options.database_url).await.expect("the database cannot be migrated");
    let pool = pool::pool(&options.database_url, options.clients).expect("a pool");
    let mut known: HashMap<Uuid, Known> = HashMap::new();
    for file in &options.files {
        let lanes = lanes(read(file), options.clients, options.observations);
        let events: usize = lanes.iter().flatten().flatten().map(|batch| batch.observations.len()).sum();
        let seconds =
            if options.commit { commit(&pool, lanes).await } else { replay(&pool, lanes, &mut known).await };
        let clients = options.clients;
        println!(
            "{{\"file\": {:?}, \"clients\": {clients}, \"events\": {events}, \"seconds\": {seconds:.3}, \"events_per_second\": {:.0}}}",
            file.display().to_string(),
            events as f64 / seconds
        );
    }
}

fn read(file: &PathBuf) -> Vec<EventBatch> {
    let bytes = std::fs::read(file).expect("the file cannot be read");
    let mut rest = bytes.as_slice();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.push(EventBatch::decode_length_delimited(&mut rest).expect("no length-delimited EventBatch"));
    }
    batches
}

fn node_of(batch: &EventBatch) -> Uuid {
    parse_uuid(&batch.node.as_ref().expect("a node").uid).expect("a UUID")
}

/// Work for each client: nodes of its own, in groups of about `observations`.
fn lanes(batches: Vec<EventBatch>, clients: usize, observations: usize) -> Vec<Groups> {
    let mut nodes: BTreeMap<Uuid, usize> = batches.iter().map(|batch| (node_of(batch), 0)).collect();
    for (index, lane) in nodes.values_mut().enumerate() {
        *lane = index % clients;
    }
    let mut lanes: Vec<Groups> = vec![Vec::new(); clients];
    for batch in batches {
        let lane = &mut lanes[nodes[&node_of(&batch)]];
        let full = |group: &Vec<EventBatch>| {
            group.iter().map(|batch| batch.observations.len()).sum::<usize>() >= observations
        };
        match lane.last_mut().filter(|group| !full(group)) {
            Some(group) => group.push(batch),
            None => lane.push(vec![batch]),
        }
    }
    lanes
}

async fn replay(pool: &Pool, lanes: Vec<Groups>, known: &mut HashMap<Uuid, Known>) -> f64 {
    let descriptors = Descriptors::default();
    let mut prepared: Vec<Vec<Sql>> = Vec::new();
    let mut connection = pool.get().await.expect("a connection");
    for groups in lanes {
        let mut statements = Vec::new();
        for group in groups {
            streams(&mut connection, &group).await;
            statements.extend(prepare(group, known, &descriptors));
        }
        prepared.push(statements);
    }
    drop(connection);
    let began = Instant::now();
    let clients: Vec<_> = prepared
        .into_iter()
        .map(|statements| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut connection = pool.get().await.expect("a connection");
                for statement in statements {
                    execute(&mut connection, statement).await.expect("the statement fails");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client died");
    }
    began.elapsed().as_secs_f64()
}

/// Makes nodes and streams that are not there.
async fn streams(connection: &mut AsyncPgConnection, group: &[EventBatch]) {
    for batch in group.iter().filter(|batch| batch.sequence == 1) {
        let identity = batch.node.clone().expect("a node");
        let node =
            NewNode { uid: node_of(batch), cluster: identity.cluster, display_name: identity.display_name };
        lock_nodes_in_txn(connection, std::slice::from_ref(&node), &[]).await.expect("nodes");
        let row = StreamRow {
            stream: parse_uuid(&batch.stream).expect("a UUID"),
            number: 1,
            received: Vec::new(),
            create_time: Utc::now(),
            has_pending: false,
        };
        insert_stream_in_txn(connection, node.uid, &row).await.expect("streams");
    }
}

fn prepare(
    group: Vec<EventBatch>,
    known: &mut HashMap<Uuid, Known>,
    descriptors: &Descriptors,
) -> Option<Sql> {
    let mut received = Vec::new();
    let mut observed = Vec::new();
    for batch in group {
        let (node, stream) = (node_of(&batch), parse_uuid(&batch.stream).expect("a UUID"));
        received.push(Place { node_uid: node, stream, sequence: batch.sequence });
        for (index, seen) in batch.observations.into_iter().enumerate() {
            let kind = AssetKind::try_from(seen.kind).expect("a kind");
            observed.push(Observed {
                version: Version {
                    stream_number: 1,
                    sequence: batch.sequence,
                    index: i32::try_from(index).expect("an index"),
                },
                stream,
                current_stream: true,
                event: parse_uuid(&seen.event_id).expect("a UUID"),
                node,
                asset: asset_uid(node, kind, &seen.natural_key),
                kind,
                presence: seen.presence(),
                natural_key: seen.natural_key.into(),
                display_name: seen.display_name.into(),
                state_hash: seen.state_hash.into(),
                attributes: searchable_details(seen.details.as_ref()).into(),
                details: seen.details.map(|details| details.encode_to_vec().into()).unwrap_or_default(),
                observe_time: None,
            });
        }
    }
    let concerned: HashMap<Uuid, Known> = observed
        .iter()
        .filter_map(|one| known.get(&one.asset).map(|known| (one.asset, known.clone())))
        .collect();
    let folded = fold(concerned, observed, Utc::now(), descriptors);
    known.extend(folded.assets.iter().map(|asset| (asset.asset, asset.clone())));
    statement(&folded, &received)
}

async fn commit(pool: &Pool, lanes: Vec<Groups>) -> f64 {
    let metrics = IngestMetrics::register(&kit::metrics::Metrics::default());
    let ingest = Ingest::new(pool.clone(), Arc::new(Descriptors::default()), metrics);
    let message = |batch| QueueMessage { content: Some(Content::Batch(batch)), ..QueueMessage::default() };
    let began = Instant::now();
    let clients: Vec<_> = lanes
        .into_iter()
        .map(|groups| {
            let ingest = ingest.clone();
            tokio::spawn(async move {
                for group in groups {
                    ingest.commit(group.into_iter().map(message).collect()).await.expect("not committed");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client died");
    }
    began.elapsed().as_secs_f64()
}
