//! Growing pauses between attempts, spread at random so that many who failed
//! together do not come back together. Pure: chance is an argument.

use std::time::Duration;

/// The pauses of one series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from about `least`, doubling up to about `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// The next pause: half of it fixed, half by `random` from 0 to 1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let doubled = self.least.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.most).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// The attempt succeeded: the next pause is a short one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_stay_in_their_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let expected = Duration::from_millis(expected);
            let mut other = backoff.clone();
            assert_eq!(backoff.pause(1.0), expected);
            assert_eq!(other.pause(0.0), expected / 2);
        }
        for _ in 0..100 {
            backoff.pause(0.3);
        }
        assert_eq!(backoff.pause(1.0), Duration::from_secs(1));
        backoff.reset();
        assert_eq!(backoff.pause(1.0), Duration::from_millis(100));
    }
}
