//! How fast full queues become empty, by what their consumer says that it has
//! acknowledged.

use std::time::{Duration, Instant};

use crate::{bench::figures::Figure, error::Error, http, interrupt::Interrupt};

use super::wrong;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// So long without progress is a failure.
const STUCK: Duration = Duration::from_secs(90);

/// A measured stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drained {
    /// Observations in what was acknowledged in it.
    observations: f64,
    seconds: f64,
}

impl Drained {
    /// Observations a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.observations / self.seconds } else { 0.0 }
    }

    /// As a figure.
    pub fn figure(&self, name: &str) -> Figure {
        Figure::of(name, "events/s", self.rate())
    }

    /// From looks at the acknowledged messages. The stretch begins when it took the
    /// first message, if it tells, else with the first look that saw any
    /// acknowledged: to start and to connect is not part of it.
    fn of(
        begun: Option<Duration>,
        looks: &[(Duration, u64)],
        messages: u64,
        observations: u64,
    ) -> Option<Self> {
        let (begin, first) = match begun {
            Some(begun) => (begun, 0),
            None => *looks.iter().find(|(_, count)| *count > 0)?,
        };
        let (end, last) = *looks.iter().find(|(_, count)| *count >= messages)?;
        // All at one look: from the one before it.
        let (begin, first) = if end > begin { (begin, first) } else { (end.saturating_sub(LOOK), 0) };
        let share = (last - first) as f64 / messages as f64;
        Some(Self { observations: observations as f64 * share, seconds: (end - begin).as_secs_f64() })
    }
}

/// Watches until so many messages, with so many observations, are acknowledged with
/// this result; a rival tells of none.
pub fn watch(
    port: u16,
    result: &str,
    messages: u64,
    observations: u64,
    interrupt: &Interrupt,
) -> Result<Drained, Error> {
    let start = Instant::now();
    let mut begun = None;
    let mut looks: Vec<(Duration, u64)> = Vec::new();
    let mut progressed = start;
    loop {
        if let Some(text) = http::body(port, "/metrics") {
            let count = acknowledged(&text, result);
            if begun.is_none() && taken(&text) > 0 {
                begun = Some(start.elapsed());
            }
            if looks.last().is_none_or(|(_, last)| *last < count) {
                looks.push((start.elapsed(), count));
                progressed = Instant::now();
            }
            if count >= messages
                && let Some(drained) = Drained::of(begun, &looks, messages, observations)
            {
                return Ok(drained);
            }
        }
        if progressed.elapsed() > STUCK {
            let last = looks.last().map_or(0, |(_, count)| *count);
            return Err(wrong(&format!("see {messages} messages acknowledged: {last} are")));
        }
        interrupt.pause(LOOK)?;
    }
}

/// Messages that a rival has taken; it may acknowledge hundreds at once.
fn taken(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("consumer_taken_total "));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// Messages acknowledged with a result, in the text format of Prometheus. Others do
/// not count: what the broker delivers again has been committed before.
fn acknowledged(metrics: &str, result: &str) -> u64 {
    let label = format!("result=\"{result}\"");
    metrics
        .lines()
        .filter(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            !line.starts_with('#')
                && (name.ends_with("collector_messages_total") && line.contains(&label)
                    || name == "consumer_messages_total")
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Drained, acknowledged, taken};

    #[test]
    fn acknowledged_messages_are_counted_by_their_result() {
        let metrics = "# TYPE assettrack_collector_messages counter\n\
                       assettrack_collector_messages_total{result=\"committed\"} 7\n\
                       assettrack_collector_messages_total{result=\"duplicate\"} 3\n\
                       assettrack_collector_request_messages_sum 99\n";
        assert_eq!(acknowledged(metrics, "committed"), 7);
        assert_eq!(acknowledged(metrics, "duplicate"), 3);
        assert_eq!(acknowledged("consumer_messages_total 5\n", "committed"), 5);
        assert_eq!(acknowledged("", "committed"), 0);
    }

    #[test]
    fn the_stretch_is_from_the_first_progress_to_the_last() {
        let seconds = Duration::from_secs;
        let looks = [(seconds(1), 0), (seconds(3), 10), (seconds(4), 60), (seconds(5), 110)];
        let drained = Drained::of(None, &looks, 110, 1100).unwrap();
        assert_eq!(drained, Drained { observations: 1000.0, seconds: 2.0 });
        assert_eq!(drained.rate(), 500.0);
        assert_eq!(Drained::of(None, &looks[..3], 110, 1100), None);
        let from_the_start = Drained::of(Some(seconds(1)), &looks[3..], 110, 1100).unwrap();
        assert_eq!(from_the_start, Drained { observations: 1100.0, seconds: 4.0 });
        assert_eq!((taken("consumer_taken_total 5\n"), taken("")), (5, 0));
        assert!(Drained::of(None, &looks[3..], 110, 1100).unwrap().rate() > 0.0);
    }
}
