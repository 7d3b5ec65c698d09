//! Packages in container images: written once for each digest, whoever sends
//! them in whatever order.

use contracts::v1::{
    AssetDetails, AssetKind, ContainerImageDetails, EventBatch, ImageContent, ImageContentSource,
    IngestResult, ListImagePackagesRequest, ListImagePackagesResponse, Observation, PackageDetails, Presence,
    SearchImagePackagesRequest, SearchImagePackagesResponse, asset_details::Details,
    image_service_client::ImageServiceClient,
};
use kit::identity::{Collection, asset_uid};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::running::{Agent, Running, package};

use ImageContentSource::{Container, Layers};

const DIGEST: &str = "sha256:aa";

/// A list of packages, cut into parts.
#[derive(Clone)]
struct List {
    digest: &'static str,
    source: ImageContentSource,
    hash: u8,
    parts: Vec<Vec<&'static str>>,
}

impl List {
    fn new(source: ImageContentSource, hash: u8, parts: &[&[&'static str]]) -> Self {
        Self { digest: DIGEST, source, hash, parts: parts.iter().map(|part| part.to_vec()).collect() }
    }

    fn part(&self, number: usize) -> ImageContent {
        let package = |name: &&str| PackageDetails {
            package: (*name).to_owned(),
            version: format!("{}.0", self.hash),
            architecture: "amd64".to_owned(),
            manager: "dpkg".to_owned(),
            license: "MIT".to_owned(),
            ..PackageDetails::default()
        };
        ImageContent {
            image_digest: self.digest.to_owned(),
            content_hash: vec![self.hash; 16],
            part: u32::try_from(number).unwrap(),
            parts: u32::try_from(self.parts.len()).unwrap(),
            packages: self.parts[number - 1].iter().map(package).collect(),
            source: self.source.into(),
        }
    }
}

fn contents(agent: &Agent, sequence: i64, image_contents: Vec<ImageContent>) -> EventBatch {
    EventBatch { image_contents, ..agent.batch(sequence, Vec::new()) }
}

fn image(digest: &str) -> Observation {
    let details = ContainerImageDetails { digest: digest.to_owned(), ..ContainerImageDetails::default() };
    Observation {
        kind: AssetKind::ContainerImage.into(),
        natural_key: digest.to_owned(),
        details: Some(AssetDetails {
            details: Some(Details::ContainerImage(details)),
            ..AssetDetails::default()
        }),
        ..package(Presence::Present, "nginx", "1")
    }
}

fn name(agent: &Agent, digest: &str) -> String {
    Collection::Assets.name(asset_uid(agent.node, AssetKind::ContainerImage, digest))
}

impl Running {
    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    async fn packages(&self, parent: String) -> Result<ListImagePackagesResponse, Status> {
        let request = ListImagePackagesRequest { parent, ..Default::default() };
        Ok(self.images().list_image_packages(request).await?.into_inner())
    }

    async fn search(&self, package: &str, page_size: i32, page_token: &str) -> SearchImagePackagesResponse {
        let request = SearchImagePackagesRequest {
            package: package.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
        };
        self.images().search_image_packages(request).await.unwrap().into_inner()
    }
}

/// Names with versions, and where they were read.
fn shown(answer: &ListImagePackagesResponse) -> (Vec<String>, ImageContentSource) {
    let text = |package: &PackageDetails| format!("{} {}", package.package, package.version);
    (answer.packages.iter().map(text).collect(), answer.source())
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_in_any_order_make_one_list_and_a_replay_changes_nothing() {
    let running = Running::start().await;
    let agent = Agent::new();
    let parent = name(&agent, DIGEST);
    let list = List::new(Layers, 1, &[&["zlib", "bash"], &["musl"], &["apk-tools"]]);

    let nowhere = running.packages(parent.clone()).await.unwrap_err();
    assert_eq!(reason(&nowhere), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let openssl = package(Presence::Present, "openssl", "1");
    running.deliver(vec![agent.batch(1, vec![image(DIGEST), openssl])]).await;
    let unread = running.packages(parent.clone()).await.unwrap_err();
    assert_eq!(reason(&unread), (Code::FailedPrecondition, "CONTENTS_NOT_READ".to_owned()));
    let no_image = Collection::Assets.name(asset_uid(agent.node, AssetKind::Package, "dpkg/openssl:amd64"));
    let no_image = running.packages(no_image).await.unwrap_err();
    assert_eq!(reason(&no_image), (Code::FailedPrecondition, "NOT_AN_IMAGE".to_owned()));

    running.deliver(vec![contents(&agent, 2, vec![list.part(3)])]).await;
    // The same part twice in one batch, and again in a batch of another node.
    running.deliver(vec![contents(&agent, 3, vec![list.part(1), list.part(1)])]).await;
    running.deliver(vec![contents(&Agent::new(), 1, vec![list.part(3)])]).await;
    let part_missing = running.packages(parent.clone()).await.unwrap_err();
    assert_eq!(reason(&part_missing), (Code::FailedPrecondition, "CONTENTS_INCOMPLETE".to_owned()));
    assert!(part_missing.message().contains("2 of 3 parts"), "{part_missing:?}");
    assert_eq!(running.search("musl", 0, "").await.image_packages, [], "of an incomplete list");

    let last = contents(&agent, 4, vec![list.part(2)]);
    assert_eq!(running.deliver(vec![last.clone()]).await, [IngestResult::Committed]);
    let answer = running.packages(parent.clone()).await.unwrap();
    let expected = ["apk-tools 1.0", "bash 1.0", "musl 1.0", "zlib 1.0"].map(str::to_owned).to_vec();
    assert_eq!(shown(&answer), (expected, Layers));
    assert_eq!((answer.total_size, answer.image_digest.as_str()), (4, DIGEST));
    assert!(answer.complete_time.is_some() && answer.next_page_token.is_empty());
    assert_eq!(answer.packages[0].license, "MIT");

    assert_eq!(running.deliver(vec![last]).await, [IngestResult::Duplicate]);
    running.deliver(vec![contents(&agent, 5, (1..=3).map(|number| list.part(number)).collect())]).await;
    assert_eq!(running.packages(parent).await.unwrap(), answer);
    // An image without packages is one that was read.
    let empty = List { digest: "sha256:00", ..List::new(Layers, 7, &[&[]]) };
    let batch =
        EventBatch { image_contents: vec![empty.part(1)], ..agent.batch(6, vec![image("sha256:00")]) };
    running.deliver(vec![batch]).await;
    let answer = running.packages(name(&agent, "sha256:00")).await.unwrap();
    assert_eq!((shown(&answer), answer.total_size), ((Vec::new(), Layers), 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_complete_list_stays_but_for_one_from_the_layers() {
    let running = Running::start().await;
    let (agent, other) = (Agent::new(), Agent::new());
    running.deliver(vec![agent.batch(1, vec![image(DIGEST)])]).await;
    let now = async || shown(&running.packages(name(&agent, DIGEST)).await.unwrap());
    let expect = |names: &[&str], source| (names.iter().map(|name| (*name).to_owned()).collect(), source);

    // Two containers that were altered: the list that is complete first stays.
    let slow = List::new(Container, 1, &[&["bash"], &["curl"]]);
    let first = List::new(Container, 2, &[&["bash", "nmap"]]);
    running.deliver(vec![contents(&agent, 2, vec![slow.part(1)])]).await;
    running.deliver(vec![contents(&other, 1, vec![first.part(1)])]).await;
    running.deliver(vec![contents(&agent, 3, vec![slow.part(2), slow.part(1)])]).await;
    assert_eq!(now().await, expect(&["bash 2.0", "nmap 2.0"], Container));

    // The layers are read on another node; until they are whole, the other stays.
    let layers = List::new(Layers, 3, &[&["bash"], &["zlib"]]);
    running.deliver(vec![contents(&other, 2, vec![layers.part(2)])]).await;
    assert_eq!(now().await, expect(&["bash 2.0", "nmap 2.0"], Container));
    let answer = running.search("nmap", 0, "").await;
    assert_eq!((answer.image_packages.len(), answer.image_packages[0].active_nodes), (1, 1));
    // In one transaction with other lists, of which none counts.
    let late = List::new(Container, 4, &[&["late"]]);
    running.deliver(vec![contents(&other, 3, vec![late.part(1), layers.part(1), first.part(1)])]).await;
    assert_eq!(now().await, expect(&["bash 3.0", "zlib 3.0"], Layers));
    let second = List::new(Layers, 5, &[&["second"]]);
    running.deliver(vec![contents(&agent, 4, vec![late.part(1), second.part(1)])]).await;
    assert_eq!(now().await, expect(&["bash 3.0", "zlib 3.0"], Layers));

    let database = running.database.connect().await;
    for (table, rows) in [("image", 1_i64), ("image_content", 1), ("image_package", 2)] {
        let count: i64 =
            database.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
        assert_eq!(count, rows, "{table}: nothing is left of the others");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_never_become_whole_take_no_room_for_ever() {
    let running = Running::start().await;
    let agent = Agent::new();
    for hash in 1..=40 {
        let list = List::new(Container, hash, &[&["bash"], &["never"]]);
        running.deliver(vec![contents(&agent, i64::from(hash), vec![list.part(1)])]).await;
    }
    let database = running.database.connect().await;
    let query = "SELECT count(*), min(get_byte(content_hash, 0)) FROM image_content";
    let row = database.query_one(query, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (16, 25), "the newest 16");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_nodes_that_tell_of_the_same_images_at_once_do_not_hinder_each_other() {
    const NODES: i64 = 8;
    const DIGESTS: [&str; 6] = ["sha256:1", "sha256:2", "sha256:3", "sha256:4", "sha256:5", "sha256:6"];
    let running = Running::start().await;
    let agents: Vec<Agent> = (0..NODES).map(|_| Agent::new()).collect();
    let list = |digest| List { digest, ..List::new(Layers, 1, &[&["a"], &["b"], &["c"]]) };
    let mut calls = Vec::new();
    for (turn, agent) in agents.iter().enumerate() {
        // Each in another order, two images at a time.
        let mut digests = DIGESTS;
        digests.rotate_left(turn % DIGESTS.len());
        if turn % 2 == 1 {
            digests.reverse();
        }
        let mut batches = vec![agent.batch(1, digests.map(image).into())];
        for (number, pair) in [1, 2, 3].into_iter().flat_map(|n| digests.chunks(2).map(move |pair| (n, pair)))
        {
            let sequence = i64::try_from(batches.len()).unwrap() + 1;
            let parts = pair.iter().map(|digest| list(digest).part(number)).collect();
            batches.push(contents(agent, sequence, parts));
        }
        calls.push(batches);
    }
    let delivered = calls.into_iter().map(|batches| {
        let mut client = running.ingest();
        tokio::spawn(async move {
            for batch in batches {
                let messages = vec![crate::running::message(batch)];
                let request = contracts::v1::IngestEventsRequest { messages };
                let answer = client.ingest_events(request).await.unwrap().into_inner();
                assert_eq!(answer.results().collect::<Vec<_>>(), [IngestResult::Committed]);
            }
        })
    });
    for task in delivered.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for digest in DIGESTS {
        let answer = running.packages(name(&agents[0], digest)).await.unwrap();
        assert_eq!(shown(&answer).0, ["a 1.0", "b 1.0", "c 1.0"], "{digest}");
    }
    let found = running.search("b", 0, "").await;
    assert_eq!(found.image_packages.len(), DIGESTS.len());
    assert!(found.image_packages.iter().all(|found| found.active_nodes == NODES), "{found:?}");
    let database = running.database.connect().await;
    let statistics = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks: i64 = database.query_one(statistics, &[]).await.unwrap().get(0);
    assert_eq!(deadlocks, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_packages_join_into_the_whole() {
    const NAMES: [&str; 7] = ["g", "b", "d", "a", "f", "c", "e"];
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![image(DIGEST)])]).await;
    let container = List::new(Container, 1, &[&NAMES[..3], &NAMES[3..]]);
    running.deliver(vec![contents(&agent, 2, vec![container.part(1), container.part(2)])]).await;
    let parent = name(&agent, DIGEST);
    let page = async |page_token: &str| {
        let request = ListImagePackagesRequest {
            parent: parent.clone(),
            page_size: 3,
            page_token: page_token.to_owned(),
        };
        running.images().list_image_packages(request).await.map(tonic::Response::into_inner)
    };
    let (mut names, mut token, mut tokens) = (Vec::new(), String::new(), Vec::new());
    loop {
        let answer = page(&token).await.unwrap();
        assert_eq!(answer.total_size, 7);
        names.extend(answer.packages.into_iter().map(|package| package.package));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
        tokens.push(token.clone());
    }
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(tokens.len(), 2);

    // A search goes over its pages too, and takes no token of another question.
    let more = ["sha256:b", "sha256:c"].map(|digest| List { digest, ..List::new(Layers, 9, &[&["d"]]) });
    running.deliver(vec![contents(&agent, 3, more.iter().map(|list| list.part(1)).collect())]).await;
    let (mut digests, mut token) = (Vec::new(), String::new());
    loop {
        let answer = running.search("d", 1, &token).await;
        digests.extend(answer.image_packages.into_iter().map(|found| found.image_digest));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    digests.sort();
    assert_eq!(digests, [DIGEST, "sha256:b", "sha256:c"]);
    let foreign = SearchImagePackagesRequest {
        package: "e".to_owned(),
        page_token: tokens[0].clone(),
        ..Default::default()
    };
    let refused = running.images().search_image_packages(foreign).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_PAGE_TOKEN".to_owned()));
    let unnamed =
        running.images().search_image_packages(SearchImagePackagesRequest::default()).await.unwrap_err();
    assert_eq!(unnamed.get_error_details().bad_request().unwrap().field_violations[0].field, "package");

    // A page of a list that was replaced meanwhile would leave some out.
    let layers = List::new(Layers, 2, &[&NAMES]);
    running.deliver(vec![contents(&agent, 4, vec![layers.part(1)])]).await;
    assert_eq!(reason(&page(&tokens[0]).await.unwrap_err()), (Code::Aborted, "CONTENTS_REPLACED".to_owned()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_contents_are_dead_letters_by_field_and_their_neighbours_are_committed() {
    type Change = fn(&mut ImageContent);
    let changes: [(&str, Change); 10] = [
        ("image_digest", |content| content.image_digest.clear()),
        ("image_digest", |content| content.image_digest = "a\0".to_owned()),
        ("content_hash", |content| content.content_hash.truncate(15)),
        ("parts", |content| content.parts = 1001),
        ("part", |content| content.part = 0),
        ("part", |content| content.part = 2),
        ("source", |content| content.source = 9),
        ("packages[0].package", |content| content.packages[0].package.clear()),
        ("packages[0].homepage", |content| content.packages[0].homepage = "\0".to_owned()),
        ("", |content| content.packages = vec![content.packages[0].clone(); 501]),
    ];
    let running = Running::start().await;
    let agent = Agent::new();
    let right = List::new(Layers, 1, &[&["bash"]]).part(1);
    let mut batches = vec![agent.batch(1, vec![image(DIGEST)])];
    for (sequence, (_, change)) in (2..).zip(&changes) {
        let mut wrong = right.clone();
        change(&mut wrong);
        let mut batch = contents(&agent, sequence, vec![wrong]);
        batch.observations.push(package(Presence::Present, "lost", "1"));
        batches.push(batch);
    }
    // What an image says of itself may be odd, and is no fault of the agent.
    let mut odd = right.clone();
    let long = "long".repeat(1000);
    odd.packages = vec![
        PackageDetails {
            package: long.clone(),
            version: long.clone(),
            installed_size_bytes: u64::MAX,
            ..Default::default()
        };
        2
    ];
    odd.packages.push(PackageDetails { package: "z".to_owned(), ..PackageDetails::default() });
    batches.push(contents(&agent, 90, vec![odd]));
    batches.push(agent.batch(91, vec![package(Presence::Present, "kept", "1")]));
    let results = running.deliver(batches).await;
    use IngestResult::{Committed, DeadLettered};
    let mut expected = vec![DeadLettered; 13];
    (expected[0], expected[11], expected[12]) = (Committed, Committed, Committed);
    assert_eq!(results, expected);

    let database = running.database.connect().await;
    let rows = database.query("SELECT detail FROM dead_letter ORDER BY create_time", &[]).await.unwrap();
    let mut details: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for (field, _) in changes {
        let prefix = if field.is_empty() {
            "image_contents: 501 packages".to_owned()
        } else {
            format!("image_contents[0].{field}: ")
        };
        let found = details.iter().position(|detail| detail.starts_with(&prefix));
        details.remove(found.unwrap_or_else(|| panic!("{prefix}: {details:?}")));
    }
    assert_eq!(details, [""; 0]);
    let kept: Vec<_> = running.list("kind=PACKAGE").await;
    assert_eq!(kept.iter().map(|asset| asset.display_name.as_str()).collect::<Vec<_>>(), ["kept"]);

    let request =
        ListImagePackagesRequest { parent: name(&agent, DIGEST), page_size: 1, ..Default::default() };
    let first = running.images().list_image_packages(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.packages[0].package.as_str(), first.total_size), (long.as_str(), 3));
    assert_eq!(first.packages[0].installed_size_bytes, i64::MAX as u64);
    let request = ListImagePackagesRequest { page_token: first.next_page_token, page_size: 9, ..request };
    let rest = running.images().list_image_packages(request).await.unwrap().into_inner();
    assert_eq!(rest.packages.len(), 2);
    assert_eq!(running.search(&long, 0, "").await.image_packages.len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_are_committed_with_their_batch_or_not_at_all() {
    let running = Running::start().await;
    let agent = Agent::new();
    let list = List::new(Layers, 1, &[&["bash"]]);
    let mut refused = contents(&agent, 1, vec![list.part(1)]);
    // Only PostgreSQL itself can tell this one: NUL in a text.
    let mut nul = package(Presence::Present, "nul", "1");
    nul.display_name = "n\0ul".to_owned();
    refused.observations.push(nul);
    let results = running.deliver(vec![refused, agent.batch(2, vec![image(DIGEST)])]).await;
    assert_eq!(results, [IngestResult::DeadLettered, IngestResult::Committed]);
    let unread = running.packages(name(&agent, DIGEST)).await.unwrap_err();
    assert_eq!(reason(&unread).1, "CONTENTS_NOT_READ");
    let unknown = running.packages(Collection::Assets.name(Uuid::nil())).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    running.stop().await;
}
