//! Dead letters: kept with the right reason, read, replayed once, deleted.

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_stays_with_its_reason_however_often_it_is_replayed() {
    let running = Running::start().await;
    let agent = Agent::new();
    let table = hopeless(&agent);
    running.keep(table.iter().map(|(message, ..)| message.clone()).collect()).await;
    let stored = running.stored().await;
    assert_eq!(stored.len(), table.len());
    let of = |message: &QueueMessage, stored: &[DeadLetter]| -> DeadLetter {
        stored.iter().find(|letter| letter.message_id == message.message_id).unwrap().clone()
    };
    for (message, reason, _) in &table {
        assert_eq!(of(message, &stored).reason(), *reason, "{}", message.message_id);
    }

    let told = running.replay(all()).await;
    assert_eq!((told.total, told.still_dead), (table.len() as i64, table.len() as i64));
    let after = running.stored().await;
    for (message, reason, detail) in &table {
        let request = GetDeadLetterRequest { name: of(message, &stored).name };
        let letter = running.letters().get_dead_letter(request).await.unwrap().into_inner();
        let sequence: i64 = message.message_id.trim_start_matches("m-").parse().unwrap();
        let unreadable = [Undecodable, TooLarge].contains(reason) || sequence == 11;
        assert_eq!(letter.batch.is_none(), unreadable, "an impossible time has no form as JSON: {letter:?}");
        let (before, after) = (of(message, &stored), of(message, &after));
        assert_eq!(after.reason(), *reason, "{after:?}");
        assert!(after.detail.starts_with(detail), "{after:?}");
        assert_eq!((&after.name, after.count), (&before.name, 1), "a replay is no new message");
        assert_eq!(after.create_time, before.create_time);
        let (last, old) = (after.last_time.unwrap(), before.last_time.unwrap());
        assert!((last.seconds, last.nanos) > (old.seconds, old.nanos));
    }
    assert_eq!(running.logged().await, 0, "nothing slipped past the rules");
    running.stop().await;
}

