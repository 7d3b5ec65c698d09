//! What a fold comes to, in one statement: the log, the current state, what the
//! streams have received, the digests.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use contracts::v1::EventType;
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{Place, small};
use crate::{
    domain::{
        attributes::searchable_encoded,
        fold::{Folded, Known, Logged},
    },
    store::{
        shared::{SharedBytes, SharedText},
        sql::{Bind, Sql, execute},
    },
};

/// Appends to the log, writes the observed side of assets, adds sequences to what
/// their streams have received, and brings the digests up to date. The nodes are
/// locked. People's side is not touched, but for one thing: an asset that is seen
/// again is no deleted record any more (ADR 7).
///
/// # Errors
/// The statement fails.
pub async fn write_in_txn(
    connection: &mut AsyncPgConnection,
    folded: &Folded,
    received: &[Place],
) -> QueryResult<()> {
    match statement(folded, received) {
        Some(statement) => execute(connection, statement).await.map(drop),
        None => Ok(()),
    }
}

/// The statement of [`write_in_txn`]; none if there is nothing to write.
pub fn statement(folded: &Folded, received: &[Place]) -> Option<Sql> {
    let Rows { saved, refreshed, altered } = assets_by_row(folded);
    let mut parts: Vec<Sql> = Vec::new();
    if !folded.log.is_empty() {
        parts.push(rows(&folded.log, &saved, &altered));
        parts.push(Sql::new(APPENDED));
        parts.push(Sql::new(SAVED));
    }
    if !refreshed.is_empty() {
        parts.push(refresh(&refreshed));
    }
    if !received.is_empty() {
        parts.push(receive(received));
    }
    if !folded.digests.is_empty() {
        parts.push(digests(folded));
    }
    if parts.is_empty() {
        return None;
    }
    let mut statement = Sql::new("WITH ");
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            statement = statement.text(", ");
        }
        statement = statement.then(part);
    }
    Some(statement.text(" SELECT"))
}

/// Assets that are written, told apart.
struct Rows<'a> {
    /// Each has a row in the log that says the same, so that its contents travel
    /// once. By the index of the row.
    saved: HashMap<usize, &'a Known>,
    /// Only their versions are newer.
    refreshed: Vec<&'a Known>,
    /// Assets of several revisions in this log: the last one's contents may be news
    /// of an earlier one.
    altered: HashSet<Uuid>,
}

fn assets_by_row(folded: &Folded) -> Rows<'_> {
    let mut newest: HashMap<Uuid, usize> = HashMap::with_capacity(folded.log.len());
    let mut altered = HashSet::new();
    for (index, row) in folded.log.iter().enumerate().filter(|(_, row)| row.revision.is_some()) {
        if newest.insert(row.after.asset, index).is_some() {
            altered.insert(row.after.asset);
        }
    }
    let mut saved = HashMap::with_capacity(folded.assets.len());
    let mut refreshed = Vec::new();
    for asset in &folded.assets {
        match newest.get(&asset.asset) {
            Some(&index) => {
                saved.insert(index, asset);
            }
            None => refreshed.push(asset),
        }
    }
    Rows { saved, refreshed, altered }
}

