use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const UID: &str = "123e4567-e89b-12d3-a456-426614174000";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn process(root: &Path, pid: u32, comm: &str, cgroup: &str) {
    write(root, &format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
    write(root, &format!("proc/{pid}/comm"), &format!("{comm}\n"));
    write(root, &format!("proc/{pid}/status"), "Uid:\t101\t101\t101\t101\nCapEff:\t0000000000200000\n");
    let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {pid} 6 7\n");
    write(root, &format!("proc/{pid}/stat"), &stat);
}

fn link(root: &Path, name: &str, target: &str) {
    let folder = root.join("var/log/containers");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
}

fn containers() -> Containers {
    Containers::new(&Context::forgetful(ProbeArgs::default()))
}

fn by_key(scan: Scan) -> BTreeMap<String, ScannedAsset> {
    scan.assets.into_iter().map(|asset| (asset.natural_key.clone(), asset)).collect()
}

#[test]
fn containers_are_found_without_a_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let id = |letter: &str| letter.repeat(64);
    process(root, 1, "systemd", "/init.scope");
    process(root, 20, "nginx", &format!("/kubepods/burstable/pod{UID}/{}", id("a")));
    process(root, 21, "pause", &format!("/kubepods/burstable/pod{UID}/{}", id("b")));
    process(root, 22, "sidecar", &format!("/kubepods/burstable/pod{UID}/{}", id("c")));
    process(root, 30, "redis", &format!("/docker/{}", id("d")));
    process(root, 31, "redis", &format!("/docker/{}", id("e")));
    process(root, 40, "sh", "/default/web");
    process(root, 41, "sh", "/default/cgroup-of-someone");
    fs::create_dir_all(root.join(format!("run/containerd/{TASKS}/default/web"))).unwrap();
    let target = format!("/var/log/pods/shop_web-1_{UID}/front/2.log");
    link(root, &format!("web-1_shop_front-{}.log", id("a")), &target);

    let host = HostRoot::new(root).unwrap();
    let containers = containers();
    let found = by_key(containers.containers(&host).unwrap());
    let keys: Vec<&str> = found.keys().map(String::as_str).collect();
    let (front, sidecar) = (format!("{UID}/front"), format!("{UID}/sidecar"));
    assert_eq!(keys, [&*front, &*sidecar, "default/web", "docker/redis", "docker/redis~2"]);
    assert_eq!(found[&front].display_name, "shop/web-1/front");
    let Details::Container(details) = &found[&front].details else { panic!("no container") };
    let expected = ContainerDetails {
        container: "front".into(),
        pod_uid: UID.into(),
        pod: "web-1".into(),
        namespace: "shop".into(),
        program: "nginx".into(),
        uid: Some(101),
        restarts: 2,
        found_by: "cgroup".into(),
        extra_capabilities: vec!["CAP_SYS_ADMIN".into()],
        ..ContainerDetails::default()
    };
    assert_eq!(details, &expected);
    assert_eq!(found[&front].relations[0].natural_key, UID);
    assert!(found["default/web"].relations.is_empty());
    assert!(!format!("{found:?}").contains(&id("d")), "a runtime's ID is nowhere");

    let pods = by_key(containers.pods(&host).unwrap());
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[UID].display_name, "shop/web-1");
    assert!(containers.images(&host).unwrap().assets.is_empty());

    let pids = BTreeSet::from([1, 20, 22, 31, 40, 41, 999]);
    let expected = BTreeMap::from([
        (20, front.clone()),
        (22, sidecar.clone()),
        (31, "docker/redis~2".to_owned()),
        (40, "default/web".to_owned()),
    ]);
    assert_eq!(containers.of_processes(&host, &pids), expected);
    // Before any scan: as far as it can be told without one.
    let expected = BTreeMap::from([
        (20, front.clone()),
        (22, sidecar.clone()),
        (31, "docker/redis".to_owned()),
        (40, "default/web".to_owned()),
    ]);
    assert_eq!(self::containers().of_processes(&host, &pids), expected);
}

