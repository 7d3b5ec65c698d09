//! Requests and answers by example, over a contract that has every kind of
//! field (`tests/proto/every_type.proto`).

use http::Method;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage};
use serde_json::{Value as Json, json};

use super::{Invalid, answer};
use crate::table::{Table, router::Route};

fn table() -> Table {
    let root = env!("CARGO_MANIFEST_DIR");
    let folders = [format!("{root}/tests/proto"), format!("{root}/../proto")];
    let mut compiler = protox::Compiler::new(folders).unwrap();
    compiler.include_imports(true).open_file("every_type.proto").unwrap();
    Table::build(&compiler.encode_file_descriptor_set()).unwrap()
}

fn transcode(method: &Method, target: &str, body: &str) -> Result<DynamicMessage, Invalid> {
    let table = table();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(Route::Found { binding, segments }) = table.find(method, path) else {
        panic!("no rule takes {path}")
    };
    super::request(&table.bindings()[binding], &segments, query, body.as_bytes())
}

fn as_json(message: &DynamicMessage) -> Json {
    serde_json::to_value(message).unwrap()
}

#[test]
fn query_values_of_every_kind() {
    for (query, expected) in [
        ("", json!({})),
        ("some_text=a+b%26c", json!({"someText": "a b&c"})),
        ("someText=", json!({})),
        (
            "small=-7&big=9007199254740993&unsigned=18446744073709551615",
            json!({"small": -7, "big": "9007199254740993", "unsigned": "18446744073709551615"}),
        ),
        ("fraction=1.5&flag=true", json!({"fraction": 1.5, "flag": true})),
        ("fraction=Infinity", json!({"fraction": "Infinity"})),
        ("raw=-_8", json!({"raw": "+/8="})),
        ("raw=%2B%2F8%3D", json!({"raw": "+/8="})),
        ("colour=COLOUR_RED", json!({"colour": "COLOUR_RED"})),
        ("colour=1", json!({"colour": "COLOUR_RED"})),
        ("texts=a&texts=b&texts=", json!({"texts": ["a", "b", ""]})),
        ("colours=COLOUR_RED&colours=0", json!({"colours": ["COLOUR_RED", "COLOUR_UNSPECIFIED"]})),
        ("at=2026-11-23T10:00:00.5%2B01:00", json!({"at": "2026-11-23T09:00:00.500Z"})),
        ("lasts=1.5s", json!({"lasts": "1.500s"})),
        ("mask=inner.text,some_text", json!({"mask": "inner.text,someText"})),
        ("maybe_flag=false&maybeBig=5", json!({"maybeFlag": false, "maybeBig": "5"})),
        (
            "inner.deeper.text=x&inner.numbers=1&inner.numbers=2",
            json!({"inner": {"deeper": {"text": "x"}, "numbers": [1, 2]}}),
        ),
        ("chosen=false", json!({"chosen": false})),
        ("&&flag=true&", json!({"flag": true})),
    ] {
        let message = transcode(&Method::GET, &format!("/v1/every/x?{query}"), "");
        let mut json = as_json(&message.unwrap_or_else(|error| panic!("{query}: {error}")));
        assert_eq!(json.as_object_mut().unwrap().remove("name"), Some(json!("every/x")));
        assert_eq!(json, expected, "{query}");
    }
}

#[test]
fn a_wrong_query_names_the_parameter() {
    for (query, field, reason) in [
        ("nothing=1", "nothing", "UNKNOWN_FIELD"),
        ("inner.nothing=1", "inner.nothing", "UNKNOWN_FIELD"),
        ("some_text.x=1", "some_text.x", "UNKNOWN_FIELD"),
        ("inners.text=1", "inners.text", "UNKNOWN_FIELD"),
        ("name=other", "name", "SET_BY_PATH"),
        ("small=x", "small", "WRONG_VALUE"),
        ("small=", "small", "WRONG_VALUE"),
        ("small=2147483648", "small", "WRONG_VALUE"),
        ("flag=1", "flag", "WRONG_VALUE"),
        ("flag", "flag", "WRONG_VALUE"),
        ("colour=RED", "colour", "WRONG_VALUE"),
        ("raw=%21", "raw", "WRONG_VALUE"),
        ("at=yesterday", "at", "WRONG_VALUE"),
        ("lasts=5", "lasts", "WRONG_VALUE"),
        ("labels=x", "labels", "WRONG_VALUE"),
        ("inner=x", "inner", "WRONG_VALUE"),
        ("small=1&small=2", "small", "DUPLICATE_FIELD"),
        ("some_text=1&someText=2", "some_text", "DUPLICATE_FIELD"),
        ("some_text=%ff", "some_text", "INVALID_QUERY"),
    ] {
        let error = transcode(&Method::GET, &format!("/v1/every/x?{query}"), "").unwrap_err();
        assert_eq!((error.field.as_str(), error.reason), (field, reason), "{query}: {error}");
    }
}

