//! Follows the processor's stream: commands that agents are to have, and whether
//! to consume.
//!
//! A half-open connection is noticed by the channel's keepalive. While there is
//! no stream, the consumption stays as it was last told.

use std::time::{Duration, Instant};

use contracts::v1::{
    AgentCommand, Consumption, SetConsumptionRequest, StreamCommandsRequest, StreamCommandsResponse,
    ingest_service_client::IngestServiceClient,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::{CallError, Processor, SHORT_DEADLINE, in_time};
use crate::backoff::Backoff;

/// A stream that lasted this long was a good one: the next pause is short.
const GOOD_AFTER: Duration = Duration::from_secs(10);

impl Processor {
    /// Follows the stream, again whenever it ends, until `shutdown`. Commands
    /// go to `commands`; those that it has no room for are dropped.
    pub async fn follow(
        &self,
        collector: &str,
        commands: mpsc::Sender<AgentCommand>,
        shutdown: CancellationToken,
    ) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        let mut told = false;
        let following = async {
            loop {
                let began = Instant::now();
                let ended = self.follow_once(collector, &commands, &mut told).await;
                self.observed.command_stream(false);
                let Err(error) = ended;
                if !std::mem::replace(&mut told, true) {
                    let (code, message) = (error.code(), error.message());
                    tracing::warn!(?code, message, "the processor's commands do not come, trying again");
                }
                if began.elapsed() >= GOOD_AFTER {
                    backoff.reset();
                }
                tokio::time::sleep(backoff.pause(rand::random())).await;
            }
        };
        shutdown.run_until_cancelled(following).await;
    }

    async fn follow_once(
        &self,
        collector: &str,
        commands: &mpsc::Sender<AgentCommand>,
        told: &mut bool,
    ) -> Result<std::convert::Infallible, Status> {
        let opening = async {
            let mut client = IngestServiceClient::new(self.channel.clone());
            // No deadline in the request: it would end the stream.
            let request = StreamCommandsRequest { collector: collector.to_owned() };
            let mut stream = client.stream_commands(request).await?.into_inner();
            // The first answer comes at once, as it says whether to consume.
            let first = stream.message().await?.ok_or_else(ended)?;
            Ok((stream, first))
        };
        let (mut stream, first) = in_time(SHORT_DEADLINE, opening).await?;
        self.observed.command_stream(true);
        *told = false;
        self.take(first, commands);
        loop {
            let answer = stream.message().await?.ok_or_else(ended)?;
            self.take(answer, commands);
        }
    }

    fn take(&self, answer: StreamCommandsResponse, commands: &mpsc::Sender<AgentCommand>) {
        if let Some(consumption) = answer.consumption {
            self.learn(consumption);
        }
        for command in answer.commands {
            if commands.try_send(command).is_err() {
                self.observed.command("overflow");
            }
        }
    }

    /// This is how consumption is now.
    fn learn(&self, consumption: Consumption) {
        self.observed.paused(consumption.paused);
        let changed = self.intake.send_if_modified(|intake| {
            let before = intake.consumption.replace(consumption.clone());
            before.is_some_and(|before| before.paused) != consumption.paused
        });
        let reason = consumption.reason;
        match (changed, consumption.paused) {
            (true, true) => tracing::warn!(reason, "consumption is paused, the broker keeps the messages"),
            (true, false) => tracing::info!("consumption is resumed"),
            (false, _) => {}
        }
    }

    /// Whether to consume, as the processor said last; `None` before it did.
    pub fn consumption(&self) -> Option<Consumption> {
        self.intake.borrow().consumption.clone()
    }

    /// Pauses or resumes consumption by all collectors.
    ///
    /// # Errors
    /// Nothing is known to be changed.
    pub async fn set_consumption(&self, paused: bool, reason: String) -> Result<Consumption, CallError> {
        let mut client = IngestServiceClient::new(self.channel.clone());
        let mut request = Request::new(SetConsumptionRequest { paused, reason });
        request.set_timeout(SHORT_DEADLINE);
        Ok(in_time(SHORT_DEADLINE, client.set_consumption(request)).await?.into_inner())
    }
}

fn ended() -> Status {
    Status::unavailable("the processor ended the stream")
}
