//! Bytes from the queue → a batch that obeys every rule of the contract, or the
//! reason why it never will. Pure: knows neither broker nor processor.

mod body;
mod heartbeat;
mod rejection;
mod rules;
#[cfg(test)]
mod tests;
mod text;

use contracts::v1::{DeadLetterReason, EventBatch, IngestEventsRequest, queue_message::Content};
use kit::queue::{HEADER_NODE, HEADER_SEQUENCE, HEADER_STREAM, SCHEMA_VERSION, batch_key};
use prost::Message;
use uuid::Uuid;

pub use rejection::Rejection;
pub use text::{Contract, ContractError};

use body::Unpacker;
use text::NulFinder;

use crate::wire;

/// What came along with a body. A header that is missing or has another type
/// is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// AMQP message ID; empty if there is none.
    pub message_id: String,
    /// AMQP routing key.
    pub routing_key: String,
    /// AMQP content encoding.
    pub content_encoding: Option<String>,
    /// Header of the node's UUID.
    pub node: Option<String>,
    /// Header of the stream's UUID.
    pub stream: Option<String>,
    /// Header of the sequence.
    pub sequence: Option<i64>,
    /// Header of the time of publishing, milliseconds since the epoch by the
    /// agent's clock. Informs, decides nothing.
    pub published_millis: Option<i64>,
}

/// Decodes and validates messages. Keeps its buffers: one a consumer.
pub struct Decoder {
    unpacker: Unpacker,
    nul: NulFinder,
    request: Vec<u8>,
}

/// A batch that obeys every rule.
#[derive(Debug)]
pub struct Checked<'a> {
    /// Who speaks.
    pub node: Uuid,
    /// What it says.
    pub batch: EventBatch,
    /// An IngestEventsRequest of this message alone, with the agent's bytes.
    pub request: &'a [u8],
}

impl Decoder {
    /// A decoder for the contracts of this build.
    pub fn new(contract: &Contract) -> Self {
        Self { unpacker: Unpacker::default(), nul: NulFinder::new(contract), request: Vec::new() }
    }

    /// Decodes the body of a message of the event queue `queue`.
    ///
    /// # Errors
    /// Why it can never be applied.
    pub fn batch(&mut self, envelope: &Envelope, queue: &str, body: &[u8]) -> Result<Checked<'_>, Rejection> {
        let undecodable = |error| Rejection::new(DeadLetterReason::Undecodable, format!("body: {error}"));
        let plain = self.unpacker.unpack(envelope.content_encoding.as_deref(), body)?;
        // The request is decoded, not the body, so that what is nested as deep
        // as a body may be, but too deep within a request, is found here, and
        // does not make the processor refuse the request.
        self.request.clear();
        wire::request_of_batch(&mut self.request, &envelope.message_id, queue, plain);
        let decoded = IngestEventsRequest::decode(self.request.as_slice()).map_err(undecodable)?;
        let content = decoded.messages.into_iter().next().and_then(|message| message.content);
        let Some(Content::Batch(mut batch)) = content else {
            unreachable!("a request of one batch was encoded")
        };
        known_version(batch.schema_version)?;
        let node = rules::node(batch.node.as_ref())?;
        agrees(envelope, node, &batch)?;
        rules::batch(&mut batch, &mut self.nul)?;
        Ok(Checked { node, batch, request: &self.request })
    }
}

fn known_version(version: u32) -> Result<(), Rejection> {
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
fn agrees(envelope: &Envelope, node: Uuid, batch: &EventBatch) -> Result<(), Rejection> {
    let header = |name: &str| format!("headers.{name}");
    if envelope.node.as_deref() != Some(node.to_string().as_str()) {
        let found = envelope.node.as_deref().unwrap_or("missing");
        return Err(Rejection::node(&header(HEADER_NODE), format!("is {found:?}, node.uid is {node}")));
    }
    let key = batch_key(node);
    if envelope.routing_key != key {
        let found = &envelope.routing_key;
        return Err(Rejection::node("routing_key", format!("is {found:?}, must be {key}")));
    }
    if envelope.stream.as_deref() != Some(batch.stream.as_str()) {
        let found = envelope.stream.as_deref().unwrap_or("missing");
        return Err(Rejection::field(
            &header(HEADER_STREAM),
            format!("is {found:?}, stream is {:?}", batch.stream),
        ));
    }
    if envelope.sequence != Some(batch.sequence) {
        let found = envelope.sequence.map_or("missing".to_owned(), |sequence| sequence.to_string());
        return Err(Rejection::field(
            &header(HEADER_SEQUENCE),
            format!("is {found}, sequence is {}", batch.sequence),
        ));
    }
    Ok(())
}
