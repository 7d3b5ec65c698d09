//! Dead letters: kept with the right reason, read, replayed once, deleted.

mod listing;
mod replay;

use std::{collections::HashMap, time::Duration};

use contracts::v1::{
    DeadLetter, DeadLetterFilter, DeadLetterReason, DeleteDeadLettersRequest, EventBatch,
    GetDeadLetterRequest, IngestEventsRequest, IngestResult, ListDeadLettersRequest, ListDeadLettersResponse,
    ListEventsRequest, Observation, Presence, QueueMessage, RejectedMessage, ReplayDeadLettersRequest,
    ReplayDeadLettersResponse, dead_letter_service_client::DeadLetterServiceClient, queue_message::Content,
};
use kit::queue::{HEADER_NODE, HEADER_SEQUENCE, HEADER_STREAM, batch_key};
use prost::Message as _;
use prost_types::Timestamp;
use testkit::{wait_for, wait_until};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::running::{Agent, Running, message, package};

use DeadLetterReason::{InvalidField, InvalidNode, RefusedByStore, TooLarge, Undecodable, UnknownVersion};

const DEADLINE: Duration = Duration::from_secs(30);

impl Running {
    fn letters(&self) -> DeadLetterServiceClient<Channel> {
        DeadLetterServiceClient::new(self.channel.clone())
    }

    async fn page(&self, request: ListDeadLettersRequest) -> Result<ListDeadLettersResponse, Status> {
        self.letters().list_dead_letters(request).await.map(tonic::Response::into_inner)
    }

    async fn stored(&self) -> Vec<DeadLetter> {
        let request = ListDeadLettersRequest { page_size: 1000, ..Default::default() };
        self.page(request).await.unwrap().dead_letters
    }

    /// Replays to the end.
    async fn replay(&self, request: ReplayDeadLettersRequest) -> ReplayDeadLettersResponse {
        let mut answers = self.letters().replay_dead_letters(request).await.unwrap().into_inner();
        let mut last = ReplayDeadLettersResponse::default();
        while let Some(answer) = answers.message().await.unwrap() {
            assert!(!last.done, "nothing follows the last answer");
            last = answer;
        }
        assert!(last.done);
        assert_eq!(last.total, last.committed + last.duplicates + last.still_dead + last.gone, "{last:?}");
        last
    }

    async fn keep(&self, letters: Vec<QueueMessage>) {
        let count = letters.len();
        let request = IngestEventsRequest { messages: letters };
        let answer = self.ingest().ingest_events(request).await.unwrap().into_inner();
        assert_eq!(answer.results().collect::<Vec<_>>(), vec![IngestResult::DeadLettered; count]);
    }

    async fn logged(&self) -> usize {
        let request = ListEventsRequest { page_size: 1000, ..Default::default() };
        self.events().list_events(request).await.unwrap().into_inner().events.len()
    }
}

async fn replays(running: &Running) -> f64 {
    running.metric("assettrack_dead_letter_replays_running").await
}

fn all() -> ReplayDeadLettersRequest {
    ReplayDeadLettersRequest { all: true, messages_per_second: 10_000, ..Default::default() }
}

/// A message as a collector that cannot apply it hands it on.
fn rejected(agent: &Agent, sequence: i64, reason: DeadLetterReason, body: Vec<u8>) -> QueueMessage {
    let headers = [
        ("routing_key".to_owned(), batch_key(agent.node)),
        (HEADER_NODE.to_owned(), agent.node.to_string()),
        (HEADER_STREAM.to_owned(), agent.stream.to_string()),
        (HEADER_SEQUENCE.to_owned(), sequence.to_string()),
    ];
    QueueMessage {
        message_id: format!("m-{sequence}"),
        queue: "assettrack.events.0".to_owned(),
        content: Some(Content::Rejected(RejectedMessage {
            reason: reason.into(),
            detail: "as its collector found".to_owned(),
            body_size_bytes: body.len() as u64,
            body,
            headers: HashMap::from(headers),
        })),
    }
}

