//! What every gRPC server does, over a real connection.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use contracts::v1::{
    GetNodeRequest, ListNodesRequest, ListNodesResponse, Node,
    node_service_client::NodeServiceClient,
    node_service_server::{NodeService, NodeServiceServer},
};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kit::{grpc::Routes, readiness::Readiness, shutdown::CancellationToken};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// Answers GetNode when it is told to.
struct Gated {
    gate: Arc<Notify>,
}

#[tonic::async_trait]
impl NodeService for Gated {
    async fn get_node(&self, _: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        self.gate.notified().await;
        Ok(Response::new(Node::default()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse::default()))
    }
}

struct Running {
    address: SocketAddr,
    client: NodeServiceClient<Channel>,
    gate: Arc<Notify>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), kit::grpc::ServeError>>,
}

async fn start(grace: Duration) -> Running {
    let gate = Arc::new(Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Routes::new(NodeServiceServer::new(Gated { gate: gate.clone() }));
    let shutdown = CancellationToken::new();
    let serve = kit::grpc::serve(listener, routes, Readiness::default(), grace, shutdown.clone());
    let task = tokio::spawn(serve);
    let client = NodeServiceClient::new(kit::grpc::channel("url", &format!("http://{address}")).unwrap());
    Running { address, client, gate, shutdown, task }
}

/// Over bare HTTP/2: tonic's client would end the call by itself.
#[tokio::test]
async fn a_call_over_its_deadline_is_deadline_exceeded() {
    let running = start(Duration::from_secs(10)).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::post(format!("http://{}/assettrack.v1.NodeService/GetNode", running.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "100m")
            // An empty message behind its five bytes of length.
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.headers().get("grpc-status").unwrap(), "4", "{:?}", answer.headers());
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_at_once_and_others_go_on() {
    let running = start(Duration::from_secs(10)).await;
    let url = format!("http://{}", running.address);
    // A connection carries 512 streams; several clients together ask for more.
    let clients: Vec<_> =
        (0..5).map(|_| NodeServiceClient::new(kit::grpc::channel("url", &url).unwrap())).collect();
    let mut waiting = tokio::task::JoinSet::new();
    for index in 0..1100 {
        let mut client = clients[index % 5].clone();
        waiting.spawn(async move { client.get_node(GetNodeRequest::default()).await });
    }
    // Nobody is let through yet: who ends now was refused.
    for _ in 0..1100 - 1024 {
        let status = waiting.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.get_error_details().retry_info().is_some());
    }
    while !waiting.is_empty() {
        running.gate.notify_one();
        tokio::task::yield_now().await;
        while let Some(ended) = waiting.try_join_next() {
            ended.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_drain_lets_calls_end_within_the_grace() {
    let running = start(Duration::from_secs(10)).await;
    let mut client = running.client.clone();
    client.list_nodes(ListNodesRequest::default()).await.unwrap();
    let call = tokio::spawn(async move { client.get_node(GetNodeRequest::default()).await });
    while !call.is_finished() {
        running.shutdown.cancel();
        running.gate.notify_one();
        tokio::task::yield_now().await;
    }
    call.await.unwrap().unwrap();
    drop(running.client);
    running.task.await.unwrap().unwrap();

    let running = start(Duration::from_millis(50)).await;
    let mut client = running.client.clone();
    client.list_nodes(ListNodesRequest::default()).await.unwrap();
    let call = tokio::spawn(async move { client.get_node(GetNodeRequest::default()).await });
    // The gate stays closed: the grace ends.
    running.shutdown.cancel();
    let ended = running.task.await.unwrap();
    call.abort();
    // A call that had not arrived before the shutdown leaves nothing to wait for.
    assert!(matches!(ended, Err(kit::grpc::ServeError::Grace(_)) | Ok(())));
}
