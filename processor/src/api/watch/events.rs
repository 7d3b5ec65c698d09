//! WatchEvents.

use std::{convert::Infallible, time::Duration};

use chrono::{DateTime, Utc};
use contracts::v1::{Event, WatchEventsRequest, WatchEventsResponse, WatchResponseType};
use futures::stream::BoxStream;
use kit::status::{error, invalid_field};
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use super::{
    ANSWER_BYTES, Taken, Watches, heartbeat, lag, note,
    outlet::{Outlet, failed, outlet},
    page_size,
};
use crate::{
    api::{Api, convert, errors, task::in_task},
    domain::{
        feed::{Cluster, Edge, Place, Resume},
        filter::{self, Predicate},
    },
    feed::{Ending, Follower, Page, Step},
};

/// What a watch of events answers.
pub type Answers = BoxStream<'static, Result<WatchEventsResponse, Status>>;

impl Api {
    pub(in crate::api) async fn watch_events_from(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Answers, Status> {
        let request = request.into_inner();
        let page_size = page_size(request.page_size)?;
        let heartbeat = heartbeat(request.heartbeat_interval)?;
        let predicate = filter::read(&request.filter, &self.event_schema(), Utc::now())
            .map_err(|error| errors::filter(&error))?;
        let from = start(request.start_time)?;
        let question = question(&request, from);
        let question_parts: Vec<&str> = question.iter().map(String::as_str).collect();
        let resumed = self.watches.open(&request.resume_token, &question_parts)?;

        let taken = self.watches.take("events")?;
        let feed = self.watches.feed.clone();
        let now = in_task(async move { feed.edge().await.map_err(|ending| failed(&ending)) }).await?;
        let place = match (resumed, from) {
            (Some((cluster, resume)), _) => {
                self.watches.check(&now, &cluster, &resume.place, from)?;
                resume.place
            }
            (None, Some(from)) => {
                check_start(&now, from)?;
                Place::BEGINNING
            }
            (None, None) => now.place(None),
        };
        let (outlet, answers) =
            outlet(self.watches.patience, self.watches.feed.shutdown().clone(), request.resume_token);
        let mut follower = Follower::new(self.watches.feed.clone(), now.cluster.clone(), place, from);
        follower.sync_at(&now);
        let watch = Watch {
            watches: self.watches.clone(),
            predicate,
            from,
            question,
            cluster: now.cluster,
            page_size,
            heartbeat,
            outlet,
            spoke: Instant::now(),
            answer: Vec::new(),
            bytes: 0,
            _taken: taken,
        };
        tokio::spawn(watch.run(follower));
        Ok(answers)
    }
}

/// What a token belongs to.
fn question(request: &WatchEventsRequest, from: Option<DateTime<Utc>>) -> [String; 3] {
    let from = from.map(|from| from.timestamp_micros().to_string());
    ["watch events".to_owned(), request.filter.clone(), from.unwrap_or_default()]
}

/// A time, to the microsecond as the log has them.
fn start(time: Option<prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>, Status> {
    let Some(time) = time else { return Ok(None) };
    let micros = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let time = micros.and_then(|nanos| {
        DateTime::from_timestamp(time.seconds, nanos.div_ceil(1000) * 1000 % 1_000_000_000)
    });
    let year = 1..=9999;
    time.filter(|time| year.contains(&chrono::Datelike::year(time)))
        .map(Some)
        .ok_or_else(|| invalid_field("start_time", "INVALID_FIELD", "is no time of the years 1 to 9999"))
}

fn check_start(now: &Edge, from: DateTime<Utc>) -> Result<(), Status> {
    let Some(earliest) = now.lacks(from) else { return Ok(()) };
    let earliest = earliest.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let text = format!("start_time: what was recorded before {earliest} cannot be told any more");
    let at = [("field", "start_time"), ("earliest", earliest.as_str())];
    Err(error(Code::OutOfRange, "OUT_OF_RETENTION", text, &at))
}

struct Watch {
    watches: Watches,
    predicate: Option<Predicate>,
    from: Option<DateTime<Utc>>,
    question: [String; 3],
    cluster: Cluster,
    page_size: usize,
    heartbeat: Duration,
    outlet: Outlet<WatchEventsResponse>,
    /// When the client was last told something.
    spoke: Instant,
    /// What the next answer will tell.
    answer: Vec<Event>,
    bytes: usize,
    _taken: Taken,
}

impl Watch {
    async fn run(mut self, follower: Follower) {
        let Err(ending) = self.watch(follower).await;
        note("events", &self.watches.feed, &ending);
        self.outlet.end(ending);
    }

    async fn watch(&mut self, mut follower: Follower) -> Result<Infallible, Ending> {
        loop {
            let step = follower.next(self.spoke + self.heartbeat, self.outlet.gone()).await?;
            match step {
                Step::Page(page, told) => {
                    self.tell_page(&page, told).await?;
                    if self.spoke.elapsed() >= self.heartbeat {
                        self.say(WatchResponseType::Heartbeat, follower.place()).await?;
                    }
                }
                Step::Synced => self.say(WatchResponseType::Synced, follower.place()).await?,
                Step::Nothing => self.say(WatchResponseType::Heartbeat, follower.place()).await?,
            }
        }
    }

    async fn tell_page(&mut self, page: &Page, told: Place) -> Result<(), Ending> {
        for item in page.items.iter().filter(|item| told.is_before(&page.place(item))) {
            let wanted = self.from.is_none_or(|from| item.change.row.record_time >= from)
                && self.predicate.as_ref().is_none_or(|predicate| predicate.matches(item.event_subject()));
            if !wanted {
                continue;
            }
            let event = convert::event(item.change.event());
            self.bytes += event.encoded_len();
            self.answer.push(event);
            if self.answer.len() >= self.page_size || self.bytes >= ANSWER_BYTES {
                self.say(WatchResponseType::Changes, page.place(item)).await?;
            }
        }
        if !self.answer.is_empty() {
            self.say(WatchResponseType::Changes, page.end).await?;
        }
        Ok(())
    }

    /// Tells what is put together.
    async fn say(&mut self, answer_type: WatchResponseType, place: Place) -> Result<(), Ending> {
        let question: Vec<&str> = self.question.iter().map(String::as_str).collect();
        let resume = Resume { place, snapshot_after: None };
        let idle = answer_type == WatchResponseType::Heartbeat;
        let answer = WatchEventsResponse {
            r#type: answer_type.into(),
            events: std::mem::take(&mut self.answer),
            resume_token: self.watches.tokens.issue(&question, &self.cluster, &resume),
            lag: idle.then(|| lag(&self.watches.feed)).flatten(),
        };
        self.bytes = 0;
        self.outlet.send(answer).await?;
        self.spoke = Instant::now();
        Ok(())
    }
}
