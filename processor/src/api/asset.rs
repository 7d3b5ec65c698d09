//! AssetService: reading. Writing is in `edit` and `batch`.

use contracts::v1::{
    Asset, BatchGetAssetsRequest, BatchGetAssetsResponse, BatchUpdateAssetsRequest,
    BatchUpdateAssetsResponse, CreateAssetRequest, DeleteAssetRequest, DiffAssetRequest, DiffAssetResponse,
    DiffAssetsRequest, GetAssetRequest, ListAssetRevisionsRequest, ListAssetRevisionsResponse,
    ListAssetsRequest, ListAssetsResponse, ListRelatedAssetsRequest, ListRelatedAssetsResponse,
    RevertAssetRequest, SummarizeAssetsRequest, SummarizeAssetsResponse, UndeleteAssetRequest,
    UpdateAssetRequest, WatchAssetsRequest, asset_service_server::AssetService,
};
use kit::{identity::Collection, status::not_found};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, convert, errors, fleet_diff::DiffStream, past, request, task::in_task};
use crate::{
    domain::filter::Schema,
    store::{asset, event},
};

const TYPE: &str = "assettrack.v1.Asset";

/// NOT_FOUND for an asset.
pub(super) fn missing(uid: Uuid) -> Status {
    not_found(TYPE, &Collection::Assets.name(uid))
}

impl Api {
    pub(super) fn asset_schema(&self) -> Schema {
        Schema {
            message: self.descriptors.message("Asset").expect("the contracts have Asset"),
            names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
            unsearchable: &["etag"],
        }
    }
}

#[tonic::async_trait]
impl AssetService for Api {
    async fn create_asset(&self, request: Request<CreateAssetRequest>) -> Result<Response<Asset>, Status> {
        self.create(request).await.map(Response::new)
    }

    async fn get_asset(&self, request: Request<GetAssetRequest>) -> Result<Response<Asset>, Status> {
        let request = request.get_ref();
        let uid = request::name("name", &request.name, Collection::Assets)?;
        if let Some(at) = past::time("read_time", request.read_time.as_ref())? {
            return self.get_at(uid, at).await.map(Response::new);
        }
        let api = self.clone();
        let row = in_task(async move {
            let mut connection = api.connection().await?;
            asset::get(&mut connection, uid).await.map_err(|error| errors::query(&error))
        });
        Ok(Response::new(convert::asset(row.await?.ok_or_else(|| missing(uid))?)))
    }

    async fn list_assets(
        &self,
        request: Request<ListAssetsRequest>,
    ) -> Result<Response<ListAssetsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new)
    }

    async fn summarize_assets(
        &self,
        request: Request<SummarizeAssetsRequest>,
    ) -> Result<Response<SummarizeAssetsResponse>, Status> {
        self.summarize(request.into_inner()).await.map(Response::new)
    }

    async fn update_asset(&self, request: Request<UpdateAssetRequest>) -> Result<Response<Asset>, Status> {
        self.update(request).await.map(Response::new)
    }

    async fn delete_asset(&self, request: Request<DeleteAssetRequest>) -> Result<Response<Asset>, Status> {
        self.delete(request).await.map(Response::new)
    }

    async fn undelete_asset(
        &self,
        request: Request<UndeleteAssetRequest>,
    ) -> Result<Response<Asset>, Status> {
        self.undelete(request).await.map(Response::new)
    }

    async fn batch_get_assets(
        &self,
        request: Request<BatchGetAssetsRequest>,
    ) -> Result<Response<BatchGetAssetsResponse>, Status> {
        self.batch_get(request).await.map(Response::new)
    }

    async fn batch_update_assets(
        &self,
        request: Request<BatchUpdateAssetsRequest>,
    ) -> Result<Response<BatchUpdateAssetsResponse>, Status> {
        self.batch_update(request).await.map(Response::new)
    }

    async fn list_asset_revisions(
        &self,
        request: Request<ListAssetRevisionsRequest>,
    ) -> Result<Response<ListAssetRevisionsResponse>, Status> {
        let request = request.into_inner();
        let uid = request::name("parent", &request.parent, Collection::Assets)?;
        let page = request::page_size(request.page_size)?;
        let question = ["revisions", &request.parent];
        let below = self.tokens.open(&request.page_token, &question, 1).map_err(errors::token)?;
        let below = below.and_then(|below| below[0].parse().ok());

        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let (now, ..) = asset::get(&mut connection, uid)
                .await
                .map_err(|error| errors::query(&error))?
                .ok_or_else(|| missing(uid))?;
            let rows = event::revisions(&mut connection, uid, below, request::limit(page)).await;
            Ok::<_, Status>((now, rows.map_err(|error| errors::query(&error))?))
        });
        let (now, mut rows) = found.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let last = rows.last().filter(|_| more).and_then(|(last, ..)| last.revision);
        let next_page_token =
            last.map(|last| self.tokens.issue(&question, vec![last.to_string()])).unwrap_or_default();
        let revisions = rows.into_iter().map(|row| convert::revision(row, &now)).collect();
        Ok(Response::new(ListAssetRevisionsResponse { revisions, next_page_token }))
    }

    type WatchAssetsStream = super::watch::AssetAnswers;

    async fn watch_assets(
        &self,
        request: Request<WatchAssetsRequest>,
    ) -> Result<Response<Self::WatchAssetsStream>, Status> {
        self.watch_assets_from(request).await.map(Response::new)
    }

    async fn diff_asset(
        &self,
        request: Request<DiffAssetRequest>,
    ) -> Result<Response<DiffAssetResponse>, Status> {
        self.diff(request.into_inner()).await.map(Response::new)
    }

    type DiffAssetsStream = DiffStream;

    async fn diff_assets(
        &self,
        request: Request<DiffAssetsRequest>,
    ) -> Result<Response<Self::DiffAssetsStream>, Status> {
        self.diff_fleet(request.into_inner()).await.map(Response::new)
    }

    async fn revert_asset(&self, request: Request<RevertAssetRequest>) -> Result<Response<Asset>, Status> {
        self.revert(request.into_inner()).await.map(Response::new)
    }

    async fn list_related_assets(
        &self,
        request: Request<ListRelatedAssetsRequest>,
    ) -> Result<Response<ListRelatedAssetsResponse>, Status> {
        self.related(request).await.map(Response::new)
    }
}
