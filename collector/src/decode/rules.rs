//! The rules of the fields, from event.proto. Pure.

use contracts::v1::{
    AssetDetails, AssetKind, EventBatch, ImageContent, ImageContentSource, KindDigest, NodeIdentity,
    Observation, Presence, Snapshot,
};
use contracts::walk::Walk;
use kit::{
    identity::{kind_of, parse_uuid},
    queue::{
        MAX_CONTENT_PACKAGES, MAX_CONTENT_PARTS, MAX_DIGESTS, MAX_DISPLAY_NAME_BYTES, MAX_NATURAL_KEY_BYTES,
        MAX_NODE_NAME_BYTES, MAX_OBSERVATIONS, STATE_HASH_BYTES,
    },
};
use prost_types::Timestamp;
use uuid::Uuid;

use super::{Rejection, text::NulFinder};

/// Seconds of 0001-01-01 and of 9999-12-31T23:59:59, the range of
/// google.protobuf.Timestamp.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Checks who speaks; returns the node's UUID.
pub fn node(identity: Option<&NodeIdentity>) -> Result<Uuid, Rejection> {
    let identity = identity.ok_or_else(|| Rejection::node("node", "is missing"))?;
    let uid = parse_uuid(&identity.uid)
        .ok_or_else(|| Rejection::node("node.uid", "is not a UUID of 36 characters in lower case"))?;
    for (path, name) in [("node.cluster", &identity.cluster), ("node.display_name", &identity.display_name)] {
        if name.len() > MAX_NODE_NAME_BYTES {
            let length = name.len();
            return Err(Rejection::node(
                path,
                format!("has {length} bytes, at most {MAX_NODE_NAME_BYTES} may be"),
            ));
        }
        if name.contains('\0') {
            return Err(Rejection::node(path, "has a NUL character"));
        }
    }
    Ok(uid)
}

/// Checks everything in a batch below the identity of its node.
pub fn batch(batch: &mut EventBatch, nul: &mut NulFinder) -> Result<(), Rejection> {
    if parse_uuid(&batch.stream).is_none() {
        return Err(Rejection::field("stream", "is not a UUID of 36 characters in lower case"));
    }
    if batch.sequence < 1 {
        return Err(Rejection::field("sequence", format!("is {}, must be 1 or more", batch.sequence)));
    }
    let count = batch.observations.len();
    if count > MAX_OBSERVATIONS {
        return Err(Rejection::field(
            "observations",
            format!("are {count}, at most {MAX_OBSERVATIONS} may be"),
        ));
    }
    let mut event_ids = Vec::with_capacity(count);
    for (index, one) in batch.observations.iter_mut().enumerate() {
        event_ids.push(observation(one, nul).map_err(|(field, problem)| {
            Rejection::field(&format!("observations[{index}].{field}"), problem)
        })?);
    }
    if let Some(index) = repeated(&event_ids) {
        let path = format!("observations[{index}].event_id");
        return Err(Rejection::field(&path, "occurs twice in the batch"));
    }
    for (index, one) in batch.snapshots.iter().enumerate() {
        snapshot(one, batch.sequence)
            .map_err(|(field, problem)| Rejection::field(&format!("snapshots[{index}].{field}"), problem))?;
        if batch.snapshots[..index].iter().any(|earlier| earlier.kind == one.kind) {
            return Err(Rejection::field(&format!("snapshots[{index}].kind"), "occurs twice in the batch"));
        }
    }
    let packages: usize = batch.image_contents.iter().map(|content| content.packages.len()).sum();
    if packages > MAX_CONTENT_PACKAGES {
        return Err(Rejection::field(
            "image_contents",
            format!("have {packages} packages, at most {MAX_CONTENT_PACKAGES} may be"),
        ));
    }
    for (index, one) in batch.image_contents.iter_mut().enumerate() {
        image_content(one, nul).map_err(|(field, problem)| {
            Rejection::field(&format!("image_contents[{index}].{field}"), problem)
        })?;
    }
    Ok(())
}

/// Checks the digests of a heartbeat.
pub fn digests(digests: &[KindDigest]) -> Result<(), Rejection> {
    if digests.len() > MAX_DIGESTS {
        let count = digests.len();
        return Err(Rejection::field("digests", format!("are {count}, at most {MAX_DIGESTS} may be")));
    }
    for (index, one) in digests.iter().enumerate() {
        digest(one, &digests[..index])
            .map_err(|(field, problem)| Rejection::field(&format!("digests[{index}].{field}"), problem))?;
    }
    Ok(())
}

/// A field and what is wrong with it.
type Broken = (String, String);

fn broken<T>(field: &str, problem: impl Into<String>) -> Result<T, Broken> {
    Err((field.to_owned(), problem.into()))
}

/// Index of the first that occurred before.
fn repeated(ids: &[Uuid]) -> Option<usize> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
        return None;
    }
    (1..ids.len()).find(|index| ids[..*index].contains(&ids[*index]))
}

