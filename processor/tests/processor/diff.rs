//! What differs between two states of an asset, and going back to one.

use contracts::v1::{
    Asset, CreateAssetRequest, DeleteAssetRequest, DiffAssetRequest, DiffAssetResponse, EventType, FieldSide,
    ListAssetRevisionsRequest, ManagedFields, Presence, RevertAssetRequest, UpdateAssetRequest,
};
use prost_types::{FieldMask, Value, value::Kind};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::running::{Agent, Running, package};

async fn edit(running: &Running, name: &str, owner: &str, env: &str) -> Asset {
    let labels = [("env".to_owned(), env.to_owned())].into();
    let managed = ManagedFields { owner: owner.to_owned(), labels, ..ManagedFields::default() };
    let asset = Asset { name: name.to_owned(), managed: Some(managed), ..Asset::default() };
    let request =
        UpdateAssetRequest { asset: Some(asset), update_mask: None, ..UpdateAssetRequest::default() };
    running.assets().update_asset(request).await.unwrap().into_inner()
}

async fn diff(running: &Running, request: DiffAssetRequest) -> DiffAssetResponse {
    running.assets().diff_asset(request).await.unwrap().into_inner()
}

/// Path, side, before and after, for values that are texts.
fn told(answer: &DiffAssetResponse) -> Vec<(&str, FieldSide, &str, &str)> {
    fn text(value: Option<&Value>) -> &str {
        match value.and_then(|value| value.kind.as_ref()) {
            None => "-",
            Some(Kind::StringValue(text)) => text,
            other => panic!("{other:?}"),
        }
    }
    let differences = answer.differences.iter();
    differences
        .map(|one| (one.path.as_str(), one.side(), text(one.before.as_ref()), text(one.after.as_ref())))
        .collect()
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_differ_are_told_by_revision_and_by_time() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let now = async || {
        let query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        client.query_one(query, &[]).await.unwrap().get::<_, i64>(0)
    };
    let at = crate::past::at;
    let agent = Agent::new();
    let before_all = now().await;
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "5.1")])]).await;
    let first = now().await;
    let name = running.list("bash").await.remove(0).name;
    edit(&running, &name, "ops", "prod").await;
    edit(&running, &name, "ops", "test").await;
    running.deliver(vec![agent.batch(2, vec![package(Presence::Present, "bash", "5.2")])]).await;
    running.deliver(vec![agent.batch(3, vec![package(Presence::Absent, "bash", "")])]).await;

    use FieldSide::{Managed, Observed};
    let all = [
        ("details.package.version", Observed, "5.1", "5.2"),
        ("managed.labels.env", Managed, "-", "test"),
        ("managed.owner", Managed, "-", "ops"),
        ("state", Observed, "ASSET_STATE_ACTIVE", "ASSET_STATE_REMOVED"),
    ];
    let request = DiffAssetRequest { name: name.clone(), ..Default::default() };
    let answer = diff(&running, DiffAssetRequest { base_revision: 1, ..request.clone() }).await;
    assert_eq!(told(&answer), all);
    let revisions = |answer: &DiffAssetResponse| {
        let revision = |asset: &Option<Asset>| asset.as_ref().map_or(0, |asset| asset.revision);
        (revision(&answer.base_asset), revision(&answer.asset))
    };
    assert_eq!(revisions(&answer), (1, 5));
    let edits = DiffAssetRequest { base_revision: 2, revision: 3, ..request.clone() };
    assert_eq!(told(&diff(&running, edits).await), [("managed.labels.env", Managed, "prod", "test")]);
    let same = DiffAssetRequest { base_revision: 3, revision: 3, ..request.clone() };
    assert_eq!(told(&diff(&running, same).await), []);

    let times = DiffAssetRequest { base_read_time: at(first), ..request.clone() };
    let answer = diff(&running, times.clone()).await;
    assert_eq!((told(&answer), revisions(&answer)), (all.to_vec(), (1, 5)));
    let unchanged = diff(&running, DiffAssetRequest { read_time: at(first), ..times }).await;
    assert_eq!((told(&unchanged), revisions(&unchanged)), (vec![], (1, 1)));
    let from_nothing =
        DiffAssetRequest { base_read_time: at(before_all), read_time: at(first), ..request.clone() };
    let answer = diff(&running, from_nothing.clone()).await;
    assert_eq!((answer.base_asset.is_none(), answer.differences.len()), (true, 5), "{answer:?}");
    let nothing = DiffAssetRequest { read_time: at(before_all), ..from_nothing };
    let refused = running.assets().diff_asset(nothing).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let beyond = DiffAssetRequest { base_revision: 6, ..request };
    let refused = running.assets().diff_asset(beyond).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains(&format!("{name}/revisions/6")), "{refused:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_is_an_edit_of_the_managed_side_alone() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "5.1")])]).await;
    let name = running.list("bash").await.remove(0).name;
    let wanted = edit(&running, &name, "ops", "prod").await;
    edit(&running, &name, "someone", "test").await;
    running.deliver(vec![agent.batch(2, vec![package(Presence::Present, "bash", "5.2")])]).await;

    let request = RevertAssetRequest {
        name: name.clone(),
        revision: 2,
        etag: wanted.etag.clone(),
        ..RevertAssetRequest::default()
    };
    let stale = running.assets().revert_asset(request.clone()).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let current = running.list("bash").await.remove(0);
    let request = RevertAssetRequest { etag: current.etag, ..request };
    let reverted = running.assets().revert_asset(request).await.unwrap().into_inner();
    assert_eq!((reverted.managed, reverted.revision, reverted.managed_revision), (wanted.managed, 5, 3));
    assert_eq!(reverted.details, current.details, "what agents see is as it was");
    let request = ListAssetRevisionsRequest { parent: name.clone(), page_size: 1, ..Default::default() };
    let newest =
        running.assets().list_asset_revisions(request).await.unwrap().into_inner().revisions.remove(0);
    let event = newest.event.unwrap();
    assert_eq!(event.r#type(), EventType::Edited);
    assert_eq!(event.changed_fields, ["managed.labels.env", "managed.owner"]);

    // Once more changes nothing; to before the first edit empties it.
    let revert = async |revision| {
        let request = RevertAssetRequest { name: name.clone(), revision, ..Default::default() };
        running.assets().revert_asset(request).await
    };
    assert_eq!(revert(2).await.unwrap().into_inner().revision, 5);
    assert_eq!(revert(1).await.unwrap().into_inner().managed, Some(ManagedFields::default()));
    for (revision, code) in [(99, Code::NotFound), (0, Code::InvalidArgument), (i64::MAX, Code::NotFound)] {
        assert_eq!(revert(revision).await.unwrap_err().code(), code, "{revision}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_created_gets_its_name_back_too_unless_it_is_deleted() {
    let running = Running::start().await;
    let asset = Asset { display_name: "rack 1".to_owned(), ..Asset::default() };
    let request = CreateAssetRequest { asset: Some(asset), ..CreateAssetRequest::default() };
    let name = running.assets().create_asset(request).await.unwrap().into_inner().name;
    let renamed = Asset { name: name.clone(), display_name: "rack 2".to_owned(), ..Asset::default() };
    let update_mask = Some(FieldMask { paths: vec!["display_name".to_owned()] });
    let request = UpdateAssetRequest { asset: Some(renamed), update_mask, ..UpdateAssetRequest::default() };
    running.assets().update_asset(request).await.unwrap();
    let request = RevertAssetRequest { name: name.clone(), revision: 1, ..Default::default() };
    let reverted = running.assets().revert_asset(request.clone()).await.unwrap().into_inner();
    assert_eq!((reverted.display_name.as_str(), reverted.revision), ("rack 1", 3));
    let changed = DiffAssetRequest { name: name.clone(), base_revision: 2, ..Default::default() };
    let answer = running.assets().diff_asset(changed).await.unwrap().into_inner();
    assert_eq!(told(&answer), [("display_name", FieldSide::Managed, "rack 2", "rack 1")]);
    let delete = DeleteAssetRequest { name, ..Default::default() };
    running.assets().delete_asset(delete).await.unwrap();
    let refused = running.assets().revert_asset(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "DELETED"));
    running.stop().await;
}
