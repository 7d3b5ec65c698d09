//! AssetTrack as its users run it, on free ports, with a database and queues of
//! its own.

use std::{net::SocketAddr, time::Duration};

use contracts::v1::{Event, ListEventsRequest, event_service_client::EventServiceClient};
use kit::{
    amqp::{Broker, Settings},
    settings::Secret,
};
use serde_json::Value;
use testkit::{Database, Service, amqp_url, free_address, http_get, namespace, wait_for};
use tonic::transport::Channel;

const START: Duration = Duration::from_secs(60);

/// Its processes end before its database goes.
pub struct System {
    _gateway: Service,
    pub collectors: Vec<Service>,
    pub processor: Service,
    pub database: Database,
    pub namespace: String,
    pub gateway_address: SocketAddr,
    processor_admin: SocketAddr,
    collector_admins: Vec<SocketAddr>,
}

impl System {
    /// Processor, two collectors and the gateway. Agents are the test's own.
    pub async fn start() -> Self {
        let database = Database::create().await;
        let namespace = namespace();
        let (processor_grpc, processor_admin) = (free_address().await, free_address().await);
        let processor_url = format!("http://{processor_grpc}");
        let mut processor = Service::new("assettrack-processor")
            .env("ASSETTRACK_DATABASE_URL", &database.url())
            .env("ASSETTRACK_GRPC_ADDRESS", &processor_grpc)
            .env("ASSETTRACK_ADMIN_ADDRESS", &processor_admin);
        processor.start();
        let mut collectors = Vec::new();
        let mut collector_admins = Vec::new();
        let mut collector_urls = Vec::new();
        for _ in 0..2 {
            let (grpc, admin) = (free_address().await, free_address().await);
            let mut collector = Service::new("assettrack-collector")
                .env("ASSETTRACK_AMQP_URL", &amqp_url())
                .env("ASSETTRACK_QUEUE_NAMESPACE", &namespace)
                .env("ASSETTRACK_PROCESSOR_URL", &processor_url)
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
            .env("ASSETTRACK_PROCESSOR_URL", &processor_url)
            .env("ASSETTRACK_COLLECTOR_URLS", &collector_urls.join(","));
        gateway.start();
        processor.ready(processor_admin, START).await;
        gateway.ready(gateway_admin, START).await;
        let mut system = Self {
            _gateway: gateway,
            collectors,
            processor,
            database,
            namespace,
            gateway_address,
            processor_admin,
            collector_admins,
        };
        system.all_ready().await;
        system
    }

    /// Waits until processor and collectors are ready, after a fault too.
    pub async fn all_ready(&mut self) {
        self.processor.ready(self.processor_admin, START).await;
        for (collector, admin) in self.collectors.iter_mut().zip(&self.collector_admins) {
            collector.ready(*admin, START).await;
        }
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.gateway_address)).unwrap().connect().await.unwrap()
    }

    /// All events, newest first.
    pub async fn events(&self) -> Vec<Event> {
        let mut client = EventServiceClient::new(self.channel().await);
        let mut request = ListEventsRequest { page_size: 1000, ..Default::default() };
        let mut events = Vec::new();
        loop {
            let page = client.list_events(request.clone()).await.unwrap().into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// `GET path` as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = http_get(self.gateway_address, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The assets that match a filter, once the condition holds for them.
    pub async fn assets_when(
        &self,
        what: &str,
        filter: &str,
        mut condition: impl FnMut(&[Value]) -> bool,
    ) -> Vec<Value> {
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/v1/assets?page_size=1000&filter={filter}");
        wait_for(Duration::from_secs(60), what, async || {
            let answer = self.get(&path).await;
            let assets = answer["assets"].as_array().cloned().unwrap_or_default();
            condition(&assets).then_some(assets)
        })
        .await
    }

    pub fn broker(&self) -> Broker {
        let settings = Settings {
            amqp_url: Some(Secret::new(amqp_url())),
            amqp_url_file: None,
            amqp_ca_file: None,
            queue_namespace: self.namespace.clone(),
        };
        settings.broker("system test").unwrap()
    }
}
