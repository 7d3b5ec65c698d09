//! The fold: what observations make of what is known. Each asset ends as its
//! newest observation says, whatever the order in which they arrive.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::{AssetKind, AssetState, EventType, Presence};
use kit::digest::Digest;
use uuid::Uuid;

use super::changes::{Descriptors, changed_fields};

/// Orders observations of one node: stream number, sequence, index in batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Number of the stream, by first sight on its node.
    pub stream_number: i32,
    /// Sequence of the batch within the stream.
    pub sequence: i64,
    /// Index of the observation in the batch.
    pub index: i32,
}

/// What an agent saw of one asset, checked.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its place in the order.
    pub version: Version,
    /// Stream it came in.
    pub stream: Uuid,
    /// Whether that is the newest stream of its node; an older one is logged
    /// and never folded.
    pub current_stream: bool,
    /// ID of the event.
    pub event: Uuid,
    /// Node that speaks.
    pub node: Uuid,
    /// Asset, derived from node, kind and natural key.
    pub asset: Uuid,
    /// Kind of the asset.
    pub kind: AssetKind,
    /// Its natural key.
    pub natural_key: Arc<str>,
    /// Its name; empty with ABSENT.
    pub display_name: Arc<str>,
    /// Whether it is there.
    pub presence: Presence,
    /// Hash of the state; empty with ABSENT.
    pub state_hash: Bytes,
    /// Encoded AssetDetails; empty with ABSENT …
    pub details: Bytes,
    /// … and as they are searched ([`super::attributes`]).
    pub attributes: Arc<str>,
    /// When it was seen, by the node's clock.
    pub observe_time: Option<DateTime<Utc>>,
}

/// What is known of one asset: its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The asset.
    pub asset: Uuid,
    /// Kind of the asset.
    pub kind: AssetKind,
    /// Its node.
    pub node: Uuid,
    /// Its natural key.
    pub natural_key: Arc<str>,
    /// Its name.
    pub display_name: Arc<str>,
    /// Whether it is there.
    pub state: AssetState,
    /// Encoded AssetDetails of the last time it was there.
    pub details: Option<Bytes>,
    /// Encoded ManagedFields, which the fold carries along and never changes.
    pub managed: Option<Bytes>,
    /// Number of its newest revision.
    pub revision: i64,
    /// How often people edited it.
    pub managed_revision: i64,
    /// Version of its newest observation.
    pub version: Version,
    /// Version of the newest one that said what it is like: that of its details
    /// and name. Zero if none did.
    pub seen: Version,
    /// Hash of its state; empty while REMOVED.
    pub state_hash: Bytes,
    /// When it was first reported.
    pub first_seen_time: Option<DateTime<Utc>>,
    /// When it was found to be gone.
    pub remove_time: Option<DateTime<Utc>>,
    /// When the record came to be.
    pub create_time: DateTime<Utc>,
    /// When its newest revision was recorded.
    pub update_time: DateTime<Utc>,
}

/// A row for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// ID of the event.
    pub event: Uuid,
    /// What happened.
    pub event_type: EventType,
    /// The asset as it is afterwards; of one that came too late: as it was
    /// observed.
    pub after: Known,
    /// Revision that it made; none if it came too late.
    pub revision: Option<i64>,
    /// Searchable form of its details; none if they are those of before.
    pub attributes: Option<Arc<str>>,
    /// Paths that changed.
    pub changed_fields: Vec<String>,
    /// When it was recorded.
    pub record_time: DateTime<Utc>,
    /// When it was seen.
    pub observe_time: Option<DateTime<Utc>>,
    /// Stream it came in.
    pub stream: Uuid,
    /// Its place in the order.
    pub version: Version,
}

/// What a set of observations does.
#[derive(Debug, Default)]
pub struct Folded {
    /// Rows for the log, in the order of their making.
    pub log: Vec<Logged>,
    /// Assets to write, each once, sorted by UUID.
    pub assets: Vec<Known>,
    /// What is to be added to the digests of nodes and kinds; numbers wrap.
    pub digests: BTreeMap<(Uuid, AssetKind), Digest>,
}

