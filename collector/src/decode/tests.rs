//! Tables of what is accepted, and of what is rejected with which words.

use contracts::v1::{
    AssetDetails, AssetKind, DeadLetterReason, DiskDetails, EventBatch, Heartbeat, ImageContent,
    ImageContentSource, IngestEventsRequest, KindDigest, NodeDetails, NodeIdentity, Observation,
    PackageDetails, Presence, QueueMessage, Snapshot, asset_details::Details, queue_message::Content,
};
use kit::queue::{MAX_CONTENT_PACKAGES, MAX_DIGESTS, MAX_OBSERVATIONS, batch_key, heartbeat_key};
use prost::Message;
use prost_types::Timestamp;
use uuid::Uuid;

use super::{Contract, Decoder, Envelope, Rejection};

const QUEUE: &str = "q";
const NODE: Uuid = Uuid::from_u128(0x1368ea7e_dfe3_5393_9a69_91e01a346240);

fn present(n: u128) -> Observation {
    let package = PackageDetails { package: "openssl".into(), version: "3.0".into(), ..Default::default() };
    Observation {
        event_id: Uuid::from_u128(n + 1).to_string(),
        presence: Presence::Present.into(),
        kind: AssetKind::Package.into(),
        natural_key: format!("dpkg/p{n}"),
        display_name: "openssl".into(),
        observe_time: Some(Timestamp { seconds: 1_800_000_000, nanos: 5 }),
        state_hash: vec![0; 16],
        details: Some(AssetDetails { details: Some(Details::Package(package)), ..AssetDetails::default() }),
    }
}

fn absent(n: u128) -> Observation {
    Observation {
        presence: Presence::Absent.into(),
        display_name: String::new(),
        state_hash: Vec::new(),
        details: None,
        ..present(n)
    }
}

fn identity() -> NodeIdentity {
    NodeIdentity { uid: NODE.to_string(), cluster: "c".into(), display_name: "n".into() }
}

fn content() -> ImageContent {
    let package = |name: &str| PackageDetails { package: name.into(), ..Default::default() };
    ImageContent {
        image_digest: "sha256:ab".into(),
        // Zero bytes that are no text.
        content_hash: vec![0; 16],
        part: 2,
        parts: 2,
        packages: vec![package("musl"), package("busybox")],
        source: ImageContentSource::Layers.into(),
    }
}

fn batch() -> EventBatch {
    let listed = Observation { presence: Presence::Listed.into(), ..present(2) };
    EventBatch {
        schema_version: 1,
        node: Some(identity()),
        stream: Uuid::from_u128(9).to_string(),
        sequence: 7,
        observations: vec![present(0), absent(1), listed],
        snapshots: vec![Snapshot { kind: AssetKind::Package.into(), first_sequence: 5, last_sequence: 7 }],
        image_contents: vec![
            content(),
            ImageContent {
                part: 1,
                parts: 1,
                packages: Vec::new(),
                image_digest: "sha256:cd".into(),
                ..content()
            },
        ],
    }
}

fn envelope() -> Envelope {
    Envelope {
        message_id: "m1".into(),
        routing_key: batch_key(NODE),
        content_encoding: None,
        node: Some(NODE.to_string()),
        stream: Some(Uuid::from_u128(9).to_string()),
        sequence: Some(7),
        published_millis: Some(1),
    }
}

fn decoder() -> Decoder {
    Decoder::new(&Contract::new().unwrap())
}

fn decode(envelope: &Envelope, batch: &EventBatch) -> Result<EventBatch, Rejection> {
    decoder().batch(envelope, QUEUE, &batch.encode_to_vec()).map(|checked| checked.batch)
}

#[test]
fn a_right_batch_comes_out_as_it_went_in() {
    assert_eq!(decode(&envelope(), &batch()).unwrap(), batch());
    let body = zstd::bulk::compress(&batch().encode_to_vec(), 3).unwrap();
    let packed = Envelope { content_encoding: Some("zstd".into()), ..envelope() };
    let mut decoder = decoder();
    let checked = decoder.batch(&packed, QUEUE, &body).unwrap();
    assert_eq!((checked.node, &checked.batch), (NODE, &batch()));
    let empty_listing = EventBatch { observations: Vec::new(), ..batch() };
    assert_eq!(decode(&envelope(), &empty_listing).unwrap(), empty_listing);
}

