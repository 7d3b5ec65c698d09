//! `assettrack dead-letters`.

use contracts::v1::{dead_letter_service_server::DeadLetterService, *};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    out, run,
    server::{Inventory, page, serve, time},
};

#[tonic::async_trait]
impl DeadLetterService for Inventory {
    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<DeadLetter>, Status> {
        let name = request.into_inner().name;
        let letters = self.letters.lock().unwrap();
        let found = letters.iter().find(|letter| letter.name == name).cloned();
        found.map(Response::new).ok_or_else(|| kit::status::not_found("DeadLetter", &name))
    }
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        self.asked.lock().unwrap().push(format!("{:?}", request.filter));
        let letters = self.letters.lock().unwrap().clone();
        let (dead_letters, next_page_token) = page(&letters, request.page_size, &request.page_token)?;
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token, counts: Vec::new() }))
    }
    type ReplayDeadLettersStream = ReceiverStream<Result<ReplayDeadLettersResponse, Status>>;
    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<Self::ReplayDeadLettersStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"), "a replay has no deadline");
        let request = request.into_inner();
        let selected = usize::from(!request.names.is_empty()) + usize::from(request.filter.is_some());
        if selected + usize::from(request.all) != 1 {
            return Err(kit::status::invalid_field("names", "NOTHING_SELECTED", "must be given"));
        }
        self.asked.lock().unwrap().push(format!("{:?} {}", request.names, request.messages_per_second));
        let told = |committed, done| ReplayDeadLettersResponse {
            total: 3,
            committed,
            still_dead: 1,
            done,
            ..Default::default()
        };
        let (answers, stream) = tokio::sync::mpsc::channel(4);
        answers.send(Ok(told(1, false))).await.unwrap();
        // One of the names breaks the stream off.
        if !request.names.iter().any(|name| name.ends_with("/9")) {
            answers.send(Ok(told(2, true))).await.unwrap();
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }
    async fn delete_dead_letters(
        &self,
        request: Request<DeleteDeadLettersRequest>,
    ) -> Result<Response<DeleteDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let mut letters = self.letters.lock().unwrap();
        let before = letters.len();
        let mut kept = letters.clone();
        kept.retain(|letter| !request.all && !request.names.contains(&letter.name));
        let deleted_count = i64::try_from(before - kept.len()).unwrap();
        if !request.validate_only {
            *letters = kept;
        }
        Ok(Response::new(DeleteDeadLettersResponse { deleted_count }))
    }
}

fn letter(number: u32) -> DeadLetter {
    DeadLetter {
        name: format!("deadLetters/{number}"),
        reason: DeadLetterReason::InvalidField.into(),
        detail: "observations[0].kind: \u{1b}[2J".into(),
        queue: "assettrack.events.0".into(),
        node: "nodes/1".into(),
        node_display_name: "web-1".into(),
        count: 2,
        create_time: time(1_772_496_000),
        body_size_bytes: 300,
        body: vec![0xab; 300],
        headers: [("routing_key".to_owned(), "shard.1".to_owned())].into(),
        batch: Some(EventBatch { schema_version: 7, ..EventBatch::default() }),
        ..DeadLetter::default()
    }
}

fn with_letters(count: u32) -> Inventory {
    let inventory = Inventory::default();
    inventory.letters.lock().unwrap().extend((1..=count).map(letter));
    inventory
}

