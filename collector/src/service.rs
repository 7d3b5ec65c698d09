//! CollectorService.

use std::sync::Arc;

use contracts::v1::{CollectorStats, GetCollectorStatsRequest, collector_service_server::CollectorService};
use tonic::{Request, Response, Status as CallStatus};

use crate::{processor::Processor, status::Status};

/// Answers with the state of this collector.
pub struct Service {
    /// What it has done.
    pub status: Arc<Status>,
    /// Whether the processor takes messages.
    pub processor: Arc<Processor>,
}

#[tonic::async_trait]
impl CollectorService for Service {
    async fn get_collector_stats(
        &self,
        _: Request<GetCollectorStatsRequest>,
    ) -> Result<Response<CollectorStats>, CallStatus> {
        Ok(Response::new(self.status.report(self.processor.holding())))
    }

    type WatchCollectorStatsStream = tokio_stream::Empty<Result<CollectorStats, CallStatus>>;

    async fn watch_collector_stats(
        &self,
        _: Request<contracts::v1::WatchCollectorStatsRequest>,
    ) -> Result<Response<Self::WatchCollectorStatsStream>, CallStatus> {
        Err(CallStatus::unimplemented("WatchCollectorStats"))
    }

    async fn pause_consumption(
        &self,
        _: Request<contracts::v1::PauseConsumptionRequest>,
    ) -> Result<Response<contracts::v1::Consumption>, CallStatus> {
        Err(CallStatus::unimplemented("PauseConsumption"))
    }

    async fn resume_consumption(
        &self,
        _: Request<contracts::v1::ResumeConsumptionRequest>,
    ) -> Result<Response<contracts::v1::Consumption>, CallStatus> {
        Err(CallStatus::unimplemented("ResumeConsumption"))
    }
}
