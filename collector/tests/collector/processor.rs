//! An IngestService that remembers what it committed, and fails when told to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use contracts::v1::{
    AgentCommand, Consumption, IngestEventsRequest, IngestEventsResponse, IngestResult, QueueMessage,
    RecordHeartbeatsRequest, RecordHeartbeatsResponse, SetConsumptionRequest, StreamCommandsRequest,
    StreamCommandsResponse,
    ingest_service_server::{IngestService, IngestServiceServer},
    queue_message::Content,
};
use futures::{StreamExt, stream::BoxStream};
use kit::{grpc::Routes, readiness::Readiness, status::retry_later};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// What the processor does with a call.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    /// Commits.
    #[default]
    Commits,
    /// Fails every IngestEvents.
    Fails(Code),
    /// RESOURCE_EXHAUSTED with a pause.
    Busy(Duration),
    /// Refuses a request that has a message with this natural key.
    Refuses(&'static str),
    /// Commits, but answers one result too few.
    Miscounts,
    /// Takes the call and never answers.
    Hangs,
    /// Commits when it is told to go on.
    Waits(Arc<Notify>),
}

/// What it saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub mood: Mood,
    /// IngestEvents calls, failed ones too.
    pub calls: usize,
    /// Messages committed for the first time, in order.
    pub committed: Vec<QueueMessage>,
    /// Messages that came again.
    pub duplicates: usize,
    /// RecordHeartbeats calls.
    pub heartbeats: Vec<RecordHeartbeatsRequest>,
    /// Who asked for commands, in order.
    pub followers: Vec<String>,
    /// SetConsumption calls.
    pub set: Vec<SetConsumptionRequest>,
    /// What it tells of consumption; nothing until it is set.
    pub consumption: Option<Consumption>,
    streams: Vec<mpsc::UnboundedSender<Result<StreamCommandsResponse, Status>>>,
    sequences: HashMap<(String, i64), ()>,
}

/// The state behind the server; outlives it.
#[derive(Clone, Default)]
pub struct Processor(Arc<Mutex<Seen>>);

/// A server that runs.
pub struct Running {
    pub address: SocketAddr,
    processor: Processor,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Processor {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    pub fn mood(&self, mood: Mood) {
        self.seen().mood = mood;
    }

    /// Sends commands by the stream that was opened last.
    pub fn command(&self, commands: Vec<AgentCommand>) {
        let answer = StreamCommandsResponse { commands, consumption: None };
        self.seen().streams.last().unwrap().send(Ok(answer)).unwrap();
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        let mut seen = self.seen();
        seen.streams.retain(|stream| !stream.is_closed());
        seen.streams.len()
    }

    pub async fn start(&self) -> Running {
        self.start_on(testkit::listener().await)
    }

    pub fn start_on(&self, listener: TcpListener) -> Running {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let routes = Routes::new(IngestServiceServer::new(self.clone()));
        let serving = kit::grpc::serve(
            listener,
            routes,
            Readiness::default(),
            Duration::from_millis(200),
            stop.clone(),
        );
        let served = tokio::spawn(async move {
            // Calls that hang are cut off: that is no failure of the test.
            let _ = serving.await;
        });
        Running { address, processor: self.clone(), stop, served }
    }
}

impl Running {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it; the port is free afterwards.
    pub async fn stop(self) -> SocketAddr {
        self.stop.cancel();
        // Streams end with their process.
        self.processor.seen().streams.clear();
        self.served.await.unwrap();
        self.address
    }
}

#[tonic::async_trait]
impl IngestService for Processor {
    async fn ingest_events(
        &self,
        request: Request<IngestEventsRequest>,
    ) -> Result<Response<IngestEventsResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"), "every call has a deadline");
        let messages = request.into_inner().messages;
        let mood = {
            let mut seen = self.seen();
            seen.calls += 1;
            seen.mood.clone()
        };
        match &mood {
            Mood::Commits | Mood::Miscounts => {}
            Mood::Fails(code) => return Err(Status::new(*code, "told to")),
            Mood::Busy(pause) => {
                return Err(retry_later(Code::ResourceExhausted, "BUSY", "told to", *pause));
            }
            Mood::Refuses(key) => {
                if messages.iter().any(|message| has_key(message, key)) {
                    return Err(Status::invalid_argument("told to"));
                }
            }
            Mood::Hangs => std::future::pending().await,
            Mood::Waits(go) => go.notified().await,
        }
        let mut seen = self.seen();
        let mut results: Vec<i32> = messages.into_iter().map(|message| seen.commit(message).into()).collect();
        if matches!(mood, Mood::Miscounts) {
            results.pop();
        }
        Ok(Response::new(IngestEventsResponse { results }))
    }

    async fn record_heartbeats(
        &self,
        request: Request<RecordHeartbeatsRequest>,
    ) -> Result<Response<RecordHeartbeatsResponse>, Status> {
        self.seen().heartbeats.push(request.into_inner());
        Ok(Response::new(RecordHeartbeatsResponse {}))
    }

    type StreamCommandsStream = BoxStream<'static, Result<StreamCommandsResponse, Status>>;

    async fn stream_commands(
        &self,
        request: Request<StreamCommandsRequest>,
    ) -> Result<Response<Self::StreamCommandsStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"), "a deadline would end the stream");
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut seen = self.seen();
        seen.followers.push(request.into_inner().collector);
        let consumption = seen.consumption.clone();
        sender.send(Ok(StreamCommandsResponse { commands: Vec::new(), consumption })).unwrap();
        seen.streams.push(sender);
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn set_consumption(
        &self,
        request: Request<SetConsumptionRequest>,
    ) -> Result<Response<Consumption>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"), "every call has a deadline");
        let request = request.into_inner();
        let consumption = Consumption {
            paused: request.paused,
            reason: request.reason.clone(),
            change_time: Some(kit::time::now()),
        };
        let mut seen = self.seen();
        seen.set.push(request);
        seen.consumption = Some(consumption.clone());
        let answer = StreamCommandsResponse { commands: Vec::new(), consumption: Some(consumption.clone()) };
        seen.streams.retain(|stream| stream.send(Ok(answer.clone())).is_ok());
        Ok(Response::new(consumption))
    }
}

impl Seen {
    fn commit(&mut self, message: QueueMessage) -> IngestResult {
        let result = match &message.content {
            Some(Content::Batch(batch)) => {
                let known = self.sequences.insert((batch.stream.clone(), batch.sequence), ());
                if known.is_some() { IngestResult::Duplicate } else { IngestResult::Committed }
            }
            _ => IngestResult::DeadLettered,
        };
        if result == IngestResult::Duplicate {
            self.duplicates += 1;
        } else {
            self.committed.push(message);
        }
        result
    }
}

fn has_key(message: &QueueMessage, key: &str) -> bool {
    let Some(Content::Batch(batch)) = &message.content else { return false };
    batch.observations.iter().any(|observation| observation.natural_key == key)
}
