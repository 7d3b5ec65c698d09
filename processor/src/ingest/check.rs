//! Checks messages again before they are written: a collector may be of
//! another version.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::v1::{
    AssetDetails, AssetKind, DeadLetterReason, EventBatch, ImageContent, ImageContentSource, Observation,
    PackageDetails, Presence, QueueMessage, RejectedMessage, queue_message::Content as Wire,
};
use kit::{
    identity::{asset_uid, kind_of, parse_uuid},
    queue::{
        HEADER_NODE, HEADER_SEQUENCE, HEADER_STREAM, MAX_CONTENT_PACKAGES, MAX_CONTENT_PARTS,
        MAX_NATURAL_KEY_BYTES, MAX_OBSERVATIONS, SCHEMA_VERSION, STATE_HASH_BYTES,
    },
};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    domain::{
        attributes::searchable_details,
        image::{ListKey, Part, image_uid},
    },
    store::{
        dead_letter::DeadLetter,
        ingest::{NewNode, Place, SnapshotRow, small},
    },
};

/// A message, checked.
#[derive(Clone, Debug)]
pub struct Message {
    message_id: String,
    queue: String,
    /// What it says.
    pub content: Content,
}

/// What a message says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A batch to apply.
    Batch(Box<Batch>),
    /// Something that can never be applied.
    Dead(Box<DeadLetter>),
}

/// A batch, checked.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Who speaks.
    pub node: NewNode,
    /// Stream of its store.
    pub stream: Uuid,
    /// Its number in the stream.
    pub sequence: i64,
    /// What was seen.
    pub observations: Vec<Seen>,
    /// Snapshots that end here.
    pub snapshots: Vec<SnapshotRow>,
    /// What was found in images.
    pub contents: Vec<Part>,
    /// As it came, in case PostgreSQL refuses it.
    original: EventBatch,
}

/// An observation, checked; its version waits for the stream's number.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Seen {
    pub event: Uuid,
    pub asset: Uuid,
    pub kind: AssetKind,
    pub presence: Presence,
    pub natural_key: Arc<str>,
    pub display_name: Arc<str>,
    pub state_hash: Bytes,
    pub details: Bytes,
    pub attributes: Arc<str>,
    pub observe_time: Option<DateTime<Utc>>,
}

/// Checks a message; one that breaks a rule becomes a dead letter.
pub fn check(message: QueueMessage) -> Message {
    let (message_id, queue) = (message.message_id, message.queue);
    let content = match message.content {
        Some(Wire::Batch(batch)) => match check_batch(&batch) {
            Ok(checked) => Content::Batch(Box::new(Batch { original: batch, ..checked })),
            Err(refusal) => Content::Dead(Box::new(dead(&queue, &message_id, &batch, refusal))),
        },
        Some(Wire::Rejected(rejected)) => {
            Content::Dead(Box::new(rejected_letter(&queue, &message_id, rejected)))
        }
        None => {
            let refusal = (DeadLetterReason::Undecodable, "content: is missing".to_owned());
            Content::Dead(Box::new(dead(&queue, &message_id, &EventBatch::default(), refusal)))
        }
    };
    Message { message_id, queue, content }
}

impl Message {
    /// Makes a dead letter of a batch that PostgreSQL refuses.
    pub fn refuse(&mut self, why: &str) {
        let Content::Batch(batch) = &self.content else { return };
        let refusal = (DeadLetterReason::RefusedByStore, why.to_owned());
        let letter = dead(&self.queue, &self.message_id, &batch.original, refusal);
        self.content = Content::Dead(Box::new(letter));
    }
}

impl Batch {
    /// Its place in its stream.
    pub fn place(&self) -> Place {
        Place { node_uid: self.node.uid, stream: self.stream, sequence: self.sequence }
    }
}

fn dead(queue: &str, message_id: &str, batch: &EventBatch, (reason, detail): Refusal) -> DeadLetter {
    let body = batch.encode_to_vec();
    DeadLetter {
        reason: small(reason as i32),
        detail,
        queue: queue.to_owned(),
        message_id: message_id.to_owned(),
        node: batch.node.as_ref().and_then(|node| parse_uuid(&node.uid)),
        stream: parse_uuid(&batch.stream),
        sequence: Some(batch.sequence).filter(|sequence| *sequence > 0),
        kinds: kinds(batch),
        headers: serde_json::json!({}),
        body_size_bytes: i64::try_from(body.len()).unwrap_or(i64::MAX),
        body,
    }
}

