//! The table `dead_letter`.

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    ingest::{Place, Waived},
    sql::{Bind, Sql, execute},
};

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
        let place = Place { node_uid: self.node?, stream: self.stream?, sequence: self.sequence? };
        Some(Waived { place, kinds: self.kinds.clone() })
    }

    fn fingerprint(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.reason.to_be_bytes());
        hash.update((self.queue.len() as u64).to_be_bytes());
        hash.update(&self.queue);
        hash.update(&self.body);
        hash.finalize().to_vec()
    }
}

/// Keeps dead letters; the same message again only counts.
///
/// # Errors
/// A statement fails.
pub async fn keep_in_txn(connection: &mut AsyncPgConnection, letters: &[&DeadLetter]) -> QueryResult<()> {
    let mut letters: Vec<_> = letters.iter().map(|letter| (letter.fingerprint(), *letter)).collect();
    // In one order everywhere, so that two writers never wait for each other.
    letters.sort_by(|one, other| one.0.cmp(&other.0));
    for (fingerprint, letter) in letters {
        let insert = Sql::new(
            "INSERT INTO dead_letter (uid, fingerprint, reason, detail, queue, message_id, node_uid, headers, \
             body, body_size_bytes, create_time, last_time) VALUES (",
        )
        .binds([
            Bind::Uuid(Uuid::now_v7()),
            Bind::Bytes(Some(fingerprint)),
            Bind::SmallInt(letter.reason),
            Bind::Text(letter.detail.replace('\0', "\u{fffd}")),
            Bind::Text(letter.queue.replace('\0', "\u{fffd}")),
            Bind::Text(letter.message_id.replace('\0', "\u{fffd}")),
        ])
        .text(", ")
        .then(match letter.node {
            Some(node) => Sql::default().bind(Bind::Uuid(node)),
            None => Sql::new("NULL"),
        })
        .text(", ")
        .binds([
            Bind::Json(letter.headers.clone()),
            Bind::Bytes(Some(letter.body.clone())),
            Bind::BigInt(letter.body_size_bytes),
        ])
        .text(
            ", clock_timestamp(), clock_timestamp()) ON CONFLICT (fingerprint) DO UPDATE SET \
             count = dead_letter.count + 1, last_time = excluded.last_time, detail = excluded.detail",
        );
        execute(connection, insert).await?;
    }
    Ok(())
}
