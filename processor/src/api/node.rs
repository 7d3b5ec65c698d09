//! NodeService.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::{
    GetNodeRequest, KindCompleteness, ListNodesRequest, ListNodesResponse, Node, NodeKindCount,
    RequestScanRequest, RequestScanResponse, RetireNodeRequest, node_service_server::NodeService,
};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use kit::{identity::Collection, status::not_found};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Api,
    convert::timestamp,
    errors,
    health::{health, is_fresh},
    request,
    task::in_task,
};
use crate::{
    domain::completeness::{KindState, kinds, together},
    store::{
        completeness::{Gaps, decode, gaps},
        node::{self, NodeRow, active_kinds, clock_and_contact, waived_since_complete},
    },
};

/// What is asked of the database beside the nodes.
struct Around {
    now: DateTime<Utc>,
    contact: Option<DateTime<Utc>>,
    /// ACTIVE assets by node and kind.
    active: HashMap<Uuid, BTreeMap<i16, u64>>,
    gaps: Gaps,
}

impl Around {
    async fn load(connection: &mut AsyncPgConnection, rows: &[NodeRow]) -> QueryResult<Self> {
        let uids: Vec<Uuid> = rows.iter().map(|row| row.uid).collect();
        let mut active: HashMap<Uuid, BTreeMap<i16, u64>> = HashMap::new();
        for row in active_kinds(connection, uids.clone()).await? {
            active.entry(row.node_uid).or_default().insert(row.kind, u64::try_from(row.count).unwrap_or(0));
        }
        let gaps = gaps(connection, &uids).await?;
        let (now, contact) = clock_and_contact(connection).await?;
        Ok(Self { now, contact, active, gaps })
    }

    fn kinds(&self, row: &NodeRow) -> Vec<KindState> {
        let compared = row.comparison();
        let fresh = is_fresh(self.now, row.compare_time, row.heartbeat_interval_seconds);
        let told = row.reported.as_deref().or(row.compared.as_deref());
        let told = told.map(decode).unwrap_or_default();
        let none = (BTreeMap::new(), BTreeMap::new());
        let active = self.active.get(&row.uid).unwrap_or(&none.0);
        kinds(fresh, &told, active, compared.as_ref(), self.gaps.get(&row.uid).unwrap_or(&none.1))
    }

    fn node(&self, row: NodeRow) -> Node {
        let interval = row.heartbeat_interval_seconds;
        let health = health(self.now, self.contact, row.heartbeat_time, interval, row.retire_time);
        let (completeness, complete_time) = together(&self.kinds(&row));
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
            completeness: completeness.into(),
            complete_time: complete_time.map(timestamp),
            kinds: Vec::new(),
            retire_time: row.retire_time.map(timestamp),
        }
    }
}

fn kind_completeness(state: &KindState, dead_letters: i64) -> KindCompleteness {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    KindCompleteness {
        kind: state.kind.into(),
        completeness: state.completeness.into(),
        complete_time: state.complete.map(|point| timestamp(point.time)),
        complete_sequence: state.complete.map_or(0, |point| point.sequence),
        count: signed(state.count),
        reported_count: signed(state.reported_count),
        resync_time: state.asked.map(|asked| timestamp(asked.at.time)),
        resync_count: state.asked.map_or(0, |asked| asked.count),
        dead_letters,
    }
}

/// One node whole; none if there is no such node.
pub(super) async fn read(connection: &mut AsyncPgConnection, uid: Uuid) -> QueryResult<Option<Node>> {
    let Some(row) = node::get(connection, uid).await? else { return Ok(None) };
    let around = Around::load(connection, std::slice::from_ref(&row)).await?;
    let kinds = around.kinds(&row);
    let letters = waived_since_complete(connection, uid, &kinds).await?;
    let active = around.active.get(&uid).into_iter().flatten();
    let active_kinds = active.map(|(kind, count)| NodeKindCount {
        kind: i32::from(*kind),
        count: i64::try_from(*count).unwrap_or(i64::MAX),
    });
    Ok(Some(Node {
        active_kinds: active_kinds.collect(),
        kinds: kinds
            .iter()
            .map(|kind| kind_completeness(kind, letters.get(&kind.kind).copied().unwrap_or(0)))
            .collect(),
        ..around.node(row)
    }))
}

#[tonic::async_trait]
impl NodeService for Api {
    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        let name = request.into_inner().name;
        let uid = request::name("name", &name, Collection::Nodes)?;
        let api = self.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            read(&mut connection, uid).await.map_err(|error| errors::query(&error))
        });
        found.await?.map(Response::new).ok_or_else(|| missing(&name))
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
            let around = Around::load(&mut connection, &rows).await.map_err(|error| errors::query(&error))?;
            Ok::<_, Status>((rows, around))
        });
        let (mut rows, around) = found.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => self.tokens.issue(&question, vec![last.display_name.clone(), last.uid.to_string()]),
            None => String::new(),
        };
        let nodes = rows.into_iter().map(|row| around.node(row)).collect();
        Ok(Response::new(ListNodesResponse { nodes, next_page_token }))
    }

    async fn request_scan(
        &self,
        request: Request<RequestScanRequest>,
    ) -> Result<Response<RequestScanResponse>, Status> {
        self.scan(request).await.map(Response::new)
    }

    async fn retire_node(&self, request: Request<RetireNodeRequest>) -> Result<Response<Node>, Status> {
        self.retire(request).await.map(Response::new)
    }
}

pub(super) fn missing(name: &str) -> Status {
    not_found("assettrack.v1.Node", name)
}
