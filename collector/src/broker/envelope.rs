//! What the client library hands over → what the rest of the collector knows.

use std::collections::HashMap;

use contracts::v1::RejectedMessage;
use kit::queue::{HEADER_NODE, HEADER_PUBLISHED, HEADER_SEQUENCE, HEADER_STREAM};
use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::decode::{Envelope, Rejection};

/// Headers by which agents say who speaks. Under their own names, for the
/// processor looks for them; other headers have a prefix, so that none can pass
/// for one of these, or for a property.
const AGENT_HEADERS: [&str; 4] = [HEADER_NODE, HEADER_STREAM, HEADER_SEQUENCE, HEADER_PUBLISHED];
/// Name of the property without which the body cannot be read.
const CONTENT_ENCODING: &str = "content-encoding";
/// Most bytes of a rejected body that are kept (ingest_service.proto).
const MAX_BODY_BYTES: usize = 1 << 20;
/// Most bytes of headers and properties that are kept with it.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// What came along with the body.
pub fn envelope(delivery: &Delivery) -> Envelope {
    let headers = delivery.properties.headers().as_ref();
    let text = |name: &str| headers.and_then(|headers| text_of(headers.inner().get(name)?));
    let number = |name: &str| headers.and_then(|headers| number_of(headers.inner().get(name)?));
    Envelope {
        message_id: message_id(delivery),
        routing_key: delivery.routing_key.to_string(),
        content_encoding: delivery.properties.content_encoding().as_ref().map(ShortString::to_string),
        node: text(HEADER_NODE),
        stream: text(HEADER_STREAM),
        sequence: number(HEADER_SEQUENCE),
        published_millis: number(HEADER_PUBLISHED),
    }
}

/// The AMQP message ID; empty if there is none.
fn message_id(delivery: &Delivery) -> String {
    delivery.properties.message_id().as_ref().map(|id| storable(id.as_str())).unwrap_or_default()
}

/// A message that cannot be applied, with all that helps to see why.
pub fn rejected(delivery: &Delivery, rejection: &Rejection) -> RejectedMessage {
    RejectedMessage {
        reason: rejection.reason.into(),
        detail: storable(&rejection.detail),
        body: delivery.data[..delivery.data.len().min(MAX_BODY_BYTES)].to_vec(),
        headers: headers(delivery),
        body_size_bytes: delivery.data.len() as u64,
    }
}

fn headers(delivery: &Delivery) -> HashMap<String, String> {
    let properties = &delivery.properties;
    let short = |value: &Option<ShortString>| value.as_ref().map(ShortString::to_string);
    let mut all = vec![
        ("routing_key".to_owned(), Some(delivery.routing_key.to_string())),
        ("exchange".to_owned(), Some(delivery.exchange.to_string())),
        ("content_type".to_owned(), short(properties.content_type())),
        (CONTENT_ENCODING.to_owned(), short(properties.content_encoding())),
        ("message_id".to_owned(), short(properties.message_id())),
        ("user_id".to_owned(), short(properties.user_id())),
        ("app_id".to_owned(), short(properties.app_id())),
        ("timestamp".to_owned(), properties.timestamp().map(|seconds| seconds.to_string())),
    ];
    let text = |value: &AMQPValue| {
        let text = text_of(value).or_else(|| number_of(value).map(|n| n.to_string()));
        Some(text.unwrap_or_else(|| format!("{value:?}")))
    };
    if let Some(table) = properties.headers().as_ref().map(FieldTable::inner) {
        // Those of the agent first: what there is no room for is left out.
        let agents = AGENT_HEADERS.iter().filter_map(|name| Some((*name, table.get(*name)?)));
        all.extend(agents.map(|(name, value)| (name.to_owned(), text(value))));
        let others = table.iter().filter(|(name, _)| !AGENT_HEADERS.contains(&name.as_str()));
        all.extend(others.map(|(name, value)| (format!("headers.{name}"), text(value))));
    }
    let mut room = MAX_HEADER_BYTES;
    let mut kept = HashMap::new();
    for (name, value) in all {
        let Some(value) = value else { continue };
        let (name, mut value) = (storable(&name), storable(&value));
        room = room.saturating_sub(name.len());
        value.truncate(value.floor_char_boundary(room));
        room -= value.len();
        if room == 0 {
            break;
        }
        kept.insert(name, value);
    }
    kept
}

