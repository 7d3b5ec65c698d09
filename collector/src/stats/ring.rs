//! Counts over a sliding window of fixed memory. Pure: time is an argument.

use std::time::Duration;

/// `N` buckets that together are one window. The bucket that is being filled is
/// one of them, so the sum is of the last `N - 1` to `N` bucket widths: never of
/// anything older than the window.
#[derive(Clone, Debug)]
pub struct Ring<const N: usize> {
    counts: [u32; N],
    /// Number of the newest bucket; bucket `n` stands at `n % N`.
    newest: u32,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self { counts: [0; N], newest: 0 }
    }
}

impl<const N: usize> Ring<N> {
    const BUCKETS: u32 = N as u32;

    fn add(&mut self, bucket: u32, count: u32) {
        if bucket < self.newest.saturating_sub(Self::BUCKETS - 1) {
            return;
        }
        let stale = bucket.saturating_sub(self.newest).min(Self::BUCKETS);
        for step in 0..stale {
            self.counts[((bucket - step) % Self::BUCKETS) as usize] = 0;
        }
        self.newest = self.newest.max(bucket);
        let slot = &mut self.counts[(bucket % Self::BUCKETS) as usize];
        *slot = slot.saturating_add(count);
    }

    fn sum(&self, bucket: u32) -> u64 {
        let first = bucket.saturating_sub(Self::BUCKETS - 1);
        let kept = self.newest.saturating_sub(Self::BUCKETS - 1);
        (first.max(kept)..=self.newest).map(|n| u64::from(self.counts[(n % Self::BUCKETS) as usize])).sum()
    }
}

/// Counts of the last minute, 5 minutes and hour, each to 1/`N` of its length.
/// Times are measured from one fixed moment, such as the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Windows<const N: usize> {
    minute: Ring<N>,
    five_minutes: Ring<N>,
    hour: Ring<N>,
}

const MINUTE: u64 = 60;
const FIVE_MINUTES: u64 = 300;
const HOUR: u64 = 3600;

impl<const N: usize> Windows<N> {
    /// Counts `count` at `now`.
    pub fn add(&mut self, now: Duration, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.minute.add(bucket::<N>(now, MINUTE), count);
        self.five_minutes.add(bucket::<N>(now, FIVE_MINUTES), count);
        self.hour.add(bucket::<N>(now, HOUR), count);
    }

    /// Count of the minute before `now`.
    pub fn minute(&self, now: Duration) -> u64 {
        self.minute.sum(bucket::<N>(now, MINUTE))
    }

    /// Count of the 5 minutes before `now`.
    pub fn five_minutes(&self, now: Duration) -> u64 {
        self.five_minutes.sum(bucket::<N>(now, FIVE_MINUTES))
    }

    /// Count of the hour before `now`.
    pub fn hour(&self, now: Duration) -> u64 {
        self.hour.sum(bucket::<N>(now, HOUR))
    }

    /// Orders windows by when they last counted: larger is later.
    pub fn last_counted(&self) -> u32 {
        self.minute.newest
    }
}

/// Number of the bucket that `now` falls into.
fn bucket<const N: usize>(now: Duration, window_seconds: u64) -> u32 {
    let width = (window_seconds / N as u64).max(1);
    u32::try_from(now.as_secs() / width).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_slide() {
        // count at second → asked at second: minute, 5 minutes, hour
        let table = [
            (0, 0, (5, 5, 5)),
            (0, 54, (5, 5, 5)),
            (0, 60, (0, 5, 5)),
            (0, 299, (0, 5, 5)),
            (0, 300, (0, 0, 5)),
            (0, 3599, (0, 0, 5)),
            (0, 3600, (0, 0, 0)),
            (7_000, 7_001, (5, 5, 5)),
            (7_000, 999_999, (0, 0, 0)),
        ];
        for (at, asked, expected) in table {
            let mut windows = Windows::<12>::default();
            windows.add(Duration::from_secs(at), 5);
            let now = Duration::from_secs(asked);
            let found = (windows.minute(now), windows.five_minutes(now), windows.hour(now));
            assert_eq!(found, expected, "at {at}, asked at {asked}");
        }
    }

    /// Against the plain way of counting, over two hours with gaps.
    #[test]
    fn sums_are_within_one_bucket_of_the_truth() {
        let mut windows = Windows::<60>::default();
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut second = 0;
        for step in 0..4000_u64 {
            second += if step % 97 == 0 { 70 } else { step % 3 };
            let count = step % 5;
            windows.add(Duration::from_secs(second), usize::try_from(count).unwrap());
            all.push((second, count));
            let now = Duration::from_secs(second);
            for (window, width, found) in [
                (60, 1, windows.minute(now)),
                (300, 5, windows.five_minutes(now)),
                (3600, 60, windows.hour(now)),
            ] {
                let since = |age: u64| -> u64 {
                    all.iter().filter(|(at, _)| at + age > second).map(|(_, count)| count).sum()
                };
                assert!(found <= since(window) && found >= since(window - width), "{window} s at {second}");
            }
        }
    }
}
