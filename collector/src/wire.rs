//! One batch as a message of an IngestEventsRequest, by hand: the agent's bytes
//! go on as they came, fields that this build does not know included, and are
//! not encoded again. Pure.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// IngestEventsRequest.messages.
const MESSAGES: u32 = 1;
/// QueueMessage.message_id.
const MESSAGE_ID: u32 = 1;
/// QueueMessage.queue.
const QUEUE: u32 = 2;
/// QueueMessage.batch.
const BATCH: u32 = 3;

/// Appends a request of one message, whose content is the encoded EventBatch
/// `batch`. Requests one after the other are one request of all.
pub fn request_of_batch(buffer: &mut Vec<u8>, message_id: &str, queue: &str, batch: &[u8]) {
    let fields = [(MESSAGE_ID, message_id.as_bytes()), (QUEUE, queue.as_bytes()), (BATCH, batch)];
    // Of the three the oneof alone is written when it is empty.
    let fields = fields.iter().filter(|(number, bytes)| *number == BATCH || !bytes.is_empty());
    // The keys of these numbers have one byte.
    let length: usize = fields.clone().map(|(_, bytes)| 1 + prefixed(bytes.len())).sum();
    buffer.reserve(1 + prefixed(length));
    encode_key(MESSAGES, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
    for (number, bytes) in fields {
        encode_key(*number, WireType::LengthDelimited, buffer);
        encode_varint(bytes.len() as u64, buffer);
        buffer.extend_from_slice(bytes);
    }
}

/// Bytes of something with its length before it.
fn prefixed(length: usize) -> usize {
    encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use contracts::v1::{EventBatch, IngestEventsRequest, QueueMessage, queue_message::Content};
    use prost::Message;

    use super::*;

    #[test]
    fn it_is_what_the_contract_says() {
        for (message_id, queue, stream) in
            [("", "", 0), ("m", "", 1), ("", "q", 200), ("0193b1a2-0000", "assettrack.events.0", 60_000)]
        {
            let batch = EventBatch { stream: "s".repeat(stream), ..EventBatch::default() };
            let mut by_hand = Vec::new();
            request_of_batch(&mut by_hand, message_id, queue, &batch.encode_to_vec());
            let message = QueueMessage {
                message_id: message_id.to_owned(),
                queue: queue.to_owned(),
                content: Some(Content::Batch(batch)),
            };
            let request = IngestEventsRequest { messages: vec![message] };
            assert_eq!(by_hand, request.encode_to_vec(), "{message_id} {queue} {stream}");
        }
    }
}
