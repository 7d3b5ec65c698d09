//! How long searches take on an inventory that is there, through a processor that
//! runs: reads by key for comparison, filtered and sorted pages, pages far behind,
//! free text, counts in groups. Calls come one after another over gRPC.
//!
//! Prints a line of JSON for each question: milliseconds of its calls, and how
//! PostgreSQL answers it where `--plans` asks for that. `cargo xtask bench api` calls
//! it, on a million assets. By hand:
//! `cargo bench -p assettrack-processor --bench api -- --database-url URL --grpc URL`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Instant;

use chrono::{DateTime, Utc};
use clap::Parser;
use contracts::v1::{
    GetAssetRequest, ListAssetsRequest, SummarizeAssetsRequest, asset_service_client::AssetServiceClient,
};
use diesel::{
    QueryableByName,
    sql_types::{Text, Timestamptz},
};
use diesel_async::AsyncPgConnection;
use kit::{identity::Collection, settings::Secret};
use processor::{
    domain::{
        changes::Descriptors,
        filter::{Schema, read},
        order::Order,
    },
    store::{
        asset::Source,
        filter_sql::is_indexed,
        listing::Listing,
        pool,
        sql::{Sql, load_once},
    },
};
use prost_types::Timestamp;
use serde_json::json;
use tonic::transport::Channel;

#[derive(Parser)]
struct Options {
    /// The inventory.
    #[arg(long)]
    database_url: Secret,
    /// The processor on it.
    #[arg(long)]
    grpc: String,
    /// Calls for each question.
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Tells plans too.
    #[arg(long)]
    plans: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Questions for a page of 50: name, filter, order.
const PAGES: [(&str, &str, &str); 12] = [
    ("all, by name", "", ""),
    ("kind", "kind=PACKAGE", ""),
    ("kind, backwards", "kind=PACKAGE", "display_name desc"),
    ("by kind and name", "state=ACTIVE", "kind,display_name"),
    ("kind and exact name", "kind=PACKAGE AND display_name=\"openssl\"", ""),
    ("what is gone", "kind=PACKAGE state=REMOVED", ""),
    ("a node", "node=NODE", ""),
    ("a node, newest first", "node=NODE", "update_time desc"),
    ("an owner", "managed.owner=team-7", ""),
    ("an owner, newest first", "managed.owner=team-7", "update_time desc"),
    ("a label", "managed.labels.env=prod kind=PACKAGE", ""),
    ("a version of a package", "kind=PACKAGE display_name=openssl details.package.version=\"3.1*\"", ""),
];
/// Free text: of few, of many, of a node, of a key.
const WORDS: [(&str, &str); 5] = [
    ("a word that few have", "openssl"),
    ("a word that most have", "lib"),
    ("a word that nobody has", "zzyzx"),
    ("a node's name", "node-00007"),
    ("a word of a key, of a kind", "kind=PACKAGE \"dpkg/openssl\""),
];
/// Questions that nothing helps with: they look at each asset.
const SCANS: [(&str, &str); 2] = [
    ("a detail that nobody has", "details.package.version=\"nothing\""),
    ("two letters that nobody has", "\"}}\""),
];
const FAR: [usize; 4] = [1, 100, 1_000, 10_000];
const GROUPS: [(&str, &[&str]); 6] = [
    ("kind", &["kind"]),
    ("node", &["node"]),
    ("state", &["state"]),
    ("kind, node and state", &["kind", "node", "state"]),
    ("owner", &["managed.owner"]),
    ("version", &["details.package.version"]),
];

struct Bench {
    assets: AssetServiceClient<Channel>,
    connection: AsyncPgConnection,
    calls: usize,
    plans: bool,
    node: String,
    read_time: Option<Timestamp>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let channel = Channel::from_shared(options.grpc).unwrap().connect().await.unwrap();
    let mut bench = Bench {
        assets: AssetServiceClient::new(channel).max_decoding_message_size(32 << 20),
        connection: pool::connect(&options.database_url, "SET statement_timeout = '60s'").await.unwrap(),
        calls: options.calls,
        plans: options.plans,
        node: String::new(),
        read_time: None,
    };
    let some = ListAssetsRequest { page_size: 1000, filter: "kind=PACKAGE".to_owned(), ..Default::default() };
    let some = bench.assets.list_assets(some).await.unwrap().into_inner().assets;
    bench.node.clone_from(&some[0].node);
    let mut millis = Vec::new();
    for turn in 0..bench.calls {
        let request = GetAssetRequest { name: some[turn * 7 % some.len()].name.clone(), read_time: None };
        millis.push(timed(bench.assets.get_asset(request)).await);
    }
    tell("get", "an asset by key", &millis, None);
    for (name, filter, order_by) in PAGES {
        bench.page("page", name, filter, order_by).await;
    }
    for (name, filter) in WORDS {
        bench.page("words", name, filter, "").await;
    }
    for (name, filter) in SCANS {
        let calls = std::mem::replace(&mut bench.calls, 5);
        bench.page("scan", name, filter, "").await;
        bench.calls = calls;
    }
    bench.far().await;
    bench.groups().await;
    // The same as of before all assets changed; at least some time is settled by now.
    let before: Before = load_once(&mut bench.connection, Sql::new(BEFORE)).await.unwrap().remove(0);
    bench.read_time = Some(timestamp(before.time));
    for (name, filter, order_by) in PAGES {
        bench.page("past page", name, filter, order_by).await;
    }
    for (name, filter) in WORDS {
        bench.page("past words", name, filter, "").await;
    }
    bench.far().await;
    bench.groups().await;
}

const BEFORE: &str = "SELECT min(until_time) - interval '1 us' AS time FROM asset_past";

#[derive(QueryableByName)]
struct Before {
    #[diesel(sql_type = Timestamptz)]
    time: DateTime<Utc>,
}

impl Bench {
    async fn page(&mut self, suite: &str, name: &str, filter: &str, order_by: &str) {
        let filter = filter.replace("NODE", &self.node);
        let request = ListAssetsRequest {
            filter: filter.clone(),
            order_by: order_by.to_owned(),
            read_time: self.read_time,
            ..Default::default()
        };
        let mut millis = Vec::new();
        for _ in 0..self.calls {
            millis.push(timed(self.assets.list_assets(request.clone())).await);
        }
        let plan = if self.plans { Some(self.plan(&filter, order_by).await) } else { None };
        tell(suite, name, &millis, plan.as_deref());
    }

