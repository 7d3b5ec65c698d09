//! Read, counted, paged and deleted.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_read_counted_and_paged() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    let bodies: HashMap<i64, Vec<u8>> =
        (2..=8).map(|n| (n, changed(&agent, n, |batch| batch.schema_version = 7))).collect();
    let future = bodies.iter().map(|(n, body)| rejected(&agent, *n, UnknownVersion, body.clone()));
    running.keep(future.collect()).await;
    let junk = rejected(&agent, 9, Undecodable, b"\xff".to_vec());
    // The same bytes again, together and alone, only count.
    running.keep(vec![junk.clone(), junk.clone()]).await;
    running.keep(vec![junk]).await;

    let filter = |reasons: &[DeadLetterReason]| DeadLetterFilter {
        reasons: reasons.iter().map(|reason| (*reason).into()).collect(),
        ..Default::default()
    };
    let of = |filter| ListDeadLettersRequest { page_size: 3, filter: Some(filter), ..Default::default() };
    let first = running.page(of(filter(&[]))).await.unwrap();
    let counts: Vec<_> = first.counts.iter().map(|count| (count.reason(), count.count)).collect();
    assert_eq!(counts, [(Undecodable, 1), (UnknownVersion, 7)]);
    let mut seen = first.dead_letters;
    let mut token = first.next_page_token;
    while !token.is_empty() {
        let request = ListDeadLettersRequest { page_token: token, ..of(filter(&[])) };
        let page = running.page(request).await.unwrap();
        seen.extend(page.dead_letters);
        token = page.next_page_token;
    }
    let ids: Vec<&str> = seen.iter().map(|letter| letter.message_id.as_str()).collect();
    assert_eq!(ids.len(), 8);
    assert_eq!(ids[0], "m-9", "the newest first");
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 8);
    assert_eq!(seen[0].count, 3);
    assert!(seen.iter().all(|letter| letter.body.is_empty() && letter.headers.is_empty()));

    let names = async |filter| {
        let page = running.page(ListDeadLettersRequest { page_size: 100, ..of(filter) }).await.unwrap();
        let sum: i64 = page.counts.iter().map(|count| count.count).sum();
        assert_eq!(sum, page.dead_letters.len() as i64);
        page.dead_letters.len()
    };
    assert_eq!(names(filter(&[Undecodable, TooLarge])).await, 1);
    assert_eq!(names(filter(&[TooLarge])).await, 0);
    let node = DeadLetterFilter { node: format!("nodes/{}", agent.node), ..Default::default() };
    assert_eq!(names(node).await, 8);
    let queue = |queue: &str| DeadLetterFilter { queue: queue.to_owned(), ..Default::default() };
    assert_eq!((names(queue("assettrack.events.0")).await, names(queue("other")).await), (8, 0));
    let newest = seen[0].create_time;
    let before = DeadLetterFilter { before_time: newest, ..Default::default() };
    let since = DeadLetterFilter { since_time: newest, ..Default::default() };
    assert_eq!((names(before).await, names(since).await), (7, 1));

    let whole = async |name: &str| {
        let request = GetDeadLetterRequest { name: name.to_owned() };
        running.letters().get_dead_letter(request).await.unwrap().into_inner()
    };
    let letter = whole(&seen[1].name).await;
    assert_eq!(letter.body, bodies[&letter.sequence]);
    assert_eq!(letter.stream, agent.stream.to_string());
    assert_eq!(letter.batch.unwrap().schema_version, 7, "shown, although it breaks a rule");
    assert_eq!(letter.headers["routing_key"], batch_key(agent.node));
    assert_eq!(letter.node_display_name, "node-1");
    assert_eq!(letter.body_size_bytes, letter.body.len() as i64);
    assert_eq!(whole(&seen[0].name).await.batch, None);

    let kept = "assettrack_ingest_messages_dead_lettered_total{reason=\"UNDECODABLE\"}";
    assert_eq!(running.metric(kept).await, 3.0, "each message counts");
    for reason in ["UNDECODABLE\"} 1", "UNKNOWN_VERSION\"} 7", "TOO_LARGE\"} 0"] {
        let line = format!("assettrack_dead_letters_stored{{reason=\"{reason}");
        wait_until(DEADLINE, &line, async || {
            let (_, text) = testkit::http_get(running.admin, "/metrics").await.unwrap();
            text.lines().any(|found| found == line)
        })
        .await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_deleted_as_selected_and_no_others() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = (1..=1200).map(|n: i64| {
        rejected(&agent, n, if n <= 3 { Undecodable } else { UnknownVersion }, n.to_be_bytes().to_vec())
    });
    let letters: Vec<QueueMessage> = letters.collect();
    for chunk in letters.chunks(500) {
        running.keep(chunk.to_vec()).await;
    }
    let delete = async |request: DeleteDeadLettersRequest| {
        running.letters().delete_dead_letters(request).await.unwrap().into_inner().deleted_count
    };
    let undecodable = DeadLetterFilter { reasons: vec![Undecodable.into()], ..Default::default() };
    let under = |validate_only| DeleteDeadLettersRequest {
        filter: Some(undecodable.clone()),
        validate_only,
        ..Default::default()
    };
    assert_eq!(delete(under(true)).await, 3);
    assert_eq!(delete(under(false)).await, 3);
    assert_eq!(delete(under(false)).await, 0);
    let two: Vec<String> = running.stored().await.iter().take(2).map(|letter| letter.name.clone()).collect();
    let mut names = two.clone();
    names.push(format!("deadLetters/{}", Uuid::nil()));
    let named = |validate_only| DeleteDeadLettersRequest {
        names: names.clone(),
        validate_only,
        ..Default::default()
    };
    assert_eq!(delete(named(true)).await, 2);
    assert_eq!(delete(named(false)).await, 2);
    let missing = GetDeadLetterRequest { name: two[0].clone() };
    let missing = running.letters().get_dead_letter(missing).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_name, two[0]);
    let everything =
        |validate_only| DeleteDeadLettersRequest { all: true, validate_only, ..Default::default() };
    assert_eq!(delete(everything(true)).await, 1195);
    assert_eq!(delete(everything(false)).await, 1195);
    assert_eq!(running.stored().await, []);
    running.stop().await;
}