/// Whatever it was kept for, by the collector that found it: what decides is what
/// is wrong now. The rules are those of collectors, also those that the processor
/// leaves to them otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_names_what_is_wrong_now() {
    let running = Running::start().await;
    let agent = Agent::new();
    let table = hopeless(&agent);
    let blamed = |message: &QueueMessage| {
        let mut message = message.clone();
        if let Some(Content::Rejected(rejected)) = &mut message.content {
            rejected.reason = RefusedByStore.into();
        }
        message
    };
    running.keep(table.iter().map(|(message, ..)| blamed(message)).collect()).await;
    // One of them is there with its right reason as well: they become one.
    running.keep(vec![table[0].0.clone()]).await;
    let told = running.replay(all()).await;
    assert_eq!(told.still_dead + told.gone, table.len() as i64 + 1, "{told:?}");
    let stored = running.stored().await;
    assert_eq!(stored.len(), table.len());
    for (message, reason, detail) in &table {
        let letter = stored.iter().find(|letter| letter.message_id == message.message_id).unwrap();
        assert_eq!(letter.reason(), *reason, "{letter:?}");
        assert!(letter.detail.starts_with(detail), "{letter:?}");
    }
    let joined = stored.iter().find(|letter| letter.message_id == "m-1").unwrap();
    assert_eq!(joined.count, 2);
    assert_eq!(running.logged().await, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refused_is_applied_once_the_cause_is_mended() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "old", "1")])]).await;
    let database = running.database.connect().await;
    // As a column that is too narrow would.
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'value too long for type character varying(20)' USING ERRCODE = '22001'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON asset FOR EACH ROW \
         WHEN (length(NEW.natural_key) > 20) EXECUTE FUNCTION refuse()";
    database.batch_execute(refuse).await.unwrap();
    let refused = agent.batch(2, vec![package(Presence::Present, "a-name-too-long-for-it", "1")]);
    running.keep(vec![message(refused.clone())]).await;
    let letter = running.stored().await.remove(0);
    assert_eq!(letter.reason(), RefusedByStore);
    assert!(letter.detail.contains("value too long"), "{letter:?}");
    assert_eq!(
        (letter.node, letter.node_display_name),
        (format!("nodes/{}", agent.node), "node-1".to_owned())
    );

    assert_eq!(running.replay(all()).await.still_dead, 1);
    assert_eq!(running.stored().await.len(), 1);
    database.batch_execute("DROP TRIGGER refuse ON asset").await.unwrap();
    assert_eq!(running.replay(all()).await.committed, 1);
    assert_eq!(running.stored().await, []);
    assert_eq!(running.list("a-name-too-long-for-it state=ACTIVE").await.len(), 1);
    assert_eq!(running.logged().await, 2);
    // The agent sends it again: it is known now.
    assert_eq!(running.deliver(vec![refused]).await, [IngestResult::Duplicate]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_at_once_apply_each_letter_once() {
    const LETTERS: i64 = 60;
    let running = Running::start().await;
    let agent = Agent::new();
    // Right ones that a collector of another version did not understand; the
    // first ten came another way before, and some are compressed.
    let bodies: Vec<Vec<u8>> = (1..=LETTERS).map(|sequence| changed(&agent, sequence, |_| {})).collect();
    for body in &bodies[..10] {
        running.deliver(vec![EventBatch::decode(body.as_slice()).unwrap()]).await;
    }
    let letters = bodies.iter().zip(1..).map(|(body, sequence)| {
        if sequence % 2 == 0 {
            return rejected(&agent, sequence, UnknownVersion, body.clone());
        }
        let packed = zstd::bulk::compress(body, 3).unwrap();
        with_header(rejected(&agent, sequence, UnknownVersion, packed), "content-encoding", "zstd")
    });
    running.keep(letters.collect()).await;

    let told = futures::future::join(running.replay(all()), running.replay(all())).await;
    assert_eq!(told.0.committed + told.1.committed, LETTERS - 10, "{told:?}");
    assert_eq!(told.0.duplicates + told.1.duplicates, 10, "{told:?}");
    assert_eq!(told.0.still_dead + told.1.still_dead, 0, "{told:?}");
    assert_eq!(running.stored().await, []);
    assert_eq!(running.logged().await, LETTERS as usize);
    assert_eq!(running.list("kind=PACKAGE state=ACTIVE").await.len(), LETTERS as usize);
    assert_eq!(running.replay(all()).await, ReplayDeadLettersResponse { done: true, ..Default::default() });
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_its_rate_tells_and_ends_with_its_caller() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = |sequences: std::ops::RangeInclusive<i64>| {
        sequences.map(|n| rejected(&agent, n, UnknownVersion, changed(&agent, n, |_| {}))).collect()
    };
    running.keep(letters(1..=21)).await;
    let begin = std::time::Instant::now();
    assert_eq!(
        running.replay(ReplayDeadLettersRequest { messages_per_second: 20, ..all() }).await.committed,
        21
    );
    assert!(begin.elapsed() >= Duration::from_millis(990), "{:?}", begin.elapsed());

    running.keep(letters(22..=122)).await;
    let slow = ReplayDeadLettersRequest { messages_per_second: 1, ..all() };
    let mut answers = running.letters().replay_dead_letters(slow).await.unwrap().into_inner();
    let mut told = Vec::new();
    let begin = std::time::Instant::now();
    while told.len() < 4 {
        told.push(answers.message().await.unwrap().unwrap());
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "at least once a second: {:?}", begin.elapsed());
    assert!(told.iter().all(|answer| !answer.done), "{told:?}");
    assert_eq!(told[3].total, 101);
    assert_eq!(replays(&running).await, 1.0);
    drop(answers);
    wait_until(DEADLINE, "the replay ends", async || replays(&running).await == 0.0).await;
    // At one a second, a hundred would have taken longer than the deadline.
    let left = running.stored().await.len();
    assert!((80..=100).contains(&left), "{left}");
    let database = running.database.connect().await;
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    let open: i64 = database.query_one(open, &[]).await.unwrap().get(0);
    assert_eq!(open, 0, "no transaction is left open");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_processor_ends_its_replays() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = (1..=30).map(|n| rejected(&agent, n, UnknownVersion, changed(&agent, n, |_| {})));
    running.keep(letters.collect()).await;
    let slow = ReplayDeadLettersRequest { messages_per_second: 1, ..all() };
    let mut answers = running.letters().replay_dead_letters(slow).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let begin = std::time::Instant::now();
    let end = async {
        loop {
            match answers.message().await {
                Ok(Some(answer)) => assert!(!answer.done, "{answer:?}"),
                ended => return ended,
            }
        }
    };
    let (ended, ()) = futures::future::join(end, running.stop()).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_read_counted_and_paged() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    let bodies: HashMap<i64, Vec<u8>> =
        (2..=8).map(|n| (n, changed(&agent, n, |batch| batch.schema_version = 7))).collect();
    let future = bodies.iter().map(|(n, body)| rejected(&agent, *n, UnknownVersion, body.clone()));
    running.keep(future.collect()).await;
    let junk = rejected(&agent, 9, Undecodable, b"\xff".to_vec());
    // The same bytes again, together and alone, only count.
    running.keep(vec![junk.clone(), junk.clone()]).await;
    running.keep(vec![junk]).await;

    let filter = |reasons: &[DeadLetterReason]| DeadLetterFilter {
        reasons: reasons.iter().map(|reason| (*reason).into()).collect(),
        ..Default::default()
    };
    let of = |filter| ListDeadLettersRequest { page_size: 3, filter: Some(filter), ..Default::default() };
    let first = running.page(of(filter(&[]))).await.unwrap();
    let counts: Vec<_> = first.counts.iter().map(|count| (count.reason(), count.count)).collect();
    assert_eq!(counts, [(Undecodable, 1), (UnknownVersion, 7)]);
    let mut seen = first.dead_letters;
    let mut token = first.next_page_token;
    while !token.is_empty() {
        let request = ListDeadLettersRequest { page_token: token, ..of(filter(&[])) };
        let page = running.page(request).await.unwrap();
        seen.extend(page.dead_letters);
        token = page.next_page_token;
    }
    let ids: Vec<&str> = seen.iter().map(|letter| letter.message_id.as_str()).collect();
    assert_eq!(ids.len(), 8);
    assert_eq!(ids[0], "m-9", "the newest first");
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 8);
    assert_eq!(seen[0].count, 3);
    assert!(seen.iter().all(|letter| letter.body.is_empty() && letter.headers.is_empty()));

    let names = async |filter| {
        let page = running.page(ListDeadLettersRequest { page_size: 100, ..of(filter) }).await.unwrap();
        let sum: i64 = page.counts.iter().map(|count| count.count).sum();
        assert_eq!(sum, page.dead_letters.len() as i64);
        page.dead_letters.len()
    };
    assert_eq!(names(filter(&[Undecodable, TooLarge])).await, 1);
    assert_eq!(names(filter(&[TooLarge])).await, 0);
    let node = DeadLetterFilter { node: format!("nodes/{}", agent.node), ..Default::default() };
    assert_eq!(names(node).await, 8);
    let queue = |queue: &str| DeadLetterFilter { queue: queue.to_owned(), ..Default::default() };
    assert_eq!((names(queue("assettrack.events.0")).await, names(queue("other")).await), (8, 0));
    let newest = seen[0].create_time;
    let before = DeadLetterFilter { before_time: newest, ..Default::default() };
    let since = DeadLetterFilter { since_time: newest, ..Default::default() };
    assert_eq!((names(before).await, names(since).await), (7, 1));

    let whole = async |name: &str| {
        let request = GetDeadLetterRequest { name: name.to_owned() };
        running.letters().get_dead_letter(request).await.unwrap().into_inner()
    };
    let letter = whole(&seen[1].name).await;
    assert_eq!(letter.body, bodies[&letter.sequence]);
    assert_eq!(letter.stream, agent.stream.to_string());
    assert_eq!(letter.batch.unwrap().schema_version, 7, "shown, although it breaks a rule");
    assert_eq!(letter.headers["routing_key"], batch_key(agent.node));
    assert_eq!(letter.node_display_name, "node-1");
    assert_eq!(letter.body_size_bytes, letter.body.len() as i64);
    assert_eq!(whole(&seen[0].name).await.batch, None);

    let kept = "assettrack_ingest_messages_dead_lettered_total{reason=\"UNDECODABLE\"}";
    assert_eq!(running.metric(kept).await, 3.0, "each message counts");
    for reason in ["UNDECODABLE\"} 1", "UNKNOWN_VERSION\"} 7", "TOO_LARGE\"} 0"] {
        let line = format!("assettrack_dead_letters_stored{{reason=\"{reason}");
        wait_until(DEADLINE, &line, async || {
            let (_, text) = testkit::http_get(running.admin, "/metrics").await.unwrap();
            text.lines().any(|found| found == line)
        })
        .await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_deleted_as_selected_and_no_others() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = (1..=1200).map(|n: i64| {
        rejected(&agent, n, if n <= 3 { Undecodable } else { UnknownVersion }, n.to_be_bytes().to_vec())
    });
    let letters: Vec<QueueMessage> = letters.collect();
    for chunk in letters.chunks(500) {
        running.keep(chunk.to_vec()).await;
    }
    let delete = async |request: DeleteDeadLettersRequest| {
        running.letters().delete_dead_letters(request).await.unwrap().into_inner().deleted_count
    };
    let undecodable = DeadLetterFilter { reasons: vec![Undecodable.into()], ..Default::default() };
    let under = |validate_only| DeleteDeadLettersRequest {
        filter: Some(undecodable.clone()),
        validate_only,
        ..Default::default()
    };
    assert_eq!(delete(under(true)).await, 3);
    assert_eq!(delete(under(false)).await, 3);
    assert_eq!(delete(under(false)).await, 0);
    let two: Vec<String> = running.stored().await.iter().take(2).map(|letter| letter.name.clone()).collect();
    let mut names = two.clone();
    names.push(format!("deadLetters/{}", Uuid::nil()));
    let named = |validate_only| DeleteDeadLettersRequest {
        names: names.clone(),
        validate_only,
        ..Default::default()
    };
    assert_eq!(delete(named(true)).await, 2);
    assert_eq!(delete(named(false)).await, 2);
    let missing = GetDeadLetterRequest { name: two[0].clone() };
    let missing = running.letters().get_dead_letter(missing).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_name, two[0]);
    let everything =
        |validate_only| DeleteDeadLettersRequest { all: true, validate_only, ..Default::default() };
    assert_eq!(delete(everything(true)).await, 1195);
    assert_eq!(delete(everything(false)).await, 1195);
    assert_eq!(running.stored().await, []);
    running.stop().await;
}

