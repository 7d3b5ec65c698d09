//! The fold once more, from what was logged: what a row of `asset` must be. It
//! goes by versions and counts revisions, and uses nothing of the fold that wrote
//! them. Contents are told apart by hash, so that a node's log may be large.

use chrono::{DateTime, Utc};
use contracts::v1::{AssetState, EventType};
use sha2::{Digest as _, Sha256};

use super::fold::Version;

/// First 8 bytes of SHA-256 of a value: of every logged asset of a node some are in
/// memory. To make up another value with the same one takes 2^64 attempts.
pub type ContentHash = [u8; 8];

/// Hash of a value.
#[must_use]
pub fn content_hash(value: &[u8]) -> ContentHash {
    shortened(&Sha256::digest(value))
}

/// What is kept of a SHA-256 that PostgreSQL made.
#[must_use]
pub fn shortened(sha256: &[u8]) -> ContentHash {
    let mut hash = ContentHash::default();
    for (to, from) in hash.iter_mut().zip(sha256) {
        *to = *from;
    }
    hash
}

/// Where a row is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The asset's row of the base.
    Base,
    /// A row of the log, by its key.
    Log(DateTime<Utc>, i64),
}

/// A row of the log or the base.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Told {
    pub source: Source,
    pub record_time: DateTime<Utc>,
    pub event_type: EventType,
    pub kind: i16,
    pub natural_key: ContentHash,
    pub display_name: ContentHash,
    /// None if it came too late to change anything.
    pub revision: Option<i64>,
    pub managed_revision: i64,
    pub state: i16,
    pub details: Option<ContentHash>,
    pub managed: Option<ContentHash>,
    /// Its place in the order of its node's observations; none of edits, and
    /// none where the order of the streams was changed later: there the order of
    /// the revisions decides.
    pub version: Option<Version>,
}

/// What the log says of one asset so far. Kept small; see [`ContentHash`].
#[derive(Clone, Debug, Default)]
pub struct Refold {
    /// Revision of the base; 0 if there is none.
    base: i64,
    /// Of the log's revisions, to tell whether each is there once.
    count: i64,
    sum: i64,
    newest: Option<Newest>,
    observed: Option<Observed>,
    seen: Option<Seen>,
    managed_revision: i64,
    managed: Option<ContentHash>,
    first_time: Option<DateTime<Utc>>,
    remove_time: Option<DateTime<Utc>>,
    delete_time: Option<DateTime<Utc>>,
}

/// The newest revision.
#[derive(Clone, Debug)]
struct Newest {
    source: Source,
    record_time: DateTime<Utc>,
    revision: i64,
    managed_revision: i64,
    kind: i16,
    state: i16,
    natural_key: ContentHash,
    display_name: ContentHash,
    details: Option<ContentHash>,
}

#[derive(Clone, Debug)]
struct Observed {
    version: Version,
    state: i16,
}

#[derive(Clone, Debug)]
struct Seen {
    version: Version,
    display_name: ContentHash,
    details: Option<ContentHash>,
    source: Source,
}

/// What the row must be.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Expected {
    pub kind: i16,
    pub natural_key: ContentHash,
    pub display_name: ContentHash,
    pub state: i16,
    pub details: Option<ContentHash>,
    pub managed: Option<ContentHash>,
    pub revision: i64,
    pub managed_revision: i64,
    pub update_time: DateTime<Utc>,
    /// Oldest time that is kept of it.
    pub first_time: DateTime<Utc>,
    pub remove_time: Option<DateTime<Utc>>,
    /// When the record was deleted, as far as the rows that are kept tell.
    pub delete_time: Option<DateTime<Utc>>,
    /// The newest version that counted; it may since have been refreshed by a
    /// listing that is not logged.
    pub version: Version,
    /// The newest one that told details.
    pub seen: Version,
    /// Where the newest revision is.
    pub newest: Source,
    /// Where its details and name are.
    pub content: Source,
}

/// Something that is wrong with the revisions themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Some are missing: this many of the ones from the first to the newest.
    Missing(i64),
    /// Some are there more than once.
    Doubled(i64),
    /// As many as there should be, but not each once.
    Mixed,
}

impl Refold {
    /// Takes a row: the base's first, then those of the log as they were recorded.
    pub fn take(&mut self, told: &Told) {
        let Some(revision) = told.revision else { return };
        if told.source == Source::Base {
            self.base = revision;
        } else {
            self.count += 1;
            self.sum = self.sum.wrapping_add(revision);
        }
        let time = told.record_time;
        self.first_time = Some(self.first_time.map_or(time, |first| first.min(time)));
        match told.event_type {
            EventType::Removed => self.remove_time = Some(time),
            EventType::Deleted => self.delete_time = Some(time),
            EventType::Undeleted => self.delete_time = None,
            // Seen again, it is not deleted any more, and stays so when it goes again.
            _ if told.state == AssetState::Active as i16 => self.delete_time = None,
            _ => {}
        }
        if self.newest.is_none() || self.managed_revision < told.managed_revision {
            (self.managed_revision, self.managed) = (told.managed_revision, told.managed);
        }
        self.take_observed(told);
        if self.newest.as_ref().is_none_or(|newest| newest.revision <= revision) {
            self.newest = Some(Newest {
                source: told.source,
                record_time: time,
                revision,
                managed_revision: told.managed_revision,
                kind: told.kind,
                state: told.state,
                natural_key: told.natural_key,
                display_name: told.display_name,
                details: told.details,
            });
        }
    }