impl Folded {
    /// Notes what a step from one row to the next does to the digest.
    fn note(&mut self, before: Option<&Known>, after: &Known) {
        let hash = |known: &Known| {
            let hash = <[u8; 16]>::try_from(&known.state_hash[..]).ok();
            hash.filter(|_| known.state == AssetState::Active)
        };
        let (old, new) = (before.and_then(hash), hash(after));
        if old == new {
            return;
        }
        let digest = self.digests.entry((after.node, after.kind)).or_default();
        if let Some(old) = old {
            digest.subtract(&old);
        }
        if let Some(new) = new {
            digest.add(&new);
        }
    }
}

/// Folds observations into what is known. `now` is taken under the node's lock;
/// record times are made monotone per asset. All that becomes of an asset here is
/// recorded at one time: what it was in between was never there for anyone to see.
pub fn fold(
    mut known: HashMap<Uuid, Known>,
    mut observations: Vec<Observed>,
    now: DateTime<Utc>,
    descriptors: &Descriptors,
) -> Folded {
    let mut folded = Folded::default();
    let mut touched: Vec<Uuid> = Vec::new();
    let mut times: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
    // Oldest first: what is in one call never supersedes itself by accident.
    observations.sort_by_key(|observed| observed.version);
    for observed in observations {
        let asset = observed.asset;
        let record_time = *times.entry(asset).or_insert_with(|| monotone(now, known.get(&asset)));
        let (after, logged) = apply(known.get(&asset), &observed, record_time, descriptors);
        folded.log.extend(logged);
        if let Some(after) = after {
            folded.note(known.get(&asset), &after);
            known.insert(asset, after);
            touched.push(asset);
        }
    }
    touched.sort_unstable();
    touched.dedup();
    folded.assets = touched.iter().filter_map(|asset| known.remove(asset)).collect();
    folded
}

/// Retires assets that a complete snapshot did not list.
pub fn retire(known: Vec<Known>, stream: Uuid, version: Version, now: DateTime<Utc>) -> Folded {
    let mut folded = Folded::default();
    for before in known {
        let record_time = monotone(now, Some(&before));
        let after = removed(before.clone(), version, record_time);
        folded.note(Some(&before), &after);
        folded.log.push(Logged {
            event: Uuid::now_v7(),
            event_type: EventType::Removed,
            revision: Some(after.revision),
            attributes: None,
            changed_fields: vec!["state".to_owned()],
            record_time,
            observe_time: None,
            stream,
            version,
            after: after.clone(),
        });
        folded.assets.push(after);
    }
    folded.assets.sort_unstable_by_key(|asset| asset.asset);
    folded
}

/// One observation: the asset's new row, if it changes, and the row for the
/// log, unless it is a snapshot's entry that says nothing new.
fn apply(
    before: Option<&Known>,
    observed: &Observed,
    record_time: DateTime<Utc>,
    descriptors: &Descriptors,
) -> (Option<Known>, Option<Logged>) {
    let late = !observed.current_stream || before.is_some_and(|before| before.version >= observed.version);
    if late {
        if let Some(before) = before.filter(|before| tells_more(before, observed)) {
            let changed = changes(before, observed, descriptors);
            if observed.presence == Presence::Listed && changed.is_empty() {
                return (Some(Known { seen: observed.version, ..before.clone() }), None);
            }
            let after = Known {
                display_name: observed.display_name.clone(),
                details: Some(observed.details.clone()),
                seen: observed.version,
                revision: before.revision + 1,
                update_time: record_time,
                ..before.clone()
            };
            let revision = Some(after.revision);
            let row = logged(EventType::Changed, observed, after.clone(), revision, changed, record_time);
            return (Some(after), Some(row));
        }
        let event_type = match observed.presence {
            Presence::Absent => EventType::Removed,
            _ => EventType::Changed,
        };
        let after = first_seen(observed, record_time, before);
        return (None, Some(logged(event_type, observed, after, None, Vec::new(), record_time)));
    }
    let Some(before) = before else {
        let after = first_seen(observed, record_time, None);
        let event_type =
            if observed.presence == Presence::Absent { EventType::Removed } else { EventType::Appeared };
        let row = logged(event_type, observed, after.clone(), Some(after.revision), Vec::new(), record_time);
        return (Some(after), Some(row));
    };
    let active = before.state == AssetState::Active;
    match observed.presence {
        Presence::Absent if active => {
            let after = removed(before.clone(), observed.version, record_time);
            let changed = vec!["state".to_owned()];
            let row = logged(
                EventType::Removed,
                observed,
                after.clone(),
                Some(after.revision),
                changed,
                record_time,
            );
            (Some(after), Some(row))
        }
        Presence::Absent => {
            let after = Known { version: observed.version, ..before.clone() };
            let row = logged(EventType::Removed, observed, after.clone(), None, Vec::new(), record_time);
            (Some(after), Some(row))
        }
        Presence::Listed if active && before.state_hash == observed.state_hash => {
            (Some(Known { version: observed.version, seen: observed.version, ..before.clone() }), None)
        }
        _ => {
            let event_type = if active { EventType::Changed } else { EventType::Appeared };
            let mut changed = changes(before, observed, descriptors);
            if !active {
                changed.push("state".to_owned());
            }
            let after = Known {
                display_name: observed.display_name.clone(),
                state: AssetState::Active,
                details: Some(observed.details.clone()),
                state_hash: observed.state_hash.clone(),
                revision: before.revision + 1,
                version: observed.version,
                seen: observed.version,
                first_seen_time: before.first_seen_time.or(Some(record_time)),
                remove_time: None,
                update_time: record_time,
                ..before.clone()
            };
            let row = logged(event_type, observed, after.clone(), Some(after.revision), changed, record_time);
            (Some(after), Some(row))
        }
    }
}

