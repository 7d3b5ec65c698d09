//! What makes the inventory complete beside ingest: heartbeats with their
//! digests, commands to agents, and nodes that a person retires.

pub mod command;
pub mod heartbeat;
pub mod retire;
pub mod streams;

use std::time::Duration;

use kit::shutdown::CancellationToken;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::store::{completeness::count_incomplete, pool::Pool};

const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// Which command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabel {
    /// `rescan`, `resync` or `new_stream`.
    pub command: &'static str,
}

/// What a comparison showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `equal`, `different` or `not_comparable`.
    pub result: &'static str,
}

/// What is counted of deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryMetrics {
    /// Commands handed to a collector, by type.
    pub sent: Family<CommandLabel, Counter>,
    /// Commands that expired before a collector took them.
    pub expired: Counter,
    /// Commands that were taken and could not be handed to any collector.
    pub lost: Counter,
    /// Streams to collectors that are open.
    pub streams: Gauge,
    /// Heartbeats by what comparing their digests showed.
    pub compared: Family<ResultLabel, Counter>,
    /// Kinds on nodes of which a full listing was asked for.
    pub resyncs: Counter,
    /// Kinds on nodes whose digests differ, of all replicas together.
    pub incomplete: Gauge,
}

impl DeliveryMetrics {
    /// Makes and registers them.
    pub fn register(metrics: &kit::metrics::Metrics) -> Self {
        let made = Self::default();
        metrics.register(|registry| {
            let own = registry.sub_registry_with_prefix("delivery");
            own.register("commands_sent", "Commands handed to a collector", made.sent.clone());
            own.register(
                "commands_expired",
                "Commands that expired before a collector took them",
                made.expired.clone(),
            );
            own.register(
                "commands_lost",
                "Commands that were taken and could not be handed to any collector",
                made.lost.clone(),
            );
            own.register("command_streams", "Streams to collectors that are open", made.streams.clone());
            own.register(
                "comparisons",
                "Heartbeats by what comparing their digests showed",
                made.compared.clone(),
            );
            own.register(
                "resyncs",
                "Kinds on nodes of which a full listing was asked for",
                made.resyncs.clone(),
            );
            own.register(
                "incomplete_kinds",
                "Kinds on nodes whose digests differ, of all replicas together",
                made.incomplete.clone(),
            );
        });
        made
    }
}

/// Keeps the gauge of incomplete kinds true to the database until `shutdown`.
pub async fn measure(pool: Pool, metrics: DeliveryMetrics, shutdown: CancellationToken) {
    loop {
        // What the database's state is, its watch tells.
        if let Ok(mut connection) = pool.get().await
            && let Ok(count) = count_incomplete(&mut connection).await
        {
            metrics.incomplete.set(count);
        }
        tokio::select! {
            () = tokio::time::sleep(MEASURE_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
