//! The same question by gRPC, gRPC-Web and REST has the same answer, errors
//! included.

use bytes::Bytes;
use http::Request;
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::support::{System, Version, Wire};

/// A REST request and the call that it stands for.
struct Question {
    method: &'static str,
    target: &'static str,
    body: Option<&'static str>,
    rpc: &'static str,
    message: Json,
}

fn ask(method: &'static str, target: &'static str, rpc: &'static str, message: Json) -> Question {
    Question { method, target, body: None, rpc, message }
}

fn questions() -> Vec<Question> {
    vec![
        ask("GET", "/v1/assets/a", "AssetService/GetAsset", json!({"name": "assets/a"})),
        ask("GET", "/v1/assets/missing", "AssetService/GetAsset", json!({"name": "assets/missing"})),
        ask("GET", "/v1/assets/busy", "AssetService/GetAsset", json!({"name": "assets/busy"})),
        ask("GET", "/v1/assets/bare", "AssetService/GetAsset", json!({"name": "assets/bare"})),
        ask("GET", "/v1/assets/%C3%A4%20b", "AssetService/GetAsset", json!({"name": "assets/ä b"})),
        ask("GET", "/v1/assets", "AssetService/ListAssets", json!({})),
        ask(
            "GET",
            "/v1/assets?filter=kind%3DPACKAGE+AND+a&page_token=t",
            "AssetService/ListAssets",
            json!({"filter": "kind=PACKAGE AND a", "pageToken": "t"}),
        ),
        ask(
            "DELETE",
            "/v1/assets/a?etag=e",
            "AssetService/DeleteAsset",
            json!({"name": "assets/a", "etag": "e"}),
        ),
        ask(
            "GET",
            "/v1/assets/a/revisions",
            "AssetService/ListAssetRevisions",
            json!({"parent": "assets/a"}),
        ),
        ask(
            "GET",
            "/v1/assets/a/relatedAssets?direction=RELATION_DIRECTION_INCOMING&types=RELATION_TYPE_RUNS_IN\
             &types=RELATION_TYPE_BELONGS_TO&kinds=ASSET_KIND_POD&depth=5",
            "AssetService/ListRelatedAssets",
            json!({
                "parent": "assets/a", "direction": "RELATION_DIRECTION_INCOMING", "depth": 5,
                "types": ["RELATION_TYPE_RUNS_IN", "RELATION_TYPE_BELONGS_TO"], "kinds": ["ASSET_KIND_POD"],
            }),
        ),
        ask(
            "GET",
            "/v1/assets/a?readTime=2026-03-03T00:00:00.000001Z",
            "AssetService/GetAsset",
            json!({"name": "assets/a", "readTime": "2026-03-03T00:00:00.000001Z"}),
        ),
        ask(
            "GET",
            "/v1/assets/a:diff?baseRevision=2&revision=3",
            "AssetService/DiffAsset",
            json!({"name": "assets/a", "baseRevision": "2", "revision": "3"}),
        ),
        Question {
            body: Some(r#"{"revision": "2", "etag": "e"}"#),
            ..ask(
                "POST",
                "/v1/assets/a:revert",
                "AssetService/RevertAsset",
                json!({"name": "assets/a", "revision": "2", "etag": "e"}),
            )
        },
        ask("GET", "/v1/nodes/n", "NodeService/GetNode", json!({"name": "nodes/n"})),
        ask("GET", "/v1/nodes?pageSize=3", "NodeService/ListNodes", json!({"pageSize": 3})),
        ask("GET", "/v1/events?filter=x", "EventService/ListEvents", json!({"filter": "x"})),
        Question {
            body: Some(
                r#"{"displayName": "rack 12", "managed": {"labels": {"a": "b"}, "lifecycle": "LIFECYCLE_PLANNED"}}"#,
            ),
            ..ask(
                "POST",
                "/v1/assets",
                "AssetService/CreateAsset",
                json!({"asset": {"displayName": "rack 12", "managed": {"labels": {"a": "b"}, "lifecycle": "LIFECYCLE_PLANNED"}}}),
            )
        },
        ask("POST", "/v1/assets", "AssetService/CreateAsset", json!({})),
        Question {
            body: Some(r#"{"etag": "e"}"#),
            ..ask(
                "POST",
                "/v1/assets/a:undelete",
                "AssetService/UndeleteAsset",
                json!({"name": "assets/a", "etag": "e"}),
            )
        },
        ask(
            "GET",
            "/v1/assets:batchGet?names=assets/b&names=assets/a",
            "AssetService/BatchGetAssets",
            json!({"names": ["assets/b", "assets/a"]}),
        ),
        Question {
            body: Some(
                r#"{"names": ["assets/a", "assets/b"], "updateMask": "managed.labels.env,managed.customFields.cost",
                    "patch": {"managed": {"customFields": {"cost": "1"}}}}"#,
            ),
            ..ask(
                "POST",
                "/v1/assets:batchUpdate",
                "AssetService/BatchUpdateAssets",
                json!({
                    "names": ["assets/a", "assets/b"],
                    "updateMask": "managed.labels.env,managed.customFields.cost",
                    "patch": {"managed": {"customFields": {"cost": "1"}}},
                }),
            )
        },
        Question {
            body: Some(r#"{"managed": {"owner": "", "notes": "n"}, "name": "assets/other", "etag": "e"}"#),
            ..ask(
                "PATCH",
                "/v1/assets/a",
                "AssetService/UpdateAsset",
                json!({
                    "asset": {"name": "assets/a", "etag": "e", "managed": {"notes": "n"}},
                    "updateMask": "managed.owner,managed.notes",
                }),
            )
        },
    ]
}

/// Lists that are empty are written by REST, and by nobody else.
fn without_empty_lists(mut json: Json) -> Json {
    if let Some(object) = json.as_object_mut() {
        object.retain(|_, value| *value != json!([]));
    }
    json
}

#[tokio::test]
async fn three_protocols_one_answer() {
    let system = System::start().await;
    for question in questions() {
        let rest = system.rest(question.method, question.target, question.body).await;
        let rest = match rest.status.as_u16() {
            200 => Ok(without_empty_lists(rest.json())),
            _ => Err(rest.json()["error"].clone()),
        };
        for wire in Wire::ALL {
            let answer = system.call(wire, question.rpc, &question.message).await;
            let place = format!("{} {} over {wire:?}", question.method, question.target);
            match (&rest, answer) {
                (Ok(rest), Ok(grpc)) => assert_eq!(rest, &grpc, "{place}"),
                (Err(rest), Err(grpc)) => {
                    assert_eq!(rest["message"], grpc.message(), "{place}");
                    let code = Code::from_i32(grpc.code() as i32);
                    let name = format!("{code:?}").to_uppercase();
                    assert_eq!(rest["status"].as_str().unwrap().replace('_', ""), name, "{place}");
                }
                (rest, grpc) => panic!("{place}: {rest:?} but {grpc:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_overview_joins_all_and_names_what_is_missing() {
    let system = System::start().await;
    for wire in Wire::ALL {
        let overview = system.call(wire, "OverviewService/GetOverview", &json!({})).await.unwrap();
        assert_eq!(overview["deadLetters"], "7");
        let collectors: Vec<&Json> =
            overview["collectors"].as_array().unwrap().iter().map(|stats| &stats["collector"]).collect();
        assert_eq!(collectors, ["collector-1", "collector-2"]);
        assert!(overview.get("unavailable").is_none());
    }
    let request = Request::get("/v1/overview").header("x-request-id", "count-9").body(Bytes::new()).unwrap();
    assert_eq!(system.send(Version::Two, request).await.json()["deadLetters"], "9");
    system.stop_collector.cancel();
    system.stop_processor.cancel();
    crate::support::until("both are named as missing", async || {
        let overview = system.rest("GET", "/v1/overview", None).await.json();
        let missing = overview["unavailable"].as_array().unwrap();
        let named = |part: &str| {
            missing.iter().any(|missing| {
                missing["part"].as_str().unwrap().starts_with(part)
                    && missing["reason"].as_str().unwrap().contains("not reachable")
            })
        };
        overview["collectors"].as_array().unwrap().len() == 1
            && named("collector http://")
            && named("processor http://")
    })
    .await;
}
