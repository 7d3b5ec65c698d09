//! `assettrack set`, `undelete`, `saved-searches` and `custom-fields`.

use contracts::v1::{
    custom_field_service_server::CustomFieldService, saved_search_service_server::SavedSearchService, *,
};
use tonic::{Request, Response, Status};

use crate::{
    inventory, out, run,
    server::{Inventory, page, serve, time},
};

impl Inventory {
    /// Tells what was asked, without the ID of the call, which must be one.
    pub fn note(&self, request_id: &str, text: String) {
        assert!(uuid::Uuid::parse_str(request_id).is_ok(), "`{request_id}` is no request_id");
        self.asked.lock().unwrap().push(text);
    }
}

/// Notes what is set, and under which mask.
pub fn batch(inventory: &Inventory, request: BatchUpdateAssetsRequest) -> BatchUpdateAssetsResponse {
    let managed = request.patch.unwrap().managed.unwrap();
    let paths = request.update_mask.unwrap().paths.join(" ");
    let mut labels: Vec<_> = managed.labels.iter().collect();
    labels.sort();
    let asked = format!(
        "{:?}{} {} {:?} {labels:?} {:?} [{paths}] {}",
        request.names,
        request.filter,
        managed.owner,
        managed.lifecycle(),
        managed.custom_fields,
        request.validate_only
    );
    inventory.note(&request.request_id, asked);
    let change = EditedAsset {
        name: "assets/1".into(),
        display_name: "\u{1b}[2J".into(),
        changed_fields: vec!["managed.labels.env".into(), "managed.owner".into()],
        ..EditedAsset::default()
    };
    BatchUpdateAssetsResponse { matched_count: 3, changed_count: 1, sample: vec![change], assets: Vec::new() }
}

#[tonic::async_trait]
impl SavedSearchService for Inventory {
    async fn create_saved_search(
        &self,
        request: Request<CreateSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let request = request.into_inner();
        let search = request.saved_search.unwrap();
        self.note(&request.request_id, format!("{} {:?}", search.order_by, search.columns));
        Ok(Response::new(SavedSearch { name: "savedSearches/1".into(), ..search }))
    }
    async fn get_saved_search(
        &self,
        request: Request<GetSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let name = request.into_inner().name;
        if name != "savedSearches/1" {
            return Err(kit::status::not_found("SavedSearch", &name));
        }
        Ok(Response::new(SavedSearch { name, filter: "openssl".into(), ..SavedSearch::default() }))
    }
    async fn list_saved_searches(
        &self,
        request: Request<ListSavedSearchesRequest>,
    ) -> Result<Response<ListSavedSearchesResponse>, Status> {
        let request = request.into_inner();
        let all: Vec<SavedSearch> = (0..250)
            .map(|number| SavedSearch {
                name: format!("savedSearches/{number}"),
                title: "x".into(),
                update_time: time(1_772_496_000),
                ..SavedSearch::default()
            })
            .collect();
        let (saved_searches, next_page_token) = page(&all, request.page_size, &request.page_token)?;
        Ok(Response::new(ListSavedSearchesResponse { saved_searches, next_page_token }))
    }
    async fn update_saved_search(
        &self,
        _: Request<UpdateSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        Err(Status::permission_denied("the tool does not edit them"))
    }
    async fn delete_saved_search(
        &self,
        request: Request<DeleteSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let request = request.into_inner();
        self.note(&request.request_id, format!("delete {}", request.name));
        Ok(Response::new(SavedSearch { name: request.name, ..SavedSearch::default() }))
    }
}

#[tonic::async_trait]
impl CustomFieldService for Inventory {
    async fn create_custom_field(
        &self,
        request: Request<CreateCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        let request = request.into_inner();
        let name = format!("customFields/{}", request.custom_field_id);
        let field = request.custom_field.unwrap();
        self.note(&request.request_id, format!("define {name}"));
        Ok(Response::new(CustomField { name, ..field }))
    }
    async fn get_custom_field(
        &self,
        request: Request<GetCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        Err(kit::status::not_found("CustomField", &request.into_inner().name))
    }
    async fn list_custom_fields(
        &self,
        _: Request<ListCustomFieldsRequest>,
    ) -> Result<Response<ListCustomFieldsResponse>, Status> {
        let field = CustomField {
            name: "customFields/tier".into(),
            r#type: CustomFieldType::Enum.into(),
            kinds: vec![AssetKind::Disk.into(), AssetKind::Custom.into()],
            required: true,
            values: vec!["a".into(), "b".into()],
            update_time: time(1_772_496_000),
            ..CustomField::default()
        };
        Ok(Response::new(ListCustomFieldsResponse { custom_fields: vec![field], ..Default::default() }))
    }
    async fn update_custom_field(
        &self,
        _: Request<UpdateCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        Err(Status::permission_denied("the tool does not edit them"))
    }
    async fn delete_custom_field(
        &self,
        request: Request<DeleteCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        let request = request.into_inner();
        if !request.force {
            return Err(kit::status::precondition("IN_USE", &request.name, "4 assets have a value of it"));
        }
        self.note(&request.request_id, format!("delete {}", request.name));
        Ok(Response::new(CustomField { name: request.name, ..CustomField::default() }))
    }
}