/// Whatever a later agent says beside it, the processor gets it as it was said.
#[test]
fn the_agents_bytes_go_on_as_they_came() {
    let mut body = batch().encode_to_vec();
    // A field of 3 bytes that no build knows.
    body.extend_from_slice(b"\xc2\x3e\x03new");
    let packed = zstd::bulk::compress(&body, 3).unwrap();
    let mut decoder = decoder();
    for (encoding, came) in [(None, &body), (Some("zstd".to_owned()), &packed)] {
        let envelope = Envelope { content_encoding: encoding, ..envelope() };
        let request = decoder.batch(&envelope, QUEUE, came).unwrap().request;
        assert!(request.ends_with(&body), "{request:?}");
        let messages = IngestEventsRequest::decode(request).unwrap().messages;
        let expected = QueueMessage {
            message_id: "m1".into(),
            queue: QUEUE.into(),
            content: Some(Content::Batch(batch())),
        };
        assert_eq!(messages, [expected]);
    }
}

/// Decoders follow nesting to a depth of 100, and a request is deeper than its
/// batches: what only just fits alone would make the processor refuse all.
#[test]
fn what_is_nested_too_deep_for_a_request_is_undecodable() {
    let nested = |depth: usize| {
        let mut body = batch().encode_to_vec();
        // Groups of the unknown field 1000, one within the other.
        body.extend(b"\xc3\x3e".repeat(depth));
        body.extend(b"\xc4\x3e".repeat(depth));
        body
    };
    let mut decoder = decoder();
    let deepest = (1..200).take_while(|depth| EventBatch::decode(nested(*depth).as_slice()).is_ok()).last();
    let deepest = deepest.unwrap();
    for (depth, right) in [(1, true), (deepest - 2, true), (deepest - 1, false), (deepest, false)] {
        match decoder.batch(&envelope(), QUEUE, &nested(depth)) {
            Ok(checked) => {
                assert!(right, "{depth}");
                assert!(IngestEventsRequest::decode(checked.request).is_ok(), "{depth}");
            }
            Err(rejection) => {
                assert!(!right, "{depth}: {rejection:?}");
                assert_eq!(rejection.reason, DeadLetterReason::Undecodable);
            }
        }
    }
}

/// Breaks one thing in a right batch.
type Change = fn(&mut EventBatch);
/// The same, with something captured.
type AnyChange = Box<dyn Fn(&mut EventBatch)>;