#[test]
fn who_has_to_know_the_containers_waits_until_they_were_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (pid, id) in [(30, "d"), (31, "e")] {
        process(root, pid, "redis", &format!("/docker/{}", id.repeat(64)));
    }
    let host = HostRoot::new(root).unwrap();
    let context = Context { sockets_wait: true, ..Context::forgetful(ProbeArgs::default()) };
    let containers = Containers::new(&context);
    let (told, hears) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            told.send(None).unwrap();
            told.send(Some(containers.of_processes(&host, &BTreeSet::from([31])))).unwrap();
        });
        assert_eq!(hears.recv().unwrap(), None);
        containers.containers(&host).unwrap();
        // Only the look can tell that it is the second.
        let expected = BTreeMap::from([(31, "docker/redis~2".to_owned())]);
        assert_eq!(hears.recv().unwrap(), Some(expected));
    });
    // A look that fails lets go, too.
    let containers = Containers::new(&context);
    fs::remove_dir_all(root.join("proc")).unwrap();
    assert!(containers.containers(&host).is_err());
    assert!(containers.of_processes(&host, &BTreeSet::from([31])).is_empty());
}

#[test]
fn a_node_without_containers_has_none() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 1, "systemd", "/init.scope");
    let host = HostRoot::new(folder.path()).unwrap();
    for scan in [containers().pods(&host), containers().containers(&host), containers().images(&host)] {
        let scan = scan.unwrap();
        assert!(scan.assets.is_empty() && scan.warnings.is_empty(), "{scan:?}");
    }
}

#[test]
fn a_runtime_that_never_answers_is_an_error_in_bounded_time() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 1, "systemd", "/init.scope");
    fs::create_dir_all(folder.path().join("run/containerd")).unwrap();
    // Takes connections, and never reads.
    let socket = folder.path().join("run/containerd/containerd.sock");
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let host = HostRoot::new(folder.path()).unwrap();
    let (began, containers) = (Instant::now(), containers());
    // Only the first of them waits.
    for scan in [containers.pods(&host), containers.containers(&host), containers.images(&host)] {
        let error = scan.unwrap_err().to_string();
        assert!(
            error.contains("run/containerd/containerd.sock") && error.contains("not answered"),
            "{error}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_runtime_that_is_away_is_an_error_and_not_an_absence() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 1, "systemd", "/init.scope");
    fs::create_dir_all(folder.path().join("run/crio")).unwrap();
    // The socket file stays behind, and nobody listens.
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("run/crio/crio.sock")).unwrap());
    let host = HostRoot::new(folder.path()).unwrap();
    assert!(containers().containers(&host).is_err());
    assert!(containers().images(&host).is_err());
    // One that answered a moment ago, and has taken its socket away.
    fs::remove_file(folder.path().join("run/crio/crio.sock")).unwrap();
    let before = containers();
    before.memory().answered = Some(Instant::now());
    assert!(before.pods(&host).unwrap_err().to_string().contains("while it starts"));
    assert!(containers().pods(&host).is_ok());
}

#[test]
fn after_a_boot_recorded_images_stay_until_the_runtime_has_had_time_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 1, "systemd", "/init.scope");
    let host = HostRoot::new(folder.path()).unwrap();
    let context = Context { known_images: true, ..Context::forgetful(ProbeArgs::default()) };
    let containers = Containers::new(&context);
    for scan in [containers.images(&host), containers.pods(&host), containers.containers(&host)] {
        let error = scan.unwrap_err().to_string();
        assert!(error.contains("while it starts"), "{error}");
    }
    // Minutes later it still has no socket: it is gone.
    let ages_ago = Instant::now().checked_sub(PATIENCE + Duration::from_secs(1));
    let Some(ages_ago) = ages_ago else { return };
    containers.memory().answered = Some(ages_ago);
    for scan in [containers.images(&host), containers.pods(&host), containers.containers(&host)] {
        assert!(scan.unwrap().assets.is_empty());
    }
}

#[test]
fn a_runtime_that_cannot_be_told_of_is_no_absence() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 1, "systemd", "/init.scope");
    fs::create_dir_all(folder.path().join("run/containerd")).unwrap();
    // A link to a name that no file system takes.
    let name = "x".repeat(300);
    std::os::unix::fs::symlink(name, folder.path().join("run/containerd/containerd.sock")).unwrap();
    let host = HostRoot::new(folder.path()).unwrap();
    assert!(containers().images(&host).is_err());
    assert!(containers().pods(&host).is_err());
}