    /// The same page of 50, at the begin and far behind.
    async fn far(&mut self) {
        let mut request = ListAssetsRequest {
            filter: "kind=PACKAGE".to_owned(),
            read_time: self.read_time,
            ..Default::default()
        };
        let mut at = 1;
        for page in FAR {
            while at < page {
                // Tokens do not depend on the size of the page.
                let pages = (page - at).min(20);
                request.page_size = i32::try_from(pages * 50).unwrap();
                let answer = self.assets.list_assets(request.clone()).await.unwrap().into_inner();
                if answer.next_page_token.is_empty() {
                    return;
                }
                request.page_token = answer.next_page_token;
                at += pages;
            }
            request.page_size = 50;
            let mut millis = Vec::new();
            for _ in 0..self.calls {
                millis.push(timed(self.assets.list_assets(request.clone())).await);
            }
            let suite = if self.read_time.is_some() { "past far" } else { "far" };
            tell(suite, &format!("page {page}"), &millis, None);
        }
    }

    /// Each call asks a question of its own, so that none is answered by what is
    /// shared for a while.
    async fn groups(&mut self) {
        for (name, group_by) in GROUPS {
            let mut millis = Vec::new();
            for turn in 0..self.calls.min(20) {
                let request = SummarizeAssetsRequest {
                    group_by: group_by.iter().map(|field| (*field).to_owned()).collect(),
                    max_groups: 100 + i32::try_from(turn).unwrap(),
                    read_time: self.read_time,
                    ..Default::default()
                };
                millis.push(timed(self.assets.summarize_assets(request)).await);
            }
            let suite = if self.read_time.is_some() { "past groups" } else { "groups" };
            tell(suite, name, &millis, None);
        }
    }

    /// How PostgreSQL answers a question for a page.
    async fn plan(&mut self, filter: &str, order_by: &str) -> String {
        #[derive(QueryableByName)]
        struct Line {
            #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
            line: String,
        }
        let schema = Schema {
            message: Descriptors::default().message("Asset").unwrap(),
            names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
            unsearchable: &["etag"],
        };
        let predicate = read(filter, &schema, Utc::now()).unwrap();
        let time = self.read_time.and_then(|time| {
            DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or_default())
        });
        let source = time.map_or(Source::Now, Source::At);
        let listing = Listing {
            source,
            searched: predicate.as_ref().is_some_and(|predicate| is_indexed(predicate, source.columns())),
            condition: source.condition(predicate),
            show_deleted: false,
            order: Order::read(order_by).unwrap(),
            after: None,
            limit: 51,
        };
        let explain = Sql::new("EXPLAIN (ANALYZE, BUFFERS) ").then(listing.statement());
        let lines: Vec<Line> = load_once(&mut self.connection, explain).await.unwrap();
        lines.into_iter().map(|line| line.line + "\n").collect()
    }
}

/// Milliseconds that a call takes.
async fn timed<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> f64 {
    let begun = Instant::now();
    call.await.unwrap();
    begun.elapsed().as_secs_f64() * 1e3
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap();
    Timestamp { seconds: time.timestamp(), nanos }
}

fn tell(suite: &str, name: &str, millis: &[f64], plan: Option<&str>) {
    println!("{}", json!({ "suite": suite, "name": name, "millis": millis, "plan": plan }));
}
