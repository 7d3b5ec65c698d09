//! Heartbeats: that nodes live, and whether all that they know is recorded.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::{NewStreamCommand, ResyncCommand, agent_command::Command};
use diesel::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use kit::queue::HEARTBEAT_TTL_MILLIS;
use uuid::Uuid;

use super::{DeliveryMetrics, ResultLabel, command::new_command};
use crate::{
    domain::completeness::{Compared, Comparison, CurrentStream, Gap, Point, Recorded, compare, may_ask},
    store::{
        command::{self, NewCommand},
        completeness::{
            HeardRow, ToldRow, current_streams, delete_gaps, digests, encode, gaps, lock_in_txn, save_gaps,
            save_told, told, waived,
        },
        heartbeat::{Beat, Heard, add_contact, insert_new_in_txn, save_in_txn},
    },
};

/// What heartbeats showed, for metrics.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    equal: u64,
    different: u64,
    not_comparable: u64,
    resyncs: u64,
}

/// Records heartbeats and that a collector delivered them, by the database's
/// clock; compares their digests with what is recorded, and asks for what is
/// missing. Each node at most once, sorted by UUID. An older heartbeat never
/// replaces a newer one, unless the clock was put back.
///
/// # Errors
/// A statement fails.
pub async fn record(
    connection: &mut AsyncPgConnection,
    collector: &str,
    beats: &[Beat],
    metrics: &DeliveryMetrics,
) -> QueryResult<()> {
    let now = add_contact(connection, collector).await?;
    if beats.is_empty() {
        return Ok(());
    }
    let counts =
        connection.transaction(async |connection| record_in_txn(connection, now, beats).await).await?;
    for (result, count) in
        [("equal", counts.equal), ("different", counts.different), ("not_comparable", counts.not_comparable)]
    {
        metrics.compared.get_or_create(&ResultLabel { result }).inc_by(count);
    }
    metrics.resyncs.inc_by(counts.resyncs);
    Ok(())
}

async fn record_in_txn(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    beats: &[Beat],
) -> QueryResult<Counts> {
    insert_new_in_txn(connection, beats).await?;
    let uids: Vec<Uuid> = beats.iter().map(|beat| beat.uid).collect();
    // What is read from here on is as of these locks: ingest writes under them.
    let known: HashMap<Uuid, HeardRow> =
        lock_in_txn(connection, &uids).await?.into_iter().map(|row| (row.uid, row)).collect();
    let streams = current_streams(connection, &uids).await?;
    let mut told_before = told(connection, &uids).await?;

    let mut counts = Counts::default();
    let mut commands: Vec<NewCommand> = Vec::new();
    let mut heard: Vec<Heard<'_>> = Vec::with_capacity(beats.len());
    for beat in beats {
        let Some(row) = known.get(&beat.uid) else { continue };
        let time = now - TimeDelta::milliseconds(beat.held_for_millis);
        if row.heartbeat_time.is_some_and(|before| time < before && before <= now) {
            continue;
        }
        let stream = streams.get(&beat.uid);
        let compared = stream.is_some_and(|stream| stream.is_exactly(beat.stream, beat.last_sequence));
        let mut one = Heard {
            beat,
            time,
            compared,
            new_stream_time: row.new_stream_time,
            new_stream_count: row.new_stream_count,
        };
        if let Some(stream) = stream.filter(|stream| stream.stream == beat.stream) {
            commands.extend(new_stream(now, &mut one, stream));
        }
        heard.push(one);
    }
    compare_all(connection, now, &heard, (&known, &told_before), &mut commands, &mut counts).await?;
    save_in_txn(connection, &heard).await?;
    save_told(connection, &new_told(&heard, &mut told_before)).await?;
    command::insert(connection, &commands).await?;
    Ok(counts)
}

