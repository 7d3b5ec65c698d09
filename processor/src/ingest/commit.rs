//! The transaction: lock, tell duplicates, fold, append, retire.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{Bound, RangeBounds as _};

use chrono::{DateTime, Utc};
use contracts::v1::IngestResult;
use diesel::{QueryResult, result::Error as QueryError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use uuid::Uuid;

use super::{
    check::{Batch, Content, Message},
    contents::write_contents,
};
use crate::{
    domain::{
        attributes::searchable,
        changes::Descriptors,
        fold::{Folded, Observed, Version, fold, retire},
        image::Part,
    },
    store::{
        asset::record_time_in_txn,
        dead_letter::{DeadLetter, keep_in_txn},
        ingest::{
            NewNode, SnapshotRow, StreamRow, append_in_txn, complete_snapshots_in_txn, insert_stream_in_txn,
            known_in_txn, lock_nodes_in_txn, overtaken_streams_in_txn, receive_in_txn,
            renumber_stream_in_txn, save_in_txn, streams_in_txn, unlisted_in_txn,
        },
    },
};

/// What a transaction did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What became of each message, in order.
    pub results: Vec<IngestResult>,
    /// Rows appended to the log.
    pub events: u64,
}

/// Commits messages, all or none.
pub async fn commit(
    connection: &mut AsyncPgConnection,
    messages: &[Message],
    descriptors: &Descriptors,
) -> QueryResult<Outcome> {
    let outcome = connection
        .transaction(async |connection| {
            let outcome = run(connection, messages, descriptors).await?;
            kit::failpoint::pass("commit_before");
            Ok(outcome)
        })
        .await;
    kit::failpoint::pass("commit_after");
    outcome
}

/// Runs the transaction of one message and rolls it back: would it work?
pub async fn rehearse(
    connection: &mut AsyncPgConnection,
    message: &Message,
    descriptors: &Descriptors,
) -> QueryResult<()> {
    let rehearsed = connection
        .transaction(async |connection| {
            run(connection, std::slice::from_ref(message), descriptors).await?;
            Err::<(), QueryError>(QueryError::RollbackTransaction)
        })
        .await;
    match rehearsed {
        Err(QueryError::RollbackTransaction) => Ok(()),
        other => other,
    }
}

async fn run(
    connection: &mut AsyncPgConnection,
    messages: &[Message],
    descriptors: &Descriptors,
) -> QueryResult<Outcome> {
    let mut outcome = Outcome::default();
    let mut letters: Vec<DeadLetter> = Vec::new();
    let mut batches: Vec<(usize, &Batch)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match &message.content {
            Content::Dead(letter) => {
                letters.push(DeadLetter::clone(letter));
                outcome.results.push(IngestResult::DeadLettered);
            }
            Content::Batch(batch) => {
                batches.push((index, batch));
                outcome.results.push(IngestResult::Committed);
            }
        }
    }
    if !batches.is_empty() {
        run_batches(connection, &batches, descriptors, &mut outcome).await?;
    }
    if !letters.is_empty() {
        keep_in_txn(connection, &letters).await?;
    }
    Ok(outcome)
}

async fn run_batches(
    connection: &mut AsyncPgConnection,
    batches: &[(usize, &Batch)],
    descriptors: &Descriptors,
    outcome: &mut Outcome,
) -> QueryResult<()> {
    let nodes: BTreeMap<Uuid, &NewNode> =
        batches.iter().map(|(_, batch)| (batch.node.uid, &batch.node)).collect();
    let new_nodes: Vec<NewNode> = nodes.values().map(|node| (*node).clone()).collect();
    let node_uids: Vec<Uuid> = nodes.keys().copied().collect();
    lock_nodes_in_txn(connection, &new_nodes).await?;
    let now = record_time_in_txn(connection, None).await?;
    let streams = Streams::load(connection, &node_uids, batches, now).await?;

    let mut received: Vec<(Uuid, Uuid, i64)> = Vec::new();
    let mut fresh: HashSet<(Uuid, Uuid, i64)> = HashSet::new();
    let mut observations: Vec<Observed> = Vec::new();
    let mut snapshots: Vec<SnapshotRow> = Vec::new();
    let mut contents: Vec<&Part> = Vec::new();
    for (index, batch) in batches {
        let place = (batch.node.uid, batch.stream, batch.sequence);
        if streams.has(place) || !fresh.insert(place) {
            outcome.results[*index] = IngestResult::Duplicate;
            continue;
        }
        received.push(place);
        observations.extend(streams.observed(batch));
        snapshots.extend(batch.snapshots.iter().cloned());
        contents.extend(&batch.contents);
    }
    if received.is_empty() {
        return Ok(());
    }
    receive_in_txn(connection, &received).await?;

    let mut assets: Vec<Uuid> = observations.iter().map(|observed| observed.asset).collect();
    assets.sort_unstable();
    assets.dedup();
    let known: HashMap<Uuid, _> =
        known_in_txn(connection, assets).await?.into_iter().map(|known| (known.asset, known)).collect();
    let folded = fold(known, observations, now, descriptors);
    outcome.events += write(connection, &folded, descriptors).await?;

    for snapshot in complete_snapshots_in_txn(connection, &node_uids, &snapshots).await? {
        outcome.events += finish_snapshot(connection, &snapshot, &streams, now, descriptors).await?;
    }
    write_contents(connection, contents).await
}

