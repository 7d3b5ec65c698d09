//! Packages of certain versions, on nodes and in images.

use contracts::v1::{
    AssetDetails, AssetKind, ContainerDetails, ContainerImageDetails, EventBatch, ImageContent,
    ImageContentSource, NodeIdentity, Observation, PackageDetails, PackagePlace, Presence,
    SearchAffectedPackagesRequest, SearchAffectedPackagesResponse, VersionOrder, asset_details::Details,
    image_service_client::ImageServiceClient,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::running::{Agent, Running, package};

/// Manager, name, version, source, version of the source.
type Told = (&'static str, &'static str, &'static str, &'static str, &'static str);

fn details((manager, name, version, source, source_version): Told) -> PackageDetails {
    PackageDetails {
        package: name.to_owned(),
        version: version.to_owned(),
        manager: manager.to_owned(),
        source: source.to_owned(),
        source_version: source_version.to_owned(),
        ..PackageDetails::default()
    }
}

fn seen(kind: AssetKind, key: &str, display_name: &str, details: Details) -> Observation {
    Observation {
        kind: kind.into(),
        natural_key: key.to_owned(),
        display_name: display_name.to_owned(),
        details: Some(AssetDetails { details: Some(details), relations: vec![] }),
        ..package(Presence::Present, key, "1")
    }
}

fn installed(told: Told) -> Observation {
    seen(AssetKind::Package, &format!("{}/{}", told.0, told.1), told.1, Details::Package(details(told)))
}

fn image(digest: &str) -> Observation {
    let details = ContainerImageDetails { digest: digest.to_owned(), ..Default::default() };
    seen(AssetKind::ContainerImage, digest, digest, Details::ContainerImage(details))
}

fn container(key: &str, digest: &str) -> Observation {
    let details = ContainerDetails { image_digest: digest.to_owned(), ..Default::default() };
    seen(AssetKind::Container, key, key, Details::Container(details))
}

fn contents(digest: &str, packages: &[Told]) -> ImageContent {
    ImageContent {
        image_digest: digest.to_owned(),
        content_hash: vec![1; 16],
        part: 1,
        parts: 1,
        packages: packages.iter().map(|told| details(*told)).collect(),
        source: ImageContentSource::Layers.into(),
    }
}

fn batch(agent: &Agent, node: &str, sequence: i64, observations: Vec<Observation>) -> EventBatch {
    let mut batch = agent.batch(sequence, observations);
    batch.node = Some(NodeIdentity { display_name: node.to_owned(), ..batch.node.unwrap() });
    batch
}

/// Two nodes with packages of openssl by three package managers.
async fn fleet(running: &Running) -> (Agent, Agent) {
    let (alpha, beta) = (Agent::new(), Agent::new());
    let mut first = batch(
        &alpha,
        "alpha",
        1,
        vec![
            installed(("dpkg", "openssl", "3.0.9-1", "", "")),
            installed(("dpkg", "libssl3", "3.0.9-1", "openssl", "")),
            installed(("dpkg", "libother", "3.0.0-1", "opensslx", "")),
            installed(("dpkg", "libssl-dev", "9", "openssl", "3.0.9-1")),
            image("sha256:alpine"),
            container("web", "sha256:alpine"),
            container("worker", "sha256:alpine"),
            image("sha256:debian"),
        ],
    );
    first.image_contents = vec![
        contents(
            "sha256:alpine",
            &[
                ("apk", "openssl", "3.1.4-r5", "", ""),
                ("apk", "libcrypto3", "3.1.4-r5", "openssl", ""),
                ("apk", "musl", "1.2.4-r2", "", ""),
            ],
        ),
        contents("sha256:debian", &[("dpkg", "openssl", "3.0.11-1~deb12u2", "", "")]),
    ];
    let second = batch(
        &beta,
        "beta",
        1,
        vec![
            installed(("rpm", "openssl-libs", "1:3.0.7-24.el9", "openssl", "")),
            installed(("rpm", "openssl", "1:3.0.7-24.el9", "", "")),
            installed(("dpkg", "openssl", "3.0.2-1", "", "")),
            image("sha256:alpine"),
        ],
    );
    running.deliver(vec![first, second]).await;
    // What is gone is not affected.
    let gone =
        Observation { natural_key: "dpkg/openssl".to_owned(), ..package(Presence::Absent, "openssl", "") };
    running.deliver(vec![batch(&beta, "beta", 2, vec![gone])]).await;
    (alpha, beta)
}

fn ask(package: &str) -> SearchAffectedPackagesRequest {
    SearchAffectedPackagesRequest { package: package.to_owned(), ..Default::default() }
}

fn below(version: &str) -> SearchAffectedPackagesRequest {
    SearchAffectedPackagesRequest { below_version: version.to_owned(), ..ask("openssl") }
}

impl Running {
    async fn affected(
        &self,
        request: SearchAffectedPackagesRequest,
    ) -> Result<SearchAffectedPackagesResponse, Status> {
        let mut images = ImageServiceClient::new(self.channel.clone());
        Ok(images.search_affected_packages(request).await?.into_inner())
    }
}

/// Node, place, asset, package and version of each, sorted.
fn shown(answer: &SearchAffectedPackagesResponse) -> Vec<String> {
    let line = |row: &contracts::v1::AffectedPackage| {
        let place = row.place().as_str_name().trim_start_matches("PACKAGE_PLACE_");
        let package = row.package.as_ref().unwrap();
        let mark = if row.incomparable { "?" } else { "" };
        format!(
            "{} {place} {}: {} {}{mark}",
            row.node_display_name, row.asset_display_name, package.package, row.compared_version
        )
    };
    let mut lines: Vec<String> = answer.affected_packages.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn affected_packages_are_found_on_nodes_and_in_images() {
    let running = Running::start().await;
    let (alpha, _) = fleet(&running).await;
    let debian = |request: SearchAffectedPackagesRequest| SearchAffectedPackagesRequest {
        version_order: VersionOrder::Debian.into(),
        ..request
    };
    let on_alpha = [
        "alpha NODE libssl-dev: libssl-dev 3.0.9-1",
        "alpha NODE libssl3: libssl3 3.0.9-1",
        "alpha NODE openssl: openssl 3.0.9-1",
    ];
    let found = running.affected(debian(below("3.0.11-1~deb12u2"))).await.unwrap();
    assert_eq!(shown(&found), on_alpha);
    assert_eq!(found.version_orders, [VersionOrder::Debian as i32]);
    let first = found.affected_packages.iter().find(|row| row.asset_display_name == "openssl").unwrap();
    let asset = running.list("display_name=openssl kind=PACKAGE node_display_name=alpha").await.remove(0);
    assert_eq!((first.asset.as_str(), first.kind()), (asset.name.as_str(), AssetKind::Package));
    assert_eq!(first.node, format!("nodes/{}", alpha.node));
    assert_eq!((first.image_digest.as_str(), first.version_order()), ("", VersionOrder::Debian));

    // The fixed version of the image is not below itself, but below the next.
    let found = running.affected(debian(below("3.0.11-1~deb12u3"))).await.unwrap();
    let present = "alpha IMAGE sha256:debian: openssl 3.0.11-1~deb12u2";
    assert_eq!(shown(&found), [&[present], &on_alpha[..]].concat());

    // Each by its own order; that of apk has no such version.
    let mixed = running.affected(below("1:3.0.7-25.el9")).await.unwrap();
    let of_beta =
        ["beta NODE openssl-libs: openssl-libs 1:3.0.7-24.el9", "beta NODE openssl: openssl 1:3.0.7-24.el9"];
    assert_eq!(shown(&mixed), [&[present], &on_alpha[..], &of_beta[..]].concat());
    assert_eq!(mixed.version_orders, [VersionOrder::Debian as i32, VersionOrder::Rpm as i32]);

    let apk = SearchAffectedPackagesRequest {
        version_order: VersionOrder::Apk.into(),
        from_version: "3.1.0".to_owned(),
        ..below("3.1.4-r6")
    };
    let running_images = [
        "alpha CONTAINER web: libcrypto3 3.1.4-r5",
        "alpha CONTAINER web: openssl 3.1.4-r5",
        "alpha CONTAINER worker: libcrypto3 3.1.4-r5",
        "alpha CONTAINER worker: openssl 3.1.4-r5",
        "beta IMAGE sha256:alpine: libcrypto3 3.1.4-r5",
        "beta IMAGE sha256:alpine: openssl 3.1.4-r5",
    ];
    let found = running.affected(apk.clone()).await.unwrap();
    assert_eq!(shown(&found), running_images);
    let row = found.affected_packages.iter().find(|row| row.asset_display_name == "web").unwrap();
    assert_eq!((row.kind(), row.image_digest.as_str()), (AssetKind::Container, "sha256:alpine"));
    assert!(found.affected_packages.iter().all(|row| row.node_display_name == "alpha" || row.place == 3));
    let only_running =
        SearchAffectedPackagesRequest { places: vec![PackagePlace::Container.into()], ..apk.clone() };
    assert_eq!(shown(&running.affected(only_running).await.unwrap()), running_images[..4]);
    let fixed = SearchAffectedPackagesRequest { below_version: "3.1.4-r5".to_owned(), ..apk };
    assert_eq!(running.affected(fixed).await.unwrap().affected_packages, []);

    // Without versions all are told, and an exact one alone.
    assert_eq!(running.affected(ask("openssl")).await.unwrap().affected_packages.len(), 12);
    let exact = SearchAffectedPackagesRequest { exact_version: "3.0.9-1".to_owned(), ..ask("openssl") };
    assert_eq!(shown(&running.affected(exact).await.unwrap()), on_alpha);
    let through = SearchAffectedPackagesRequest {
        through_version: "1:3.0.7".to_owned(),
        version_order: VersionOrder::Rpm.into(),
        ..ask("openssl-libs")
    };
    assert_eq!(shown(&running.affected(through).await.unwrap()), of_beta[..1], "all of its releases");
    assert_eq!(running.affected(ask("opens")).await.unwrap().affected_packages, [], "exact names alone");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_is_told_as_such() {
    let running = Running::start().await;
    let observations = vec![
        installed(("apk", "tool", "1.0-weird", "", "")),
        installed(("pacman", "tool", "1.0", "", "")),
        installed(("dpkg", "tool", "2.0", "", "")),
    ];
    running.deliver(vec![batch(&Agent::new(), "alpha", 1, observations)]).await;
    let request = SearchAffectedPackagesRequest { below_version: "1.5".to_owned(), ..ask("tool") };
    let found = running.affected(request).await.unwrap();
    assert_eq!(shown(&found), ["alpha NODE tool: tool 1.0-weird?", "alpha NODE tool: tool 1.0?"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn affected_packages_are_paged_node_by_node() {
    let running = Running::start().await;
    fleet(&running).await;
    let whole = running.affected(ask("openssl")).await.unwrap();
    assert!(whole.next_page_token.is_empty());
    let nodes: Vec<&str> = whole.affected_packages.iter().map(|row| row.node_display_name.as_str()).collect();
    assert!(nodes.is_sorted(), "{nodes:?}");
    for places in [vec![], vec![PackagePlace::Image.into()]] {
        let asked = SearchAffectedPackagesRequest { places: places.clone(), ..ask("openssl") };
        let expected = running.affected(asked.clone()).await.unwrap().affected_packages;
        for page_size in [1, 2, 5, 7] {
            let mut request = SearchAffectedPackagesRequest { page_size, ..asked.clone() };
            let mut paged = Vec::new();
            loop {
                let page = running.affected(request.clone()).await.unwrap();
                assert!(page.affected_packages.len() <= usize::try_from(page_size).unwrap());
                paged.extend(page.affected_packages);
                assert!(paged.len() <= expected.len(), "{page_size}");
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(paged, expected, "{page_size} {places:?}");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_questions_about_packages_are_refused_by_field() {
    let running = Running::start().await;
    let good = || below("1.0");
    let token = {
        fleet(&running).await;
        let first = SearchAffectedPackagesRequest { page_size: 1, ..ask("openssl") };
        running.affected(first).await.unwrap().next_page_token
    };
    for (request, field) in [
        (ask(""), "package"),
        (ask("a\0b"), "package"),
        (ask(&"a".repeat(129)), "package"),
        (below("1 0"), "below_version"),
        (SearchAffectedPackagesRequest { from_version: "x y".to_owned(), ..good() }, "from_version"),
        (SearchAffectedPackagesRequest { from_version: "2".to_owned(), ..good() }, "from_version"),
        (SearchAffectedPackagesRequest { exact_version: "1".to_owned(), ..good() }, "exact_version"),
        (SearchAffectedPackagesRequest { through_version: "1".to_owned(), ..good() }, "through_version"),
        (SearchAffectedPackagesRequest { version_order: 9, ..good() }, "version_order"),
        (
            SearchAffectedPackagesRequest { version_order: VersionOrder::Apk.into(), ..below("1:1") },
            "below_version",
        ),
        (SearchAffectedPackagesRequest { places: vec![1, 9], ..good() }, "places[1]"),
        (SearchAffectedPackagesRequest { places: vec![1; 17], ..good() }, "places"),
        (SearchAffectedPackagesRequest { page_size: -1, ..good() }, "page_size"),
        (SearchAffectedPackagesRequest { page_token: "x".to_owned(), ..good() }, "page_token"),
        (SearchAffectedPackagesRequest { page_token: token, ..good() }, "page_token"),
    ] {
        let status = running.affected(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violation = status.get_error_details().bad_request().unwrap().field_violations[0].clone();
        assert_eq!(violation.field, field, "{request:?}");
    }
    running.stop().await;
}
