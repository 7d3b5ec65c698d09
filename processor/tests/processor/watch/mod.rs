//! Watches: what a client holds that folds what it is told.

mod feed;
mod resume;
mod view;
mod whatever;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use contracts::v1::{
    Asset, AssetChangeType, Event, ListAssetsRequest, WatchAssetsRequest, WatchAssetsResponse,
    WatchEventsRequest, WatchEventsResponse, WatchResponseType, asset_service_client::AssetServiceClient,
    event_service_client::EventServiceClient,
};
use tonic::{Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::running::Running;

pub const DEADLINE: Duration = Duration::from_secs(40);

/// One answer, which comes in time.
pub async fn answer<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let answer = tokio::time::timeout(DEADLINE, stream.message()).await.expect("an answer in time");
    answer.map(|answer| answer.expect("a watch ends with a status"))
}

/// A filter, watched from the beginning.
pub fn assets(filter: &str) -> WatchAssetsRequest {
    WatchAssetsRequest { filter: filter.to_owned(), ..Default::default() }
}

pub async fn watch_assets(
    channel: &Channel,
    request: WatchAssetsRequest,
) -> Result<Streaming<WatchAssetsResponse>, Status> {
    let mut client = AssetServiceClient::new(channel.clone());
    Ok(client.watch_assets(request).await?.into_inner())
}

pub async fn watch_events(
    channel: &Channel,
    request: WatchEventsRequest,
) -> Result<Streaming<WatchEventsResponse>, Status> {
    let mut client = EventServiceClient::new(channel.clone());
    Ok(client.watch_events(request).await?.into_inner())
}

/// Waits until a watch of events is at its beginning. Transactions of other tests
/// may hold it back.
pub async fn synced(stream: &mut Streaming<WatchEventsResponse>) -> WatchEventsResponse {
    loop {
        let answer = answer(stream).await.unwrap();
        assert!(answer.events.is_empty(), "{answer:?}");
        if answer.r#type() == WatchResponseType::Synced {
            return answer;
        }
    }
}

/// Reason and token of an ending.
pub fn ending(status: &Status) -> (String, String) {
    let Some(info) = status.get_details_error_info() else { return Default::default() };
    (info.reason, info.metadata.get("resume_token").cloned().unwrap_or_default())
}

/// What a client holds, and whether it was told what it must not be told.
#[derive(Debug, Default)]
pub struct Fold {
    pub held: BTreeMap<String, Asset>,
    /// Newest revision that a change, or the snapshot, told of.
    told: HashMap<String, i64>,
    changed: HashMap<String, i64>,
    pub token: String,
    pub synced: u64,
    pub resumed: u64,
}

impl Fold {
    pub fn take(&mut self, answer: WatchAssetsResponse) {
        assert!(!answer.resume_token.is_empty());
        self.token = answer.resume_token;
        match WatchResponseType::try_from(answer.r#type).unwrap() {
            WatchResponseType::Synced => self.synced += 1,
            WatchResponseType::Heartbeat => assert!(answer.changes.is_empty()),
            WatchResponseType::Snapshot => {
                for change in answer.changes {
                    assert_eq!(change.r#type(), AssetChangeType::Added);
                    let told = self.told.insert(change.name.clone(), change.revision);
                    assert_eq!(told, None, "the snapshot told twice of {}", change.name);
                    self.held.insert(change.name, change.asset.unwrap());
                }
            }
            WatchResponseType::Changes => {
                assert!(!answer.changes.is_empty());
                for change in answer.changes {
                    let before = self.changed.insert(change.name.clone(), change.revision).unwrap_or(0);
                    assert!(
                        before < change.revision,
                        "{} changed to {} after {before}",
                        change.name,
                        change.revision
                    );
                    let told = self.told.entry(change.name.clone()).or_default();
                    if *told >= change.revision {
                        continue;
                    }
                    *told = change.revision;
                    if change.r#type() == AssetChangeType::Left {
                        assert!(change.asset.is_none() && change.leave_reason != 0);
                        self.held.remove(&change.name);
                    } else {
                        let asset = change.asset.unwrap();
                        assert_eq!((&asset.name, asset.revision), (&change.name, change.revision));
                        self.held.insert(change.name, asset);
                    }
                }
            }
            WatchResponseType::Unspecified => panic!("an answer without a type"),
        }
    }

    /// Takes answers up to SYNCED.
    pub async fn sync(&mut self, stream: &mut Streaming<WatchAssetsResponse>) {
        let before = self.synced;
        while self.synced == before {
            self.take(answer(stream).await.unwrap());
        }
    }

    /// Takes answers until the client holds what the table has.
    pub async fn equals_table(
        &mut self,
        running: &Running,
        stream: &mut Streaming<WatchAssetsResponse>,
        filter: &str,
    ) {
        let expected = table(running, filter, false).await;
        while comparable(&self.held) != expected {
            self.take(answer(stream).await.unwrap());
        }
    }
}

/// What a watch of the same filter must hold.
pub async fn table(running: &Running, filter: &str, show_deleted: bool) -> BTreeMap<String, Asset> {
    let mut request =
        ListAssetsRequest { filter: filter.to_owned(), show_deleted, page_size: 1000, ..Default::default() };
    let mut listed = BTreeMap::new();
    loop {
        let page = running.assets().list_assets(request.clone()).await.unwrap().into_inner();
        listed.extend(page.assets.into_iter().map(|asset| (asset.name.clone(), asset)));
        if page.next_page_token.is_empty() {
            return comparable(&listed);
        }
        request.page_token = page.next_page_token;
    }
}

/// Without what moves without an event.
pub fn comparable(held: &BTreeMap<String, Asset>) -> BTreeMap<String, Asset> {
    let mut held = held.clone();
    for asset in held.values_mut() {
        asset.last_seen_time = None;
    }
    held
}

/// Events of a log, as the database has them, by their names.
pub async fn logged(running: &Running) -> Vec<String> {
    let query = "SELECT 'events/' || event_uid FROM asset_event ORDER BY 1";
    let rows = running.database.connect().await.query(query, &[]).await.unwrap();
    rows.into_iter().map(|row| row.get(0)).collect()
}

pub fn names(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.name.clone()).collect()
}