#[test]
fn the_path_wins_over_the_body() {
    let message = transcode(&Method::PUT, "/v1/every/x", r#"{"name": "every/y", "small": 1}"#).unwrap();
    assert_eq!(as_json(&message), json!({"name": "every/x", "small": 1}));
    let message = transcode(&Method::GET, "/v1/tree/a/b%2Fc", "").unwrap();
    assert_eq!(as_json(&message), json!({"name": "tree/a/b%2Fc"}));
}

#[test]
fn a_wrong_body_names_the_field_or_the_position() {
    for (body, field, reason) in [
        ("{", "body", "MALFORMED_JSON"),
        ("{} x", "body", "MALFORMED_JSON"),
        (r#"{"small": 1, "small": 2}"#, "body", "MALFORMED_JSON"),
        (r#"{"fraction": NaN}"#, "body", "MALFORMED_JSON"),
        ("[]", "body", "WRONG_TYPE"),
        ("null", "body", "WRONG_TYPE"),
        (r#"{"nothing": 1}"#, "nothing", "UNKNOWN_FIELD"),
        (r#"{"inner": {"deeper": {"nothing": 1}}}"#, "inner.deeper.nothing", "UNKNOWN_FIELD"),
        (r#"{"inners": [{}, {"nothing": 1}]}"#, "inners[1].nothing", "UNKNOWN_FIELD"),
        (r#"{"inners": [null]}"#, "inners[0]", "WRONG_TYPE"),
        (r#"{"texts": ["a", null]}"#, "texts", "WRONG_TYPE"),
        (r#"{"some_text": "a", "someText": "b"}"#, "some_text", "DUPLICATE_FIELD"),
        (r#"{"first": "a", "second": 2}"#, "second", "DUPLICATE_FIELD"),
        (r#"{"small": "x"}"#, "small", "WRONG_VALUE"),
        (r#"{"small": 1.5}"#, "small", "WRONG_VALUE"),
        (r#"{"someText": 5}"#, "some_text", "WRONG_VALUE"),
        (r#"{"colour": "RED"}"#, "colour", "WRONG_VALUE"),
        (r#"{"inner": "x"}"#, "inner", "WRONG_VALUE"),
        (r#"{"raw": "!"}"#, "raw", "WRONG_VALUE"),
        (r#"{"labels": {"a": 1}}"#, "labels", "WRONG_VALUE"),
    ] {
        let error = transcode(&Method::PUT, "/v1/every/x", body).unwrap_err();
        assert_eq!((error.field.as_str(), error.reason), (field, reason), "{body}: {error}");
    }
    let error = transcode(&Method::PUT, "/v1/every/x", "{\n  \"small\": }").unwrap_err();
    assert!(error.problem.contains("line 2 column 12"), "{error}");
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    assert_eq!(transcode(&Method::PUT, "/v1/every/x", &deep).unwrap_err().reason, "MALFORMED_JSON");
    let error = transcode(&Method::GET, "/v1/every/x", "{}").unwrap_err();
    assert_eq!(error.reason, "UNEXPECTED_BODY");
}

#[test]
fn what_the_body_fills_is_no_query_parameter() {
    for (method, target, field) in [
        (Method::PUT, "/v1/every/x?small=1", "small"),
        (Method::PATCH, "/v1/every/x?every.small=1", "every.small"),
    ] {
        let error = transcode(&method, target, "{}").unwrap_err();
        assert_eq!((error.field.as_str(), error.reason), (field, "SET_BY_BODY"));
    }
    let message = transcode(&Method::PATCH, "/v1/every/x?dryRun=true", "{}").unwrap();
    assert_eq!(as_json(&message), json!({"every": {"name": "every/x"}, "dryRun": true}));
}

#[test]
fn a_patch_without_a_mask_writes_what_is_present() {
    for (target, body, mask) in [
        ("", r#"{"someText": ""}"#, Some("someText")),
        ("", r#"{"flag": false, "name": "every/y", "etag": "e"}"#, Some("flag")),
        ("", r#"{"inner": {"deeper": {"text": "x"}}}"#, Some("inner.deeper.text")),
        ("", r#"{"inner": {}}"#, Some("inner")),
        ("", r#"{"inner": null}"#, Some("inner")),
        ("", r#"{"labels": {"a": "b"}}"#, Some("labels")),
        ("", r#"{"at": "2026-11-23T00:00:00Z"}"#, Some("at")),
        ("", r#"{"inners": [{"text": "x"}]}"#, Some("inners")),
        (
            "",
            r#"{"inner": {"text": "x", "numbers": []}, "small": 0}"#,
            Some("inner.numbers,inner.text,small"),
        ),
        ("", "{}", None),
        ("", "", None),
        ("?updateMask=small,inner.text", r#"{"flag": true}"#, Some("small,inner.text")),
        ("?update_mask=some_text", r#"{"flag": true}"#, Some("someText")),
    ] {
        let message = transcode(&Method::PATCH, &format!("/v1/every/x{target}"), body).unwrap();
        let json = as_json(&message);
        let mut paths: Option<Vec<&str>> = json["updateMask"].as_str().map(|mask| mask.split(',').collect());
        let mut expected: Option<Vec<&str>> = mask.map(|mask| mask.split(',').collect());
        paths.iter_mut().chain(expected.iter_mut()).for_each(|paths| paths.sort_unstable());
        assert_eq!(paths, expected, "{target} {body}");
        assert_eq!(json["every"]["name"], "every/x", "{target} {body}");
    }
}

/// What JSON says is what the message holds, and what the message holds is
/// what JSON says: through both directions nothing changes.
#[test]
fn json_through_the_message_and_back() {
    let full = json!({
        "name": "every/x", "someText": "ä\n\"", "small": -1, "big": "-9223372036854775808", "unsigned": "5",
        "fraction": 0.25, "flag": true, "raw": "AP8=", "colour": "COLOUR_RED", "texts": ["a", ""],
        "colours": ["COLOUR_UNSPECIFIED", 7], "labels": {"k": "v"}, "at": "2026-11-23T10:00:00Z", "lasts": "3s",
        "mask": "a.bC", "maybeFlag": false, "maybeBig": "0", "inner": {"deeper": {"numbers": [1]}},
        "inners": [{}, {"text": "x"}], "second": 0, "chosen": false, "etag": "e"
    });
    let message = transcode(&Method::PUT, "/v1/every/x", &full.to_string()).unwrap();
    let table = table();
    let rpc = table.rpc("/every.v1.EveryService/Get").unwrap();
    let written = answer::write(&rpc.output, None, &message.encode_to_vec()).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&written).unwrap(), full);
}

#[test]
fn an_answer_leaves_out_defaults_but_writes_empty_lists() {
    let table = table();
    let rpc = table.rpc("/every.v1.EveryService/Get").unwrap();
    let empty = answer::write(&rpc.output, None, b"").unwrap();
    assert_eq!(
        serde_json::from_slice::<Json>(&empty).unwrap(),
        json!({"texts": [], "colours": [], "inners": []})
    );
    let some = answer::write(&rpc.output, None, b"\x52\x01a\x18\x05").unwrap();
    let expected = json!({"texts": ["a"], "colours": [], "inners": [], "small": 5});
    assert_eq!(serde_json::from_slice::<Json>(&some).unwrap(), expected);
    let texts = rpc.output.get_field_by_name("texts").unwrap();
    assert_eq!(answer::write(&rpc.output, Some(&texts), b"\x52\x01a").unwrap(), br#"["a"]"#);
    assert_eq!(answer::write(&rpc.output, Some(&texts), b"").unwrap(), b"[]");
    assert!(answer::write(&rpc.output, None, b"\xff").is_err());
}

/// Requests with bytes changed, taken out and put in: each is refused with a
/// field and a reason, or becomes a message that has a JSON form.
#[test]
fn mangled_requests_are_refused_or_understood() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let table = table();
    let seeds = [
        (
            Method::GET,
            "/v1/every/x",
            "small=1&texts=a&inner.deeper.text=%C3%A4&at=2026-11-23T10:00:00Z&raw=AA==",
            "",
        ),
        (Method::GET, "/v1/tree/a/b%2Fc", "mask=a.b_c&lasts=1.5s&colour=COLOUR_RED&maybe_big=5", ""),
        (
            Method::PUT,
            "/v1/every/x",
            "",
            r#"{"inners":[{"text":"x"}],"labels":{"k":"v"},"fraction":1e5,"lasts":"3s"}"#,
        ),
        (
            Method::PATCH,
            "/v1/every/x",
            "dry_run=true",
            r#"{"inner":{"deeper":null},"at":"2026-11-23T10:00:00Z","second":1}"#,
        ),
    ];
    let (mut understood, mut refused) = (0, 0);
    for round in 0..20_000_u64 {
        let mut random = StdRng::seed_from_u64(round);
        let (method, path, query, body) = &seeds[random.random_range(0..seeds.len())];
        let mut parts = [path.as_bytes().to_vec(), query.as_bytes().to_vec(), body.as_bytes().to_vec()];
        for _ in 0..random.random_range(1..4) {
            let part = &mut parts[random.random_range(0..3)];
            let at = random.random_range(0..=part.len());
            match random.random_range(0..3) {
                0 => part.insert(at, random.random()),
                1 if at < part.len() => drop(part.remove(at)),
                _ if at < part.len() => part[at] = random.random(),
                _ => part.push(b'%'),
            }
        }
        let [path, query] = [0, 1].map(|part: usize| String::from_utf8_lossy(&parts[part]).into_owned());
        let Ok(Route::Found { binding, segments }) = table.find(method, &path) else { continue };
        match super::request(&table.bindings()[binding], &segments, &query, &parts[2]) {
            Ok(message) => {
                assert!(
                    answer::write(&message.descriptor(), None, &message.encode_to_vec()).is_ok(),
                    "seed {round}"
                );
                understood += 1;
            }
            Err(error) => {
                assert!(!error.field.is_empty() && !error.problem.is_empty(), "seed {round}: {error:?}");
                refused += 1;
            }
        }
    }
    assert!(understood > 500 && refused > 500, "{understood} understood, {refused} refused");
}
