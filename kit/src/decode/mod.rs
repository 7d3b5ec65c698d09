//! What a batch must obey, whoever takes it: collectors check what comes by
//! this, and the processor what is replayed of its dead letters, so that nothing
//! slips past by a replay. Pure.

mod body;
mod rejection;
pub mod rules;
mod text;

use std::collections::HashMap;

use contracts::v1::{DeadLetterReason, EventBatch};
use uuid::Uuid;

pub use body::Unpacker;
pub use rejection::Rejection;
pub use text::{Contract, ContractError, NulFinder};

use crate::queue::{HEADER_NODE, HEADER_SEQUENCE, HEADER_STREAM, SCHEMA_VERSION, batch_key};

/// Name under which a dead letter keeps its routing key.
pub const KEPT_ROUTING_KEY: &str = "routing_key";
/// Name under which a dead letter keeps its content encoding, without which the
/// body cannot be read.
pub const KEPT_ENCODING: &str = "content-encoding";

/// Where a message says it comes from, beside what its body says. A header that
/// is missing or has another type is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims<'a> {
    /// AMQP routing key.
    pub routing_key: &'a str,
    /// Header of the node's UUID.
    pub node: Option<&'a str>,
    /// Header of the stream's UUID.
    pub stream: Option<&'a str>,
    /// Header of the sequence.
    pub sequence: Option<i64>,
}

impl<'a> Claims<'a> {
    /// What a dead letter kept of them, as text.
    pub fn of_kept(kept: &'a HashMap<String, String>) -> Self {
        // The agent's headers stand under their own names, others do not.
        let header = |name: &str| kept.get(name).map(String::as_str);
        Self {
            routing_key: kept.get(KEPT_ROUTING_KEY).map(String::as_str).unwrap_or_default(),
            node: header(HEADER_NODE),
            stream: header(HEADER_STREAM),
            sequence: header(HEADER_SEQUENCE).and_then(|text| text.parse().ok()),
        }
    }
}

/// Checks the version of a batch or a heartbeat.
///
/// # Errors
/// This build does not know it.
pub fn known_version(version: u32) -> Result<(), Rejection> {
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    Err(Rejection::new(
        DeadLetterReason::UnknownVersion,
        format!("schema_version: {version} is not known, {SCHEMA_VERSION} is"),
    ))
}

/// Headers and routing key must say what the body says: routing and the
/// broker's own checks of who may publish for whom rest on them.
///
/// # Errors
/// They do not; what differs is named.
pub fn agrees(claims: &Claims<'_>, node: Uuid, batch: &EventBatch) -> Result<(), Rejection> {
    let header = |name: &str| format!("headers.{name}");
    if claims.node != Some(node.to_string().as_str()) {
        let found = claims.node.unwrap_or("missing");
        return Err(Rejection::node(&header(HEADER_NODE), format!("is {found:?}, node.uid is {node}")));
    }
    let key = batch_key(node);
    if claims.routing_key != key {
        let found = claims.routing_key;
        return Err(Rejection::node("routing_key", format!("is {found:?}, must be {key}")));
    }
    if claims.stream != Some(batch.stream.as_str()) {
        let found = claims.stream.unwrap_or("missing");
        return Err(Rejection::field(
            &header(HEADER_STREAM),
            format!("is {found:?}, stream is {:?}", batch.stream),
        ));
    }
    if claims.sequence != Some(batch.sequence) {
        let found = claims.sequence.map_or("missing".to_owned(), |sequence| sequence.to_string());
        return Err(Rejection::field(
            &header(HEADER_SEQUENCE),
            format!("is {found}, sequence is {}", batch.sequence),
        ));
    }
    Ok(())
}
