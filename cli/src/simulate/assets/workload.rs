//! What Kubernetes runs on a simulated node.

use contracts::v1::{
    AssetKind, CertificateDetails, ContainerDetails, ContainerImageDetails, NodeLabel, PodDetails,
    RelationType, asset_details::Details,
};
use kit::time::of_unix_millis;

use super::{Asset, Place};
use crate::simulate::dice::Dice;

const APPS: [&str; 12] = [
    "api", "web", "worker", "cache", "queue", "billing", "search", "auth", "mail", "ingest", "metrics",
    "proxy",
];
const NAMESPACES: [&str; 5] = ["default", "kube-system", "monitoring", "shop", "platform"];
/// 2026-01-01T00:00:00Z in milliseconds.
const NEW_YEAR: i64 = 1_767_225_600_000;

/// Which pod of its node a container is in.
const CONTAINERS_IN_A_POD: u32 = 2;

fn app(number: u32) -> &'static str {
    APPS[number as usize % APPS.len()]
}

fn pod_uid(place: Place, number: u32) -> String {
    let place = Place { kind: AssetKind::Pod, number, ..place };
    place.dice().uuid().to_string()
}

fn pod_name(place: Place, number: u32) -> String {
    format!("{}-{}-{}", app(number), place.node, number)
}

/// Digest of an image, the same on every node.
fn digest(seed: u64, number: u32) -> String {
    let mut dice = Dice::of(&[seed, u64::from(number), 0x1a9e]);
    format!("sha256:{:016x}{:016x}{:016x}{:016x}", dice.roll(), dice.roll(), dice.roll(), dice.roll())
}

pub(super) fn pod(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let pod = pod_name(place, place.number);
    let address = format!("10.{}.{}.{}", dice.below(256), dice.below(256), revision % 250 + 1);
    let details = PodDetails {
        uid: pod_uid(place, place.number),
        namespace: dice.pick(&NAMESPACES).to_owned(),
        labels: vec![NodeLabel { key: "app".to_owned(), value: app(place.number).to_owned() }],
        addresses: vec![address],
        sandbox_create_time: Some(of_unix_millis(NEW_YEAR + i64::from(revision) * 60_000)),
        pod: pod.clone(),
        ..PodDetails::default()
    };
    Asset::new(details.uid.clone(), pod, Details::Pod(details))
}

pub(super) fn container(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let (pod, place_in_pod) = (place.number / CONTAINERS_IN_A_POD, place.number % CONTAINERS_IN_A_POD);
    let container = if place_in_pod == 0 { app(pod).to_owned() } else { format!("sidecar-{place_in_pod}") };
    let image = digest(place.seed, dice.below(40));
    let details = ContainerDetails {
        pod_uid: pod_uid(place, pod),
        pod: pod_name(place, pod),
        namespace: dice.pick(&NAMESPACES).to_owned(),
        image: format!("registry.example.org/{}:1.{}", app(pod), dice.below(20)),
        image_digest: image.clone(),
        program: format!("/usr/bin/{}", app(pod)),
        uid: Some(dice.below(3) * 1000),
        restarts: revision,
        start_time: Some(of_unix_millis(NEW_YEAR + i64::from(revision) * 60_000)),
        found_by: "cri".to_owned(),
        container: container.clone(),
        ..ContainerDetails::default()
    };
    let pod_key = details.pod_uid.clone();
    Asset::new(format!("{pod_key}/{container}"), container, Details::Container(details))
        .related(RelationType::RunsIn, AssetKind::Pod, pod_key)
        .related(RelationType::CreatedFrom, AssetKind::ContainerImage, image)
}

pub(super) fn image(place: Place, revision: u32) -> Asset {
    let digest = digest(place.seed, place.number);
    let name = format!("registry.example.org/{}", app(place.number));
    let tags: Vec<String> = (0..=revision % 3).map(|tag| format!("{name}:1.{}", tag + revision)).collect();
    let details = ContainerImageDetails {
        image_id: digest.clone(),
        repo_digests: vec![format!("{name}@{digest}")],
        size_bytes: u64::from(place.shared_dice().below(900) + 1) << 20,
        tags: tags.clone(),
        digest: digest.clone(),
        pinned: false,
    };
    let display_name = tags.into_iter().next().unwrap_or(name);
    Asset::new(digest, display_name, Details::ContainerImage(details))
}

pub(super) fn certificate(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let path = format!("/etc/kubernetes/pki/{}-{}.crt", app(place.number), place.number);
    let begin = NEW_YEAR + i64::from(revision) * 86_400_000;
    let details = CertificateDetails {
        subject: format!("CN={}", app(place.number)),
        issuer: "CN=kubernetes".to_owned(),
        serial: format!("{:x}", dice.roll() ^ u64::from(revision)),
        not_before_time: Some(of_unix_millis(begin)),
        not_after_time: Some(of_unix_millis(begin + 365 * 86_400_000)),
        alternative_names: vec![format!("DNS:{}.svc", app(place.number))],
        key: "RSA 2048".to_owned(),
        signature_algorithm: "SHA256-RSA".to_owned(),
        fingerprint_sha256: format!("{:016x}{:016x}", dice.roll(), dice.roll() ^ u64::from(revision)),
        usages: vec!["server".to_owned()],
        path: path.clone(),
        ..CertificateDetails::default()
    };
    Asset::new(format!("{path}#0"), format!("CN={}", app(place.number)), Details::Certificate(details))
}
