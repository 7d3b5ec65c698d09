//! What is particular to gRPC and gRPC-Web.

use std::time::Duration;

use bytes::Bytes;
use contracts::v1::{GetAssetRequest, ListAssetsRequest, asset_service_client::AssetServiceClient};
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::json;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{System, Version, Wire};

async fn client(system: &System) -> AssetServiceClient<Channel> {
    AssetServiceClient::connect(format!("http://{}", system.address)).await.unwrap()
}

fn get(name: &str) -> GetAssetRequest {
    GetAssetRequest { name: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_generated_client_gets_answers_and_typed_errors() {
    let system = System::start().await;
    let mut client = client(&system).await;
    assert_eq!(
        client.get_asset(get("assets/a")).await.unwrap().into_inner(),
        crate::upstream::asset("assets/a")
    );
    let missing = client.get_asset(get("assets/missing")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_name, "assets/missing");
}

#[tokio::test]
async fn metadata_crosses_and_headers_of_the_gateway_do_not() {
    let system = System::start().await;
    let mut request = tonic::Request::new(get("assets/headers"));
    for (name, value) in [
        ("custom", "c-1"),
        ("x-request-id", "mine-2"),
        ("cookie", "secret"),
        ("x-assettrack-principal", "admin"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let answer = client(&system).await.get_asset(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine-2");
    let seen = answer.into_inner().natural_key;
    assert!(seen.contains("c-1") && seen.contains("mine-2") && seen.contains("grpc-timeout"), "{seen}");
    assert!(!seen.contains("secret") && !seen.contains("principal"), "{seen}");
}

#[tokio::test]
async fn a_deadline_is_decided_by_the_gateway() {
    let system = System::start().await;
    for wire in Wire::ALL {
        let mut request = wire.request("AssetService/GetAsset", b"\x0a\x0bassets/slow");
        request.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
        let answer = system.send(wire.version(), request).await;
        assert_eq!(answer.header("grpc-status"), "4", "{wire:?}: {answer:?}");
        assert!(answer.header("grpc-message").contains("deadline"), "{wire:?}: {answer:?}");
    }
    let mut client = client(&system).await;
    let mut request = tonic::Request::new(get("assets/slow"));
    request.set_timeout(Duration::from_millis(100));
    let late = client.get_asset(request).await.unwrap_err();
    // The client's own timer may win, and tonic calls that CANCELLED.
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
}

#[tokio::test]
async fn what_is_internal_or_unknown_is_unimplemented() {
    let system = System::start().await;
    for path in [
        "/assettrack.v1.IngestService/IngestEvents",
        "/assettrack.v1.AgentService/GetAgentStatus",
        "/assettrack.v1.AssetService/Nothing",
        "/x",
    ] {
        for (version, content_type) in
            [(Version::Two, "application/grpc"), (Version::One, "application/grpc-web+proto")]
        {
            let request = Request::post(path)
                .header("content-type", content_type)
                .body(Bytes::from_static(b"\0\0\0\0\0"))
                .unwrap();
            let answer = system.send(version, request).await;
            assert_eq!(answer.header("grpc-status"), "12", "{path}: {answer:?}");
            assert!(answer.header("grpc-message").contains("there%20is%20no%20RPC"), "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_request_too_large_is_refused_before_upstream_sees_it() {
    let system = System::start().await;
    let mut client = client(&system).await;
    let filter = "x".repeat(5 * 1024 * 1024);
    let refused =
        client.list_assets(ListAssetsRequest { filter, ..ListAssetsRequest::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("larger than 4194304 bytes"), "{refused:?}");
}

/// grpc-go takes headers with a status that do not end the stream for a stream
/// that broke off, and so does grpcurl.
#[tokio::test]
async fn an_error_without_a_message_ends_with_its_headers() {
    let system = System::start().await;
    let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for (path, code) in [("AssetService/GetAsset", "5"), ("AssetService/Nothing", "12")] {
        let message = get("assets/missing").encode_to_vec();
        let mut request = Wire::Grpc.request(path, &message).map(http_body_util::Full::new);
        *request.uri_mut() = format!("http://{}{}", system.address, request.uri()).parse().unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], code);
        assert!(http_body::Body::is_end_stream(answer.body()), "{path}: {answer:?}");
    }
    connection.abort();
}

/// Forty answers of 3 MiB that nobody reads fill the windows of their streams,
/// and must leave room on the connections that all calls share. Their deadline
/// ends them although nobody reads.
#[tokio::test]
async fn clients_that_stop_reading_do_not_hold_up_others() {
    let system = System::start().await;
    let stream = tokio::net::TcpStream::connect(system.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..40 {
        let message = ListAssetsRequest { page_size: 1003, ..ListAssetsRequest::default() }.encode_to_vec();
        let mut request =
            Wire::Grpc.request("AssetService/ListAssets", &message).map(http_body_util::Full::new);
        *request.uri_mut() = format!("http://{}{}", system.address, request.uri()).parse().unwrap();
        request.headers_mut().insert("grpc-timeout", "8S".parse().unwrap());
        unread.push(sender.send_request(request).await.unwrap());
    }
    for _ in 0..20 {
        system.call(Wire::Grpc, "AssetService/GetAsset", &json!({"name": "assets/a"})).await.unwrap();
    }
    let all_unread = !system.metrics().await.contains(r#"ListAssets",code="#);
    assert!(all_unread, "the others had to wait for the end of those that nobody reads");
    crate::support::until("the deadline has ended all forty", async || {
        system
            .metrics()
            .await
            .contains(r#"method="assettrack.v1.AssetService/ListAssets",code="DEADLINE_EXCEEDED"} 40"#)
    })
    .await;
    drop(unread);
    connection.abort();
}

#[tokio::test]
async fn broken_base64_is_the_clients_fault() {
    let system = System::start().await;
    let request = Request::post("/assettrack.v1.AssetService/GetAsset")
        .header("content-type", "application/grpc-web-text");
    let answer = system.send(Version::One, request.body(Bytes::from_static(b"AAAA!!!!")).unwrap()).await;
    assert_eq!(answer.header("grpc-status"), "3", "{answer:?}");
}

#[tokio::test]
async fn collectors_take_turns_and_one_that_is_gone_is_skipped() {
    let system = System::start().await;
    let ask = async || system.call(Wire::Grpc, "CollectorService/GetCollectorStats", &json!({})).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(ask().await.unwrap()["collector"].as_str().unwrap().to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["collector-1", "collector-2"]);
    system.stop_collector.cancel();
    crate::support::until("only the second answers", async || {
        let mut all_second = true;
        for _ in 0..6 {
            all_second &= ask().await.is_ok_and(|stats| stats["collector"] == "collector-2");
        }
        all_second
    })
    .await;
}
