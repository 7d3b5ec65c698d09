//! What enters a filter, changes in it, and leaves it.

use contracts::v1::{
    Asset, AssetChangeType, AssetLeaveReason, CreateAssetRequest, DeleteAssetRequest, ManagedFields,
    Presence, UpdateAssetRequest, WatchAssetsRequest, WatchResponseType,
};
use tonic::Code;

use super::{Fold, answer, assets, watch_assets};
use crate::running::{Agent, Running, package};

/// The next change of a watch.
async fn change(
    stream: &mut tonic::Streaming<contracts::v1::WatchAssetsResponse>,
) -> (AssetChangeType, i64, AssetLeaveReason) {
    loop {
        let answer = answer(stream).await.unwrap();
        if answer.r#type() == WatchResponseType::Changes {
            let [change] = answer.changes.as_slice() else { panic!("{answer:?}") };
            return (change.r#type(), change.revision, change.leave_reason());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_enters_and_leaves_a_filter_is_told_once() {
    use AssetChangeType::{Added, Changed, Left};
    use AssetLeaveReason::{Changed as Other, Deleted, Unspecified as None};
    let running = Running::start().await;
    let agent = Agent::new();
    let filter = "kind=PACKAGE state=ACTIVE details.package.version:\"1.*\" NOT managed.owner=ops";
    let mut stream = watch_assets(&running.channel, assets(filter)).await.unwrap();
    Fold::default().sync(&mut stream).await;
    let seen = [
        (Presence::Present, "0.9", vec![]),
        (Presence::Present, "1.0", vec![(Added, 2, None)]),
        (Presence::Present, "1.1", vec![(Changed, 3, None)]),
        (Presence::Present, "2.0", vec![(Left, 4, Other)]),
        (Presence::Present, "2.1", vec![]),
        (Presence::Present, "1.2", vec![(Added, 6, None)]),
        (Presence::Absent, "", vec![(Left, 7, Other)]),
        (Presence::Present, "1.2", vec![(Added, 8, None)]),
    ];
    for (index, (presence, version, expected)) in seen.into_iter().enumerate() {
        let batch = agent.batch(index as i64 + 1, vec![package(presence, "bash", version)]);
        running.deliver(vec![batch]).await;
        for expected in expected {
            assert_eq!(change(&mut stream).await, expected, "{version}");
        }
    }
    let name = running.list("kind=PACKAGE").await[0].name.clone();
    for (owner, expected) in
        [("ops", (Left, 9, Other)), ("me", (Added, 10, None)), ("you", (Changed, 11, None))]
    {
        let managed = Some(ManagedFields { owner: owner.to_owned(), ..ManagedFields::default() });
        let asset = Asset { name: name.clone(), managed, ..Asset::default() };
        let request = UpdateAssetRequest {
            asset: Some(asset),
            update_mask: Option::None,
            ..UpdateAssetRequest::default()
        };
        running.assets().update_asset(request).await.unwrap();
        assert_eq!(change(&mut stream).await, expected, "{owner}");
    }

    // What is deleted leaves, unless deleted ones belong to it.
    let all = WatchAssetsRequest { show_deleted: true, ..assets("kind=PACKAGE") };
    let mut kept = watch_assets(&running.channel, all).await.unwrap();
    let mut stream = watch_assets(&running.channel, assets("kind=PACKAGE")).await.unwrap();
    Fold::default().sync(&mut stream).await;
    Fold::default().sync(&mut kept).await;
    running.deliver(vec![agent.batch(9, vec![package(Presence::Absent, "bash", "")])]).await;
    assert_eq!(change(&mut stream).await, (Changed, 12, None));
    running
        .assets()
        .delete_asset(DeleteAssetRequest { name, etag: String::new(), ..DeleteAssetRequest::default() })
        .await
        .unwrap();
    assert_eq!(change(&mut stream).await, (Left, 13, Deleted));
    assert_eq!(change(&mut kept).await, (Changed, 12, None));
    assert_eq!(change(&mut kept).await, (Changed, 13, None));
    running.deliver(vec![agent.batch(10, vec![package(Presence::Present, "bash", "1.3")])]).await;
    assert_eq!(change(&mut stream).await, (Added, 14, None));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_many_pages_can_be_resumed_within() {
    let running = Running::start().await;
    for number in 0..25 {
        let display_name = format!("rack {number}");
        let asset = Some(Asset { display_name, ..Asset::default() });
        running
            .assets()
            .create_asset(CreateAssetRequest { asset, ..CreateAssetRequest::default() })
            .await
            .unwrap();
    }
    let request = WatchAssetsRequest { page_size: 4, ..assets("kind=CUSTOM") };
    let mut fold = Fold::default();
    let mut answers = 0;
    while fold.synced == 0 {
        let request = WatchAssetsRequest { resume_token: fold.token.clone(), ..request.clone() };
        let mut stream = watch_assets(&running.channel, request).await.unwrap();
        let answer = answer(&mut stream).await.unwrap();
        assert!(answer.changes.len() <= 4);
        answers += 1;
        fold.take(answer);
        if answers == 3 {
            let asset = Some(Asset { display_name: "new".to_owned(), ..Asset::default() });
            running
                .assets()
                .create_asset(CreateAssetRequest { asset, ..CreateAssetRequest::default() })
                .await
                .unwrap();
        }
    }
    assert!(answers >= 8, "{answers}");
    assert_eq!(fold.held.len(), 26);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_watched_is_refused_by_field() {
    let running = Running::start().await;
    let beat = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, field, problem) in [
        (assets("kindd=DISK"), "filter", "there is no field"),
        (
            assets("last_seen_time>\"2026-01-01T00:00:00Z\""),
            "filter",
            "`last_seen_time` changes without an event",
        ),
        (assets("kind=DISK node_display_name=a"), "filter", "`node_display_name` changes without an event"),
        (assets("bash"), "filter", "a word alone"),
        (assets("update_time>ago(\"1h\")"), "filter", "functions of time"),
        (WatchAssetsRequest { page_size: -1, ..assets("") }, "page_size", "negative"),
        (
            WatchAssetsRequest { heartbeat_interval: beat(0), ..assets("") },
            "heartbeat_interval",
            "1 s to 300 s",
        ),
        (
            WatchAssetsRequest { heartbeat_interval: beat(301), ..assets("") },
            "heartbeat_interval",
            "1 s to 300 s",
        ),
        (
            WatchAssetsRequest { resume_token: "abc".into(), ..assets("") },
            "resume_token",
            "not a resume token",
        ),
        (
            WatchAssetsRequest { resume_token: "A".repeat(9000), ..assets("") },
            "resume_token",
            "not a resume token",
        ),
    ] {
        let status = watch_assets(&running.channel, request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
        let message = status.message();
        assert!(message.starts_with(&format!("{field}: ")) && message.contains(problem), "{message}");
    }
    running.stop().await;
    let running =
        Running::start_on(std::sync::Arc::new(testkit::Database::create().await), &["--watch-limit", "1"])
            .await;
    let first = watch_assets(&running.channel, assets("")).await.unwrap();
    let status = watch_assets(&running.channel, assets("")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(first);
    testkit::wait_until(super::DEADLINE, "room for another watch", async || {
        watch_assets(&running.channel, assets("")).await.is_ok()
    })
    .await;
    running.stop().await;
}
