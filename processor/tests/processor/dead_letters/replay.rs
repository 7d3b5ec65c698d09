//! Replayed: each letter once, by the rules of collectors.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_stays_with_its_reason_however_often_it_is_replayed() {
    let running = Running::start().await;
    let agent = Agent::new();
    let table = hopeless(&agent);
    running.keep(table.iter().map(|(message, ..)| message.clone()).collect()).await;
    let stored = running.stored().await;
    assert_eq!(stored.len(), table.len());
    let of = |message: &QueueMessage, stored: &[DeadLetter]| -> DeadLetter {
        stored.iter().find(|letter| letter.message_id == message.message_id).unwrap().clone()
    };
    for (message, reason, _) in &table {
        assert_eq!(of(message, &stored).reason(), *reason, "{}", message.message_id);
    }

    let told = running.replay(all()).await;
    assert_eq!((told.total, told.still_dead), (table.len() as i64, table.len() as i64));
    let after = running.stored().await;
    for (message, reason, detail) in &table {
        let request = GetDeadLetterRequest { name: of(message, &stored).name };
        let letter = running.letters().get_dead_letter(request).await.unwrap().into_inner();
        let sequence: i64 = message.message_id.trim_start_matches("m-").parse().unwrap();
        let unreadable = [Undecodable, TooLarge].contains(reason) || sequence == 11;
        assert_eq!(letter.batch.is_none(), unreadable, "an impossible time has no form as JSON: {letter:?}");
        let (before, after) = (of(message, &stored), of(message, &after));
        assert_eq!(after.reason(), *reason, "{after:?}");
        assert!(after.detail.starts_with(detail), "{after:?}");
        assert_eq!((&after.name, after.count), (&before.name, 1), "a replay is no new message");
        assert_eq!(after.create_time, before.create_time);
        let (last, old) = (after.last_time.unwrap(), before.last_time.unwrap());
        assert!((last.seconds, last.nanos) > (old.seconds, old.nanos));
    }
    assert_eq!(running.logged().await, 0, "nothing slipped past the rules");
    running.stop().await;
}