/// Kinds that a batch is about.
fn kinds(batch: &EventBatch) -> Vec<i16> {
    let seen = batch.observations.iter().map(|observation| observation.kind);
    let listed = batch.snapshots.iter().map(|snapshot| snapshot.kind);
    let kinds: BTreeSet<i32> = seen.chain(listed).collect();
    // One that is not known may be any.
    if kinds.iter().any(|kind| observed_kind(*kind).is_none()) {
        return Vec::new();
    }
    kinds.into_iter().map(small).collect()
}

fn rejected_letter(queue: &str, message_id: &str, rejected: RejectedMessage) -> DeadLetter {
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    let headers: HashMap<String, String> =
        rejected.headers.iter().map(|(key, value)| (clean(key), clean(value))).collect();
    let uuid = |header| headers.get(header).and_then(|text| parse_uuid(text));
    let sequence = headers.get(HEADER_SEQUENCE).and_then(|text| text.parse().ok());
    DeadLetter {
        reason: small(rejected.reason),
        detail: rejected.detail,
        queue: queue.to_owned(),
        message_id: message_id.to_owned(),
        node: uuid(HEADER_NODE),
        stream: uuid(HEADER_STREAM),
        sequence: sequence.filter(|sequence| *sequence > 0),
        // What it was about cannot be told for sure.
        kinds: Vec::new(),
        headers: serde_json::json!(headers),
        body: rejected.body,
        body_size_bytes: i64::try_from(rejected.body_size_bytes).unwrap_or(i64::MAX),
    }
}

type Refusal = (DeadLetterReason, String);

fn invalid(field: &str, problem: &str) -> Refusal {
    (DeadLetterReason::InvalidField, format!("{field}: {problem}"))
}

fn check_batch(batch: &EventBatch) -> Result<Batch, Refusal> {
    if batch.schema_version != SCHEMA_VERSION {
        let detail = format!("schema_version: {} is not {SCHEMA_VERSION}", batch.schema_version);
        return Err((DeadLetterReason::UnknownVersion, detail));
    }
    let no_node = |problem: &str| (DeadLetterReason::InvalidNode, format!("node.uid: {problem}"));
    let node = batch.node.as_ref().ok_or_else(|| no_node("is missing"))?;
    let uid = parse_uuid(&node.uid).ok_or_else(|| no_node("is not a UUID"))?;
    let stream = parse_uuid(&batch.stream).ok_or_else(|| invalid("stream", "is not a UUID"))?;
    if batch.sequence < 1 {
        return Err(invalid("sequence", "must be at least 1"));
    }
    if batch.observations.len() > MAX_OBSERVATIONS {
        let detail = format!("observations: {} are more than {MAX_OBSERVATIONS}", batch.observations.len());
        return Err((DeadLetterReason::TooLarge, detail));
    }
    let mut observations = Vec::with_capacity(batch.observations.len());
    for (index, observation) in batch.observations.iter().enumerate() {
        observations.push(check_observation(uid, index, observation)?);
    }
    let mut snapshots = Vec::with_capacity(batch.snapshots.len());
    for (index, snapshot) in batch.snapshots.iter().enumerate() {
        let field = |name: &str| format!("snapshots[{index}].{name}");
        observed_kind(snapshot.kind).ok_or_else(|| invalid(&field("kind"), "is not an observed kind"))?;
        if !(1..=batch.sequence).contains(&snapshot.first_sequence)
            || snapshot.last_sequence != batch.sequence
        {
            return Err(invalid(
                &field("last_sequence"),
                "must be that of the batch, and not before the first",
            ));
        }
        snapshots.push(SnapshotRow {
            node_uid: uid,
            stream,
            kind: small(snapshot.kind),
            first_sequence: snapshot.first_sequence,
            last_sequence: snapshot.last_sequence,
        });
    }
    let packages: usize = batch.image_contents.iter().map(|content| content.packages.len()).sum();
    if packages > MAX_CONTENT_PACKAGES {
        let detail = format!("image_contents: {packages} packages are more than {MAX_CONTENT_PACKAGES}");
        return Err((DeadLetterReason::TooLarge, detail));
    }
    let contents =
        batch.image_contents.iter().enumerate().map(|(index, content)| check_content(index, content));
    let contents = contents.collect::<Result<Vec<Part>, Refusal>>()?;
    Ok(Batch {
        node: NewNode { uid, cluster: node.cluster.clone(), display_name: node.display_name.clone() },
        stream,
        sequence: batch.sequence,
        observations,
        snapshots,
        contents,
        original: EventBatch::default(),
    })
}

