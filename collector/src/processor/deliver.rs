//! One request, until the processor has committed it.

use std::time::Duration;

use contracts::v1::IngestResult;

use super::{CallError, Processor};
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
        tokio::time::sleep(pause(&error, &mut backoff, rand::random())).await;
    }
}

/// The next pause. What the processor asks for is the least of it; the rest
/// grows and is spread, or all collectors would come back together, and as
/// often as before.
fn pause(error: &CallError, backoff: &mut Backoff, random: f64) -> Duration {
    error.retry_delay().unwrap_or_default() + backoff.pause(random)
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    #[test]
    fn what_the_processor_asks_for_is_the_least_of_a_pause_that_grows_and_is_spread() {
        let (least, asked) = (Duration::from_millis(100), Duration::from_secs(2));
        let busy = kit::status::retry_later(Code::ResourceExhausted, "BUSY", "busy", asked);
        for (status, asked) in [(busy, asked), (Status::unavailable("away"), Duration::ZERO)] {
            let error = CallError::from(status);
            let mut backoff = Backoff::new(least, Duration::from_secs(5));
            assert_eq!(pause(&error, &mut backoff, 1.0), asked + least);
            assert_eq!(pause(&error, &mut backoff, 1.0), asked + least * 2);
            assert_eq!(pause(&error, &mut backoff, 0.0), asked + least * 2);
        }
    }
}
