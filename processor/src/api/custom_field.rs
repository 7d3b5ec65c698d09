//! CustomFieldService.

use contracts::v1::{
    AssetKind, CreateCustomFieldRequest, CustomField, DeleteCustomFieldRequest, GetCustomFieldRequest,
    ListCustomFieldsRequest, ListCustomFieldsResponse, UpdateCustomFieldRequest,
    custom_field_service_server::CustomFieldService,
};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use kit::status::{error, invalid_field, not_found, precondition_with};
use prost::Message as _;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::{Api, convert::timestamp, errors, request, task::in_task, write::WriteError};
use crate::{
    domain::custom_field::{Definition, Definitions, MAX_DEFINITIONS, check_key},
    store::{
        asset::record_time_in_txn,
        custom_field::{self, CustomFieldRow},
    },
};

const TYPE: &str = "assettrack.v1.CustomField";
const COLLECTION: &str = "customFields";
/// Assets whose values are looked at with one query.
const CHUNK: i64 = 5000;

/// All definitions, held until the end of the transaction.
pub(super) async fn definitions_in_txn(
    connection: &mut AsyncPgConnection,
) -> Result<Definitions, WriteError> {
    let mut all = Vec::new();
    for row in custom_field::hold_in_txn(connection).await? {
        let definition = definition(&row)?;
        all.push((row.key, definition));
    }
    Ok(Definitions::new(all))
}

/// What is stored was checked before.
fn definition(row: &CustomFieldRow) -> Result<Definition, Status> {
    let field = CustomField::decode(row.definition.as_slice()).unwrap_or_default();
    Definition::new(field).map_err(|error| {
        tracing::error!(key = %row.key, %error, "a stored definition of a custom field is none");
        let text = format!("the definition of {} cannot be read; the processor's log says why", row.key);
        kit::status::error(Code::Internal, "INTERNAL", text, &[])
    })
}

fn answer(row: &CustomFieldRow) -> CustomField {
    let field = CustomField::decode(row.definition.as_slice()).unwrap_or_default();
    CustomField {
        name: format!("{COLLECTION}/{}", row.key),
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
        etag: etag(row),
        ..field
    }
}

fn etag(row: &CustomFieldRow) -> String {
    // A definition that was deleted and made again is another one.
    format!("\"{:x}-{}\"", row.create_time.timestamp_micros(), row.revision)
}

/// As it is stored: without what the row or the server says.
fn stored(field: CustomField) -> CustomField {
    CustomField { name: String::new(), create_time: None, update_time: None, etag: String::new(), ..field }
}

fn key<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    let key = name.strip_prefix(COLLECTION).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    check_key(field, key).map_err(|_| {
        let problem =
            format!("`{}` is not a name like {COLLECTION}/cost_centre", crate::domain::field::shown(name));
        invalid_field(field, "INVALID_NAME", problem)
    })?;
    Ok(key)
}

#[tonic::async_trait]
impl CustomFieldService for Api {
    async fn create_custom_field(
        &self,
        request: Request<CreateCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        let request = request.into_inner();
        let call =
            self.call("CreateCustomFieldRequest", &request, &request.request_id, request.validate_only)?;
        let key = request.custom_field_id;
        check_key("custom_field_id", &key).map_err(|error| errors::field(&error))?;
        let required = || invalid_field("custom_field", "REQUIRED", "is required");
        let field = stored(request.custom_field.ok_or_else(required)?);
        let encoded = field.encode_to_vec();
        let definition = Definition::new(field).map_err(|error| errors::field(&error))?;
        let created = self.write(call, move |connection| {
            async move {
                if custom_field::count_in_txn(connection).await? >= MAX_DEFINITIONS {
                    let text = format!("there are {MAX_DEFINITIONS} already, and no more may be");
                    return Err(precondition_with("TOO_MANY", COLLECTION, text, &[]).into());
                }
                let now = record_time_in_txn(connection, None).await?;
                let row = CustomFieldRow {
                    key,
                    definition: encoded,
                    revision: 1,
                    create_time: now,
                    update_time: now,
                };
                if !custom_field::insert_in_txn(connection, &row).await? {
                    let name = format!("{COLLECTION}/{}", row.key);
                    let text = format!("{name} is defined already");
                    return Err(error(Code::AlreadyExists, "EXISTS", text, &[("resource", &name)]).into());
                }
                refuse_breaking(connection, &row.key, &definition).await?;
                Ok(answer(&row))
            }
            .boxed()
        });
        created.await.map(Response::new)
    }

