//! The table `dead_letter`: keeping, reading, counting. Which ones a person
//! means is in `selection`.

mod selection;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use selection::{
    Filter, Place, Selection, Walk, begin, count, count_by_reason, delete_chunk, list, next_chunk,
};

use super::{
    ingest::{self, Waived},
    sql::{Bind, Sql, execute, load},
};

/// Most bytes of a body that are shown (dead_letter_service.proto).
const SHOWN_BODY_BYTES: i32 = 1 << 20;
/// Most bytes of a detail (ingest_service.proto).
const MAX_DETAIL_BYTES: usize = 2048;

/// A message that can never be applied.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct DeadLetter {
    pub reason: i16,
    pub detail: String,
    pub queue: String,
    pub message_id: String,
    pub node: Option<Uuid>,
    /// Place in a stream that it says it has. Not proven.
    pub stream: Option<Uuid>,
    pub sequence: Option<i64>,
    /// Kinds that it is about; none if that cannot be told.
    pub kinds: Vec<i16>,
    pub headers: serde_json::Value,
    pub body: Vec<u8>,
    pub body_size_bytes: i64,
}

impl DeadLetter {
    /// Its place in a stream, which counts as received: it can never be applied.
    pub fn waived(&self) -> Option<Waived> {
        let place = ingest::Place { node_uid: self.node?, stream: self.stream?, sequence: self.sequence? };
        Some(Waived { place, kinds: self.kinds.clone() })
    }
}

/// SHA-256 of what makes a letter the same one again.
fn fingerprint(reason: i16, queue: &str, body: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(reason.to_be_bytes());
    hash.update((queue.len() as u64).to_be_bytes());
    hash.update(queue);
    hash.update(body);
    hash.finalize().to_vec()
}

/// Text as PostgreSQL takes it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A detail as PostgreSQL takes it, cut to what the contract allows.
fn storable_detail(detail: &str) -> String {
    let mut detail = storable(detail);
    detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
    detail
}

/// Keeps dead letters, in one statement; the same message again only counts.
///
/// # Errors
/// The statement fails.
pub async fn keep_in_txn(connection: &mut AsyncPgConnection, letters: &[&DeadLetter]) -> QueryResult<()> {
    // Each once, as a statement may touch no row twice; and in one order
    // everywhere, so that two writers never wait for each other.
    let mut kept: BTreeMap<Vec<u8>, (&DeadLetter, i64)> = BTreeMap::new();
    for letter in letters {
        let fingerprint = fingerprint(letter.reason, &letter.queue, &letter.body);
        let (newest, count) = kept.entry(fingerprint).or_insert((*letter, 0));
        *newest = letter;
        *count += 1;
    }
    if kept.is_empty() {
        return Ok(());
    }
    let letters = || kept.values().map(|(letter, _)| *letter);
    let insert = Sql::new(
        "INSERT INTO dead_letter (uid, fingerprint, reason, detail, queue, message_id, node_uid, stream, \
         sequence, headers, body, body_size_bytes, count, create_time, last_time) \
         SELECT *, clock_timestamp(), clock_timestamp() FROM unnest(",
    )
    .binds([
        Bind::Uuids(kept.keys().map(|_| Uuid::now_v7()).collect()),
        Bind::ByteStrings(kept.keys().cloned().map(Some).collect()),
        Bind::SmallInts(letters().map(|letter| letter.reason).collect()),
        Bind::Texts(letters().map(|letter| storable_detail(&letter.detail)).collect()),
        Bind::Texts(letters().map(|letter| storable(&letter.queue)).collect()),
        Bind::Texts(letters().map(|letter| storable(&letter.message_id)).collect()),
        Bind::MaybeUuids(letters().map(|letter| letter.node).collect()),
        Bind::MaybeUuids(letters().map(|letter| letter.stream).collect()),
        Bind::MaybeBigInts(letters().map(|letter| letter.sequence).collect()),
        Bind::Jsons(letters().map(|letter| letter.headers.clone()).collect()),
        Bind::ByteStrings(letters().map(|letter| Some(letter.body.clone())).collect()),
        Bind::BigInts(letters().map(|letter| letter.body_size_bytes).collect()),
        Bind::BigInts(kept.values().map(|(_, count)| *count).collect()),
    ])
    .text(
        ") ON CONFLICT (fingerprint) DO UPDATE SET count = dead_letter.count + excluded.count, \
         last_time = excluded.last_time, detail = excluded.detail, \
         stream = coalesce(dead_letter.stream, excluded.stream), \
         sequence = coalesce(dead_letter.sequence, excluded.sequence)",
    );
    execute(connection, insert).await.map(drop)
}

