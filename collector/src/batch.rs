//! Gathers messages into requests to the processor. Pure: time is an argument.
//!
//! A message is kept in its encoded form alone: a retry sends the same bytes
//! again, and what waits is as small as it can be.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use contracts::v1::{IngestEventsRequest, QueueMessage};
use prost::Message;

use crate::stats::Traffic;

/// Most messages of a request (ingest_service.proto).
const MAX_MESSAGES: usize = 1000;
/// Most bytes that one message adds: a rejected one of 1 MiB, with its headers
/// and detail; a decoded one is far smaller.
pub const MAX_MESSAGE_BYTES: usize = (1 << 20) + (128 << 10);
/// A request that has this much takes no more, so that none is over 3 MiB. The
/// contract allows 4 MiB.
const FULL_BYTES: usize = (3 << 20) - MAX_MESSAGE_BYTES;

/// When a request is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Observations at which it goes. One message more may be over it.
    pub events: usize,
    /// How long its first message waits for others.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 1000, wait: Duration::from_millis(50) }
    }
}

/// A message within a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Delivery tag, valid on the channel it came by.
    pub tag: u64,
    /// What it counts as, once it is committed.
    pub traffic: Traffic,
    /// Where its bytes end in the body.
    end: usize,
}

/// An encoded IngestEventsRequest with what is known of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Body of the call.
    pub body: Bytes,
    /// Its messages, in order.
    pub items: Vec<Item>,
}

impl Request {
    /// Two halves, for finding the message that the processor refuses. `None`
    /// when there is only one message.
    pub fn split(mut self) -> Option<(Self, Self)> {
        if self.items.len() < 2 {
            return None;
        }
        let mut items = self.items.split_off(self.items.len() / 2);
        let cut = self.items.last()?.end;
        for item in &mut items {
            item.end -= cut;
        }
        let body = self.body.split_off(cut);
        Some((self, Self { body, items }))
    }
}

/// The request that is being filled.
#[derive(Debug)]
pub struct Batcher {
    limits: Limits,
    body: BytesMut,
    items: Vec<Item>,
    events: usize,
    first: Option<Instant>,
}

impl Batcher {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self { limits, body: BytesMut::new(), items: Vec::new(), events: 0, first: None }
    }

    /// Adds a message, of [`MAX_MESSAGE_BYTES`] at most. To be called only
    /// while it is not [full](Self::is_full).
    pub fn push(&mut self, now: Instant, tag: u64, message: QueueMessage, traffic: Traffic) {
        let request = IngestEventsRequest { messages: vec![message] };
        self.push_encoded(now, tag, &request.encode_to_vec(), traffic);
    }

    /// The same with an IngestEventsRequest of one message that is encoded
    /// already.
    pub fn push_encoded(&mut self, now: Instant, tag: u64, request: &[u8], traffic: Traffic) {
        // Repeated fields concatenate: requests of one message each, one after
        // the other, are one request of all.
        self.body.extend_from_slice(request);
        self.events += traffic.events();
        self.items.push(Item { tag, traffic, end: self.body.len() });
        self.first.get_or_insert(now);
    }

    /// Whether it is to go before anything is added.
    pub fn is_full(&self) -> bool {
        self.events >= self.limits.events || self.items.len() >= MAX_MESSAGES || self.body.len() >= FULL_BYTES
    }

    /// Whether it has nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// When its first message has waited long enough; `None` if it is empty.
    pub fn deadline(&self) -> Option<Instant> {
        self.first.map(|first| first + self.limits.wait)
    }

    /// Whether it is to go now. `idle`: nothing is being delivered and nothing
    /// waits to be added, so waiting would gain nothing.
    pub fn is_due(&self, now: Instant, idle: bool) -> bool {
        !self.is_empty()
            && (idle || self.is_full() || self.deadline().is_some_and(|deadline| deadline <= now))
    }

    /// Takes out what it has.
    pub fn take(&mut self) -> Request {
        self.events = 0;
        self.first = None;
        Request { body: self.body.split().freeze(), items: std::mem::take(&mut self.items) }
    }
}

#[cfg(test)]
mod tests {
    use contracts::v1::{EventBatch, Observation, RejectedMessage, queue_message::Content};

    use super::*;

