//! What bounds a read of the past: the future, what is still being recorded, what
//! retention keeps, and pages; what differs between two times; tampering.

use super::*;

async fn now(client: &Client) -> Micros {
    let query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    client.query_one(query, &[]).await.unwrap().get(0)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata.remove(key).unwrap_or_default()
}

async fn read(running: &Running, time: Micros) -> Result<Vec<Asset>, Status> {
    let request = ListAssetsRequest { page_size: 1000, read_time: at(time), ..Default::default() };
    Ok(running.assets().list_assets(request).await?.into_inner().assets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_still_being_recorded_is_waited_for() {
    let running = Running::start().await;
    let agent = Agent::new();
    running.deliver(vec![agent.batch(1, vec![package(Presence::Present, "bash", "1")])]).await;
    let client = running.database.connect().await;
    let before = now(&client).await;
    assert_eq!(read(&running, before).await.unwrap()[0].revision, 1);

    // As ingest and edits do it: locked, the time taken, written, not committed.
    let writer = running.database.connect().await;
    let write = "BEGIN; SELECT FROM node FOR NO KEY UPDATE; \
         UPDATE asset SET revision = 2, update_time = clock_timestamp()";
    writer.batch_execute(write).await.unwrap();
    let during = now(&client).await;
    assert_eq!(read(&running, before).await.unwrap()[0].revision, 1, "what is older is settled");
    let refused = read(&running, during).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "READ_TIME_NOT_SETTLED"));
    assert!(refused.get_details_retry_info().is_some());

    // One that waits gets what was committed meanwhile.
    let channel = running.channel.clone();
    let waiting = tokio::spawn(async move {
        let mut assets = contracts::v1::asset_service_client::AssetServiceClient::new(channel);
        let request = ListAssetsRequest { read_time: at(during), ..Default::default() };
        assets.list_assets(request).await.map(|answer| answer.into_inner().assets)
    });
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND query LIKE '%is_settled FROM past_horizon%' AND pid <> pg_backend_pid() \
         AND query_start > to_timestamp($1::bigint / 1000000.0)";
    let begun = now(&client).await;
    wait_until(DEADLINE, "it looks", async || {
        client.query_one(looks, &[&begun]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    assert!(!waiting.is_finished());
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap()[0].revision, 2);
    assert_eq!(read(&running, before).await.unwrap()[0].revision, 1);

    // A reader holds nobody up, and writers of other things end.
    let reader = running.database.connect().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM asset").await.unwrap();
    let later = now(&client).await;
    assert_eq!(read(&running, later).await.unwrap()[0].revision, 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_in_the_future_is_refused_and_a_moment_ahead_is_waited_for() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let refused = read(&running, now(&client).await + 60_000_000).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "READ_TIME_IN_FUTURE"));
    assert_eq!(metadata(&refused, "field"), "read_time");
    let soon = now(&client).await + 300_000;
    read(&running, soon).await.unwrap();
    assert!(now(&client).await > soon);
    let refused = read(&running, earliest(&client).await - 1_000_000).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "READ_TIME_TOO_OLD"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_past_stays_the_same_while_others_write() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (channel, agent) = (running.channel.clone(), Agent::new());
        writers.push(tokio::spawn(async move {
            let mut ingest = contracts::v1::ingest_service_client::IngestServiceClient::new(channel);
            for sequence in 1..=60 {
                let version = sequence.to_string();
                let seen = (0..8).map(|n| package(Presence::Present, &format!("p{n}"), &version)).collect();
                let messages = vec![crate::running::message(agent.batch(sequence, seen))];
                let request = contracts::v1::IngestEventsRequest { messages };
                ingest.ingest_events(request).await.unwrap();
            }
        }));
    }
    let mut answers = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let time = now(&client).await;
        answers.push((time, by_name(&read(&running, time).await.unwrap())));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let log = log(&client).await;
    assert!(answers.len() > 3, "{} answers", answers.len());
    for (time, answer) in answers {
        assert_eq!(answer, folded(&log, time), "at {time}");
    }
    running.stop().await;
}

