//! REST: errors that say what is wrong, and what HTTP adds.

use bytes::Bytes;
use http::Request;
use serde_json::{Value as Json, json};

use crate::support::{Answer, System, Version};

fn detail<'a>(answer: &'a Json, kind: &str) -> Option<&'a Json> {
    let details = answer["error"]["details"].as_array().unwrap();
    details.iter().find(|detail| detail["@type"] == format!("type.googleapis.com/google.rpc.{kind}"))
}

/// Every error has the same form.
fn check_form(place: &str, answer: &Answer) {
    let json = answer.json();
    assert_eq!(answer.header("content-type"), "application/json", "{place}");
    assert_eq!(json["error"]["code"], answer.status.as_u16(), "{place}: {json}");
    assert!(!json["error"]["message"].as_str().unwrap().is_empty(), "{place}");
    assert_eq!(detail(&json, "ErrorInfo").unwrap()["domain"], "assettrack", "{place}: {json}");
    let id = answer.header("x-request-id");
    assert!(!id.is_empty(), "{place}");
    assert_eq!(detail(&json, "RequestInfo").unwrap()["requestId"], id, "{place}");
}

#[tokio::test]
async fn each_error_says_what_is_wrong() {
    let system = System::start().await;
    let json = Some("application/json");
    for (method, target, content_type, body, status, code, message) in [
        ("GET", "/v1/nothing", None, "", 404, "NOT_FOUND", "there is nothing at /v1/nothing"),
        ("GET", "/v1/assets/a/", None, "", 404, "NOT_FOUND", "there is nothing at"),
        ("GET", "/static/gone.js", None, "", 404, "NOT_FOUND", "there is nothing at"),
        (
            "PUT",
            "/v1/assets/a",
            json,
            "{}",
            405,
            "UNIMPLEMENTED",
            "this path takes GET, PATCH, DELETE, HEAD, OPTIONS",
        ),
        ("POST", "/", json, "{}", 405, "UNIMPLEMENTED", "this path takes GET, HEAD"),
        (
            "POST",
            "/v1/assets",
            Some("text/plain"),
            "{}",
            415,
            "INVALID_ARGUMENT",
            "content-type: must be application/json",
        ),
        ("POST", "/v1/assets", None, "{}", 415, "INVALID_ARGUMENT", "not none"),
        (
            "POST",
            "/assettrack.v1.AssetService/GetAsset",
            json,
            "{}",
            415,
            "INVALID_ARGUMENT",
            "application/grpc",
        ),
        (
            "POST",
            "/assettrack.v1.AssetService/GetAsset",
            Some("application/grpc-web+json"),
            "",
            415,
            "INVALID_ARGUMENT",
            "+proto",
        ),
        (
            "POST",
            "/assettrack.v1.AssetService/GetAsset",
            Some("application/grpc"),
            "",
            426,
            "FAILED_PRECONDITION",
            "HTTP/2",
        ),
        ("POST", "/v1/assets", json, "{\"kind\": }", 400, "INVALID_ARGUMENT", "line 1 column 10"),
        (
            "POST",
            "/v1/assets",
            json,
            r#"{"nmae": 1}"#,
            400,
            "INVALID_ARGUMENT",
            "asset.nmae: there is no such field",
        ),
        ("POST", "/v1/assets", json, r#"{"kind": "PAKAGE"}"#, 400, "INVALID_ARGUMENT", "asset.kind: "),
        (
            "PATCH",
            "/v1/assets/a",
            json,
            r#"{"managed": {"owner": 5}}"#,
            400,
            "INVALID_ARGUMENT",
            "asset.managed.owner: ",
        ),
        (
            "PATCH",
            "/v1/assets/a?updateMask=x",
            json,
            r#"{"managed": []}"#,
            400,
            "INVALID_ARGUMENT",
            "asset.managed: ",
        ),
        ("GET", "/v1/assets?page_size=ten", None, "", 400, "INVALID_ARGUMENT", "page_size: "),
        (
            "GET",
            "/v1/assets?pagesize=1",
            None,
            "",
            400,
            "INVALID_ARGUMENT",
            "pagesize: there is no such query parameter",
        ),
        ("GET", "/v1/assets?filter=a&filter=b", None, "", 400, "INVALID_ARGUMENT", "filter: stands twice"),
        ("GET", "/v1/assets/%zz", None, "", 400, "INVALID_ARGUMENT", "two hexadecimal digits"),
        ("GET", "/v1/assets/a%00b", None, "", 400, "INVALID_ARGUMENT", "control character"),
        ("GET", "/v1/assets", json, "{}", 400, "INVALID_ARGUMENT", "this call takes no body"),
        ("GET", "/v1/assets/missing", None, "", 404, "NOT_FOUND", "assets/missing does not exist"),
        ("GET", "/v1/assets/bare", None, "", 500, "INTERNAL", "no details: ä%"),
        ("GET", "/v1/assets?page_size=1020", None, "", 429, "RESOURCE_EXHAUSTED", ""),
    ] {
        for version in [Version::One, Version::Two] {
            let place = format!("{method} {target} {body} over {version:?}");
            let mut request = Request::builder().method(method).uri(target);
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            if status == 426 && version == Version::Two {
                continue;
            }
            let answer = system.send(version, request.body(Bytes::from(body)).unwrap()).await;
            assert_eq!(answer.status.as_u16(), status, "{place}: {answer:?}");
            check_form(&place, &answer);
            let json = answer.json();
            assert_eq!(json["error"]["status"], code, "{place}");
            assert!(json["error"]["message"].as_str().unwrap().contains(message), "{place}: {json}");
            if status == 405 {
                assert_eq!(answer.header("allow"), message.trim_start_matches("this path takes "), "{place}");
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_host_name_is_refused() {
    let system = System::start().await;
    let mut client = tokio::net::TcpStream::connect(system.address).await.unwrap();
    let request = b"GET /v1/assets HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut client, request).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("FOREIGN_HOST"), "{answer}");
}

#[tokio::test]
async fn a_field_at_fault_is_named_for_programs() {
    let system = System::start().await;
    let answer =
        system.rest("POST", "/v1/assets", Some(r#"{"managed": {"lifecycle": "GONE"}}"#)).await.json();
    let violation = &detail(&answer, "BadRequest").unwrap()["fieldViolations"][0];
    assert_eq!(violation["field"], "asset.managed.lifecycle");
    assert_eq!(detail(&answer, "ErrorInfo").unwrap()["reason"], "WRONG_VALUE");
    let missing = system.rest("GET", "/v1/assets/missing", None).await.json();
    assert_eq!(detail(&missing, "ResourceInfo").unwrap()["resourceName"], "assets/missing");
}

#[tokio::test]
async fn a_retry_delay_crosses_as_a_header() {
    let system = System::start().await;
    let answer = system.rest("GET", "/v1/assets/busy", None).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "3"));
    assert_eq!(detail(&answer.json(), "RetryInfo").unwrap()["retryDelay"], "2.500s");
}

#[tokio::test]
async fn a_body_too_large_is_refused_and_the_answer_is_seen() {
    let system = System::start().await;
    let large = format!("{{\"displayName\": \"{}\"}}", "x".repeat(5 * 1024 * 1024));
    for version in [Version::One, Version::Two] {
        let request = Request::post("/v1/assets").header("content-type", "application/json");
        let answer = system.send(version, request.body(Bytes::from(large.clone())).unwrap()).await;
        assert_eq!(answer.status.as_u16(), 413, "{version:?}");
        check_form("too large", &answer);
    }
}

#[tokio::test]
async fn a_deadline_becomes_504() {
    let system = System::with(&["--request-timeout-milliseconds=150"], None).await;
    let answer = system.rest("GET", "/v1/assets/slow", None).await;
    assert_eq!(answer.status.as_u16(), 504);
    assert_eq!(answer.json()["error"]["status"], "DEADLINE_EXCEEDED");
    let request = Request::get("/v1/assets/a").header("grpc-timeout", "soon").body(Bytes::new()).unwrap();
    let answer = system.send(Version::One, request).await;
    assert_eq!(answer.status.as_u16(), 400, "{answer:?}");
    let request = Request::get("/v1/assets/slow").header("grpc-timeout", "1n").body(Bytes::new()).unwrap();
    assert_eq!(system.send(Version::Two, request).await.status.as_u16(), 504);
}

#[tokio::test]
async fn a_request_id_is_kept_made_and_handed_on() {
    let system = System::start().await;
    let request =
        Request::get("/v1/assets/headers").header("x-request-id", "mine-1").header("traceparent", "00-t");
    let request = request
        .header("cookie", "secret")
        .header("x-assettrack-principal", "admin")
        .body(Bytes::new())
        .unwrap();
    let answer = system.send(Version::One, request).await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    let seen = answer.json()["naturalKey"].as_str().unwrap().to_owned();
    assert!(
        seen.contains("\"x-request-id\": \"mine-1\"") && seen.contains("\"traceparent\": \"00-t\""),
        "{seen}"
    );
    assert!(
        seen.contains("grpc-timeout") && !seen.contains("secret") && !seen.contains("principal"),
        "{seen}"
    );
    let made = system.rest("GET", "/v1/assets/a", None).await;
    assert!(uuid::Uuid::parse_str(made.header("x-request-id")).is_ok());
}

#[tokio::test]
async fn head_and_options() {
    let system = System::start().await;
    let get = system.rest("GET", "/v1/assets/a", None).await;
    for version in [Version::One, Version::Two] {
        let head = system.send(version, Request::head("/v1/assets/a").body(Bytes::new()).unwrap()).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{version:?}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{version:?}");
    }
    let options = system.rest("OPTIONS", "/v1/assets", None).await;
    assert_eq!((options.status.as_u16(), options.header("allow")), (204, "POST, GET, HEAD, OPTIONS"));
}

#[tokio::test]
async fn a_patch_without_a_mask_writes_what_the_json_names() {
    let system = System::start().await;
    for (target, body, mask) in [
        (
            "/v1/assets/a",
            r#"{"managed": {"owner": "", "labels": {"x": "y"}}}"#,
            "managed.labels,managed.owner",
        ),
        ("/v1/assets/a", r#"{"managed": null}"#, "managed"),
        ("/v1/assets/a?updateMask=managed.notes", r#"{"managed": {"owner": "o"}}"#, "managed.notes"),
        ("/v1/assets/a?update_mask=display_name", r#"{"displayName": "o"}"#, "display_name"),
    ] {
        let answer = system.rest("PATCH", target, Some(body)).await.json();
        assert_eq!(
            (&answer["naturalKey"], &answer["name"]),
            (&json!(mask), &json!("assets/a")),
            "{target} {body}"
        );
    }
}

#[tokio::test]
async fn an_empty_list_is_written() {
    let system = System::start().await;
    let answer = system.rest("GET", "/v1/assets", None).await;
    assert_eq!(answer.body, r#"{"assets":[]}"#);
}

#[tokio::test]
async fn a_stream_is_a_line_for_each_answer_and_one_for_its_failure() {
    let system = System::start().await;
    let lines = |answer: &Answer| -> Vec<Json> {
        let text = std::str::from_utf8(&answer.body).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let answer = system.rest("GET", "/v1/collector/stats:watch?interval=1s", None).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-ndjson"));
    let all = lines(&answer);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|line| line["collector"].as_str().unwrap().starts_with("collector-")));

    // What fails on the way is the last line.
    let answer = system.rest("GET", "/v1/collector/stats:watch?interval=9s", None).await;
    assert_eq!(answer.status.as_u16(), 200);
    let all = lines(&answer);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(
        (&all[2]["error"]["code"], &all[2]["error"]["status"]),
        (&json!(429), &json!("RESOURCE_EXHAUSTED"))
    );
    assert_eq!(detail(&all[2], "RequestInfo").unwrap()["requestId"], answer.header("x-request-id"));

    // Also where to go on.
    let answer = system.rest("GET", "/v1/assets:watch?filter=a-token", None).await;
    let all = lines(&answer);
    assert_eq!(all[0]["resumeToken"], "a-token");
    assert_eq!(detail(&all[1], "ErrorInfo").unwrap()["metadata"]["resume_token"], "a-token");

    // What fails at once has the status of HTTP, as ever.
    let answer = system.rest("GET", "/v1/collector/stats:watch?interval=-1s", None).await;
    assert_eq!(answer.status.as_u16(), 400);
    check_form("a refused stream", &answer);
}