fn sandbox(uid: &str) -> v1::PodSandbox {
    let metadata = v1::PodSandboxMetadata {
        name: "web-1".into(),
        uid: uid.into(),
        namespace: "shop".into(),
        attempt: 0,
    };
    v1::PodSandbox { id: "sandbox".into(), metadata: Some(metadata), ..Default::default() }
}

fn container(id: &str, attempt: u32, state: v1::ContainerState) -> v1::Container {
    let metadata = v1::ContainerMetadata { name: "front".into(), attempt };
    v1::Container {
        id: id.into(),
        pod_sandbox_id: "sandbox".into(),
        metadata: Some(metadata),
        state: state.into(),
        image_ref: format!("sha256:{A}"),
        ..Default::default()
    }
}

#[test]
fn only_the_newest_attempt_that_runs_counts() {
    use v1::ContainerState::{ContainerExited, ContainerRunning};
    let all = [
        container("old", 1, ContainerRunning),
        container("new", 2, ContainerRunning),
        container("ended", 3, ContainerExited),
    ];
    let pods = [sandbox(UID)];
    let ids = |pods| newest(pods, &all).iter().map(|(container, _)| container.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&pods), ["new"]);
    // Its pod was removed between the two lists; no other key stands for it.
    assert!(ids(&[]).is_empty());
}

#[test]
fn what_the_runtime_tells_becomes_an_asset_with_its_relations() {
    let image = v1::Image {
        id: format!("sha256:{A}"),
        repo_tags: vec!["docker.io/library/web:1".into()],
        repo_digests: vec!["docker.io/library/web@sha256:1234".into()],
        size: 7,
        pinned: false,
    };
    let status = v1::ContainerStatus {
        started_at: 1_700_000_000_000_000_005,
        image: Some(v1::ImageSpec { image: "docker.io/library/web:1".into() }),
        ..Default::default()
    };
    let running = container("id", 4, v1::ContainerState::ContainerRunning);
    let asset = into_asset(from_cri(&running, &status, &sandbox(UID), &[image]));
    assert_eq!(asset.natural_key, format!("{UID}/front"));
    let Details::Container(details) = &asset.details else { panic!("no container") };
    let expected = ContainerDetails {
        container: "front".into(),
        pod_uid: UID.into(),
        pod: "web-1".into(),
        namespace: "shop".into(),
        image: "docker.io/library/web:1".into(),
        image_digest: "sha256:1234".into(),
        restarts: 4,
        start_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        found_by: "cri".into(),
        ..ContainerDetails::default()
    };
    assert_eq!(details, &expected);
    let relations: Vec<(RelationType, &str)> =
        asset.relations.iter().map(|relation| (relation.r#type(), relation.natural_key.as_str())).collect();
    assert_eq!(relations, [(RelationType::RunsIn, UID), (RelationType::CreatedFrom, "sha256:1234")]);
}

#[test]
fn an_image_is_known_by_any_of_its_names() {
    let pulled = v1::Image {
        id: A.into(),
        repo_tags: vec!["reg/a:1".into()],
        repo_digests: vec!["reg/a@sha256:22".into(), "mirror/a@sha256:11".into()],
        ..Default::default()
    };
    let built = v1::Image { id: format!("sha256:{}", "b".repeat(64)), ..Default::default() };
    let images = [pulled, built.clone()];
    for (reference, expected) in [
        (A, Some("sha256:11".to_owned())),
        (&format!("sha256:{A}"), Some("sha256:11".to_owned())),
        ("reg/a:1", Some("sha256:11".to_owned())),
        ("reg/a@sha256:22", Some("sha256:11".to_owned())),
        (&built.id, Some(built.id.clone())),
        ("reg/gone@sha256:33", Some("sha256:33".to_owned())),
        ("reg/gone:1", None),
        ("", None),
    ] {
        assert_eq!(images::digest_of(&images, &[reference]), expected, "{reference}");
    }
}