#[test]
fn a_broken_field_is_named() {
    let package = |batch: &mut EventBatch, value: &str| {
        let Some(AssetDetails { details: Some(Details::Package(package)), .. }) =
            &mut batch.observations[0].details
        else {
            panic!("a package")
        };
        package.version = value.to_owned();
    };
    let table: Vec<(&str, AnyChange)> = vec![
        ("stream: is not a UUID", Box::new(|b| b.stream = "x".into())),
        ("sequence: is 0", Box::new(|b| b.sequence = 0)),
        (
            "observations: are 501",
            Box::new(|b| b.observations = (0..=MAX_OBSERVATIONS as u128).map(absent).collect()),
        ),
        ("observations[1].event_id: is not a UUID", Box::new(|b| b.observations[1].event_id = "x".into())),
        (
            "observations[0].event_id: is not",
            Box::new(|b| b.observations[0].event_id = Uuid::from_u128(255).simple().to_string()),
        ),
        (
            "observations[2].event_id: occurs twice",
            Box::new(|b| b.observations[2].event_id = b.observations[0].event_id.clone()),
        ),
        ("observations[0].presence: 0 is not known", Box::new(|b| b.observations[0].presence = 0)),
        ("observations[0].presence: 9 is not known", Box::new(|b| b.observations[0].presence = 9)),
        ("observations[0].kind: 77 is not known", Box::new(|b| b.observations[0].kind = 77)),
        (
            "observations[0].kind: ASSET_KIND_CUSTOM is not for agents",
            Box::new(|b| b.observations[0].kind = AssetKind::Custom.into()),
        ),
        (
            "observations[0].kind: ASSET_KIND_UNSPECIFIED is not for agents",
            Box::new(|b| b.observations[0].kind = 0),
        ),
        ("observations[0].natural_key: has 0 bytes", Box::new(|b| b.observations[0].natural_key.clear())),
        (
            "observations[0].natural_key: has 4097 bytes",
            Box::new(|b| b.observations[0].natural_key = "k".repeat(4097)),
        ),
        (
            "observations[1].natural_key: has a NUL",
            Box::new(|b| b.observations[1].natural_key = "a\0".into()),
        ),
        ("observations[0].display_name: has 0 bytes", Box::new(|b| b.observations[0].display_name.clear())),
        (
            "observations[0].display_name: has 1025 bytes",
            Box::new(|b| b.observations[0].display_name = "d".repeat(1025)),
        ),
        (
            "observations[0].display_name: has a NUL",
            Box::new(|b| b.observations[0].display_name = "\0".into()),
        ),
        (
            "observations[0].observe_time: 0 s and -1 ns is no time",
            Box::new(|b| b.observations[0].observe_time = Some(Timestamp { seconds: 0, nanos: -1 })),
        ),
        (
            "observations[0].observe_time: 9223372036854775807 s",
            Box::new(|b| b.observations[0].observe_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 })),
        ),
        ("observations[0].state_hash: has 15 bytes", Box::new(|b| b.observations[0].state_hash.truncate(15))),
        ("observations[2].details: are missing", Box::new(|b| b.observations[2].details = None)),
        (
            "observations[0].details: are empty",
            Box::new(|b| b.observations[0].details = Some(AssetDetails::default())),
        ),
        (
            "observations[0].details: are of ASSET_KIND_DISK, the kind is ASSET_KIND_PACKAGE",
            Box::new(|b| {
                let disk = Details::Disk(DiskDetails::default());
                b.observations[0].details =
                    Some(AssetDetails { details: Some(disk), ..AssetDetails::default() });
            }),
        ),
        ("observations[0].details.package.version: has a NUL", Box::new(move |b| package(b, "1\x000"))),
        (
            "observations[0].details.node.boot_time: ",
            Box::new(|b| {
                let boot_time = Some(Timestamp { seconds: i64::MIN, nanos: 0 });
                let node = Details::Node(NodeDetails { boot_time, ..Default::default() });
                b.observations[0].kind = AssetKind::Node.into();
                b.observations[0].details =
                    Some(AssetDetails { details: Some(node), ..AssetDetails::default() });
            }),
        ),
        (
            "observations[1].display_name: must be empty with ABSENT",
            Box::new(|b| b.observations[1].display_name = "x".into()),
        ),
        (
            "observations[1].state_hash: must be empty with ABSENT",
            Box::new(|b| b.observations[1].state_hash = vec![0; 16]),
        ),
        (
            "observations[1].details: must be empty with ABSENT",
            Box::new(|b| b.observations[1].details = Some(AssetDetails::default())),
        ),
        ("snapshots[0].kind: -1 is not known", Box::new(|b| b.snapshots[0].kind = -1)),
        ("snapshots[1].kind: occurs twice", Box::new(|b| b.snapshots.push(b.snapshots[0]))),
        ("snapshots[0].first_sequence: is 0", Box::new(|b| b.snapshots[0].first_sequence = 0)),
        ("snapshots[0].first_sequence: is 8", Box::new(|b| b.snapshots[0].first_sequence = 8)),
        (
            "snapshots[0].last_sequence: is 6, must be that of the batch, 7",
            Box::new(|b| b.snapshots[0].last_sequence = 6),
        ),
        (
            "image_contents[0].image_digest: has 0 bytes",
            Box::new(|b| b.image_contents[0].image_digest.clear()),
        ),
        (
            "image_contents[1].image_digest: has 4097 bytes",
            Box::new(|b| b.image_contents[1].image_digest = "d".repeat(4097)),
        ),
        (
            "image_contents[0].image_digest: has a NUL",
            Box::new(|b| b.image_contents[0].image_digest = "a\0".into()),
        ),
        (
            "image_contents[0].content_hash: has 17 bytes, must have 16",
            Box::new(|b| b.image_contents[0].content_hash.push(1)),
        ),
        ("image_contents[0].parts: is 0, must be 1 to 1000", Box::new(|b| b.image_contents[0].parts = 0)),
        ("image_contents[0].parts: is 1001", Box::new(|b| b.image_contents[0].parts = 1001)),
        ("image_contents[0].part: is 0, must be 1 to 2", Box::new(|b| b.image_contents[0].part = 0)),
        ("image_contents[0].part: is 3", Box::new(|b| b.image_contents[0].part = 3)),
        ("image_contents[0].source: 0 is not known", Box::new(|b| b.image_contents[0].source = 0)),
        ("image_contents[0].source: 9 is not known", Box::new(|b| b.image_contents[0].source = 9)),
        (
            "image_contents[0].packages[1].package: is empty",
            Box::new(|b| b.image_contents[0].packages[1].package.clear()),
        ),
        (
            "image_contents[0].packages[1].license: has a NUL",
            Box::new(|b| b.image_contents[0].packages[1].license = "\0".into()),
        ),
        (
            "image_contents: have 501 packages, at most 500",
            Box::new(|b| {
                let one = b.image_contents[0].packages[0].clone();
                b.image_contents[1].packages = vec![one; MAX_CONTENT_PACKAGES - 1];
            }),
        ),
    ];
    for (expected, change) in table {
        let mut wrong = batch();
        change(&mut wrong);
        let envelope =
            Envelope { sequence: Some(wrong.sequence), stream: Some(wrong.stream.clone()), ..envelope() };
        let rejection = decode(&envelope, &wrong).expect_err(expected);
        assert_eq!(rejection.reason, DeadLetterReason::InvalidField, "{expected}");
        assert!(rejection.detail.starts_with(expected), "{} for {expected}", rejection.detail);
    }
}