#[tokio::test]
async fn what_is_set_and_taken_away_is_what_the_mask_names() {
    let inventory = inventory();
    let url = serve(inventory.clone()).await;
    let set = [
        "set",
        "1",
        "assets/2",
        "--owner",
        "",
        "--lifecycle",
        "in_service",
        "--label",
        "env=prod",
        "--label",
        "old-",
        "--field",
        "tier=a",
    ];
    let ended = run(&url, &set).await;
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (
            Some(0),
            "NAME      DISPLAY NAME  CHANGED FIELDS\n\
             assets/1  \\u{1b}[2J     managed.labels.env managed.owner\n",
            "1 of 3 assets changed\n"
        )
    );
    // Under a filter it must be confirmed, and is counted first.
    let filtered = ["set", "--filter", "kind=DISK", "--owner", "ops"];
    let refused = run(&url, &filtered).await;
    let expected = "error: 1 of 3 assets would be changed; say --yes if that is meant\n";
    assert_eq!((refused.code, refused.err.as_str()), (Some(64), expected));
    let dry = run(&url, &[filtered.as_slice(), &["--dry-run"]].concat()).await;
    assert_eq!((dry.code, dry.err.as_str()), (Some(0), "1 of 3 assets would be changed\n"));
    let done = out(&url, &[filtered.as_slice(), &["--yes", "-o", "json"]].concat()).await;
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["changedCount"], 1);
    let paths = "managed.owner managed.lifecycle managed.labels.`env` managed.labels.`old` managed.custom_fields.`tier`";
    assert_eq!(
        *inventory.asked.lock().unwrap(),
        [
            format!(
                "[\"assets/1\", \"assets/2\"]  InService [(\"env\", \"prod\")] {{\"tier\": \"a\"}} [{paths}] false"
            ),
            "[]kind=DISK ops Unspecified [] {} [managed.owner] true".to_owned(),
            "[]kind=DISK ops Unspecified [] {} [managed.owner] true".to_owned(),
            "[]kind=DISK ops Unspecified [] {} [managed.owner] false".to_owned(),
        ]
    );
    for wrong in [
        vec!["set", "1"],
        vec!["set", "--owner", "x"],
        vec!["set", "1", "--filter", "x", "--owner", "x"],
        vec!["set", "1", "--label", "x"],
        vec!["set", "1", "--lifecycle", "broken"],
    ] {
        let wrong = run(&url, &wrong).await;
        assert_eq!((wrong.code, wrong.err.lines().count()), (Some(64), 1), "{}", wrong.err);
    }
    let back = out(&url, &["undelete", "1"]).await;
    assert!(back.contains("name   assets/1"), "{back}");
}

#[tokio::test]
async fn searches_are_kept_listed_run_and_deleted() {
    let inventory = inventory();
    let url = serve(inventory.clone()).await;
    assert_eq!(out(&url, &["saved-searches", "list", "-o", "json"]).await.lines().count(), 250);
    let save = [
        "saved-searches",
        "save",
        "Mine",
        "--filter",
        "a",
        "--order-by",
        "b desc",
        "--column",
        "c",
        "--column",
        "d",
    ];
    assert!(out(&url, &save).await.contains("savedSearches/1"));
    let found = out(&url, &["saved-searches", "run", "1", "-o", "json"]).await;
    assert_eq!(found.lines().count(), 1, "{found}");
    out(&url, &["saved-searches", "delete", "1"]).await;
    assert_eq!(*inventory.asked.lock().unwrap(), ["b desc [\"c\", \"d\"]", "delete savedSearches/1"]);
}

#[tokio::test]
async fn custom_fields_are_defined_listed_and_deleted() {
    let inventory = inventory();
    let url = serve(inventory.clone()).await;
    let define = [
        "custom-fields",
        "define",
        "tier",
        "--type",
        "enum",
        "--kind",
        "disk",
        "--required",
        "--value",
        "a",
        "--value",
        "b",
        "-o",
        "json",
    ];
    let made: serde_json::Value = serde_json::from_str(&out(&url, &define).await).unwrap();
    assert_eq!(made["values"], serde_json::json!(["a", "b"]));
    assert_eq!(
        (made["required"].as_bool(), made["kinds"][0].as_str()),
        (Some(true), Some("ASSET_KIND_DISK"))
    );
    assert_eq!(
        out(&url, &["custom-fields", "list", "--utc"]).await,
        "NAME               TYPE  REQUIRED  KINDS        TITLE  UPDATE TIME\n\
         customFields/tier  ENUM  yes       DISK CUSTOM         2026-03-03T00:00:00Z\n"
    );
    let used = run(&url, &["custom-fields", "delete", "tier"]).await;
    assert_eq!(used.code, Some(1));
    assert!(used.err.starts_with("error: customFields/tier: 4 assets have a value of it"), "{}", used.err);
    out(&url, &["custom-fields", "delete", "tier", "--force"]).await;
    assert_eq!(*inventory.asked.lock().unwrap(), ["define customFields/tier", "delete customFields/tier"]);
}
