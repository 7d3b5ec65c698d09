//! OverviewService: the processor's part. The gateway adds the collectors.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::v1::{
    GetOverviewRequest, HealthCount, KindCount, NodeHealth, Overview,
    overview_service_server::OverviewService,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::{Api, convert::timestamp, errors, health::health, task::in_task};
use crate::store::{node::clock_and_contact, overview};

/// Counting touches every asset: answers are shared for this long.
const SHARED_FOR: Duration = Duration::from_secs(2);

/// The service.
#[derive(Clone)]
pub struct OverviewApi {
    api: Api,
    newest: Arc<Mutex<Option<(Instant, Overview)>>>,
}

impl OverviewApi {
    pub(super) fn new(api: Api) -> Self {
        Self { api, newest: Arc::default() }
    }

    async fn count(&self) -> Result<Overview, Status> {
        let mut connection = self.api.connection().await?;
        let query = |error| errors::query(&error);
        let (now, contact) = clock_and_contact(&mut connection).await.map_err(query)?;
        let kinds = overview::kinds(&mut connection).await.map_err(query)?;
        let mut nodes: BTreeMap<NodeHealth, i64> = BTreeMap::new();
        for heard in overview::heartbeats(&mut connection).await.map_err(query)? {
            let interval = heard.heartbeat_interval_seconds;
            let health = health(now, contact, heard.heartbeat_time, interval, heard.retire_time);
            *nodes.entry(health).or_default() += 1;
        }
        Ok(Overview {
            measure_time: Some(timestamp(now)),
            kinds: kinds
                .into_iter()
                .map(|row| KindCount { kind: row.kind.into(), state: row.state.into(), count: row.count })
                .collect(),
            nodes: nodes
                .into_iter()
                .map(|(health, count)| HealthCount { health: health.into(), count })
                .collect(),
            events_last_hour: overview::events_last_hour(&mut connection).await.map_err(query)?,
            dead_letters: overview::dead_letters(&mut connection).await.map_err(query)?,
            collectors: Vec::new(),
            unavailable: Vec::new(),
        })
    }
}

#[tonic::async_trait]
impl OverviewService for OverviewApi {
    async fn get_overview(&self, _: Request<GetOverviewRequest>) -> Result<Response<Overview>, Status> {
        let this = self.clone();
        // It goes on when its caller has waited long enough: the next one finds
        // the answer.
        let overview = in_task(async move {
            // Held while counting: those who come meanwhile get the same answer.
            let mut newest = this.newest.lock().await;
            if let Some((counted, overview)) = newest.as_ref()
                && counted.elapsed() < SHARED_FOR
            {
                return Ok(overview.clone());
            }
            let overview = this.count().await?;
            *newest = Some((Instant::now(), overview.clone()));
            Ok::<_, Status>(overview)
        });
        Ok(Response::new(overview.await?))
    }
}
