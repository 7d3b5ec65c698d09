//! What people record: edits, calls that are done once, batches, custom fields,
//! saved searches.

mod batch;
mod custom_fields;
mod edits;
mod once;
mod saved_searches;

use contracts::v1::{
    Asset, CreateAssetRequest, Lifecycle, ManagedFields, UpdateAssetRequest,
    custom_field_service_client::CustomFieldServiceClient,
    saved_search_service_client::SavedSearchServiceClient,
};
use prost_types::FieldMask;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::running::Running;

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn owned_by(owner: &str) -> ManagedFields {
    ManagedFields { owner: owner.to_owned(), ..ManagedFields::default() }
}

fn in_state(lifecycle: Lifecycle) -> ManagedFields {
    ManagedFields { lifecycle: lifecycle.into(), ..ManagedFields::default() }
}

fn create(name: &str, managed: ManagedFields) -> CreateAssetRequest {
    let asset = Asset { display_name: name.to_owned(), managed: Some(managed), ..Asset::default() };
    CreateAssetRequest { asset: Some(asset), ..CreateAssetRequest::default() }
}

fn update(asset: &Asset, managed: ManagedFields, paths: &[&str]) -> UpdateAssetRequest {
    let asset = Asset { name: asset.name.clone(), managed: Some(managed), ..Asset::default() };
    UpdateAssetRequest { asset: Some(asset), update_mask: mask(paths), ..UpdateAssetRequest::default() }
}

async fn created(running: &Running, name: &str, managed: ManagedFields) -> Asset {
    running.assets().create_asset(create(name, managed)).await.unwrap().into_inner()
}

fn searches(running: &Running) -> SavedSearchServiceClient<Channel> {
    SavedSearchServiceClient::new(running.channel.clone())
}

fn fields(running: &Running) -> CustomFieldServiceClient<Channel> {
    CustomFieldServiceClient::new(running.channel.clone())
}

/// A number that a query on the database answers.
async fn number(running: &Running, query: &str) -> i64 {
    running.database.connect().await.query_one(query, &[]).await.unwrap().get(0)
}

/// Revisions and rows of the log.
async fn record(running: &Running) -> (i64, i64) {
    let revisions = number(running, "SELECT coalesce(sum(revision), 0)::bigint FROM asset").await;
    (revisions, number(running, "SELECT count(*) FROM asset_event").await)
}

/// Reason and metadata of a refusal.
fn about(status: &Status, code: Code, reason: &str) -> std::collections::HashMap<String, String> {
    let info = status.get_details_error_info().unwrap();
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
    info.metadata
}

/// Fields at fault of a refusal.
fn at_fault(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let bad = status.get_details_bad_request().unwrap();
    bad.field_violations.into_iter().map(|violation| violation.field).collect()
}