async fn write(
    connection: &mut AsyncPgConnection,
    folded: &Folded,
    descriptors: &Descriptors,
) -> QueryResult<u64> {
    append_in_txn(connection, &folded.log).await?;
    let attributes = folded.assets.iter().map(|asset| match &asset.details {
        Some(details) => serde_json::json!({ "details": searchable(descriptors.details(), details) }),
        None => serde_json::json!({}),
    });
    save_in_txn(connection, &folded.assets, attributes.collect()).await?;
    Ok(folded.log.len() as u64)
}

/// All batches of a snapshot are in: what it did not list is gone.
async fn finish_snapshot(
    connection: &mut AsyncPgConnection,
    snapshot: &SnapshotRow,
    streams: &Streams,
    now: DateTime<Utc>,
    descriptors: &Descriptors,
) -> QueryResult<u64> {
    let Some(number) = streams.current_number(snapshot.node_uid, snapshot.stream) else { return Ok(0) };
    let first = Version { stream_number: number, sequence: snapshot.first_sequence, index: 0 };
    let last = Version { stream_number: number, sequence: snapshot.last_sequence, index: i32::MAX };
    let unlisted = unlisted_in_txn(connection, snapshot.node_uid, snapshot.kind, first).await?;
    if unlisted.is_empty() {
        return Ok(0);
    }
    write(connection, &retire(unlisted, snapshot.stream, last, now), descriptors).await
}

/// The streams of the locked nodes.
struct Streams(HashMap<(Uuid, Uuid), StreamRow>);

impl Streams {
    /// Loads them, and numbers those that are seen for the first time. The one
    /// that live heartbeats name becomes the newest, if it is not.
    async fn load(
        connection: &mut AsyncPgConnection,
        nodes: &[Uuid],
        batches: &[(usize, &Batch)],
        now: DateTime<Utc>,
    ) -> QueryResult<Self> {
        let rows = streams_in_txn(connection, nodes).await?;
        let mut streams = Self(rows.into_iter().map(|row| ((row.node_uid, row.stream), row)).collect());
        for (node, stream) in overtaken_streams_in_txn(connection, nodes).await? {
            let number = streams.newest(node) + 1;
            tracing::warn!(%node, %stream, number, "heartbeats name a stream that another one had overtaken");
            renumber_stream_in_txn(connection, node, stream, number).await?;
            if let Some(row) = streams.0.get_mut(&(node, stream)) {
                row.number = number;
            }
        }
        for (_, batch) in batches {
            let key = (batch.node.uid, batch.stream);
            if streams.0.contains_key(&key) {
                continue;
            }
            let number = streams.newest(batch.node.uid) + 1;
            insert_stream_in_txn(connection, batch.node.uid, batch.stream, number, now).await?;
            let row = StreamRow { node_uid: key.0, stream: key.1, number, received: Vec::new() };
            streams.0.insert(key, row);
        }
        Ok(streams)
    }

    fn newest(&self, node: Uuid) -> i32 {
        self.0.values().filter(|row| row.node_uid == node).map(|row| row.number).max().unwrap_or(0)
    }

    /// Number of a stream that is the newest of its node.
    fn current_number(&self, node: Uuid, stream: Uuid) -> Option<i32> {
        let number = self.0.get(&(node, stream))?.number;
        (number == self.newest(node)).then_some(number)
    }

    fn has(&self, (node, stream, sequence): (Uuid, Uuid, i64)) -> bool {
        self.0.get(&(node, stream)).is_some_and(|row| contains(&row.received, &sequence))
    }

    fn observed(&self, batch: &Batch) -> Vec<Observed> {
        let (node, stream) = (batch.node.uid, batch.stream);
        let stream_number = self.0.get(&(node, stream)).map_or(0, |row| row.number);
        let current_stream = self.current_number(node, stream).is_some();
        let observations = batch.observations.iter().enumerate().map(|(index, seen)| Observed {
            version: Version {
                stream_number,
                sequence: batch.sequence,
                index: i32::try_from(index).unwrap_or(i32::MAX),
            },
            stream,
            current_stream,
            event: seen.event,
            node,
            asset: seen.asset,
            kind: seen.kind,
            natural_key: seen.natural_key.clone(),
            display_name: seen.display_name.clone(),
            presence: seen.presence,
            state_hash: seen.state_hash.clone(),
            details: seen.details.clone(),
            observe_time: seen.observe_time,
        });
        observations.collect()
    }
}

/// Whether a number is in ranges, which PostgreSQL keeps as [from, to).
pub(super) fn contains<N: PartialOrd>(ranges: &[(Bound<N>, Bound<N>)], number: &N) -> bool {
    ranges.iter().any(|range| range.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_postgresql_says() {
        let ranges = [(Bound::Included(1), Bound::Excluded(4)), (Bound::Included(6), Bound::Excluded(7))];
        let held: Vec<i64> = (0..9).filter(|sequence| contains(&ranges, sequence)).collect();
        assert_eq!(held, [1, 2, 3, 6]);
    }
}
