//! What people do, by gRPC and by REST through the gateway: one call, one answer. A
//! call that writes has a request_id, so that both forms of it are the same call,
//! and only one of them is done.

use std::{net::SocketAddr, time::Duration};

use contracts::v1::{
    Asset, AssetEdit, BatchGetAssetsRequest, BatchUpdateAssetsRequest, CreateAssetRequest,
    CreateCustomFieldRequest, CreateSavedSearchRequest, CustomField, CustomFieldType, DeleteAssetRequest,
    DeleteCustomFieldRequest, DeleteSavedSearchRequest, GetSavedSearchRequest, Lifecycle,
    ListCustomFieldsRequest, ListSavedSearchesRequest, ManagedFields, SavedSearch, UndeleteAssetRequest,
    UpdateAssetRequest, UpdateCustomFieldRequest, UpdateSavedSearchRequest,
    asset_service_client::AssetServiceClient, custom_field_service_client::CustomFieldServiceClient,
    saved_search_service_client::SavedSearchServiceClient,
};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _};
use prost_types::FieldMask;
use serde_json::{Value, json};
use testkit::{Database, Service, free_address, http_send};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;
use uuid::Uuid;

const START: Duration = Duration::from_secs(60);

/// Both forms of calls, through a gateway to a processor. Its processes end before
/// its database goes.
struct Both {
    gateway_address: SocketAddr,
    _processes: [Service; 2],
    _database: Database,
    contracts: DescriptorPool,
}

impl Both {
    async fn start() -> Self {
        let database = Database::create().await;
        let (grpc, processor_admin) = (free_address().await, free_address().await);
        let mut processor = Service::new("assettrack-processor")
            .env("ASSETTRACK_DATABASE_URL", &database.url())
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
            .env("ASSETTRACK_ADMIN_ADDRESS", &processor_admin);
        let (gateway_address, gateway_admin) = (free_address().await, free_address().await);
        let mut gateway = Service::new("assettrack-gateway")
            .env("ASSETTRACK_LISTEN_ADDRESS", &gateway_address)
            .env("ASSETTRACK_ADMIN_ADDRESS", &gateway_admin)
            .env("ASSETTRACK_PROCESSOR_URL", &format!("http://{grpc}"));
        processor.start();
        gateway.start();
        processor.ready(processor_admin, START).await;
        gateway.ready(gateway_admin, START).await;
        let contracts = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
        Self { gateway_address, _processes: [gateway, processor], _database: database, contracts }
    }

    /// Makes a call by gRPC and by REST, and sees that they say the same. Tells the
    /// answer, or code and reason of the refusal.
    async fn same<A: prost::Message>(
        &self,
        (method, target, body): (&str, &str, Value),
        message: &str,
        grpc: Result<Response<A>, Status>,
    ) -> Result<Value, (Code, String)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let sent = http_send(self.gateway_address, method, target, &body).await.unwrap();
        let rest: Value = serde_json::from_str(&sent.1).unwrap();
        let place = format!("{method} {target} {body}");
        match grpc {
            Ok(answer) => {
                assert_eq!(sent.0, 200, "{place}: {rest}");
                let descriptor =
                    self.contracts.get_message_by_name(&format!("assettrack.v1.{message}")).unwrap();
                let encoded = answer.into_inner().encode_to_vec();
                let dynamic = DynamicMessage::decode(descriptor, encoded.as_slice()).unwrap();
                assert_eq!(dynamic.descriptor().name(), message);
                let mut rest = rest;
                // REST alone writes lists that are empty.
                rest.as_object_mut().unwrap().retain(|_, value| *value != json!([]));
                assert_eq!(rest, serde_json::to_value(&dynamic).unwrap(), "{place}");
                Ok(rest)
            }
            Err(status) => {
                let error = &rest["error"];
                assert_eq!(error["message"], status.message(), "{place}");
                let info = status.get_details_error_info().unwrap();
                let told = &error["details"][0];
                assert_eq!(told["reason"], info.reason, "{place}");
                assert_eq!(told["metadata"], json!(info.metadata), "{place}");
                let fields = status.get_details_bad_request().map(|bad| bad.field_violations);
                for (index, field) in fields.into_iter().flatten().enumerate() {
                    assert_eq!(
                        error["details"][1]["fieldViolations"][index]["field"], field.field,
                        "{place}"
                    );
                }
                Err((status.code(), info.reason))
            }
        }
    }
}

