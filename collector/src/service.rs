//! CollectorService.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::v1::{
    CollectorStats, Consumption, GetCollectorStatsRequest, PauseConsumptionRequest, ResumeConsumptionRequest,
    WatchCollectorStatsRequest, collector_service_server::CollectorService,
};
use futures::{StreamExt, stream, stream::BoxStream};
use kit::status::{error, invalid_field, retry_later};
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status as CallStatus};
use tonic_types::StatusExt;

use crate::{
    broker::Problems,
    processor::{CallError, Processor},
    status::{Others, Status},
};

/// Most bytes of a reason (collector_service.proto).
const MAX_REASON_BYTES: usize = 1024;
/// Intervals that can be asked for (collector_service.proto).
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(60);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
/// Watchers at a time; more are refused.
const MAX_WATCHERS: usize = 256;
/// How old what a watcher gets may be: they share it, as it takes
/// milliseconds to make where there are many nodes.
const SHARED_FOR: Duration = Duration::from_millis(250);

/// Answers with the state of this collector.
pub struct Service {
    view: Arc<View>,
    shutdown: CancellationToken,
    watchers: Arc<Semaphore>,
}

/// What there is to tell.
struct View {
    status: Arc<Status>,
    processor: Arc<Processor>,
    problems: Arc<Problems>,
    shared: Mutex<Option<(Instant, CollectorStats)>>,
}

impl View {
    fn now(&self) -> CollectorStats {
        self.status.report(Others {
            holding: self.processor.holding(),
            consumption: self.processor.consumption(),
            topology_problems: self.problems.told(),
        })
    }

    fn shared(&self) -> CollectorStats {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some((made, stats)) if made.elapsed() < SHARED_FOR => stats.clone(),
            _ => shared.insert((Instant::now(), self.now())).1.clone(),
        }
    }
}

impl Service {
    /// The service. Watches end with `shutdown`.
    pub fn new(
        status: Arc<Status>,
        processor: Arc<Processor>,
        problems: Arc<Problems>,
        shutdown: CancellationToken,
    ) -> Self {
        let view = View { status, processor, problems, shared: Mutex::default() };
        Self { view: Arc::new(view), shutdown, watchers: Arc::new(Semaphore::new(MAX_WATCHERS)) }
    }

    async fn set(&self, paused: bool, reason: String) -> Result<Response<Consumption>, CallStatus> {
        match self.view.processor.set_consumption(paused, reason).await {
            Ok(consumption) => Ok(Response::new(consumption)),
            Err(failure) => {
                tracing::warn!(error = %failure, paused, "consumption is not changed");
                Err(not_set(&failure))
            }
        }
    }
}

#[tonic::async_trait]
impl CollectorService for Service {
    async fn get_collector_stats(
        &self,
        _: Request<GetCollectorStatsRequest>,
    ) -> Result<Response<CollectorStats>, CallStatus> {
        Ok(Response::new(self.view.now()))
    }

    type WatchCollectorStatsStream = BoxStream<'static, Result<CollectorStats, CallStatus>>;

    async fn watch_collector_stats(
        &self,
        request: Request<WatchCollectorStatsRequest>,
    ) -> Result<Response<Self::WatchCollectorStatsStream>, CallStatus> {
        let interval = interval(request.into_inner().interval)?;
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            let text = format!("{MAX_WATCHERS} watch already; try again");
            let delay = Duration::from_secs(1);
            return Err(retry_later(Code::ResourceExhausted, "TOO_MANY_WATCHERS", text, delay));
        };
        let mut ticks = tokio::time::interval(interval);
        // A reader that is slow misses some: nothing is kept for it.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state = (ticks, self.view.clone(), permit);
        let answers = stream::unfold(state, |(mut ticks, view, permit)| async move {
            ticks.tick().await;
            Some((Ok(view.shared()), (ticks, view, permit)))
        });
        Ok(Response::new(answers.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    async fn pause_consumption(
        &self,
        request: Request<PauseConsumptionRequest>,
    ) -> Result<Response<Consumption>, CallStatus> {
        let reason = request.into_inner().reason;
        if !(1..=MAX_REASON_BYTES).contains(&reason.len()) {
            let problem = format!("has {} bytes, must have 1 to {MAX_REASON_BYTES}", reason.len());
            return Err(invalid_field("reason", "INVALID_FIELD", problem));
        }
        if reason.contains('\0') {
            return Err(invalid_field("reason", "INVALID_FIELD", "has a NUL character"));
        }
        self.set(true, reason).await
    }

    async fn resume_consumption(
        &self,
        _: Request<ResumeConsumptionRequest>,
    ) -> Result<Response<Consumption>, CallStatus> {
        self.set(false, String::new()).await
    }
}

fn interval(asked: Option<prost_types::Duration>) -> Result<Duration, CallStatus> {
    let Some(asked) = asked else { return Ok(DEFAULT_INTERVAL) };
    let interval = Duration::try_from(asked).ok().filter(|interval| INTERVALS.contains(interval));
    interval.ok_or_else(|| invalid_field("interval", "INVALID_FIELD", "must be 500 ms to 60 s"))
}

/// What the caller of a pause is told: the processor's own refusal with its
/// details; else whether it is worth to try again.
fn not_set(failure: &CallError) -> CallStatus {
    let status = failure.status();
    match status.code() {
        Code::DeadlineExceeded => {
            let text = "the processor did not answer in time; it may have been done";
            error(Code::DeadlineExceeded, "NO_ANSWER", text, &[])
        }
        code @ (Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated) => {
            CallStatus::with_error_details(code, status.message(), status.get_error_details())
        }
        _ if failure.is_transient() => {
            let text = "the processor cannot be reached, nothing is changed; try again";
            let delay = failure.retry_delay().unwrap_or(Duration::from_secs(1));
            retry_later(Code::Unavailable, "PROCESSOR_UNAVAILABLE", text, delay)
        }
        _ => error(Code::Internal, "PROCESSOR_FAILED", "the processor failed; its log says why", &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_their_range() {
        let of = |seconds, nanos| interval(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(interval(None).unwrap(), DEFAULT_INTERVAL);
        assert_eq!(of(0, 500_000_000).unwrap(), Duration::from_millis(500));
        assert_eq!(of(60, 0).unwrap(), Duration::from_secs(60));
        for (seconds, nanos) in
            [(0, 0), (0, 499_999_999), (60, 1), (-1, 0), (i64::MAX, 0), (1, -1_900_000_000)]
        {
            let status = of(seconds, nanos).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{seconds} {nanos}");
            assert!(status.message().starts_with("interval: "), "{status:?}");
        }
    }
}
