//! The arguments of the queues, by the broker's version. Pure.

use kit::queue::HEARTBEAT_TTL_MILLIS;
use lapin::types::{AMQPValue, FieldTable};

/// The argument for the type of a queue.
pub const QUEUE_TYPE: &str = "x-queue-type";
/// Heartbeats beyond this push out the oldest: they are worth 45 s at most.
const MAX_HEARTBEATS: i64 = 100_000;
/// The oldest version that AssetTrack is for: the first whose quorum queues
/// know a time to live.
const OLDEST: Version = Version { major: 3, minor: 10 };

/// A version of RabbitMQ, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Reads `4.2.1-rc.1` and the like; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().ok());
        Some(Self { major: parts.next()??, minor: parts.next()?? })
    }
}

/// What is wrong with a broker of this version, if anything is.
pub fn problem(version: &str) -> Option<String> {
    match Version::parse(version) {
        Some(known) if known >= OLDEST => None,
        Some(_) => {
            Some(format!("version {version}: wanted {}.{} or later of RabbitMQ", OLDEST.major, OLDEST.minor))
        }
        None => Some(format!("version {version:?} cannot be read: no queue gets x-delivery-limit")),
    }
}

/// Of an event queue that takes `max_bytes`.
pub fn event_queue(version: &str, max_bytes: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(QUEUE_TYPE.into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(max_bytes));
    if has_delivery_limit(version) {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    }
    arguments
}

/// Of the heartbeat queue, whatever the virtual host's default type is.
pub fn heartbeat_queue() -> FieldTable {
    let mut arguments = FieldTable::default();
    let ttl = i64::from(HEARTBEAT_TTL_MILLIS);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_HEARTBEATS));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments
}

/// The same arguments but one, which is to be as the broker has it: a value, or
/// `none`.
pub fn replaced(arguments: &FieldTable, argument: &str, found: &str) -> FieldTable {
    let mut replaced = FieldTable::default();
    for (name, value) in arguments.inner().iter().filter(|(name, _)| name.as_str() != argument) {
        replaced.insert(name.clone(), value.clone());
    }
    if found != "none" {
        let number = found.parse().map(AMQPValue::LongLongInt);
        replaced.insert(argument.into(), number.unwrap_or_else(|_| AMQPValue::LongString(found.into())));
    }
    replaced
}

/// RabbitMQ 4 gives up a message after 20 deliveries unless the limit is -1.
/// 3.x has no limit unless one is given, takes -1 all the same (3.10 was seen to),
/// and then gives up every message at its second delivery.
fn has_delivery_limit(version: &str) -> bool {
    Version::parse(version).is_some_and(|version| version.major >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_argument_is_replaced_by_what_was_found() {
        let wanted = event_queue("3.10.8", 7);
        let get = |table: &FieldTable, name: &str| table.inner().get(name).cloned();
        let without = replaced(&wanted, "x-overflow", "none");
        assert_eq!((without.inner().len(), get(&without, "x-overflow")), (2, None));
        let smaller = replaced(&wanted, "x-max-length-bytes", "5");
        assert_eq!(get(&smaller, "x-max-length-bytes"), Some(AMQPValue::LongLongInt(5)));
        let other = replaced(&wanted, "x-dead-letter-exchange", "dlx");
        assert_eq!(get(&other, "x-dead-letter-exchange"), Some(AMQPValue::LongString("dlx".into())));
        assert_eq!(other.inner().len(), 4);
    }

    #[test]
    fn arguments_follow_the_version() {
        // version → delivery limit lifted, fit for use
        for (version, limit, fit) in [
            ("3.8.9", false, false),
            ("3.9.29", false, false),
            ("3.10.0", false, true),
            ("3.10.8", false, true),
            ("3.11.28", false, true),
            ("3.12.14", false, true),
            ("3.13.7", false, true),
            ("3.13.0-rc.1", false, true),
            ("4.0.0", true, true),
            ("4.0.0-beta.3", true, true),
            ("4.1.4", true, true),
            ("4.2.1-rc.1", true, true),
            ("4.3.0+1.gabcdef", true, true),
            ("5.0", true, true),
            ("10.0.0", true, true),
            ("", false, false),
            ("?", false, false),
            ("4", false, false),
            ("rabbit-4.0", false, false),
        ] {
            let arguments = event_queue(version, 7);
            let found = arguments.inner().get("x-delivery-limit");
            assert_eq!(found, limit.then_some(&AMQPValue::LongInt(-1)), "{version}");
            assert_eq!(arguments.inner().len(), if limit { 4 } else { 3 }, "{version}");
            assert_eq!(arguments.inner().get("x-max-length-bytes"), Some(&AMQPValue::LongLongInt(7)));
            assert_eq!(problem(version).is_none(), fit, "{version}: {:?}", problem(version));
        }
    }
}