    /// By version; where one has none, the later one wins and has the place of
    /// the one before it.
    fn take_observed(&mut self, told: &Told) {
        let base = told.source == Source::Base;
        // An edit carries along what was observed: worth something only where all
        // before it is gone.
        if !base && is_edit(told.event_type) {
            return;
        }
        if let Some(version) = beats(told.version, self.observed.as_ref().map(|other| other.version)) {
            self.observed = Some(Observed { version, state: told.state });
        }
        // The base holds what was seen last, but not when that was: all that
        // counted after it is newer.
        let version = if base { Some(Version::default()) } else { told.version };
        let tells = base || told.event_type != EventType::Removed;
        if let Some(version) = beats(version, self.seen.as_ref().map(|other| other.version)).filter(|_| tells)
        {
            let (display_name, details, source) = (told.display_name, told.details, told.source);
            self.seen = Some(Seen { version, display_name, details, source });
        }
    }

    /// What the row must be; none if nothing that was logged counted.
    #[must_use]
    pub fn expected(&self) -> Option<Expected> {
        let newest = self.newest.as_ref()?;
        let observed = self.observed.as_ref();
        // Of what was never seen only the key is known; of what people made, its
        // newest revision tells.
        let (display_name, details, seen, content) = match &self.seen {
            Some(seen) => (seen.display_name, seen.details, seen.version, seen.source),
            None => (newest.display_name, newest.details, Version::default(), newest.source),
        };
        let state = observed.map_or(newest.state, |observed| observed.state);
        Some(Expected {
            kind: newest.kind,
            natural_key: newest.natural_key,
            display_name,
            state,
            details,
            managed: self.managed,
            revision: newest.revision,
            managed_revision: newest.managed_revision,
            update_time: newest.record_time,
            first_time: self.first_time.unwrap_or(newest.record_time),
            remove_time: self.remove_time.filter(|_| state == AssetState::Removed as i16),
            delete_time: self.delete_time.filter(|_| state != AssetState::Active as i16),
            version: observed.map_or(Version::default(), |observed| observed.version),
            seen,
            newest: newest.source,
            content,
        })
    }

    /// Whether each revision from the base's, or from 1, to the newest is there
    /// once.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        let newest = self.newest.as_ref()?.revision;
        // Tampering may have left any number.
        let up_to = |revision: i64| i128::from(revision) * (i128::from(revision) + 1) / 2;
        match self.count.wrapping_sub(newest.wrapping_sub(self.base)) {
            0 => (i128::from(self.sum) != up_to(newest) - up_to(self.base)).then_some(Gap::Mixed),
            more @ 1.. => Some(Gap::Doubled(more)),
            less => Some(Gap::Missing(less.wrapping_neg())),
        }
    }
}

/// Whether a person did it.
fn is_edit(event_type: EventType) -> bool {
    use EventType::{Created, Deleted, Edited, Undeleted};
    matches!(event_type, Created | Edited | Deleted | Undeleted)
}

