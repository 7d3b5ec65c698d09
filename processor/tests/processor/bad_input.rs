//! Bad input gets a precise error that names the field, and nothing is half
//! done.

use std::collections::HashMap;

use contracts::v1::{
    Asset, CreateAssetRequest, DeadLetterReason, GetAssetRequest, GetNodeRequest, IngestEventsRequest,
    IngestResult, ListAssetsRequest, ListEventsRequest, ManagedFields, Presence, QueueMessage,
    RejectedMessage, UpdateAssetRequest, queue_message::Content,
};
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::running::{Agent, Running, message, package};

fn field_at_fault(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().domain, "assettrack");
    details.bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_is_refused_by_field() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    let asset = running.list("bash").await.remove(0);
    let mut assets = running.assets();

    for filter in ["kind=", "kindd=PACKAGE", "kind=PAKAGE", "(", "revision=9x"] {
        assert_eq!(field_at_fault(&running.try_list(filter).await.unwrap_err()), "filter", "{filter}");
    }
    let list = |page_size: i32, page_token: &str| ListAssetsRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    assert_eq!(field_at_fault(&assets.list_assets(list(-1, "")).await.unwrap_err()), "page_size");
    for token in ["x", "AAAA", "🦀"] {
        assert_eq!(field_at_fault(&assets.list_assets(list(0, token)).await.unwrap_err()), "page_token");
    }
    let events = ListEventsRequest { page_token: "eyJ9".to_owned(), ..Default::default() };
    assert_eq!(field_at_fault(&running.events().list_events(events).await.unwrap_err()), "page_token");

    for name in ["", "bash", "assets/", "assets/BASH", "nodes/x", &asset.name.to_uppercase()] {
        let get = GetAssetRequest { name: name.to_owned(), ..Default::default() };
        assert_eq!(field_at_fault(&assets.get_asset(get).await.unwrap_err()), "name", "{name}");
    }
    let unknown = format!("assets/{}", uuid::Uuid::nil());
    let missing =
        assets.get_asset(GetAssetRequest { name: unknown.clone(), ..Default::default() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_name, unknown);
    let node = GetNodeRequest { name: format!("nodes/{}", uuid::Uuid::nil()) };
    assert_eq!(running.nodes().get_node(node).await.unwrap_err().code(), Code::NotFound);

    let create = |asset: Asset| CreateAssetRequest { asset: Some(asset), ..Default::default() };
    let none =
        assets.create_asset(CreateAssetRequest { asset: None, ..Default::default() }).await.unwrap_err();
    assert_eq!(field_at_fault(&none), "asset");
    let unnamed = assets.create_asset(create(Asset::default())).await.unwrap_err();
    assert_eq!(field_at_fault(&unnamed), "asset.display_name");
    let observed = Asset { kind: 5, display_name: "x".to_owned(), ..Asset::default() };
    assert_eq!(field_at_fault(&assets.create_asset(create(observed)).await.unwrap_err()), "asset.kind");

    for path in ["details", "display_name", "state", "nonsense", "managed.ownr"] {
        let update = UpdateAssetRequest {
            asset: Some(Asset { name: asset.name.clone(), ..Asset::default() }),
            update_mask: Some(FieldMask { paths: vec![path.to_owned()] }),
            ..Default::default()
        };
        assert_eq!(field_at_fault(&assets.update_asset(update).await.unwrap_err()), "update_mask", "{path}");
    }
    let managed = ManagedFields { owner: "a\0b".to_owned(), ..ManagedFields::default() };
    let update = UpdateAssetRequest {
        asset: Some(Asset { name: asset.name.clone(), managed: Some(managed), ..Asset::default() }),
        ..Default::default()
    };
    assert_eq!(field_at_fault(&assets.update_asset(update).await.unwrap_err()), "asset.managed.owner");
    assert_eq!(running.list("bash").await, [asset], "nothing was changed by any of these");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_applied_is_kept_and_its_neighbours_are_committed() {
    let running = Running::start().await;
    let agent = Agent::new();
    let good =
        |sequence, name: &str| message(agent.batch(sequence, vec![package(Presence::Present, name, "1")]));
    let rejected = QueueMessage {
        message_id: "m-1".to_owned(),
        queue: "assettrack.events.0".to_owned(),
        content: Some(Content::Rejected(RejectedMessage {
            reason: DeadLetterReason::Undecodable.into(),
            detail: "body: not a Protobuf message".to_owned(),
            body: vec![0xff, 0x00, 0x01],
            headers: HashMap::from([("assettrack-node".to_owned(), agent.node.to_string())]),
            body_size_bytes: 3,
        })),
    };
    let mut no_identity = agent.batch(7, Vec::new());
    no_identity.node = None;
    let mut odd_kind = agent.batch(8, vec![package(Presence::Present, "x", "1")]);
    odd_kind.observations[0].kind = 4711;
    let mut future = agent.batch(9, Vec::new());
    future.schema_version = 99;
    // Only PostgreSQL itself can tell this one: NUL in a text.
    let mut nul = agent.batch(10, vec![package(Presence::Present, "nul", "1")]);
    nul.observations[0].display_name = "n\0ul".to_owned();
    let messages = vec![
        good(1, "one"),
        rejected.clone(),
        message(no_identity),
        message(odd_kind),
        message(nul),
        message(future),
        good(2, "two"),
    ];
    let request = IngestEventsRequest { messages };
    let results: Vec<_> =
        running.ingest().ingest_events(request).await.unwrap().into_inner().results().collect();
    use IngestResult::{Committed, DeadLettered};
    assert_eq!(
        results,
        [Committed, DeadLettered, DeadLettered, DeadLettered, DeadLettered, DeadLettered, Committed]
    );
    let names: Vec<_> =
        running.list("kind=PACKAGE").await.into_iter().map(|asset| asset.display_name).collect();
    assert_eq!(names, ["one", "two"]);
    // The same message again only counts.
    let again = IngestEventsRequest { messages: vec![rejected] };
    running.ingest().ingest_events(again).await.unwrap();

    let database = running.database.connect().await;
    let rows = database
        .query("SELECT reason::int, detail, count, body_size_bytes FROM dead_letter ORDER BY reason", &[])
        .await
        .unwrap();
    let kept: Vec<(i32, String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let reasons: Vec<i32> = kept.iter().map(|(reason, ..)| *reason).collect();
    assert_eq!(reasons, [1, 2, 3, 5, 6], "{kept:?}");
    assert_eq!(kept[0].2, 2);
    assert!(kept[3].1.starts_with("observations[0].kind"), "{kept:?}");
    running.stop().await;
}