#[test]
fn who_speaks_must_be_told_the_same_everywhere() {
    use DeadLetterReason::{InvalidField, InvalidNode};
    let other = Uuid::from_u128(1);
    let headers: Vec<(&str, DeadLetterReason, Envelope)> = vec![
        ("headers.assettrack-node", InvalidNode, Envelope { node: None, ..envelope() }),
        ("headers.assettrack-node", InvalidNode, Envelope { node: Some(other.to_string()), ..envelope() }),
        ("routing_key", InvalidNode, Envelope { routing_key: batch_key(other), ..envelope() }),
        ("routing_key", InvalidNode, Envelope { routing_key: format!("shard.63.{NODE}"), ..envelope() }),
        ("headers.assettrack-stream", InvalidField, Envelope { stream: None, ..envelope() }),
        ("headers.assettrack-stream", InvalidField, Envelope { stream: Some("x".into()), ..envelope() }),
        ("headers.assettrack-sequence", InvalidField, Envelope { sequence: None, ..envelope() }),
        ("headers.assettrack-sequence", InvalidField, Envelope { sequence: Some(8), ..envelope() }),
    ];
    for (field, reason, envelope) in headers {
        let rejection = decode(&envelope, &batch()).unwrap_err();
        assert_eq!(rejection.reason, reason, "{envelope:?}");
        assert!(rejection.detail.starts_with(field), "{} for {field}", rejection.detail);
    }
    let bodies: [(&str, Change); 6] = [
        ("node: is missing", |b| b.node = None),
        ("node.uid: is not", |b| b.node.as_mut().unwrap().uid = "n1".into()),
        ("node.uid: is not", |b| b.node.as_mut().unwrap().uid = NODE.to_string().to_uppercase()),
        ("node.uid: is not", |b| b.node.as_mut().unwrap().uid.clear()),
        ("node.cluster: has 254 bytes", |b| b.node.as_mut().unwrap().cluster = "c".repeat(254)),
        ("node.display_name: has a NUL", |b| b.node.as_mut().unwrap().display_name = "\0".into()),
    ];
    for (expected, change) in bodies {
        let mut wrong = batch();
        change(&mut wrong);
        let rejection = decode(&envelope(), &wrong).unwrap_err();
        assert_eq!(rejection.reason, InvalidNode, "{expected}");
        assert!(rejection.detail.starts_with(expected), "{} for {expected}", rejection.detail);
    }
}

