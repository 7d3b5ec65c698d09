//! Two processes with nothing to do, watched side by side.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    bench::{process::Usage, statistics::Sample},
    error::Error,
    http,
    interrupt::Interrupt,
};

/// As Prometheus would ask both.
const SCRAPE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(1);

/// A process that is watched.
pub struct Subject {
    pub pid: u32,
    /// Port of `/metrics`.
    pub metrics: u16,
}

/// What it came to.
pub struct Idleness {
    /// `VmRSS` of each second, in bytes.
    pub resident: Sample,
    /// `Pss` of each second, in bytes, where the kernel tells it.
    pub proportional: Option<Sample>,
    /// `VmHWM` at the end, in bytes.
    pub peak: u64,
    /// Processor time in percent of one core.
    pub processor: f64,
}

/// Watches all for `time`, at the same moments.
pub fn watch(subjects: &[Subject], time: Duration, interrupt: &Interrupt) -> Result<Vec<Idleness>, Error> {
    let usages = || subjects.iter().map(|subject| Usage::of(subject.pid)).collect::<Result<Vec<_>, _>>();
    let start = Instant::now();
    let first = usages()?;
    let mut seen = vec![first.clone()];
    let mut scraped: Option<Instant> = None;
    while start.elapsed() < time {
        interrupt.check()?;
        if scraped.is_none_or(|at| at.elapsed() >= SCRAPE) {
            scraped = Some(Instant::now());
            for subject in subjects {
                scrape(subject)?;
            }
        }
        thread::sleep(LOOK.min(time.saturating_sub(start.elapsed())));
        seen.push(usages()?);
    }
    let elapsed = start.elapsed();
    let idleness = |place: usize| {
        let of = |figure: fn(&Usage) -> Option<u64>| {
            let values = seen.iter().filter_map(|usages| figure(&usages[place]));
            Sample::new(values.map(|bytes| bytes as f64).collect())
        };
        let last = seen.last().unwrap_or(&first)[place];
        Some(Idleness {
            resident: of(|usage| Some(usage.resident))?,
            proportional: of(|usage| usage.proportional),
            peak: last.peak,
            processor: share(last.processor.saturating_sub(first[place].processor), elapsed),
        })
    };
    // There is the first sample at least.
    Ok((0..subjects.len()).filter_map(idleness).collect())
}

/// Asks for metrics, all of them.
pub fn scrape(subject: &Subject) -> Result<(), Error> {
    match http::body(subject.metrics, "/metrics") {
        Some(_) => Ok(()),
        None => Err(Error::Io {
            action: format!("scrape /metrics on port {}", subject.metrics),
            source: std::io::ErrorKind::InvalidData.into(),
        }),
    }
}

/// Percent of one core.
fn share(processor: Duration, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { processor.as_secs_f64() / elapsed.as_secs_f64() * 100.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Subject, scrape, share, watch};
    use crate::interrupt::Interrupt;

    #[test]
    fn processor_time_is_a_share_of_one_core() {
        assert_eq!(share(Duration::from_millis(300), Duration::from_secs(100)), 0.3);
        assert_eq!(share(Duration::from_secs(2), Duration::from_secs(1)), 200.0);
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 0.0);
    }

    #[test]
    fn a_process_that_is_gone_or_silent_is_a_failed_measurement() {
        let gone = Subject { pid: u32::MAX, metrics: 1 };
        assert!(watch(&[gone], Duration::from_secs(1), &Interrupt::default()).is_err());
        assert!(scrape(&Subject { pid: std::process::id(), metrics: 1 }).is_err());
    }
}