    async fn get_custom_field(
        &self,
        request: Request<GetCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        let name = request.into_inner().name;
        let key = key("name", &name)?.to_owned();
        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            custom_field::get(&mut connection, &key).await.map_err(|error| errors::query(&error))
        });
        let row = found.await?.ok_or_else(|| not_found(TYPE, &name))?;
        Ok(Response::new(answer(&row)))
    }

    async fn list_custom_fields(
        &self,
        request: Request<ListCustomFieldsRequest>,
    ) -> Result<Response<ListCustomFieldsResponse>, Status> {
        let request = request.into_inner();
        let page = request::page_size(request.page_size)?;
        let question = ["custom_fields"];
        let after = self.tokens.open(&request.page_token, &question, 1).map_err(errors::token)?;
        let after = after.and_then(|mut after| after.pop()).unwrap_or_default();
        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let rows = custom_field::list(&mut connection, &after, request::limit(page)).await;
            rows.map_err(|error| errors::query(&error))
        });
        let mut rows = found.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let last = rows.last().filter(|_| more);
        let next_page_token =
            last.map(|row| self.tokens.issue(&question, vec![row.key.clone()])).unwrap_or_default();
        let custom_fields = rows.iter().map(answer).collect();
        Ok(Response::new(ListCustomFieldsResponse { custom_fields, next_page_token }))
    }

    async fn update_custom_field(
        &self,
        request: Request<UpdateCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        let request = request.into_inner();
        let call =
            self.call("UpdateCustomFieldRequest", &request, &request.request_id, request.validate_only)?;
        let required = || invalid_field("custom_field", "REQUIRED", "is required");
        let given = request.custom_field.ok_or_else(required)?;
        let key = key("custom_field.name", &given.name)?.to_owned();
        let mask = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let updated = self.write(call, move |connection| {
            async move {
                let mut row = locked(connection, &key, &given.etag, "custom_field.etag").await?;
                let mut field = CustomField::decode(row.definition.as_slice()).unwrap_or_default();
                overlay(&mut field, &given, &mask)?;
                let encoded = field.encode_to_vec();
                if encoded == row.definition {
                    return Ok(answer(&row));
                }
                let definition = Definition::new(field).map_err(|error| errors::field(&error))?;
                refuse_breaking(connection, &key, &definition).await?;
                row.update_time = record_time_in_txn(connection, Some(row.update_time)).await?;
                row.revision += 1;
                row.definition = encoded;
                custom_field::update_in_txn(connection, &row).await?;
                Ok(answer(&row))
            }
            .boxed()
        });
        updated.await.map(Response::new)
    }

    async fn delete_custom_field(
        &self,
        request: Request<DeleteCustomFieldRequest>,
    ) -> Result<Response<CustomField>, Status> {
        let request = request.into_inner();
        let call =
            self.call("DeleteCustomFieldRequest", &request, &request.request_id, request.validate_only)?;
        let key = key("name", &request.name)?.to_owned();
        let deleted = self.write(call, move |connection| {
            async move {
                let row = locked(connection, &key, &request.etag, "etag").await?;
                let used = if request.force { 0 } else { count(connection, &key, |_, _| true).await? };
                if used > 0 {
                    let text = format!("{used} assets have a value of it; force deletes it all the same");
                    let about = [("count", &*used.to_string())];
                    return Err(precondition_with("IN_USE", &request.name, text, &about).into());
                }
                custom_field::delete_in_txn(connection, &key).await?;
                Ok(answer(&row))
            }
            .boxed()
        });
        deleted.await.map(Response::new)
    }
}

async fn locked(
    connection: &mut AsyncPgConnection,
    key: &str,
    given_etag: &str,
    field: &str,
) -> Result<CustomFieldRow, WriteError> {
    let missing = || not_found(TYPE, &format!("{COLLECTION}/{key}"));
    let row = custom_field::lock_in_txn(connection, key).await?.ok_or_else(missing)?;
    let current = etag(&row);
    if given_etag.is_empty() || given_etag == current {
        return Ok(row);
    }
    Err(errors::stale(field, &current).into())
}

/// Values that are stored must fit a definition as it will be.
async fn refuse_breaking(
    connection: &mut AsyncPgConnection,
    key: &str,
    definition: &Definition,
) -> Result<(), WriteError> {
    let broken = count(connection, key, |value, kind| definition.check(value, kind).is_err()).await?;
    if broken == 0 {
        return Ok(());
    }
    let text = format!("the values of {broken} assets would break it; edit them first");
    let about = [("count", &*broken.to_string())];
    Err(precondition_with("VALUES_BREAK_IT", &format!("{COLLECTION}/{key}"), text, &about).into())
}

/// Assets whose value of a custom field is one that counts.
async fn count(
    connection: &mut AsyncPgConnection,
    key: &str,
    counts: impl Fn(&str, AssetKind) -> bool + Send + Sync,
) -> Result<u64, WriteError> {
    let (mut after, mut counted) = (Uuid::nil(), 0);
    loop {
        let rows = custom_field::values(connection, key, after, CHUNK).await?;
        for row in &rows {
            let kind = AssetKind::try_from(i32::from(row.kind)).unwrap_or_default();
            counted += u64::from(counts(&row.value, kind));
        }
        match rows.last() {
            Some(last) => after = last.uid,
            None => return Ok(counted),
        }
    }
}

/// Writes what the mask names; without one, what is set.
fn overlay(field: &mut CustomField, given: &CustomField, mask: &[String]) -> Result<(), Status> {
    let set = [
        (!given.title.is_empty(), "title"),
        (!given.description.is_empty(), "description"),
        (given.r#type != 0, "type"),
        (!given.kinds.is_empty(), "kinds"),
        (given.required, "required"),
        (!given.pattern.is_empty(), "pattern"),
        (given.min_value.is_some(), "min_value"),
        (given.max_value.is_some(), "max_value"),
        (given.min_length != 0, "min_length"),
        (given.max_length != 0, "max_length"),
        (!given.values.is_empty(), "values"),
    ];
    let all = set.iter().map(|(_, name)| *name);
    let paths: Vec<&str> = if mask.iter().any(|path| path == "*") {
        all.collect()
    } else if mask.is_empty() {
        set.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect()
    } else {
        mask.iter().map(String::as_str).collect()
    };
    for path in paths {
        match path {
            "title" => field.title.clone_from(&given.title),
            "description" => field.description.clone_from(&given.description),
            "type" => field.r#type = given.r#type,
            "kinds" => field.kinds.clone_from(&given.kinds),
            "required" => field.required = given.required,
            "pattern" => field.pattern.clone_from(&given.pattern),
            "min_value" => field.min_value = given.min_value,
            "max_value" => field.max_value = given.max_value,
            "min_length" => field.min_length = given.min_length,
            "max_length" => field.max_length = given.max_length,
            "values" => field.values.clone_from(&given.values),
            "name" | "etag" => {}
            other => return Err(request::unknown_path(other, &set.map(|(_, name)| name))),
        }
    }
    Ok(())
}
