//! Whatever can never be applied arrives with its reason, its body as it came
//! and what came along; nothing of it is lost, and nothing comes twice.

use contracts::v1::{CollectorState, DeadLetterReason, EventBatch, RejectedMessage, queue_message::Content};
use kit::queue::{HEADER_NODE, HEADER_SEQUENCE, HEADER_STREAM, batch_key};
use lapin::BasicProperties;
use prost::Message;
use testkit::{amqp_url, namespace, wait_until};

use crate::{
    fixture::{Collector, DEADLINE, wait_for_batches},
    processor::Processor,
    published::{Publisher, batch, node, properties},
};

/// What is published, and what it must be rejected with.
struct Case {
    key: String,
    properties: BasicProperties,
    body: Vec<u8>,
    reason: DeadLetterReason,
    detail: &'static str,
}

/// Each of another sequence, so that it is found again.
fn cases() -> Vec<Case> {
    use DeadLetterReason::{InvalidField, InvalidNode, TooLarge, Undecodable, UnknownVersion};
    let mut cases = Vec::new();
    let mut add = |body: &dyn Fn(&mut EventBatch) -> Vec<u8>, encoding: Option<&str>, key, reason, detail| {
        let sequence = i64::try_from(cases.len()).unwrap() + 100;
        let mut broken = batch(1, sequence, 2);
        let body = body(&mut broken);
        let mut properties = properties(node(1), &broken.stream, sequence);
        if let Some(encoding) = encoding {
            properties = properties.with_content_encoding(encoding.into());
        }
        cases.push(Case { key, properties, body, reason, detail });
    };
    let right = || batch_key(node(1));
    let packed = |plain: &[u8]| zstd::bulk::compress(plain, 1).unwrap();
    let mut torn = packed(&batch(1, 1, 50).encode_to_vec());
    torn.truncate(torn.len() - 3);
    add(&|_| b"\xff\xff{json}".to_vec(), None, right(), Undecodable, "body: ");
    add(&|_| torn.clone(), Some("zstd"), right(), Undecodable, "body: zstd: ");
    add(&|b| b.encode_to_vec(), Some("zstd"), right(), Undecodable, "body: zstd: ");
    add(&|b| b.encode_to_vec(), Some("gzip"), right(), Undecodable, "body: content encoding");
    add(&|_| Vec::new(), None, right(), UnknownVersion, "schema_version: 0");
    add(&|b| changed(b, |b| b.schema_version = 2), None, right(), UnknownVersion, "schema_version: 2");
    add(&|_| vec![0; 64 * 1024 + 1], None, right(), TooLarge, "body: ");
    add(&|_| packed(&vec![0; 8 << 20]), Some("zstd"), right(), TooLarge, "body: ");
    add(&|_| vec![7; 3 << 20], None, right(), TooLarge, "body: ");
    add(&|b| changed(b, |b| b.node = None), None, right(), InvalidNode, "node: is missing");
    // A shard that is not the node's, and the shard and node of another.
    let foreign = format!("shard.2.{}", node(1));
    add(&|b| b.encode_to_vec(), None, foreign, InvalidNode, "routing_key: ");
    add(&|b| b.encode_to_vec(), None, batch_key(node(2)), InvalidNode, "routing_key: ");
    let nul = |b: &mut EventBatch| b.observations[1].natural_key = "a\0b".into();
    add(&|b| changed(b, nul), None, right(), InvalidField, "observations[1].natural_key: has a NUL");
    let never = |b: &mut EventBatch| b.observations[0].observe_time.as_mut().unwrap().seconds = i64::MAX;
    add(&|b| changed(b, never), None, right(), InvalidField, "observations[0].observe_time: ");
    let nul_packed = |b: &mut EventBatch| packed(&changed(b, nul));
    add(&nul_packed, Some("zstd"), right(), InvalidField, "observations[1].natural_key: has a NUL");
    cases
}

fn changed(batch: &mut EventBatch, change: impl Fn(&mut EventBatch)) -> Vec<u8> {
    change(batch);
    batch.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_bad_message_arrives_whole_with_its_reason() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let collector = Collector::start(&url, &namespace, &running.url(), &["--queues", "1"]).await;
    collector.wait_for_state(CollectorState::Consuming).await;
    let publisher = Publisher::connect(&url, &namespace).await;
    let (cases, mut sent) = (cases(), Vec::new());
    for (sequence, case) in (1..).zip(&cases) {
        publisher.publish(&case.key, case.properties.clone(), &case.body).await;
        sent.push(batch(1, sequence, 3));
        publisher.batch(sent.last().unwrap()).await;
    }
    wait_for_batches(&processor, &sent).await;
    wait_until(DEADLINE, "all of them", async || {
        processor.seen().committed.len() == cases.len() + sent.len()
    })
    .await;
    let rejected: Vec<RejectedMessage> = processor
        .seen()
        .committed
        .iter()
        .filter_map(|message| match &message.content {
            Some(Content::Rejected(rejected)) => Some(rejected.clone()),
            _ => None,
        })
        .collect();
    for (number, case) in cases.iter().enumerate() {
        let sequence = (number + 100).to_string();
        let of = |one: &&RejectedMessage| one.headers[HEADER_SEQUENCE] == sequence;
        let found: Vec<_> = rejected.iter().filter(of).collect();
        let [found] = found[..] else { panic!("{} of {number}: {}", found.len(), case.detail) };
        assert_eq!(found.reason(), case.reason, "{number}: {}", found.detail);
        assert!(found.detail.starts_with(case.detail), "{number}: {}", found.detail);
        assert_eq!(found.body, case.body[..case.body.len().min(1 << 20)], "{number}");
        assert_eq!(found.body_size_bytes, case.body.len() as u64, "{number}");
        assert_eq!(found.headers[HEADER_NODE], node(1).to_string(), "{number}");
        assert_eq!(found.headers[HEADER_STREAM], batch(1, 1, 0).stream, "{number}");
        assert_eq!(found.headers["routing_key"], case.key, "{number}");
        let encoding = case.properties.content_encoding().as_ref().map(ToString::to_string);
        assert_eq!(found.headers.get("content-encoding"), encoding.as_ref(), "{number}");
    }
    let counts = collector.stats().await.dead_letters;
    for reason in [
        DeadLetterReason::Undecodable,
        DeadLetterReason::UnknownVersion,
        DeadLetterReason::TooLarge,
        DeadLetterReason::InvalidNode,
        DeadLetterReason::InvalidField,
    ] {
        let expected = cases.iter().filter(|case| case.reason == reason).count();
        let found = counts.iter().find(|one| one.reason() == reason).unwrap();
        assert_eq!(found.count, i64::try_from(expected).unwrap(), "{reason:?}");
        let name = reason.as_str_name().trim_start_matches("DEAD_LETTER_REASON_");
        let metric = format!("dead_letters_total{{reason=\"{name}\"}}");
        assert_eq!(collector.metric(&metric).await, expected as u64, "{name}");
    }
    assert_eq!(counts.len(), 5);
    collector.stop().await;
    assert_eq!(publisher.depth(1).await, 0);
    assert_eq!(processor.seen().duplicates, 0);
}
