//! Declares the exchanges, the queues and their bindings, so that declaring
//! again changes nothing. What the broker refuses is a named problem, not a
//! crash: a queue that exists with other arguments is consumed all the same.

use std::fmt;

use kit::queue::{HEARTBEAT_TTL_MILLIS, SHARDS, Topology};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::plan::{Binding, unwanted, wanted};

/// Heartbeats beyond this push out the oldest: they are worth 45 s at most.
const MAX_HEARTBEATS: i64 = 100_000;

/// What is to be declared.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Names.
    pub topology: Topology,
    /// Number of event queues.
    pub queues: u8,
    /// Bytes at which an event queue refuses more.
    pub queue_max_bytes: i64,
}

/// What there is now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Event queues to consume: those wanted, and those left from a time when
    /// more were wanted.
    pub event_queues: Vec<String>,
    /// Whether the heartbeat queue can be consumed.
    pub heartbeats: bool,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// An exchange or queue that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    name: String,
    reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// Declares everything. `version` is that of the broker.
///
/// # Errors
/// The connection failed; a refusal is no error.
pub async fn declare(
    connection: &Connection,
    version: &str,
    wanted: &Wanted,
) -> Result<Declared, lapin::Error> {
    let mut declaring = Declaring {
        scratch: Scratch::new(connection),
        wanted,
        delivery_limit: has_delivery_limit(version),
        declared: Declared::default(),
    };
    declaring.exchange(wanted.topology.exchange(), ExchangeKind::Topic).await?;
    // Agents bind their own queues to this one.
    declaring.exchange(wanted.topology.command_exchange(), ExchangeKind::Direct).await?;
    for index in 0..wanted.queues {
        declaring.event_queue(index).await?;
    }
    let existing = declaring.queues_left_over().await?;
    declaring.heartbeat_queue().await?;
    declaring.bind(existing).await?;
    Ok(declaring.declared)
}

/// RabbitMQ 4 gives up a message after 20 deliveries unless the limit is -1.
/// 3.x has no limit unless one is given, takes -1 all the same (3.10 was seen to),
/// and then gives up every message at its second delivery.
fn has_delivery_limit(version: &str) -> bool {
    let major = version.split('.').next().unwrap_or_default();
    major.parse::<u32>().is_ok_and(|major| major >= 4)
}

struct Declaring<'a> {
    scratch: Scratch<'a>,
    wanted: &'a Wanted,
    delivery_limit: bool,
    declared: Declared,
}

impl Declaring<'_> {
    async fn exchange(&mut self, name: String, kind: ExchangeKind) -> Result<(), lapin::Error> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = self
            .scratch
            .channel()
            .await?
            .exchange_declare(name.as_str().into(), kind, options, FieldTable::default())
            .await;
        self.refusal(&name, declared)?;
        Ok(())
    }

    async fn event_queue(&mut self, index: u8) -> Result<(), lapin::Error> {
        let name = self.wanted.topology.event_queue(index);
        let declared = self.scratch.declare(&name, self.event_arguments()).await;
        if self.refusal(&name, declared)? || self.scratch.exists(&name).await? {
            self.declared.event_queues.push(name);
        }
        Ok(())
    }

    fn event_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(self.wanted.queue_max_bytes));
        if self.delivery_limit {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
        }
        arguments
    }

    /// Finds the queues beyond the wanted number; answers how many queues
    /// there are in all.
    async fn queues_left_over(&mut self) -> Result<u8, lapin::Error> {
        for index in self.wanted.queues..SHARDS {
            let name = self.wanted.topology.event_queue(index);
            if !self.scratch.exists(&name).await? {
                return Ok(index);
            }
            tracing::info!(queue = name, "left from a larger number of queues, consumed and unbound");
            self.declared.event_queues.push(name);
        }
        Ok(SHARDS)
    }

    async fn heartbeat_queue(&mut self) -> Result<(), lapin::Error> {
        let name = self.wanted.topology.heartbeat_queue();
        let mut arguments = FieldTable::default();
        let ttl = i64::from(HEARTBEAT_TTL_MILLIS);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_HEARTBEATS));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        let declared = self.scratch.declare(&name, arguments).await;
        self.declared.heartbeats = self.refusal(&name, declared)? || self.scratch.exists(&name).await?;
        Ok(())
    }

    /// Binds what must be before it unbinds what must not: in between, a shard
    /// goes to two queues, which makes duplicates; the other way round it would
    /// go to none.
    async fn bind(&mut self, existing: u8) -> Result<(), lapin::Error> {
        let topology = self.wanted.topology.clone();
        let heartbeats = topology.heartbeat_queue();
        if self.declared.heartbeats {
            self.bind_one(&heartbeats, "heartbeat.#").await?;
        }
        for binding in wanted(self.wanted.queues) {
            let queue = topology.event_queue(binding.queue);
            if self.declared.event_queues.contains(&queue) && !self.bind_one(&queue, &binding.key()).await? {
                return Ok(());
            }
        }
        for Binding { shard, queue } in unwanted(self.wanted.queues, existing) {
            let name = topology.event_queue(queue);
            if !self.declared.event_queues.contains(&name) {
                continue;
            }
            let key = Binding { shard, queue }.key();
            let channel = self.scratch.channel().await?;
            let unbound = channel
                .queue_unbind(
                    name.as_str().into(),
                    topology.exchange().into(),
                    key.into(),
                    FieldTable::default(),
                )
                .await;
            if !self.refusal(&name, unbound)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers whether the broker did it.
    async fn bind_one(&mut self, queue: &str, key: &str) -> Result<bool, lapin::Error> {
        let exchange = self.wanted.topology.exchange();
        let channel = self.scratch.channel().await?;
        let bound = channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await;
        self.refusal(queue, bound)
    }

    /// Answers whether it was done; a refusal becomes a problem.
    fn refusal(&mut self, name: &str, done: Result<(), lapin::Error>) -> Result<bool, lapin::Error> {
        match done {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(&error) => {
                self.declared.problems.push(Problem { name: name.to_owned(), reason: error.to_string() });
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// A channel for what may be refused: a refusal closes it, and the next use
/// opens another one.
struct Scratch<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

impl<'a> Scratch<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self { connection, channel: None }
    }

    async fn channel(&mut self) -> Result<Channel, lapin::Error> {
        if let Some(channel) = &self.channel
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        let channel = self.connection.create_channel().await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    async fn declare(&mut self, queue: &str, arguments: FieldTable) -> Result<(), lapin::Error> {
        let channel = self.channel().await?;
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
        Ok(())
    }

    async fn exists(&mut self, queue: &str) -> Result<bool, lapin::Error> {
        let options = QueueDeclareOptions::durable().passive();
        let channel = self.channel().await?;
        match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            // It may exist; that it cannot be looked at is told by its declaration.
            Err(error) if is_refusal(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the broker refuses one operation, rather than the connection failing.
fn is_refusal(error: &lapin::Error) -> bool {
    error.is_amqp_soft_error()
}

fn is_missing(error: &lapin::Error) -> bool {
    let missing = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rabbitmq_4_and_later_has_a_delivery_limit_to_lift() {
        for (version, limit) in [
            ("3.10.8", false),
            ("3.13.7", false),
            ("4.0.0", true),
            ("4.2.1-rc.1", true),
            ("10.0", true),
            ("?", false),
        ] {
            assert_eq!(has_delivery_limit(version), limit, "{version}");
        }
    }
}
