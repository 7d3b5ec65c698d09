//! What is counted of dead letters.

use contracts::v1::DeadLetterReason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Metrics of dead letters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LetterMetrics {
    kept: Family<ReasonLabel, Counter>,
    stored: Family<ReasonLabel, Gauge>,
    replayed: Family<ResultLabel, Counter>,
    /// Replays that run.
    pub replays: Gauge,
}

const REASONS: [DeadLetterReason; 6] = [
    DeadLetterReason::Undecodable,
    DeadLetterReason::UnknownVersion,
    DeadLetterReason::InvalidNode,
    DeadLetterReason::TooLarge,
    DeadLetterReason::InvalidField,
    DeadLetterReason::RefusedByStore,
];

fn label(reason: i16) -> ReasonLabel {
    let reason = DeadLetterReason::try_from(i32::from(reason)).unwrap_or_default();
    ReasonLabel { reason: reason.as_str_name().trim_start_matches("DEAD_LETTER_REASON_") }
}

impl LetterMetrics {
    /// Makes and registers them.
    pub fn register(metrics: &kit::metrics::Metrics) -> Self {
        let made = Self {
            kept: Family::default(),
            stored: Family::default(),
            replayed: Family::default(),
            replays: Gauge::default(),
        };
        for reason in REASONS {
            // From the start, so that the first one is an increase.
            drop(made.kept.get_or_create(&label(reason as i16)));
        }
        metrics.register(|registry| {
            registry.register(
                "ingest_messages_dead_lettered",
                "Messages kept as dead letters, by reason",
                made.kept.clone(),
            );
            registry.register(
                "dead_letters_stored",
                "Dead letters in the database, by reason; the same from each replica",
                made.stored.clone(),
            );
            registry.register(
                "dead_letters_replayed",
                "Dead letters that had their turn in a replay, by result",
                made.replayed.clone(),
            );
            registry.register(
                "dead_letter_replays_running",
                "Replays of dead letters that run",
                made.replays.clone(),
            );
        });
        made
    }

    /// A message was kept as a dead letter.
    pub fn kept(&self, reason: i16) {
        self.kept.get_or_create(&label(reason)).inc();
    }

    /// A dead letter had its turn in a replay.
    pub fn replayed(&self, result: &'static str) {
        self.replayed.get_or_create(&ResultLabel { result }).inc();
    }

    /// So many dead letters of each reason are stored; of others none.
    pub fn stored(&self, counts: impl IntoIterator<Item = (i16, i64)>) {
        let mut counts: std::collections::HashMap<i16, i64> = counts.into_iter().collect();
        for reason in REASONS {
            counts.entry(reason as i16).or_default();
        }
        for (reason, count) in counts {
            self.stored.get_or_create(&label(reason)).set(count);
        }
    }
}
