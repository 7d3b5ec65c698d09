//! A collector in the test's process.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use collector::{Error, Listeners, config::Config};
use contracts::v1::{
    CollectorState, CollectorStats, EventBatch, GetCollectorStatsRequest,
    collector_service_client::CollectorServiceClient, queue_message::Content,
};
use testkit::wait_until;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::processor::Processor;

/// Longest that anything may take here.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A collector that runs.
pub struct Collector {
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    stop: CancellationToken,
    ran: JoinHandle<Result<(), Error>>,
}

impl Collector {
    /// Starts one; `flags` as on its command line.
    pub async fn start(amqp: &str, namespace: &str, processor: &str, flags: &[&str]) -> Self {
        let fixed = [
            "assettrack-collector",
            "--amqp-url",
            amqp,
            "--queue-namespace",
            namespace,
            "--processor-url",
            processor,
            "--shutdown-grace-seconds",
            "2",
        ];
        let config = Config::try_parse_from(fixed.iter().chain(flags)).unwrap();
        let checked = config.check().unwrap();
        let listeners = Listeners { grpc: testkit::listener().await, admin: testkit::listener().await };
        let (grpc, admin) = (listeners.grpc.local_addr().unwrap(), listeners.admin.local_addr().unwrap());
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let ran = tokio::spawn(async move { collector::run(&config, checked, listeners, shutdown).await });
        Self { grpc, admin, stop, ran }
    }

    pub async fn stats(&self) -> CollectorStats {
        let mut client = self.client().await;
        client.get_collector_stats(GetCollectorStatsRequest {}).await.unwrap().into_inner()
    }

    pub async fn client(&self) -> CollectorServiceClient<Channel> {
        CollectorServiceClient::connect(format!("http://{}", self.grpc)).await.unwrap()
    }

    /// Value of a metric, by its name with labels; 0 if there is none.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = testkit::http_get(self.admin, "/metrics").await.unwrap().1;
        let name = format!("assettrack_collector_{name} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub async fn wait_for_metric(&self, name: &str, value: u64) {
        wait_until(DEADLINE, name, async || self.metric(name).await >= value).await;
        assert_eq!(self.metric(name).await, value, "{name}");
    }

    pub async fn wait_for_state(&self, state: CollectorState) {
        wait_until(DEADLINE, state.as_str_name(), async || self.stats().await.state() == state).await;
    }

    pub async fn ready(&self) -> (u16, String) {
        testkit::http_get(self.admin, "/readyz").await.unwrap()
    }

    /// As SIGTERM does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ran.await.unwrap().unwrap();
    }
}

/// The batches that were committed, by node and sequence.
pub fn committed(processor: &Processor) -> Vec<EventBatch> {
    let seen = processor.seen();
    let batches = seen.committed.iter().filter_map(|message| match &message.content {
        Some(Content::Batch(batch)) => Some(batch.clone()),
        _ => None,
    });
    sorted(batches.collect())
}

/// By node and sequence.
pub fn sorted(mut batches: Vec<EventBatch>) -> Vec<EventBatch> {
    batches.sort_by(|a, b| (&a.stream, a.sequence).cmp(&(&b.stream, b.sequence)));
    batches
}

/// Waits until exactly these batches are committed, as they were sent.
pub async fn wait_for_batches(processor: &Processor, sent: &[EventBatch]) {
    let sent = sorted(sent.to_vec());
    wait_until(DEADLINE, "all batches", async || committed(processor).len() >= sent.len()).await;
    assert_eq!(committed(processor), sent);
}
