//! Pods, containers, images and their contents with a real containerd and runc.
//! Needs root, and the Debian packages `containerd` and `runc`; else SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::config::ProbeArgs;
use agent::host::HostRoot;
use agent::probe::{self, Context, Scan};
use contracts::v1::agent_service_client::AgentServiceClient;
use contracts::v1::asset_details::Details;
use contracts::v1::{
    Asset, AssetKind, ImageContentSource, ListLocalAssetsRequest, RelationType, TriggerScanRequest,
};
use testkit::containerd::kubelet::{self as cri, ContainerConfig, ContainerMetadata, Kubelet, SandboxConfig};
use testkit::containerd::{self as runtime, PodCgroup, Runtime};
use testkit::{Service, free_address, wait_until};
use tonic::transport::Channel;
use uuid::Uuid;

/// As the task demands it: a pod that starts or ends is known this soon.
const SOON: Duration = Duration::from_secs(5);

const OLD: &[u8] = b"Package: old\nStatus: install ok installed\nArchitecture: all\nVersion: 0.9\n";
const TOOL: &[u8] = b"Package: tool\nStatus: install ok installed\nArchitecture: all\nVersion: 1.2-3\n";
const MUSL: &[u8] = b"C:Q1mO2kpX1nE9yG5cjy2VbUQvRK0DU=\nP:musl\nV:1.2.5-r0\nA:x86_64\nT:the libc\nL:MIT\n\n";

fn cgroup(uid: &str) -> String {
    format!("assettrack-test-{uid}/pod{uid}")
}

fn pod(uid: &str) -> SandboxConfig {
    let metadata = cri::PodMetadata { name: format!("web-{uid}"), uid: uid.into(), namespace: "shop".into() };
    let labels = HashMap::from([
        ("app".to_owned(), "web".to_owned()),
        ("io.kubernetes.pod.uid".to_owned(), uid.to_owned()),
    ]);
    let security = cri::SandboxSecurity { namespace_options: Some(cri::NamespaceOption { network: 2 }) };
    SandboxConfig {
        metadata: Some(metadata),
        labels,
        annotations: HashMap::from([("note".to_owned(), "hunter2".to_owned())]),
        linux: Some(cri::LinuxSandbox {
            cgroup_parent: format!("/{}", cgroup(uid)),
            security_context: Some(security),
        }),
    }
}

fn container(name: &str, image: &str) -> ContainerConfig {
    let capabilities = cri::Capability { add_capabilities: vec!["NET_ADMIN".into()] };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 3 }),
        image: Some(cri::ImageSpec { image: format!("localhost/{image}:test") }),
        args: vec!["--password=hunter2".into()],
        envs: vec![cri::KeyValue { key: "PASSWORD".into(), value: "hunter2".into() }],
        annotations: HashMap::from([("note".to_owned(), "hunter2".to_owned())]),
        linux: Some(cri::LinuxContainer {
            security_context: Some(cri::ContainerSecurity {
                capabilities: Some(capabilities),
                namespace_options: Some(cri::NamespaceOption { network: 2 }),
            }),
        }),
    }
}

fn settings(socket: &std::path::Path) -> ProbeArgs {
    ProbeArgs { cri_socket: Some(socket.to_owned()), ..ProbeArgs::default() }
}

fn scan(name: &str, context: &Context) -> Scan {
    let probe = probe::all(context).into_iter().find(|probe| probe.name == name).unwrap();
    // A probe blocks.
    tokio::task::block_in_place(|| probe.scan(&HostRoot::new("/").unwrap())).unwrap()
}

/// The agent's program, woken by what the events and folders say alone.
struct Agent {
    _service: Service,
    client: AgentServiceClient<Channel>,
    _store: tempfile::TempDir,
}