fn field_at_fault(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_about_letters_are_refused_by_field() {
    let running = Running::start().await;
    let mut letters = running.letters();
    let name = |name: &str| GetDeadLetterRequest { name: name.to_owned() };
    for wrong in ["", "deadLetters/x", "dead_letters/x", "nodes/00000000-0000-0000-0000-000000000000"] {
        assert_eq!(field_at_fault(&letters.get_dead_letter(name(wrong)).await.unwrap_err()), "name");
    }
    let none = name("deadLetters/00000000-0000-0000-0000-000000000000");
    assert_eq!(letters.get_dead_letter(none).await.unwrap_err().code(), Code::NotFound);

    let reason = |number: i32| DeadLetterFilter { reasons: vec![1, number], ..Default::default() };
    let time = |seconds: i64, nanos: i32| Some(Timestamp { seconds, nanos });
    let queue = |queue: &str| DeadLetterFilter { queue: queue.to_owned(), ..Default::default() };
    let filters = [
        (reason(0), "filter.reasons[1]"),
        (reason(99), "filter.reasons[1]"),
        (DeadLetterFilter { reasons: vec![1; 17], ..Default::default() }, "filter.reasons"),
        (DeadLetterFilter { node: "node-1".to_owned(), ..Default::default() }, "filter.node"),
        (queue("a\0b"), "filter.queue"),
        (queue(&"q".repeat(256)), "filter.queue"),
        (DeadLetterFilter { since_time: time(i64::MAX, 0), ..Default::default() }, "filter.since_time"),
        (DeadLetterFilter { before_time: time(0, -1), ..Default::default() }, "filter.before_time"),
        (
            DeadLetterFilter { since_time: time(5, 0), before_time: time(5, 0), ..Default::default() },
            "filter.before_time",
        ),
    ];
    for (filter, field) in filters {
        let list = ListDeadLettersRequest { filter: Some(filter.clone()), ..Default::default() };
        assert_eq!(field_at_fault(&running.page(list).await.unwrap_err()), field);
        let replay = ReplayDeadLettersRequest { filter: Some(filter.clone()), ..Default::default() };
        assert_eq!(field_at_fault(&letters.replay_dead_letters(replay).await.unwrap_err()), field);
        let delete = DeleteDeadLettersRequest { filter: Some(filter), ..Default::default() };
        assert_eq!(field_at_fault(&letters.delete_dead_letters(delete).await.unwrap_err()), field);
    }
    let page = |page_size, page_token: &str| ListDeadLettersRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    assert_eq!(field_at_fault(&running.page(page(-1, "")).await.unwrap_err()), "page_size");
    assert_eq!(field_at_fault(&running.page(page(0, "x")).await.unwrap_err()), "page_token");

    let filter = Some(DeadLetterFilter::default());
    let names = |count: usize| vec![format!("deadLetters/{}", Uuid::nil()); count];
    let selections = [
        (vec![], None, false, "names"),
        (vec![], filter.clone(), false, "filter"),
        (names(1), filter.clone(), false, "filter"),
        (names(1), None, true, "all"),
        (vec![], filter, true, "all"),
        (names(1001), None, false, "names"),
        (vec![names(1).remove(0), "x".to_owned()], None, false, "names[1]"),
    ];
    for (names, filter, all, field) in selections {
        let replay = ReplayDeadLettersRequest { names, filter, all, messages_per_second: 0 };
        let refused = letters.replay_dead_letters(replay.clone()).await.unwrap_err();
        assert_eq!(field_at_fault(&refused), field, "{replay:?}");
        let ReplayDeadLettersRequest { names, filter, all, .. } = replay;
        let delete = DeleteDeadLettersRequest { names, filter, all, validate_only: true };
        assert_eq!(field_at_fault(&letters.delete_dead_letters(delete).await.unwrap_err()), field);
    }
    for rate in [-1, 10_001] {
        let replay = ReplayDeadLettersRequest { messages_per_second: rate, ..all() };
        let refused = letters.replay_dead_letters(replay).await.unwrap_err();
        assert_eq!(field_at_fault(&refused), "messages_per_second");
    }
    running.stop().await;
}
