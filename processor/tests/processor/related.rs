//! Assets that relate to each other, over one or several steps.

use contracts::v1::{
    Asset, AssetDetails, AssetKind, ContainerDetails, ContainerImageDetails, CreateAssetRequest,
    FilesystemDetails, ListRelatedAssetsRequest, ListRelatedAssetsResponse, ListeningSocketDetails,
    NodeDetails, Observation, PodDetails, Presence, Relation, RelationDirection, RelationType,
    asset_details::Details,
};
use kit::identity::{Collection, asset_uid};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::running::{Agent, Running, package};

use AssetKind::{Container, ContainerImage, Disk, Filesystem, ListeningSocket, Package, Pod};
use RelationDirection::{Both, Incoming, Outgoing};
use RelationType::{BelongsTo, CreatedFrom, RunsIn, StoredOn};

fn seen(kind: AssetKind, key: &str, details: Details, relations: Vec<Relation>) -> Observation {
    Observation {
        kind: kind.into(),
        natural_key: key.to_owned(),
        display_name: key.to_owned(),
        details: Some(AssetDetails { details: Some(details), relations }),
        ..package(Presence::Present, key, "1")
    }
}

fn relation(r#type: RelationType, kind: AssetKind, natural_key: &str) -> Relation {
    Relation { r#type: r#type.into(), kind: kind.into(), natural_key: natural_key.to_owned() }
}

fn gone(kind: AssetKind, key: &str) -> Observation {
    Observation { kind: kind.into(), natural_key: key.to_owned(), ..package(Presence::Absent, key, "") }
}

/// A socket of a container in a pod, two containers of one image, a file system.
fn assets() -> Vec<Observation> {
    let socket = ListeningSocketDetails { program: "nginx".to_owned(), ..Default::default() };
    let container = |key: &str, pod: &str| {
        let relations = vec![relation(RunsIn, Pod, pod), relation(CreatedFrom, ContainerImage, "sha256:aa")];
        seen(Container, key, Details::Container(ContainerDetails::default()), relations)
    };
    let filesystem = FilesystemDetails { source: "/dev/sda1".to_owned(), ..Default::default() };
    vec![
        seen(AssetKind::Node, "node", Details::Node(NodeDetails::default()), vec![]),
        seen(
            ListeningSocket,
            "tcp/80",
            Details::ListeningSocket(socket),
            vec![
                relation(RunsIn, Container, "web"),
                relation(RelationType::InstalledBy, Package, "dpkg/nginx:amd64"),
            ],
        ),
        container("web", "p1"),
        container("other", "p2"),
        seen(Pod, "p1", Details::Pod(PodDetails::default()), vec![]),
        seen(Pod, "p2", Details::Pod(PodDetails::default()), vec![]),
        seen(ContainerImage, "sha256:aa", Details::ContainerImage(ContainerImageDetails::default()), vec![]),
        // It names a disk that is not there.
        seen(Filesystem, "/", Details::Filesystem(filesystem), vec![relation(StoredOn, Disk, "wwn:1")]),
        package(Presence::Present, "nginx", "1"),
    ]
}

fn name(agent: &Agent, kind: AssetKind, key: &str) -> String {
    Collection::Assets.name(asset_uid(agent.node, kind, key))
}

fn ask(parent: String, direction: RelationDirection, depth: i32) -> ListRelatedAssetsRequest {
    ListRelatedAssetsRequest { parent, direction: direction.into(), depth, ..Default::default() }
}

impl Running {
    async fn related(&self, request: ListRelatedAssetsRequest) -> Result<ListRelatedAssetsResponse, Status> {
        Ok(self.assets().list_related_assets(request).await?.into_inner())
    }

    async fn shown(&self, request: ListRelatedAssetsRequest) -> Vec<String> {
        shown(&self.related(request).await.unwrap())
    }
}

/// Each with its distance and the last step to it.
fn shown(answer: &ListRelatedAssetsResponse) -> Vec<String> {
    let mut lines = Vec::new();
    for related in &answer.related_assets {
        let asset = related.asset.as_ref().unwrap();
        let step = related.path.last().unwrap();
        assert_eq!(related.path.len(), usize::try_from(related.distance).unwrap());
        assert_eq!(step.asset, asset.name);
        let arrow = if step.direction() == Outgoing { '>' } else { '<' };
        let relation = step.r#type().as_str_name().trim_start_matches("RELATION_TYPE_");
        lines.push(format!("{}{arrow}{relation} {} {}", related.distance, step.through, asset.display_name));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn related_assets_are_found_step_by_step_in_both_directions() {
    let running = Running::start().await;
    let (agent, other) = (Agent::new(), Agent::new());
    running.deliver(vec![agent.batch(1, assets())]).await;
    // The same on another node is another.
    running.deliver(vec![other.batch(1, assets())]).await;
    let of = |kind, key: &str| name(&agent, kind, key);

    let socket = of(ListeningSocket, "tcp/80");
    let near = ["1>RUNS_IN nginx web", "1>INSTALLED_BY nginx nginx", "1>BELONGS_TO  node"];
    let mut found = running.shown(ask(socket.clone(), Both, 0)).await;
    found.sort_by_key(|line| near.iter().position(|near| near == line));
    assert_eq!(found, near);
    let far = running.related(ask(socket.clone(), Outgoing, 2)).await.unwrap();
    assert_eq!(
        shown(&far),
        [
            "1>INSTALLED_BY nginx nginx",
            "1>BELONGS_TO  node",
            "1>RUNS_IN nginx web",
            "2>RUNS_IN  p1",
            "2>CREATED_FROM  sha256:aa"
        ]
    );
    assert_eq!((far.total_size, far.truncated), (5, false));
    let path: Vec<_> = far.related_assets[4].path.iter().map(|step| step.asset.clone()).collect();
    assert_eq!(path, [of(Container, "web"), of(ContainerImage, "sha256:aa")]);
    let found = far.related_assets[4].asset.clone().unwrap();
    assert_eq!((found.kind(), found.node_display_name.as_str()), (ContainerImage, "node-1"));
    assert_eq!(running.shown(ask(socket, Incoming, 5)).await, [""; 0]);

    let image = of(ContainerImage, "sha256:aa");
    assert_eq!(
        running.shown(ask(image.clone(), Incoming, 2)).await,
        ["1<CREATED_FROM  other", "1<CREATED_FROM  web", "2<RUNS_IN nginx tcp/80"]
    );
    // Kinds narrow the answer and not the way, types both.
    let sockets =
        ListRelatedAssetsRequest { kinds: vec![ListeningSocket.into()], ..ask(image.clone(), Incoming, 2) };
    assert_eq!(running.shown(sockets.clone()).await, ["2<RUNS_IN nginx tcp/80"]);
    let created = ListRelatedAssetsRequest { types: vec![CreatedFrom.into()], ..sockets };
    assert_eq!(running.shown(created).await, [""; 0]);
    let only_node = ListRelatedAssetsRequest { types: vec![BelongsTo.into()], ..ask(image, Both, 5) };
    assert_eq!(running.shown(only_node).await, ["1>BELONGS_TO  node"]);
    assert_eq!(running.shown(ask(of(Filesystem, "/"), Outgoing, 5)).await, ["1>BELONGS_TO  node"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_not_walked_through_but_from() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, assets())]).await;
    running.deliver(vec![agent.batch(2, vec![gone(Container, "web")])]).await;
    let types = vec![RunsIn.into(), CreatedFrom.into()];
    let related = async |kind, key: &str| {
        let request = ask(name(&agent, kind, key), Both, 5);
        running.shown(ListRelatedAssetsRequest { types: types.clone(), ..request }).await
    };
    assert_eq!(related(ListeningSocket, "tcp/80").await, [""; 0]);
    assert_eq!(related(ContainerImage, "sha256:aa").await, ["1<CREATED_FROM  other", "2>RUNS_IN  p2"]);
    assert_eq!(
        related(Container, "web").await,
        [
            "1>RUNS_IN  p1",
            "1>CREATED_FROM  sha256:aa",
            "1<RUNS_IN nginx tcp/80",
            "2<CREATED_FROM  other",
            "3>RUNS_IN  p2"
        ]
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_on_a_node_is_paged_and_cut_at_its_most() {
    let running = Running::start().await;
    let agent = Agent::new();
    let names: Vec<String> = (0..25).map(|number| format!("p{:02}", number * 7 % 25)).collect();
    let mut observations = vec![seen(AssetKind::Node, "node", Details::Node(NodeDetails::default()), vec![])];
    observations.extend(names.iter().map(|name| package(Presence::Present, name, "1")));
    running.deliver(vec![agent.batch(1, observations)]).await;
    let node = Collection::Assets.name(agent.node);
    let mut request = ListRelatedAssetsRequest { page_size: 10, ..ask(node.clone(), Incoming, 3) };
    let mut paged = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let page = running.related(request.clone()).await.unwrap();
        assert_eq!((page.total_size, page.truncated), (25, false));
        sizes.push(page.related_assets.len());
        paged.extend(page.related_assets.iter().map(|one| one.asset.clone().unwrap().display_name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let mut sorted = names;
    sorted.sort();
    assert_eq!((paged, sizes), (sorted, vec![10, 10, 5]));
    let of_others = ListRelatedAssetsRequest { depth: 2, ..request };
    assert_eq!(field_at_fault(running.related(of_others).await), "page_token");

    // More than a walk finds, made of copies.
    let database = running.database.connect().await;
    let copy = "INSERT INTO asset (uid, kind, display_name, node_uid, natural_key, state, details, revision, \
         create_time, update_time) SELECT gen_random_uuid(), 5, 'copy', node_uid, 'copy ' || number, 1, details, \
         1, now(), now() FROM asset, generate_series(1, 10000) AS number WHERE display_name = 'p00'";
    database.execute(copy, &[]).await.unwrap();
    let cut = running.related(ask(node.clone(), Incoming, 1)).await.unwrap();
    assert_eq!((cut.total_size, cut.truncated, cut.related_assets.len()), (10_000, true, 50));
    // More than is looked at: what has relations is looked at first.
    database.execute(copy, &[]).await.unwrap();
    running.deliver(vec![agent.batch(2, assets())]).await;
    let image = name(&agent, ContainerImage, "sha256:aa");
    let found = running.related(ask(image, Incoming, 1)).await.unwrap();
    assert_eq!(
        (shown(&found), found.truncated),
        (vec!["1<CREATED_FROM  other".to_owned(), "1<CREATED_FROM  web".to_owned()], true)
    );
    running.stop().await;
}

fn field_at_fault(answer: Result<ListRelatedAssetsResponse, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_questions_about_relations_are_refused_by_field() {
    let running = Running::start().await;
    let asset = Asset { display_name: "rack".to_owned(), ..Asset::default() };
    let rack = running
        .assets()
        .create_asset(CreateAssetRequest { asset: Some(asset), ..CreateAssetRequest::default() })
        .await
        .unwrap();
    let rack = rack.into_inner().name;
    assert_eq!(running.shown(ask(rack.clone(), Both, 5)).await, [""; 0], "on no node");
    let good = || ask(rack.clone(), Both, 1);
    for (request, field) in [
        (ListRelatedAssetsRequest { parent: "rack".to_owned(), ..good() }, "parent"),
        (ListRelatedAssetsRequest { direction: 9, ..good() }, "direction"),
        (ListRelatedAssetsRequest { types: vec![1, 0], ..good() }, "types[1]"),
        (ListRelatedAssetsRequest { types: vec![4711], ..good() }, "types[0]"),
        (ListRelatedAssetsRequest { types: vec![1; 33], ..good() }, "types"),
        (ListRelatedAssetsRequest { kinds: vec![5, 99], ..good() }, "kinds[1]"),
        (ListRelatedAssetsRequest { kinds: vec![5; 65], ..good() }, "kinds"),
        (ListRelatedAssetsRequest { depth: 6, ..good() }, "depth"),
        (ListRelatedAssetsRequest { depth: -1, ..good() }, "depth"),
        (ListRelatedAssetsRequest { page_size: -1, ..good() }, "page_size"),
        (ListRelatedAssetsRequest { page_token: "x".to_owned(), ..good() }, "page_token"),
    ] {
        assert_eq!(field_at_fault(running.related(request).await), field);
    }
    let nowhere = running.related(ask(Collection::Assets.name(Uuid::nil()), Both, 1)).await.unwrap_err();
    assert_eq!(nowhere.code(), Code::NotFound);
    running.stop().await;
}