    fn message(events: usize, padding: usize) -> QueueMessage {
        let batch = EventBatch { observations: vec![Observation::default(); events], ..Default::default() };
        QueueMessage {
            message_id: "m".repeat(padding),
            queue: "q".into(),
            content: Some(Content::Batch(batch)),
        }
    }

    fn push(batcher: &mut Batcher, now: Instant, tag: u64, message: QueueMessage) {
        let traffic = match &message.content {
            Some(Content::Batch(batch)) => Traffic::of(uuid::Uuid::nil(), batch, None),
            _ => Traffic::rejected(contracts::v1::DeadLetterReason::Undecodable),
        };
        batcher.push(now, tag, message, traffic);
    }

    #[test]
    fn due_when_full_or_late_or_idle() {
        let start = Instant::now();
        let (soon, late) = (start + Duration::from_millis(49), start + Duration::from_millis(50));
        // messages × events each, asked when, idle → full, due
        let table = [
            (0, 0, late, true, false, false),
            (1, 1, start, true, false, true),
            (1, 1, soon, false, false, false),
            (1, 1, late, false, false, true),
            (2, 499, soon, false, false, false),
            (2, 500, start, false, true, true),
            (20, 50, start, false, true, true),
            (999, 0, soon, false, false, false),
            (1000, 0, start, false, true, true),
        ];
        for (messages, events, now, idle, full, due) in table {
            let mut batcher = Batcher::new(Limits::default());
            for tag in 0..messages {
                push(&mut batcher, start, tag, message(events, 1));
            }
            assert_eq!((batcher.is_full(), batcher.is_due(now, idle)), (full, due), "{messages} × {events}");
        }
    }

    #[test]
    fn the_wait_counts_from_the_first_message() {
        let start = Instant::now();
        let mut batcher = Batcher::new(Limits::default());
        assert_eq!(batcher.deadline(), None);
        push(&mut batcher, start, 1, message(1, 1));
        push(&mut batcher, start + Duration::from_millis(40), 2, message(1, 1));
        assert_eq!(batcher.deadline(), Some(start + Duration::from_millis(50)));
        batcher.take();
        assert_eq!(batcher.deadline(), None);
        assert!(batcher.is_empty());
    }

    #[test]
    fn the_largest_messages_make_no_request_above_3_mib() {
        let rejected = || QueueMessage {
            message_id: "i".repeat(255),
            queue: "q".repeat(255),
            content: Some(Content::Rejected(RejectedMessage {
                body: vec![0; 1 << 20],
                detail: "d".repeat(2048),
                headers: [("h".to_owned(), "v".repeat(16 << 10))].into(),
                ..Default::default()
            })),
        };
        assert!(rejected().encoded_len() <= MAX_MESSAGE_BYTES);
        let mut batcher = Batcher::new(Limits::default());
        push(&mut batcher, Instant::now(), 0, message(1, FULL_BYTES - 100));
        assert!(!batcher.is_full());
        push(&mut batcher, Instant::now(), 1, rejected());
        assert!(batcher.is_full());
        assert!(batcher.take().body.len() <= 3 << 20);
    }

    #[test]
    fn what_goes_in_comes_out_whole_and_in_halves() {
        for count in [1_u64, 2, 3, 7, 100] {
            let messages: Vec<QueueMessage> =
                (0..count).map(|n| message(usize::try_from(n).unwrap() % 3, 1)).collect();
            let mut batcher = Batcher::new(Limits { events: 10_000, ..Limits::default() });
            for (tag, message) in (0..count).zip(messages.clone()) {
                push(&mut batcher, Instant::now(), tag, message);
            }
            let request = batcher.take();
            assert_eq!(decoded(&request), messages);
            let mut ones = Vec::new();
            halve(request, &mut ones);
            assert_eq!(
                ones.iter().map(|one| one.items[0].tag).collect::<Vec<_>>(),
                (0..count).collect::<Vec<_>>()
            );
            assert_eq!(ones.iter().flat_map(decoded).collect::<Vec<_>>(), messages);
        }
    }

    fn decoded(request: &Request) -> Vec<QueueMessage> {
        IngestEventsRequest::decode(request.body.clone()).unwrap().messages
    }

    fn halve(request: Request, ones: &mut Vec<Request>) {
        let whole = request.clone();
        match request.split() {
            None => ones.push(whole),
            Some((first, second)) => {
                halve(first, ones);
                halve(second, ones);
            }
        }
    }
}