/// Answers the event's ID.
fn observation(one: &mut Observation, nul: &mut NulFinder) -> Result<Uuid, Broken> {
    let Some(event_id) = parse_uuid(&one.event_id).filter(|id| !id.is_nil()) else {
        return broken("event_id", "is not a UUID of 36 characters in lower case");
    };
    let presence = match Presence::try_from(one.presence) {
        Ok(Presence::Unspecified) | Err(_) => {
            return broken("presence", format!("{} is not known", one.presence));
        }
        Ok(presence) => presence,
    };
    let kind = observed_kind(one.kind)?;
    sized_text("natural_key", &one.natural_key, MAX_NATURAL_KEY_BYTES)?;
    if let Some(time) = &one.observe_time {
        timestamp("observe_time", time)?;
    }
    if presence == Presence::Absent {
        absent(one)?;
        return Ok(event_id);
    }
    sized_text("display_name", &one.display_name, MAX_DISPLAY_NAME_BYTES)?;
    hash("state_hash", &one.state_hash)?;
    match &mut one.details {
        Some(details) => details_of(kind, details, nul)?,
        None => return broken("details", "are missing"),
    }
    Ok(event_id)
}

/// What is gone has no state.
fn absent(one: &Observation) -> Result<(), Broken> {
    let state = [
        ("display_name", one.display_name.is_empty()),
        ("state_hash", one.state_hash.is_empty()),
        ("details", one.details.is_none()),
    ];
    match state.iter().find(|(_, empty)| !empty) {
        Some((field, _)) => broken(field, "must be empty with ABSENT"),
        None => Ok(()),
    }
}

fn details_of(kind: AssetKind, details: &mut AssetDetails, nul: &mut NulFinder) -> Result<(), Broken> {
    let Some(inner) = &details.details else { return broken("details", "are empty") };
    let found = kind_of(inner);
    if found != kind {
        return broken(
            "details",
            format!("are of {}, the kind is {}", found.as_str_name(), kind.as_str_name()),
        );
    }
    let mut checked = Ok(());
    inner.times(&mut |field, time| {
        if checked.is_ok() {
            // Details are named as their kinds are.
            let kind = kind.as_str_name().trim_start_matches("ASSET_KIND_").to_lowercase();
            checked = timestamp(&format!("details.{kind}.{field}"), time);
        }
    });
    checked?;
    match nul.in_details(details) {
        Some(path) => broken(&format!("details.{path}"), "has a NUL character"),
        None => Ok(()),
    }
}

fn snapshot(one: &Snapshot, sequence: i64) -> Result<(), Broken> {
    observed_kind(one.kind)?;
    if one.first_sequence < 1 || one.first_sequence > one.last_sequence {
        return broken(
            "first_sequence",
            format!("is {}, must be 1 to {}", one.first_sequence, one.last_sequence),
        );
    }
    if one.last_sequence != sequence {
        return broken(
            "last_sequence",
            format!("is {}, must be that of the batch, {sequence}", one.last_sequence),
        );
    }
    Ok(())
}

fn image_content(one: &mut ImageContent, nul: &mut NulFinder) -> Result<(), Broken> {
    sized_text("image_digest", &one.image_digest, MAX_NATURAL_KEY_BYTES)?;
    hash("content_hash", &one.content_hash)?;
    if !(1..=MAX_CONTENT_PARTS).contains(&one.parts) {
        return broken("parts", format!("is {}, must be 1 to {MAX_CONTENT_PARTS}", one.parts));
    }
    if !(1..=one.parts).contains(&one.part) {
        return broken("part", format!("is {}, must be 1 to {}", one.part, one.parts));
    }
    match ImageContentSource::try_from(one.source) {
        Ok(ImageContentSource::Layers | ImageContentSource::Container) => {}
        _ => return broken("source", format!("{} is not known", one.source)),
    }
    if let Some(index) = one.packages.iter().position(|package| package.package.is_empty()) {
        return broken(&format!("packages[{index}].package"), "is empty");
    }
    match nul.in_content(one) {
        Some(path) => broken(&path, "has a NUL character"),
        None => Ok(()),
    }
}

fn digest(one: &KindDigest, earlier: &[KindDigest]) -> Result<(), Broken> {
    observed_kind(one.kind)?;
    if earlier.iter().any(|earlier| earlier.kind == one.kind) {
        return broken("kind", "occurs twice in the heartbeat");
    }
    // PostgreSQL has no unsigned integers.
    if i64::try_from(one.count).is_err() {
        return broken("count", "is more than 2^63-1");
    }
    hash("sum", &one.sum)
}

fn hash(field: &str, bytes: &[u8]) -> Result<(), Broken> {
    if bytes.len() == STATE_HASH_BYTES {
        return Ok(());
    }
    broken(field, format!("has {} bytes, must have {STATE_HASH_BYTES}", bytes.len()))
}

/// A kind that an agent can see.
fn observed_kind(number: i32) -> Result<AssetKind, Broken> {
    match AssetKind::try_from(number) {
        Err(_) => broken("kind", format!("{number} is not known")),
        Ok(kind @ (AssetKind::Unspecified | AssetKind::Custom)) => {
            broken("kind", format!("{} is not for agents", kind.as_str_name()))
        }
        Ok(kind) => Ok(kind),
    }
}

fn sized_text(field: &str, text: &str, most: usize) -> Result<(), Broken> {
    if text.is_empty() || text.len() > most {
        return broken(field, format!("has {} bytes, must have 1 to {most}", text.len()));
    }
    if text.contains('\0') {
        return broken(field, "has a NUL character");
    }
    Ok(())
}

fn timestamp(field: &str, time: &Timestamp) -> Result<(), Broken> {
    if TIMESTAMP_SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos) {
        return Ok(());
    }
    broken(field, format!("{} s and {} ns is no time of the years 1 to 9999", time.seconds, time.nanos))
}
