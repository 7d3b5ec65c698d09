//! The processor, as the collector sees it: calls with deadlines, the gate that
//! says whether messages may be taken, and the probe that opens it again.

mod codec;
mod deliver;
mod stream;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use contracts::v1::{
    Consumption, IngestEventsResponse, IngestResult, RecordHeartbeatsRequest,
    ingest_service_client::IngestServiceClient,
};
use http::uri::PathAndQuery;
use kit::{grpc::is_transient, readiness::Condition};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

pub use deliver::{Outcome, deliver};

use crate::{
    backoff::Backoff,
    gate::{Call, Failure, Gate},
    observed::Observed,
};
use codec::EncodedCodec;

/// Deadline of IngestEvents. A commit takes milliseconds; what takes longer
/// waits for locks or a disk, and may commit after we gave up: then the next
/// attempt finds duplicates.
const INGEST_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of RecordHeartbeats and of the probe.
const SHORT_DEADLINE: Duration = Duration::from_secs(5);
/// Time beyond the deadline after which a silent connection is given up.
const GRACE: Duration = Duration::from_secs(2);
/// Longest pause that the processor may ask for.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// The processor behind its channel.
pub struct Processor {
    channel: Channel,
    calls: Semaphore,
    gate: Mutex<Gate>,
    intake: watch::Sender<Intake>,
    condition: Condition,
    observed: Observed,
}

/// What decides whether messages are taken.
#[derive(Clone, Debug, Default)]
struct Intake {
    /// The gate's state.
    open: bool,
    /// What the processor said last; before it says anything, it is no reason
    /// not to consume.
    consumption: Option<Consumption>,
}

impl Intake {
    fn is_paused(&self) -> bool {
        self.consumption.as_ref().is_some_and(|consumption| consumption.paused)
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{code:?}: {message}", code = .status.code(), message = .status.message())]
pub struct CallError {
    status: Status,
}

impl CallError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        is_transient(&self.status)
    }

    /// The processor's answer, or what the way to it says.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The pause that the processor asks for (google.rpc.RetryInfo), at most
    /// one minute.
    pub fn retry_delay(&self) -> Option<Duration> {
        let delay = self.status.get_details_retry_info()?.retry_delay?;
        Some(delay.min(MAX_RETRY_DELAY))
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self { status }
    }
}

impl Processor {
    /// The processor that `channel` leads to. At most `calls` ingest calls are
    /// in flight; while ingest fails, messages are held for `hold`.
    pub fn new(
        channel: Channel,
        calls: usize,
        hold: Duration,
        condition: Condition,
        observed: Observed,
    ) -> Self {
        Self {
            channel,
            calls: Semaphore::new(calls),
            gate: Mutex::new(Gate::new(hold)),
            intake: watch::Sender::default(),
            condition,
            observed,
        }
    }

    /// Delivers an encoded IngestEventsRequest of `count` messages, once.
    /// Answers what became of each of them; all of it is committed.
    ///
    /// # Errors
    /// Nothing may be taken as committed.
    pub async fn ingest(&self, body: Bytes, count: usize) -> Result<Vec<IngestResult>, CallError> {
        let Ok(_permit) = self.calls.acquire().await else {
            return Err(Status::cancelled("shutting down").into());
        };
        let began = Instant::now();
        let answer = in_time(INGEST_DEADLINE, self.call_ingest(body)).await;
        let results = answer.and_then(|answer| checked(&answer, count));
        self.observed.ingest_seconds.observe(began.elapsed().as_secs_f64());
        self.note(Call::Ingest, began, results.as_ref().err());
        Ok(results?)
    }

