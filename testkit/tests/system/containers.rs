//! A container on the node, as a person sees it through the gateway.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use testkit::containerd::{
    PodCgroup, Runtime,
    kubelet::{ContainerConfig, ContainerMetadata, ImageSpec, LinuxSandbox, NamespaceOption, PodMetadata},
    kubelet::{SandboxConfig, SandboxSecurity},
};
use testkit::{Service, amqp_url, free_address, http_get, wait_until};
use uuid::Uuid;

use crate::system::System;

/// A pod that starts or ends is known this soon, and so are the packages in it.
const SOON: Duration = Duration::from_secs(5);

const TOOL: &[u8] = b"Package: tool\nStatus: install ok installed\nArchitecture: all\nVersion: 1.2-3\n";

fn pod(uid: &str, cgroup: &str) -> SandboxConfig {
    let metadata = PodMetadata { name: "web".into(), uid: uid.into(), namespace: "shop".into() };
    let security = SandboxSecurity { namespace_options: Some(NamespaceOption { network: 2 }) };
    SandboxConfig {
        metadata: Some(metadata),
        labels: HashMap::from([("io.kubernetes.pod.uid".to_owned(), uid.to_owned())]),
        linux: Some(LinuxSandbox { cgroup_parent: format!("/{cgroup}"), security_context: Some(security) }),
        ..SandboxConfig::default()
    }
}

async fn assets(system: &System, filter: &str) -> Vec<Value> {
    let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = system.get(&format!("/v1/assets?filter={filter}")).await;
    answer["assets"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_and_the_packages_in_its_image_are_seen_within_seconds() {
    let uid = Uuid::new_v4().to_string();
    let cgroup = format!("assettrack-test-{uid}/pod{uid}");
    let _cgroup = PodCgroup(cgroup.clone());
    let Some((runtime, mut kubelet)) = Runtime::start("overlayfs").await else { return };
    runtime.make_image("pause", "overlayfs", &[&[]]);
    runtime.make_image("web", "overlayfs", &[&[("var/lib/dpkg/status", TOOL)]]);

    let system = System::start().await;
    let store = tempfile::tempdir().unwrap();
    let (grpc, admin) = (free_address().await, free_address().await);
    let mut agent = Service::new("assettrack-agent")
        .env("ASSETTRACK_AMQP_URL", &amqp_url())
        .env("ASSETTRACK_QUEUE_NAMESPACE", &system.namespace)
        .env("ASSETTRACK_CRI_SOCKET", &runtime.socket().display())
        .env("ASSETTRACK_STORE_DIR", &store.path().display())
        .env("ASSETTRACK_MACHINE_ID", &uid)
        .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
        .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
        // What is seen is seen because something woke a probe.
        .env("ASSETTRACK_SCAN_INTERVAL_SECONDS", "3600")
        .env("ASSETTRACK_PROMPT_SCAN_INTERVAL_SECONDS", "3600");
    agent.start();
    agent.ready(admin, Duration::from_secs(60)).await;
    let images = |found: &[Value]| found.len() == 2;
    system.assets_when("the images of the first scan", "kind=CONTAINER_IMAGE", images).await;

    let sandbox_config = pod(&uid, &cgroup);
    let sandbox = kubelet.run_sandbox(&sandbox_config).await;
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "front".into(), attempt: 0 }),
        image: Some(ImageSpec { image: "localhost/web:test".into() }),
        ..ContainerConfig::default()
    };
    let id = kubelet.run_container(&sandbox, &sandbox_config, container).await;
    let key = format!("natural_key=\"{uid}/front\"");
    let mut packages = Value::Null;
    wait_until(SOON, "container, image and the package in it", async || {
        let found = assets(&system, &format!("kind=CONTAINER state=ACTIVE {key}")).await;
        let Some(container) = found.first() else { return false };
        let digest = container["details"]["container"]["imageDigest"].as_str().unwrap();
        let image = assets(&system, &format!("kind=CONTAINER_IMAGE natural_key=\"{digest}\"")).await;
        let Some(name) = image.first().and_then(|image| image["name"].as_str()) else { return false };
        let (status, body) = http_get(system.gateway_address, &format!("/v1/{name}/packages")).await.unwrap();
        packages = serde_json::from_str(&body).unwrap();
        status == 200
    })
    .await;
    assert_eq!(packages["packages"][0]["package"], "tool", "{packages}");
    assert_eq!(packages["packages"][0]["version"], "1.2-3");
    assert_eq!(packages["packages"].as_array().unwrap().len(), 1);

    kubelet.stop_container(&id).await;
    wait_until(SOON, "the end of the container", async || {
        assets(&system, &format!("kind=CONTAINER state=REMOVED {key}")).await.len() == 1
    })
    .await;
    kubelet.remove_sandbox(&sandbox).await;
    wait_until(SOON, "the end of the pod", async || {
        assets(&system, &format!("kind=POD state=REMOVED natural_key=\"{uid}\"")).await.len() == 1
    })
    .await;
}