#[test]
fn what_is_no_batch_says_so() {
    let mut decoder = decoder();
    let foreign = decoder.batch(&envelope(), QUEUE, b"\xff\xff\xff{json}").unwrap_err();
    assert_eq!(foreign.reason, DeadLetterReason::Undecodable);
    // The request around it is none of the reader's business.
    assert!(!foreign.detail.contains("IngestEventsRequest"), "{}", foreign.detail);
    for version in [0, 2, u32::MAX] {
        let future = EventBatch { schema_version: version, ..batch() };
        let rejection = decode(&envelope(), &future).unwrap_err();
        assert_eq!(rejection.reason, DeadLetterReason::UnknownVersion);
        assert!(rejection.detail.contains(&version.to_string()), "{}", rejection.detail);
    }
    assert_eq!(decoder.batch(&envelope(), QUEUE, b"").unwrap_err().reason, DeadLetterReason::UnknownVersion);
}

/// Every single flipped bit and every cut is answered, never a panic; the
/// decoder is as good afterwards as before.
#[test]
fn torn_bodies_are_survived() {
    let mut decoder = decoder();
    let body = batch().encode_to_vec();
    let packed = zstd::bulk::compress(&body, 3).unwrap();
    for (encoding, whole) in [(None, &body), (Some("zstd".to_owned()), &packed)] {
        let envelope = Envelope { content_encoding: encoding, ..envelope() };
        for offset in 0..whole.len() {
            let _ = decoder.batch(&envelope, QUEUE, &whole[..offset]);
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[offset] ^= 1 << bit;
                let _ = decoder.batch(&envelope, QUEUE, &flipped);
            }
        }
        assert_eq!(decoder.batch(&envelope, QUEUE, whole).unwrap().batch, batch());
    }
}

#[test]
fn a_detail_is_never_longer_than_the_contract_allows() {
    let rejection = Rejection::field("x", "ä".repeat(4000));
    assert!(rejection.detail.len() <= 2048 && rejection.detail.len() > 2044);
}

#[test]
fn heartbeats_follow_their_rules() {
    let right = Heartbeat {
        schema_version: 1,
        node: Some(identity()),
        stream: Uuid::from_u128(9).to_string(),
        last_sequence: 0,
        agent_version: "0.1.0".into(),
        interval_seconds: 15,
        outbox_batches: 0,
        outbox_bytes: 0,
        digests: (1..=28).map(|kind| KindDigest { kind, count: 3, sum: vec![0; 16] }).collect(),
        identity_conflict: true,
    };
    let envelope = Envelope { routing_key: heartbeat_key(NODE), ..Default::default() };
    let mut decoder = decoder();
    assert_eq!(decoder.heartbeat(&envelope, &right.encode_to_vec()).unwrap(), (NODE, right.clone()));

    type Change = fn(&mut Heartbeat);
    let table: [(&str, Change); 15] = [
        ("digests: are 65, at most 64", |h| h.digests = vec![h.digests[0].clone(); MAX_DIGESTS + 1]),
        ("digests[1].kind: 77 is not known", |h| h.digests[1].kind = 77),
        ("digests[0].kind: ASSET_KIND_CUSTOM is not", |h| h.digests[0].kind = AssetKind::Custom.into()),
        ("digests[2].kind: occurs twice", |h| h.digests[2].kind = h.digests[0].kind),
        ("digests[0].sum: has 15 bytes", |h| h.digests[0].sum.truncate(15)),
        ("digests[3].count: is more", |h| h.digests[3].count = u64::MAX),
        ("schema_version: 2", |h| h.schema_version = 2),
        ("node: is missing", |h| h.node = None),
        ("node.uid: ", |h| h.node.as_mut().unwrap().uid = "x".into()),
        ("stream: ", |h| h.stream.clear()),
        ("last_sequence: ", |h| h.last_sequence = -1),
        ("interval_seconds: ", |h| h.interval_seconds = 0),
        ("outbox_bytes: ", |h| h.outbox_bytes = u64::MAX),
        ("agent_version: ", |h| h.agent_version = "\0".into()),
        ("body: ", |h| h.agent_version = "v".repeat(9000)),
    ];
    for (expected, change) in table {
        let mut wrong = right.clone();
        change(&mut wrong);
        let rejection = decoder.heartbeat(&envelope, &wrong.encode_to_vec()).unwrap_err();
        assert!(rejection.detail.starts_with(expected), "{} for {expected}", rejection.detail);
    }
    let misrouted = Envelope { routing_key: heartbeat_key(Uuid::nil()), ..Default::default() };
    let rejection = decoder.heartbeat(&misrouted, &right.encode_to_vec()).unwrap_err();
    assert_eq!(rejection.reason, DeadLetterReason::InvalidNode);
}
