//! The transaction: lock, tell duplicates, fold, append, retire.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use contracts::v1::IngestResult;
use diesel::{QueryResult, result::Error as QueryError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use uuid::Uuid;

use super::{
    check::{Batch, Content, Message},
    contents::write_contents,
    streams::Streams,
};
use crate::{
    domain::{
        changes::Descriptors,
        fold::{Observed, Version, fold, retire},
        image::Part,
    },
    store::{
        dead_letter::{DeadLetter, keep_in_txn},
        ingest::{
            CompleteSnapshot, NewNode, Place, SnapshotRow, Waived, complete_snapshots_in_txn,
            forget_waived_in_txn, known_in_txn, lock_nodes_in_txn, unlisted_in_txn, waive_in_txn,
            waived_in_txn, write_in_txn,
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
    let mut letters: Vec<&DeadLetter> = Vec::new();
    let mut batches: Vec<(usize, &Batch)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match &message.content {
            Content::Dead(letter) => {
                letters.push(letter);
                outcome.results.push(IngestResult::DeadLettered);
            }
            Content::Batch(batch) => {
                batches.push((index, batch));
                outcome.results.push(IngestResult::Committed);
            }
        }
    }
    let waivable: Vec<Waived> = letters.iter().filter_map(|letter| letter.waived()).collect();
    if !batches.is_empty() || !waivable.is_empty() {
        run_batches(connection, &batches, &waivable, descriptors, &mut outcome).await?;
    }
    if !letters.is_empty() {
        keep_in_txn(connection, &letters).await?;
    }
    Ok(outcome)
}

async fn run_batches(
    connection: &mut AsyncPgConnection,
    batches: &[(usize, &Batch)],
    waivable: &[Waived],
    descriptors: &Descriptors,
    outcome: &mut Outcome,
) -> QueryResult<()> {
    let nodes: BTreeMap<Uuid, &NewNode> =
        batches.iter().map(|(_, batch)| (batch.node.uid, &batch.node)).collect();
    let new_nodes: Vec<NewNode> = nodes.values().map(|node| (*node).clone()).collect();
    let others: Vec<Uuid> = waivable.iter().map(|waived| waived.place.node_uid).collect();
    lock_nodes_in_txn(connection, &new_nodes, &others).await?;
    let named: BTreeSet<(Uuid, Uuid)> =
        batches.iter().map(|(_, batch)| (batch.node.uid, batch.stream)).collect();
    let node_uids: BTreeSet<Uuid> = nodes.keys().copied().chain(others).collect();
    let node_uids: Vec<Uuid> = node_uids.into_iter().collect();
    let (now, streams) = Streams::load(connection, &node_uids, &named).await?;

    // What came before, and was not waived, is a duplicate.
    let again: Vec<Place> =
        batches.iter().map(|(_, batch)| batch.place()).filter(|place| streams.has(*place)).collect();
    let waived = waived_in_txn(connection, &again).await?;
    let mut received: Vec<Place> = Vec::new();
    let mut fresh: HashSet<Place> = HashSet::new();
    let mut observations: Vec<Observed> = Vec::new();
    let mut snapshots: Vec<SnapshotRow> = Vec::new();
    let mut contents: Vec<&Part> = Vec::new();
    for (index, batch) in batches {
        let place = batch.place();
        if (streams.has(place) && !waived.contains(&place)) || !fresh.insert(place) {
            outcome.results[*index] = IngestResult::Duplicate;
            continue;
        }
        received.push(place);
        observations.extend(streams.observed(batch));
        snapshots.extend(batch.snapshots.iter().cloned());
        contents.extend(&batch.contents);
    }
    if !waived.is_empty() {
        forget_waived_in_txn(connection, &waived).await?;
    }
    let given_up: Vec<Waived> = waivable
        .iter()
        .filter(|waived| !streams.has(waived.place) && !fresh.contains(&waived.place))
        .cloned()
        .collect();
    if !given_up.is_empty() {
        waive_in_txn(connection, &given_up).await?;
        received.extend(given_up.iter().map(|waived| waived.place));
    }
    if received.is_empty() {
        return Ok(());
    }

    let mut assets: Vec<Uuid> = observations.iter().map(|observed| observed.asset).collect();
    assets.sort_unstable();
    assets.dedup();
    let known = if assets.is_empty() { Vec::new() } else { known_in_txn(connection, assets).await? };
    let known: HashMap<Uuid, _> = known.into_iter().map(|known| (known.asset, known)).collect();
    let folded = fold(known, observations, now, descriptors);
    outcome.events += folded.log.len() as u64;
    write_in_txn(connection, &folded, &received).await?;

    if !snapshots.is_empty() || streams.have_pending() {
        for complete in complete_snapshots_in_txn(connection, &node_uids, &snapshots).await? {
            outcome.events += finish_snapshot(connection, &complete, &streams, now).await?;
        }
    }
    write_contents(connection, contents).await
}

/// All batches of a snapshot are in: what it did not list is gone.
async fn finish_snapshot(
    connection: &mut AsyncPgConnection,
    complete: &CompleteSnapshot,
    streams: &Streams,
    now: DateTime<Utc>,
) -> QueryResult<u64> {
    let snapshot = &complete.snapshot;
    if complete.has_gap {
        // It may have listed what it seems not to: its digest will tell.
        tracing::warn!(node = %snapshot.node_uid, kind = snapshot.kind, "a snapshot with a dead letter retires nothing");
        return Ok(0);
    }
    let Some(number) = streams.current_number(snapshot.node_uid, snapshot.stream) else { return Ok(0) };
    let first = Version { stream_number: number, sequence: snapshot.first_sequence, index: 0 };
    let last = Version { stream_number: number, sequence: snapshot.last_sequence, index: i32::MAX };
    let unlisted = unlisted_in_txn(connection, snapshot.node_uid, snapshot.kind, first).await?;
    if unlisted.is_empty() {
        return Ok(0);
    }
    let retired = retire(unlisted, snapshot.stream, last, now);
    write_in_txn(connection, &retired, &[]).await?;
    Ok(retired.log.len() as u64)
}
