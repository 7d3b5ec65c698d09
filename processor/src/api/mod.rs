//! The gRPC services: validate → act → reply.

mod affected;
mod asset;
mod batch;
mod convert;
mod custom_field;
mod dead_letter;
mod diff;
mod edit;
mod errors;
mod event;
mod fleet_diff;
mod health;
mod image;
mod ingest;
mod integrity;
mod letters_request;
mod node;
mod node_act;
mod overview;
mod past;
mod related;
mod request;
mod revert;
mod saved_search;
mod search;
mod summary;
mod task;
mod watch;
mod write;

use std::sync::Arc;

use contracts::v1::{
    asset_service_server::AssetServiceServer, custom_field_service_server::CustomFieldServiceServer,
    dead_letter_service_server::DeadLetterServiceServer, event_service_server::EventServiceServer,
    image_service_server::ImageServiceServer, ingest_service_server::IngestServiceServer,
    integrity_service_server::IntegrityServiceServer, node_service_server::NodeServiceServer,
    overview_service_server::OverviewServiceServer, saved_search_service_server::SavedSearchServiceServer,
};
use kit::{
    grpc::{MAX_MESSAGE_BYTES, Routes},
    shutdown::CancellationToken,
};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{
    delivery::{DeliveryMetrics, streams::CommandStreams},
    domain::{changes::Descriptors, page_token::PageTokens},
    ingest::{Ingest, Replay},
    store::pool::{Pool, Pooled},
};
pub use overview::OverviewApi;
pub use watch::Watches;

/// Largest answer, in bytes; a page that is larger is refused.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What every service needs.
#[derive(Clone)]
pub struct Api {
    pool: Pool,
    tokens: PageTokens,
    descriptors: Arc<Descriptors>,
    watches: Watches,
    diffs: Arc<Semaphore>,
    summaries: summary::Summaries,
}

impl Api {
    /// Takes what every service needs.
    pub fn new(pool: Pool, tokens: PageTokens, descriptors: Arc<Descriptors>, watches: Watches) -> Self {
        let diffs = Arc::new(Semaphore::new(fleet_diff::AT_ONCE));
        Self { pool, tokens, descriptors, watches, diffs, summaries: summary::Summaries::default() }
    }

    async fn connection(&self) -> Result<Pooled, Status> {
        self.pool.get().await.map_err(|error| errors::pool(&error))
    }
}

/// All services of the processor. Replays end with `shutdown`.
pub fn routes(
    api: Api,
    ingest: Ingest,
    ingest_pool: Pool,
    streams: CommandStreams,
    metrics: DeliveryMetrics,
    shutdown: CancellationToken,
) -> Routes {
    let replay = Replay::new(ingest.clone(), api.pool.clone());
    let letters = dead_letter::DeadLetterApi::new(api.clone(), replay, shutdown);
    let overview = OverviewApi::new(api.clone());
    let ingest_api = Api { pool: ingest_pool, ..api.clone() };
    let ingest = ingest::IngestApi::new(ingest_api, ingest, streams, metrics);
    let integrity = integrity::IntegrityApi::new(api.clone());
    // Answers are bounded too. A page of 1,000 assets is well below a megabyte,
    // unless people wrote long notes on most of them.
    let assets = AssetServiceServer::new(api.clone());
    let nodes = NodeServiceServer::new(api.clone());
    let images = ImageServiceServer::new(api.clone());
    let custom_fields = CustomFieldServiceServer::new(api.clone());
    let searches = SavedSearchServiceServer::new(api.clone());
    let events = EventServiceServer::new(api);
    Routes::new(
        assets.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(
        nodes.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(
        events.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(
        images.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(
        custom_fields
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(
        searches.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(
        DeadLetterServiceServer::new(letters)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(OverviewServiceServer::new(overview))
    .add_service(
        IntegrityServiceServer::new(integrity)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES),
    )
    .add_service(IngestServiceServer::new(ingest).max_decoding_message_size(MAX_MESSAGE_BYTES * 2))
}
