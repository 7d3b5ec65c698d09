//! How often a probe may run: what it costs decides. Pure; time is an argument.
//!
//! | run because of | rule |
//! | --- | --- |
//! | an event | after the last run a pause of 50 times its processor time (2 % of a core), as long as it took, at least 1 s, at most 60 s |
//! | the prompt interval | all probes of that cadence together at most 0.15 % of a core, cheap ones first served; those that something else wakes each 30 s |
//! | the full interval | as set; a probe that nothing can wake now, or that failed, each minute, but at most 0.1 % of a core |
//! | a failed record, a new store | after the pause that holds for events |
//! | a request, the start | at once |

use std::time::Duration;

/// A probe may use 1/50 of a core by events …
const EVENT_COST: u32 = 50;
/// … with at least this pause between two runs …
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// … and at most this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Part of a core that all prompt probes may use together.
const PROMPT_SHARE: f64 = 0.0015;
/// Interval of a probe that nothing can wake, or that failed.
const BLIND_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of a prompt probe while something else wakes it.
pub(super) const TOLD_INTERVAL: Duration = Duration::from_secs(30);
/// It may use 1/1000 of a core.
const BLIND_COST: u32 = 1000;

/// What the last run of a probe took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Time of a processor.
    pub(super) cpu: Duration,
    /// Time of the clock.
    pub(super) wall: Duration,
}

impl Cost {
    /// How long events must wait after the end of the run.
    pub(super) fn pause(self) -> Duration {
        self.cpu.saturating_mul(EVENT_COST).max(self.wall).clamp(LEAST_PAUSE, LONGEST_PAUSE)
    }

    /// Interval of a probe that nothing can wake.
    pub(super) fn blind_interval(self, full: Duration) -> Duration {
        self.cpu.saturating_mul(BLIND_COST).max(BLIND_INTERVAL).min(full)
    }
}

/// Intervals of the prompt probes, by what each costs: none above `longest`,
/// and `shortest` unless that would take more than their share. A cheap one
/// leaves what it does not need to the costly ones.
pub(super) fn prompt_intervals(costs: &[Duration], shortest: Duration, longest: Duration) -> Vec<Duration> {
    let mut cheapest_first: Vec<usize> = (0..costs.len()).collect();
    cheapest_first.sort_by_key(|&probe| costs[probe]);
    let mut intervals = vec![shortest; costs.len()];
    let mut left = PROMPT_SHARE;
    for (served, probe) in cheapest_first.into_iter().enumerate() {
        let share = left / (costs.len() - served) as f64;
        let affordable = Duration::try_from_secs_f64(costs[probe].as_secs_f64() / share).unwrap_or(longest);
        let interval = affordable.clamp(shortest, longest.max(shortest));
        left -= costs[probe].as_secs_f64() / interval.as_secs_f64();
        // A costly one at its longest interval may take more than there is.
        left = left.max(PROMPT_SHARE / 100.0);
        intervals[probe] = interval;
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn events_wait_longer_the_more_a_probe_costs() {
        for (cpu, wall, pause) in [
            (0, 0, 1_000),
            (1, 3, 1_000),
            (100, 100, 5_000),
            (0, 7_000, 7_000),
            (1_000, 1_000, 50_000),
            (60_000, 90_000, 60_000),
        ] {
            let cost = Cost { cpu: millis(cpu), wall: millis(wall) };
            assert_eq!(cost.pause(), millis(pause), "{cost:?}");
        }
    }

    #[test]
    fn a_probe_that_nothing_wakes_runs_each_minute_if_it_is_cheap() {
        let full = Duration::from_secs(600);
        for (cpu, seconds) in [(0, 60), (60, 60), (300, 300), (5_000, 600)] {
            let cost = Cost { cpu: millis(cpu), wall: millis(0) };
            assert_eq!(cost.blind_interval(full), Duration::from_secs(seconds));
            assert_eq!(cost.blind_interval(Duration::from_secs(1)), Duration::from_secs(1));
        }
    }

    #[test]
    fn prompt_probes_share_what_they_may_use() {
        let (shortest, longest) = (Duration::from_secs(3), Duration::from_secs(600));
        let share = |costs: &[u64]| {
            let costs: Vec<Duration> = costs.iter().map(|&cost| millis(cost)).collect();
            let intervals = prompt_intervals(&costs, shortest, longest);
            let used: f64 =
                costs.iter().zip(&intervals).map(|(cost, of)| cost.as_secs_f64() / of.as_secs_f64()).sum();
            (intervals.iter().map(Duration::as_secs).collect::<Vec<_>>(), used)
        };
        assert_eq!(share(&[]), (vec![], 0.0));
        assert_eq!(share(&[0, 0, 0]).0, [3, 3, 3], "nothing is known of their cost yet");
        assert_eq!(share(&[1, 1, 1]).0, [3, 3, 3]);
        let (intervals, used) = share(&[1, 100, 1]);
        assert_eq!((intervals[0], intervals[2]), (3, 3), "cheap ones do not wait for a costly one");
        assert!((100..125).contains(&intervals[1]), "{intervals:?}");
        assert!(used <= PROMPT_SHARE + 1e-6, "{used}");
        let (intervals, used) = share(&[20, 20, 20, 20]);
        assert!(intervals.iter().all(|&seconds| (53..55).contains(&seconds)), "{intervals:?}");
        assert!(used <= PROMPT_SHARE + 1e-6, "{used}");
        assert_eq!(share(&[60_000, 1]).0, [600, 3], "what it costs, all are looked for in the end");
    }
}
