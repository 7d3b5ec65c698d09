//! Every kind goes the same way: nothing knows them one by one.

use contracts::v1::{
    AssetDetails, AssetKind, CertificateDetails, ContainerDetails, GetNodeRequest, GetOverviewRequest,
    ListAssetRevisionsRequest, Observation, PciDeviceDetails, Presence, ProcessorCache, ProcessorDetails,
    Relation, RelationType, UserDetails, asset_details::Details,
    overview_service_client::OverviewServiceClient,
};
use prost::Message as _;
use prost_types::Timestamp;

use crate::running::{Agent, Running, package};

fn seen(kind: AssetKind, display_name: &str, details: Details, relations: Vec<Relation>) -> Observation {
    Observation {
        kind: kind.into(),
        natural_key: display_name.to_owned(),
        display_name: display_name.to_owned(),
        details: Some(AssetDetails { details: Some(details), relations }),
        ..package(Presence::Present, display_name, "1")
    }
}

fn relation(r#type: RelationType, kind: AssetKind, natural_key: &str) -> Relation {
    Relation { r#type: r#type.into(), kind: kind.into(), natural_key: natural_key.to_owned() }
}

/// Kinds that agents see.
fn observed_kinds() -> Vec<AssetKind> {
    let kinds = (1..100).filter_map(|number| AssetKind::try_from(number).ok());
    kinds.filter(|kind| *kind != AssetKind::Custom).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_kept_found_and_counted() {
    let running = Running::start().await;
    let agent = Agent::new();
    let observations = observed_kinds().into_iter().map(|kind| {
        // An empty message in the field of the same number.
        let mut encoded = Vec::new();
        prost::encoding::encode_key(kind as u32, prost::encoding::WireType::LengthDelimited, &mut encoded);
        encoded.push(0);
        let details = AssetDetails::decode(encoded.as_slice()).unwrap().details.unwrap();
        assert_eq!(kit::identity::kind_of(&details), kind, "details have the number of their kind");
        seen(kind, kind.as_str_name(), details, Vec::new())
    });
    running.deliver(vec![agent.batch(1, observations.collect())]).await;
    for kind in observed_kinds() {
        let short = kind.as_str_name().trim_start_matches("ASSET_KIND_");
        let field = short.to_lowercase();
        for filter in [format!("kind={short}"), format!("details.{field}:*")] {
            let names: Vec<_> =
                running.list(&filter).await.into_iter().map(|asset| asset.display_name).collect();
            assert_eq!(names, [kind.as_str_name()], "{filter}");
        }
    }
    let get = GetNodeRequest { name: format!("nodes/{}", agent.node) };
    let node = running.nodes().get_node(get).await.unwrap().into_inner();
    let counted: Vec<_> = node.active_kinds.iter().map(|count| (count.kind(), count.count)).collect();
    assert_eq!(counted, observed_kinds().into_iter().map(|kind| (kind, 1)).collect::<Vec<_>>());
    let mut overview = OverviewServiceClient::new(running.channel.clone());
    let overview = overview.get_overview(GetOverviewRequest {}).await.unwrap().into_inner();
    let mut counted: Vec<_> = overview.kinds.iter().map(|count| (count.kind(), count.count)).collect();
    counted.sort();
    assert_eq!(counted, observed_kinds().into_iter().map(|kind| (kind, 1)).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_reach_optional_fields_lists_of_messages_and_relations() {
    use AssetKind::{Certificate, Container, ContainerImage, NumaNode, PciDevice, Pod, Processor, User};
    let running = Running::start().await;
    let agent = Agent::new();
    let pci = |numa_node| Details::PciDevice(PciDeviceDetails { numa_node, ..Default::default() });
    let to_numa = |key| vec![relation(RelationType::AttachedTo, NumaNode, key)];
    let caches = [(1, 32 << 10), (3, 36 << 20)].map(|(level, size_bytes)| ProcessorCache {
        level,
        size_bytes,
        ..Default::default()
    });
    let container = ContainerDetails {
        image: "docker.io/library/nginx:1.27".to_owned(),
        uid: Some(0),
        extra_capabilities: vec!["CAP_SYS_ADMIN".to_owned()],
        ..ContainerDetails::default()
    };
    let of_container = vec![
        relation(RelationType::RunsIn, Pod, "p-1"),
        relation(RelationType::CreatedFrom, ContainerImage, "sha256:ab"),
    ];
    let certificate = CertificateDetails {
        not_after_time: Some(Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        is_ca: true,
        ..CertificateDetails::default()
    };
    let user =
        UserDetails { uid: 0, groups: vec!["root".to_owned(), "wheel".to_owned()], ..Default::default() };
    let processor = ProcessorDetails { caches: caches.into(), ..ProcessorDetails::default() };
    let observations = vec![
        seen(PciDevice, "pci-0", pci(Some(0)), to_numa("0")),
        seen(PciDevice, "pci-1", pci(Some(1)), to_numa("1")),
        seen(PciDevice, "pci-unknown", pci(None), Vec::new()),
        seen(Container, "web", Details::Container(container), of_container),
        seen(Container, "mystery", Details::Container(ContainerDetails::default()), Vec::new()),
        seen(Certificate, "ca.pem", Details::Certificate(certificate), Vec::new()),
        seen(User, "root", Details::User(user), Vec::new()),
        seen(Processor, "cpu", Details::Processor(processor), Vec::new()),
    ];
    running.deliver(vec![agent.batch(1, observations)]).await;
    for (filter, expected) in [
        ("details.pci_device.numa_node=0", vec!["pci-0"]),
        ("details.pci_device.numa_node!=0", vec!["pci-1", "pci-unknown"]),
        ("details.pci_device.numa_node<5", vec!["pci-0", "pci-1"]),
        ("details.pci_device.numa_node:*", vec!["pci-0", "pci-1"]),
        ("kind=PCI_DEVICE -details.pci_device.numa_node:*", vec!["pci-unknown"]),
        ("details.container.uid=0", vec!["web"]),
        ("details.container.image:\"*nginx*\"", vec!["web"]),
        ("details.container.image:nginx", vec!["web"]),
        ("details.container.image=\"\"", vec!["mystery"]),
        ("details.container.extra_capabilities:CAP_SYS_ADMIN", vec!["web"]),
        ("details.certificate.not_after_time<2027-02-01T00:00:00Z", vec!["ca.pem"]),
        ("details.certificate.not_after_time<2026-01-01T00:00:00Z", vec![]),
        ("details.certificate.is_ca=true", vec!["ca.pem"]),
        ("details.user.uid=0 details.user.groups:wheel", vec!["root"]),
        ("details.user.groups:whe", vec![]),
        ("details.processor.caches.level:3", vec!["cpu"]),
        ("details.processor.caches.level:2", vec![]),
        ("details.processor.caches:*", vec!["cpu"]),
        ("details.relations:*", vec!["pci-0", "pci-1", "web"]),
        ("details.relations.natural_key:\"sha256:ab\"", vec!["web"]),
        ("details.relations.natural_key:\"sha256:*\"", vec!["web"]),
        ("details.relations.natural_key:sha256", vec![]),
        ("details.relations.kind:NUMA_NODE", vec!["pci-0", "pci-1"]),
        ("details.relations.type:CREATED_FROM", vec!["web"]),
        ("kind=PCI_DEVICE NOT details.relations.natural_key:0", vec!["pci-1", "pci-unknown"]),
    ] {
        let names: Vec<_> = running.list(filter).await.into_iter().map(|asset| asset.display_name).collect();
        assert_eq!(names, expected, "{filter}");
    }

    // Another relation is a change, and told as one.
    running
        .deliver(vec![agent.batch(2, vec![changed(seen(PciDevice, "pci-0", pci(Some(0)), to_numa("9")))])])
        .await;
    let parent = running.list("pci-0").await.remove(0).name;
    let request = ListAssetRevisionsRequest { parent, ..Default::default() };
    let revisions = running.assets().list_asset_revisions(request).await.unwrap().into_inner().revisions;
    assert_eq!(revisions[0].event.as_ref().unwrap().changed_fields, ["details.relations"]);
    running.stop().await;
}

fn changed(mut observation: Observation) -> Observation {
    observation.state_hash[0] ^= 1;
    observation
}
