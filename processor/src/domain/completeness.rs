//! Whether all that an agent knows is recorded: digests against digests, what
//! follows from a difference, and how it is told.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::Completeness;
use kit::digest::Digest;
use uuid::Uuid;

/// Longest time between two times that an agent is asked for the same, in
/// minutes.
const LONGEST_BACK_OFF_MINUTES: i64 = 60;

/// Digests by number of the kind.
pub type Digests = BTreeMap<i16, Digest>;

/// The newest stream of a node, as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentStream {
    /// Its UUID.
    pub stream: Uuid,
    /// The sequence after the highest that was received.
    pub next_sequence: i64,
    /// Whether all sequences from 1 up to that were.
    pub whole: bool,
    /// When something of it last came that was new.
    pub receive_time: DateTime<Utc>,
}

impl CurrentStream {
    /// Whether digests as of a sequence can be compared with what is recorded:
    /// everything up to it is in, and nothing beyond.
    #[must_use]
    pub fn is_exactly(&self, stream: Uuid, sequence: i64) -> bool {
        self.stream == stream && self.whole && self.next_sequence - 1 == sequence
    }

    /// Whether an agent that is in this stream went back behind what was
    /// received of it: its store was restored from a copy. A heartbeat may be as
    /// old as its time to live when it comes, so only a later one tells.
    #[must_use]
    pub fn went_back(
        &self,
        stream: Uuid,
        sequence: i64,
        beat: DateTime<Utc>,
        time_to_live: TimeDelta,
    ) -> bool {
        self.stream == stream && sequence < self.next_sequence - 1 && beat - self.receive_time > time_to_live
    }
}

/// When an agent may be asked again for what it was asked for `count` times,
/// the last time at `last`: first at once, then after 1, 2, 4 … minutes.
#[must_use]
pub fn may_ask(now: DateTime<Utc>, last: Option<DateTime<Utc>>, count: i32) -> bool {
    let Some(last) = last.filter(|_| count > 0) else { return true };
    let minutes = 1_i64.checked_shl(count.unsigned_abs() - 1).filter(|minutes| *minutes > 0);
    let minutes = minutes.map_or(LONGEST_BACK_OFF_MINUTES, |minutes| minutes.min(LONGEST_BACK_OFF_MINUTES));
    // A clock that was put back must not silence us.
    now - last >= TimeDelta::minutes(minutes) || last > now
}

/// A place in a stream, and when it was found to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Arrival of the heartbeat.
    pub time: DateTime<Utc>,
    /// Its stream.
    pub stream: Uuid,
    /// Its sequence.
    pub sequence: i64,
}

/// A full listing that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When, and as of which place.
    pub at: Point,
    /// How often since the kind was complete.
    pub count: i32,
}

/// A kind that the newest comparison did not find complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whether the digests differ; else the agent has told none in its stream.
    pub different: bool,
    /// Assets that were ACTIVE here.
    pub count: u64,
    /// As of when it was last complete.
    pub complete: Option<Point>,
    /// The last listing that was asked for since.
    pub asked: Option<Asked>,
}

/// The newest comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which heartbeat it was.
    pub at: Point,
    /// The digests that it told.
    pub digests: Digests,
}

/// The newest sequence of the current stream that was waived for some kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waived {
    /// The sequence.
    pub sequence: i64,
    /// The kinds; none if they are not known.
    pub kinds: Vec<i16>,
}

/// What is recorded of a node.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// What it has of each kind.
    pub digests: Digests,
    /// The comparison before this one.
    pub compared: Option<Compared>,
    /// The gaps that it left.
    pub gaps: BTreeMap<i16, Gap>,
    /// What was waived in the current stream.
    pub waived: Vec<Waived>,
}

/// What a comparison shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The gaps there are now.
    pub gaps: BTreeMap<i16, Gap>,
    /// Kinds to ask a full listing of.
    pub resync: Vec<i16>,
}

impl Comparison {
    /// Whether every digest was equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        !self.gaps.values().any(|gap| gap.different)
    }
}