/// Whatever it was kept for, by the collector that found it: what decides is what
/// is wrong now. The rules are those of collectors, also those that the processor
/// leaves to them otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_names_what_is_wrong_now() {
    let running = Running::start().await;
    let agent = Agent::new();
    let table = hopeless(&agent);
    let blamed = |message: &QueueMessage| {
        let mut message = message.clone();
        if let Some(Content::Rejected(rejected)) = &mut message.content {
            rejected.reason = RefusedByStore.into();
        }
        message
    };
    running.keep(table.iter().map(|(message, ..)| blamed(message)).collect()).await;
    // One of them is there with its right reason as well: they become one.
    running.keep(vec![table[0].0.clone()]).await;
    let told = running.replay(all()).await;
    assert_eq!(told.still_dead + told.gone, table.len() as i64 + 1, "{told:?}");
    let stored = running.stored().await;
    assert_eq!(stored.len(), table.len());
    for (message, reason, detail) in &table {
        let letter = stored.iter().find(|letter| letter.message_id == message.message_id).unwrap();
        assert_eq!(letter.reason(), *reason, "{letter:?}");
        assert!(letter.detail.starts_with(detail), "{letter:?}");
    }
    let joined = stored.iter().find(|letter| letter.message_id == "m-1").unwrap();
    assert_eq!(joined.count, 2);
    assert_eq!(running.logged().await, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refused_is_applied_once_the_cause_is_mended() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "old", "1")])]).await;
    let database = running.database.connect().await;
    // As a column that is too narrow would.
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'value too long for type character varying(20)' USING ERRCODE = '22001'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON asset FOR EACH ROW \
         WHEN (length(NEW.natural_key) > 20) EXECUTE FUNCTION refuse()";
    database.batch_execute(refuse).await.unwrap();
    let refused = agent.batch(2, vec![package(Presence::Present, "a-name-too-long-for-it", "1")]);
    running.keep(vec![message(refused.clone())]).await;
    let letter = running.stored().await.remove(0);
    assert_eq!(letter.reason(), RefusedByStore);
    assert!(letter.detail.contains("value too long"), "{letter:?}");
    assert_eq!(
        (letter.node, letter.node_display_name),
        (format!("nodes/{}", agent.node), "node-1".to_owned())
    );

    assert_eq!(running.replay(all()).await.still_dead, 1);
    assert_eq!(running.stored().await.len(), 1);
    database.batch_execute("DROP TRIGGER refuse ON asset").await.unwrap();
    assert_eq!(running.replay(all()).await.committed, 1);
    assert_eq!(running.stored().await, []);
    assert_eq!(running.list("a-name-too-long-for-it state=ACTIVE").await.len(), 1);
    assert_eq!(running.logged().await, 2);
    // The agent sends it again: it is known now.
    assert_eq!(running.deliver(vec![refused]).await, [IngestResult::Duplicate]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_at_once_apply_each_letter_once() {
    const LETTERS: i64 = 60;
    let running = Running::start().await;
    let agent = Agent::new();
    // Right ones that a collector of another version did not understand; the
    // first ten came another way before, and some are compressed.
    let bodies: Vec<Vec<u8>> = (1..=LETTERS).map(|sequence| changed(&agent, sequence, |_| {})).collect();
    for body in &bodies[..10] {
        running.deliver(vec![EventBatch::decode(body.as_slice()).unwrap()]).await;
    }
    let letters = bodies.iter().zip(1..).map(|(body, sequence)| {
        if sequence % 2 == 0 {
            return rejected(&agent, sequence, UnknownVersion, body.clone());
        }
        let packed = zstd::bulk::compress(body, 3).unwrap();
        with_header(rejected(&agent, sequence, UnknownVersion, packed), "content-encoding", "zstd")
    });
    running.keep(letters.collect()).await;

    let told = futures::future::join(running.replay(all()), running.replay(all())).await;
    assert_eq!(told.0.committed + told.1.committed, LETTERS - 10, "{told:?}");
    assert_eq!(told.0.duplicates + told.1.duplicates, 10, "{told:?}");
    assert_eq!(told.0.still_dead + told.1.still_dead, 0, "{told:?}");
    assert_eq!(running.stored().await, []);
    assert_eq!(running.logged().await, LETTERS as usize);
    assert_eq!(running.list("kind=PACKAGE state=ACTIVE").await.len(), LETTERS as usize);
    assert_eq!(running.replay(all()).await, ReplayDeadLettersResponse { done: true, ..Default::default() });
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_its_rate_tells_and_ends_with_its_caller() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = |sequences: std::ops::RangeInclusive<i64>| {
        sequences.map(|n| rejected(&agent, n, UnknownVersion, changed(&agent, n, |_| {}))).collect()
    };
    running.keep(letters(1..=21)).await;
    let begin = std::time::Instant::now();
    assert_eq!(
        running.replay(ReplayDeadLettersRequest { messages_per_second: 20, ..all() }).await.committed,
        21
    );
    assert!(begin.elapsed() >= Duration::from_millis(990), "{:?}", begin.elapsed());

    running.keep(letters(22..=122)).await;
    let slow = ReplayDeadLettersRequest { messages_per_second: 1, ..all() };
    let mut answers = running.letters().replay_dead_letters(slow).await.unwrap().into_inner();
    let mut told = Vec::new();
    let begin = std::time::Instant::now();
    while told.len() < 4 {
        told.push(answers.message().await.unwrap().unwrap());
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "at least once a second: {:?}", begin.elapsed());
    assert!(told.iter().all(|answer| !answer.done), "{told:?}");
    assert_eq!(told[3].total, 101);
    assert_eq!(replays(&running).await, 1.0);
    drop(answers);
    wait_until(DEADLINE, "the replay ends", async || replays(&running).await == 0.0).await;
    // At one a second, a hundred would have taken longer than the deadline.
    let left = running.stored().await.len();
    assert!((80..=100).contains(&left), "{left}");
    let database = running.database.connect().await;
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    let open: i64 = database.query_one(open, &[]).await.unwrap().get(0);
    assert_eq!(open, 0, "no transaction is left open");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_processor_ends_its_replays() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = (1..=30).map(|n| rejected(&agent, n, UnknownVersion, changed(&agent, n, |_| {})));
    running.keep(letters.collect()).await;
    let slow = ReplayDeadLettersRequest { messages_per_second: 1, ..all() };
    let mut answers = running.letters().replay_dead_letters(slow).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let begin = std::time::Instant::now();
    let end = async {
        loop {
            match answers.message().await {
                Ok(Some(answer)) => assert!(!answer.done, "{answer:?}"),
                ended => return ended,
            }
        }
    };
    let (ended, ()) = futures::future::join(end, running.stop()).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// A replay that stops does so after the letter at hand, which it waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_waits_for_a_letter_that_another_holds() {
    let running = Running::start().await;
    let agent = Agent::new();
    let letters = (1..=3).map(|n| rejected(&agent, n, UnknownVersion, changed(&agent, n, |_| {})));
    running.keep(letters.collect()).await;
    let mut holder = running.database.connect().await;
    let held = holder.transaction().await.unwrap();
    held.execute("DELETE FROM dead_letter WHERE message_id = 'm-2'", &[]).await.unwrap();
    let watcher = running.database.connect().await;
    let release = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_for(DEADLINE, "the replay waits", async || {
            let count: i64 = watcher.query_one(waiting, &[]).await.unwrap().get(0);
            (count > 0).then_some(())
        })
        .await;
        held.commit().await.unwrap();
    };
    let (told, ()) = futures::future::join(running.replay(all()), release).await;
    assert_eq!((told.total, told.committed, told.gone), (3, 2, 1), "{told:?}");
    running.stop().await;
}
