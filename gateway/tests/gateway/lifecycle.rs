//! Processes that come and go, and the gateway's own end.

use hyper_util::rt::{TokioExecutor, TokioIo};
use kit::shutdown::CancellationToken;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use crate::{
    support::{PATIENCE, System, Version, Wire, until},
    upstream,
};

#[tokio::test]
async fn a_processor_that_is_away_is_named_and_found_again() {
    let system = System::start().await;
    system.stop_processor.cancel();
    until("503 from REST", async || system.rest("GET", "/v1/assets/a", None).await.status == 503).await;
    let answer = system.rest("GET", "/v1/assets/a", None).await;
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("the processor http://{} is not reachable: ", system.processor)),
        "{message}"
    );
    assert_eq!((error["status"].as_str().unwrap(), answer.header("retry-after")), ("UNAVAILABLE", "1"));
    for wire in Wire::ALL {
        let status =
            system.call(wire, "AssetService/GetAsset", &json!({"name": "assets/a"})).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message().contains("is not reachable")),
            (Code::Unavailable, true),
            "{wire:?}: {status:?}"
        );
    }
    let stop = CancellationToken::new();
    let _stop_with_the_test = stop.clone().drop_guard();
    upstream::processor(TcpListener::bind(system.processor).await.unwrap(), stop).await;
    until("200 again", async || system.rest("GET", "/v1/assets/a", None).await.status == 200).await;
}

/// As a proxy in between does, or a wrong port.
#[tokio::test]
async fn an_upstream_that_does_not_speak_grpc_is_named() {
    let system = System::start().await;
    system.stop_processor.cancel();
    until("the processor is away", async || system.rest("GET", "/v1/assets/a", None).await.status == 503)
        .await;
    let listener = TcpListener::bind(system.processor).await.unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let bad_gateway = hyper::service::service_fn(async |_: http::Request<hyper::body::Incoming>| {
                http::Response::builder()
                    .status(502)
                    .body(http_body_util::Full::new(bytes::Bytes::from("<html>")))
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), bad_gateway));
        }
    });
    until("the answer is UNAVAILABLE and says so", async || {
        let status =
            system.call(Wire::Grpc, "AssetService/GetAsset", &json!({"name": "assets/a"})).await.unwrap_err();
        let rest = system.rest("GET", "/v1/assets/a", None).await;
        assert_eq!((status.code(), rest.status.as_u16()), (Code::Unavailable, 503));
        [status.message(), &rest.json()["error"]["message"].to_string()]
            .iter()
            .all(|text| text.contains("HTTP status 502"))
    })
    .await;
    serving.abort();
}

#[tokio::test]
async fn calls_are_counted_by_protocol_method_and_code() {
    let system = System::start().await;
    system.rest("GET", "/v1/assets/missing", None).await;
    system.rest("GET", "/v1/no/such/path", None).await;
    system.call(Wire::Grpc, "AssetService/GetAsset", &json!({"name": "assets/a"})).await.unwrap();
    system
        .call(Wire::WebText(Version::One), "AssetService/GetAsset", &json!({"name": "assets/a"}))
        .await
        .unwrap();
    let text = system.metrics().await;
    let method = r#"method="assettrack.v1.AssetService/GetAsset""#;
    for line in [
        format!(r#"assettrack_gateway_requests_total{{protocol="rest",{method},code="NOT_FOUND"}} 1"#),
        format!(r#"assettrack_gateway_requests_total{{protocol="grpc",{method},code="OK"}} 1"#),
        format!(r#"assettrack_gateway_requests_total{{protocol="grpc_web",{method},code="OK"}} 1"#),
        r#"assettrack_gateway_requests_total{protocol="rest",method="unknown",code="NOT_FOUND"} 1"#
            .to_owned(),
        "assettrack_gateway_requests_in_flight 0".to_owned(),
        format!(
            r#"assettrack_gateway_upstream_connections{{peer="processor http://{}"}} 2"#,
            system.processor
        ),
    ] {
        assert!(text.contains(&line), "{line}\nis not in\n{text}");
    }
}

/// A call in progress ends; an idle connection does not hold the end up; and
/// nobody new gets in.
#[tokio::test]
async fn the_end_waits_for_calls_and_not_for_idle_connections() {
    let mut system = System::with(&["--request-timeout-milliseconds=500"], None).await;
    let mut idle = TcpStream::connect(system.address).await.unwrap();
    idle.write_all(b"GET /v1/assets/a HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let silent = TcpStream::connect(system.address).await.unwrap();
    let mut slow = TcpStream::connect(system.address).await.unwrap();
    slow.write_all(b"GET /v1/assets/slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let in_flight = async || system.metrics().await.contains("requests_in_flight 1");
    until("the slow call is in progress", in_flight).await;
    system.stop.cancel();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let ended = tokio::time::timeout(PATIENCE, &mut system.ended).await.unwrap().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert!(TcpStream::connect(system.address).await.is_err());
    drop((idle, silent));
}

/// A client that goes away takes its call with it.
#[tokio::test]
async fn a_client_that_goes_away_is_counted_as_cancelled() {
    let system = System::start().await;
    let mut client = TcpStream::connect(system.address).await.unwrap();
    client.write_all(b"GET /v1/assets/slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let metrics = async |wanted: &str| system.metrics().await.contains(wanted);
    until("the call is in progress", async || metrics("requests_in_flight 1").await).await;
    drop(client);
    until("the call is cancelled", async || metrics(r#"code="CANCELLED"} 1"#).await).await;
}
