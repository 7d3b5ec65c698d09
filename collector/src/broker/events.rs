//! Consumes one event queue: takes messages, has them delivered, acknowledges
//! what is committed.
//!
//! Each time on a new channel, which holds everything that is not settled:
//! giving up the channel gives it all back to the broker.

use std::{sync::Arc, time::Instant};

use contracts::v1::{QueueMessage, queue_message::Content};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions},
};
use tokio_util::sync::CancellationToken;

use super::{Parts, SessionError, envelope, open_consumer};
use crate::{
    batch::{Batcher, Limits, Request},
    decode::Decoder,
    ledger::Ledger,
    processor::{Outcome, deliver},
    stats::Traffic,
    status::Held,
};

/// Requests of one queue that are being delivered at once: one is committed
/// while the next is on its way.
const MAX_DELIVERIES: usize = 2;

/// Consumes `queue`, except while the processor is away or consumption is
/// paused, until `stop`.
///
/// # Errors
/// The channel or the connection failed; what was not settled is the broker's.
pub async fn consume(
    connection: Arc<Connection>,
    queue: String,
    parts: Arc<Parts>,
    stop: CancellationToken,
) -> Result<(), SessionError> {
    let mut decoder = Decoder::new(&parts.contract);
    loop {
        if stop.run_until_cancelled(parts.processor.opened()).await.is_none() {
            return Ok(());
        }
        let opened = open_consumer(&connection, &queue, parts.prefetch, &parts, &stop).await?;
        let Some((channel, consumer)) = opened else { return Ok(()) };
        let mut intake = Intake {
            parts: &parts,
            queue: &queue,
            channel,
            consumer,
            decoder: &mut decoder,
            ledger: Ledger::default(),
            batcher: Batcher::new(Limits::default()),
            held: Held::new(parts.status.clone()),
        };
        let stopped = intake.run(&stop).await?;
        intake.channel.close(200, "done".into()).await?;
        if stopped {
            return Ok(());
        }
    }
}

/// One channel with what it holds.
struct Intake<'a> {
    parts: &'a Parts,
    queue: &'a str,
    channel: Channel,
    consumer: Consumer,
    decoder: &'a mut Decoder,
    ledger: Ledger,
    batcher: Batcher,
    held: Held,
}

impl Intake<'_> {
    /// Answers whether it was asked to stop; else the processor is away, or
    /// consumption paused.
    async fn run(&mut self, stop: &CancellationToken) -> Result<bool, SessionError> {
        let parts = self.parts;
        let start = |request, refusals| deliver(&parts.processor, request, refusals);
        // A message that the processor refuses waits apart, so that it does not
        // take the place of those that can be delivered.
        let (mut deliveries, mut refused) = (FuturesUnordered::new(), FuturesUnordered::new());
        let stopped = loop {
            let more = self.take_what_waits()?;
            let free = deliveries.len() < MAX_DELIVERIES;
            if free && self.batcher.is_due(Instant::now(), deliveries.is_empty() && !more) {
                deliveries.push(start(self.batcher.take(), 0));
                continue;
            }
            let deadline = self.batcher.deadline();
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => break true,
                () = parts.processor.closed() => return Ok(false),
                () = parts.processor.paused() => break false,
                Some(outcome) = deliveries.next() => outcome,
                Some(outcome) = refused.next() => outcome,
                delivery = self.consumer.next(), if !self.batcher.is_full() => {
                    self.take(delivery)?;
                    continue;
                }
                () = until(deadline), if free && deadline.is_some() => continue,
            };
            match outcome {
                Outcome::Committed(request, results) => {
                    parts.status.committed(&request.items, &results);
                    self.acknowledge(&request).await?;
                }
                Outcome::Split(first, second) => deliveries.extend([start(first, 0), start(second, 0)]),
                Outcome::Refused(request, refusals) => {
                    parts.observed.refused();
                    refused.push(start(request, refusals));
                }
            }
        };
        self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await?;
        let drain = async {
            while let Some(outcome) = deliveries.next().await {
                if let Outcome::Committed(request, results) = outcome {
                    parts.status.committed(&request.items, &results);
                    self.acknowledge(&request).await?;
                }
            }
            Ok::<(), SessionError>(())
        };
        // What is not committed by then goes back to the broker.
        tokio::select! {
            drained = tokio::time::timeout(parts.drain, drain) => drained.unwrap_or(Ok(()))?,
            () = parts.processor.opened(), if !stopped => {}
        }
        Ok(stopped)
    }

    /// Takes what the broker has sent already; answers whether there is more.
    fn take_what_waits(&mut self) -> Result<bool, SessionError> {
        while !self.batcher.is_full() {
            match self.consumer.next().now_or_never() {
                Some(delivery) => self.take(delivery)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn take(&mut self, delivery: Option<Result<Delivery, lapin::Error>>) -> Result<(), SessionError> {
        let delivery = delivery.ok_or_else(|| SessionError::Cancelled(self.queue.to_owned()))??;
        if delivery.redelivered {
            self.parts.observed.redelivered();
        }
        self.ledger.take(delivery.delivery_tag);
        self.held.set(self.ledger.len());
        let (now, tag) = (Instant::now(), delivery.delivery_tag);
        let along = envelope::envelope(&delivery);
        let rejection = match self.decoder.batch(&along, self.queue, &delivery.data) {
            Ok(checked) => {
                let traffic = Traffic::of(checked.node, &checked.batch, along.published_millis);
                self.batcher.push_encoded(now, tag, checked.request, traffic);
                return Ok(());
            }
            Err(rejection) => rejection,
        };
        self.parts.observed.rejected(rejection.reason);
        let (queue, reason, detail) = (self.queue, rejection.reason.as_str_name(), &rejection.detail);
        let routing_key = &along.routing_key;
        tracing::warn!(queue, routing_key, reason, detail, "a message cannot be applied");
        let message = QueueMessage {
            message_id: along.message_id,
            queue: self.queue.to_owned(),
            content: Some(Content::Rejected(envelope::rejected(&delivery, &rejection))),
        };
        self.batcher.push(now, tag, message, Traffic::rejected(rejection.reason));
        Ok(())
    }

    async fn acknowledge(&mut self, request: &Request) -> Result<(), SessionError> {
        kit::failpoint::pass("ack_before");
        let acks = self.ledger.settle(request.items.iter().map(|item| item.tag));
        self.held.set(self.ledger.len());
        if let Some(tag) = acks.up_to {
            self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        for tag in acks.single {
            self.channel.basic_ack(tag, BasicAckOptions { multiple: false }).await?;
        }
        kit::failpoint::pass("ack_after");
        Ok(())
    }
}

/// Waits until a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
