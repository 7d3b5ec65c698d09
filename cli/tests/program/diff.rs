//! `diff`, and reading as of a time.

use contracts::v1::{
    AssetDifference, AssetDifferenceType, AssetKind, DiffAssetRequest, DiffAssetResponse, DiffAssetsRequest,
    DiffAssetsResponse, FieldDifference, FieldSide,
};
use prost_types::{Value, value::Kind};
use tonic::Status;

use crate::{
    inventory, out, run,
    server::{serve, time},
};

fn version() -> FieldDifference {
    let text = |text: &str| Some(Value { kind: Some(Kind::StringValue(text.into())) });
    FieldDifference {
        path: "details.package.version".into(),
        side: FieldSide::Observed.into(),
        before: text("3.0"),
        after: text("3.1"),
    }
}

/// Nothing but what is asked for is right.
pub fn one(request: &DiffAssetRequest) -> DiffAssetResponse {
    let by_revision = DiffAssetRequest { name: "assets/1".into(), base_revision: 2, ..Default::default() };
    let by_time = DiffAssetRequest {
        base_read_time: time(1_772_496_000),
        read_time: time(1_772_496_060),
        base_revision: 0,
        ..by_revision.clone()
    };
    assert!(*request == by_revision || *request == by_time, "{request:?}");
    let added = FieldDifference {
        path: "managed.owner".into(),
        side: FieldSide::Managed.into(),
        before: None,
        after: Some(Value { kind: Some(Kind::StringValue("ops".into())) }),
    };
    DiffAssetResponse { differences: vec![version(), added], ..Default::default() }
}

/// Cut in the middle, the first time.
pub fn all(request: &DiffAssetsRequest) -> Vec<Result<DiffAssetsResponse, Status>> {
    assert_eq!((request.base_read_time, request.filter.as_str()), (time(1_772_496_000), "kind=PACKAGE"));
    let difference = |number: u32, kind: AssetDifferenceType, fields| AssetDifference {
        asset: format!("assets/{number}"),
        r#type: kind.into(),
        kind: AssetKind::Package.into(),
        display_name: format!("package-{number}"),
        fields,
        ..Default::default()
    };
    let answer = |differences, done| DiffAssetsResponse {
        differences,
        done,
        resume_token: "behind 1".into(),
        ..Default::default()
    };
    match request.resume_token.as_str() {
        "" => vec![
            Ok(answer(vec![difference(1, AssetDifferenceType::Added, vec![])], false)),
            Err(Status::unavailable("going away")),
        ],
        "behind 1" => vec![
            Ok(answer(vec![difference(2, AssetDifferenceType::Changed, vec![version()])], false)),
            Ok(answer(vec![], true)),
        ],
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn fields_of_one_asset() {
    let url = serve(inventory()).await;
    let table = "PATH                     SIDE      BEFORE  AFTER\n\
         details.package.version  OBSERVED  3.0     3.1\n\
         managed.owner            MANAGED           ops\n";
    assert_eq!(out(&url, &["diff", "1", "--base-revision", "2"]).await, table);
    let times = ["--since", "2026-03-03T00:00:00Z", "--until", "2026-03-03T00:01:00Z"];
    assert_eq!(out(&url, &[&["diff", "assets/1"], &times[..]].concat()).await, table);
    let json = out(&url, &["diff", "1", "--base-revision", "2", "-o", "json"]).await;
    assert_eq!(
        json.lines().next().unwrap(),
        r#"{"path":"details.package.version","side":"FIELD_SIDE_OBSERVED","before":"3.0","after":"3.1"}"#
    );
    for wrong in [
        &["diff"][..],
        &["diff", "1"],
        &["diff", "1", "--since", "yesterday"],
        &["diff", "--base-revision", "2"],
        &["diff", "1", "--base-revision", "2", "--since", "2026-03-03T00:00:00Z"],
        &["asset", "1", "--revisions", "--as-of", "2026-03-03T00:00:00Z"],
    ] {
        assert_eq!(run(&url, wrong).await.code, Some(64), "{wrong:?}");
    }
}

#[tokio::test]
async fn all_assets_and_a_stream_that_is_cut_goes_on() {
    let url = serve(inventory()).await;
    let ended =
        run(&url, &["diff", "--since", "2026-03-03T00:00:00Z", "--filter", "kind=PACKAGE", "-o", "csv"])
            .await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("going on"), "{}", ended.err);
    let lines: Vec<&str> = ended.out.split("\r\n").collect();
    assert_eq!(
        lines[1..],
        [
            "ADDED,PACKAGE,package-1,assets/1,,,0,0,",
            "CHANGED,PACKAGE,package-2,assets/2,,,0,0,details.package.version: 3.0 → 3.1",
            ""
        ]
    );
}

#[tokio::test]
async fn assets_as_of_a_time() {
    let url = serve(inventory()).await;
    let as_of = ["--as-of", "2026-03-03T00:00:00Z"];
    // The server answers only what it was asked to.
    let listed = out(&url, &[&["assets", "-o", "json"], &as_of[..]].concat()).await;
    assert!(listed.contains("as of 1772496000"), "{listed}");
    let shown = out(&url, &[&["asset", "1", "-o", "json"], &as_of[..]].concat()).await;
    assert!(shown.contains("as of 1772496000"), "{shown}");
}
