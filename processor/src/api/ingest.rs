//! IngestService: what collectors deliver.

use std::collections::BTreeMap;

use contracts::v1::{
    IngestEventsRequest, IngestEventsResponse, RecordHeartbeatsRequest, RecordHeartbeatsResponse,
    ingest_service_server::IngestService,
};
use diesel::result::Error as QueryError;
use diesel_async::AsyncConnection;
use kit::{identity::parse_uuid, status::invalid_field};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, errors, task::in_task};
use crate::{
    ingest::{Ingest, MAX_MESSAGES},
    store::node::{Beat, record_beats_in_txn},
};

/// The service.
pub struct IngestApi {
    api: Api,
    ingest: Ingest,
}

impl IngestApi {
    pub(super) fn new(api: Api, ingest: Ingest) -> Self {
        Self { api, ingest }
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
        if request.collector.is_empty() || request.collector.len() > 512 {
            return Err(invalid_field("collector", "INVALID_FIELD", "must be 1 to 512 bytes"));
        }
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
        in_task(async move {
            let recorded = connection.transaction(async |connection| {
                record_beats_in_txn(connection, &request.collector, &beats).await?;
                Ok::<_, QueryError>(())
            });
            recorded.await.map_err(|error| errors::query(&error))
        })
        .await?;
        Ok(Response::new(RecordHeartbeatsResponse {}))
    }

    type StreamCommandsStream = tokio_stream::Empty<Result<contracts::v1::StreamCommandsResponse, Status>>;

    async fn stream_commands(
        &self,
        _: Request<contracts::v1::StreamCommandsRequest>,
    ) -> Result<Response<Self::StreamCommandsStream>, Status> {
        Err(Status::unimplemented("StreamCommands"))
    }

    async fn set_consumption(
        &self,
        _: Request<contracts::v1::SetConsumptionRequest>,
    ) -> Result<Response<contracts::v1::Consumption>, Status> {
        Err(Status::unimplemented("SetConsumption"))
    }
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
        held_for_millis: received.held_for.map_or(0, |held| {
            held.seconds.clamp(0, 3600) * 1000 + i64::from(held.nanos.clamp(0, 999_999_999)) / 1_000_000
        }),
    })
}
