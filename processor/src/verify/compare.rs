//! One asset against what the log says of it.

use contracts::v1::{AssetKind, AssetState};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use kit::digest::{StateHash, state_hash};
use uuid::Uuid;

use super::Streams;
use crate::{
    domain::{
        fold::Version,
        refold::{ContentHash, Expected, Source, content_hash},
    },
    store::integrity::{StoredRow, WrongHistoryRow, content},
};

/// Longest text that is shown of a value, in characters.
const SHOWN: usize = 200;

/// The beginning of a text.
pub fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The hash of a state as it must be.
pub fn true_hash(kind: i16, natural_key: &str, display_name: &str, details: &[u8]) -> StateHash {
    let kind = AssetKind::try_from(i32::from(kind)).unwrap_or_default();
    state_hash(kind, natural_key, display_name, details)
}

/// What is wrong with the state hash of a row: only what is ACTIVE has one.
pub fn wrong_hash(row: &StoredRow) -> Option<String> {
    let should = (row.state == AssetState::Active as i16).then(|| {
        let details = row.details.as_deref().unwrap_or_default();
        true_hash(row.kind, &row.natural_key, &row.display_name, details).to_vec()
    });
    let should = should.unwrap_or_default();
    let is = row.state_hash.as_deref().unwrap_or_default();
    (is != should).then(|| format!("state_hash: is {}, should be {}", hex(is), hex(&should)))
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "none".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(value: Option<&[u8]>) -> Option<ContentHash> {
    value.map(content_hash)
}

/// Fields that are not as they should be, each with what it is and should be.
pub async fn differences(
    connection: &mut AsyncPgConnection,
    row: &StoredRow,
    expected: &Expected,
    streams: &Streams,
) -> QueryResult<Vec<String>> {
    let mut found = Vec::new();
    let mut differs = |field: &str, is: String, should: String| {
        if is != should {
            found.push(format!("{field}: is {is}, should be {should}"));
        }
    };
    differs("kind", row.kind.to_string(), expected.kind.to_string());
    differs("state", state(row.state), state(expected.state));
    differs("revision", row.revision.to_string(), expected.revision.to_string());
    differs("managed_revision", row.managed_revision.to_string(), expected.managed_revision.to_string());
    differs("update_time", row.update_time.to_rfc3339(), expected.update_time.to_rfc3339());
    let bytes = |value: Option<ContentHash>| {
        value.map_or("none".to_owned(), |hash| format!("sha256 {}…", hex(&hash)))
    };
    differs("details", bytes(hash(row.details.as_deref())), bytes(expected.details));
    differs("managed", bytes(hash(row.managed.as_deref())), bytes(expected.managed));
    // A record that was deleted before all that is kept cannot tell when.
    if expected.delete_time.is_some() || row.state == AssetState::Active as i16 {
        let time = |time: Option<chrono::DateTime<chrono::Utc>>| {
            time.map_or("none".to_owned(), |time| time.to_rfc3339())
        };
        differs("delete_time", time(row.delete_time), time(expected.delete_time));
    }
    if content_hash(row.natural_key.as_bytes()) != expected.natural_key {
        let should = logged(connection, row.uid, expected.newest, |content| content.natural_key).await?;
        found.push(format!("natural_key: is {:?}, should be {:?}", cut(&row.natural_key), cut(&should)));
    }
    if content_hash(row.display_name.as_bytes()) != expected.display_name {
        let should = logged(connection, row.uid, expected.content, |content| content.display_name).await?;
        found.push(format!("display_name: is {:?}, should be {:?}", cut(&row.display_name), cut(&should)));
    }
    let version =
        Version { stream_number: row.stream_number, sequence: row.sequence, index: row.batch_index };
    found.extend(streams.stale(version, expected.version));
    Ok(found)
}

/// How a superseded state differs from what the log says.
pub fn wrong_history(row: &WrongHistoryRow) -> String {
    let shown = |revision: Option<i64>, span: &str| match revision {
        Some(_) => format!("is {span}"),
        None => "is not kept".to_owned(),
    };
    let is = shown(row.is_revision, &row.is_span);
    match row.should_revision {
        Some(_) => format!("history of revision {}: {is}, should be {}", row.revision, row.should_span),
        None => format!("history of revision {}: {is}, should not be kept", row.revision),
    }
}

async fn logged(
    connection: &mut AsyncPgConnection,
    asset: Uuid,
    source: Source,
    text: fn(crate::store::integrity::ContentRow) -> String,
) -> QueryResult<String> {
    Ok(content(connection, asset, source).await?.map(text).unwrap_or_default())
}

fn state(number: i16) -> String {
    match AssetState::try_from(i32::from(number)) {
        Ok(AssetState::Unspecified) => "none".to_owned(),
        Ok(state) => state.as_str_name().trim_start_matches("ASSET_STATE_").to_owned(),
        Err(_) => number.to_string(),
    }
}
