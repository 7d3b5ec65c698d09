//! Declares the exchanges, the queues and their bindings, so that declaring
//! again changes nothing. What the broker refuses is a named problem, not a
//! crash: a queue that exists with other arguments is consumed all the same.

use kit::queue::{SHARDS, Topology};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};

use super::{
    arguments,
    plan::{Binding, unwanted, wanted},
    problems::{Difference, Problem},
};

/// Most differences of a queue that are looked for.
const MAX_DIFFERENCES: usize = 8;

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
    /// Event queues to consume: those wanted, and then those left over.
    pub event_queues: Vec<String>,
    /// Of these, those left from a time when more were wanted.
    pub left_over: Vec<String>,
    /// Whether the heartbeat queue can be consumed.
    pub heartbeats: bool,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

impl Declared {
    /// Whether the same queues are to be consumed as with `other`.
    pub fn same_queues(&self, other: &Self) -> bool {
        self.event_queues == other.event_queues && self.heartbeats == other.heartbeats
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Bind,
    Unbind,
}

/// What to do beside declaring and binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbinding {
    /// Shards that are bound to queues of another number of them are unbound:
    /// some hundred requests.
    Too,
    /// They are not.
    Not,
}

/// Declares everything. `version` is that of the broker.
///
/// # Errors
/// The connection failed; a refusal is no error.
pub async fn declare(
    connection: &Connection,
    version: &str,
    wanted: &Wanted,
    unbinding: Unbinding,
) -> Result<Declared, lapin::Error> {
    let mut declaring =
        Declaring { scratch: Scratch::new(connection), wanted, declared: Declared::default() };
    declaring.declared.problems.extend(arguments::problem(version).map(|text| Problem::new("broker", text)));
    declaring.exchange(wanted.topology.exchange(), ExchangeKind::Topic).await?;
    // Agents bind their own queues to this one.
    declaring.exchange(wanted.topology.command_exchange(), ExchangeKind::Direct).await?;
    for index in 0..wanted.queues {
        declaring.event_queue(index, version).await?;
    }
    let existing = declaring.queues_left_over().await?;
    declaring.heartbeat_queue().await?;
    declaring.bind(existing, unbinding).await?;
    Ok(declaring.declared)
}