/// All differences of the stream, and its tokens.
async fn compare(
    running: &Running,
    request: DiffAssetsRequest,
) -> (Vec<contracts::v1::AssetDifference>, Vec<String>) {
    let mut stream = running.assets().diff_assets(request).await.unwrap().into_inner();
    let (mut found, mut tokens, mut done) = (Vec::new(), Vec::new(), false);
    while let Some(answer) = stream.message().await.unwrap() {
        assert!(!done, "nothing comes after the end");
        done = answer.done;
        found.extend(answer.differences);
        tokens.push(answer.resume_token);
    }
    assert!(done);
    (found, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_between_two_times_is_what_two_reads_tell() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let mut rng = Seed::draw().rng();
    // More than two pages.
    let agent = Agent::new();
    for (sequence, version) in [(1, "1"), (2, "2")] {
        let seen = (0..450).map(|n| package(Presence::Present, &format!("bulk-{n}"), version)).collect();
        running.deliver(vec![agent.batch(sequence, seen)]).await;
    }
    rename(&running, &mut rng).await;
    let gone = (0..50).map(|n| package(Presence::Absent, &format!("bulk-{n}"), "")).collect();
    running.deliver(vec![agent.batch(3, gone)]).await;
    let log = log(&client).await;
    for _ in 0..12 {
        let mut ends = times(&log, &mut rng, 2).split_off(3);
        ends.sort_unstable();
        let (base, newer) = (ends[0].max(earliest(&client).await), ends[1].max(earliest(&client).await));
        for filter in ["", "display_name=alpha", "details.package.version=1"] {
            let there = async |time| -> HashMap<String, Asset> {
                let request =
                    ListAssetsRequest { page_size: 1000, filter: filter.to_owned(), ..Default::default() };
                let listed = list(&running, time, request).await.into_iter();
                let there = listed.filter(|asset| asset.state() != AssetState::Removed);
                there.map(|asset| (asset.name.clone(), asset)).collect()
            };
            let (before, after) = (there(base).await, there(newer).await);
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            let kind = |name: &String| match (before.get(name), after.get(name)) {
                (None, _) => Some(AssetDifferenceType::Added),
                (_, None) => Some(AssetDifferenceType::Removed),
                (Some(old), Some(new)) => {
                    let content = |asset: &Asset| {
                        (
                            asset.display_name.clone(),
                            asset.state,
                            asset.details.clone(),
                            asset.managed.clone(),
                        )
                    };
                    (content(old) != content(new)).then_some(AssetDifferenceType::Changed)
                }
            };
            let expected: Vec<(String, AssetDifferenceType)> =
                names.into_iter().filter_map(|name| Some((name.clone(), kind(name)?))).collect();
            let request = DiffAssetsRequest {
                base_read_time: at(base),
                read_time: at(newer),
                filter: filter.to_owned(),
                ..Default::default()
            };
            let (found, tokens) = compare(&running, request.clone()).await;
            let told: Vec<(String, AssetDifferenceType)> =
                found.iter().map(|one| (one.asset.clone(), one.r#type())).collect();
            assert_eq!(told, expected, "{filter} from {base} to {newer}");
            for one in &found {
                let fields: Vec<&str> = one.fields.iter().map(|field| field.path.as_str()).collect();
                assert_eq!(one.r#type() == AssetDifferenceType::Changed, !fields.is_empty(), "{one:?}");
            }
            // Each token goes on behind what came with it.
            let token = tokens[rng.random_range(0..tokens.len())].clone();
            let (rest, _) = compare(&running, DiffAssetsRequest { resume_token: token, ..request }).await;
            assert!(found.ends_with(&rest), "{filter} from {base} to {newer}");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_token_belongs_to_its_time() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let agent = Agent::new();
    let seen = ["a", "b", "c"].map(|name| package(Presence::Present, name, "1"));
    running.deliver(vec![agent.batch(1, seen.to_vec())]).await;
    let time = now(&client).await;
    let request = ListAssetsRequest { page_size: 1, read_time: at(time), ..Default::default() };
    let page = running.assets().list_assets(request.clone()).await.unwrap().into_inner();
    let page_token = page.next_page_token;
    for other in [None, at(time + 1)] {
        let request =
            ListAssetsRequest { read_time: other, page_token: page_token.clone(), ..request.clone() };
        let refused = running.assets().list_assets(request).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
    }
    // Nothing that is below a microsecond was recorded.
    let read_time = request.read_time.map(|time| Timestamp { nanos: time.nanos + 999, ..time });
    let same = ListAssetsRequest { read_time, page_token, ..request };
    assert_eq!(running.assets().list_assets(same).await.unwrap().into_inner().assets[0].display_name, "b");
    let read_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    let order_by = "last_seen_time".to_owned();
    let unknown = ListAssetsRequest { order_by, read_time: at(time), ..Default::default() };
    let refused = running.assets().list_assets(unknown).await.unwrap_err();
    assert_eq!(metadata(&refused, "field"), "order_by");
    let get = GetAssetRequest { name: format!("assets/{}", Uuid::nil()), read_time };
    let refused = running.assets().get_asset(get).await.unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), metadata(&refused, "field").as_str()),
        ("INVALID_TIME", "read_time")
    );
    running.stop().await;
}

fn version(asset: &Asset) -> String {
    match asset.details.as_ref().and_then(|details| details.details.as_ref()) {
        Some(contracts::v1::asset_details::Details::Package(package)) => package.version.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_reaches_as_far_as_retention_keeps() {
    let database = std::sync::Arc::new(testkit::Database::create().await);
    let client = database.connect().await;
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    for sequence in 1..=3 {
        let seen = package(Presence::Present, "bash", &sequence.to_string());
        running.deliver(vec![agent.batch(sequence, vec![seen])]).await;
    }
    running.stop().await;
    age(&client, 40, true).await;
    let month = "DO $$ DECLARE month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') - interval '4 months'; \
         BEGIN EXECUTE format('CREATE TABLE asset_past_%s PARTITION OF asset_past FOR VALUES FROM (%L) TO (%L)', \
         to_char(month, 'YYYYMM'), month || '+00', (month + interval '1 month') || '+00'); END $$";
    client.batch_execute(month).await.unwrap();
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'asset_past'::regclass";
    let before: i64 = client.query_one(partitions, &[]).await.unwrap().get(0);

    let running = Running::start_on(database.clone(), KEEP_30).await;
    dropped(&client).await;
    running.deliver(vec![agent.batch(4, vec![package(Presence::Present, "bash", "4")])]).await;
    let earliest = earliest(&client).await;
    let day: bool = client
        .query_one("SELECT earliest_time = date_trunc('day', earliest_time, 'UTC') FROM past_horizon", &[])
        .await
        .unwrap()
        .get(0);
    assert!(day, "the end of a day");
    // What was believed then is in the base alone; since then it has changed.
    for time in [earliest, earliest + 1] {
        let found = read(&running, time).await.unwrap();
        assert_eq!((version(&found[0]), found[0].revision), ("3".to_owned(), 3));
    }
    let refused = read(&running, earliest - 1).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::OutOfRange, "READ_TIME_TOO_OLD"));
    let named = metadata(&refused, "earliest_time");
    let named = chrono::DateTime::parse_from_rfc3339(&named).unwrap().timestamp_micros();
    assert_eq!(named, earliest, "{refused:?}");
    assert!(refused.message().contains("read_time"), "{refused:?}");
    wait_until(DEADLINE, "what cannot be read is dropped", async || {
        let left =
            "SELECT count(*) FROM asset_past WHERE until_time <= (SELECT earliest_time FROM past_horizon)";
        client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0
            && client.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0) == before - 1
    })
    .await;
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_past_that_was_tampered_with_is_found() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let agent = Agent::new();
    for sequence in 1..=4 {
        let version = sequence.to_string();
        let seen = ["a", "b", "c", "d"].map(|name| package(Presence::Present, name, &version));
        running.deliver(vec![agent.batch(sequence, seen.to_vec())]).await;
    }
    verify_equal(&running).await;
    let uid = |name: &str| package_uid(agent.node, name);
    let statement = format!(
        "DELETE FROM asset_past WHERE uid = '{}' AND revision = 2; \
         UPDATE asset_past SET state = 2 WHERE uid = '{}' AND revision = 1; \
         UPDATE asset_past SET until_time = until_time + interval '1 ms' WHERE uid = '{}' AND revision = 3; \
         INSERT INTO asset_past SELECT uid, 9, 0, update_time, until_time, NULL, NULL, 1, false, 'x', '{{}}' \
         FROM asset_past WHERE uid = '{}' AND revision = 1",
        uid("a"),
        uid("b"),
        uid("c"),
        uid("d")
    );
    client.batch_execute(&statement).await.unwrap();
    let (_, differences) = verify(&running, "").await;
    let mut assets: Vec<String> = differences.iter().map(|one| one.asset.clone()).collect();
    assets.sort_unstable();
    let mut expected: Vec<String> = ["a", "b", "c", "d"].map(|name| format!("assets/{}", uid(name))).into();
    expected.sort_unstable();
    assert_eq!(assets, expected, "{differences:?}");
    for (kind, detail) in told(&differences) {
        assert_eq!(kind, contracts::v1::DifferenceType::WrongHistory, "{detail}");
        assert!(detail.starts_with("history of revision "), "{detail}");
    }
    running.stop().await;
}
