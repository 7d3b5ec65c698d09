//! NodeService.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::{
    GetNodeRequest, ListNodesRequest, ListNodesResponse, Node, NodeKindCount,
    node_service_server::NodeService,
};
use kit::{identity::Collection, status::not_found};
use tonic::{Request, Response, Status};

use super::{Api, convert::timestamp, errors, health::health, request, task::in_task};
use crate::store::node::{self, NodeRow, active_kinds, clock_and_contact};

fn node(row: NodeRow, now: DateTime<Utc>, contact: Option<DateTime<Utc>>) -> Node {
    let health = health(now, contact, row.heartbeat_time, row.heartbeat_interval_seconds);
    // Of two agents perhaps only one knows of the other, so that every second
    // heartbeat says nothing of it.
    let conflict = row.identity_conflict_time.zip(row.heartbeat_time).is_some_and(|(told, heard)| {
        heard - told <= TimeDelta::seconds(i64::from(row.heartbeat_interval_seconds) * 3)
    });
    Node {
        name: Collection::Nodes.name(row.uid),
        display_name: row.display_name,
        cluster: row.cluster,
        asset: Collection::Assets.name(row.uid),
        health: health.into(),
        last_heartbeat_time: row.heartbeat_time.map(timestamp),
        heartbeat_interval_seconds: u32::try_from(row.heartbeat_interval_seconds).unwrap_or(0),
        agent_version: row.agent_version,
        stream: row.stream.map(|stream| stream.to_string()).unwrap_or_default(),
        last_sequence: row.last_sequence,
        received_sequence: row.received_sequence,
        outbox_batches: u64::try_from(row.outbox_batches).unwrap_or(0),
        create_time: Some(timestamp(row.create_time)),
        active_assets: row.active_assets,
        identity_conflict: conflict,
        active_kinds: Vec::new(),
        ..Node::default()
    }
}

#[tonic::async_trait]
impl NodeService for Api {
    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        let name = request.into_inner().name;
        let uid = request::name("name", &name, Collection::Nodes)?;
        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let row = node::get(&mut connection, uid).await.map_err(|error| errors::query(&error))?;
            let kinds = active_kinds(&mut connection, uid).await.map_err(|error| errors::query(&error))?;
            let clock = clock_and_contact(&mut connection).await.map_err(|error| errors::query(&error))?;
            Ok::<_, Status>((row, kinds, clock))
        });
        let (row, kinds, (now, contact)) = found.await?;
        let row = row.ok_or_else(|| not_found("assettrack.v1.Node", &name))?;
        let kinds = kinds.into_iter().map(|row| NodeKindCount { kind: row.kind.into(), count: row.count });
        Ok(Response::new(Node { active_kinds: kinds.collect(), ..node(row, now, contact) }))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let request = request.into_inner();
        let page = request::page_size(request.page_size)?;
        let question = ["nodes"];
        let after = self.tokens.open(&request.page_token, &question, 2).map_err(errors::token)?;
        let after = request::name_and_uid(after)?;

        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let rows = node::list(&mut connection, after, request::limit(page))
                .await
                .map_err(|error| errors::query(&error))?;
            let clock = clock_and_contact(&mut connection).await.map_err(|error| errors::query(&error))?;
            Ok::<_, Status>((rows, clock))
        });
        let (mut rows, (now, contact)) = found.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => self.tokens.issue(&question, vec![last.display_name.clone(), last.uid.to_string()]),
            None => String::new(),
        };
        let nodes = rows.into_iter().map(|row| node(row, now, contact)).collect();
        Ok(Response::new(ListNodesResponse { nodes, next_page_token }))
    }

    async fn request_scan(
        &self,
        _: Request<contracts::v1::RequestScanRequest>,
    ) -> Result<Response<contracts::v1::RequestScanResponse>, Status> {
        Err(Status::unimplemented("RequestScan"))
    }

    async fn retire_node(
        &self,
        _: Request<contracts::v1::RetireNodeRequest>,
    ) -> Result<Response<Node>, Status> {
        Err(Status::unimplemented("RetireNode"))
    }
}
