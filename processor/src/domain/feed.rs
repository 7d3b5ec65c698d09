//! Places in the feed of changes, and the tokens that name them.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::page_token::{PageTokens, TokenError};

/// A transaction that writes the log lives shorter than this: its statements and
/// pauses are limited to seconds.
const LONGEST_WRITE: TimeDelta = TimeDelta::days(1);

/// A place in the feed: after a row, or after all rows below a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `feed_xid` of the row.
    pub xid: i64,
    /// Its `id`; 0 for the place before the first of this number.
    pub id: i64,
    /// What is after the place was recorded after this time, unless its
    /// transaction had begun before. Spares a look at old days.
    pub since: Option<DateTime<Utc>>,
}

impl Place {
    /// Before everything.
    pub const BEGINNING: Self = Self { xid: 0, id: 0, since: None };

    /// Nothing after the place was recorded earlier than this.
    pub fn earliest(&self) -> DateTime<Utc> {
        let earliest = self.since.and_then(|since| since.checked_sub_signed(LONGEST_WRITE));
        earliest.unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whether it is before another.
    pub fn is_before(&self, other: &Self) -> bool {
        (self.xid, self.id) < (other.xid, other.id)
    }
}

/// How far the feed is settled at one moment: no row below `xid` can appear any
/// more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Lowest number of a transaction that runs.
    pub xid: i64,
    /// The number above the highest that has ended.
    pub ended: i64,
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// Whose numbers these are.
    pub cluster: Cluster,
    /// Rows up to this `id` were numbered by another system.
    pub after_id: i64,
    /// When that was found.
    pub begin_time: Option<DateTime<Utc>>,
    /// Highest number of what retention dropped.
    pub dropped_xid: Option<i64>,
    /// Newest time of it.
    pub dropped_time: Option<DateTime<Utc>>,
}

impl Edge {
    /// The place before which all is that had ended by then, settled or not.
    pub fn all(&self) -> Place {
        Place { xid: self.ended, id: 0, since: None }
    }

    /// The place that everything settled is before.
    pub fn place(&self, since: Option<DateTime<Utc>>) -> Place {
        Place { xid: self.xid, id: 0, since }
    }

    /// Whether something after a place, recorded at `from` or later, may have been
    /// dropped.
    pub fn has_dropped(&self, place: &Place, from: Option<DateTime<Utc>>) -> bool {
        self.dropped_xid.is_some_and(|dropped| place.xid <= dropped)
            && from.is_none_or(|from| self.lacks(from).is_some())
    }

    /// From when on there is something, if that is later than this time.
    pub fn lacks(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let dropped = self.dropped_time.map(|dropped| dropped + TimeDelta::microseconds(1));
        dropped.max(self.begin_time).filter(|earliest| time < *earliest)
    }
}

/// From when on the rows that are not settled were recorded, as far as edges one
/// after another tell.
///
/// A row that was written before an edge, by a transaction that had not ended at
/// it, is not bounded by that edge; all others that were written before it have
/// numbers below its `ended`. So once the feed is settled above that, what is
/// left was written after it, or by a transaction that ran at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Since {
    known: Option<DateTime<Utc>>,
    candidate: Option<(i64, DateTime<Utc>)>,
}

impl Since {
    /// Goes on from what a place knows.
    pub fn of(place: &Place) -> Self {
        Self { known: place.since, candidate: None }
    }

    /// Takes the next edge; tells the bound of what is not settled at it.
    pub fn pass(&mut self, edge: &Edge) -> Option<DateTime<Utc>> {
        if let Some((ended, time)) = self.candidate.filter(|(ended, _)| *ended < edge.xid) {
            debug_assert!(ended < edge.xid);
            self.known = Some(time);
            self.candidate = None;
        }
        self.candidate = self.candidate.or(Some((edge.ended, edge.now)));
        self.known
    }
}

/// A database system and its timeline, as text: what numbers mean ends with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster(pub String);

/// Where a watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Place in the feed.
    pub place: Place,
    /// The snapshot is told up to this asset; none if it is told.
    pub snapshot_after: Option<Uuid>,
}

/// Signs and reads resume tokens.
#[derive(Clone)]
pub struct ResumeTokens(PageTokens);

impl ResumeTokens {
    /// With the key of page tokens.
    pub fn new(tokens: PageTokens) -> Self {
        Self(tokens)
    }

