//! AMQP properties of what the agent publishes, as the collector expects them.

use kit::queue::{
    CONTENT_TYPE, ENCODING_ZSTD, HEADER_NODE, HEADER_PUBLISHED, HEADER_SEQUENCE, HEADER_STREAM,
};
use kit::time::unix_millis;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

/// Delivery mode of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;
/// Delivery mode of one that need not.
const TRANSIENT: u8 = 1;

/// Properties of a batch. All but the times are the same at each attempt.
#[must_use]
pub fn of_batch(node: Uuid, parcel: &crate::store::Parcel) -> BasicProperties {
    let mut headers = headers(node, parcel.stream);
    headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongLongInt(parcel.sequence));
    let properties = properties(headers)
        .with_delivery_mode(PERSISTENT)
        .with_message_id(parcel.message_id.to_string().into());
    if parcel.compressed { properties.with_content_encoding(ENCODING_ZSTD.into()) } else { properties }
}

/// Properties of a heartbeat.
#[must_use]
pub fn of_heartbeat(node: Uuid, stream: Uuid) -> BasicProperties {
    properties(headers(node, stream))
        .with_delivery_mode(TRANSIENT)
        .with_message_id(Uuid::now_v7().to_string().into())
}

fn headers(node: Uuid, stream: Uuid) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(HEADER_NODE.into(), AMQPValue::LongString(node.to_string().into()));
    headers.insert(HEADER_STREAM.into(), AMQPValue::LongString(stream.to_string().into()));
    headers.insert(HEADER_PUBLISHED.into(), AMQPValue::LongLongInt(unix_millis()));
    headers
}

fn properties(headers: FieldTable) -> BasicProperties {
    let seconds = u64::try_from(unix_millis() / 1000).unwrap_or_default();
    BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_timestamp(seconds)
        .with_headers(headers)
}