#[tokio::test]
async fn letters_are_listed_under_their_filter_and_shown() {
    let inventory = with_letters(250);
    let url = serve(inventory.clone()).await;
    let listed = out(&url, &["dead-letters", "list", "--limit", "1", "--utc"]).await;
    assert_eq!(
        listed,
        "NAME           CREATE TIME           REASON         COUNT  NODE DISPLAY NAME  DETAIL\n\
         deadLetters/1  2026-03-03T00:00:00Z  INVALID_FIELD  2      web-1              observations[0].kind: \\u{1b}[2J\n"
    );
    let filtered = [
        "dead-letters",
        "list",
        "-o",
        "json",
        "--reason",
        "invalid_field",
        "--reason",
        "TOO_LARGE",
        "--node",
        "1",
        "--queue",
        "q",
        "--since",
        "2026-03-03T03:00:00+03:00",
        "--before",
        "2026-03-04T00:00:00Z",
    ];
    let json = out(&url, &filtered).await;
    assert_eq!(json.lines().count(), 250, "all pages");
    let expected = Some(DeadLetterFilter {
        reasons: vec![DeadLetterReason::InvalidField.into(), DeadLetterReason::TooLarge.into()],
        node: "nodes/1".into(),
        queue: "q".into(),
        since_time: time(1_772_496_000),
        before_time: time(1_772_582_400),
    });
    let asked = inventory.asked.lock().unwrap().clone();
    assert_eq!(asked, ["None".to_owned(), format!("{expected:?}"), format!("{expected:?}")]);

    let shown = out(&url, &["dead-letters", "show", "1"]).await;
    let body = "ab".repeat(256);
    for line in [
        "reason                INVALID_FIELD",
        "batch.schema_version  7",
        "headers.routing_key   shard.1",
        &format!("body                  {body}"),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let whole = out(&url, &["dead-letters", "show", "deadLetters/1", "-o", "json"]).await;
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["body"].as_str().unwrap().len(), 400, "all 300 bytes, in base64");
    let missing = run(&url, &["dead-letters", "show", "999"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("error: deadLetters/999 does not exist (request "), "{}", missing.err);
}

#[tokio::test]
async fn a_replay_tells_how_far_it_is_and_an_end_before_the_end_is_a_failure() {
    let inventory = with_letters(3);
    let url = serve(inventory.clone()).await;
    let replayed = run(&url, &["dead-letters", "replay", "--all", "--yes", "--rate", "7"]).await;
    assert_eq!(replayed.err, "replayed 2 of 3: 1 committed, 0 duplicates, 1 still dead, 0 gone\n");
    assert_eq!(
        (replayed.code, replayed.out.as_str()),
        (
            Some(0),
            "FIELD       VALUE\ntotal       3\ncommitted   2\nduplicates  0\nstill_dead  1\ngone        0\n"
        )
    );
    let named = run(&url, &["dead-letters", "replay", "1", "deadLetters/2", "-o", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&named.out).unwrap();
    assert_eq!((told["committed"].as_str(), told["done"].as_bool()), (Some("2"), Some(true)));
    assert_eq!(*inventory.asked.lock().unwrap(), ["[] 7", "[\"deadLetters/1\", \"deadLetters/2\"] 100"]);

    let cut = run(&url, &["dead-letters", "replay", "9"]).await;
    assert_eq!((cut.code, cut.out.as_str()), (Some(1), ""));
    assert!(cut.err.ends_with(
        "error: ended too early: replayed 2 of 3: 1 committed, 0 duplicates, 1 still dead, 0 gone\n"
    ));
    let nothing = run(&url, &["dead-letters", "replay"]).await;
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.err.starts_with("error: names: must be given (field names, "), "{}", nothing.err);
}

#[tokio::test]
async fn nothing_is_deleted_and_not_all_is_replayed_without_a_yes() {
    let inventory = with_letters(3);
    let url = serve(inventory.clone()).await;
    let left = || inventory.letters.lock().unwrap().len();
    let refused = run(&url, &["dead-letters", "delete", "1", "2"]).await;
    let expected =
        "error: 2 dead letters would be deleted, and what they say lost; say --yes if that is meant\n";
    assert_eq!((refused.code, refused.err.as_str(), left()), (Some(64), expected, 3));
    let refused = run(&url, &["dead-letters", "replay", "--all"]).await;
    assert_eq!((refused.code, refused.err.lines().count()), (Some(64), 1));
    assert!(inventory.asked.lock().unwrap().is_empty());
    let counted = out(&url, &["dead-letters", "delete", "--all", "--dry-run"]).await;
    assert_eq!((counted.as_str(), left()), ("FIELD          VALUE\ndeleted_count  3\n", 3));
    let deleted = out(&url, &["dead-letters", "delete", "1", "2", "--yes", "-o", "json"]).await;
    assert_eq!((deleted.as_str(), left()), ("{\"deletedCount\":\"2\"}\n", 1));

    for wrong in [
        ["dead-letters", "list", "--reason", "UNSPECIFIED"],
        ["dead-letters", "list", "--since", "yesterday"],
        ["dead-letters", "replay", "--rate", "0"],
    ] {
        let wrong = run(&url, &wrong).await;
        assert_eq!((wrong.code, wrong.err.lines().count()), (Some(64), 1), "{}", wrong.err);
    }
}