/// PostgreSQL takes no NUL in text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn text_of(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn number_of(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some((*n).into()),
        AMQPValue::ShortShortUInt(n) => Some((*n).into()),
        AMQPValue::ShortInt(n) => Some((*n).into()),
        AMQPValue::ShortUInt(n) => Some((*n).into()),
        AMQPValue::LongInt(n) => Some((*n).into()),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::LongLongInt(n) => Some(*n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use contracts::v1::DeadLetterReason;
    use lapin::BasicProperties;

    use super::*;

    fn delivery(headers: FieldTable, data: Vec<u8>) -> Delivery {
        let mut delivery = Delivery::mock(1, "x".into(), "shard.1.n".into(), false, data);
        delivery.properties =
            BasicProperties::default().with_headers(headers).with_message_id("m\x001".into());
        delivery
    }

    #[test]
    fn headers_of_any_integer_type_are_read_and_foreign_ones_are_not() {
        let mut headers = FieldTable::default();
        headers.insert(HEADER_NODE.into(), AMQPValue::LongString("n".into()));
        headers.insert(HEADER_STREAM.into(), AMQPValue::Boolean(true));
        headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongInt(-7));
        headers.insert(HEADER_PUBLISHED.into(), AMQPValue::LongLongInt(i64::MAX));
        let envelope = envelope(&delivery(headers, Vec::new()));
        assert_eq!(envelope.node.as_deref(), Some("n"));
        assert_eq!(envelope.stream, None);
        assert_eq!((envelope.sequence, envelope.published_millis), (Some(-7), Some(i64::MAX)));
        assert_eq!(envelope.routing_key, "shard.1.n");
    }

    #[test]
    fn a_rejected_message_is_bounded_and_storable() {
        let mut headers = FieldTable::default();
        headers.insert("big".into(), AMQPValue::LongString("ä".repeat(40_000).into()));
        headers.insert("nul".into(), AMQPValue::LongString("a\0b".into()));
        let delivery = delivery(headers, vec![7; MAX_BODY_BYTES + 5]);
        let rejection = Rejection::new(DeadLetterReason::Undecodable, "x\0y");
        let message = rejected(&delivery, &rejection);
        assert_eq!(message.body.len(), MAX_BODY_BYTES);
        assert_eq!(message.body_size_bytes, MAX_BODY_BYTES as u64 + 5);
        assert_eq!(message.headers.get("routing_key").map(String::as_str), Some("shard.1.n"));
        let bytes: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= MAX_HEADER_BYTES, "{bytes}");
        let texts = message.headers.values().chain([&message.detail]);
        assert!(texts.into_iter().all(|text| !text.contains('\0')));
        assert_eq!(envelope(&delivery).message_id, "m\u{fffd}1");
    }

    #[test]
    fn who_speaks_and_how_it_is_packed_are_kept_under_their_own_names_whatever_else_there_is() {
        let long = |text: &str| AMQPValue::LongString(text.into());
        let mut headers = FieldTable::default();
        headers.insert("a".into(), long(&"x".repeat(MAX_HEADER_BYTES)));
        headers.insert(CONTENT_ENCODING.into(), long("forged"));
        headers.insert(HEADER_NODE.into(), long("n"));
        headers.insert(HEADER_STREAM.into(), long("s"));
        headers.insert(HEADER_SEQUENCE.into(), AMQPValue::LongInt(7));
        let mut delivery = delivery(headers, Vec::new());
        let rejection = Rejection::new(DeadLetterReason::Undecodable, "x");
        let kept = rejected(&delivery, &rejection).headers;
        let get = |name: &str| kept.get(name).map(String::as_str);
        assert_eq!((get(HEADER_NODE), get(HEADER_STREAM)), (Some("n"), Some("s")));
        assert_eq!((get(HEADER_SEQUENCE), get(CONTENT_ENCODING)), (Some("7"), None));

        delivery.properties = delivery.properties.with_content_encoding("zstd".into());
        let kept = rejected(&delivery, &rejection).headers;
        assert_eq!(kept.get(CONTENT_ENCODING).map(String::as_str), Some("zstd"));
    }
}
