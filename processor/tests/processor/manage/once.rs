//! Calls with a `request_id` are done once.

use std::sync::Arc;

use contracts::v1::{BatchUpdateAssetsRequest, DeleteAssetRequest, SavedSearch, UndeleteAssetRequest};
use contracts::v1::{CreateCustomFieldRequest, CreateSavedSearchRequest, CustomField, CustomFieldType};
use testkit::Database;
use tonic::Code;
use uuid::Uuid;

use super::*;
use crate::history::DEADLINE;

fn id() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_sent_again_is_done_once_and_gets_the_first_answer() {
    let running = Running::start().await;
    let mut assets = running.assets();
    let new = CreateAssetRequest { request_id: id(), ..create("rack", owned_by("a")) };
    let first = assets.create_asset(new.clone()).await.unwrap().into_inner();
    let edit = UpdateAssetRequest { request_id: id(), ..update(&first, owned_by("b"), &[]) };
    let edited = assets.update_asset(edit.clone()).await.unwrap().into_inner();
    assets.update_asset(update(&first, owned_by("c"), &[])).await.unwrap();
    let delete = DeleteAssetRequest { name: first.name.clone(), request_id: id(), ..Default::default() };
    let deleted = assets.delete_asset(delete.clone()).await.unwrap().into_inner();
    let undelete = UndeleteAssetRequest { name: first.name.clone(), request_id: id(), ..Default::default() };
    let back = assets.undelete_asset(undelete.clone()).await.unwrap().into_inner();
    let patch = BatchUpdateAssetsRequest {
        names: vec![first.name.clone()],
        patch: Some(Asset { managed: Some(owned_by("d")), ..Asset::default() }),
        request_id: id(),
        ..Default::default()
    };
    let patched = assets.batch_update_assets(patch.clone()).await.unwrap().into_inner();
    assert_eq!(patched.changed_count, 1);
    let before = record(&running).await;
    // Another replica knows it too.
    let replica = running.another().await;
    for channel in [running.channel.clone(), replica.channel.clone()] {
        let mut assets = contracts::v1::asset_service_client::AssetServiceClient::new(channel);
        assert_eq!(assets.create_asset(new.clone()).await.unwrap().into_inner(), first);
        assert_eq!(assets.update_asset(edit.clone()).await.unwrap().into_inner(), edited);
        assert_eq!(assets.delete_asset(delete.clone()).await.unwrap().into_inner(), deleted);
        assert_eq!(assets.undelete_asset(undelete.clone()).await.unwrap().into_inner(), back);
        assert_eq!(assets.batch_update_assets(patch.clone()).await.unwrap().into_inner(), patched);
    }
    assert_eq!(record(&running).await, before, "nothing is done again");
    replica.stop().await;

    let search = SavedSearch { title: "mine".to_owned(), ..SavedSearch::default() };
    let search =
        CreateSavedSearchRequest { saved_search: Some(search), request_id: id(), ..Default::default() };
    let kept = searches(&running).create_saved_search(search.clone()).await.unwrap().into_inner();
    assert_eq!(searches(&running).create_saved_search(search).await.unwrap().into_inner(), kept);
    let field = CustomField { r#type: CustomFieldType::Bool.into(), ..CustomField::default() };
    let field = CreateCustomFieldRequest {
        custom_field_id: "insured".to_owned(),
        custom_field: Some(field),
        request_id: id(),
        ..Default::default()
    };
    let defined = fields(&running).create_custom_field(field.clone()).await.unwrap().into_inner();
    assert_eq!(fields(&running).create_custom_field(field).await.unwrap().into_inner(), defined);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_call_under_the_same_id_is_refused_and_a_failed_one_may_come_again() {
    let running = Running::start().await;
    let mut assets = running.assets();
    let request_id = id();
    let new = CreateAssetRequest { request_id: request_id.clone(), ..create("rack", owned_by(" bad")) };
    assets.create_asset(new.clone()).await.unwrap_err();
    let new = CreateAssetRequest { request_id: request_id.clone(), ..create("rack", owned_by("good")) };
    let rehearsal = CreateAssetRequest { validate_only: true, ..new.clone() };
    assets.create_asset(rehearsal).await.unwrap();
    let first = assets.create_asset(new.clone()).await.unwrap().into_inner();
    let other = CreateAssetRequest { request_id: request_id.clone(), ..create("rack", owned_by("other")) };
    let refused = assets.create_asset(other).await.unwrap_err();
    assert_eq!(at_fault(&refused), ["request_id"]);
    about(&refused, Code::InvalidArgument, "REQUEST_ID_REUSED");
    // Of another method too.
    let delete = DeleteAssetRequest { name: first.name.clone(), request_id, ..Default::default() };
    assert_eq!(at_fault(&assets.delete_asset(delete).await.unwrap_err()), ["request_id"]);
    for wrong in ["x", &Uuid::nil().to_string(), &Uuid::new_v4().simple().to_string()] {
        let wrong = CreateAssetRequest { request_id: wrong.to_owned(), ..new.clone() };
        assert_eq!(at_fault(&assets.create_asset(wrong).await.unwrap_err()), ["request_id"]);
    }
    assert_eq!(running.list("").await, [first]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_many_times_at_once_is_one_act() {
    let running = Running::start().await;
    let replica = running.another().await;
    let asset = created(&running, "rack", owned_by("a")).await;
    for round in 0..10 {
        let new = CreateAssetRequest { request_id: id(), ..create(&format!("new {round}"), owned_by("a")) };
        let owner = format!("owner-{round}");
        let edit = UpdateAssetRequest { request_id: id(), ..update(&asset, owned_by(&owner), &[]) };
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..6 {
            let channel = if n % 2 == 0 { running.channel.clone() } else { replica.channel.clone() };
            let (new, edit) = (new.clone(), edit.clone());
            calls.spawn(async move {
                let mut assets = contracts::v1::asset_service_client::AssetServiceClient::new(channel);
                let created = assets.create_asset(new).await.unwrap().into_inner();
                (created, assets.update_asset(edit).await.unwrap().into_inner())
            });
        }
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0].1.managed_revision, round + 2, "each edit is one revision");
    }
    assert_eq!(running.list("display_name:\"new \"").await.len(), 10);
    replica.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_forgotten_after_a_day() {
    let database = Arc::new(Database::create().await);
    let running = Running::start_on(database.clone(), &[]).await;
    let old = CreateAssetRequest { request_id: id(), ..create("old", owned_by("a")) };
    running.assets().create_asset(old).await.unwrap();
    let young = CreateAssetRequest { request_id: id(), ..create("young", owned_by("a")) };
    running.assets().create_asset(young.clone()).await.unwrap();
    let client = database.connect().await;
    let age = "UPDATE request SET create_time = create_time - CASE WHEN request_id = $1::text::uuid \
         THEN interval '23 hours 59 minutes' ELSE interval '24 hours 1 minute' END";
    assert_eq!(client.execute(age, &[&young.request_id]).await.unwrap(), 2);
    running.stop().await;
    // The duty begins with a look.
    let running = Running::start_on(database, &[]).await;
    testkit::wait_until(DEADLINE, "the old call is forgotten", async || {
        number(&running, "SELECT count(*) FROM request").await == 1
    })
    .await;
    running.assets().create_asset(young).await.unwrap();
    assert_eq!(running.list("young").await.len(), 1, "the young one is remembered");
    running.stop().await;
}