fn owned_by(owner: &str) -> ManagedFields {
    ManagedFields { owner: owner.to_owned(), ..ManagedFields::default() }
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn refused<T>(code: Code, reason: &str) -> Result<T, (Code, String)> {
    Err((code, reason.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_manage_is_the_same_by_grpc_and_by_rest() {
    let both = Both::start().await;
    let url = format!("http://{}", both.gateway_address);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    assets(&both, AssetServiceClient::new(channel.clone())).await;
    custom_fields(&both, CustomFieldServiceClient::new(channel.clone())).await;
    saved_searches(&both, SavedSearchServiceClient::new(channel)).await;
}

async fn assets(both: &Both, mut assets: AssetServiceClient<Channel>) {
    let id = Uuid::new_v4().to_string();
    let asset = Asset { display_name: "rack".to_owned(), managed: Some(owned_by("dc")), ..Asset::default() };
    let request = CreateAssetRequest { asset: Some(asset), request_id: id.clone(), ..Default::default() };
    let rest = json!({"displayName": "rack", "managed": {"owner": "dc"}});
    let target = format!("/v1/assets?requestId={id}");
    let made = both.same(("POST", &target, rest), "Asset", assets.create_asset(request).await).await.unwrap();
    let (name, etag) = (made["name"].as_str().unwrap().to_owned(), made["etag"].as_str().unwrap().to_owned());
    let path = format!("/v1/{name}");

    // The same ID with another body, and none at all.
    for (id, reason) in [(id.as_str(), "REQUEST_ID_REUSED"), ("x", "INVALID_FIELD")] {
        let request =
            DeleteAssetRequest { name: name.clone(), request_id: id.to_owned(), ..Default::default() };
        let target = format!("{path}?requestId={id}");
        let answer = assets.delete_asset(request).await;
        let answer = both.same(("DELETE", &target, Value::Null), "Asset", answer).await;
        assert_eq!(answer, refused(Code::InvalidArgument, reason));
    }
    let edit = |managed: ManagedFields, etag: &str, paths: &[&str]| UpdateAssetRequest {
        asset: Some(Asset {
            name: name.clone(),
            etag: etag.to_owned(),
            managed: Some(managed),
            ..Asset::default()
        }),
        update_mask: mask(paths),
        request_id: Uuid::from_u128(1).to_string(),
        ..Default::default()
    };
    let target = format!("{path}?requestId={}", Uuid::from_u128(1));
    let request = edit(owned_by("ops"), &etag, &["managed.owner"]);
    let rest = json!({"managed": {"owner": "ops"}, "etag": etag});
    let answer = assets.update_asset(request).await;
    let edited = both.same(("PATCH", &target, rest), "Asset", answer).await.unwrap();
    assert_eq!(edited["revision"], "2", "the mask that REST infers is the one that was sent");
    let stale =
        UpdateAssetRequest { request_id: String::new(), ..edit(owned_by("x"), &etag, &["managed.owner"]) };
    let rest = json!({"managed": {"owner": "x"}, "etag": etag});
    let answer = both.same(("PATCH", &path, rest), "Asset", assets.update_asset(stale).await).await;
    assert_eq!(answer, refused(Code::Aborted, "ETAG_MISMATCH"));
    let disposed = ManagedFields { lifecycle: Lifecycle::Disposed.into(), ..ManagedFields::default() };
    let request =
        UpdateAssetRequest { request_id: String::new(), ..edit(disposed, "", &["managed.lifecycle"]) };
    let rest = json!({"managed": {"lifecycle": "LIFECYCLE_DISPOSED"}});
    // The first state may be any; then few may follow.
    let dry = UpdateAssetRequest { validate_only: true, ..request.clone() };
    let target = format!("{path}?validateOnly=true");
    let answer =
        assets.update_asset(dry).await.map(|answer| answer.map(|asset| asset.managed.unwrap_or_default()));
    assert_eq!(answer.unwrap().into_inner().lifecycle(), Lifecycle::Disposed);
    assert_eq!(http_send(both.gateway_address, "PATCH", &target, &rest.to_string()).await.unwrap().0, 200);
    assets.update_asset(request).await.unwrap();
    let serve = ManagedFields { lifecycle: Lifecycle::InService.into(), ..ManagedFields::default() };
    let request = UpdateAssetRequest { request_id: String::new(), ..edit(serve, "", &["managed.lifecycle"]) };
    let rest = json!({"managed": {"lifecycle": "LIFECYCLE_IN_SERVICE"}});
    let answer = both.same(("PATCH", &path, rest), "Asset", assets.update_asset(request).await).await;
    assert_eq!(answer, refused(Code::FailedPrecondition, "ILLEGAL_TRANSITION"));

    let request = BatchGetAssetsRequest { names: vec![name.clone()] };
    let target = format!("/v1/assets:batchGet?names={name}");
    let answer = assets.batch_get_assets(request).await;
    both.same(("GET", &target, Value::Null), "BatchGetAssetsResponse", answer).await.unwrap();
    let nobody = format!("assets/{}", Uuid::nil());
    let request = BatchGetAssetsRequest { names: vec![name.clone(), nobody.clone()] };
    let target = format!("{target}&names={nobody}");
    let answer = assets.batch_get_assets(request).await;
    let answer = both.same(("GET", &target, Value::Null), "BatchGetAssetsResponse", answer).await;
    assert_eq!(answer, refused(Code::NotFound, "RESOURCE_NOT_FOUND"));

    let patch = BatchUpdateAssetsRequest {
        filter: "display_name=rack".to_owned(),
        patch: Some(Asset { managed: Some(owned_by("all")), ..Asset::default() }),
        validate_only: true,
        ..Default::default()
    };
    let dry =
        json!({"filter": "display_name=rack", "patch": {"managed": {"owner": "all"}}, "validateOnly": true});
    let answer = assets.batch_update_assets(patch.clone()).await;
    let place = ("POST", "/v1/assets:batchUpdate", dry);
    let told = both.same(place, "BatchUpdateAssetsResponse", answer).await.unwrap();
    assert_eq!((&told["matchedCount"], &told["changedCount"]), (&json!(1), &json!(1)));
    let edits =
        vec![AssetEdit { asset: Some(Asset { name: name.clone(), ..Asset::default() }), update_mask: None }];
    let both_ways = BatchUpdateAssetsRequest { edits, ..patch };
    let rest = json!({"filter": "display_name=rack", "edits": [{"asset": {"name": name}}],
        "patch": {"managed": {"owner": "all"}}});
    let answer = assets.batch_update_assets(both_ways).await;
    let answer =
        both.same(("POST", "/v1/assets:batchUpdate", rest), "BatchUpdateAssetsResponse", answer).await;
    assert_eq!(answer, refused(Code::InvalidArgument, "REQUIRED"));

    let id = Uuid::new_v4().to_string();
    let undelete = UndeleteAssetRequest { name: name.clone(), request_id: id.clone(), ..Default::default() };
    let rest = || json!({"requestId": id});
    let target = format!("{path}:undelete");
    let answer = assets.undelete_asset(undelete.clone()).await;
    let answer = both.same(("POST", &target, rest()), "Asset", answer).await;
    assert_eq!(answer, refused(Code::AlreadyExists, "NOT_DELETED"));
    assets.delete_asset(DeleteAssetRequest { name: name.clone(), ..Default::default() }).await.unwrap();
    let answer = assets.undelete_asset(undelete).await;
    let back = both.same(("POST", &target, rest()), "Asset", answer).await.unwrap();
    assert_eq!(back["deleteTime"], Value::Null);
}

async fn custom_fields(both: &Both, mut fields: CustomFieldServiceClient<Channel>) {
    let id = Uuid::new_v4().to_string();
    let field =
        CustomField { r#type: CustomFieldType::Date.into(), required: true, ..CustomField::default() };
    let request = CreateCustomFieldRequest {
        custom_field_id: "lease_end".to_owned(),
        custom_field: Some(field),
        request_id: id.clone(),
        ..Default::default()
    };
    let target = format!("/v1/customFields?customFieldId=lease_end&requestId={id}");
    let rest = json!({"type": "CUSTOM_FIELD_TYPE_DATE", "required": true});
    let answer = fields.create_custom_field(request.clone()).await;
    both.same(("POST", &target, rest.clone()), "CustomField", answer).await.unwrap();
    let request = CreateCustomFieldRequest { request_id: String::new(), ..request };
    let target = "/v1/customFields?customFieldId=lease_end";
    let answer = fields.create_custom_field(request).await;
    let answer = both.same(("POST", target, rest), "CustomField", answer).await;
    assert_eq!(answer, refused(Code::AlreadyExists, "EXISTS"));
    let name = "customFields/lease_end".to_owned();
    let field = CustomField { name: name.clone(), ..CustomField::default() };
    let request = UpdateCustomFieldRequest {
        custom_field: Some(field),
        update_mask: mask(&["required"]),
        request_id: Uuid::from_u128(2).to_string(),
        ..Default::default()
    };
    // An explicit false is written.
    let target = format!("/v1/{name}?requestId={}", Uuid::from_u128(2));
    let answer = fields.update_custom_field(request).await;
    let place = ("PATCH", target.as_str(), json!({"required": false}));
    let edited = both.same(place, "CustomField", answer).await.unwrap();
    assert_eq!(edited["required"], Value::Null);
    let answer = fields.list_custom_fields(ListCustomFieldsRequest::default()).await;
    both.same(("GET", "/v1/customFields", Value::Null), "ListCustomFieldsResponse", answer).await.unwrap();
    let id = Uuid::new_v4().to_string();
    let request =
        DeleteCustomFieldRequest { name: name.clone(), request_id: id.clone(), ..Default::default() };
    let target = format!("/v1/{name}?requestId={id}");
    let answer = fields.delete_custom_field(request).await;
    both.same(("DELETE", &target, Value::Null), "CustomField", answer).await.unwrap();
}

async fn saved_searches(both: &Both, mut searches: SavedSearchServiceClient<Channel>) {
    let id = Uuid::new_v4().to_string();
    let search =
        SavedSearch { title: "Mine".to_owned(), filter: "kind=DISK".to_owned(), ..SavedSearch::default() };
    let request =
        CreateSavedSearchRequest { saved_search: Some(search), request_id: id.clone(), ..Default::default() };
    let target = format!("/v1/savedSearches?requestId={id}");
    let rest = json!({"title": "Mine", "filter": "kind=DISK"});
    let answer = searches.create_saved_search(request).await;
    let kept = both.same(("POST", &target, rest), "SavedSearch", answer).await.unwrap();
    let name = kept["name"].as_str().unwrap().to_owned();
    let path = format!("/v1/{name}");
    let search = SavedSearch { name: name.clone(), filter: "kind=".to_owned(), ..SavedSearch::default() };
    let request = UpdateSavedSearchRequest {
        saved_search: Some(search),
        update_mask: mask(&["filter"]),
        ..Default::default()
    };
    let answer = searches.update_saved_search(request).await;
    let answer = both.same(("PATCH", &path, json!({"filter": "kind="})), "SavedSearch", answer).await;
    assert_eq!(answer, refused(Code::InvalidArgument, "INVALID_FILTER"));
    let answer = searches.list_saved_searches(ListSavedSearchesRequest::default()).await;
    both.same(("GET", "/v1/savedSearches", Value::Null), "ListSavedSearchesResponse", answer).await.unwrap();
    let id = Uuid::new_v4().to_string();
    let request =
        DeleteSavedSearchRequest { name: name.clone(), request_id: id.clone(), ..Default::default() };
    let target = format!("{path}?requestId={id}");
    let answer = searches.delete_saved_search(request).await;
    both.same(("DELETE", &target, Value::Null), "SavedSearch", answer).await.unwrap();
    let answer = searches.get_saved_search(GetSavedSearchRequest { name }).await;
    let answer = both.same(("GET", &path, Value::Null), "SavedSearch", answer).await;
    assert_eq!(answer, refused(Code::NotFound, "RESOURCE_NOT_FOUND"));
}