/// The place that a row takes if it beats what is kept.
fn beats(version: Option<Version>, kept: Option<Version>) -> Option<Version> {
    match (version, kept) {
        (Some(version), Some(kept)) => (version >= kept).then_some(version),
        (version, kept) => Some(version.or(kept).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AssetState::{Active, Removed};

    fn told(revision: i64, event_type: EventType, sequence: i64, state: AssetState, content: u8) -> Told {
        let time = DateTime::from_timestamp(revision, 0).unwrap();
        let edit = is_edit(event_type);
        Told {
            source: Source::Log(time, revision),
            record_time: time,
            event_type,
            kind: 1,
            natural_key: [1; 8],
            display_name: [content; 8],
            revision: Some(revision),
            managed_revision: 0,
            state: state as i16,
            details: (content != 0).then_some([content; 8]),
            managed: None,
            version: (!edit).then_some(Version { stream_number: 1, sequence, index: 0 }),
        }
    }

    fn refold(rows: &[Told]) -> Refold {
        let mut refold = Refold::default();
        rows.iter().for_each(|row| refold.take(row));
        refold
    }

    fn outcome(rows: &[Told]) -> (i16, Option<u8>, i64) {
        let expected = refold(rows).expected().unwrap();
        (expected.state, expected.details.map(|details| details[0]), expected.revision)
    }

    #[test]
    fn the_newest_version_decides_and_not_the_newest_revision() {
        use EventType::{Appeared, Changed, Removed as Gone};
        let cases = [
            (vec![told(1, Appeared, 1, Active, 7)], (Active, Some(7), 1)),
            (vec![told(1, Appeared, 1, Active, 7), told(2, Changed, 2, Active, 8)], (Active, Some(8), 2)),
            (vec![told(1, Appeared, 1, Active, 7), told(2, Gone, 5, Removed, 7)], (Removed, Some(7), 2)),
            // Its end was told before what it was like in between.
            (
                vec![
                    told(1, Appeared, 1, Active, 7),
                    told(2, Gone, 5, Removed, 7),
                    told(3, Changed, 4, Removed, 9),
                ],
                (Removed, Some(9), 3),
            ),
            (vec![told(1, Gone, 5, Removed, 0)], (Removed, None, 1)),
            (vec![told(1, Gone, 5, Removed, 0), told(2, Changed, 3, Removed, 4)], (Removed, Some(4), 2)),
            // A node that is retired has no observation that says so.
            (
                vec![
                    told(1, Appeared, 4, Active, 7),
                    Told { version: None, ..told(2, Gone, 0, Removed, 7) },
                    told(3, Changed, 3, Removed, 6),
                ],
                (Removed, Some(7), 3),
            ),
            // A fold that let an older version win is found out.
            (vec![told(1, Appeared, 9, Active, 7), told(2, Changed, 2, Active, 8)], (Active, Some(7), 2)),
        ];
        for (rows, (state, details, revision)) in cases {
            assert_eq!(outcome(&rows), (state as i16, details, revision), "{rows:?}");
        }
    }

    #[test]
    fn the_managed_side_goes_by_edits() {
        let edit = |revision, event_type, managed_revision, managed: u8| Told {
            managed_revision,
            managed: Some([managed; 8]),
            ..told(revision, event_type, 0, Active, 7)
        };
        // The last row altered what it had only to carry along.
        let rows = [
            told(1, EventType::Appeared, 1, Active, 7),
            edit(2, EventType::Edited, 1, 3),
            edit(3, EventType::Edited, 2, 4),
            Told { managed_revision: 2, managed: Some([9; 8]), ..told(4, EventType::Changed, 2, Active, 8) },
        ];
        let expected = refold(&rows).expected().unwrap();
        assert_eq!((expected.managed, expected.managed_revision), (Some([4; 8]), 2));
        assert_eq!((expected.details, expected.revision), (Some([8; 8]), 4));
    }

    #[test]
    fn a_deleted_record_that_is_seen_again_is_none_any_more() {
        let mut rows = vec![
            told(1, EventType::Appeared, 1, Active, 7),
            told(2, EventType::Removed, 2, Removed, 7),
            told(3, EventType::Deleted, 0, Removed, 7),
        ];
        let time = |second| DateTime::from_timestamp(second, 0);
        let expected = refold(&rows).expected().unwrap();
        assert_eq!((expected.remove_time, expected.delete_time), (time(2), time(3)));
        rows.push(told(4, EventType::Appeared, 3, Active, 7));
        let expected = refold(&rows).expected().unwrap();
        assert_eq!(
            (expected.remove_time, expected.delete_time, expected.first_time),
            (None, None, time(1).unwrap())
        );
        rows.push(told(5, EventType::Removed, 4, Removed, 7));
        let expected = refold(&rows).expected().unwrap();
        assert_eq!((expected.remove_time, expected.delete_time), (time(5), None));
        rows.push(told(6, EventType::Deleted, 0, Removed, 7));
        assert_eq!(refold(&rows).expected().unwrap().delete_time, time(6));
        rows.push(told(7, EventType::Undeleted, 0, Removed, 7));
        assert_eq!(refold(&rows).expected().unwrap().delete_time, None);
    }

    #[test]
    fn the_base_stands_for_all_before_it() {
        use EventType::{Changed, Edited, Removed as Gone};
        let base = |row: Told| Told { source: Source::Base, ..row };
        let rows = [base(told(5, Edited, 0, Active, 7)), told(6, Gone, 9, Removed, 7)];
        assert_eq!(outcome(&rows), (Removed as i16, Some(7), 6));
        assert_eq!(refold(&rows).gap(), None);
        let alone = [base(told(5, Changed, 3, Removed, 7))];
        assert_eq!((outcome(&alone), refold(&alone).gap()), ((Removed as i16, Some(7), 5), None));
        let late = [base(told(5, Gone, 9, Removed, 7)), told(6, Changed, 8, Removed, 8)];
        assert_eq!(outcome(&late), (Removed as i16, Some(8), 6));
    }

    #[test]
    fn each_revision_is_there_once() {
        use EventType::Changed;
        let rows = |revisions: &[i64]| -> Vec<Told> {
            revisions.iter().map(|revision| told(*revision, Changed, *revision, Active, 1)).collect()
        };
        for (revisions, expected) in [
            (&[1, 2, 3][..], None),
            (&[1, 3], Some(Gap::Missing(1))),
            (&[2, 3], Some(Gap::Missing(1))),
            (&[1, 2, 2, 3], Some(Gap::Doubled(1))),
            (&[1, 2, 2, 4], Some(Gap::Mixed)),
        ] {
            assert_eq!(refold(&rows(revisions)).gap(), expected, "{revisions:?}");
        }
        let uncounted = Told { revision: None, ..told(9, Changed, 9, Active, 1) };
        assert!(refold(&[uncounted]).expected().is_none());
    }
}