impl Agent {
    async fn start(socket: &std::path::Path) -> Self {
        let store = tempfile::tempdir().unwrap();
        let (admin, grpc): (SocketAddr, SocketAddr) = (free_address().await, free_address().await);
        let mut service = Service::new("assettrack-agent")
            .env("ASSETTRACK_AMQP_URL", "amqp://127.0.0.1:1")
            .env("ASSETTRACK_MACHINE_ID", "0123456789")
            .env("ASSETTRACK_STORE_DIR", &store.path().display())
            .env("ASSETTRACK_SCAN_INTERVAL_SECONDS", "3600")
            .env("ASSETTRACK_PROMPT_SCAN_INTERVAL_SECONDS", "3600")
            .env("ASSETTRACK_CRI_SOCKET", &socket.display())
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc);
        service.start();
        service.ready(admin, Duration::from_secs(60)).await;
        let client = AgentServiceClient::connect(format!("http://{grpc}")).await.unwrap();
        Self { _service: service, client, _store: store }
    }

    async fn assets(&mut self, kind: AssetKind) -> BTreeMap<String, Asset> {
        let request = ListLocalAssetsRequest { kind: kind.into(), page_size: 1000, ..Default::default() };
        let listed = self.client.list_local_assets(request).await.unwrap().into_inner().assets;
        listed.into_iter().map(|asset| (asset.natural_key.clone(), asset)).collect()
    }
}

