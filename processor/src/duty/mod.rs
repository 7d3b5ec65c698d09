//! What one replica does for all, in the background: partitions and retention of
//! the log, the scrub, and forgetting old calls. Two replicas may do it at the same moment, when the
//! seat goes from one to the other; each step is therefore safe by its own locks.

mod history;
mod log;
mod requests;
mod scrub;
mod seat;

use std::{sync::Arc, time::Duration};

use kit::{metrics::Metrics, settings::Secret, shutdown::CancellationToken};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::domain::changes::Descriptors;
pub use log::PARTITION_DAYS;
use seat::Seat;

/// Before the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// After the seat was lost: others look for it more often.
const STAND_BACK: Duration = Duration::from_secs(5);
/// Of connections of duties: nobody waits for what they ask, and they look for a
/// client that is gone while a statement runs.
const SESSION: &str = "SET application_name = 'assettrack-duty'; SET statement_timeout = '15min'; \
     SET client_connection_check_interval = '2s'";

/// What the duties count.
#[derive(Clone, Debug, Default)]
pub struct DutyMetrics {
    seat: Gauge,
    partitions_dropped: Counter,
    scrubbed_nodes: Counter,
    scrubbed_assets: Counter,
    digests_corrected: Counter,
    hashes_replaced: Counter,
    history_restored: Counter,
    assets_restored: Counter,
}

impl DutyMetrics {
    /// Makes and registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let made = Self::default();
        metrics.register(|registry| {
            let own = registry.sub_registry_with_prefix("duties");
            own.register("elected", "Whether this replica has the background duties", made.seat.clone());
            let log = registry.sub_registry_with_prefix("retention");
            log.register(
                "partitions_dropped",
                "Days of the log that were dropped",
                made.partitions_dropped.clone(),
            );
            let own = registry.sub_registry_with_prefix("scrub");
            own.register("nodes", "Nodes scrubbed", made.scrubbed_nodes.clone());
            own.register("assets", "ACTIVE assets scrubbed", made.scrubbed_assets.clone());
            own.register(
                "digests_corrected",
                "Digests of kinds on nodes that were not those of the stored assets",
                made.digests_corrected.clone(),
            );
            own.register(
                "hashes_replaced",
                "Assets that were altered behind the processor's back, now to be listed again",
                made.hashes_replaced.clone(),
            );
            own.register(
                "assets_restored",
                "Assets that were missing and were restored from the log",
                made.assets_restored.clone(),
            );
            own.register(
                "history_restored",
                "Superseded states that were not those of the log",
                made.history_restored.clone(),
            );
        });
        made
    }
}

/// The duties, for whoever has the seat.
#[derive(Clone)]
pub struct Duties {
    /// The database; each duty has a connection of its own, which goes with it.
    pub url: Secret,
    /// For the searchable form of what is restored.
    pub descriptors: Arc<Descriptors>,
    /// Days (UTC) for which the log is kept; 0 for ever.
    pub retention_days: i32,
    /// From the beginning of one round of the scrub to the next; none, no scrub.
    pub scrub_interval: Option<Duration>,
    /// What is counted.
    pub metrics: DutyMetrics,
}

impl Duties {
    /// Takes the seat whenever it is free and does the duties while it is held,
    /// until shutdown. Work in progress is dropped with its connection, which
    /// PostgreSQL rolls back.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.elect() => {}
            () = shutdown.cancelled() => {}
        }
        self.metrics.seat.set(0);
    }

    async fn elect(&self) {
        loop {
            match Seat::take(&self.url).await {
                Ok(mut seat) => {
                    tracing::info!("this replica has the background duties");
                    self.metrics.seat.set(1);
                    let why = tokio::select! {
                        why = seat.lost() => why,
                        () = self.keep_log() => String::new(),
                        () = self.scrub() => String::new(),
                        () = self.forget_requests() => String::new(),
                    };
                    self.metrics.seat.set(0);
                    tracing::warn!(%why, "this replica has the background duties no more");
                    // Whose connection was fine shall have them now.
                    tokio::time::sleep(STAND_BACK).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot stand for the background duties");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
