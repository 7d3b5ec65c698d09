//! AssetService: reading. Writing is in `edit`.

use contracts::v1::{
    Asset, CreateAssetRequest, DeleteAssetRequest, GetAssetRequest, ListAssetRevisionsRequest,
    ListAssetRevisionsResponse, ListAssetsRequest, ListAssetsResponse, SummarizeAssetsRequest,
    SummarizeAssetsResponse, UpdateAssetRequest, WatchAssetsRequest, asset_service_server::AssetService,
};
use kit::{identity::Collection, status::not_found};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, convert, errors, request, task::in_task};
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
        let uid = request::name("name", &request.get_ref().name, Collection::Assets)?;
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
}
