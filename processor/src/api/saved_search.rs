//! SavedSearchService.

use contracts::v1::{
    CreateSavedSearchRequest, DeleteSavedSearchRequest, GetSavedSearchRequest, ListSavedSearchesRequest,
    ListSavedSearchesResponse, SavedSearch, UpdateSavedSearchRequest,
    saved_search_service_server::SavedSearchService,
};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use kit::{
    identity::Collection,
    status::{invalid_field, not_found},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Api,
    convert::timestamp,
    errors, request,
    task::in_task,
    write::{ANONYMOUS, WriteError},
};
use crate::{
    domain::{
        field::{FieldError, line, required_line, shown},
        filter::{self, Schema},
        order::{Order, OrderError},
    },
    store::{
        asset::record_time_in_txn,
        saved_search::{self, SavedSearchRow},
    },
};

const TYPE: &str = "assettrack.v1.SavedSearch";
const MAX_LINE_BYTES: usize = 256;
const MAX_ORDER_BYTES: usize = 512;
const MAX_COLUMNS: usize = 50;
const MAX_PATH_BYTES: usize = 256;
const FIELDS: [&str; 5] = ["title", "filter", "order_by", "columns", "owner"];

fn answer(row: SavedSearchRow) -> SavedSearch {
    SavedSearch {
        name: Collection::SavedSearches.name(row.uid),
        etag: etag(&row),
        title: row.title,
        filter: row.filter,
        order_by: row.order_by,
        columns: row.column_paths,
        owner: row.owner,
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
    }
}

fn etag(row: &SavedSearchRow) -> String {
    format!("\"{}-{}\"", &row.uid.simple().to_string()[24..], row.revision)
}

fn check(search: &SavedSearch, schema: &Schema) -> Result<(), Status> {
    let field = |error: FieldError| errors::field(&error);
    required_line("saved_search.title", &search.title, MAX_LINE_BYTES).map_err(field)?;
    line("saved_search.owner", &search.owner, MAX_LINE_BYTES).map_err(field)?;
    filter::read(&search.filter, schema, chrono::Utc::now())
        .map_err(|error| invalid_field("saved_search.filter", "INVALID_FILTER", error.to_string()))?;
    check_order(&search.order_by)?;
    if search.columns.len() > MAX_COLUMNS {
        let problem = format!("has {}; at most {MAX_COLUMNS} are allowed", search.columns.len());
        return Err(field(FieldError::new("saved_search.columns", problem)));
    }
    for (index, column) in search.columns.iter().enumerate() {
        let at = format!("saved_search.columns[{index}]");
        check_path(&at, column, schema).map_err(field)?;
        if search.columns[..index].contains(column) {
            return Err(field(FieldError::new(at, "stands there twice")));
        }
    }
    Ok(())
}

fn check_order(order: &str) -> Result<(), Status> {
    const AT: &str = "saved_search.order_by";
    line(AT, order, MAX_ORDER_BYTES).map_err(|error| errors::field(&error))?;
    let wrong = |error: OrderError| invalid_field(AT, "INVALID_ORDER", error.to_string());
    Order::read(order).map(drop).map_err(wrong)
}

/// A path is one that a filter can name.
fn check_path(at: &str, path: &str, schema: &Schema) -> Result<(), FieldError> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    if path.is_empty() || path.len() > MAX_PATH_BYTES || !path.bytes().all(letters) {
        let problem = format!("`{}` is no path of a field, such as managed.owner", shown(path));
        return Err(FieldError::new(at, problem));
    }
    match filter::read(&format!("{path}:*"), schema, chrono::Utc::now()) {
        Ok(_) => Ok(()),
        Err(error) => Err(FieldError::new(at, error.problem)),
    }
}

#[tonic::async_trait]
impl SavedSearchService for Api {
    async fn create_saved_search(
        &self,
        request: Request<CreateSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let request = request.into_inner();
        let call =
            self.call("CreateSavedSearchRequest", &request, &request.request_id, request.validate_only)?;
        let required = || invalid_field("saved_search", "REQUIRED", "is required");
        let mut search = request.saved_search.ok_or_else(required)?;
        if search.owner.is_empty() {
            search.owner = ANONYMOUS.to_owned();
        }
        check(&search, &self.asset_schema())?;
        let created = self.write(call, move |connection| {
            async move {
                let now = record_time_in_txn(connection, None).await?;
                let row = SavedSearchRow {
                    uid: Uuid::now_v7(),
                    title: search.title,
                    filter: search.filter,
                    order_by: search.order_by,
                    column_paths: search.columns,
                    owner: search.owner,
                    revision: 1,
                    create_time: now,
                    update_time: now,
                };
                saved_search::insert_in_txn(connection, &row).await?;
                Ok(answer(row))
            }
            .boxed()
        });
        created.await.map(Response::new)
    }

