//! Private instances of PostgreSQL and RabbitMQ on free loopback ports, or the
//! ones that the user names.

pub mod postgres;
pub mod rabbitmq;

use std::{env, path::PathBuf};

use crate::{
    account::{Account, data_directory},
    credentials::Credentials,
    error::Error,
    instance::Instance,
    interrupt::Interrupt,
    need::Need,
    progress::Progress,
};

/// Where both servers are. Secret: the URLs hold passwords.
pub struct Urls {
    pub database: String,
    pub amqp: String,
}

/// Whether what the servers store must outlive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Data of a system that somebody works with.
    Kept,
    /// Data of a test run, wiped before and after.
    Thrown,
    /// Data that is kept as safe as somebody's, on a server with memory as one that
    /// does nothing else has: what is measured is not its cache.
    Measured,
}

/// Which servers to start and which are given.
#[derive(Debug, Default)]
pub struct Given {
    database: Option<String>,
    amqp: Option<String>,
}

/// What both servers are started with.
pub struct Setting<'a> {
    pub account: Option<Account>,
    /// Their data; each has a directory of its own below.
    pub data: PathBuf,
    pub credentials: Credentials,
    pub durability: Durability,
    pub interrupt: &'a Interrupt,
}

impl Given {
    /// Servers that the user names by `ASSETTRACK_DATABASE_URL` and
    /// `ASSETTRACK_AMQP_URL`.
    pub fn from_environment() -> Self {
        let read = |variable| env::var(variable).ok().filter(|url| !url.is_empty());
        Self { database: read("ASSETTRACK_DATABASE_URL"), amqp: read("ASSETTRACK_AMQP_URL") }
    }

    /// A broker alone: no database is started.
    pub fn broker_only() -> Self {
        Self { database: Some(String::new()), amqp: None }
    }

    /// What the servers that are not given need.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        if self.database.is_none() {
            needs.push(Need::Postgres);
        }
        if self.amqp.is_none() {
            needs.push(Need::RabbitMq);
        }
        needs
    }

    /// Starts the servers that are not given, waits until they answer, and tells
    /// where all are. Those that run already are left as they are.
    pub fn start(
        self,
        instance: &mut Instance,
        durability: Durability,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> Result<Urls, Error> {
        if let (Some(database), Some(amqp)) = (&self.database, &self.amqp) {
            return Ok(Urls { database: database.clone(), amqp: amqp.clone() });
        }
        let account = Account::for_servers(progress)?;
        let tag = format!("{:016x}", instance.seed());
        let data = match &instance.state.data {
            // Data stays where it is, as long as it is there.
            Some(data) if data.is_dir() => data.clone(),
            _ => data_directory(account.as_ref(), &instance.directory().join("data"), &tag)?,
        };
        instance.state.data = Some(data.clone());
        instance.save()?;
        let credentials = Credentials::load(instance.directory())?;
        let setting = Setting { account, data, credentials, durability, interrupt };

        // RabbitMQ takes longest to boot: it does so while PostgreSQL starts.
        let broker = match self.amqp {
            Some(url) => Broker::Given(url),
            None => Broker::Starting(rabbitmq::start(instance, &setting)?),
        };
        let database = match self.database {
            Some(url) => url,
            None if instance.is_running(postgres::NAME) => postgres::start(instance, &setting)?,
            None => progress.part("PostgreSQL", || postgres::start(instance, &setting))?,
        };
        let amqp = match broker {
            Broker::Given(url) => url,
            Broker::Starting(server) if server.runs_already() => server.await_ready(interrupt)?,
            Broker::Starting(server) => progress.part("RabbitMQ", || server.await_ready(interrupt))?,
        };
        Ok(Urls { database, amqp })
    }
}

enum Broker {
    Given(String),
    Starting(rabbitmq::Starting),
}

/// Variables of this process that would change what a private server does.
fn foreign_settings() -> Vec<String> {
    const PREFIXES: [&str; 4] = ["RABBITMQ_", "ERL_", "PG", "ASSETTRACK_"];
    env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}
