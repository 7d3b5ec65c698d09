//! The table over the real contracts, and over contracts that cannot be served.

use http::Method;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use serde_json::{Value as Json, json};

use super::{Route, Table, TableError, Upstream};

fn table() -> Table {
    Table::build(contracts::DESCRIPTOR_SET).unwrap()
}

/// The contracts, with another google.api.http on ListAssets.
fn with_rule(rule: &Json) -> Vec<u8> {
    let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
    let http = pool.get_extension_by_name("google.api.http").unwrap();
    let rule_type = pool.get_message_by_name("google.api.HttpRule").unwrap();
    let rule = Value::Message(DynamicMessage::deserialize(rule_type, rule.clone()).unwrap());
    let set_type = pool.get_message_by_name("google.protobuf.FileDescriptorSet").unwrap();
    let mut set = DynamicMessage::decode(set_type, contracts::DESCRIPTOR_SET).unwrap();
    for file in set.get_field_by_name_mut("file").unwrap().as_list_mut().unwrap() {
        let services = file.as_message_mut().unwrap().get_field_by_name_mut("service").unwrap();
        for service in services.as_list_mut().unwrap() {
            let methods = service.as_message_mut().unwrap().get_field_by_name_mut("method").unwrap();
            for method in methods.as_list_mut().unwrap() {
                let method = method.as_message_mut().unwrap();
                if method.get_field_by_name("name").unwrap().as_str() == Some("ListAssets") {
                    let options = method.get_field_by_name_mut("options").unwrap();
                    options.as_message_mut().unwrap().set_extension(&http, rule.clone());
                }
            }
        }
    }
    set.encode_to_vec()
}

#[test]
fn public_services_have_their_upstream_and_internal_ones_are_not_there() {
    let table = table();
    for (path, upstream) in [
        ("/assettrack.v1.AssetService/GetAsset", Some(Upstream::Processor)),
        ("/assettrack.v1.NodeService/ListNodes", Some(Upstream::Processor)),
        ("/assettrack.v1.CollectorService/GetCollectorStats", Some(Upstream::Collector)),
        ("/assettrack.v1.OverviewService/GetOverview", Some(Upstream::Gateway)),
        ("/assettrack.v1.IngestService/IngestEvents", None),
        ("/assettrack.v1.AgentService/TriggerScan", None),
        ("/assettrack.v1.AssetService/Nothing", None),
    ] {
        assert_eq!(table.rpc(path).map(|rpc| rpc.upstream), upstream, "{path}");
    }
    assert!(!table.services().contains(&"assettrack.v1.IngestService"));
}

#[test]
fn every_public_unary_rpc_has_a_rest_binding() {
    let table = table();
    for rpc in table.rpcs.values().filter(|rpc| !rpc.client_streaming && !rpc.server_streaming) {
        let bound = table.bindings.iter().any(|binding| binding.rpc.path == rpc.path);
        assert!(bound, "{} has no google.api.http", rpc.path);
    }
}

#[test]
fn rest_requests_reach_their_rpc() {
    let table = table();
    for (method, path, rpc) in [
        (Method::GET, "/v1/assets", "AssetService/ListAssets"),
        (Method::POST, "/v1/assets", "AssetService/CreateAsset"),
        (Method::GET, "/v1/assets/x", "AssetService/GetAsset"),
        (Method::PATCH, "/v1/assets/x", "AssetService/UpdateAsset"),
        (Method::DELETE, "/v1/assets/x", "AssetService/DeleteAsset"),
        (Method::GET, "/v1/assets/x/revisions", "AssetService/ListAssetRevisions"),
        (Method::GET, "/v1/nodes/x", "NodeService/GetNode"),
        (Method::GET, "/v1/events", "EventService/ListEvents"),
        (Method::GET, "/v1/overview", "OverviewService/GetOverview"),
        (Method::GET, "/v1/collector/stats", "CollectorService/GetCollectorStats"),
    ] {
        let Ok(Route::Found { binding, .. }) = table.find(&method, path) else { panic!("{method} {path}") };
        assert_eq!(table.bindings[binding].rpc.path, format!("/assettrack.v1.{rpc}"), "{method} {path}");
    }
    assert!(table.is_rest("/v1/nothing") && table.is_rest("/v1") && !table.is_rest("/assets/x"));
}

#[test]
fn contracts_that_cannot_be_served_end_the_start() {
    for (rule, expected) in [
        (json!({"get": "/v1/{nothing=assets/*}"}), "`nothing` is no field of the request"),
        (json!({"get": "/v1/{page_size=x/*}"}), "`page_size` is set by the path, but is not a string"),
        (json!({"get": "/v1//x"}), "`/v1//x` has an empty segment"),
        (json!({"get": "/v1/nodes"}), "both take GET /v1/nodes"),
        (json!({"get": "/v1/x", "body": "*"}), "must not have a body"),
        (json!({"post": "/v1/x", "body": "filter"}), "is filled by the HTTP body"),
        (json!({"post": "/v1/x", "body": "nothing"}), "`nothing` is no field of the request"),
        (json!({"get": "/v1/x", "responseBody": "nothing"}), "`nothing` is no field of the answer"),
        (json!({}), "names no HTTP method"),
    ] {
        let error = Table::build(&with_rule(&rule)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{rule}: {error}");
    }
}

#[test]
fn additional_bindings_lead_to_the_same_rpc() {
    let rule = json!({"get": "/v1/assets", "additionalBindings": [{"get": "/v1/things/{page_token}"}]});
    let table = Table::build(&with_rule(&rule)).unwrap();
    for path in ["/v1/assets", "/v1/things/x"] {
        let Ok(Route::Found { binding, .. }) = table.find(&Method::GET, path) else { panic!("{path}") };
        assert_eq!(table.bindings[binding].rpc.path, "/assettrack.v1.AssetService/ListAssets");
    }
}

#[test]
fn a_broken_descriptor_set_is_an_error() {
    assert!(matches!(Table::build(b"\x0a\xff"), Err(TableError::Descriptors(_))));
    assert!(matches!(Table::build(b""), Err(TableError::NoExtension(_))));
}