/// Whether an observation that came too late to say that the asset is there
/// still says what it was like when it was last there: ABSENT has overtaken it.
fn tells_more(before: &Known, observed: &Observed) -> bool {
    observed.current_stream
        && observed.presence != Presence::Absent
        && before.state == AssetState::Removed
        && before.seen < observed.version
}

/// Paths in which what is observed differs from what is known, sorted.
fn changes(before: &Known, observed: &Observed, descriptors: &Descriptors) -> Vec<String> {
    let mut changed = changed_fields(descriptors, before.details.as_deref(), &observed.details);
    if before.display_name != observed.display_name {
        changed.push("display_name".to_owned());
    }
    changed
}

/// The row of an asset that nothing was known of; or what a late observation
/// would have made of it, with the managed side that is known.
fn first_seen(observed: &Observed, record_time: DateTime<Utc>, before: Option<&Known>) -> Known {
    let absent = observed.presence == Presence::Absent;
    // Nothing but its key is known of what was gone before it was ever seen.
    let display_name = if absent { &observed.natural_key } else { &observed.display_name };
    Known {
        asset: observed.asset,
        kind: observed.kind,
        node: observed.node,
        natural_key: observed.natural_key.clone(),
        display_name: before.filter(|_| absent).map_or(display_name, |before| &before.display_name).clone(),
        state: if absent { AssetState::Removed } else { AssetState::Active },
        details: (!absent).then(|| observed.details.clone()),
        managed: before.and_then(|before| before.managed.clone()),
        revision: 1,
        managed_revision: before.map_or(0, |before| before.managed_revision),
        version: observed.version,
        seen: if absent { Version::default() } else { observed.version },
        state_hash: observed.state_hash.clone(),
        first_seen_time: Some(record_time),
        remove_time: absent.then_some(record_time),
        create_time: record_time,
        update_time: record_time,
    }
}

fn removed(before: Known, version: Version, record_time: DateTime<Utc>) -> Known {
    Known {
        state: AssetState::Removed,
        state_hash: Bytes::new(),
        revision: before.revision + 1,
        version,
        remove_time: Some(record_time),
        update_time: record_time,
        ..before
    }
}

fn logged(
    event_type: EventType,
    observed: &Observed,
    after: Known,
    revision: Option<i64>,
    changed_fields: Vec<String>,
    record_time: DateTime<Utc>,
) -> Logged {
    Logged {
        event: observed.event,
        event_type,
        after,
        revision,
        attributes: (observed.presence != Presence::Absent).then(|| observed.attributes.clone()),
        changed_fields,
        record_time,
        observe_time: observed.observe_time,
        stream: observed.stream,
        version: observed.version,
    }
}

/// Record times grow from call to call, even if the clock does not.
fn monotone(now: DateTime<Utc>, before: Option<&Known>) -> DateTime<Utc> {
    match before {
        Some(before) if before.update_time >= now => before.update_time + TimeDelta::microseconds(1),
        _ => now,
    }
}
#[cfg(test)]
mod tests;
