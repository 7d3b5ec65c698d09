//! What is counted of the feed.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchLabel {
    /// `assets` or `events`.
    pub what: &'static str,
}

/// What is counted of the feed and those who follow it.
#[derive(Clone, Debug, Default)]
pub struct FeedMetrics {
    /// Watches that are open.
    pub watches: Family<WatchLabel, Gauge>,
    /// Watches that were ended because their client took nothing.
    pub stalled: Counter,
    /// How often a watch fell behind the pages that are kept, and read for itself.
    pub behind: Counter,
    /// Rows of the log that the tailer has read.
    pub rows: Counter,
    /// Rows that are recorded and cannot be told yet.
    pub lag_rows: Gauge,
    /// How long the oldest of them is recorded.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// Whether the tailer runs.
    pub tailing: Gauge,
}

impl FeedMetrics {
    /// Makes and registers them.
    pub fn register(metrics: &kit::metrics::Metrics) -> Self {
        let made = Self::default();
        metrics.register(|registry| {
            let own = registry.sub_registry_with_prefix("watch");
            own.register("streams", "Watches that are open", made.watches.clone());
            own.register(
                "stalled",
                "Watches that were ended because their client took nothing",
                made.stalled.clone(),
            );
            own.register(
                "behind",
                "How often a watch was too late for the newest pages and read the log itself",
                made.behind.clone(),
            );
            let own = registry.sub_registry_with_prefix("feed");
            own.register("rows", "Rows of the log that were read for watches", made.rows.clone());
            own.register(
                "lag_rows",
                "Rows that are recorded and cannot be told yet, up to 10,000, while there are watches",
                made.lag_rows.clone(),
            );
            own.register(
                "lag_seconds",
                "How long the oldest row is recorded that cannot be told yet, while there are watches",
                made.lag_seconds.clone(),
            );
            own.register("tailing", "Whether the log is read for watches", made.tailing.clone());
        });
        made
    }
}
