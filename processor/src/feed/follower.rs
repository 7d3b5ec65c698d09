//! One who follows the feed from a place on: by itself while it is behind, then
//! at the head.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

use super::{Ending, Feed, Following, Head, Page};
use crate::{
    domain::feed::{Cluster, Edge, Place, Since},
    store::{
        change::{PAGE, page},
        feed::edge,
    },
};

/// Until the tailer, which begins with the first follower, runs.
const TAILER_COMES: Duration = Duration::from_millis(50);

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// Rows, of which those up to the place are told already.
    Page(Arc<Page>, Place),
    /// All that was recorded at the beginning is told.
    Synced,
    /// Nothing, until the given time.
    Nothing,
}

/// Follows the feed.
pub struct Follower {
    feed: Feed,
    cluster: Cluster,
    place: Place,
    since: Since,
    /// Once the place is there, what was asked for at the beginning is told.
    synced_at: Option<Place>,
    /// What was recorded earlier is of no interest.
    from: Option<chrono::DateTime<chrono::Utc>>,
    mode: Mode,
    _following: Following,
}

enum Mode {
    /// Reads for itself up to an edge; with what comes after the head, if that was
    /// asked for already.
    Behind { edge: Option<Edge>, head: Option<(Receiver<Arc<Page>>, Head)> },
    /// Takes what the tailer reads.
    AtHead(Receiver<Arc<Page>>),
}

impl Follower {
    /// Follows from a place on.
    pub fn new(
        feed: Feed,
        cluster: Cluster,
        place: Place,
        from: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Self {
        let following = feed.enter();
        Self {
            feed,
            cluster,
            place,
            since: Since::of(&place),
            synced_at: None,
            from,
            mode: Mode::Behind { edge: None, head: None },
            _following: following,
        }
    }

    /// Up to which place all is told.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Tells when all is told that had ended at an edge.
    pub fn sync_at(&mut self, edge: &Edge) {
        self.synced_at = Some(edge.all());
    }

    /// What comes next, at `until` at the latest. Waits are given up when `gone`
    /// ends.
    ///
    /// # Errors
    /// See [`Ending`].
    pub async fn next(&mut self, until: Instant, gone: impl Future<Output = ()>) -> Result<Step, Ending> {
        tokio::pin!(gone);
        loop {
            if self.synced_at.is_some_and(|at| !self.place.is_before(&at)) {
                self.synced_at = None;
                return Ok(Step::Synced);
            }
            match &mut self.mode {
                Mode::Behind { .. } => {
                    // A read is not dropped midway, so it is not raced.
                    if let Some(step) = self.catch_up().await? {
                        return Ok(step);
                    }
                    if matches!(self.mode, Mode::Behind { head: None, .. }) {
                        // The tailer comes, or comes back.
                        let soon = (Instant::now() + TAILER_COMES).min(until);
                        tokio::select! {
                            () = tokio::time::sleep_until(soon) => {}
                            () = &mut gone => return Err(Ending::Gone),
                            () = self.feed.shutdown().cancelled() => return Err(Ending::ShuttingDown),
                        }
                        if soon == until {
                            return Ok(Step::Nothing);
                        }
                    }
                }
                Mode::AtHead(pages) => {
                    let received = tokio::select! {
                        received = pages.recv() => received,
                        () = tokio::time::sleep_until(until) => return Ok(Step::Nothing),
                        () = &mut gone => return Err(Ending::Gone),
                        () = self.feed.shared.shutdown.cancelled() => return Err(Ending::ShuttingDown),
                    };
                    match received {
                        Ok(page) if page.cluster != self.cluster => return Err(Ending::Restored),
                        Ok(page) if self.place.is_before(&page.end) => {
                            let told = std::mem::replace(&mut self.place, page.end);
                            return Ok(Step::Page(page, told));
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => {
                            self.feed.metrics().behind.inc();
                            self.since = Since::of(&self.place);
                            self.mode = Mode::Behind { edge: None, head: None };
                        }
                        Err(RecvError::Closed) => return Err(Ending::ShuttingDown),
                    }
                }
            }
        }
    }

    /// Reads the next page; or, when there is none, goes to the head if that can
    /// be done.
    async fn catch_up(&mut self) -> Result<Option<Step>, Ending> {
        let Mode::Behind { edge: last, head } = &mut self.mode else { return Ok(None) };
        if let Some((pages, at)) = head.take_if(|(_, at)| !self.place.is_before(&at.place)) {
            if at.cluster != self.cluster {
                return Err(Ending::Restored);
            }
            self.mode = Mode::AtHead(pages);
            return Ok(None);
        }
        let (last, place, from) = (last.take(), self.place, self.from);
        let (at, rows, next) = self
            .feed
            .read(async |connection| {
                let at = match last {
                    Some(edge) => edge,
                    None => edge(connection).await?,
                };
                if !place.is_before(&at.place(None)) {
                    return Ok((at, None, None));
                }
                let rows = page(connection, &place, &at, from).await?;
                // Looked at afterwards: the rows were there when they were read.
                let next = edge(connection).await?;
                Ok((at, Some(rows), Some(next)))
            })
            .await?;
        let latest = next.as_ref().unwrap_or(&at);
        if latest.cluster != self.cluster || at.cluster != self.cluster {
            return Err(Ending::Restored);
        }
        if latest.has_dropped(&self.place, self.from) {
            return Err(Ending::Dropped);
        }
        let since = self.since.pass(&at);
        if let Some(rows) = rows {
            let start = self.place;
            let last = rows.last().filter(|_| rows.len() == PAGE);
            let end = match last {
                Some(last) => Place { xid: last.xid, id: last.row.id, since: start.since },
                None => at.place(since),
            };
            if let Mode::Behind { edge, head } = &mut self.mode {
                if last.is_some() {
                    // There is more below it.
                    *edge = next;
                } else if head.is_none() {
                    *head = self.feed.subscribe();
                }
            }
            self.place = end;
            let page = Page::new(rows, self.cluster.clone(), start, end);
            return Ok(Some(Step::Page(Arc::new(page), start)));
        }
        if let Mode::Behind { head: head @ None, .. } = &mut self.mode {
            *head = self.feed.subscribe();
        }
        Ok(None)
    }
}
