//! IngestService: what collectors deliver.

use std::collections::BTreeMap;

use contracts::v1::{
    Consumption, IngestEventsRequest, IngestEventsResponse, KindDigest, RecordHeartbeatsRequest,
    RecordHeartbeatsResponse, SetConsumptionRequest, StreamCommandsRequest, StreamCommandsResponse,
    ingest_service_server::IngestService,
};
use futures::{StreamExt, stream::BoxStream};
use kit::{digest::Digest, identity::parse_uuid, queue::MAX_DIGESTS, status::invalid_field};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, errors, task::in_task};
use crate::{
    delivery::{DeliveryMetrics, heartbeat::record, streams::CommandStreams},
    domain::completeness::Digests,
    ingest::{Ingest, MAX_MESSAGES},
    store::heartbeat::Beat,
};

/// Longest reason of a pause, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// The service.
pub struct IngestApi {
    api: Api,
    ingest: Ingest,
    streams: CommandStreams,
    metrics: DeliveryMetrics,
}

impl IngestApi {
    pub(super) fn new(api: Api, ingest: Ingest, streams: CommandStreams, metrics: DeliveryMetrics) -> Self {
        Self { api, ingest, streams, metrics }
    }
}

#[tonic::async_trait]
impl IngestService for IngestApi {
    async fn ingest_events(
        &self,
        request: Request<IngestEventsRequest>,
    ) -> Result<Response<IngestEventsResponse>, Status> {
        let messages = request.into_inner().messages;
        if messages.len() > MAX_MESSAGES {
            let problem = format!("{} are more than {MAX_MESSAGES}", messages.len());
            return Err(invalid_field("messages", "TOO_MANY", problem));
        }
        let results = self.ingest.commit(messages).await.map_err(|error| errors::ingest(&error))?;
        let results = results.into_iter().map(i32::from).collect();
        Ok(Response::new(IngestEventsResponse { results }))
    }

    async fn record_heartbeats(
        &self,
        request: Request<RecordHeartbeatsRequest>,
    ) -> Result<Response<RecordHeartbeatsResponse>, Status> {
        let request = request.into_inner();
        check_collector(&request.collector)?;
        // One a node, the newest; sorted, so that two writers never deadlock.
        let mut beats: BTreeMap<Uuid, Beat> = BTreeMap::new();
        for (index, received) in request.heartbeats.iter().enumerate() {
            let mut beat = beat(index, received)?;
            if let Some(other) = beats.get_mut(&beat.uid) {
                // Of two agents with one identity perhaps only one knows.
                let conflict = beat.identity_conflict || other.identity_conflict;
                (beat.identity_conflict, other.identity_conflict) = (conflict, conflict);
                if other.held_for_millis < beat.held_for_millis {
                    continue;
                }
            }
            beats.insert(beat.uid, beat);
        }
        let beats: Vec<Beat> = beats.into_values().collect();
        let mut connection = self.api.connection().await?;
        let metrics = self.metrics.clone();
        in_task(async move {
            let recorded = record(&mut connection, &request.collector, &beats, &metrics).await;
            recorded.map_err(|error| errors::query(&error))
        })
        .await?;
        Ok(Response::new(RecordHeartbeatsResponse {}))
    }

    type StreamCommandsStream = BoxStream<'static, Result<StreamCommandsResponse, Status>>;

    async fn stream_commands(
        &self,
        request: Request<StreamCommandsRequest>,
    ) -> Result<Response<Self::StreamCommandsStream>, Status> {
        let collector = request.into_inner().collector;
        check_collector(&collector)?;
        let answers = self.streams.add(collector).await.map_err(|error| errors::open(&error))?;
        Ok(Response::new(ReceiverStream::new(answers).map(Ok).boxed()))
    }

    async fn set_consumption(
        &self,
        request: Request<SetConsumptionRequest>,
    ) -> Result<Response<Consumption>, Status> {
        let SetConsumptionRequest { paused, reason } = request.into_inner();
        let in_bounds =
            if paused { (1..=MAX_REASON_BYTES).contains(&reason.len()) } else { reason.is_empty() };
        if !in_bounds || reason.contains('\0') {
            let problem = format!("must be 1 to {MAX_REASON_BYTES} bytes without NUL if paused, else empty");
            return Err(invalid_field("reason", "INVALID_FIELD", problem));
        }
        let streams = self.streams.clone();
        let set = in_task(async move {
            let set = streams.set_consumption(paused, &reason).await.map_err(|error| errors::open(&error))?;
            tracing::info!(paused, reason, "consumption is set");
            Ok::<_, Status>(set)
        });
        Ok(Response::new(set.await?))
    }
}

fn check_collector(collector: &str) -> Result<(), Status> {
    if (1..=512).contains(&collector.len()) && !collector.contains('\0') {
        return Ok(());
    }
    Err(invalid_field("collector", "INVALID_FIELD", "must be 1 to 512 bytes, without NUL"))
}

fn beat(index: usize, received: &contracts::v1::ReceivedHeartbeat) -> Result<Beat, Status> {
    let wrong = |field: &str| {
        invalid_field(
            &format!("heartbeats[{index}].heartbeat.{field}"),
            "INVALID_FIELD",
            "is missing or malformed",
        )
    };
    let heartbeat = received.heartbeat.as_ref().ok_or_else(|| wrong("node"))?;
    let node = heartbeat.node.as_ref().ok_or_else(|| wrong("node"))?;
    Ok(Beat {
        uid: parse_uuid(&node.uid).ok_or_else(|| wrong("node.uid"))?,
        cluster: node.cluster.replace('\0', ""),
        display_name: node.display_name.replace('\0', ""),
        stream: parse_uuid(&heartbeat.stream).ok_or_else(|| wrong("stream"))?,
        agent_version: heartbeat.agent_version.replace('\0', ""),
        interval_seconds: i32::try_from(heartbeat.interval_seconds.clamp(1, 3600)).unwrap_or(15),
        last_sequence: heartbeat.last_sequence,
        outbox_batches: i64::try_from(heartbeat.outbox_batches).unwrap_or(i64::MAX),
        identity_conflict: heartbeat.identity_conflict,
        digests: digests(&heartbeat.digests).ok_or_else(|| wrong("digests"))?,
        held_for_millis: received.held_for.map_or(0, |held| {
            held.seconds.clamp(0, 3600) * 1000 + i64::from(held.nanos.clamp(0, 999_999_999)) / 1_000_000
        }),
    })
}

/// Digests of kinds, of which a newer agent may have some that are not known.
fn digests(told: &[KindDigest]) -> Option<Digests> {
    if told.len() > MAX_DIGESTS {
        return None;
    }
    let one = |told: &KindDigest| {
        let kind = i16::try_from(told.kind).ok().filter(|kind| *kind > 0)?;
        i64::try_from(told.count).ok()?;
        let sum = u128::from_be_bytes(told.sum.as_slice().try_into().ok()?);
        Some((kind, Digest { count: told.count, sum }))
    };
    told.iter().map(one).collect()
}
