//! The system under test: real processes with a proxy on each line between
//! them, a database and queue names of their own.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kit::{
    amqp::{Broker, Settings},
    queue::Topology,
    settings::Secret,
};
use serde_json::Value;
use testkit::{
    Database, Proxy, Service, amqp_url, authority, by_way_of, connect, free_address, http_get, namespace,
    wait_for,
};

use crate::fleet::Fleet;

/// How long anything may take on a loaded machine before the run is given up.
pub const PATIENCE: Duration = Duration::from_secs(150);
/// Event queues of a collector that is told nothing else.
pub const QUEUES: u8 = 4;

/// The lines between the parts.
pub struct Lines {
    pub agent_broker: Proxy,
    pub collector_broker: Proxy,
    pub collector_processor: Proxy,
    pub processor_database: Proxy,
}

/// What a system stands on.
#[derive(Default)]
pub struct Ground {
    /// URL of a private broker, else the shared one.
    pub amqp: Option<String>,
    /// URL of a private database, else one on the shared server.
    pub database: Option<String>,
}

/// Processes end before the database goes.
pub struct Bed {
    pub gateway: Service,
    pub collectors: Vec<Service>,
    pub processor: Service,
    pub lines: Lines,
    pub namespace: String,
    pub gateway_address: SocketAddr,
    pub processor_address: SocketAddr,
    /// Of the database itself, past the proxy.
    pub database_url: String,
    /// Of the broker itself, past the proxy.
    pub amqp_url: String,
    gateway_admin: SocketAddr,
    processor_admin: SocketAddr,
    pub collector_admins: Vec<SocketAddr>,
    _database: Option<Database>,
}

impl Bed {
    /// Processor, two collectors and the gateway, all ready.
    pub async fn start(ground: Ground) -> Self {
        let (database, database_url) = match ground.database {
            Some(url) => (None, url),
            None => {
                let database = Database::create().await;
                let url = database.url();
                (Some(database), url)
            }
        };
        let amqp_url = ground.amqp.unwrap_or_else(amqp_url);
        let namespace = namespace();
        let (processor_address, processor_admin) = (free_address().await, free_address().await);
        let lines = Lines {
            agent_broker: Proxy::start(authority(&amqp_url).to_owned()).await,
            collector_broker: Proxy::start(authority(&amqp_url).to_owned()).await,
            collector_processor: Proxy::start(processor_address.to_string()).await,
            processor_database: Proxy::start(authority(&database_url).to_owned()).await,
        };
        let mut processor = Service::new("assettrack-processor")
            .env("ASSETTRACK_DATABASE_URL", &by_way_of(&database_url, lines.processor_database.address))
            .env("ASSETTRACK_GRPC_ADDRESS", &processor_address)
            .env("ASSETTRACK_ADMIN_ADDRESS", &processor_admin);
        processor.start();
        let (mut collectors, mut collector_admins, mut collector_urls) = (vec![], vec![], vec![]);
        for _ in 0..2 {
            let (grpc, admin) = (free_address().await, free_address().await);
            let url = format!("{}?heartbeat=2", by_way_of(&amqp_url, lines.collector_broker.address));
            let mut collector = Service::new("assettrack-collector")
                .env("ASSETTRACK_AMQP_URL", &url)
                .env("ASSETTRACK_QUEUE_NAMESPACE", &namespace)
                .env("ASSETTRACK_PROCESSOR_URL", &format!("http://{}", lines.collector_processor.address))
                .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
                .env("ASSETTRACK_ADMIN_ADDRESS", &admin);
            collector.start();
            collectors.push(collector);
            collector_admins.push(admin);
            collector_urls.push(format!("http://{grpc}"));
        }
        let (gateway_address, gateway_admin) = (free_address().await, free_address().await);
        let mut gateway = Service::new("assettrack-gateway")
            .env("ASSETTRACK_LISTEN_ADDRESS", &gateway_address)
            .env("ASSETTRACK_ADMIN_ADDRESS", &gateway_admin)
            .env("ASSETTRACK_PROCESSOR_URL", &format!("http://{processor_address}"))
            .env("ASSETTRACK_COLLECTOR_URLS", &collector_urls.join(","));
        gateway.start();
        let mut bed = Self {
            gateway,
            collectors,
            processor,
            lines,
            namespace,
            gateway_address,
            processor_address,
            database_url,
            amqp_url,
            gateway_admin,
            processor_admin,
            collector_admins,
            _database: database,
        };
        bed.all_ready().await;
        bed
    }

    /// Waits until all processes are ready, after a fault too.
    pub async fn all_ready(&mut self) {
        self.processor_ready().await;
        for (collector, admin) in self.collectors.iter_mut().zip(&self.collector_admins) {
            collector.ready(*admin, PATIENCE).await;
        }
        self.gateway_ready().await;
    }

    /// Waits until the processor is ready.
    pub async fn processor_ready(&mut self) {
        self.processor.ready(self.processor_admin, PATIENCE).await;
    }

    /// Waits until the gateway is ready.
    pub async fn gateway_ready(&mut self) {
        self.gateway.ready(self.gateway_admin, PATIENCE).await;
    }

    /// The URL of the broker by way of the agents' line.
    pub fn agent_amqp_url(&self) -> String {
        format!("{}?heartbeat=2", by_way_of(&self.amqp_url, self.lines.agent_broker.address))
    }

    /// Simulated nodes that publish by way of the agents' line, by a seed.
    pub fn fleet(&self, seed: u64) -> Fleet {
        self.fleet_with((seed, seed), 6, 0, None)
    }

    /// See [`Fleet::start`].
    pub fn fleet_with(&self, seeds: (u64, u64), nodes: u64, skew: i64, rounds: Option<usize>) -> Fleet {
        let broker = broker(self.agent_amqp_url(), &self.namespace);
        Fleet::start(broker, Topology::new(&self.namespace), seeds, nodes, skew, rounds)
    }

    /// A connection to the broker itself, past the proxies.
    pub async fn broker_channel(&self) -> Option<(lapin::Connection, lapin::Channel)> {
        let connection = broker(self.amqp_url.clone(), &self.namespace).connect().await.ok()?;
        let channel = connection.create_channel().await.ok()?;
        Some((connection, channel))
    }

    /// A connection to the database itself, past the proxy.
    pub async fn sql(&self) -> tokio_postgres::Client {
        wait_for(PATIENCE, "the database", async || connect(&self.database_url).await.ok()).await
    }

    /// One number.
    pub async fn count(&self, query: &str) -> i64 {
        self.sql().await.query_one(query, &[]).await.unwrap().get(0)
    }

    /// `GET path` of the gateway as JSON, or nothing if that fails.
    pub async fn try_get(&self, path: &str) -> Option<Value> {
        match http_get(self.gateway_address, path).await {
            Ok((200, body)) => serde_json::from_str(&body).ok(),
            _ => None,
        }
    }

    /// How long an asset of that name takes to be seen through the gateway.
    pub async fn seen(&self, name: &str, since: Instant) -> Duration {
        let filter: String =
            format!("display_name=\"{name}\"").bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/v1/assets?filter={filter}");
        wait_for(PATIENCE, "a fresh event through the gateway", async || {
            let found = self.try_get(&path).await?;
            (found["assets"].as_array()?.len() == 1).then_some(())
        })
        .await;
        since.elapsed()
    }
}

fn broker(url: String, namespace: &str) -> Broker {
    let settings = Settings {
        amqp_url: Some(Secret::new(url)),
        amqp_url_file: None,
        amqp_ca_file: None,
        queue_namespace: namespace.to_owned(),
    };
    settings.broker("faults").unwrap()
}
