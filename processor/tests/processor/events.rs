//! The log as people read it.

use contracts::v1::{EventType, ListEventsRequest, Presence};

use crate::running::{Agent, Running, package};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_listed_newest_first_and_filtered() {
    let running = Running::start().await;
    let agent = Agent::new();
    for sequence in 1..=7 {
        let version = format!("1.{sequence}");
        running
            .deliver(vec![agent.batch(sequence, vec![package(Presence::Present, "bash", &version)])])
            .await;
    }
    running.deliver(vec![agent.batch(8, vec![package(Presence::Absent, "bash", "")])]).await;
    let mut request = ListEventsRequest { page_size: 3, ..Default::default() };
    let mut revisions = Vec::new();
    loop {
        let page = running.events().list_events(request.clone()).await.unwrap().into_inner();
        revisions.extend(page.events.iter().map(|event| event.revision));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(revisions, [8, 7, 6, 5, 4, 3, 2, 1]);
    for (filter, expected) in [
        ("type=REMOVED", 1),
        ("type=CHANGED", 6),
        ("type=REMOVED OR type=APPEARED", 2),
        ("kind=DISK", 0),
        ("actor=agent bash", 8),
        ("record_time>\"2999-01-01T00:00:00Z\"", 0),
    ] {
        let request = ListEventsRequest { filter: filter.to_owned(), ..Default::default() };
        let events = running.events().list_events(request).await.unwrap().into_inner().events;
        assert_eq!(events.len(), expected, "{filter}");
    }
    let first = ListEventsRequest { filter: "type=APPEARED".to_owned(), ..Default::default() };
    let event = running.events().list_events(first).await.unwrap().into_inner().events.remove(0);
    assert_eq!((event.r#type(), event.actor.as_str()), (EventType::Appeared, "agent"));
    assert!(event.observe_time.is_some() && event.record_time.is_some());
    running.stop().await;
}
