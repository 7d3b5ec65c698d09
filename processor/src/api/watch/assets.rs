//! WatchAssets.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use contracts::v1::{
    Asset, AssetChange, AssetChangeType, AssetLeaveReason, WatchAssetsRequest, WatchAssetsResponse,
    WatchResponseType,
};
use futures::stream::BoxStream;
use kit::{identity::Collection, status::invalid_field};
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{
    ANSWER_BYTES, Taken, Watches, heartbeat, lag, note,
    outlet::{Outlet, failed, outlet},
    page_size,
};
use crate::{
    api::{Api, convert, errors, task::in_task},
    domain::{
        changes::Descriptors,
        feed::{Cluster, Place, Resume},
        filter::{self, Value},
        watched::{Before, View},
    },
    feed::{Ending, Follower, Item, Page, Step},
    store::{
        asset::{AssetOnNode, COLUMNS},
        change::snapshot,
        feed::edge,
        filter_sql::compile,
        sql::Sql,
    },
};

/// What a watch of assets answers.
pub type Answers = BoxStream<'static, Result<WatchAssetsResponse, Status>>;

impl Api {
    pub(in crate::api) async fn watch_assets_from(
        &self,
        request: Request<WatchAssetsRequest>,
    ) -> Result<Answers, Status> {
        let request = request.into_inner();
        let page_size = page_size(request.page_size)?;
        let heartbeat = heartbeat(request.heartbeat_interval)?;
        let (schema, begin) = (self.asset_schema(), Utc::now());
        let read = |now| filter::read(&request.filter, &schema, now).map_err(|error| errors::filter(&error));
        let (predicate, later) = (read(begin)?, read(begin + TimeDelta::seconds(1))?);
        let condition = predicate.as_ref().map(|predicate| compile(predicate, &COLUMNS));
        let view = View::new(predicate, later.as_ref(), request.show_deleted)
            .map_err(|error| invalid_field("filter", "NOT_WATCHABLE", error.to_string()))?;
        let question = question(&request);
        let question_parts: Vec<&str> = question.iter().map(String::as_str).collect();
        let resumed = self.watches.open(&request.resume_token, &question_parts)?;

        let taken = self.watches.take("assets")?;
        let feed = self.watches.feed.clone();
        let now = in_task(async move { feed.edge().await.map_err(|ending| failed(&ending)) }).await?;
        let (resume, told) = match resumed {
            Some((cluster, resume)) => {
                self.watches.check(&now, &cluster, &resume.place, None)?;
                (resume, resume.snapshot_after.is_none())
            }
            None => (Resume { place: now.place(None), snapshot_after: None }, request.omit_snapshot),
        };
        let (outlet, answers) =
            outlet(self.watches.patience, self.watches.feed.shutdown().clone(), request.resume_token);
        let mut follower = Follower::new(self.watches.feed.clone(), now.cluster.clone(), resume.place, None);
        follower.sync_at(&now);
        let watch = Watch {
            watches: self.watches.clone(),
            descriptors: self.descriptors.clone(),
            view,
            show_deleted: request.show_deleted,
            condition,
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
        tokio::spawn(watch.run(follower, (!told).then_some(resume)));
        Ok(answers)
    }
}

/// What a token belongs to.
fn question(request: &WatchAssetsRequest) -> [String; 3] {
    let deleted = if request.show_deleted { "deleted" } else { "" };
    ["watch assets".to_owned(), request.filter.clone(), deleted.to_owned()]
}

struct Watch {
    watches: Watches,
    descriptors: Arc<Descriptors>,
    view: View,
    show_deleted: bool,
    condition: Option<Sql>,
    question: [String; 3],
    cluster: Cluster,
    page_size: usize,
    heartbeat: Duration,
    outlet: Outlet<WatchAssetsResponse>,
    /// When the client was last told something.
    spoke: Instant,
    /// What the next answer will tell.
    answer: Vec<AssetChange>,
    bytes: usize,
    _taken: Taken,
}

impl Watch {
    async fn run(mut self, follower: Follower, untold: Option<Resume>) {
        let Err(ending) = self.watch(follower, untold).await;
        note("assets", &self.watches.feed, &ending);
        self.outlet.end(ending);
    }

    async fn watch(
        &mut self,
        mut follower: Follower,
        untold: Option<Resume>,
    ) -> Result<std::convert::Infallible, Ending> {
        if let Some(resume) = untold {
            self.tell_snapshot(&mut follower, resume).await?;
        }
        loop {
            let step = follower.next(self.spoke + self.heartbeat, self.outlet.gone()).await?;
            match step {
                Step::Page(page, told) => {
                    self.tell_page(&page, told).await?;
                    if self.spoke.elapsed() >= self.heartbeat {
                        self.say(WatchResponseType::Heartbeat, follower.place(), None).await?;
                    }
                }
                Step::Synced => self.say(WatchResponseType::Synced, follower.place(), None).await?,
                Step::Nothing => self.say(WatchResponseType::Heartbeat, follower.place(), None).await?,
            }
        }
    }

