//! A whole gateway in this process, and plain HTTP clients for it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kit::shutdown::CancellationToken;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value as Json;
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::{Code, Status};

use crate::upstream::{self, listener};

/// Longest that any step of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway, one processor and two collectors.
pub struct System {
    /// Port for clients.
    pub address: SocketAddr,
    /// Port of metrics.
    pub admin: SocketAddr,
    /// Address of the processor.
    pub processor: SocketAddr,
    /// Ends the processor.
    pub stop_processor: CancellationToken,
    /// Ends the first collector.
    pub stop_collector: CancellationToken,
    /// Ends the gateway.
    pub stop: CancellationToken,
    /// The gateway's end.
    pub ended: JoinHandle<Result<(), gateway::Error>>,
    /// All contracts.
    pub pool: DescriptorPool,
    everything: CancellationToken,
}

impl Drop for System {
    fn drop(&mut self) {
        self.everything.cancel();
    }
}

impl System {
    /// Starts all, and waits until the gateway is ready.
    pub async fn start() -> Self {
        Self::with(&[], None).await
    }

    /// The same with settings of the test's own.
    pub async fn with(settings: &[&str], ui_dir: Option<PathBuf>) -> Self {
        let everything = CancellationToken::new();
        let (stop_processor, stop_collector, stop) =
            (everything.child_token(), everything.child_token(), everything.child_token());
        let (processor_listener, processor) = listener().await;
        upstream::processor(processor_listener, stop_processor.clone()).await;
        let mut collectors = Vec::new();
        for (name, stop) in
            [("collector-1", stop_collector.clone()), ("collector-2", everything.child_token())]
        {
            let (listener, address) = listener().await;
            upstream::collector(listener, name, stop).await;
            collectors.push(format!("http://{address}"));
        }
        let (public, address) = listener().await;
        let (admin_listener, admin) = listener().await;
        let mut arguments = vec!["gateway".to_owned(), "--shutdown-grace-seconds=5".to_owned()];
        arguments.push(format!("--processor-url=http://{processor}"));
        arguments.push(format!("--collector-urls={}", collectors.join(",")));
        arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let mut config = gateway::Config::try_parse_from(arguments).unwrap();
        config.ui_dir = ui_dir;
        let ended = tokio::spawn(gateway::run(config, public, admin_listener, stop.clone()));
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
        let system =
            Self { address, admin, processor, stop_processor, stop_collector, stop, ended, pool, everything };
        until("the gateway is ready", async || {
            let ready =
                fetch(system.admin, Version::One, Request::get("/readyz").body(Bytes::new()).unwrap()).await;
            ready.status == StatusCode::OK
        })
        .await;
        system
    }

    /// Sends a REST request over HTTP/1.1.
    pub async fn rest(&self, method: &str, target: &str, body: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.send(Version::One, request.body(Bytes::from(body.unwrap_or_default().to_owned())).unwrap()).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, version: Version, request: Request<Bytes>) -> Answer {
        fetch(self.address, version, request).await
    }

    /// All metrics as text.
    pub async fn metrics(&self) -> String {
        let metrics =
            fetch(self.admin, Version::One, Request::get("/metrics").body(Bytes::new()).unwrap()).await;
        String::from_utf8(metrics.body.to_vec()).unwrap()
    }

    /// Makes a unary call with a message given as JSON, and gives the answer
    /// as JSON.
    pub async fn call(&self, wire: Wire, rpc: &str, message: &Json) -> Result<Json, Status> {
        let method = self.pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let method =
            method.into_iter().find(|method| method.full_name().ends_with(&rpc.replace('/', "."))).unwrap();
        let message = DynamicMessage::deserialize(method.input(), message.clone()).unwrap();
        let request = wire.request(rpc, &message.encode_to_vec());
        let answer = self.send(wire.version(), request).await;
        let (message, trailers) = wire.read(&answer);
        match trailers.or_else(|| Status::from_header_map(&answer.headers)) {
            Some(status) if status.code() == Code::Ok => {
                let answer = DynamicMessage::decode(method.output(), message.as_slice()).unwrap();
                Ok(serde_json::to_value(&answer).unwrap())
            }
            Some(status) => Err(status),
            None => panic!("{rpc} over {wire:?}: no status in {answer:?}"),
        }
    }
}

/// Version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// How a gRPC call goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Grpc,
    Web(Version),
    WebText(Version),
}

impl Wire {
    pub const ALL: [Self; 5] = [
        Self::Grpc,
        Self::Web(Version::One),
        Self::Web(Version::Two),
        Self::WebText(Version::One),
        Self::WebText(Version::Two),
    ];

    pub fn version(self) -> Version {
        match self {
            Self::Grpc => Version::Two,
            Self::Web(version) | Self::WebText(version) => version,
        }
    }

    /// A request with one message.
    pub fn request(self, rpc: &str, message: &[u8]) -> Request<Bytes> {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.put_slice(message);
        let (content_type, body) = match self {
            Self::Grpc => ("application/grpc", frame.freeze()),
            Self::Web(_) => ("application/grpc-web+proto; charset=utf-8", frame.freeze()),
            Self::WebText(_) => ("application/grpc-web-text+proto", base64(&frame).into()),
        };
        Request::post(format!("/assettrack.v1.{rpc}"))
            .header("content-type", content_type)
            .header("te", "trailers")
            .body(body)
            .unwrap()
    }

    /// The message, and the status if it came after it.
    fn read(self, answer: &Answer) -> (Vec<u8>, Option<Status>) {
        let mut body = match self {
            Self::WebText(_) => unbase64(&answer.body),
            _ => answer.body.to_vec(),
        };
        let mut message = Vec::new();
        let mut status = answer.trailers.as_ref().and_then(Status::from_header_map);
        while body.len() >= 5 {
            let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
            let rest = body.split_off(5 + length);
            if body[0] & 0x80 == 0 {
                message.extend_from_slice(&body[5..]);
            } else {
                let mut trailers = HeaderMap::new();
                for line in String::from_utf8(body[5..].to_vec()).unwrap().lines() {
                    let (name, value) = line.split_once(':').unwrap();
                    trailers.insert(name.parse::<http::HeaderName>().unwrap(), value.trim().parse().unwrap());
                }
                status = Status::from_header_map(&trailers);
            }
            body = rest;
        }
        (message, status)
    }
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Pieces with padding of their own may follow each other.
fn unbase64(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect()
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends one request over a connection of its own.
pub async fn fetch(address: SocketAddr, version: Version, request: Request<Bytes>) -> Answer {
    tokio::time::timeout(PATIENCE, exchange(address, version, request))
        .await
        .expect("an answer within the test's patience")
}

async fn exchange(address: SocketAddr, version: Version, request: Request<Bytes>) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().clone();
    let response = match version {
        Version::One => {
            parts.headers.insert("host", address.to_string().parse().unwrap());
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(Request::from_parts(parts, Full::new(body))).await
        }
        Version::Two => {
            parts.uri = format!("http://{address}{path}").parse().unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(Request::from_parts(parts, Full::new(body))).await
        }
    };
    collect(response.unwrap()).await
}

async fn collect(response: Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Answer { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while !condition().await {
            pause.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}
