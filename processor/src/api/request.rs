//! What requests have in common: names, page sizes, page tokens, filters.

use chrono::{DateTime, Utc};
use kit::{identity::Collection, status::invalid_field};
use tonic::Status;
use uuid::Uuid;

use super::errors;
use crate::{
    domain::{
        field::shown,
        filter::{self, Schema},
        page_token::TokenError,
    },
    store::{
        filter_sql::{Columns, compile},
        sql::Sql,
    },
};

const DEFAULT_PAGE: i32 = 50;
const MAX_PAGE: i32 = 1000;

/// UUID in a resource's name.
pub fn name(field: &str, name: &str, collection: Collection) -> Result<Uuid, Status> {
    collection.parse(name).ok_or_else(|| {
        let problem = format!("`{name}` is not a name like {}/{{uuid}}, lower case", collection.segment());
        invalid_field(field, "INVALID_NAME", problem)
    })
}

/// Rows of a page: 0 is the default, more than 1,000 count as 1,000.
pub fn page_size(size: i32) -> Result<usize, Status> {
    match size {
        0 => Ok(DEFAULT_PAGE as usize),
        1.. => Ok(usize::try_from(size.min(MAX_PAGE)).unwrap_or(MAX_PAGE as usize)),
        _ => Err(invalid_field("page_size", "INVALID_PAGE_SIZE", format!("{size} is negative"))),
    }
}

/// One row more than the page, to know whether there is a next one.
pub fn limit(page: usize) -> i64 {
    i64::try_from(page).unwrap_or(i64::MAX) + 1
}

/// SQL of a filter.
pub fn condition(text: &str, schema: &Schema, columns: &Columns) -> Result<Option<Sql>, Status> {
    let predicate = filter::read(text, schema, Utc::now()).map_err(|error| errors::filter(&error))?;
    Ok(predicate.map(|predicate| compile(&predicate, columns)))
}

/// A display name and UUID out of a page token.
pub fn name_and_uid(after: Option<Vec<String>>) -> Result<Option<(String, Uuid)>, Status> {
    let Some(after) = after else { return Ok(None) };
    let uid = after.get(1).and_then(|uid| uid.parse().ok()).ok_or(TokenError::Foreign);
    Ok(Some((after[0].clone(), uid.map_err(errors::token)?)))
}

/// A time and number out of a page token.
pub fn time_and_id(before: Option<Vec<String>>) -> Result<Option<(DateTime<Utc>, i64)>, Status> {
    let Some(before) = before else { return Ok(None) };
    let micros: Option<i64> = before[0].parse().ok();
    let time = micros.and_then(DateTime::from_timestamp_micros);
    match (time, before.get(1).and_then(|id| id.parse().ok())) {
        (Some(time), Some(id)) => Ok(Some((time, id))),
        _ => Err(errors::token(TokenError::Foreign)),
    }
}

/// A path of a mask that cannot be written.
pub fn unknown_path(path: &str, known: &[&str]) -> Status {
    let problem = format!("`{}` cannot be edited; editable are {}", shown(path), known.join(", "));
    invalid_field("update_mask", "INVALID_FIELD", problem)
}