/// What is listed of a letter.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct LetterRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub reason: i16,
    #[diesel(sql_type = Text)]
    pub detail: String,
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = Text)]
    pub message_id: String,
    #[diesel(sql_type = Nullable<Uid>)]
    pub node_uid: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    pub node_display_name: Option<String>,
    #[diesel(sql_type = Nullable<Uid>)]
    pub stream: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub sequence: Option<i64>,
    #[diesel(sql_type = BigInt)]
    pub body_size_bytes: i64,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    #[diesel(sql_type = Timestamptz)]
    pub create_time: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub last_time: DateTime<Utc>,
}

const LISTED: &str = "dead_letter.uid, dead_letter.reason, dead_letter.detail, dead_letter.queue, \
     dead_letter.message_id, dead_letter.node_uid, node.display_name AS node_display_name, \
     dead_letter.stream, dead_letter.sequence, dead_letter.body_size_bytes, dead_letter.count, \
     dead_letter.create_time, dead_letter.last_time";
const FROM: &str = " FROM dead_letter LEFT JOIN node ON node.uid = dead_letter.node_uid WHERE ";

/// What a letter holds.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ContentRow {
    #[diesel(sql_type = Jsonb)]
    pub headers: serde_json::Value,
    #[diesel(sql_type = Bytea)]
    pub body: Vec<u8>,
}

/// A letter and what it holds, its body cut at 1 MiB.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct WholeRow {
    #[diesel(embed)]
    pub letter: LetterRow,
    #[diesel(embed)]
    pub content: ContentRow,
}

/// Reads a letter.
///
/// # Errors
/// The query fails.
pub async fn get(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Option<WholeRow>> {
    let query = Sql::new("SELECT ")
        .text(LISTED)
        .text(", dead_letter.headers, substring(dead_letter.body FROM 1 FOR ")
        .bind(Bind::Integer(SHOWN_BODY_BYTES))
        .text(") AS body")
        .text(FROM)
        .text("dead_letter.uid = ")
        .bind(Bind::Uuid(uid));
    Ok(load(connection, query).await?.pop())
}

/// A letter whose turn it is.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ClaimedRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub reason: i16,
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = Text)]
    pub message_id: String,
    #[diesel(sql_type = BigInt)]
    pub body_size_bytes: i64,
    #[diesel(embed)]
    pub content: ContentRow,
}

/// Locks a letter; `None` if it is gone.
///
/// # Errors
/// The query fails.
pub async fn claim_in_txn(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Option<ClaimedRow>> {
    let query = Sql::new(
        "SELECT uid, reason, queue, message_id, body_size_bytes, headers, body FROM dead_letter WHERE uid = ",
    )
    .bind(Bind::Uuid(uid))
    .text(" FOR UPDATE");
    Ok(load(connection, query).await?.pop())
}

/// Deletes a locked letter.
///
/// # Errors
/// The statement fails.
pub async fn delete_in_txn(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<()> {
    let delete = Sql::new("DELETE FROM dead_letter WHERE uid = ").bind(Bind::Uuid(uid));
    execute(connection, delete).await.map(drop)
}

/// Keeps a locked letter that was replayed in vain, with what is wrong now. If
/// the same message is there with that reason already, the two become one.
///
/// # Errors
/// A statement fails.
pub async fn keep_replayed_in_txn(
    connection: &mut AsyncPgConnection,
    letter: &ClaimedRow,
    reason: i16,
    detail: &str,
) -> QueryResult<()> {
    let fingerprint = fingerprint(reason, &letter.queue, &letter.content.body);
    if reason != letter.reason {
        let join = Sql::new(
            "WITH old AS (DELETE FROM dead_letter USING dead_letter AS same WHERE dead_letter.uid = ",
        )
        .bind(Bind::Uuid(letter.uid))
        .text(" AND same.uid <> dead_letter.uid AND same.fingerprint = ")
        .bind(Bind::Bytes(Some(fingerprint.clone())))
        .text(
            " RETURNING same.uid AS same, dead_letter.count, dead_letter.create_time) \
             UPDATE dead_letter SET count = dead_letter.count + old.count, \
             create_time = least(dead_letter.create_time, old.create_time), \
             last_time = clock_timestamp(), detail = ",
        )
        .bind(Bind::Text(storable_detail(detail)))
        .text(" FROM old WHERE dead_letter.uid = old.same");
        if execute(connection, join).await? > 0 {
            return Ok(());
        }
    }
    let update = Sql::new("UPDATE dead_letter SET last_time = clock_timestamp(), reason = ")
        .bind(Bind::SmallInt(reason))
        .text(", detail = ")
        .bind(Bind::Text(storable_detail(detail)))
        .text(", fingerprint = ")
        .bind(Bind::Bytes(Some(fingerprint)))
        .text(" WHERE uid = ")
        .bind(Bind::Uuid(letter.uid));
    execute(connection, update).await.map(drop)
}