fn with_header(mut message: QueueMessage, name: &str, value: &str) -> QueueMessage {
    if let Some(Content::Rejected(rejected)) = &mut message.content {
        rejected.headers.insert(name.to_owned(), value.to_owned());
    }
    message
}

/// The sequence's batch, a right one but for what `change` does to it.
fn changed(agent: &Agent, sequence: i64, change: impl FnOnce(&mut EventBatch)) -> Vec<u8> {
    let name = format!("package-{sequence}");
    let mut batch = agent.batch(sequence, vec![package(Presence::Present, &name, "1")]);
    change(&mut batch);
    batch.encode_to_vec()
}

fn observation(change: impl FnOnce(&mut Observation)) -> impl FnOnce(&mut EventBatch) {
    |batch| change(&mut batch.observations[0])
}

/// One of each way to be no message, with the reason and what is said of it.
fn hopeless(agent: &Agent) -> Vec<(QueueMessage, DeadLetterReason, &'static str)> {
    let many = |batch: &mut EventBatch| {
        batch.observations = (0..501).map(|n| package(Presence::Present, &format!("p{n}"), "1")).collect();
    };
    let mut large = vec![7; 70_000];
    large[0] = 0xff;
    let mut cut = rejected(agent, 6, TooLarge, vec![7; 1 << 20]);
    if let Some(Content::Rejected(rejected)) = &mut cut.content {
        rejected.body_size_bytes = 3 << 20;
    }
    let nul = |one: &mut Observation| one.natural_key = "dpkg/n\0ul".to_owned();
    let deep_nul = |one: &mut Observation| {
        let details = one.details.as_mut().unwrap().details.as_mut().unwrap();
        let contracts::v1::asset_details::Details::Package(package) = details else { panic!("a package") };
        package.version = "1\0".to_owned();
    };
    let time = |one: &mut Observation| {
        one.observe_time = Some(Timestamp { seconds: 300_000_000_000, nanos: 0 });
    };
    let wrong = |sequence, reason, change: Box<dyn FnOnce(&mut EventBatch)>| {
        rejected(agent, sequence, reason, changed(agent, sequence, change))
    };
    let other = Agent::new();
    vec![
        (rejected(agent, 1, Undecodable, b"\xff\xff\xffjunk".to_vec()), Undecodable, "body: "),
        (
            with_header(rejected(agent, 2, Undecodable, b"no zstd".to_vec()), "content-encoding", "zstd"),
            Undecodable,
            "body: zstd",
        ),
        (
            wrong(3, UnknownVersion, Box::new(|batch| batch.schema_version = 99)),
            UnknownVersion,
            "schema_version: 99",
        ),
        (wrong(4, InvalidField, Box::new(many)), InvalidField, "observations: are 501"),
        (rejected(agent, 5, TooLarge, large), TooLarge, "body: 70000 bytes"),
        (cut, TooLarge, "body: of 3145728 bytes only 1048576 were kept"),
        (
            wrong(7, InvalidField, Box::new(observation(|one| one.event_id.clear()))),
            InvalidField,
            "observations[0].event_id: ",
        ),
        (wrong(8, InvalidNode, Box::new(|batch| batch.node = None)), InvalidNode, "node: is missing"),
        (
            wrong(9, InvalidField, Box::new(observation(nul))),
            InvalidField,
            "observations[0].natural_key: has a NUL",
        ),
        (
            wrong(10, InvalidField, Box::new(observation(deep_nul))),
            InvalidField,
            "observations[0].details.package.version: has a NUL",
        ),
        (
            wrong(11, InvalidField, Box::new(observation(time))),
            InvalidField,
            "observations[0].observe_time: ",
        ),
        (
            with_header(
                rejected(agent, 12, InvalidNode, changed(agent, 12, |_| {})),
                "routing_key",
                &batch_key(other.node),
            ),
            InvalidNode,
            "routing_key: is ",
        ),
        (
            with_header(
                rejected(agent, 13, InvalidNode, changed(agent, 13, |_| {})),
                HEADER_NODE,
                &other.node.to_string(),
            ),
            InvalidNode,
            "headers.assettrack-node: is ",
        ),
    ]
}