    async fn get_saved_search(
        &self,
        request: Request<GetSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let name = request.into_inner().name;
        let uid = request::name("name", &name, Collection::SavedSearches)?;
        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            saved_search::get(&mut connection, uid).await.map_err(|error| errors::query(&error))
        });
        Ok(Response::new(answer(found.await?.ok_or_else(|| not_found(TYPE, &name))?)))
    }

    async fn list_saved_searches(
        &self,
        request: Request<ListSavedSearchesRequest>,
    ) -> Result<Response<ListSavedSearchesResponse>, Status> {
        let request = request.into_inner();
        let page = request::page_size(request.page_size)?;
        let question = ["saved_searches"];
        let after = self.tokens.open(&request.page_token, &question, 2).map_err(errors::token)?;
        let after = request::name_and_uid(after)?;
        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let rows = saved_search::list(&mut connection, after, request::limit(page)).await;
            rows.map_err(|error| errors::query(&error))
        });
        let mut rows = found.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let last = rows.last().filter(|_| more);
        let next_page_token = last
            .map(|row| self.tokens.issue(&question, vec![row.title.clone(), row.uid.to_string()]))
            .unwrap_or_default();
        let saved_searches = rows.into_iter().map(answer).collect();
        Ok(Response::new(ListSavedSearchesResponse { saved_searches, next_page_token }))
    }

    async fn update_saved_search(
        &self,
        request: Request<UpdateSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let request = request.into_inner();
        let call =
            self.call("UpdateSavedSearchRequest", &request, &request.request_id, request.validate_only)?;
        let required = || invalid_field("saved_search", "REQUIRED", "is required");
        let given = request.saved_search.ok_or_else(required)?;
        let uid = request::name("saved_search.name", &given.name, Collection::SavedSearches)?;
        let mask = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let schema = self.asset_schema();
        let updated = self.write(call, move |connection| {
            async move {
                let mut row = locked(connection, uid, &given.etag, "saved_search.etag").await?;
                let before = answer(row.clone());
                overlay(&mut row, &given, &mask)?;
                let after = answer(row.clone());
                if after == before {
                    return Ok(after);
                }
                check(&after, &schema)?;
                row.update_time = record_time_in_txn(connection, Some(row.update_time)).await?;
                row.revision += 1;
                saved_search::update_in_txn(connection, &row).await?;
                Ok(answer(row))
            }
            .boxed()
        });
        updated.await.map(Response::new)
    }

    async fn delete_saved_search(
        &self,
        request: Request<DeleteSavedSearchRequest>,
    ) -> Result<Response<SavedSearch>, Status> {
        let request = request.into_inner();
        let call =
            self.call("DeleteSavedSearchRequest", &request, &request.request_id, request.validate_only)?;
        let uid = request::name("name", &request.name, Collection::SavedSearches)?;
        let deleted = self.write(call, move |connection| {
            async move {
                let row = locked(connection, uid, &request.etag, "etag").await?;
                saved_search::delete_in_txn(connection, uid).await?;
                Ok(answer(row))
            }
            .boxed()
        });
        deleted.await.map(Response::new)
    }
}

async fn locked(
    connection: &mut AsyncPgConnection,
    uid: Uuid,
    given_etag: &str,
    field: &str,
) -> Result<SavedSearchRow, WriteError> {
    let missing = || not_found(TYPE, &Collection::SavedSearches.name(uid));
    let row = saved_search::lock_in_txn(connection, uid).await?.ok_or_else(missing)?;
    let current = etag(&row);
    if given_etag.is_empty() || given_etag == current {
        return Ok(row);
    }
    Err(errors::stale(field, &current).into())
}

/// Writes what the mask names; without one, what is set.
fn overlay(row: &mut SavedSearchRow, given: &SavedSearch, mask: &[String]) -> Result<(), Status> {
    let set = [
        !given.title.is_empty(),
        !given.filter.is_empty(),
        !given.order_by.is_empty(),
        !given.columns.is_empty(),
        !given.owner.is_empty(),
    ];
    let paths: Vec<&str> = if mask.iter().any(|path| path == "*") {
        FIELDS.to_vec()
    } else if mask.is_empty() {
        FIELDS.into_iter().zip(set).filter(|(_, set)| *set).map(|(name, _)| name).collect()
    } else {
        mask.iter().map(String::as_str).collect()
    };
    for path in paths {
        match path {
            "title" => row.title.clone_from(&given.title),
            "filter" => row.filter.clone_from(&given.filter),
            "order_by" => row.order_by.clone_from(&given.order_by),
            "columns" => row.column_paths.clone_from(&given.columns),
            "owner" => row.owner.clone_from(&given.owner),
            "name" | "etag" => {}
            other => return Err(request::unknown_path(other, &FIELDS)),
        }
    }
    Ok(())
}
