//! Many assets at once.

use std::collections::HashMap;

use contracts::v1::{
    AssetEdit, AssetKind, BatchGetAssetsRequest, BatchUpdateAssetsRequest, BatchUpdateAssetsResponse,
    DeleteAssetRequest, Observation, Presence,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testkit::Seed;
use tonic::Response;

use super::*;
use crate::{
    history::verify_equal,
    running::{Agent, package},
};

fn patch(managed: ManagedFields) -> Option<Asset> {
    Some(Asset { managed: Some(managed), ..Asset::default() })
}

fn label(key: &str, value: &str) -> ManagedFields {
    ManagedFields { labels: [(key.to_owned(), value.to_owned())].into(), ..ManagedFields::default() }
}

fn edit(asset: &Asset, managed: ManagedFields) -> AssetEdit {
    let asset = Asset { name: asset.name.clone(), managed: Some(managed), ..Asset::default() };
    AssetEdit { asset: Some(asset), update_mask: None }
}

async fn batch(
    running: &Running,
    request: BatchUpdateAssetsRequest,
) -> Result<BatchUpdateAssetsResponse, Status> {
    running.assets().batch_update_assets(request).await.map(Response::into_inner)
}

fn under(filter: &str, managed: ManagedFields) -> BatchUpdateAssetsRequest {
    BatchUpdateAssetsRequest { filter: filter.to_owned(), patch: patch(managed), ..Default::default() }
}

/// Packages on one node.
async fn packages(running: &Running, agent: &Agent, count: usize) -> Vec<Asset> {
    let all: Vec<Observation> =
        (0..count).map(|n| package(Presence::Present, &format!("p{n:05}"), "1")).collect();
    for (sequence, some) in (1..).zip(all.chunks(500)) {
        running.deliver(vec![agent.batch(sequence, some.to_vec())]).await;
    }
    if count > 1000 { Vec::new() } else { running.list(&format!("node=nodes/{}", agent.node)).await }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_are_read_in_the_order_asked_for_or_the_missing_ones_named() {
    let running = Running::start().await;
    let mut names: Vec<String> =
        packages(&running, &Agent::new(), 30).await.into_iter().map(|asset| asset.name).collect();
    names.reverse();
    let get = async |names: &[String]| {
        let request = BatchGetAssetsRequest { names: names.to_vec() };
        running.assets().batch_get_assets(request).await.map(|answer| answer.into_inner().assets)
    };
    let read: Vec<String> = get(&names).await.unwrap().into_iter().map(|asset| asset.name).collect();
    assert_eq!(read, names);
    let nobody = format!("assets/{}", uuid::Uuid::from_u128(7));
    let missing = get(&[names[0].clone(), nobody.clone()]).await.unwrap_err();
    assert_eq!(about(&missing, Code::NotFound, "RESOURCE_NOT_FOUND")["resources"], nobody);
    assert!(missing.message().contains(&nobody) && !missing.message().contains(&names[0]), "{missing:?}");
    assert_eq!(at_fault(&get(&[]).await.unwrap_err()), ["names"]);
    let twice = [names[0].clone(), names[1].clone(), names[0].clone()];
    assert_eq!(at_fault(&get(&twice).await.unwrap_err()), ["names[2]"]);
    assert_eq!(at_fault(&get(&vec![nobody; 1001]).await.unwrap_err()), ["names"]);
    assert_eq!(at_fault(&get(&["nodes/x".to_owned()]).await.unwrap_err()), ["names[0]"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_edit_of_a_batch_is_a_revision_with_its_event() {
    let running = Running::start().await;
    let found = packages(&running, &Agent::new(), 3).await;
    let rack = created(&running, "rack", owned_by("a")).await;
    let rename = Asset { name: rack.name.clone(), display_name: "rack 2".to_owned(), ..Asset::default() };
    let edits = vec![
        AssetEdit { asset: Some(rename), update_mask: mask(&["display_name"]) },
        edit(&found[2], owned_by("x")),
        edit(&found[0], in_state(Lifecycle::InService)),
    ];
    let done = batch(&running, BatchUpdateAssetsRequest { edits, ..Default::default() }).await.unwrap();
    assert_eq!((done.matched_count, done.changed_count), (3, 3));
    let names: Vec<&str> = done.assets.iter().map(|asset| asset.display_name.as_str()).collect();
    assert_eq!(names, ["rack 2", "p00002", "p00000"], "in the order of the edits");
    assert!(done.assets.iter().all(|asset| asset.revision == 2));
    assert_eq!(done.assets[2].managed, Some(in_state(Lifecycle::InService)));
    assert_eq!(done.assets[2].details, found[0].details);

    // Labels one by one, over names; what is so already gets no revision.
    let names: Vec<String> = found.iter().map(|asset| asset.name.clone()).collect();
    let add = BatchUpdateAssetsRequest {
        names: names.clone(),
        patch: patch(label("env", "prod")),
        update_mask: mask(&["managed.labels.env", "managed.labels.gone"]),
        ..Default::default()
    };
    let done = batch(&running, add.clone()).await.unwrap();
    assert_eq!((done.matched_count, done.changed_count, done.assets.len()), (3, 3, 0));
    let again = batch(&running, add.clone()).await.unwrap();
    assert_eq!((again.matched_count, again.changed_count), (3, 0));
    let take = BatchUpdateAssetsRequest {
        patch: None,
        filter: "managed.labels:env".to_owned(),
        names: vec![],
        ..add
    };
    let done = batch(&running, take).await.unwrap();
    assert_eq!((done.matched_count, done.changed_count), (3, 3));
    assert_eq!(running.list("managed.labels:env").await.len(), 0);
    assert_eq!(running.list("managed.owner=x").await.len(), 1, "the rest stays");
    let edited = "SELECT count(*) FROM asset_event WHERE type = 5 AND actor = 'anonymous' \
         AND changed_fields = '{managed.labels.env}'";
    assert_eq!(number(&running, edited).await, 6);
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_edit_of_500_changes_nothing() {
    let running = Running::start().await;
    let found = packages(&running, &Agent::new(), 500).await;
    let before = record(&running).await;
    let edits = |bad: &dyn Fn(&mut AssetEdit)| {
        let mut edits: Vec<AssetEdit> = found.iter().map(|asset| edit(asset, owned_by("x"))).collect();
        bad(&mut edits[321]);
        BatchUpdateAssetsRequest { edits, ..Default::default() }
    };
    let owner = edits(&|edit| edit.asset.as_mut().unwrap().managed = Some(owned_by(" x")));
    let refused = batch(&running, owner).await.unwrap_err();
    assert_eq!(at_fault(&refused), ["edits[321].asset.managed.owner"]);
    let path = edits(&|edit| edit.update_mask = mask(&["details"]));
    assert_eq!(at_fault(&batch(&running, path).await.unwrap_err()), ["edits[321].update_mask"]);
    let stale = edits(&|edit| edit.asset.as_mut().unwrap().etag = "\"old\"".to_owned());
    let refused = batch(&running, stale).await.unwrap_err();
    let told = about(&refused, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(
        (told["resource"].as_str(), told["current"].as_str()),
        (found[321].name.as_str(), found[321].etag.as_str())
    );
    let gone =
        edits(&|edit| edit.asset.as_mut().unwrap().name = format!("assets/{}", uuid::Uuid::from_u128(7)));
    about(&batch(&running, gone).await.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(record(&running).await, before);
    batch(&running, edits(&|_| {})).await.unwrap();
    assert_eq!(record(&running).await, (before.0 + 500, before.1 + 500));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_illegal_transition_refuses_all_and_names_the_first_ten() {
    let running = Running::start().await;
    let found = packages(&running, &Agent::new(), 40).await;
    let retired: Vec<String> = found[..12].iter().map(|asset| asset.name.clone()).collect();
    let retire = BatchUpdateAssetsRequest {
        names: retired.clone(),
        patch: patch(in_state(Lifecycle::Retired)),
        ..Default::default()
    };
    batch(&running, retire).await.unwrap();
    let before = record(&running).await;
    let repair = under("kind=PACKAGE", in_state(Lifecycle::Maintenance));
    for validate_only in [true, false] {
        let request = BatchUpdateAssetsRequest { validate_only, ..repair.clone() };
        let refused = batch(&running, request).await.unwrap_err();
        let told = about(&refused, Code::FailedPrecondition, "ILLEGAL_TRANSITION");
        assert_eq!((told["count"].as_str(), told["from"].as_str()), ("12", "RETIRED"));
        assert_eq!(told["allowed"], "IN_STOCK, IN_SERVICE, DISPOSED");
        let named: Vec<&str> = told["resources"].split(',').collect();
        assert_eq!(named.len(), 10);
        assert!(named.iter().all(|name| retired.iter().any(|retired| retired == name)), "{named:?}");
        assert!(refused.message().contains("and 2 more"), "{refused:?}");
    }
    // A deleted record among names is told too; under a filter it is not meant.
    let rack = created(&running, "rack", owned_by("a")).await;
    let delete = DeleteAssetRequest { name: rack.name.clone(), ..Default::default() };
    running.assets().delete_asset(delete).await.unwrap();
    let names = BatchUpdateAssetsRequest {
        names: vec![rack.name.clone()],
        patch: patch(owned_by("x")),
        ..Default::default()
    };
    let refused = batch(&running, names).await.unwrap_err();
    assert_eq!(about(&refused, Code::FailedPrecondition, "DELETED")["resources"], rack.name);
    assert_eq!(batch(&running, under("rack", owned_by("x"))).await.unwrap().matched_count, 0);
    assert_eq!(record(&running).await, (before.0 + 2, before.1 + 2));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_what_would_change_and_changes_nothing() {
    let running = Running::start().await;
    let found = packages(&running, &Agent::new(), 60).await;
    let some = BatchUpdateAssetsRequest {
        names: found[..10].iter().map(|asset| asset.name.clone()).collect(),
        patch: patch(owned_by("ops")),
        ..Default::default()
    };
    batch(&running, some).await.unwrap();
    let before = record(&running).await;
    let dry = BatchUpdateAssetsRequest {
        validate_only: true,
        sample_size: 5,
        ..under("kind=PACKAGE", ManagedFields { owner: "ops".to_owned(), ..label("env", "prod") })
    };
    let told = batch(&running, dry.clone()).await.unwrap();
    assert_eq!((told.matched_count, told.changed_count, told.sample.len()), (60, 60, 5));
    assert_eq!(record(&running).await, before);
    assert_eq!(running.list("managed.labels:env").await.len(), 0);
    let owner = BatchUpdateAssetsRequest { update_mask: mask(&["managed.owner"]), ..dry.clone() };
    assert_eq!(batch(&running, owner).await.unwrap().changed_count, 50, "10 are so already");
    // The same for real, and only if as many are meant.
    let real = BatchUpdateAssetsRequest { validate_only: false, expected_count: Some(61), ..dry };
    let refused = batch(&running, real.clone()).await.unwrap_err();
    assert_eq!(about(&refused, Code::FailedPrecondition, "OTHER_COUNT")["count"], "60");
    let real = BatchUpdateAssetsRequest { expected_count: Some(60), ..real };
    assert_eq!(batch(&running, real).await.unwrap(), told, "as the dry run said");
    let change = &told.sample[0];
    let now = running.list(&format!("name={}", change.name)).await.remove(0);
    assert_eq!(now.managed, change.after);
    assert_ne!(change.before, change.after);
    assert!(change.changed_fields.contains(&"managed.labels.env".to_owned()), "{change:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_says_too_little_or_too_much_is_refused_by_field() {
    let running = Running::start().await;
    let rack = created(&running, "rack", owned_by("a")).await;
    let named = |patch: Option<Asset>| BatchUpdateAssetsRequest {
        names: vec![rack.name.clone()],
        patch,
        ..Default::default()
    };
    let edits = vec![edit(&rack, owned_by("x")), edit(&rack, owned_by("y"))];
    for (request, field) in [
        (BatchUpdateAssetsRequest::default(), "filter"),
        (BatchUpdateAssetsRequest { filter: "rack".to_owned(), ..named(patch(owned_by("x"))) }, "filter"),
        (named(Some(Asset { display_name: "x".to_owned(), ..Asset::default() })), "patch"),
        (named(Some(Asset { etag: rack.etag.clone(), ..Asset::default() })), "patch"),
        (named(None), "update_mask"),
        (BatchUpdateAssetsRequest { update_mask: mask(&["display_name"]), ..named(None) }, "update_mask"),
        (named(patch(owned_by(" x"))), "patch.managed.owner"),
        (
            BatchUpdateAssetsRequest { expected_count: Some(1), ..named(patch(owned_by("x"))) },
            "expected_count",
        ),
        (BatchUpdateAssetsRequest { sample_size: 101, ..named(patch(owned_by("x"))) }, "sample_size"),
        (under("kind=", owned_by("x")), "filter"),
        (BatchUpdateAssetsRequest { edits, ..Default::default() }, "edits[1].asset.name"),
        (BatchUpdateAssetsRequest { edits: vec![AssetEdit::default(); 1001], ..Default::default() }, "edits"),
        (
            BatchUpdateAssetsRequest { edits: vec![AssetEdit::default()], ..Default::default() },
            "edits[0].asset",
        ),
    ] {
        assert_eq!(at_fault(&batch(&running, request).await.unwrap_err()), [field]);
    }
    assert_eq!(running.list("").await, [rack]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_are_edited_in_one_transaction_and_one_more_is_refused() {
    let running = Running::start().await;
    packages(&running, &Agent::new(), 10_000).await;
    let done = batch(&running, under("kind=PACKAGE", label("env", "prod"))).await.unwrap();
    assert_eq!((done.matched_count, done.changed_count, done.sample.len()), (10_000, 10_000, 20));
    assert_eq!(number(&running, "SELECT count(DISTINCT xmin::text) FROM asset").await, 1);
    assert_eq!(number(&running, "SELECT count(*) FROM asset_event WHERE type = 5").await, 10_000);
    packages(&running, &Agent::new(), 1).await;
    let refused = batch(&running, under("kind=PACKAGE", label("env", "test"))).await.unwrap_err();
    assert_eq!(about(&refused, Code::FailedPrecondition, "TOO_MANY_ASSETS")["count"], "10001");
    assert!(refused.message().contains("10001 assets"), "{refused:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn agents_and_batches_of_people_at_once_do_not_hinder_each_other() {
    let running = Running::start().await;
    let seed = Seed::draw();
    let dice = |writer: u64| StdRng::seed_from_u64(seed.value() ^ writer);
    let agents: Vec<Agent> = (0..4).map(|_| Agent::new()).collect();
    for agent in &agents {
        packages(&running, agent, 60).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..3_u64 {
        let (mut rng, speakers) = (dice(writer), agents.clone());
        let mut ingest = running.ingest();
        tasks.spawn(async move {
            for round in 0..40 {
                // Several nodes in one call, in any order.
                let messages = (0..3)
                    .map(|n| {
                        let agent = &speakers[rng.random_range(0..speakers.len())];
                        let seen = (0..20).map(|_| {
                            let name = format!("p{:05}", rng.random_range(0..60));
                            package(Presence::Present, &name, &format!("2.{}", rng.random_range(0..9)))
                        });
                        let sequence = 1000 + i64::try_from(writer).unwrap() * 1000 + round * 3 + n;
                        crate::running::message(agent.batch(sequence, seen.collect()))
                    })
                    .collect();
                let request = contracts::v1::IngestEventsRequest { messages };
                ingest.ingest_events(request).await.unwrap();
            }
        });
        let (mut rng, mut assets) = (dice(100 + writer), running.assets());
        let names: Vec<String> = agents
            .iter()
            .flat_map(|agent| {
                (0..60).map(|n| {
                    let key = format!("dpkg/p{n:05}:amd64");
                    format!("assets/{}", kit::identity::asset_uid(agent.node, AssetKind::Package, &key))
                })
            })
            .collect();
        tasks.spawn(async move {
            for round in 0..15 {
                let managed = label(&format!("w{writer}"), &round.to_string());
                let request = match rng.random_range(0..3) {
                    0 => under("kind=PACKAGE", managed),
                    1 => {
                        let mut some = names.clone();
                        some.retain(|_| rng.random_bool(0.5));
                        some.reverse();
                        BatchUpdateAssetsRequest { names: some, ..under("", managed) }
                    }
                    _ => {
                        let one = &names[rng.random_range(0..names.len())];
                        BatchUpdateAssetsRequest { names: vec![one.clone()], ..under("", managed) }
                    }
                };
                let path = format!("managed.labels.w{writer}");
                let request = BatchUpdateAssetsRequest { update_mask: mask(&[&path]), ..request };
                assets.batch_update_assets(request).await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(number(&running, deadlocks).await, 0);
    verify_equal(&running).await;
    let found: HashMap<String, Asset> =
        running.list("kind=PACKAGE").await.into_iter().map(|asset| (asset.name.clone(), asset)).collect();
    assert_eq!(found.len(), 240);
    running.stop().await;
}
