//! The agent is killed at every kind of moment while the broker is there, away,
//! silent or flapping; the processor ends with the node's true state.

use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt, path::Path, time::Duration};

use contracts::v1::{
    AgentStatus, GetAgentStatusRequest, TriggerScanRequest, agent_service_client::AgentServiceClient,
};
use rand::{RngExt as _, rngs::StdRng};
use testkit::{Proxy, Seed, Service, broker_by_proxy, free_address, wait_for, wait_until};

use crate::system::System;

const KILLS: usize = 200;
/// Places in the agent, see `kit::failpoint` and its calls.
const FAILPOINTS: [&str; 6] = [
    "record_before_commit",
    "record_after_commit",
    "before_publish",
    "after_publish",
    "confirm_before_commit",
    "confirm_after_commit",
];
/// How long an agent may live after each of two changes without coming to its
/// failpoint, because the broker is away or nothing is left to do.
const LIFETIME: Duration = Duration::from_millis(900);
const SOON: Duration = Duration::from_secs(60);

/// A machine with packages that come, change and go.
struct Node {
    root: tempfile::TempDir,
    packages: BTreeMap<String, u32>,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/machine-id", "abcdef0123456789abcdef0123456789\n"),
            ("etc/os-release", "ID=debian\n"),
            ("var/lib/dpkg/status", ""),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { root, packages: (0..300).map(|n| (format!("package-{n:04}"), 0)).collect() }
    }

    fn change(&mut self, version: u32, rng: &mut StdRng) {
        for _ in 0..rng.random_range(0..120) {
            let name = format!("package-{:04}", rng.random_range(0..600));
            if rng.random_bool(0.25) {
                self.packages.remove(&name);
            } else {
                self.packages.insert(name, version);
            }
        }
        let stanza = |(name, version): (&String, &u32)| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n"
            )
        };
        let status = self.root.path().join("var/lib/dpkg/status");
        fs::write(status.with_extension("new"), self.packages.iter().map(stanza).collect::<String>())
            .unwrap();
        fs::rename(status.with_extension("new"), status).unwrap();
    }
}

/// What the broker does while an agent lives.
fn weather(proxy: &Proxy, rng: &mut StdRng) -> &'static str {
    match rng.random_range(0..6) {
        0 => {
            proxy.cut();
            "away"
        }
        1 => {
            proxy.silence();
            "silent"
        }
        _ => {
            proxy.carry();
            "there"
        }
    }
}

async fn status(address: std::net::SocketAddr) -> Option<AgentStatus> {
    let mut client = AgentServiceClient::connect(format!("http://{address}")).await.ok()?;
    Some(client.get_agent_status(GetAgentStatusRequest {}).await.ok()?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_at_failpoints_loses_and_doubles_nothing() {
    let seed = Seed::draw();
    let mut rng = seed.rng();
    let system = System::start().await;
    let (proxy, url) = broker_by_proxy().await;
    let store = tempfile::tempdir().unwrap();
    let mut node = Node::new();
    let (grpc, admin) = (free_address().await, free_address().await);
    let root = node.root.path().to_owned();
    let agent = |failpoint: &str| {
        let path = |path: &Path| path.display().to_string();
        Service::new("assettrack-agent")
            .env("ASSETTRACK_AMQP_URL", &url)
            .env("ASSETTRACK_QUEUE_NAMESPACE", &system.namespace)
            .env("ASSETTRACK_HOST_ROOT", &path(&root))
            .env("ASSETTRACK_STORE_DIR", &path(store.path()))
            .env("ASSETTRACK_NODE_NAME", "killed-node")
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
            .env("ASSETTRACK_FAILPOINT", failpoint)
    };
    let mut deaths: BTreeMap<String, usize> = BTreeMap::new();
    for round in 1..=KILLS {
        let place = FAILPOINTS[rng.random_range(0..FAILPOINTS.len())];
        // Most runs have one change to report, and some a second one.
        let mut agent = agent(&format!("{place}:{}", [1, 1, 1, 1, 2, 3][rng.random_range(0..6)]));
        let broker = weather(&proxy, &mut rng);
        let flaps = rng.random_bool(0.2);
        let mut died = false;
        for _ in 0..2 {
            node.change(u32::try_from(round).unwrap(), &mut rng);
            if !agent.is_running() {
                agent.start();
            }
            let began = std::time::Instant::now();
            died = wait_for(SOON, "the end of the agent", async || {
                if !agent.is_running() { Some(true) } else { (began.elapsed() > LIFETIME).then_some(false) }
            })
            .await;
            if died {
                break;
            }
            if flaps {
                proxy.cut();
                proxy.carry();
            }
        }
        if died {
            let ended = agent.exit_status().unwrap();
            assert_eq!(ended.signal(), Some(9), "round {round}: {ended}; seed {}", seed.value());
            *deaths.entry(place.to_owned()).or_default() += 1;
        } else {
            agent.kill();
            *deaths.entry(format!("elsewhere, broker {broker}")).or_default() += 1;
        }
    }
    println!("{KILLS} kills: {deaths:?}");
    for place in FAILPOINTS {
        assert!(deaths.contains_key(place), "never killed at {place}: {deaths:?}");
    }

    proxy.carry();
    let mut last = agent("");
    last.start();
    last.ready(admin, SOON).await;
    let mut client = AgentServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    client.trigger_scan(TriggerScanRequest { probes: vec![] }).await.unwrap();
    wait_until(SOON, "an empty outbox", async || {
        status(grpc).await.is_some_and(|status| status.outbox_batches == 0 && status.connected)
    })
    .await;
    let end = status(grpc).await.unwrap();
    assert!(end.stores_set_aside.is_empty() && !end.store_in_memory, "{end:?}");

    let database = system.database.connect().await;
    // Every sequence that the agent ever gave away, once, in one stream.
    let received = format!("{{[1,{})}}", end.last_sequence + 1);
    wait_until(SOON, "every batch in the log", async || {
        let rows = database.query("SELECT received::text FROM node_stream", &[]).await.unwrap();
        rows.len() == 1 && rows[0].get::<_, String>(0) == received
    })
    .await;
    let count = async |query: &str| database.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(
        count("SELECT count(*) - count(DISTINCT event_uid) FROM asset_event").await,
        0,
        "no event is doubled; seed {}",
        seed.value()
    );
    assert_eq!(count("SELECT count(*) FROM dead_letter").await, 0);
    let rows = database
        .query(
            "SELECT display_name, attributes #>> '{details,package,version}' FROM asset \
             WHERE state = 1 AND natural_key LIKE 'dpkg/%'",
            &[],
        )
        .await
        .unwrap();
    let stored: BTreeMap<String, u32> =
        rows.iter().map(|row| (row.get(0), row.get::<_, String>(1).parse().unwrap())).collect();
    assert_eq!(stored, node.packages, "the node's true state; seed {}", seed.value());
}
