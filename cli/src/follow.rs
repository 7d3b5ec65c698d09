//! Following the log and the inventory: what comes, once each, in order, over
//! whatever cuts the connection.

use std::{collections::HashSet, ops::ControlFlow, time::Duration};

use contracts::v1::{
    AssetChange, Event, ListEventsRequest, WatchAssetsRequest, WatchAssetsResponse, WatchEventsRequest,
    WatchEventsResponse, WatchResponseType, asset_service_client::AssetServiceClient,
    event_service_client::EventServiceClient,
};

use crate::{
    failure::Failure,
    gateway::{Answers, Gateway, MAX_PAGE_BYTES, pages},
};

/// Before a watch that was cut off goes on.
const RETRY: Duration = Duration::from_secs(2);
/// A watch that says nothing for this long is gone: it beats each 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// Events that are shown at the beginning if no number is given.
const FIRST: u64 = 10;

/// Lists events, newest first.
///
/// # Errors
/// Those of the call and of `show`.
pub async fn list(
    gateway: &Gateway,
    filter: &str,
    limit: Option<u64>,
    show: impl FnMut(Vec<Event>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = ListEventsRequest { page_size, page_token, filter: filter.to_owned() };
        let page = gateway.call(request, async |channel, request| {
            EventServiceClient::new(channel)
                .max_decoding_message_size(MAX_PAGE_BYTES)
                .list_events(request)
                .await
        });
        page.await.map(|page| (page.events, page.next_page_token))
    };
    pages(limit, fetch, show).await
}

/// Shows the newest events, oldest first, and then each one that comes, until
/// it fails for good. What may pass is told by `warn`, once an outage, and
/// tried again: nothing that happens meanwhile is lost.
///
/// # Errors
/// A refusal that stays, any failure at the beginning, those of `show`.
pub async fn follow(
    gateway: &Gateway,
    filter: &str,
    limit: Option<u64>,
    mut show: impl FnMut(Vec<Event>) -> Result<(), Failure>,
    warn: impl Fn(&Failure),
) -> Result<(), Failure> {
    let open = async |resume_token| {
        let request = WatchEventsRequest { filter: filter.to_owned(), resume_token, ..Default::default() };
        let opened = gateway.open(request, async |channel, request| {
            EventServiceClient::new(channel)
                .max_decoding_message_size(MAX_PAGE_BYTES)
                .watch_events(request)
                .await
        });
        opened.await
    };
    // Watched first, and then listed: nothing is between the two.
    let mut answers = open(String::new()).await?;
    let first = answers.next(SILENCE).await?.ok_or_else(|| answers.cut())?;
    let mut newest = Vec::new();
    let limit = Some(limit.unwrap_or(FIRST));
    list(gateway, filter, limit, |page| {
        newest.extend(page);
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    newest.reverse();
    let listed: HashSet<String> = newest.iter().map(|event| event.name.clone()).collect();
    show(newest)?;
    let take = |answer: WatchEventsResponse| {
        let mut new = answer.events;
        new.retain(|event| !listed.contains(&event.name));
        if !new.is_empty() {
            show(new)?;
        }
        Ok(answer.resume_token)
    };
    resumed(answers, first, open, take, warn).await
}

/// Shows the assets of a filter, and then what changes in it, as [`follow`] does.
///
/// # Errors
/// As for [`follow`].
pub async fn watch(
    gateway: &Gateway,
    filter: &str,
    show_deleted: bool,
    mut show: impl FnMut(Vec<AssetChange>) -> Result<(), Failure>,
    warn: impl Fn(&Failure),
) -> Result<(), Failure> {
    let open = async |resume_token| {
        let filter = filter.to_owned();
        let request = WatchAssetsRequest { filter, show_deleted, resume_token, ..Default::default() };
        let opened = gateway.open(request, async |channel, request| {
            AssetServiceClient::new(channel)
                .max_decoding_message_size(MAX_PAGE_BYTES)
                .watch_assets(request)
                .await
        });
        opened.await
    };
    let mut answers = open(String::new()).await?;
    let first = answers.next(SILENCE).await?.ok_or_else(|| answers.cut())?;
    let take = |answer: WatchAssetsResponse| {
        // An empty inventory is shown as such.
        if !answer.changes.is_empty() || answer.r#type() == WatchResponseType::Synced {
            show(answer.changes)?;
        }
        Ok(answer.resume_token)
    };
    resumed(answers, first, open, take, warn).await
}

/// Takes answers for ever, again and again from the token that `take` gave last.
async fn resumed<A>(
    mut answers: Answers<A>,
    first: A,
    mut open: impl AsyncFnMut(String) -> Result<Answers<A>, Failure>,
    mut take: impl FnMut(A) -> Result<String, Failure>,
    warn: impl Fn(&Failure),
) -> Result<(), Failure> {
    let mut token = take(first)?;
    let mut away = false;
    loop {
        let failure = loop {
            match answers.next(SILENCE).await {
                Ok(Some(answer)) => {
                    away = false;
                    token = take(answer)?;
                }
                Ok(None) => break answers.cut(),
                Err(failure) => break failure,
            }
        };
        let mut failure = Some(failure);
        while let Some(cause) = failure.take() {
            if !cause.is_transient() {
                return Err(cause);
            }
            if !std::mem::replace(&mut away, true) {
                warn(&cause);
            }
            tokio::time::sleep(RETRY).await;
            match open(token.clone()).await {
                Ok(opened) => answers = opened,
                Err(cause) => failure = Some(cause),
            }
        }
    }
}
