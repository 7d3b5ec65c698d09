//! When one probe starts next, and why. Pure; time is an argument.

use std::time::{Duration, Instant};

use super::pace::Cost;
use crate::watch::Cause;

/// One probe in the scheduler.
pub(super) struct Slot {
    /// When the last run began, or the agent; the interval counts from there.
    pub(super) began: Instant,
    /// Part of the interval after which it is over, so that nodes that start
    /// together do not stay together.
    pub(super) jitter: f64,
    /// A start that is due whatever the interval.
    pub(super) at: Option<(Instant, Cause)>,
    /// Neither interval nor event starts it before.
    pub(super) not_before: Instant,
    /// When the current run began; the probe is never started twice.
    pub(super) running: Option<Instant>,
    /// Why it began.
    pub(super) cause: Cause,
    /// The current run has been given up; its result will not count.
    pub(super) overdue: bool,
    pub(super) has_ended_once: bool,
    /// The last run found nothing, or it could not be recorded.
    pub(super) failed: bool,
    pub(super) cost: Cost,
    /// What the run before that took.
    earlier: Cost,
    /// Events wait until then.
    pub(super) events_from: Instant,
    /// Requests that wait for the next run, and for the current one.
    pub(super) waiting: Vec<u64>,
    pub(super) serving: Vec<u64>,
}

impl Slot {
    /// Due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            jitter: 1.0,
            at: Some((now, Cause::Start)),
            not_before: now,
            running: None,
            cause: Cause::Start,
            overdue: false,
            has_ended_once: false,
            failed: false,
            cost: Cost::default(),
            earlier: Cost::default(),
            events_from: now,
            waiting: Vec::new(),
            serving: Vec::new(),
        }
    }

    /// When it starts next, and why. `event`: when events have come to rest.
    pub(super) fn next_start(&self, interval: Duration, event: Option<(Instant, Cause)>) -> (Instant, Cause) {
        let scheduled = (self.began + interval.mul_f64(self.jitter)).max(self.not_before);
        let mut next = (scheduled, Cause::Interval);
        let event = event.map(|(rest, cause)| (rest.max(self.events_from).max(self.not_before), cause));
        for other in [event, self.at].into_iter().flatten() {
            if other.0 < next.0 {
                next = other;
            }
        }
        next
    }

    pub(super) fn starts(&mut self, now: Instant, cause: Cause, jitter: f64) {
        (self.began, self.jitter, self.at) = (now, jitter, None);
        (self.running, self.cause, self.overdue) = (Some(now), cause, false);
        self.serving = std::mem::take(&mut self.waiting);
    }

    /// Runs again, if it would not sooner; costly ones later.
    pub(super) fn retry_after(&mut self, now: Instant, pause: Duration) {
        let at = now + pause.max(self.cost.pause());
        if self.at.is_none_or(|(sooner, _)| at < sooner) {
            self.at = Some((at, Cause::Retry));
        }
    }

    /// What a run costs that has nothing new to find: the cheaper one of the last
    /// two. The first run, or one after a change, has more to do.
    pub(super) fn usual_cpu(&self) -> Duration {
        self.cost.cpu.min(self.earlier.cpu)
    }

    pub(super) fn costs(&mut self, now: Instant, cost: Cost) {
        self.earlier = std::mem::replace(&mut self.cost, cost);
        self.events_from = now + cost.pause();
    }
}