    /// Tells what there is, asset by asset; what changes meanwhile comes after it.
    async fn tell_snapshot(&mut self, follower: &mut Follower, resume: Resume) -> Result<(), Ending> {
        let limit = i64::try_from(self.page_size).unwrap_or(i64::MAX);
        let mut after = resume.snapshot_after;
        loop {
            let (condition, show_deleted) = (self.condition.clone(), self.show_deleted);
            let read = self
                .watches
                .feed
                .read(async |connection| snapshot(connection, condition, show_deleted, after, limit).await);
            let rows: Vec<AssetOnNode> = read.await?;
            let Some(last) = rows.last().map(|(last, ..)| last.uid) else { break };
            let full = rows.len() == self.page_size;
            for row in rows {
                after = Some(row.0.uid);
                self.put(shown(AssetChangeType::Added, convert::asset(row)));
                if self.is_full() {
                    self.say(WatchResponseType::Snapshot, resume.place, after).await?;
                }
            }
            if !self.answer.is_empty() {
                self.say(WatchResponseType::Snapshot, resume.place, Some(last)).await?;
            }
            if !full {
                break;
            }
        }
        // What was read was there at the latest now.
        let now = self.watches.feed.read(async |connection| edge(connection).await).await?;
        follower.sync_at(&now);
        Ok(())
    }

    async fn tell_page(&mut self, page: &Page, told: Place) -> Result<(), Ending> {
        let items = || page.items.iter().filter(|item| told.is_before(&page.place(item)));
        let wanted: Vec<(Uuid, i64)> = items()
            .filter_map(|item| {
                let revision = item.change.row.revision?;
                (self.before(item, revision) == Before::Unknown)
                    .then_some((item.change.row.asset_uid, revision - 1))
            })
            .collect();
        let earlier = page.earlier(&self.watches.feed, &wanted).await?;
        for item in items() {
            // Without one it came too late to change anything.
            let Some(revision) = item.change.row.revision else { continue };
            let attributes = self.view.needs_attributes();
            let subject = item.subject(&self.descriptors, attributes);
            let deleted = item.change.deleted().is_some();
            let holds = self.view.holds(subject, deleted);
            let held = match self.before(item, revision) {
                Before::Nothing => false,
                Before::Same => self.view.holds(subject, false),
                Before::Active => {
                    let mut before = subject.clone();
                    for (name, value) in &mut before.columns {
                        if *name == "state" {
                            *value = Value::Number(1);
                        }
                    }
                    self.view.holds(&before, false)
                }
                Before::Unknown => match earlier.get(&(item.change.row.asset_uid, revision - 1)) {
                    Some(earlier) => {
                        let before = item.subject_before(earlier, &self.descriptors, attributes);
                        self.view.holds(&before, earlier.is_deletion())
                    }
                    // Told as if it was held: LEFT too often does no harm.
                    None => true,
                },
            };
            match (held, holds) {
                (false, false) => continue,
                (true, false) => self.put(left(item, revision, deleted && !self.show_deleted)),
                (false, true) => {
                    self.put(shown(AssetChangeType::Added, convert::asset(item.change.after())));
                }
                (true, true) => {
                    self.put(shown(AssetChangeType::Changed, convert::asset(item.change.after())));
                }
            }
            if self.is_full() {
                self.say(WatchResponseType::Changes, page.place(item), None).await?;
            }
        }
        if !self.answer.is_empty() {
            self.say(WatchResponseType::Changes, page.end, None).await?;
        }
        Ok(())
    }

    fn before(&self, item: &Item, revision: i64) -> Before {
        self.view.before(item.change.event_type(), revision, &item.change.row.changed_fields)
    }

    fn put(&mut self, change: AssetChange) {
        self.bytes += change.encoded_len();
        self.answer.push(change);
    }

    fn is_full(&self) -> bool {
        self.answer.len() >= self.page_size || self.bytes >= ANSWER_BYTES
    }

    /// Tells what is put together.
    async fn say(
        &mut self,
        answer_type: WatchResponseType,
        place: Place,
        snapshot_after: Option<Uuid>,
    ) -> Result<(), Ending> {
        let question: Vec<&str> = self.question.iter().map(String::as_str).collect();
        let resume = Resume { place, snapshot_after };
        let idle = answer_type == WatchResponseType::Heartbeat;
        let answer = WatchAssetsResponse {
            r#type: answer_type.into(),
            changes: std::mem::take(&mut self.answer),
            resume_token: self.watches.tokens.issue(&question, &self.cluster, &resume),
            lag: idle.then(|| lag(&self.watches.feed)).flatten(),
        };
        self.bytes = 0;
        self.outlet.send(answer).await?;
        self.spoke = Instant::now();
        Ok(())
    }
}

fn shown(change: AssetChangeType, asset: Asset) -> AssetChange {
    AssetChange {
        r#type: change.into(),
        name: asset.name.clone(),
        revision: asset.revision,
        asset: Some(asset),
        leave_reason: AssetLeaveReason::Unspecified.into(),
    }
}

fn left(item: &Item, revision: i64, deleted: bool) -> AssetChange {
    let reason = if deleted { AssetLeaveReason::Deleted } else { AssetLeaveReason::Changed };
    AssetChange {
        r#type: AssetChangeType::Left.into(),
        name: Collection::Assets.name(item.change.row.asset_uid),
        revision,
        asset: None,
        leave_reason: reason.into(),
    }
}