struct Declaring<'a> {
    scratch: Scratch<'a>,
    wanted: &'a Wanted,
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

    async fn event_queue(&mut self, index: u8, version: &str) -> Result<(), lapin::Error> {
        let name = self.wanted.topology.event_queue(index);
        let arguments = arguments::event_queue(version, self.wanted.queue_max_bytes);
        if self.queue(&name, arguments).await? || self.scratch.exists(&name).await? {
            self.declared.event_queues.push(name);
        }
        Ok(())
    }

    /// Declares a queue; answers whether it is as it should be. The broker names
    /// one argument that differs: each is asked for with what was found, until
    /// nothing differs, to name them all. Of the type nothing is asked, as it is
    /// compared last. (Were the queue deleted meanwhile, it would come into being
    /// as it was before, and be named still.)
    async fn queue(&mut self, name: &str, mut arguments: FieldTable) -> Result<bool, lapin::Error> {
        let mut differences: Vec<String> = Vec::new();
        for _ in 0..MAX_DIFFERENCES {
            let Err(error) = self.scratch.declare(name, arguments.clone()).await else { break };
            let text = refusal(&error).ok_or(error)?;
            let Some(differs) = Difference::parse(&text) else {
                differences.push(text);
                break;
            };
            differences.push(differs.to_string());
            if !differs.argument.starts_with("x-") || differs.argument == arguments::QUEUE_TYPE {
                break;
            }
            arguments = arguments::replaced(&arguments, &differs.argument, &differs.found);
        }
        if !differences.is_empty() {
            self.declared.problems.push(Problem::new(name, differences.join(", ")));
        }
        Ok(differences.is_empty())
    }

    /// Finds the queues beyond the wanted number; answers how many queues
    /// there are in all.
    async fn queues_left_over(&mut self) -> Result<u8, lapin::Error> {
        for index in self.wanted.queues..SHARDS {
            let name = self.wanted.topology.event_queue(index);
            if !self.scratch.exists(&name).await? {
                return Ok(index);
            }
            tracing::debug!(queue = name, "left from a larger number of queues, consumed and unbound");
            self.declared.event_queues.push(name.clone());
            self.declared.left_over.push(name);
        }
        Ok(SHARDS)
    }

    async fn heartbeat_queue(&mut self) -> Result<(), lapin::Error> {
        let name = self.wanted.topology.heartbeat_queue();
        let declared = self.queue(&name, arguments::heartbeat_queue()).await?;
        self.declared.heartbeats = declared || self.scratch.exists(&name).await?;
        Ok(())
    }

    /// Binds what must be before it unbinds what must not: in between, a shard
    /// goes to two queues, which makes duplicates; the other way round it would
    /// go to none. If one is refused nothing is unbound.
    async fn bind(&mut self, existing: u8, unbinding: Unbinding) -> Result<(), lapin::Error> {
        let topology = self.wanted.topology.clone();
        let mut bound = true;
        if self.declared.heartbeats {
            let keys = vec!["heartbeat.#".to_owned()];
            bound &= self.all_of(&topology.heartbeat_queue(), keys, Verb::Bind).await?;
        }
        for (index, queue) in self.consumed_of(self.wanted.queues) {
            let of = wanted(self.wanted.queues).into_iter().filter(|binding| binding.queue == index);
            bound &= self.all_of(&queue, of.map(Binding::key).collect(), Verb::Bind).await?;
        }
        if !bound || unbinding == Unbinding::Not {
            return Ok(());
        }
        for (index, queue) in self.consumed_of(existing) {
            let all = unwanted(self.wanted.queues, existing);
            let of = all.into_iter().filter(|binding| binding.queue == index);
            self.all_of(&queue, of.map(Binding::key).collect(), Verb::Unbind).await?;
        }
        Ok(())
    }

    /// Of the first `count` event queues those that are there.
    fn consumed_of(&self, count: u8) -> Vec<(u8, String)> {
        let named = (0..count).map(|index| (index, self.wanted.topology.event_queue(index)));
        named.filter(|(_, name)| self.declared.event_queues.contains(name)).collect()
    }

    /// Binds or unbinds a queue by all these keys, without waiting for one before
    /// the next is asked for; answers whether the broker did it. The first
    /// refusal closes the channel and stands for all.
    async fn all_of(&mut self, queue: &str, keys: Vec<String>, verb: Verb) -> Result<bool, lapin::Error> {
        let exchange = self.wanted.topology.exchange();
        let channel = self.scratch.channel().await?;
        let asked = keys.iter().map(async |key| {
            let (queue, exchange, none) = (queue.into(), exchange.as_str().into(), FieldTable::default());
            match verb {
                Verb::Bind => {
                    let options = QueueBindOptions::default();
                    channel.queue_bind(queue, exchange, key.as_str().into(), options, none).await
                }
                Verb::Unbind => channel.queue_unbind(queue, exchange, key.as_str().into(), none).await,
            }
        });
        let answers = futures::future::join_all(asked).await;
        match keys.iter().zip(answers).find(|(_, answer)| answer.is_err()) {
            None => Ok(true),
            Some((key, refused)) => self.refusal(&format!("{queue} ({key})"), refused),
        }
    }

    /// Answers whether it was done; a refusal becomes a problem.
    fn refusal(&mut self, name: &str, done: Result<(), lapin::Error>) -> Result<bool, lapin::Error> {
        match done {
            Ok(()) => Ok(true),
            Err(error) => {
                let text = refusal(&error).ok_or_else(|| error.clone())?;
                self.declared.problems.push(Problem::refused(name, &text));
                Ok(false)
            }
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
            Err(error) if refusal(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What the broker says when it refuses one operation; `None` if the connection
/// failed.
pub fn refusal(error: &lapin::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) if error.is_amqp_soft_error() => {
            Some(refusal.get_message().to_string())
        }
        _ => None,
    }
}

/// Whether the broker has no such thing.
pub fn is_missing(error: &lapin::Error) -> bool {
    let missing = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == missing)
}