fn make_images(runtime: &Runtime, snapshotter: &str) {
    runtime.make_image("pause", snapshotter, &[&[]]);
    let layers: &[runtime::Layer<'_>] = &[
        &[("var/lib/dpkg/status", OLD), ("lib/apk/db/installed", MUSL)],
        // What OCI calls a whiteout (image-spec, layer.md).
        &[("var/lib/dpkg/status", TOOL), ("lib/apk/db/.wh.installed", b"")],
    ];
    runtime.make_image("web", snapshotter, layers);
    runtime.make_image("alpine", snapshotter, &[&[("lib/apk/db/installed", MUSL)]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_known_within_five_seconds_of_its_start_and_of_its_end() {
    let uid = Uuid::new_v4().to_string();
    let _cgroup = PodCgroup(cgroup(&uid));
    let Some((runtime, mut kubelet)) = Runtime::start("overlayfs").await else { return };
    make_images(&runtime, "overlayfs");
    let mut agent = Agent::start(&runtime.socket()).await;
    let sandbox_config = pod(&uid);
    let sandbox = kubelet.run_sandbox(&sandbox_config).await;
    let id = kubelet.run_container(&sandbox, &sandbox_config, container("front", "web")).await;
    let key = format!("{uid}/front");
    wait_until(SOON, "the container in the agent's store", async || {
        agent.assets(AssetKind::Container).await.contains_key(&key)
            && agent.assets(AssetKind::Pod).await.contains_key(&uid)
    })
    .await;

    let pods = agent.assets(AssetKind::Pod).await;
    let Some(Details::Pod(details)) = pods[&uid].details.clone().unwrap().details else { panic!("no pod") };
    assert_eq!((details.pod.as_str(), details.namespace.as_str()), (&*format!("web-{uid}"), "shop"));
    assert!(details.host_network && details.addresses.is_empty());
    assert!(details.sandbox_create_time.is_some());
    let labels: Vec<&str> = details.labels.iter().map(|label| label.key.as_str()).collect();
    assert_eq!(labels, ["app"]);

    let containers = agent.assets(AssetKind::Container).await;
    let asset = containers[&key].details.clone().unwrap();
    let Some(Details::Container(details)) = asset.details else { panic!("no container") };
    assert_eq!((details.found_by.as_str(), details.program.as_str()), ("cri", "program"));
    assert_eq!((details.uid, details.restarts), (Some(0), 3));
    assert_eq!(details.extra_capabilities, ["CAP_NET_ADMIN"]);
    assert_eq!(details.image, "localhost/web:test");
    assert!(details.start_time.is_some());
    let images = agent.assets(AssetKind::ContainerImage).await;
    assert_eq!(images[&details.image_digest].display_name, "localhost/web:test");
    assert_eq!(images.len(), 3);
    let relations: Vec<(RelationType, &str)> =
        asset.relations.iter().map(|relation| (relation.r#type(), relation.natural_key.as_str())).collect();
    let digest = details.image_digest.as_str();
    assert_eq!(relations, [(RelationType::RunsIn, uid.as_str()), (RelationType::CreatedFrom, digest)]);
    // Neither environment, arguments and annotations nor the runtime's IDs.
    let all = format!("{pods:?}{containers:?}{images:?}");
    assert!(!all.contains("hunter2") && !all.contains(&id) && !all.contains(&sandbox));

    kubelet.stop_container(&id).await;
    wait_until(SOON, "the container to be gone", async || {
        !agent.assets(AssetKind::Container).await.contains_key(&key)
    })
    .await;
    kubelet.remove_sandbox(&sandbox).await;
    wait_until(SOON, "the pod to be gone", async || !agent.assets(AssetKind::Pod).await.contains_key(&uid))
        .await;
}

/// Contents of the images that run, by the name of the image.
fn contents(context: &Context) -> BTreeMap<String, (ImageContentSource, Vec<String>)> {
    let scan = scan("images", context);
    let names: HashMap<&str, &str> =
        scan.assets.iter().map(|asset| (asset.natural_key.as_str(), asset.display_name.as_str())).collect();
    let packages = |contents: &probe::ImageContents| {
        contents.packages.iter().map(|package| format!("{} {}", package.package, package.version)).collect()
    };
    scan.contents
        .iter()
        .map(|contents| {
            (names[contents.image_digest.as_str()].to_owned(), (contents.source, packages(contents)))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_are_read_in_the_layers_of_an_image_and_else_in_its_container() {
    for (snapshotter, source, web) in [
        // What the container wrote is not in its image.
        ("overlayfs", ImageContentSource::Layers, &["tool 1.2-3"][..]),
        // A copy of its own a container, without layers.
        ("native", ImageContentSource::Container, &["tool 1.2-3", "written-later 1"]),
    ] {
        let uid = Uuid::new_v4().to_string();
        let _cgroup = PodCgroup(cgroup(&uid));
        let Some((runtime, mut kubelet)) = Runtime::start(snapshotter).await else { return };
        make_images(&runtime, snapshotter);
        let sandbox_config = pod(&uid);
        let sandbox = kubelet.run_sandbox(&sandbox_config).await;
        kubelet.run_container(&sandbox, &sandbox_config, container("front", "web")).await;
        kubelet.run_container(&sandbox, &sandbox_config, container("back", "alpine")).await;
        let context = Context::forgetful(settings(&runtime.socket()));
        let mut found = BTreeMap::new();
        wait_until(SOON, "all of it", async || {
            found = contents(&context);
            found.get("localhost/web:test").is_some_and(|(_, packages)| packages.len() == web.len())
        })
        .await;
        assert_eq!(found["localhost/web:test"], (source, web.iter().map(ToString::to_string).collect()));
        assert_eq!(found["localhost/alpine:test"], (source, vec!["musl 1.2.5-r0".to_owned()]));
        assert_eq!(found.len(), 2, "neither of images that do not run nor of the sandbox's: {found:?}");
        // What is known is not read again.
        let knowing = Context { knows_image: Arc::new(|_| true), ..context };
        assert!(scan("images", &knowing).contents.is_empty());
        kubelet.remove_sandbox(&sandbox).await;
    }
}

/// Takes its link away again.
struct Link(std::path::PathBuf);

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn details(scan: &Scan, key: &str) -> contracts::v1::ContainerDetails {
    let Some(asset) = scan.assets.iter().find(|asset| asset.natural_key == key) else {
        let keys: Vec<&str> = scan.assets.iter().map(|asset| asset.natural_key.as_str()).collect();
        panic!("no {key} in {keys:?}")
    };
    let Details::Container(details) = &asset.details else { panic!("no container") };
    details.clone()
}

async fn run_pod(kubelet: &mut Kubelet, uid: &str) -> (String, String) {
    let sandbox_config = pod(uid);
    let sandbox = kubelet.run_sandbox(&sandbox_config).await;
    let id = kubelet.run_container(&sandbox, &sandbox_config, container("front", "web")).await;
    (sandbox, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_containers_are_found_without_a_socket_and_those_of_no_kubelet_too() {
    let uid = Uuid::new_v4().to_string();
    let _cgroup = PodCgroup(cgroup(&uid));
    let Some((runtime, mut kubelet)) = Runtime::start("overlayfs").await else { return };
    make_images(&runtime, "overlayfs");
    let (sandbox, id) = run_pod(&mut kubelet, &uid).await;
    let key = format!("{uid}/front");
    // One that people started, whose name is theirs.
    let name = format!("tool-{uid}");
    let copied = runtime.ctr(&[
        "-n",
        "default",
        "images",
        "import",
        &runtime.folder().join("image-web.tar").display().to_string(),
    ]);
    assert!(copied.status.success(), "{copied:?}");
    let started = runtime.ctr(&[
        "-n",
        "default",
        "run",
        "-d",
        "--runc-root",
        &runtime.folder().join("runc").display().to_string(),
        "localhost/web:test",
        &name,
    ]);
    assert!(started.status.success(), "{started:?}");

    let asked = Context::forgetful(settings(&runtime.socket()));
    let by_cri = scan("containers", &asked);
    assert_eq!(details(&by_cri, &key).found_by, "cri");
    assert_eq!(details(&by_cri, &format!("default/{name}")).found_by, "cgroup");
    let mine = |scan: &Scan| {
        let mut keys: Vec<String> = scan.assets.iter().map(|asset| asset.natural_key.clone()).collect();
        keys.retain(|key| key.contains(&uid));
        keys.sort();
        keys
    };
    assert_eq!(mine(&by_cri), [key.clone(), format!("default/{name}")], "none of them twice");

    let sockets = || {
        let probes = probe::all(&asked);
        let mut last = Scan::default();
        for name in ["containers", "sockets"] {
            let probe = probes.iter().find(|probe| probe.name == name).unwrap();
            last = tokio::task::block_in_place(|| probe.scan(&HostRoot::new("/").unwrap())).unwrap();
        }
        last
    };
    let of_container = |asset: &agent::asset::ScannedAsset| match &asset.details {
        Details::ListeningSocket(socket) => socket.container == key && socket.package.is_empty(),
        _ => false,
    };
    wait_until(SOON, "the socket of its program", async || {
        sockets().assets.iter().any(|asset| of_container(asset) && asset.relations[0].natural_key == key)
    })
    .await;

    // What a kubelet links to the logs.
    std::fs::create_dir_all("/var/log/containers").unwrap();
    let link = Link(format!("/var/log/containers/web-{uid}_shop_front-{id}.log").into());
    let target = format!("/var/log/pods/shop_web-{uid}_{uid}/front/3.log");
    std::os::unix::fs::symlink(target, &link.0).unwrap();
    // The same folder of tasks, but no socket.
    let unasked = Context::forgetful(settings(&runtime.folder().join("state/none.sock")));
    let by_cgroup = scan("containers", &unasked);
    assert_eq!(mine(&by_cgroup), mine(&by_cri), "neither the sandbox nor another key");
    let (one, other) = (details(&by_cri, &key), details(&by_cgroup, &key));
    let expected = contracts::v1::ContainerDetails {
        found_by: "cgroup".into(),
        // Only the runtime tells these.
        image: String::new(),
        image_digest: String::new(),
        start_time: None,
        ..one
    };
    assert_eq!(other, expected);
    let pods = scan("pods", &unasked);
    let pod = pods.assets.iter().find(|asset| asset.natural_key == uid).unwrap();
    let Details::Pod(pod) = &pod.details else { panic!("no pod") };
    assert_eq!((pod.pod.as_str(), pod.namespace.as_str()), (&*format!("web-{uid}"), "shop"));
    assert!(pod.host_network);
    kubelet.remove_sandbox(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_never_answers_stops_no_other_probe() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut agent = Agent::start(&socket).await;
    let request = TriggerScanRequest { probes: Vec::new() };
    let answer = agent.client.trigger_scan(request).await.unwrap().into_inner();
    for probe in &answer.probes {
        let asks = ["pods", "containers", "images"].contains(&probe.probe.as_str());
        assert_eq!(probe.error.contains("not answered"), asks, "{}: {}", probe.probe, probe.error);
    }
    assert!(!agent.assets(AssetKind::Node).await.is_empty());
    assert!(!agent.assets(AssetKind::Package).await.is_empty());
}
