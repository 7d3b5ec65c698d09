//! The local gRPC service of one agent.

mod page_token;

use std::sync::Arc;
use std::time::Duration;

use contracts::v1::agent_service_server::AgentService;
use contracts::v1::{
    AgentStatus, Asset, AssetKind, AssetState, GetAgentStatusRequest, ListLocalAssetsRequest,
    ListLocalAssetsResponse, TriggerScanRequest, TriggerScanResponse,
};
use kit::identity::{Collection, asset_uid};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Request, Response, Status as GrpcStatus};

use crate::scheduler::Trigger;
use crate::status::Status;
use crate::store::{RecordedAsset, Store, StoreError};

const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 1000;
/// Encoded bytes of a page at which it ends early; a message may have 4 MiB.
const LARGEST_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Answers from the store and the status, and asks the scheduler.
pub struct Service {
    /// What is recorded.
    pub store: Arc<Store>,
    /// What the agent is doing.
    pub status: Status,
    /// Names of the probes, in the order of their places.
    pub probes: Vec<&'static str>,
    /// To the scheduler.
    pub triggers: mpsc::Sender<Trigger>,
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn get_agent_status(
        &self,
        _request: Request<GetAgentStatusRequest>,
    ) -> Result<Response<AgentStatus>, GrpcStatus> {
        Ok(Response::new(self.status.report(&self.store)))
    }

    async fn list_local_assets(
        &self,
        request: Request<ListLocalAssetsRequest>,
    ) -> Result<Response<ListLocalAssetsResponse>, GrpcStatus> {
        let request = request.into_inner();
        let kind = known_kind(request.kind)?;
        let count = page_size(request.page_size)?;
        let after = page_token::parse(&request.page_token, request.kind)
            .map_err(|problem| kit::status::invalid_field("page_token", "INVALID_PAGE_TOKEN", problem))?;

        let store = self.store.clone();
        let read = move || store.assets(kind, after.as_ref(), count + 1);
        let recorded = tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| failed())?
            .map_err(|error| unavailable(&error))?;

        let (mut assets, mut bytes) = (Vec::new(), 0);
        let mut next_page_token = String::new();
        let mut last: Option<(i32, String)> = None;
        for asset in recorded {
            bytes += prost::Message::encoded_len(&asset.details);
            if let Some(last) = last.as_ref().filter(|_| assets.len() == count || bytes > LARGEST_PAGE_BYTES)
            {
                next_page_token = page_token::make(last, request.kind);
                break;
            }
            last = Some((asset.kind as i32, asset.natural_key.clone()));
            assets.push(self.to_asset(asset));
        }
        Ok(Response::new(ListLocalAssetsResponse { assets, next_page_token }))
    }

    async fn trigger_scan(
        &self,
        request: Request<TriggerScanRequest>,
    ) -> Result<Response<TriggerScanResponse>, GrpcStatus> {
        let mut places = Vec::new();
        for (index, name) in request.into_inner().probes.iter().enumerate() {
            let place = self.probes.iter().position(|probe| probe == name).ok_or_else(|| {
                let known = self.probes.join(", ");
                let problem = format!("`{name}` is no probe; there are {known}");
                kit::status::invalid_field(&format!("probes[{index}]"), "UNKNOWN_PROBE", problem)
            })?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let (reply, answer) = oneshot::channel();
        let stopping = || {
            let later = Duration::from_secs(5);
            kit::status::retry_later(Code::Unavailable, "SHUTTING_DOWN", "the agent is shutting down", later)
        };
        self.triggers.send(Trigger { probes: places, reply }).await.map_err(|_| stopping())?;
        let triggered = answer.await.map_err(|_| stopping())?;
        Ok(Response::new(TriggerScanResponse {
            changes: u32::try_from(triggered.changes).unwrap_or(u32::MAX),
            probes: triggered.probes,
        }))
    }
}

impl Service {
    fn to_asset(&self, recorded: RecordedAsset) -> Asset {
        let node = self.store.node_uid();
        Asset {
            name: Collection::Assets.name(asset_uid(node, recorded.kind, &recorded.natural_key)),
            kind: recorded.kind.into(),
            display_name: recorded.display_name,
            node: Collection::Nodes.name(node),
            node_display_name: self.store.node().display_name.clone(),
            natural_key: recorded.natural_key,
            state: AssetState::Active.into(),
            details: Some(recorded.details),
            ..Asset::default()
        }
    }
}

fn known_kind(kind: i32) -> Result<Option<AssetKind>, GrpcStatus> {
    match AssetKind::try_from(kind) {
        Ok(AssetKind::Unspecified) => Ok(None),
        Ok(kind) => Ok(Some(kind)),
        Err(_) => {
            Err(kit::status::invalid_field("kind", "UNKNOWN_KIND", format!("{kind} is no kind of asset")))
        }
    }
}

fn page_size(asked: i32) -> Result<usize, GrpcStatus> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(LARGEST_PAGE)),
        Err(_) => Err(kit::status::invalid_field("page_size", "NEGATIVE_PAGE_SIZE", "must not be negative")),
    }
}

fn unavailable(error: &StoreError) -> GrpcStatus {
    tracing::error!(%error, "cannot list assets");
    let later = Duration::from_secs(5);
    kit::status::retry_later(Code::Unavailable, "STORE_FAILED", "the agent's store cannot be read", later)
}

fn failed() -> GrpcStatus {
    kit::status::error(Code::Internal, "TASK_FAILED", "the store's task ended early", &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_bounded() {
        for (asked, given) in [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
            assert_eq!(page_size(asked).unwrap(), given);
        }
        assert_eq!(page_size(-1).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(known_kind(0).unwrap(), None);
        assert_eq!(known_kind(5).unwrap(), Some(AssetKind::Package));
        assert_eq!(known_kind(77).unwrap_err().code(), Code::InvalidArgument);
    }
}
