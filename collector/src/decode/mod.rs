//! Bytes from the queue → a batch that obeys every rule of the contract, or the
//! reason why it never will. Pure: knows neither broker nor processor.

mod heartbeat;
#[cfg(test)]
mod tests;

use contracts::v1::{DeadLetterReason, EventBatch, IngestEventsRequest, queue_message::Content};
use kit::decode::{Claims, NulFinder, Unpacker, agrees, known_version, rules};
use prost::Message;
use uuid::Uuid;

pub use kit::decode::{Contract, ContractError, Rejection};

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

impl Envelope {
    /// Where it says it comes from.
    fn claims(&self) -> Claims<'_> {
        Claims {
            routing_key: &self.routing_key,
            node: self.node.as_deref(),
            stream: self.stream.as_deref(),
            sequence: self.sequence,
        }
    }
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
        let decoded = IngestEventsRequest::decode(self.request.as_slice())
            // Who reads it knows of no request, unless that alone is at fault.
            .map_err(|error| undecodable(EventBatch::decode(plain).err().unwrap_or(error)))?;
        let content = decoded.messages.into_iter().next().and_then(|message| message.content);
        let Some(Content::Batch(mut batch)) = content else {
            unreachable!("a request of one batch was encoded")
        };
        known_version(batch.schema_version)?;
        let node = rules::node(batch.node.as_ref())?;
        agrees(&envelope.claims(), node, &batch)?;
        rules::batch(&mut batch, &mut self.nul)?;
        Ok(Checked { node, batch, request: &self.request })
    }
}
