//! Bytes from the queue → a batch that obeys every rule of the contract, or the
//! reason why it never will. Pure: knows neither broker nor processor.

mod heartbeat;
#[cfg(test)]
mod tests;

use contracts::v1::{DeadLetterReason, EventBatch};
use kit::decode::{Claims, NulFinder, Unpacker, agrees, known_version, rules};
use prost::Message;
use uuid::Uuid;

pub use kit::decode::{Contract, ContractError, Rejection};

/// What came along with a body. A header that is missing or has another type
/// is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
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
}

impl Decoder {
    /// A decoder for the contracts of this build.
    pub fn new(contract: &Contract) -> Self {
        Self { unpacker: Unpacker::default(), nul: NulFinder::new(contract) }
    }

    /// Decodes the body of an event queue's message; answers the node too.
    ///
    /// # Errors
    /// Why it can never be applied.
    pub fn batch(&mut self, envelope: &Envelope, body: &[u8]) -> Result<(Uuid, EventBatch), Rejection> {
        let plain = self.unpacker.unpack(envelope.content_encoding.as_deref(), body)?;
        let batch = EventBatch::decode(plain)
            .map_err(|error| Rejection::new(DeadLetterReason::Undecodable, format!("body: {error}")))?;
        known_version(batch.schema_version)?;
        let node = rules::node(batch.node.as_ref())?;
        agrees(&envelope.claims(), node, &batch)?;
        rules::batch(&batch, &mut self.nul)?;
        Ok((node, batch))
    }
}