    async fn call_ingest(&self, body: Bytes) -> Result<IngestEventsResponse, Status> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        let mut request = Request::new(body);
        request.set_timeout(INGEST_DEADLINE);
        let path = PathAndQuery::from_static("/assettrack.v1.IngestService/IngestEvents");
        Ok(client.unary(request, path, EncodedCodec::default()).await?.into_inner())
    }

    /// Records heartbeats, once; none is a sign of life of the pipeline itself.
    ///
    /// # Errors
    /// They may or may not be recorded.
    pub async fn record_heartbeats(&self, heartbeats: RecordHeartbeatsRequest) -> Result<(), CallError> {
        let began = Instant::now();
        let mut client = IngestServiceClient::new(self.channel.clone());
        let mut request = Request::new(heartbeats);
        request.set_timeout(SHORT_DEADLINE);
        let answer = in_time(SHORT_DEADLINE, client.record_heartbeats(request)).await;
        self.note(Call::Heartbeats, began, answer.as_ref().err());
        answer?;
        Ok(())
    }

    /// Waits until messages may be taken.
    pub async fn opened(&self) {
        self.intake_is(|intake| intake.open && !intake.is_paused()).await;
    }

    /// Waits until the processor is away: what was taken is given back at once.
    pub async fn closed(&self) {
        self.intake_is(|intake| !intake.open).await;
    }

    /// Waits until consumption is paused: what is being delivered may end.
    pub async fn paused(&self) {
        self.intake_is(Intake::is_paused).await;
    }

    async fn intake_is(&self, so: impl Fn(&Intake) -> bool) {
        if self.intake.subscribe().wait_for(so).await.is_err() {
            unreachable!("the sender is a field of self");
        }
    }

    /// Why messages stay in the broker, if they do.
    pub fn holding(&self) -> Option<String> {
        let gate = self.gate();
        if gate.is_open() { None } else { gate.problem(Instant::now()) }
    }

    /// Opens the gate, each time it is closed, as soon as the processor says
    /// that it is ready. Runs until `shutdown`.
    pub async fn keep_probing(&self, shutdown: CancellationToken) {
        let probing = async {
            loop {
                self.closed().await;
                self.probe_until_ready().await;
                self.gate().open();
                self.publish();
                tracing::info!("the processor is ready, messages are taken");
            }
        };
        shutdown.run_until_cancelled(probing).await;
    }

    async fn probe_until_ready(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        while let Err(error) = in_time(SHORT_DEADLINE, self.probe()).await {
            tracing::debug!(%error, "the processor is not ready");
            self.condition.fails(error.message());
            tokio::time::sleep(backoff.pause(rand::random())).await;
        }
    }

    async fn probe(&self) -> Result<(), Status> {
        let mut client = HealthClient::new(self.channel.clone());
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(SHORT_DEADLINE);
        let answer = client.check(request).await?.into_inner();
        match answer.status() {
            ServingStatus::Serving => Ok(()),
            other => Err(Status::unavailable(format!("health is {}", other.as_str_name()))),
        }
    }

    /// Tells the gate how a call went, and logs what is new.
    fn note(&self, call: Call, began: Instant, error: Option<&Status>) {
        if let Some(error) = error {
            self.observed.call_failed(call, error.code());
        }
        // Who refuses a request is there: the next one may get through. What
        // becomes of a refused one, and who is told, is the delivery's concern.
        let refusal = |error: &&Status| call == Call::Ingest && !is_transient(error);
        let Some(error) = error.filter(|error| !refusal(error)) else {
            self.gate().succeeded(call);
            self.publish();
            return;
        };
        let reason = format!("{:?}: {}", error.code(), error.message());
        let failure = self.gate().failed(call, began, Instant::now(), &reason);
        match failure {
            Failure::First => tracing::warn!(?call, reason, "a call to the processor failed, trying again"),
            Failure::Again => tracing::debug!(?call, reason, "a call to the processor failed again"),
            Failure::Closes => {
                tracing::error!(reason, "the processor stays away, the broker gets its messages back");
            }
        }
        self.publish();
    }

    /// Makes the gate's state known to those who wait for it, and to readiness.
    fn publish(&self) {
        let (open, problem) = {
            let gate = self.gate();
            (gate.is_open(), gate.problem(Instant::now()))
        };
        match problem {
            None => self.condition.holds(),
            Some(problem) => self.condition.fails(problem),
        }
        self.intake.send_if_modified(|intake| std::mem::replace(&mut intake.open, open) != open);
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server ends a call at its deadline; this ends it when the server, or
/// the way to it, is silent.
async fn in_time<T>(deadline: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(deadline + GRACE, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

/// One final result a message, or nothing of the answer is believed.
fn checked(answer: &IngestEventsResponse, count: usize) -> Result<Vec<IngestResult>, Status> {
    let results: Vec<IngestResult> = answer.results().collect();
    if results.len() != count || results.contains(&IngestResult::Unspecified) {
        return Err(Status::new(
            Code::Internal,
            format!("the answer to {count} messages is no result for each: {:?}", answer.results),
        ));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_final_result_for_each_message_is_not_believed() {
        let table: [(&[i32], usize, bool); 6] = [
            (&[1, 2, 3], 3, true),
            (&[1, 2], 3, false),
            (&[1, 2, 3, 1], 3, false),
            (&[1, 0], 2, false),
            (&[1, 99], 2, false),
            (&[], 1, false),
        ];
        for (results, count, believed) in table {
            let answer = IngestEventsResponse { results: results.to_vec() };
            assert_eq!(checked(&answer, count).is_ok(), believed, "{results:?}");
        }
    }
}
