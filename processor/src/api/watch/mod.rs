//! WatchAssets and WatchEvents: what requests say, and what watches have in
//! common.

mod assets;
mod events;
mod outlet;

use std::{sync::Arc, time::Duration};

use kit::status::{invalid_field, retry_later};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use super::request;
use crate::{
    domain::{
        feed::{Cluster, Edge, Place, Resume, ResumeTokens},
        page_token::{PageTokens, TokenError},
    },
    feed::{Ending, Feed, WatchLabel},
};
pub use assets::Answers as AssetAnswers;
pub use events::Answers as EventAnswers;
use outlet::failed;

/// Assets or events of an answer if none are asked for.
const DEFAULT_PAGE: i32 = 200;
/// Bytes from which on an answer is full.
const ANSWER_BYTES: usize = 64 * 1024;
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEATS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// After a refusal.
const RETRY: Duration = Duration::from_secs(1);

/// What watches need.
#[derive(Clone)]
pub struct Watches {
    feed: Feed,
    tokens: ResumeTokens,
    free: Arc<Semaphore>,
    limit: usize,
    patience: Duration,
}

impl Watches {
    /// At most `limit` at a time; a client that takes nothing for `patience` is
    /// given up.
    pub fn new(feed: Feed, tokens: PageTokens, limit: usize, patience: Duration) -> Self {
        let free = Arc::new(Semaphore::new(limit));
        Self { feed, tokens: ResumeTokens::new(tokens), free, limit, patience }
    }

    fn take(&self, what: &'static str) -> Result<Taken, Status> {
        if self.feed.shutdown().is_cancelled() {
            return Err(failed(&Ending::ShuttingDown));
        }
        let Ok(permit) = self.free.clone().try_acquire_owned() else {
            let text = format!("{} watch already; try again", self.limit);
            return Err(retry_later(Code::ResourceExhausted, "TOO_MANY_WATCHES", text, RETRY));
        };
        let label = WatchLabel { what };
        self.feed.metrics().watches.get_or_create(&label).inc();
        Ok(Taken { feed: self.feed.clone(), label, _permit: permit })
    }

    /// What a resume token says; none if there is no token.
    fn open(&self, token: &str, question: &[&str]) -> Result<Option<(Cluster, Resume)>, Status> {
        self.tokens.open(token, question).map_err(|cause| {
            let problem = match cause {
                TokenError::Foreign => "is not a resume token of this inventory".to_owned(),
                TokenError::OtherQuestion => cause.to_string(),
            };
            invalid_field("resume_token", "INVALID_RESUME_TOKEN", problem)
        })
    }

    /// Whether a watch can go on there.
    fn check(
        &self,
        edge: &Edge,
        cluster: &Cluster,
        place: &Place,
        from: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Result<(), Status> {
        // A place ahead of the database: it was set back to an older copy.
        if edge.cluster != *cluster || edge.place(None).is_before(place) {
            return Err(outlet::restored());
        }
        if edge.has_dropped(place, from) {
            return Err(outlet::dropped("resume_token"));
        }
        Ok(())
    }
}

/// A watch that is open.
struct Taken {
    feed: Feed,
    label: WatchLabel,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.feed.metrics().watches.get_or_create(&self.label).dec();
    }
}

fn page_size(size: i32) -> Result<usize, Status> {
    request::page_size(if size == 0 { DEFAULT_PAGE } else { size })
}

fn heartbeat(asked: Option<prost_types::Duration>) -> Result<Duration, Status> {
    let Some(asked) = asked else { return Ok(DEFAULT_HEARTBEAT) };
    let interval = Duration::try_from(asked).ok().filter(|interval| HEARTBEATS.contains(interval));
    interval.ok_or_else(|| invalid_field("heartbeat_interval", "INVALID_FIELD", "must be 1 s to 300 s"))
}

/// How long the feed is held back, as answers have it.
fn lag(feed: &Feed) -> Option<prost_types::Duration> {
    feed.lag()?.to_std().ok()?.try_into().ok()
}

/// A task ends with a watch: notes why.
fn note(what: &'static str, feed: &Feed, ending: &Ending) {
    match ending {
        Ending::Stalled => {
            feed.metrics().stalled.inc();
            tracing::warn!(what, "a watch is ended: its client takes nothing");
        }
        Ending::Gone | Ending::ShuttingDown => tracing::debug!(what, why = %ending, "a watch ended"),
        other => tracing::warn!(what, why = %other, "a watch ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_have_their_range() {
        let of = |seconds, nanos| heartbeat(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(heartbeat(None).unwrap(), DEFAULT_HEARTBEAT);
        assert_eq!(of(1, 0).unwrap(), Duration::from_secs(1));
        assert_eq!(of(300, 0).unwrap(), Duration::from_secs(300));
        for (seconds, nanos) in [(0, 0), (0, 999_999_999), (300, 1), (-1, 0), (i64::MAX, 0)] {
            let status = of(seconds, nanos).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{seconds} {nanos}");
            assert!(status.message().starts_with("heartbeat_interval: "), "{status:?}");
        }
        assert_eq!(page_size(0).unwrap(), 200);
        assert_eq!(page_size(2000).unwrap(), 1000);
        assert!(page_size(-1).is_err());
    }
}
