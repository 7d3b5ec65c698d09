use contracts::v1::{
    ContainerDetails, CronEntryDetails, FilesystemDetails, KernelModuleDetails, ListeningSocketDetails,
    Relation, SwapDetails, SystemdUnitDetails,
};

use super::*;

const NODE: Uuid = Uuid::from_u128(7);
const BOTH: Direction = Direction { outgoing: true, incoming: true };
const OUT: Direction = Direction { outgoing: true, incoming: false };
const IN: Direction = Direction { outgoing: false, incoming: true };

fn uid(kind: AssetKind, key: &str) -> Uuid {
    asset_uid(NODE, kind, key)
}

fn relation(relation: RelationType, kind: AssetKind, key: &str) -> Relation {
    Relation { r#type: relation.into(), kind: kind.into(), natural_key: key.to_owned() }
}

fn details(details: Details, relations: Vec<Relation>) -> AssetDetails {
    AssetDetails { details: Some(details), relations }
}

fn add(graph: &mut Graph, kind: AssetKind, key: &str, details: Option<&AssetDetails>) {
    let member = Member { kind: kind as i16, display_name: key.to_owned() };
    graph.add(uid(kind, key), member, details);
}

/// socket → container → pod and image, socket → package, on a node.
fn graph() -> Graph {
    use AssetKind::{Container, ContainerImage, ListeningSocket, Node, Package, Pod};
    let mut graph = Graph::new(NODE);
    let socket = ListeningSocketDetails { program: "nginx".to_owned(), ..Default::default() };
    let socket = details(
        Details::ListeningSocket(socket),
        vec![
            relation(RelationType::RunsIn, Container, "c1"),
            relation(RelationType::InstalledBy, Package, "dpkg/nginx"),
        ],
    );
    let container = |pod: &str| {
        details(
            Details::Container(ContainerDetails::default()),
            vec![
                relation(RelationType::RunsIn, Pod, pod),
                relation(RelationType::CreatedFrom, ContainerImage, "sha256:1"),
                relation(RelationType::CreatedFrom, ContainerImage, "not there"),
            ],
        )
    };
    add(&mut graph, ListeningSocket, "tcp/80", Some(&socket));
    add(&mut graph, Container, "c1", Some(&container("p1")));
    add(&mut graph, Container, "c2", Some(&container("p2")));
    for (kind, key) in
        [(Pod, "p1"), (Pod, "p2"), (ContainerImage, "sha256:1"), (Package, "dpkg/nginx"), (Node, "node")]
    {
        add(&mut graph, kind, key, None);
    }
    graph
}

/// What was found, as names with the way there.
fn shown(
    graph: &Graph,
    start: Uuid,
    direction: Direction,
    types: &[RelationType],
    depth: usize,
) -> Vec<String> {
    let found = graph.walk(&Walk { start, direction, types: types.to_vec(), depth });
    assert!(!found.cut);
    let step = |step: &Step| {
        let arrow = if step.back { "<" } else { ">" };
        let name = step.relation.as_str_name().trim_start_matches("RELATION_TYPE_");
        let through = if step.through.is_empty() { String::new() } else { format!("[{}]", step.through) };
        format!("{arrow}{name}{through} {}", graph.member(step.to).unwrap().display_name)
    };
    let way = |reached: &Reached| reached.path.iter().map(step).collect::<Vec<_>>().join(" ");
    found.assets.iter().map(way).collect()
}

#[test]
fn a_walk_goes_step_by_step_with_its_way() {
    let graph = graph();
    let socket = uid(AssetKind::ListeningSocket, "tcp/80");
    assert_eq!(
        shown(&graph, socket, OUT, &[], 2),
        [
            ">RUNS_IN[nginx] c1",
            ">INSTALLED_BY[nginx] dpkg/nginx",
            ">BELONGS_TO node",
            ">RUNS_IN[nginx] c1 >RUNS_IN p1",
            ">RUNS_IN[nginx] c1 >CREATED_FROM sha256:1",
        ]
    );
    assert_eq!(shown(&graph, socket, IN, &[], 5), [""; 0]);
    let image = uid(AssetKind::ContainerImage, "sha256:1");
    assert_eq!(shown(&graph, image, IN, &[], 1), ["<CREATED_FROM c1", "<CREATED_FROM c2"]);
    assert_eq!(
        shown(&graph, image, IN, &[], 5),
        ["<CREATED_FROM c1", "<CREATED_FROM c2", "<CREATED_FROM c1 <RUNS_IN[nginx] tcp/80"]
    );
    // From one pod to the other, by the image that both have.
    let way = "<RUNS_IN c1 >CREATED_FROM sha256:1 <CREATED_FROM c2 >RUNS_IN p2";
    let types = [RelationType::RunsIn, RelationType::CreatedFrom];
    let pod = uid(AssetKind::Pod, "p1");
    assert!(shown(&graph, pod, BOTH, &types, 4).contains(&way.to_owned()));
    assert!(!shown(&graph, pod, BOTH, &types, 3).contains(&way.to_owned()));
}

#[test]
fn the_node_is_reached_and_not_walked_through_but_from_it() {
    let graph = graph();
    let package = uid(AssetKind::Package, "dpkg/nginx");
    let near = shown(&graph, package, BOTH, &[RelationType::BelongsTo], 5);
    assert_eq!(near, [">BELONGS_TO node"]);
    let all = shown(&graph, NODE, BOTH, &[], 1);
    assert_eq!(all.len(), 7);
    assert_eq!(all[0], "<BELONGS_TO c1");
    assert_eq!(shown(&graph, NODE, BOTH, &[], 5), all, "all are one step away");
    assert_eq!(shown(&graph, NODE, IN, &[RelationType::RunsIn], 5), [""; 0]);
}

#[test]
fn a_circle_ends() {
    let mut graph = Graph::new(NODE);
    let module = |users: &[&str]| {
        let used_by = users.iter().map(|user| (*user).to_owned()).collect();
        details(Details::KernelModule(KernelModuleDetails { used_by, ..Default::default() }), vec![])
    };
    add(&mut graph, AssetKind::KernelModule, "a", Some(&module(&["b", "a"])));
    add(&mut graph, AssetKind::KernelModule, "b", Some(&module(&["c"])));
    add(&mut graph, AssetKind::KernelModule, "c", Some(&module(&["a"])));
    let start = uid(AssetKind::KernelModule, "a");
    assert_eq!(shown(&graph, start, OUT, &[], 5), [">USED_BY b", ">USED_BY b >USED_BY c"]);
    assert_eq!(shown(&graph, start, BOTH, &[], 5), [">USED_BY b", "<USED_BY c"]);
}

#[test]
fn a_walk_ends_at_its_most_and_says_so() {
    let mut graph = Graph::new(NODE);
    add(&mut graph, AssetKind::Node, "node", None);
    for number in 0..MAX_FOUND {
        add(&mut graph, AssetKind::Package, &format!("{number:05}"), None);
    }
    let whole = graph.walk(&all_of_node());
    assert_eq!((whole.assets.len(), whole.cut), (MAX_FOUND, false));
    add(&mut graph, AssetKind::Package, "one more", None);
    let cut = graph.walk(&all_of_node());
    assert_eq!((cut.assets.len(), cut.cut), (MAX_FOUND, true));
    assert_eq!(graph.walk(&all_of_node()), cut, "always the same ones");
}

fn all_of_node() -> Walk {
    Walk { start: NODE, direction: IN, types: vec![], depth: 1 }
}

#[test]
fn relations_are_read_from_other_details_too() {
    let on_disk = || vec![relation(RelationType::StoredOn, AssetKind::Disk, "wwn:1")];
    let service =
        |user: &str| Details::SystemdUnit(SystemdUnitDetails { user: user.to_owned(), ..Default::default() });
    let cron = CronEntryDetails { user: "backup".to_owned(), ..Default::default() };
    let module = KernelModuleDetails { used_by: vec!["x".to_owned()], ..Default::default() };
    let filesystem = FilesystemDetails { source: "/dev/sda1".to_owned(), ..Default::default() };
    let swap = SwapDetails { path: "/dev/sda2".to_owned(), ..Default::default() };
    use RelationType::{RunsAs, StoredOn, UsedBy};
    for (details, expected) in [
        (details(service("www"), vec![]), Some((RunsAs, uid(AssetKind::User, "www"), ""))),
        (details(service(""), vec![]), None),
        (details(Details::CronEntry(cron), vec![]), Some((RunsAs, uid(AssetKind::User, "backup"), ""))),
        (
            details(Details::KernelModule(module), vec![]),
            Some((UsedBy, uid(AssetKind::KernelModule, "x"), "")),
        ),
        (
            details(Details::Filesystem(filesystem), on_disk()),
            Some((StoredOn, uid(AssetKind::Disk, "wwn:1"), "/dev/sda1")),
        ),
        (
            details(Details::Swap(swap), on_disk()),
            Some((StoredOn, uid(AssetKind::Disk, "wwn:1"), "/dev/sda2")),
        ),
        (
            AssetDetails { details: None, relations: vec![Relation { r#type: 4711, ..Default::default() }] },
            None,
        ),
    ] {
        let edges = edges(NODE, &details);
        let shown = edges.first().map(|edge| (edge.relation, edge.to, edge.through.as_str()));
        assert_eq!((shown, edges.len()), (expected, usize::from(expected.is_some())), "{details:?}");
    }
}
