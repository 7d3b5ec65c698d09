//! The streams of a node, for its log.

use std::{
    collections::HashMap,
    ops::{Bound, RangeBounds as _},
};

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::{
    domain::fold::Version,
    store::integrity::{StreamRow, ToldRow, streams},
};

/// Numbers of streams, and which of their sequences came.
#[derive(Debug, Default)]
pub struct Streams {
    streams: HashMap<Uuid, (i32, Vec<(Bound<i64>, Bound<i64>)>)>,
    renumbered: bool,
}

impl Streams {
    /// Loads those of a node.
    ///
    /// # Errors
    /// The query fails.
    pub async fn load(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Self> {
        Ok(Self::of(streams(connection, node).await?))
    }

    /// `rows` as they were seen for the first time.
    fn of(rows: Vec<StreamRow>) -> Self {
        // Heartbeats gave one another number after its rows were logged, under one
        // that is not known any more.
        let renumbered = rows.windows(2).any(|pair| pair[0].number > pair[1].number);
        let streams = rows.into_iter().map(|row| (row.stream, (row.number, row.received)));
        Self { streams: streams.collect(), renumbered }
    }

    /// Version of a row, where its streams still have their first numbers.
    pub fn version(&self, row: &ToldRow) -> Option<Version> {
        if self.renumbered {
            return None;
        }
        let (number, _) = self.streams.get(&row.stream?)?;
        Some(Version { stream_number: *number, sequence: row.sequence?, index: row.batch_index? })
    }

    /// What is wrong with the place that an agent's row says it has.
    pub fn complaint(&self, row: &ToldRow) -> Option<String> {
        if !row.by_agent {
            return None;
        }
        let (Some(stream), Some(sequence)) = (row.stream, row.sequence) else {
            return Some(format!("stream: is missing in the log at revision {:?}", row.revision));
        };
        match self.streams.get(&stream) {
            None => Some(format!("stream: is {stream}, which the node does not have")),
            Some((_, received)) if !received.iter().any(|range| range.contains(&sequence)) => {
                Some(format!("sequence: is {sequence} of stream {stream}, which never came"))
            }
            Some(_) => None,
        }
    }

    /// What is wrong with the version of an asset, given the newest one that its
    /// log has: listings that change nothing refresh it, and are not logged.
    pub fn stale(&self, version: Version, logged: Version) -> Option<String> {
        if self.renumbered || version == logged {
            return None;
        }
        let shown = |version: Version| {
            format!("({}, {}, {})", version.stream_number, version.sequence, version.index)
        };
        if version < logged {
            return Some(format!("version: is {}, should be {} or newer", shown(version), shown(logged)));
        }
        let came = self.streams.values().any(|(number, received)| {
            *number == version.stream_number && received.iter().any(|range| range.contains(&version.sequence))
        });
        (!came).then(|| {
            format!("version: is {}, which never came, should be {} or newer", shown(version), shown(logged))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn stream(number: i32, seconds: i64) -> StreamRow {
        StreamRow {
            stream: Uuid::from_u128(u128::from(number.unsigned_abs())),
            number,
            received: vec![(Bound::Included(1), Bound::Excluded(4))],
            create_time: DateTime::from_timestamp(seconds, 0).unwrap(),
        }
    }

    #[test]
    fn a_version_may_be_refreshed_by_what_came_and_by_nothing_else() {
        let streams = Streams::of(vec![stream(1, 1), stream(2, 2)]);
        let version = |stream_number, sequence| Version { stream_number, sequence, index: 0 };
        for (is, logged, wrong) in [
            (version(1, 2), version(1, 2), false),
            (version(2, 3), version(1, 2), false),
            (version(1, 1), version(1, 2), true),
            (version(2, 4), version(1, 2), true),
            (version(3, 1), version(1, 2), true),
        ] {
            assert_eq!(streams.stale(is, logged).is_some(), wrong, "{is:?} {logged:?}");
        }
        let renumbered = Streams::of(vec![stream(3, 1), stream(2, 2)]);
        assert_eq!(renumbered.stale(version(1, 1), version(3, 2)), None);
    }
}
