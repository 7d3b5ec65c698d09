//! What people do with assets.

use contracts::v1::{
    Asset, AssetKind, CreateAssetRequest, DeleteAssetRequest, EventType, GetAssetRequest, Lifecycle,
    ListAssetRevisionsRequest, ListAssetsRequest, ManagedFields, Presence, UpdateAssetRequest,
};
use prost_types::FieldMask;
use tonic::Code;

use crate::running::{Agent, Running, package};

fn managed(owner: &str) -> ManagedFields {
    ManagedFields {
        owner: owner.to_owned(),
        lifecycle: Lifecycle::InService.into(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        ..ManagedFields::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observed_and_managed_never_touch() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "5.1")])]).await;
    let before = running.list("bash").await.remove(0);
    let asset = Asset {
        name: before.name.clone(),
        etag: before.etag.clone(),
        managed: Some(managed("ops")),
        ..Asset::default()
    };
    let edited = running
        .assets()
        .update_asset(UpdateAssetRequest { asset: Some(asset.clone()), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((edited.revision, edited.managed_revision), (2, 1));
    assert_eq!(edited.details, before.details);
    assert_ne!(edited.etag, before.etag);

    running.deliver(vec![agent.batch(2, vec![package(Presence::Present, "bash", "5.2")])]).await;
    let observed = running.list("managed.owner=ops AND details.package.version=\"5.2\"").await.remove(0);
    assert_eq!(observed.managed, Some(managed("ops")), "an event leaves the managed side alone");
    assert_eq!(observed.etag, edited.etag, "a busy node does not make edits stale");
    assert_eq!((observed.revision, observed.managed_revision), (3, 1));

    let stale = running
        .assets()
        .update_asset(UpdateAssetRequest { asset: Some(asset), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    assert!(stale.message().contains("read it again"), "{}", stale.message());

    let request = ListAssetRevisionsRequest { parent: before.name, page_size: 2, ..Default::default() };
    let page = running.assets().list_asset_revisions(request.clone()).await.unwrap().into_inner();
    let told: Vec<_> =
        page.revisions.iter().map(|r| (r.revision, r.event.as_ref().unwrap().r#type())).collect();
    assert_eq!(told, [(3, EventType::Changed), (2, EventType::Edited)]);
    let edit = page.revisions[1].event.as_ref().unwrap();
    assert_eq!(edit.changed_fields, ["managed.labels.env", "managed.lifecycle", "managed.owner"]);
    assert_eq!(edit.actor, "anonymous");
    let second = ListAssetRevisionsRequest { page_token: page.next_page_token, ..request };
    let rest = running.assets().list_asset_revisions(second).await.unwrap().into_inner();
    assert_eq!((rest.revisions[0].revision, rest.next_page_token.as_str()), (1, ""));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_create_edit_and_delete_what_no_agent_sees() {
    let running = Running::start().await;
    let given =
        Asset { display_name: "rack 12".to_owned(), managed: Some(managed("dc")), ..Asset::default() };
    let created = running
        .assets()
        .create_asset(CreateAssetRequest { asset: Some(given), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((created.kind(), created.revision), (AssetKind::Custom, 1));

    let rename = Asset { name: created.name.clone(), display_name: "rack 13".to_owned(), ..Asset::default() };
    let mask = FieldMask { paths: vec!["display_name".to_owned(), "managed.owner".to_owned()] };
    let renamed = running
        .assets()
        .update_asset(UpdateAssetRequest {
            asset: Some(rename),
            update_mask: Some(mask),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(renamed.display_name, "rack 13");
    assert_eq!(renamed.managed.unwrap().owner, "", "a path in the mask writes what is not set, too");

    let delete = DeleteAssetRequest { name: created.name.clone(), etag: renamed.etag, ..Default::default() };
    let deleted = running.assets().delete_asset(delete.clone()).await.unwrap().into_inner();
    assert!(deleted.delete_time.is_some());
    assert_eq!(running.list("rack").await.len(), 0);
    let all = ListAssetsRequest { filter: "rack".to_owned(), show_deleted: true, ..Default::default() };
    assert_eq!(running.assets().list_assets(all).await.unwrap().into_inner().assets.len(), 1);
    let get = GetAssetRequest { name: created.name.clone(), ..Default::default() };
    assert!(running.assets().get_asset(get).await.unwrap().into_inner().delete_time.is_some());
    let again = DeleteAssetRequest { etag: String::new(), ..delete };
    assert_eq!(running.assets().delete_asset(again).await.unwrap_err().code(), Code::FailedPrecondition);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_that_an_agent_sees_cannot_be_deleted() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "5.1")])]).await;
    let name = running.list("bash").await.remove(0).name;
    let delete = DeleteAssetRequest { name, ..Default::default() };
    let refused = running.assets().delete_asset(delete.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    running.deliver(vec![agent.batch(2, vec![package(Presence::Absent, "bash", "")])]).await;
    running.assets().delete_asset(delete).await.unwrap();
    assert_eq!(running.list("bash").await.len(), 0);
    // Seen again, it is never hidden.
    running.deliver(vec![agent.batch(3, vec![package(Presence::Present, "bash", "5.2")])]).await;
    let again = running.list("bash state=ACTIVE").await.remove(0);
    assert_eq!((again.delete_time, again.revision), (None, 4));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_every_asset_once() {
    let running = Running::start().await;
    let agent = Agent::new();
    let names: Vec<String> = (0..23).map(|n| format!("p{n:02}")).collect();
    // The same display name twice: the UUID decides.
    let mut seen: Vec<_> = names.iter().map(|name| package(Presence::Present, name, "1")).collect();
    seen.push(contracts::v1::Observation { natural_key: "dpkg/p05:i386".to_owned(), ..seen[5].clone() });
    seen[23].event_id = uuid::Uuid::now_v7().to_string();
    running.deliver(vec![agent.batch(1, seen)]).await;
    let mut request =
        ListAssetsRequest { page_size: 5, filter: "kind=PACKAGE".to_owned(), ..Default::default() };
    let mut listed: Vec<Asset> = Vec::new();
    loop {
        let page = running.assets().list_assets(request.clone()).await.unwrap().into_inner();
        assert!(page.assets.len() <= 5);
        listed.extend(page.assets);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed.len(), 24);
    assert!(
        listed.is_sorted_by(|one, other| {
            (&one.display_name, &one.name) < (&other.display_name, &other.name)
        })
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_what_they_say() {
    let running = Running::start().await;
    let agent = Agent::new();
    let seen = vec![
        package(Presence::Present, "openssl", "3.0.11"),
        package(Presence::Present, "libssl3", "3.0.11"),
        package(Presence::Present, "bash", "5.2.15"),
    ];
    running.deliver(vec![agent.batch(1, seen)]).await;
    let name = running.list("display_name=openssl").await.remove(0).name;
    let asset = Asset { name: name.clone(), managed: Some(managed("it's 100% ours")), ..Asset::default() };
    running
        .assets()
        .update_asset(UpdateAssetRequest { asset: Some(asset), ..Default::default() })
        .await
        .unwrap();
    let custom = Asset { display_name: "50%_off".to_owned(), ..Asset::default() };
    running
        .assets()
        .create_asset(CreateAssetRequest { asset: Some(custom), ..Default::default() })
        .await
        .unwrap();

    for (filter, expected) in [
        ("ssl", vec!["libssl3", "openssl"]),
        ("SSL -openssl", vec!["libssl3"]),
        ("kind=PACKAGE", vec!["bash", "libssl3", "openssl"]),
        ("kind!=PACKAGE", vec!["50%_off"]),
        ("NOT kind=PACKAGE", vec!["50%_off"]),
        ("details.package.version=\"3.0*\"", vec!["libssl3", "openssl"]),
        ("details.package.version!=\"3.0.11\"", vec!["bash"]),
        ("details.package.installed_size_bytes>=1006 details.package.package:a", vec!["bash"]),
        ("details.disk.size_bytes=0", vec![]),
        ("details.package:*", vec!["bash", "libssl3", "openssl"]),
        ("managed.labels.env=prod", vec!["openssl"]),
        ("managed.labels:env", vec!["openssl"]),
        ("managed.owner=\"it's 100% ours\"", vec!["openssl"]),
        ("managed.owner:\"100%\"", vec!["openssl"]),
        ("managed.owner=\"\"", vec!["50%_off", "bash", "libssl3"]),
        ("managed.lifecycle=IN_SERVICE", vec!["openssl"]),
        ("managed.lifecycle!=IN_SERVICE kind=PACKAGE", vec!["bash", "libssl3"]),
        ("NOT managed.lifecycle=IN_SERVICE kind=PACKAGE", vec!["bash", "libssl3"]),
        ("display_name=\"*_off\"", vec!["50%_off"]),
        ("display_name=\"5*%_off\"", vec!["50%_off"]),
        ("display_name=\"b_sh\"", vec![]),
        ("(display_name=bash OR display_name=libssl3) AND state=ACTIVE", vec!["bash", "libssl3"]),
        ("revision>1", vec!["openssl"]),
        ("create_time>\"2020-01-01T00:00:00Z\" display_name=bash", vec!["bash"]),
        ("first_seen_time<2020-01-01T00:00:00Z", vec![]),
        ("node_display_name=node-1 display_name:BASH", vec!["bash"]),
        ("delete_time:*", vec![]),
        ("node_display_name:*", vec!["bash", "libssl3", "openssl"]),
        ("state:*", vec!["bash", "libssl3", "openssl"]),
        ("natural_key:*", vec!["bash", "libssl3", "openssl"]),
        (&format!("node!=nodes/{}", agent.node), vec!["50%_off"]),
        ("first_seen_time!=2020-01-01T00:00:00Z -ssl", vec!["50%_off", "bash"]),
        (&format!("name={name}"), vec!["openssl"]),
        ("last_seen_time>\"2020-01-01T00:00:00Z\"", vec!["bash", "libssl3", "openssl"]),
    ] {
        let found: Vec<String> = running.list(filter).await.into_iter().map(|a| a.display_name).collect();
        assert_eq!(found, expected, "{filter}");
    }
    running.stop().await;
}