/// The columns of the log, and those of assets where `saved`.
fn rows(log: &[Logged], saved: &HashMap<usize, &Known>, altered: &HashSet<Uuid>) -> Sql {
    // An array of arrays must be even; the paths travel joined.
    let changed = log.iter().map(|row| row.changed_fields.join("\n")).collect();
    // The asset of a row; of one that is not written, what nobody reads.
    let assets: Vec<&Known> =
        log.iter().enumerate().map(|(index, row)| saved.get(&index).copied().unwrap_or(&row.after)).collect();
    let nothing: Arc<str> = "{}".into();
    let attributes = log.iter().enumerate().map(|(index, row)| {
        // What is gone stays searchable as it was when it was last there.
        let same = row.event_type == EventType::Removed && !altered.contains(&row.after.asset);
        let written = saved.contains_key(&index) && !same;
        if !written {
            return nothing.clone();
        }
        row.attributes.clone().unwrap_or_else(|| searchable_encoded(row.after.details.as_deref()).into())
    });
    Sql::new("row AS MATERIALIZED (SELECT * FROM unnest(")
        .binds([
            Bind::Times(log.iter().map(|row| Some(row.record_time)).collect()),
            Bind::Uuids(log.iter().map(|row| row.event).collect()),
            Bind::SmallInts(log.iter().map(|row| small(row.event_type as i32)).collect()),
            Bind::Uuids(log.iter().map(|row| row.after.asset).collect()),
            Bind::SmallInts(log.iter().map(|row| small(row.after.kind as i32)).collect()),
            texts(log.iter().map(|row| &row.after.display_name)),
            Bind::Uuids(log.iter().map(|row| row.after.node).collect()),
            texts(log.iter().map(|row| &row.after.natural_key)),
            Bind::MaybeBigInts(log.iter().map(|row| row.revision).collect()),
            Bind::BigInts(log.iter().map(|row| row.after.managed_revision).collect()),
            Bind::SmallInts(log.iter().map(|row| small(row.after.state as i32)).collect()),
            bytes(log.iter().map(|row| row.after.details.as_ref())),
            bytes(log.iter().map(|row| row.after.managed.as_ref())),
            Bind::Times(log.iter().map(|row| row.observe_time).collect()),
            Bind::Uuids(log.iter().map(|row| row.stream).collect()),
            Bind::BigInts(log.iter().map(|row| row.version.sequence).collect()),
            Bind::Integers(log.iter().map(|row| row.version.index).collect()),
            Bind::Texts(changed),
            Bind::Bools((0..log.len()).map(|index| saved.contains_key(&index)).collect()),
            Bind::SharedTexts(attributes.map(SharedText).collect()),
            Bind::Integers(assets.iter().map(|asset| asset.version.stream_number).collect()),
            Bind::BigInts(assets.iter().map(|asset| asset.version.sequence).collect()),
            Bind::Integers(assets.iter().map(|asset| asset.version.index).collect()),
            Bind::Integers(assets.iter().map(|asset| asset.seen.stream_number).collect()),
            Bind::BigInts(assets.iter().map(|asset| asset.seen.sequence).collect()),
            Bind::Integers(assets.iter().map(|asset| asset.seen.index).collect()),
            bytes(assets.iter().map(|asset| Some(&asset.state_hash))),
            Bind::Times(assets.iter().map(|asset| asset.first_seen_time).collect()),
            Bind::Times(assets.iter().map(|asset| asset.remove_time).collect()),
            Bind::Times(assets.iter().map(|asset| Some(asset.create_time)).collect()),
        ])
        .text(
            ") AS row (record_time, event_uid, type, asset_uid, kind, display_name, node_uid, natural_key, \
             revision, managed_revision, state, details, managed, observe_time, stream, sequence, batch_index, \
             changed, saved, attributes, asset_stream_number, asset_sequence, asset_batch_index, \
             seen_stream_number, seen_sequence, seen_batch_index, state_hash, first_seen_time, remove_time, \
             create_time))",
        )
}

fn texts<'a>(values: impl Iterator<Item = &'a Arc<str>>) -> Bind {
    Bind::SharedTexts(values.cloned().map(SharedText).collect())
}

fn bytes<'a>(values: impl Iterator<Item = Option<&'a Bytes>>) -> Bind {
    Bind::SharedByteStrings(values.map(|value| value.cloned().map(SharedBytes)).collect())
}

const APPENDED: &str = "appended AS (INSERT INTO asset_event (record_time, event_uid, type, asset_uid, kind, \
     display_name, node_uid, natural_key, revision, managed_revision, state, details, managed, observe_time, \
     stream, sequence, batch_index, changed_fields, actor) \
     SELECT record_time, event_uid, type, asset_uid, kind, display_name, node_uid, natural_key, revision, \
     managed_revision, state, details, managed, observe_time, stream, sequence, batch_index, \
     coalesce(string_to_array(nullif(changed, ''), E'\\n'), '{}'), 'agent' FROM row)";

