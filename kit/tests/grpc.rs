//! What every gRPC server does, over a real connection.

#![allow(clippy::unwrap_used)]

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use contracts::v1::{
    GetNodeRequest, ListNodesRequest, ListNodesResponse, Node,
    node_service_client::NodeServiceClient,
    node_service_server::{NodeService, NodeServiceServer},
};
use futures::{StreamExt, stream};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kit::{
    grpc::{Routes, ServeError},
    readiness::Readiness,
    shutdown::CancellationToken,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// Longest that anything may take here.
const DEADLINE: Duration = Duration::from_secs(10);

/// Tells that GetNode has arrived, and answers it when it is told to.
struct Gated {
    arrived: Arc<Notify>,
    gate: Arc<Notify>,
}

#[tonic::async_trait]
impl NodeService for Gated {
    async fn get_node(&self, _: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        self.arrived.notify_one();
        self.gate.notified().await;
        Ok(Response::new(Node::default()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse::default()))
    }

    async fn request_scan(
        &self,
        _: Request<contracts::v1::RequestScanRequest>,
    ) -> Result<Response<contracts::v1::RequestScanResponse>, Status> {
        Ok(Response::new(contracts::v1::RequestScanResponse::default()))
    }

    async fn retire_node(
        &self,
        _: Request<contracts::v1::RetireNodeRequest>,
    ) -> Result<Response<Node>, Status> {
        Ok(Response::new(Node::default()))
    }
}

struct Running {
    address: SocketAddr,
    client: NodeServiceClient<Channel>,
    arrived: Arc<Notify>,
    gate: Arc<Notify>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), kit::grpc::ServeError>>,
}

async fn start(grace: Duration) -> Running {
    let (arrived, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Routes::new(NodeServiceServer::new(Gated { arrived: arrived.clone(), gate: gate.clone() }));
    let shutdown = CancellationToken::new();
    let serve = kit::grpc::serve(listener, routes, Readiness::default(), grace, shutdown.clone());
    let task = tokio::spawn(serve);
    let client = NodeServiceClient::new(kit::grpc::channel("url", &format!("http://{address}")).unwrap());
    Running { address, client, arrived, gate, shutdown, task }
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
    let mut call = tokio::spawn(async move { client.get_node(GetNodeRequest::default()).await });
    running.arrived.notified().await;
    running.shutdown.cancel();
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut call).await;
    assert!(waited.is_err() && !running.task.is_finished(), "it waits for the call: {waited:?}");
    running.gate.notify_one();
    call.await.unwrap().unwrap();
    drop(running.client);
    running.task.await.unwrap().unwrap();

    let running = start(Duration::from_millis(50)).await;
    let mut client = running.client.clone();
    let call = tokio::spawn(async move { client.get_node(GetNodeRequest::default()).await });
    running.arrived.notified().await;
    // The gate stays closed: the grace ends.
    running.shutdown.cancel();
    let ended = running.task.await.unwrap();
    call.abort();
    assert!(matches!(ended, Err(ServeError::Grace(_))), "{ended:?}");
}

#[tokio::test]
async fn a_channel_has_two_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut client = NodeServiceClient::new(kit::grpc::channel("url", &url).unwrap());
    let call = tokio::spawn(async move { client.get_node(GetNodeRequest::default()).await });
    let both = async { (listener.accept().await.unwrap(), listener.accept().await.unwrap()) };
    tokio::time::timeout(DEADLINE, both).await.expect("a second connection");
    call.abort();
}

/// How far a server comes with a call before its connection breaks.
#[derive(Clone, Copy, Debug)]
enum Breaks {
    /// It has read the request.
    BeforeTheAnswer,
    /// It has sent the headers of its answer and the beginning of the body.
    WithinTheAnswer,
}

/// Breaks the connection under its first call.
async fn serve_broken(stream: TcpStream, breaks: Breaks) {
    let enough = Arc::new(Notify::new());
    let tell = enough.clone();
    let service = hyper::service::service_fn(move |_: http::Request<hyper::body::Incoming>| {
        let tell = tell.clone();
        async move {
            if matches!(breaks, Breaks::BeforeTheAnswer) {
                tell.notify_one();
                std::future::pending::<()>().await;
            }
            let begin = stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 0]))) });
            let rest = stream::once(async move {
                tell.notify_one();
                std::future::pending().await
            });
            let answer = http::Response::builder().header("content-type", "application/grpc");
            answer.body(StreamBody::new(begin.chain(rest)))
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // First what there is to send, then the end.
        biased;
        _ = connection => {}
        () = enough.notified() => {}
    }
}

/// It comes as UNKNOWN or INTERNAL, like a refusal, and is none.
#[tokio::test]
async fn a_connection_that_breaks_under_a_call_is_transient() {
    for breaks in [Breaks::BeforeTheAnswer, Breaks::WithinTheAnswer] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_broken(stream, breaks));
            }
        });
        let mut client = NodeServiceClient::new(kit::grpc::channel("url", &url).unwrap());
        let call = client.get_node(GetNodeRequest::default());
        let status = tokio::time::timeout(DEADLINE, call).await.unwrap().unwrap_err();
        assert!(kit::grpc::is_transient(&status), "{breaks:?}: {status:?}");
        server.abort();
    }
}
