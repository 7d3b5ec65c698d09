//! A ceiling of observations a second for all connections together. Pure: time
//! is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was not used is kept for this long.
const BURST: Duration = Duration::from_millis(200);

/// The ceiling.
#[derive(Debug)]
pub struct Pace {
    rate: Option<f64>,
    /// When all that was sent will have been allowed.
    until: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many a second; none for no limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate as f64), until: Mutex::new(None) }
    }

    /// How long the next batch has to wait; none if it need not.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.rate?;
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// So many observations were sent.
    pub fn spend(&self, observations: u32, now: Instant) {
        let Some(rate) = self.rate else { return };
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = until.map_or(now, |until| until.max(now.checked_sub(BURST).unwrap_or(now)));
        *until = Some(from + Duration::from_secs_f64(f64::from(observations) / rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_sent_than_the_rate_allows() {
        let pace = Pace::new(Some(1000));
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match pace.wait(now) {
                Some(wait) => now += wait,
                None => {
                    pace.spend(50, now);
                    sent += 50;
                }
            }
        }
        assert!((10_000..=10_250).contains(&sent), "{sent}");
        assert_eq!(Pace::new(None).wait(start), None);
    }
}
