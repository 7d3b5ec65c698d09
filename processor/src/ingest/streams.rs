//! The streams of the nodes that a transaction has locked.

use std::collections::{BTreeSet, HashMap};
use std::ops::{Bound, RangeBounds as _};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use kit::queue::HEARTBEAT_TTL_MILLIS;
use uuid::Uuid;

use super::check::Batch;
use crate::{
    domain::fold::{Observed, Version},
    store::ingest::{
        NodeState, Place, StreamRow, insert_stream_in_txn, renumber_stream_in_txn, streams_in_txn,
        waived_of_streams_in_txn,
    },
};

/// The streams of locked nodes.
pub(super) struct Streams(HashMap<Uuid, NodeState>);

impl Streams {
    /// Loads them, and numbers those of `named` that are seen for the first time.
    /// The one that live heartbeats name becomes the newest, if it is not. Tells
    /// the time under the locks, too.
    pub(super) async fn load(
        connection: &mut AsyncPgConnection,
        nodes: &[Uuid],
        named: &BTreeSet<(Uuid, Uuid)>,
    ) -> QueryResult<(DateTime<Utc>, Self)> {
        let (now, nodes) = streams_in_txn(connection, nodes).await?;
        let mut streams = Self(nodes.into_iter().map(|node| (node.uid, node)).collect());
        for node in streams.0.values_mut() {
            if let Some(stream) = overtaken(node) {
                let number = newest(node) + 1;
                let uid = node.uid;
                tracing::warn!(node = %uid, %stream, number, "heartbeats name a stream that another one had overtaken");
                renumber_stream_in_txn(connection, uid, stream, number).await?;
                if let Some(row) = node.streams.iter_mut().find(|row| row.stream == stream) {
                    row.number = number;
                }
            }
        }
        let new: Vec<(Uuid, Uuid)> =
            named.iter().filter(|(node, stream)| streams.row(*node, *stream).is_none()).copied().collect();
        if new.is_empty() {
            return Ok((now, streams));
        }
        let waived = waived_of_streams_in_txn(connection, &new).await?;
        for (node, stream) in new {
            let Some(state) = streams.0.get_mut(&node) else { continue };
            let received = waived
                .iter()
                .filter(|place| (place.node_uid, place.stream) == (node, stream))
                .map(|place| (Bound::Included(place.sequence), Bound::Included(place.sequence)))
                .collect();
            let row = StreamRow {
                stream,
                number: newest(state) + 1,
                received,
                create_time: now,
                has_pending: false,
            };
            insert_stream_in_txn(connection, node, &row).await?;
            state.streams.push(row);
        }
        Ok((now, streams))
    }

    fn row(&self, node: Uuid, stream: Uuid) -> Option<&StreamRow> {
        self.0.get(&node)?.streams.iter().find(|row| row.stream == stream)
    }

    /// Number of a stream that is the newest of its node.
    pub(super) fn current_number(&self, node: Uuid, stream: Uuid) -> Option<i32> {
        let number = self.row(node, stream)?.number;
        (number == newest(self.0.get(&node)?)).then_some(number)
    }

    /// Whether a sequence counts as received.
    pub(super) fn has(&self, place: Place) -> bool {
        self.row(place.node_uid, place.stream).is_some_and(|row| contains(&row.received, &place.sequence))
    }

    /// Whether snapshots wait for batches.
    pub(super) fn have_pending(&self) -> bool {
        self.0.values().flat_map(|node| &node.streams).any(|row| row.has_pending)
    }

    /// The observations of a batch, with their versions.
    pub(super) fn observed(&self, batch: &Batch) -> Vec<Observed> {
        let (node, stream) = (batch.node.uid, batch.stream);
        let stream_number = self.row(node, stream).map_or(0, |row| row.number);
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
            attributes: seen.attributes.clone(),
            observe_time: seen.observe_time,
        });
        observations.collect()
    }
}

fn newest(node: &NodeState) -> i32 {
    node.streams.iter().map(|row| row.number).max().unwrap_or(0)
}

/// The stream that live heartbeats name although another one was seen first
/// later. A heartbeat counts that came at least its time to live after that other
/// stream appeared, so that none which waited in its queue decides.
fn overtaken(node: &NodeState) -> Option<Uuid> {
    let (live, heard) = node.heartbeat?;
    let number = node.streams.iter().find(|row| row.stream == live)?.number;
    let mut newer = node.streams.iter().filter(|row| row.number > number).peekable();
    newer.peek()?;
    let ttl = TimeDelta::milliseconds(i64::from(HEARTBEAT_TTL_MILLIS));
    newer.all(|row| heard >= row.create_time + ttl).then_some(live)
}

/// Whether a number is in ranges.
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
