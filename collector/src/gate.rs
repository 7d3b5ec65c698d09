//! Whether messages may be taken from the broker. Pure: time is an argument.
//!
//! While the processor fails, what was taken is held and tried again; when that
//! has lasted too long the gate closes, and the broker gets its messages back:
//! they are safer there, and another collector may have a better connection.

use std::time::{Duration, Instant};

/// Failures shorter than this are back-pressure or a restart, nothing that
/// anyone must be told.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Which calls are meant. Heartbeats can get through while ingest fails (a
/// database out of disk), so the success of one says nothing of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// IngestEvents.
    Ingest = 0,
    /// RecordHeartbeats.
    Heartbeats = 1,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The first since a success.
    First,
    /// One more of a series.
    Again,
    /// The one that closed the gate.
    Closes,
}

/// Open, or closed for a reason.
#[derive(Debug)]
pub struct Gate {
    hold: Duration,
    closed: Option<String>,
    failing: [Option<(Instant, String)>; 2],
}

impl Gate {
    /// A closed gate: it opens when the processor has answered once. `hold` is
    /// how long messages are held while ingest fails.
    pub fn new(hold: Duration) -> Self {
        Self { hold, closed: Some("the processor has not answered yet".to_owned()), failing: [None, None] }
    }

    /// Whether messages may be taken.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// A call that began at `began` failed. Closes the gate when ingest has
    /// done nothing but fail for the time to hold.
    pub fn failed(&mut self, call: Call, began: Instant, now: Instant, reason: &str) -> Failure {
        let failing = &mut self.failing[call as usize];
        let first = failing.is_none();
        let since = failing.as_ref().map_or(began, |(since, _)| *since);
        *failing = Some((since, reason.to_owned()));
        if call == Call::Ingest && self.is_open() && now.duration_since(since) >= self.hold {
            self.closed = Some(reason.to_owned());
            return Failure::Closes;
        }
        if first { Failure::First } else { Failure::Again }
    }

    /// A call succeeded, or the processor refused what was asked: it is there.
    /// Does not open the gate: a late answer to a call made before it closed
    /// proves nothing about now.
    pub fn succeeded(&mut self, call: Call) {
        self.failing[call as usize] = None;
    }

    /// The processor answers that it is ready.
    pub fn open(&mut self) {
        self.closed = None;
        self.failing = [None, None];
    }

    /// Why the processor is not usable, if it is not: the gate is closed, or
    /// calls have failed for 10 s.
    pub fn problem(&self, now: Instant) -> Option<String> {
        let failing = || {
            self.failing
                .iter()
                .flatten()
                .find(|(since, _)| now.duration_since(*since) >= TOLD_AFTER)
                .map(|(_, reason)| reason.clone())
        };
        self.closed.clone().or_else(failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn closes_after_the_time_to_hold_and_opens_when_told() {
        let start = Instant::now();
        let mut gate = Gate::new(s(60));
        assert!(!gate.is_open());
        gate.open();
        assert_eq!(gate.failed(Call::Ingest, start, start + s(30), "down"), Failure::First);
        assert_eq!(gate.failed(Call::Ingest, start + s(31), start + s(59), "down"), Failure::Again);
        assert!(gate.is_open());
        assert_eq!(gate.problem(start + s(9)), None);
        assert_eq!(gate.problem(start + s(10)).as_deref(), Some("down"));
        let failure = gate.failed(Call::Ingest, start + s(59), start + s(60), "still down");
        assert_eq!(failure, Failure::Closes);
        assert!(!gate.is_open());
        assert_eq!(gate.problem(start).as_deref(), Some("still down"));
        gate.succeeded(Call::Ingest);
        assert!(!gate.is_open(), "a late answer does not open it");
        gate.open();
        assert!(gate.is_open());
        assert_eq!(gate.problem(start + s(999)), None);
    }

    #[test]
    fn one_success_begins_the_time_anew() {
        let start = Instant::now();
        let mut gate = Gate::new(s(60));
        gate.open();
        gate.failed(Call::Ingest, start, start + s(59), "x");
        gate.succeeded(Call::Ingest);
        gate.failed(Call::Ingest, start + s(60), start + s(61), "x");
        assert!(gate.is_open());
        gate.failed(Call::Ingest, start + s(62), start + s(120), "x");
        assert!(!gate.is_open());
    }

    #[test]
    fn heartbeats_are_told_but_close_nothing() {
        let start = Instant::now();
        let mut gate = Gate::new(s(60));
        gate.open();
        gate.failed(Call::Heartbeats, start, start + s(600), "beats");
        gate.succeeded(Call::Ingest);
        assert!(gate.is_open());
        assert_eq!(gate.problem(start + s(600)).as_deref(), Some("beats"));
        gate.succeeded(Call::Heartbeats);
        assert_eq!(gate.problem(start + s(600)), None);
    }
}