    /// A token that goes on there.
    pub fn issue(&self, question: &[&str], cluster: &Cluster, resume: &Resume) -> String {
        let since = resume.place.since.map(|since| since.timestamp_micros().to_string());
        let parts = vec![
            cluster.0.clone(),
            resume.place.xid.to_string(),
            resume.place.id.to_string(),
            since.unwrap_or_default(),
            resume.snapshot_after.map(|after| after.to_string()).unwrap_or_default(),
        ];
        self.0.issue(question, parts)
    }

    /// What a token says; `None` for the empty one.
    ///
    /// # Errors
    /// The token is not ours, or belongs to another question.
    pub fn open(&self, token: &str, question: &[&str]) -> Result<Option<(Cluster, Resume)>, TokenError> {
        let Some(parts) = self.0.open(token, question, 5)? else { return Ok(None) };
        let [cluster, xid, id, since, after] = parts.as_slice() else { return Err(TokenError::Foreign) };
        let number = |text: &str| text.parse::<i64>().map_err(|_| TokenError::Foreign);
        let since = match since.as_str() {
            "" => None,
            micros => Some(DateTime::from_timestamp_micros(number(micros)?).ok_or(TokenError::Foreign)?),
        };
        let snapshot_after = match after.as_str() {
            "" => None,
            uid => Some(uid.parse().map_err(|_| TokenError::Foreign)?),
        };
        let place = Place { xid: number(xid)?, id: number(id)?, since };
        Ok(Some((Cluster(cluster.clone()), Resume { place, snapshot_after })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn edge(xid: i64, ended: i64, seconds: i64) -> Edge {
        Edge {
            xid,
            ended,
            now: time(seconds),
            cluster: Cluster("1/1".to_owned()),
            after_id: 0,
            begin_time: None,
            dropped_xid: None,
            dropped_time: None,
        }
    }

    #[test]
    fn a_token_says_where_to_go_on_and_belongs_to_its_question() {
        let tokens = ResumeTokens::new(PageTokens::new(vec![7; 32]));
        let cluster = Cluster("7711/00000001".to_owned());
        for (since, snapshot_after) in [(None, None), (Some(time(9)), Some(Uuid::from_u128(5)))] {
            let resume = Resume { place: Place { xid: 70, id: 8, since }, snapshot_after };
            let token = tokens.issue(&["assets", "a"], &cluster, &resume);
            assert_eq!(tokens.open(&token, &["assets", "a"]), Ok(Some((cluster.clone(), resume))));
            assert_eq!(tokens.open(&token, &["assets", "b"]), Err(TokenError::OtherQuestion));
        }
        assert_eq!(tokens.open("", &["assets", "a"]), Ok(None));
        let page = PageTokens::new(vec![7; 32]).issue(&["assets", "a"], vec!["x".to_owned(); 5]);
        assert_eq!(tokens.open(&page, &["assets", "a"]), Err(TokenError::Foreign));
    }

    #[test]
    fn old_days_are_spared_only_once_the_feed_is_past_what_had_ended_then() {
        let mut since = Since::default();
        // A transaction of number 10 runs on and on: what came after it is unsettled.
        for second in 0..3 {
            assert_eq!(since.pass(&edge(10, 20 + second, second)), None);
        }
        // Another one, of 15, had begun then too.
        assert_eq!(since.pass(&edge(15, 40, 5)), None);
        assert_eq!(since.pass(&edge(20, 41, 6)), None);
        assert_eq!(since.pass(&edge(41, 41, 7)), Some(time(0)));
        // Nothing was new since.
        assert_eq!(since.pass(&edge(41, 41, 8)), Some(time(0)));
        assert_eq!(since.pass(&edge(42, 42, 9)), Some(time(7)));
        assert_eq!(Place { xid: 1, id: 0, since: None }.earliest(), DateTime::UNIX_EPOCH);
    }

    #[test]
    fn what_was_dropped_is_missed() {
        let mut edge = edge(100, 100, 0);
        let place = Place { xid: 50, id: 3, since: None };
        assert!(!edge.has_dropped(&place, None));
        assert_eq!(edge.lacks(time(0)), None);
        edge.dropped_xid = Some(49);
        assert!(!edge.has_dropped(&place, None));
        edge.dropped_xid = Some(50);
        assert!(edge.has_dropped(&place, None));
        edge.dropped_time = Some(time(5));
        assert!(edge.lacks(time(5)).is_some() && edge.has_dropped(&place, Some(time(5))));
        assert!(!edge.has_dropped(&place, Some(time(6))));
        assert_eq!(edge.lacks(time(6)), None);
        edge.begin_time = Some(time(8));
        assert_eq!(edge.lacks(time(6)), Some(time(8)));
    }
}
