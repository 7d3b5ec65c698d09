//! AMQP properties and keys of what agents publish.

use kit::queue::{
    CONTENT_TYPE, ENCODING_ZSTD, HEADER_NODE, HEADER_PUBLISHED, HEADER_SEQUENCE, HEADER_STREAM,
};
use kit::time::unix_millis;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::parcel::{Content, Parcel};

const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

impl Parcel {
    /// AMQP properties, as an agent sets them. All but the times are the same at
    /// each attempt.
    pub fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(HEADER_NODE.into(), AMQPValue::LongString(self.node.to_string().into()));
        headers.insert(HEADER_STREAM.into(), AMQPValue::LongString(self.stream.to_string().into()));
        let now = unix_millis();
        headers.insert(HEADER_PUBLISHED.into(), AMQPValue::LongLongInt(now));
        let persistent = self.content != Content::Heartbeat;
        if persistent {
            headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongLongInt(self.sequence));
        }
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_timestamp(u64::try_from(now / 1000).unwrap_or_default())
            .with_delivery_mode(if persistent { PERSISTENT } else { TRANSIENT })
            .with_message_id(self.message_id.to_string().into())
            .with_headers(headers);
        if self.compressed { properties.with_content_encoding(ENCODING_ZSTD.into()) } else { properties }
    }

    /// AMQP routing key.
    pub fn routing_key(&self) -> String {
        match self.content {
            Content::Heartbeat => kit::queue::heartbeat_key(self.node),
            Content::Batch(_) | Content::Corrupt => kit::queue::batch_key(self.node),
        }
    }
}
