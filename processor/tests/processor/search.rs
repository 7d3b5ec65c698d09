//! What people search, order, count and group.

use std::collections::BTreeMap;

use contracts::v1::{
    Asset, CreateAssetRequest, DeleteAssetRequest, GetOverviewRequest, ListAssetsRequest, ListAssetsResponse,
    ManagedFields, Presence, SummarizeAssetsRequest, SummarizeAssetsResponse,
    overview_service_client::OverviewServiceClient,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::running::{Agent, Running, package};

/// Two nodes with three packages each, of which one is gone, and two assets of
/// people, of which one is deleted.
async fn filled() -> Running {
    let running = Running::start().await;
    for _ in 0..2 {
        let agent = Agent::new();
        let seen = ["bash", "openssl", "Zlib"].map(|name| package(Presence::Present, name, "1.0"));
        running.deliver(vec![agent.batch(1, seen.into())]).await;
        running.deliver(vec![agent.batch(2, vec![package(Presence::Absent, "bash", "")])]).await;
    }
    for (name, owner) in [("rack 1", "ops"), ("rack 2", "")] {
        let labels = [("env".to_owned(), "prod".to_owned()), ("row".to_owned(), name[5..].to_owned())].into();
        let managed = ManagedFields { owner: owner.to_owned(), labels, ..Default::default() };
        let asset = Asset { display_name: name.to_owned(), managed: Some(managed), ..Default::default() };
        running
            .assets()
            .create_asset(CreateAssetRequest { asset: Some(asset), ..CreateAssetRequest::default() })
            .await
            .unwrap();
    }
    let gone = running.list("\"rack 2\"").await.remove(0);
    let delete = DeleteAssetRequest { name: gone.name, ..Default::default() };
    running.assets().delete_asset(delete).await.unwrap();
    running
}

async fn list(running: &Running, request: ListAssetsRequest) -> Result<ListAssetsResponse, Status> {
    running.assets().list_assets(request).await.map(tonic::Response::into_inner)
}

fn names(answer: &ListAssetsResponse) -> Vec<&str> {
    answer.assets.iter().map(|asset| asset.display_name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_come_in_the_order_that_is_asked_for_and_are_counted() {
    let running = filled().await;
    let ask = |order_by: &str, filter: &str| ListAssetsRequest {
        order_by: order_by.to_owned(),
        filter: filter.to_owned(),
        return_total_size: true,
        ..Default::default()
    };
    let all = ["Zlib", "Zlib", "bash", "bash", "openssl", "openssl", "rack 1"];
    let mut back = all;
    back.reverse();
    for (order, filter, expected) in [
        ("", "", &all[..]),
        ("display_name desc", "", &back[..]),
        ("kind,displayName", "", &all[..]),
        (
            "state desc, display_name desc",
            "kind=PACKAGE",
            &["bash", "bash", "openssl", "openssl", "Zlib", "Zlib"],
        ),
        ("delete_time,display_name", "open", &["openssl", "openssl"]),
        ("node desc", "managed.labels.row>0", &["rack 1"]),
        ("", "managed.owner=ops", &["rack 1"]),
        ("", "display_name=(bash OR Zlib) state=ACTIVE", &["Zlib", "Zlib"]),
        ("", "natural_key=\"dpkg/openssl:amd64\"", &["openssl", "openssl"]),
        ("", "update_time<ago(1h)", &[]),
        ("", "update_time>ago(1h) create_time<=now() OPENSSL", &["openssl", "openssl"]),
    ] {
        let answer = list(&running, ask(order, filter)).await.unwrap();
        assert_eq!(names(&answer), expected, "{order}: {filter}");
        assert_eq!(
            (answer.total_size, answer.total_size_estimated),
            (expected.len() as i64, false),
            "{filter}"
        );
    }
    let deleted = ListAssetsRequest { show_deleted: true, ..ask("name", "") };
    assert_eq!(list(&running, deleted).await.unwrap().total_size, 8);
    let uncounted = ListAssetsRequest { return_total_size: false, ..ask("", "") };
    assert_eq!(list(&running, uncounted).await.unwrap().total_size, 0);

    // A token belongs to its order.
    let first = ListAssetsRequest { page_size: 2, ..ask("state desc", "") };
    let page = list(&running, first.clone()).await.unwrap();
    let next = |order_by: &str| ListAssetsRequest {
        order_by: order_by.to_owned(),
        page_token: page.next_page_token.clone(),
        ..first.clone()
    };
    assert_eq!(list(&running, next("state  desc")).await.unwrap().assets.len(), 2);
    let refused = list(&running, next("state")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_are_counted_in_groups_by_any_field() {
    let running = filled().await;
    let summarize = async |filter: &str, group_by: &[&str]| {
        let request = SummarizeAssetsRequest {
            filter: filter.to_owned(),
            group_by: group_by.iter().map(|field| (*field).to_owned()).collect(),
            ..Default::default()
        };
        running.assets().summarize_assets(request).await.unwrap().into_inner()
    };
    let shown = |answer: &SummarizeAssetsResponse| -> Vec<(String, i64)> {
        answer.groups.iter().map(|group| (group.values.join("|"), group.count)).collect()
    };
    let group = |values: &str, count: i64| (values.to_owned(), count);
    for (filter, group_by, expected) in [
        ("", &["kind"][..], vec![group("ASSET_KIND_PACKAGE", 6), group("ASSET_KIND_CUSTOM", 1)]),
        (
            "",
            &["state", "kind"],
            vec![
                group("ASSET_STATE_ACTIVE|ASSET_KIND_PACKAGE", 4),
                group("ASSET_STATE_REMOVED|ASSET_KIND_PACKAGE", 2),
                group("ASSET_STATE_UNSPECIFIED|ASSET_KIND_CUSTOM", 1),
            ],
        ),
        ("state=REMOVED", &["node_display_name"], vec![group("node-1", 2)]),
        ("", &["managed.labels.env"], vec![group("", 6), group("prod", 1)]),
        ("kind!=PACKAGE", &["managed.owner", "state"], vec![group("ops|ASSET_STATE_UNSPECIFIED", 1)]),
        ("kind=PACKAGE", &["details.package.version"], vec![group("1.0", 6)]),
        ("", &["details.package.installed_size_bytes"], vec![group("1003", 6), group("", 1)]),
        ("", &["details.disk.rotational"], vec![group("", 7)]),
        (
            "open",
            &["display_name", "state", "kind"],
            vec![group("openssl|ASSET_STATE_ACTIVE|ASSET_KIND_PACKAGE", 2)],
        ),
        ("kind=DISK", &["kind"], vec![]),
    ] {
        let answer = summarize(filter, group_by).await;
        assert_eq!(shown(&answer), expected, "{filter} by {group_by:?}");
        assert_eq!(answer.total_count, expected.iter().map(|(_, count)| count).sum::<i64>(), "{filter}");
        assert_eq!((answer.other_groups, answer.other_count), (0, 0), "{filter}");
        assert!(answer.compute_time.is_some());
    }
    let by_node = summarize("kind=PACKAGE", &["node"]).await;
    assert!(by_node.groups.iter().all(|group| group.count == 3 && group.values[0].starts_with("nodes/")));
    // The largest are told, the others are summed up.
    let few = SummarizeAssetsRequest {
        group_by: vec!["display_name".to_owned()],
        max_groups: 2,
        show_deleted: true,
        ..Default::default()
    };
    let few = running.assets().summarize_assets(few).await.unwrap().into_inner();
    assert_eq!(shown(&few), [group("Zlib", 2), group("bash", 2)]);
    assert_eq!((few.other_groups, few.other_count, few.total_count), (3, 4, 8));

    // The same is counted once for a while, and says when.
    let before = summarize("", &["kind"]).await;
    running.deliver(vec![Agent::new().batch(1, vec![package(Presence::Present, "tar", "1")])]).await;
    assert_eq!(summarize("", &["kind"]).await, before);
    testkit::wait_until(std::time::Duration::from_secs(20), "it is counted again", async || {
        let after = summarize("", &["kind"]).await;
        after.compute_time != before.compute_time && after.total_count == 8
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_counts_what_a_look_at_each_asset_counts() {
    let running = filled().await;
    let mut overview = OverviewServiceClient::new(running.channel.clone());
    let overview = overview.get_overview(GetOverviewRequest {}).await.unwrap().into_inner();
    let told: Vec<(i32, i32, i64)> =
        overview.kinds.iter().map(|count| (count.kind, count.state, count.count)).collect();
    let mut counted: BTreeMap<(i32, i32), i64> = BTreeMap::new();
    for asset in running.list("").await {
        *counted.entry((asset.kind, asset.state)).or_default() += 1;
    }
    let counted: Vec<_> = counted.into_iter().map(|((kind, state), count)| (kind, state, count)).collect();
    assert_eq!(told, counted);
    assert_eq!(told.len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_questions_are_told_by_field_place_and_what_would_be_right() {
    let running = Running::start().await;
    let dear = vec!["details.package.version:\"a*b\""; 60].join(" OR ");
    let mut cases: Vec<(ListAssetsRequest, &str, &str)> = Vec::new();
    for (filter, problem) in [
        ("ä kindd=PACKAGE", "there is no field `kindd`; did you mean `kind`? "),
        ("ä kindd=PACKAGE", "(at character 3)"),
        ("owner=ops", "did you mean `managed.owner`?"),
        ("kind=PAKAGE", "did you mean `PACKAGE`?"),
        ("kind=", "a value is missing before the end"),
        ("update_time>ago(1)", "is not a duration like 90s"),
        ("revision=1.5", "is not a whole number"),
        (dear.as_str(), "the filter costs 300, and at most 200 are allowed"),
    ] {
        let request = ListAssetsRequest { filter: filter.to_owned(), ..Default::default() };
        cases.push((request, "filter", problem));
    }
    for (order_by, problem) in [
        ("kinds", "did you mean `kind`?"),
        ("kind,kind", "`kind` is there twice (at character 6)"),
        ("managed.owner", "cannot be ordered by `managed.owner`"),
        ("kind up", "`desc` or nothing, not `up`"),
    ] {
        let request = ListAssetsRequest { order_by: order_by.to_owned(), ..Default::default() };
        cases.push((request, "order_by", problem));
    }
    for (request, field, problem) in cases {
        let status = list(&running, request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}: {status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field, "{request:?}");
        assert!(violations[0].description.contains(problem), "{problem}: {}", violations[0].description);
    }
    for (group_by, max_groups, field) in [
        (&[][..], 0, "group_by"),
        (&["kind"; 4], 0, "group_by"),
        (&["kind", "kind"], 0, "group_by[1]"),
        (&["kind", "update_time"], 0, "group_by[1]"),
        (&["details.relations"], 0, "group_by[0]"),
        (&["kind"], -1, "max_groups"),
    ] {
        let group_by = group_by.iter().map(|field| (*field).to_owned()).collect();
        let request = SummarizeAssetsRequest { group_by, max_groups, ..Default::default() };
        let status = running.assets().summarize_assets(request).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_to_order_or_to_count_says_so() {
    let running = Running::start().await;
    let client = running.database.connect().await;
    let statement = "INSERT INTO asset (uid, kind, display_name, natural_key, state, revision, create_time, update_time) \
         SELECT gen_random_uuid(), 100, 'a' || n % 10, '', 0, 1, now(), now() FROM generate_series(1, 100001) AS n; \
         ANALYZE asset";
    client.batch_execute(statement).await.unwrap();
    let ask = |filter: &str, order_by: &str| ListAssetsRequest {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        return_total_size: true,
        page_size: 1,
        ..Default::default()
    };
    let refused = list(&running, ask("", "update_time")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let narrow = list(&running, ask("display_name=a1", "update_time")).await.unwrap();
    // At least what was counted; the planner may guess a little more.
    assert!((10_001..12_000).contains(&narrow.total_size) && narrow.total_size_estimated, "{narrow:?}");
    let next =
        ListAssetsRequest { page_token: narrow.next_page_token, ..ask("display_name=a1", "update_time") };
    assert_eq!(list(&running, next).await.unwrap().assets.len(), 1);
    let few = list(&running, ask("display_name=a0", "")).await.unwrap();
    assert_eq!((few.total_size, few.total_size_estimated), (10_000, false));
    // By kind, node and state there are counts.
    let all = list(&running, ask("kind=CUSTOM", "")).await.unwrap();
    assert_eq!((all.total_size, all.total_size_estimated), (100_001, false));
    running.stop().await;
}