const SAVED: &str = "saved AS (INSERT INTO asset (uid, kind, display_name, node_uid, natural_key, state, \
     details, attributes, revision, stream_number, sequence, batch_index, seen_stream_number, seen_sequence, \
     seen_batch_index, state_hash, first_seen_time, remove_time, create_time, update_time) \
     SELECT asset_uid, kind, display_name, node_uid, natural_key, state, details, attributes::jsonb, revision, \
     asset_stream_number, asset_sequence, asset_batch_index, seen_stream_number, seen_sequence, \
     seen_batch_index, state_hash, first_seen_time, remove_time, create_time, record_time \
     FROM row WHERE saved ORDER BY asset_uid ON CONFLICT (uid) DO UPDATE SET \
     display_name = excluded.display_name, state = excluded.state, details = excluded.details, \
     attributes = asset.attributes || excluded.attributes, revision = excluded.revision, \
     stream_number = excluded.stream_number, sequence = excluded.sequence, \
     batch_index = excluded.batch_index, seen_stream_number = excluded.seen_stream_number, \
     seen_sequence = excluded.seen_sequence, seen_batch_index = excluded.seen_batch_index, \
     state_hash = excluded.state_hash, first_seen_time = excluded.first_seen_time, \
     remove_time = excluded.remove_time, update_time = excluded.update_time, \
     delete_time = CASE WHEN excluded.state = 1 THEN NULL ELSE asset.delete_time END)";

fn refresh(assets: &[&Known]) -> Sql {
    Sql::new(
        "refreshed AS (UPDATE asset SET stream_number = fresh.stream_number, sequence = fresh.sequence, \
         batch_index = fresh.batch_index, seen_stream_number = fresh.seen_stream_number, \
         seen_sequence = fresh.seen_sequence, seen_batch_index = fresh.seen_batch_index FROM unnest(",
    )
    .binds([
        Bind::Uuids(assets.iter().map(|asset| asset.asset).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.version.stream_number).collect()),
        Bind::BigInts(assets.iter().map(|asset| asset.version.sequence).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.version.index).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.seen.stream_number).collect()),
        Bind::BigInts(assets.iter().map(|asset| asset.seen.sequence).collect()),
        Bind::Integers(assets.iter().map(|asset| asset.seen.index).collect()),
    ])
    .text(
        ") AS fresh (uid, stream_number, sequence, batch_index, seen_stream_number, seen_sequence, \
         seen_batch_index) WHERE asset.uid = fresh.uid)",
    )
}

fn receive(places: &[Place]) -> Sql {
    Sql::new(
        "received AS (UPDATE node_stream SET received = node_stream.received + new.ranges, \
         receive_time = clock_timestamp() FROM (\
         SELECT node_uid, stream, range_agg(int8range(sequence, sequence, '[]')) AS ranges FROM unnest(",
    )
    .binds([
        Bind::Uuids(places.iter().map(|place| place.node_uid).collect()),
        Bind::Uuids(places.iter().map(|place| place.stream).collect()),
        Bind::BigInts(places.iter().map(|place| place.sequence).collect()),
    ])
    .text(
        ") AS one (node_uid, stream, sequence) GROUP BY node_uid, stream) AS new \
         WHERE node_stream.node_uid = new.node_uid AND node_stream.stream = new.stream)",
    )
}

fn digests(folded: &Folded) -> Sql {
    let digests = &folded.digests;
    Sql::new(
        "digested AS (INSERT INTO node_kind AS own (node_uid, kind, count, sum) \
         SELECT node_uid, kind, count, sum::numeric FROM unnest(",
    )
    .binds([
        Bind::Uuids(digests.keys().map(|(node, _)| *node).collect()),
        Bind::SmallInts(digests.keys().map(|(_, kind)| small(*kind as i32)).collect()),
        Bind::BigInts(digests.values().map(|digest| digest.count.cast_signed()).collect()),
        Bind::Texts(digests.values().map(|digest| digest.sum.to_string()).collect()),
    ])
    .text(
        ") AS new (node_uid, kind, count, sum) ON CONFLICT (node_uid, kind) DO UPDATE SET \
         count = own.count + excluded.count, \
         sum = mod(own.sum + excluded.sum, 340282366920938463463374607431768211456))",
    )
}