/// Compares the digests of a heartbeat with what is recorded as of the same
/// sequence of the current stream. `now` is the time for back-off.
#[must_use]
pub fn compare(now: DateTime<Utc>, beat: &Compared, recorded: &Recorded) -> Comparison {
    let mut comparison = Comparison::default();
    let recorded_kinds = recorded.digests.iter().filter(|(_, digest)| digest.count > 0);
    let kinds: BTreeSet<i16> =
        recorded_kinds.map(|(kind, _)| *kind).chain(beat.digests.keys().copied()).collect();
    for kind in kinds {
        let here = recorded.digests.get(&kind).copied().unwrap_or_default();
        let told = beat.digests.get(&kind);
        if told == Some(&here) {
            continue;
        }
        let before = recorded.gaps.get(&kind);
        let complete = match (before, &recorded.compared) {
            (Some(gap), _) => gap.complete,
            (None, Some(compared)) if compared.digests.contains_key(&kind) => Some(compared.at),
            (None, _) => None,
        };
        let mut gap = Gap {
            different: told.is_some(),
            count: here.count,
            complete,
            asked: before.and_then(|gap| gap.asked),
        };
        if gap.different && may_resync(now, kind, gap.asked, beat.at.stream, &recorded.waived) {
            let at = Point { time: now, ..beat.at };
            let count = gap.asked.map_or(0, |asked| asked.count);
            gap.asked = Some(Asked { at, count: count.saturating_add(1) });
            comparison.resync.push(kind);
        }
        // Of what was never complete and is not scanned there is nothing to keep.
        if gap.different || gap.complete.is_some() || gap.asked.is_some() {
            comparison.gaps.insert(kind, gap);
        }
    }
    comparison
}

/// Whether a full listing is asked for (again): with back-off, and not if the
/// last one, or what came after it, ended as a dead letter, as the next one
/// would. A new stream is a new state.
fn may_resync(now: DateTime<Utc>, kind: i16, asked: Option<Asked>, stream: Uuid, waived: &[Waived]) -> bool {
    let Some(asked) = asked.filter(|asked| asked.at.stream == stream) else { return true };
    let dead_lettered = waived.iter().any(|waived| {
        waived.sequence > asked.at.sequence && (waived.kinds.is_empty() || waived.kinds.contains(&kind))
    });
    !dead_lettered && may_ask(now, Some(asked.at.time), asked.count)
}

/// Completeness of a kind, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindState {
    /// The kind.
    pub kind: i16,
    /// Whether it is complete.
    pub completeness: Completeness,
    /// As of when it is.
    pub complete: Option<Point>,
    /// ACTIVE assets here at the newest comparison.
    pub count: u64,
    /// Assets that the newest heartbeat tells of.
    pub reported_count: u64,
    /// The last listing asked for since it was complete.
    pub asked: Option<Asked>,
}

/// What is told of a node: of each kind that its newest heartbeat has a digest
/// of (`reported`) or that it has assets of (`active`), given the newest
/// comparison and its gaps. With none within three intervals nothing is known.
#[must_use]
pub fn kinds(
    fresh: bool,
    reported: &Digests,
    active: &BTreeMap<i16, u64>,
    compared: Option<&Compared>,
    gaps: &BTreeMap<i16, Gap>,
) -> Vec<KindState> {
    let active_kinds = active.iter().filter(|(_, count)| **count > 0).map(|(kind, _)| *kind);
    let kinds: BTreeSet<i16> = active_kinds.chain(reported.keys().copied()).collect();
    let state = |kind: i16| {
        let gap = gaps.get(&kind);
        let digest = compared.and_then(|compared| compared.digests.get(&kind));
        let (known, complete, count) = match (gap, digest) {
            (Some(gap), _) if gap.different => (Completeness::Incomplete, gap.complete, gap.count),
            (Some(gap), _) => (Completeness::Unknown, gap.complete, gap.count),
            (None, Some(digest)) => {
                (Completeness::Complete, compared.map(|compared| compared.at), digest.count)
            }
            (None, None) => (Completeness::Unknown, None, active.get(&kind).copied().unwrap_or(0)),
        };
        KindState {
            kind,
            completeness: if fresh { known } else { Completeness::Unknown },
            complete,
            count,
            reported_count: reported.get(&kind).map_or(0, |digest| digest.count),
            asked: gap.and_then(|gap| gap.asked),
        }
    };
    kinds.into_iter().map(state).collect()
}

/// Completeness of a node: what is known to be wrong with one kind is wrong
/// with it, and as of when it is complete: the oldest of its kinds.
#[must_use]
pub fn together(kinds: &[KindState]) -> (Completeness, Option<DateTime<Utc>>) {
    let any = |completeness| kinds.iter().any(|kind| kind.completeness == completeness);
    let completeness = if any(Completeness::Incomplete) {
        Completeness::Incomplete
    } else if kinds.is_empty() || any(Completeness::Unknown) {
        Completeness::Unknown
    } else {
        Completeness::Complete
    };
    let times: Option<Vec<_>> = kinds.iter().map(|kind| kind.complete.map(|point| point.time)).collect();
    (completeness, times.and_then(|times| times.into_iter().min()))
}

#[cfg(test)]
mod tests;
