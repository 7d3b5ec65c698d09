//! One request, until the processor has committed it.

use std::time::Duration;

use contracts::v1::IngestResult;

use super::Processor;
use crate::{backoff::Backoff, batch::Request};

/// How the delivery of a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// Committed, with a result for each message.
    Committed(Request, Vec<IngestResult>),
    /// Several messages, and the processor will never take them together:
    /// deliver the halves, so that the neighbours of a bad one get through.
    Split(Request, Request),
    /// One message that the processor refuses, for the nth time. It is neither
    /// acknowledged nor dropped: that is for a person to decide.
    Refused(Request, u32),
}

/// Delivers a request. `refusals`: how often its single message was refused
/// before; it waits the longer for it, up to a minute.
pub async fn deliver(processor: &Processor, request: Request, refusals: u32) -> Outcome {
    if refusals > 0 {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let pause = (0..refusals.min(10)).map(|_| backoff.pause(rand::random())).last();
        tokio::time::sleep(pause.unwrap_or_default()).await;
    }
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let error = match processor.ingest(request.body.clone(), request.items.len()).await {
            Ok(results) => return Outcome::Committed(request, results),
            Err(error) => error,
        };
        if !error.is_transient() {
            let messages = request.items.len();
            return match request.clone().split() {
                Some((first, second)) => {
                    tracing::error!(%error, messages, "the processor refuses a request, delivering its halves");
                    Outcome::Split(first, second)
                }
                None => {
                    tracing::error!(%error, refusals = refusals + 1, "the processor refuses a message, keeping it");
                    Outcome::Refused(request, refusals.saturating_add(1))
                }
            };
        }
        let pause = backoff.pause(rand::random());
        tokio::time::sleep(error.retry_delay().unwrap_or(pause)).await;
    }
}