fn observed_kind(kind: i32) -> Option<AssetKind> {
    AssetKind::try_from(kind).ok().filter(|kind| !matches!(kind, AssetKind::Unspecified | AssetKind::Custom))
}

fn check_observation(node: Uuid, index: usize, observation: &Observation) -> Result<Seen, Refusal> {
    let wrong = |name: &str, problem: &str| invalid(&format!("observations[{index}].{name}"), problem);
    let event = parse_uuid(&observation.event_id).ok_or_else(|| wrong("event_id", "is not a UUID"))?;
    let kind = observed_kind(observation.kind).ok_or_else(|| wrong("kind", "is not an observed kind"))?;
    let presence = observation.presence();
    if presence == Presence::Unspecified {
        return Err(wrong("presence", "is not given"));
    }
    if observation.natural_key.is_empty() {
        return Err(wrong("natural_key", "is empty"));
    }
    let absent = presence == Presence::Absent;
    if !absent && observation.state_hash.len() != STATE_HASH_BYTES {
        return Err(wrong("state_hash", "must have 16 bytes"));
    }
    if !absent && observation.display_name.is_empty() {
        return Err(wrong("display_name", "is empty"));
    }
    let details = match (&observation.details, absent) {
        (Some(AssetDetails { details: Some(details), .. }), false) if kind_of(details) != kind => {
            return Err(wrong("details", "are not of its kind"));
        }
        (Some(details), false) if details.details.is_some() => Some(details),
        (_, true) => None,
        _ => return Err(wrong("details", "are missing")),
    };
    let observe_time = observation.observe_time.and_then(|time| {
        DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or_default())
    });
    Ok(Seen {
        event,
        asset: asset_uid(node, kind, &observation.natural_key),
        kind,
        presence,
        natural_key: observation.natural_key.as_str().into(),
        display_name: observation.display_name.as_str().into(),
        state_hash: if absent { Bytes::new() } else { Bytes::copy_from_slice(&observation.state_hash) },
        details: details.map(|details| details.encode_to_vec().into()).unwrap_or_default(),
        attributes: searchable_details(details).into(),
        // The range of google.protobuf.Timestamp.
        observe_time: observe_time.filter(|time| (1..=9999).contains(&chrono::Datelike::year(time))),
    })
}

fn check_content(index: usize, content: &ImageContent) -> Result<Part, Refusal> {
    let wrong = |name: &str, problem: &str| invalid(&format!("image_contents[{index}].{name}"), problem);
    let digest = &content.image_digest;
    if digest.is_empty() || digest.len() > MAX_NATURAL_KEY_BYTES || digest.contains('\0') {
        return Err(wrong("image_digest", "must be 1 to 4,096 bytes without NUL"));
    }
    if content.content_hash.len() != STATE_HASH_BYTES {
        return Err(wrong("content_hash", "must have 16 bytes"));
    }
    if !(1..=MAX_CONTENT_PARTS).contains(&content.parts) {
        return Err(wrong("parts", "must be 1 to 1,000"));
    }
    if !(1..=content.parts).contains(&content.part) {
        return Err(wrong("part", "must be 1 to the number of parts"));
    }
    if content.source() == ImageContentSource::Unspecified {
        return Err(wrong("source", "is not known"));
    }
    for (place, package) in content.packages.iter().enumerate() {
        if package.package.is_empty() {
            return Err(wrong(&format!("packages[{place}].package"), "is empty"));
        }
        if let Some(field) = nul_in(package) {
            return Err(wrong(&format!("packages[{place}].{field}"), "has a NUL character"));
        }
    }
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    Ok(Part {
        key: ListKey {
            image: image_uid(digest),
            source: small(content.source),
            content_hash: content.content_hash.clone(),
            parts: number(content.parts),
        },
        digest: digest.clone(),
        number: number(content.part),
        packages: content.packages.clone(),
    })
}

/// Field of a package that has a NUL, which PostgreSQL refuses.
fn nul_in(package: &PackageDetails) -> Option<&'static str> {
    let texts = [
        ("package", &package.package),
        ("version", &package.version),
        ("architecture", &package.architecture),
        ("manager", &package.manager),
        ("source", &package.source),
        ("source_version", &package.source_version),
        ("maintainer", &package.maintainer),
        ("section", &package.section),
        ("status", &package.status),
        ("summary", &package.summary),
        ("license", &package.license),
        ("homepage", &package.homepage),
    ];
    texts.iter().find(|(_, text)| text.contains('\0')).map(|(field, _)| *field)
}