/// What agents tell that they did not tell before.
fn new_told(heard: &[Heard<'_>], before: &mut HashMap<Uuid, ToldRow>) -> Vec<ToldRow> {
    let mut new = Vec::new();
    for heard in heard {
        let node_uid = heard.beat.uid;
        let before = before.remove(&node_uid).unwrap_or_else(|| ToldRow { node_uid, ..ToldRow::default() });
        let digests = Some(encode(&heard.beat.digests));
        let now = if heard.compared {
            ToldRow { node_uid, compared: digests, reported: None }
        } else {
            ToldRow { reported: digests, ..before.clone() }
        };
        if now != before {
            new.push(now);
        }
    }
    new
}

/// Asks for a new stream if the agent went back in its own, which it cannot
/// know: what it numbers again would be taken for what is known.
fn new_stream(now: DateTime<Utc>, heard: &mut Heard<'_>, stream: &CurrentStream) -> Option<NewCommand> {
    let beat = heard.beat;
    let time_to_live = TimeDelta::milliseconds(i64::from(HEARTBEAT_TTL_MILLIS));
    if beat.last_sequence >= stream.next_sequence - 1 {
        (heard.new_stream_time, heard.new_stream_count) = (None, 0);
        return None;
    }
    if !stream.went_back(beat.stream, beat.last_sequence, heard.time, time_to_live)
        || !may_ask(now, heard.new_stream_time, heard.new_stream_count)
    {
        return None;
    }
    tracing::warn!(
        node = %beat.uid,
        stream = %beat.stream,
        last_sequence = beat.last_sequence,
        received_sequence = stream.next_sequence - 1,
        "an agent is behind what was received of it, as if restored from a copy: asking for a new stream"
    );
    heard.new_stream_time = Some(now);
    heard.new_stream_count = heard.new_stream_count.saturating_add(1);
    Some(new_command(beat.uid, now, Command::NewStream(NewStreamCommand {})))
}

/// Compares what can be, keeps gaps that changed, and asks for listings.
async fn compare_all(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    heard: &[Heard<'_>],
    (known, told): (&HashMap<Uuid, HeardRow>, &HashMap<Uuid, ToldRow>),
    commands: &mut Vec<NewCommand>,
    counts: &mut Counts,
) -> QueryResult<()> {
    let comparable: Vec<&Heard<'_>> = heard.iter().filter(|heard| heard.compared).collect();
    counts.not_comparable += (heard.len() - comparable.len()) as u64;
    if comparable.is_empty() {
        return Ok(());
    }
    let uids: Vec<Uuid> = comparable.iter().map(|heard| heard.beat.uid).collect();
    let mut recorded_digests = digests(connection, &uids).await?;
    let mut recorded_gaps = gaps(connection, &uids).await?;
    let with_gaps = comparable.iter().filter(|heard| recorded_gaps.contains_key(&heard.beat.uid));
    let with_gaps: Vec<(Uuid, Uuid)> = with_gaps.map(|heard| (heard.beat.uid, heard.beat.stream)).collect();
    let mut recorded_waived =
        if with_gaps.is_empty() { HashMap::new() } else { waived(connection, &with_gaps).await? };

    let mut changed: Vec<(Uuid, i16, Gap)> = Vec::new();
    let mut closed: Vec<(Uuid, i16)> = Vec::new();
    for heard in comparable {
        let beat = heard.beat;
        let recorded = Recorded {
            digests: recorded_digests.remove(&beat.uid).unwrap_or_default(),
            compared: known.get(&beat.uid).and_then(|row| row.comparison(told_digests(told, beat.uid))),
            gaps: recorded_gaps.remove(&beat.uid).unwrap_or_default(),
            waived: recorded_waived.remove(&beat.uid).unwrap_or_default(),
        };
        let at = Point { time: heard.time, stream: beat.stream, sequence: beat.last_sequence };
        let Comparison { gaps, resync } =
            compare(now, &Compared { at, digests: beat.digests.clone() }, &recorded);
        if gaps.values().any(|gap| gap.different) {
            counts.different += 1;
        } else {
            counts.equal += 1;
        }
        let now_closed = recorded.gaps.keys().filter(|kind| !gaps.contains_key(kind));
        closed.extend(now_closed.map(|kind| (beat.uid, *kind)));
        let now_changed = gaps.iter().filter(|(kind, gap)| recorded.gaps.get(kind) != Some(gap));
        changed.extend(now_changed.map(|(kind, gap)| (beat.uid, *kind, *gap)));
        if !resync.is_empty() {
            tracing::warn!(
                node = %beat.uid,
                sequence = beat.last_sequence,
                kinds = ?resync,
                "digests differ: asking for full listings"
            );
            counts.resyncs += resync.len() as u64;
            let kinds = resync.into_iter().map(i32::from).collect();
            commands.push(new_command(beat.uid, now, Command::Resync(ResyncCommand { kinds })));
        }
    }
    save_gaps(connection, &changed).await?;
    delete_gaps(connection, &closed).await
}

fn told_digests(told: &HashMap<Uuid, ToldRow>, node: Uuid) -> Option<&[u8]> {
    told.get(&node)?.compared.as_deref()
}
