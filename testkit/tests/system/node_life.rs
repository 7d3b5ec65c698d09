//! A node's life, as a person sees it through the gateway.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;
use testkit::{Service, amqp_url, free_address, wait_for};

use crate::system::System;

/// A host with a package database, which the agent reads as its host root.
struct Host {
    root: tempfile::TempDir,
    packages: Vec<(&'static str, &'static str)>,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        fs::write(root.path().join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=debian\nPRETTY_NAME=\"Debian\"\n").unwrap();
        let host = Self { root, packages: vec![("bash", "5.2.15-2"), ("zlib1g", "1.2.13"), ("tar", "1.34")] };
        host.save();
        host
    }

    /// Replaces the database as dpkg does: a new file, renamed over the old.
    fn save(&self) {
        let paragraphs: Vec<String> = self
            .packages
            .iter()
            .map(|(name, version)| {
                format!(
                    "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\
                     Description: a package\n a long text\n"
                )
            })
            .collect();
        let status = self.root.path().join("var/lib/dpkg/status");
        let new = status.with_extension("new");
        fs::write(&new, paragraphs.join("\n")).unwrap();
        fs::rename(new, status).unwrap();
    }
}

async fn agent(system: &System, host: &Host, store: &Path) -> Service {
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut agent = Service::new("assettrack-agent")
        .env("ASSETTRACK_AMQP_URL", &amqp_url())
        .env("ASSETTRACK_QUEUE_NAMESPACE", &system.namespace)
        .env("ASSETTRACK_HOST_ROOT", &host.root.path().display())
        .env("ASSETTRACK_STORE_DIR", &store.display())
        .env("ASSETTRACK_NODE_NAME", "node-a")
        .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
        .env("ASSETTRACK_ADMIN_ADDRESS", &admin);
    agent.start();
    agent.ready(admin, Duration::from_secs(60)).await;
    agent
}

fn names(assets: &[Value]) -> Vec<&str> {
    assets.iter().filter_map(|asset| asset["displayName"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_comes_changes_and_goes() {
    let system = System::start().await;
    let mut host = Host::new();
    let store = tempfile::tempdir().unwrap();
    let mut agent = agent(&system, &host, store.path()).await;
    let found = system.assets_when("the first scan", "kind=PACKAGE", |found| found.len() == 3).await;
    assert_eq!(names(&found), ["bash", "tar", "zlib1g"]);

    host.packages.push(("cowsay", "3.03"));
    host.save();
    system.assets_when("the new package", "cowsay", |found| found.len() == 1).await;
    host.packages[3].1 = "3.04";
    host.save();
    let changed = |found: &[Value]| found.len() == 1;
    system.assets_when("the upgrade", "details.package.version=\"3.04\"", changed).await;
    host.packages.pop();
    host.save();
    let gone = system.assets_when("its end", "cowsay state=REMOVED", |found| found.len() == 1).await;

    let revisions = system.get(&format!("/v1/{}/revisions", gone[0]["name"].as_str().unwrap())).await;
    let story: Vec<(&str, &str)> = revisions["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| {
            let version = &revision["asset"]["details"]["package"]["version"];
            (revision["event"]["type"].as_str().unwrap(), version.as_str().unwrap())
        })
        .collect();
    assert_eq!(
        story,
        [("EVENT_TYPE_REMOVED", "3.04"), ("EVENT_TYPE_CHANGED", "3.04"), ("EVENT_TYPE_APPEARED", "3.03")]
    );

    // Killed and started again, it tells nothing twice.
    let before = system.events().await.len();
    agent.restart();
    host.packages.push(("last", "1"));
    host.save();
    system.assets_when("a package after the restart", "last", |found| found.len() == 1).await;
    let packages_before = before + 1;
    let after = system.events().await;
    let node_events = after.iter().filter(|event| event.node_display_name == "node-a").count();
    assert_eq!((after.len(), node_events), (packages_before, packages_before), "{after:?}");

    // Its store lost, a new stream begins with a snapshot; what went meanwhile is found.
    agent.kill();
    fs::remove_dir_all(store.path()).unwrap();
    fs::create_dir_all(store.path()).unwrap();
    host.packages.retain(|(name, _)| *name != "tar");
    host.save();
    agent.start();
    system.assets_when("the snapshot", "tar state=REMOVED", |found| found.len() == 1).await;
    let kept = system.assets_when("the others", "bash state=ACTIVE", |found| found.len() == 1).await;
    assert_eq!(kept[0]["revision"], "1", "what is listed and known is no event");

    let healthy = wait_for(Duration::from_secs(30), "a heartbeat", async || {
        let nodes = system.get("/v1/nodes").await;
        (nodes["nodes"][0]["health"] == "NODE_HEALTH_HEALTHY").then_some(nodes)
    })
    .await;
    assert_eq!(healthy["nodes"][0]["displayName"], "node-a");
    let overview = system.get("/v1/overview").await;
    assert_eq!(overview["collectors"].as_array().unwrap().len(), 2, "{overview}");
    same_answers(&system, &kept[0]);
}

/// `buf curl`, by reflection, over gRPC and gRPC-Web, against REST.
fn same_answers(system: &System, expected: &Value) {
    let buf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../webui/node_modules/.bin/buf");
    if !buf.exists() {
        println!("SKIPPED same answers by buf curl: `npm ci` was not run in webui/");
        return;
    }
    let url = format!("http://{}/assettrack.v1.AssetService/GetAsset", system.gateway_address);
    let question = format!(r#"{{"name": {}}}"#, expected["name"]);
    for protocol in ["grpc", "grpcweb"] {
        let mut command = Command::new(&buf);
        command.args(["curl", "--protocol", protocol, "--data", &question, "--http2-prior-knowledge"]);
        let answer = command.arg(&url).output().unwrap();
        let errors = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{protocol}: {errors}");
        let mut answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
        let mut expected = expected.clone();
        for asset in [&mut answer, &mut expected] {
            // Moves with each heartbeat.
            asset.as_object_mut().unwrap().remove("lastSeenTime");
            drop_defaults(asset);
        }
        assert_eq!(answer, expected, "{protocol}");
    }
}

/// REST answers may show fields at their defaults; buf leaves them out.
fn drop_defaults(value: &mut Value) {
    if let Value::Object(fields) = value {
        for field in fields.values_mut() {
            drop_defaults(field);
        }
        fields.retain(|_, field| match field {
            Value::Null => false,
            Value::String(text) => !text.is_empty() && text != "0",
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Bool(value) => *value,
            Value::Array(items) => !items.is_empty(),
            Value::Object(_) => true,
        });
    }
}
