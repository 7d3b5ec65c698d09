//! NodeService: what people have done to nodes.

use std::collections::BTreeSet;

use contracts::v1::{
    AssetKind, Node, NodeHealth, RequestScanRequest, RequestScanResponse, RescanCommand, ResyncCommand,
    RetireNodeRequest, agent_command::Command,
};
use kit::{
    identity::Collection,
    status::{invalid_field, precondition},
};
use tonic::{Request, Status};

use super::{
    Api,
    convert::timestamp,
    errors,
    health::health,
    node::{missing, read},
    request,
    task::in_task,
    write::ANONYMOUS,
};
use crate::{
    delivery::{
        command::new_command,
        retire::{Retired, retire_node},
    },
    store::{command, node},
};

impl Api {
    pub(super) async fn scan(
        &self,
        request: Request<RequestScanRequest>,
    ) -> Result<RequestScanResponse, Status> {
        let RequestScanRequest { name, kinds, resync } = request.into_inner();
        let uid = request::name("name", &name, Collection::Nodes)?;
        let kinds = observed_kinds(&kinds)?;
        // A listing that is asked for makes every probe due, as a scan does.
        let asked = if resync {
            Command::Resync(ResyncCommand { kinds })
        } else {
            Command::Rescan(RescanCommand { kinds })
        };
        let api = self.clone();
        in_task(async move {
            let query = |error| errors::query(&error);
            let mut connection = api.connection().await?;
            let row = node::get(&mut connection, uid).await.map_err(query)?.ok_or_else(|| missing(&name))?;
            if row.retire_time.is_some() {
                return Err(precondition(
                    "NODE_RETIRED",
                    &name,
                    "the node is retired; its agent is not there",
                ));
            }
            if row.heartbeat_time.is_none() {
                return Err(precondition("NEVER_HEARD", &name, "no heartbeat of its agent was ever heard"));
            }
            let (now, _) = node::clock_and_contact(&mut connection).await.map_err(query)?;
            let new = new_command(uid, now, asked);
            let answer = RequestScanResponse {
                command_id: new.uid.to_string(),
                expire_time: Some(timestamp(new.expire_time)),
            };
            command::insert(&mut connection, &[new]).await.map_err(query)?;
            Ok(answer)
        })
        .await
    }

    pub(super) async fn retire(&self, request: Request<RetireNodeRequest>) -> Result<Node, Status> {
        let name = request.into_inner().name;
        let uid = request::name("name", &name, Collection::Nodes)?;
        let api = self.clone();
        in_task(async move {
            let query = |error| errors::query(&error);
            let mut connection = api.connection().await?;
            let retired = retire_node(&mut connection, uid, ANONYMOUS, |now, node| {
                let interval = node.heartbeat_interval_seconds;
                let health = health(now, None, node.heartbeat_time, interval, node.retire_time);
                health == NodeHealth::Healthy
            });
            match retired.await.map_err(query)? {
                Retired::Missing => return Err(missing(&name)),
                Retired::Refused => {
                    let text = "its agent is heard; a node can be retired once it is silent";
                    return Err(precondition("NODE_HEALTHY", &name, text));
                }
                Retired::Done { removed } => tracing::info!(node = %uid, removed, "a node is retired"),
            }
            read(&mut connection, uid).await.map_err(query)?.ok_or_else(|| missing(&name))
        })
        .await
    }
}

/// Kinds that agents can look for, each once.
fn observed_kinds(kinds: &[i32]) -> Result<Vec<i32>, Status> {
    let mut observed = BTreeSet::new();
    for (index, kind) in kinds.iter().enumerate() {
        match AssetKind::try_from(*kind) {
            Ok(AssetKind::Unspecified | AssetKind::Custom) | Err(_) => {
                let problem = format!("{kind} is not a kind that agents observe");
                return Err(invalid_field(&format!("kinds[{index}]"), "INVALID_FIELD", problem));
            }
            Ok(_) => observed.insert(*kind),
        };
    }
    Ok(observed.into_iter().collect())
}
