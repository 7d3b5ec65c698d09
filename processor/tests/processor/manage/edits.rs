//! Edits of one asset: masks, etags, the lifecycle, deletion and its undoing.

use contracts::v1::{
    Asset, DeleteAssetRequest, EventType, Lifecycle, ListAssetRevisionsRequest, ManagedFields, Presence,
    UndeleteAssetRequest,
};
use tonic::Code;

use super::*;
use crate::{
    history::verify_equal,
    running::{Agent, package},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_etag_is_refused_with_the_current_one() {
    let running = Running::start().await;
    let asset = created(&running, "rack", owned_by("a")).await;
    let mut edit = update(&asset, owned_by("b"), &["managed.owner"]);
    edit.asset.as_mut().unwrap().etag = asset.etag.clone();
    let edited = running.assets().update_asset(edit.clone()).await.unwrap().into_inner();
    let stale = running.assets().update_asset(edit).await.unwrap_err();
    let told = about(&stale, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!((told["current"].as_str(), told["field"].as_str()), (edited.etag.as_str(), "asset.etag"));
    let delete = DeleteAssetRequest { name: asset.name.clone(), etag: asset.etag, ..Default::default() };
    let stale = running.assets().delete_asset(delete.clone()).await.unwrap_err();
    assert_eq!(about(&stale, Code::Aborted, "ETAG_MISMATCH")["current"], edited.etag);
    let delete = DeleteAssetRequest { etag: told["current"].clone(), ..delete };
    running.assets().delete_asset(delete).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_reaches_entries_of_maps_and_all_fields() {
    let running = Running::start().await;
    let labels = [("env".to_owned(), "prod".to_owned()), ("tier".to_owned(), "1".to_owned())];
    let asset = created(&running, "rack", ManagedFields { labels: labels.into(), ..owned_by("dc") }).await;
    let labels = [("example.org/team".to_owned(), "net".to_owned())].into();
    let given = ManagedFields { labels, ..ManagedFields::default() };
    let paths = ["managed.labels.`example.org/team`", "managed.labels.env"];
    let edited = running.assets().update_asset(update(&asset, given, &paths)).await.unwrap().into_inner();
    let managed = edited.managed.unwrap();
    let mut keys: Vec<&str> = managed.labels.keys().map(String::as_str).collect();
    keys.sort();
    assert_eq!((keys, managed.owner.as_str()), (vec!["example.org/team", "tier"], "dc"));

    let mut all = update(&asset, ManagedFields { location: "dc1".to_owned(), ..Default::default() }, &["*"]);
    all.asset.as_mut().unwrap().display_name = "rack 2".to_owned();
    let edited = running.assets().update_asset(all).await.unwrap().into_inner();
    let managed = edited.managed.unwrap();
    assert_eq!((edited.display_name.as_str(), managed.location.as_str()), ("rack 2", "dc1"));
    assert_eq!((managed.labels.len(), managed.owner.as_str()), (0, ""), "what is not given is taken away");
    assert_eq!(running.list("managed.location=dc1 NOT managed.labels:tier").await.len(), 1);
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lifecycle_goes_by_its_rules_and_a_refusal_names_the_allowed_ones() {
    let running = Running::start().await;
    let asset = created(&running, "server", in_state(Lifecycle::Planned)).await;
    let to = async |lifecycle| {
        let edit = update(&asset, in_state(lifecycle), &["managed.lifecycle"]);
        running.assets().update_asset(edit).await.map(tonic::Response::into_inner)
    };
    use Lifecycle::{Disposed, InService, InStock, Maintenance, Ordered, Retired, Unspecified};
    for step in [Ordered, InStock, InService, Maintenance, InService, Retired, Disposed, Retired, InStock] {
        assert_eq!(to(step).await.unwrap().managed.unwrap().lifecycle(), step);
    }
    for step in [Disposed, Unspecified] {
        let refused = to(step).await.unwrap_err();
        let told = about(&refused, Code::FailedPrecondition, "ILLEGAL_TRANSITION");
        assert_eq!(told["allowed"], "IN_SERVICE, MAINTENANCE, RETIRED");
        assert_eq!((told["from"].as_str(), told["resource"].as_str()), ("IN_STOCK", asset.name.as_str()));
        assert!(refused.message().ends_with("allowed are IN_SERVICE, MAINTENANCE, RETIRED"), "{refused:?}");
    }
    // The same again is no step, and no revision.
    let same = to(InStock).await.unwrap();
    assert_eq!(same.revision, 10);
    let first = created(&running, "old", in_state(Disposed)).await;
    assert_eq!(first.managed.unwrap().lifecycle(), Disposed, "any may be the first");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_taken_back_and_the_log_tells() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "5.1")])]).await;
    running.deliver(vec![agent.batch(2, vec![package(Presence::Absent, "bash", "")])]).await;
    let asset = running.list("bash").await.remove(0);
    let undelete = UndeleteAssetRequest { name: asset.name.clone(), ..Default::default() };
    let refused = running.assets().undelete_asset(undelete.clone()).await.unwrap_err();
    about(&refused, Code::AlreadyExists, "NOT_DELETED");
    let delete = DeleteAssetRequest { name: asset.name.clone(), ..Default::default() };
    let deleted = running.assets().delete_asset(delete.clone()).await.unwrap().into_inner();
    assert_eq!(deleted.managed, None, "deleting records nothing else");
    let edit = running.assets().update_asset(update(&asset, owned_by("x"), &[])).await.unwrap_err();
    about(&edit, Code::FailedPrecondition, "DELETED");
    let stale = UndeleteAssetRequest { etag: asset.etag, ..undelete.clone() };
    about(&running.assets().undelete_asset(stale).await.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");
    let back = UndeleteAssetRequest { etag: deleted.etag, ..undelete };
    let back = running.assets().undelete_asset(back).await.unwrap().into_inner();
    assert_eq!((back.delete_time, back.revision, back.managed_revision), (None, 4, 2));
    assert_eq!(running.list("bash").await.len(), 1);
    verify_equal(&running).await;
    // Deleted once more, seen and gone again: no trace of it is left in the row.
    running.assets().delete_asset(delete).await.unwrap();
    running.deliver(vec![agent.batch(3, vec![package(Presence::Present, "bash", "5.2")])]).await;
    running.deliver(vec![agent.batch(4, vec![package(Presence::Absent, "bash", "")])]).await;
    verify_equal(&running).await;
    let request = ListAssetRevisionsRequest { parent: back.name, ..Default::default() };
    let page = running.assets().list_asset_revisions(request).await.unwrap().into_inner();
    let types: Vec<EventType> =
        page.revisions.iter().rev().map(|one| one.event.as_ref().unwrap().r#type()).collect();
    use EventType::{Appeared, Deleted, Removed, Undeleted};
    assert_eq!(types, [Appeared, Removed, Deleted, Undeleted, Deleted, Appeared, Removed]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_of_managed_fields_is_kept() {
    let running = Running::start().await;
    let asset = created(&running, "rack", ManagedFields::default()).await;
    let before = record(&running).await;
    let label = |key: &str, value: &str| ManagedFields {
        labels: [(key.to_owned(), value.to_owned())].into(),
        ..ManagedFields::default()
    };
    for (managed, field) in [
        (owned_by(&"x".repeat(257)), "asset.managed.owner"),
        (owned_by("two\nlines"), "asset.managed.owner"),
        (owned_by(" x"), "asset.managed.owner"),
        (ManagedFields { location: "x".repeat(257), ..Default::default() }, "asset.managed.location"),
        (ManagedFields { notes: "x".repeat(16_385), ..Default::default() }, "asset.managed.notes"),
        (label("-x", ""), "asset.managed.labels[\"-x\"]"),
        (label("x", "a b"), "asset.managed.labels[\"x\"]"),
        (
            ManagedFields {
                labels: (0..65).map(|n| (n.to_string(), String::new())).collect(),
                ..Default::default()
            },
            "asset.managed.labels",
        ),
        (ManagedFields { lifecycle: 99, ..Default::default() }, "asset.managed.lifecycle"),
    ] {
        let refused = running.assets().update_asset(update(&asset, managed.clone(), &[])).await.unwrap_err();
        assert_eq!(at_fault(&refused), [field]);
        let refused = running.assets().create_asset(create("x", managed)).await.unwrap_err();
        assert_eq!(at_fault(&refused), [field]);
    }
    // A key of megabytes makes no error of megabytes.
    let refused = running.assets().update_asset(update(&asset, label(&"k".repeat(1 << 20), ""), &[])).await;
    assert_eq!(at_fault(&refused.unwrap_err()).len(), 1);
    assert_eq!(record(&running).await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_validated_answers_as_if_it_were_done_and_changes_nothing() {
    let running = Running::start().await;
    let asset = created(&running, "rack", owned_by("a")).await;
    let before = record(&running).await;
    let mut assets = running.assets();
    let edit = UpdateAssetRequest { validate_only: true, ..update(&asset, owned_by("b"), &[]) };
    let edited = assets.update_asset(edit).await.unwrap().into_inner();
    assert_eq!((edited.managed.unwrap().owner.as_str(), edited.revision), ("b", 2));
    let new = CreateAssetRequest { validate_only: true, ..create("other", owned_by("c")) };
    assert_eq!(assets.create_asset(new).await.unwrap().into_inner().revision, 1);
    let delete = DeleteAssetRequest { name: asset.name.clone(), validate_only: true, ..Default::default() };
    assert!(assets.delete_asset(delete).await.unwrap().into_inner().delete_time.is_some());
    let edit = UpdateAssetRequest { validate_only: true, ..update(&asset, owned_by(" b"), &[]) };
    assert_eq!(at_fault(&assets.update_asset(edit).await.unwrap_err()), ["asset.managed.owner"]);
    assert_eq!(record(&running).await, before);
    assert_eq!(running.list("").await, [Asset { ..asset }]);
    running.stop().await;
}
