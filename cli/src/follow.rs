//! Following the log: what is new, once each, in order.

use std::{collections::HashMap, ops::ControlFlow, time::Duration};

use contracts::v1::{Event, ListEventsRequest, event_service_client::EventServiceClient};
use prost_types::Timestamp;

use crate::{
    failure::Failure,
    gateway::{Gateway, MAX_PAGE_BYTES, pages},
};

/// Between two looks at the log.
const INTERVAL: Duration = Duration::from_secs(2);
/// Events are stamped before they are committed, and transactions overtake
/// each other: an event may come into sight this many seconds after newer
/// ones. One that comes later still is not shown.
const OVERLAP_SECONDS: i64 = 5;
/// Events that are shown at the beginning if no number is given.
const FIRST: u64 = 10;

/// Which events were shown, as far back as a look reaches.
#[derive(Debug, Default)]
struct Seen {
    newest: Option<(i64, i32)>,
    names: HashMap<String, (i64, i32)>,
}

impl Seen {
    /// From when on a look must ask; nothing before the first event.
    fn since(&self) -> Option<Timestamp> {
        self.newest.map(|(seconds, nanos)| Timestamp { seconds: seconds - OVERLAP_SECONDS, nanos })
    }

    /// Whether a look that goes back to `event` reaches further than later
    /// looks will.
    fn is_past(&self, event: &Event) -> bool {
        self.since().is_some_and(|since| time(event) < (since.seconds, since.nanos))
    }

    /// Takes what a look found and answers what was not seen before, oldest
    /// first.
    fn take(&mut self, mut found: Vec<Event>) -> Vec<Event> {
        found.retain(|event| !self.names.contains_key(&event.name));
        found.sort_by(|one, other| time(one).cmp(&time(other)).then_with(|| one.name.cmp(&other.name)));
        for event in &found {
            self.newest = self.newest.max(Some(time(event)));
            self.names.insert(event.name.clone(), time(event));
        }
        if let Some(since) = self.since() {
            self.names.retain(|_, time| *time >= (since.seconds, since.nanos));
        }
        found
    }
}

fn time(event: &Event) -> (i64, i32) {
    event.record_time.as_ref().map_or((0, 0), |time| (time.seconds, time.nanos))
}

/// The filter for what is new.
fn narrowed(filter: &str, since: Option<Timestamp>) -> String {
    match since {
        None => filter.to_owned(),
        Some(since) if filter.trim().is_empty() => format!("record_time>=\"{since}\""),
        Some(since) => format!("({filter}) AND record_time>=\"{since}\""),
    }
}

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
/// A refusal that stays, any failure of the first look, those of `show`.
pub async fn follow(
    gateway: &Gateway,
    filter: &str,
    limit: Option<u64>,
    mut show: impl FnMut(Vec<Event>) -> Result<(), Failure>,
    warn: impl Fn(&Failure),
) -> Result<(), Failure> {
    let limit = usize::try_from(limit.unwrap_or(FIRST)).unwrap_or(usize::MAX);
    let mut seen = Seen::default();
    let mut shown = Vec::new();
    // What later looks will meet again must be known, though not all is shown.
    list(gateway, filter, None, |page| {
        let oldest = page.last().cloned();
        shown.extend(seen.take(page));
        let past = oldest.is_some_and(|event| seen.is_past(&event));
        Ok(if past && shown.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    shown.sort_by_key(time);
    show(shown.split_off(shown.len().saturating_sub(limit)))?;

    let mut away = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut found = Vec::new();
        let narrowed = narrowed(filter, seen.since());
        let look = list(gateway, &narrowed, None, |page| {
            found.extend(page);
            Ok(ControlFlow::Continue(()))
        });
        match look.await {
            Ok(()) => {
                away = false;
                let new = seen.take(found);
                if !new.is_empty() {
                    show(new)?;
                }
            }
            Err(failure) if failure.is_transient() => {
                if !std::mem::replace(&mut away, true) {
                    warn(&failure);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, seconds: i64) -> Event {
        let record_time = Some(Timestamp { seconds, nanos: 0 });
        Event { name: name.into(), record_time, ..Event::default() }
    }

    fn names(events: &[Event]) -> String {
        events.iter().map(|event| event.name.as_str()).collect()
    }

    #[test]
    fn each_event_is_new_once_oldest_first_late_ones_too() {
        let mut seen = Seen::default();
        assert_eq!(seen.since(), None);
        assert_eq!(names(&seen.take(vec![event("b", 102), event("a", 100)])), "ab");
        let since = Timestamp { seconds: 102 - OVERLAP_SECONDS, nanos: 0 };
        assert_eq!(seen.since(), Some(since));
        // `l` was committed after `b`, though stamped before.
        let look = vec![event("c", 103), event("b", 102), event("l", 101), event("a", 100)];
        assert_eq!(names(&seen.take(look.clone())), "lc");
        assert_eq!(names(&seen.take(look)), "");
    }

    #[test]
    fn what_no_look_reaches_is_forgotten() {
        let mut seen = Seen::default();
        seen.take(vec![event("a", 100)]);
        seen.take(vec![event("b", 100 + OVERLAP_SECONDS)]);
        assert_eq!(seen.names.len(), 2);
        seen.take(vec![event("c", 101 + OVERLAP_SECONDS)]);
        assert_eq!(seen.names.len(), 2);
        assert!(seen.is_past(&event("a", 100)) && !seen.is_past(&event("b", 105)));
    }

    #[test]
    fn the_filter_is_narrowed_as_a_whole() {
        let since = Some(Timestamp { seconds: 1_772_496_000, nanos: 5_000 });
        for (filter, since, expected) in [
            ("", None, ""),
            ("a=1 OR b=2", None, "a=1 OR b=2"),
            (" ", since, r#"record_time>="2026-03-03T00:00:00.000005Z""#),
            ("a=1 OR b=2", since, r#"(a=1 OR b=2) AND record_time>="2026-03-03T00:00:00.000005Z""#),
        ] {
            assert_eq!(narrowed(filter, since), expected);
        }
    }
}