fn field_at_fault(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_about_letters_are_refused_by_field() {
    let running = Running::start().await;
    let mut letters = running.letters();
    let name = |name: &str| GetDeadLetterRequest { name: name.to_owned() };
    for wrong in ["", "deadLetters/x", "dead_letters/x", "nodes/00000000-0000-0000-0000-000000000000"] {
        assert_eq!(field_at_fault(&letters.get_dead_letter(name(wrong)).await.unwrap_err()), "name");
    }
    let none = name("deadLetters/00000000-0000-0000-0000-000000000000");
    assert_eq!(letters.get_dead_letter(none).await.unwrap_err().code(), Code::NotFound);

    let reason = |number: i32| DeadLetterFilter { reasons: vec![1, number], ..Default::default() };
    let time = |seconds: i64, nanos: i32| Some(Timestamp { seconds, nanos });
    let queue = |queue: &str| DeadLetterFilter { queue: queue.to_owned(), ..Default::default() };
    let filters = [
        (reason(0), "filter.reasons[1]"),
        (reason(99), "filter.reasons[1]"),
        (DeadLetterFilter { reasons: vec![1; 17], ..Default::default() }, "filter.reasons"),
        (DeadLetterFilter { node: "node-1".to_owned(), ..Default::default() }, "filter.node"),
        (queue("a\0b"), "filter.queue"),
        (queue(&"q".repeat(256)), "filter.queue"),
        (DeadLetterFilter { since_time: time(i64::MAX, 0), ..Default::default() }, "filter.since_time"),
        (DeadLetterFilter { before_time: time(0, -1), ..Default::default() }, "filter.before_time"),
        (
            DeadLetterFilter { since_time: time(5, 0), before_time: time(5, 0), ..Default::default() },
            "filter.before_time",
        ),
    ];
    for (filter, field) in filters {
        let list = ListDeadLettersRequest { filter: Some(filter.clone()), ..Default::default() };
        assert_eq!(field_at_fault(&running.page(list).await.unwrap_err()), field);
        let replay = ReplayDeadLettersRequest { filter: Some(filter.clone()), ..Default::default() };
        assert_eq!(field_at_fault(&letters.replay_dead_letters(replay).await.unwrap_err()), field);
        let delete = DeleteDeadLettersRequest { filter: Some(filter), ..Default::default() };
        assert_eq!(field_at_fault(&letters.delete_dead_letters(delete).await.unwrap_err()), field);
    }
    let page = |page_size, page_token: &str| ListDeadLettersRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    assert_eq!(field_at_fault(&running.page(page(-1, "")).await.unwrap_err()), "page_size");
    assert_eq!(field_at_fault(&running.page(page(0, "x")).await.unwrap_err()), "page_token");

    let filter = Some(DeadLetterFilter::default());
    let names = |count: usize| vec![format!("deadLetters/{}", Uuid::nil()); count];
    let selections = [
        (vec![], None, false, "names"),
        (vec![], filter.clone(), false, "filter"),
        (names(1), filter.clone(), false, "filter"),
        (names(1), None, true, "all"),
        (vec![], filter, true, "all"),
        (names(1001), None, false, "names"),
        (vec![names(1).remove(0), "x".to_owned()], None, false, "names[1]"),
    ];
    for (names, filter, all, field) in selections {
        let replay = ReplayDeadLettersRequest { names, filter, all, messages_per_second: 0 };
        let refused = letters.replay_dead_letters(replay.clone()).await.unwrap_err();
        assert_eq!(field_at_fault(&refused), field, "{replay:?}");
        let ReplayDeadLettersRequest { names, filter, all, .. } = replay;
        let delete = DeleteDeadLettersRequest { names, filter, all, validate_only: true };
        assert_eq!(field_at_fault(&letters.delete_dead_letters(delete).await.unwrap_err()), field);
    }
    for rate in [-1, 10_001] {
        let replay = ReplayDeadLettersRequest { messages_per_second: rate, ..all() };
        let refused = letters.replay_dead_letters(replay).await.unwrap_err();
        assert_eq!(field_at_fault(&refused), "messages_per_second");
    }
    running.stop().await;
}

/// A replay that stops does so after the letter at hand, which it waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_waits_for_a_letter_that_another_holds() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = (1..=3).map(|n| rejected(&agent, n, UnknownVersion, changed(&agent, n, |_| {})));
    running.keep(letters.collect()).await;
    let mut holder = running.database.connect().await;
    let held = holder.transaction().await.unwrap();
    held.execute("DELETE FROM dead_letter WHERE message_id = 'm-2'", &[]).await.unwrap();
    let watcher = running.database.connect().await;
    let release = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_for(DEADLINE, "the replay waits", async || {
            let count: i64 = watcher.query_one(waiting, &[]).await.unwrap().get(0);
            (count > 0).then_some(())
        })
        .await;
        held.commit().await.unwrap();
    };
    let (told, ()) = futures::future::join(running.replay(all()), release).await;
    assert_eq!((told.total, told.committed, told.gone), (3, 2, 1), "{told:?}");
    running.stop().await;
}
