//! Consumes the event queues, validates and batches what agents saw, delivers it
//! to the processor, and acknowledges what the processor committed: nothing
//! before, nothing else.
//!
//! ```text
//! queue → consumer (a channel) → decode → batch → IngestEvents → results → ack
//!                                   └ rejected, with its reason ┘
//! ```
//! `decode`, `wire`, `batch`, `ledger`, `gate`, `backoff` and `stats` are pure; `broker`
//! and `processor` are the edges.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backoff;
pub mod batch;
mod broker;
pub mod config;
pub mod decode;
pub mod gate;
pub mod ledger;
mod observed;
mod processor;
mod service;
pub mod stats;
mod status;
mod wire;

use std::sync::Arc;

use contracts::v1::collector_service_server::CollectorServiceServer;
use kit::{
    grpc::Routes, metrics::Metrics, queue::Topology, readiness::Readiness, shutdown::CancellationToken,
};
use tokio::{net::TcpListener, sync::mpsc};

use broker::{Parts, Problems, Wanted};
use config::{Checked, Config};
use observed::Observed;
use processor::Processor;
use service::Service;
use status::Status;

/// Commands that may wait for the broker; more are dropped.
const MAX_COMMANDS: usize = 4096;

/// Why the collector ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// CollectorService can no longer be served.
    #[error(transparent)]
    Grpc(#[from] kit::grpc::ServeError),
    /// The admin endpoint can no longer be served.
    #[error("admin endpoint: {0}")]
    Admin(std::io::Error),
    /// The contracts are not what this crate was written for.
    #[error(transparent)]
    Contract(#[from] decode::ContractError),
    /// SIGTERM and SIGINT cannot be listened for.
    #[error("signal handlers: {0}")]
    Signals(std::io::Error),
}

/// The addresses it answers at.
pub struct Listeners {
    /// CollectorService.
    pub grpc: TcpListener,
    /// /metrics, /livez and /readyz.
    pub admin: TcpListener,
}

/// Runs the collector until `shutdown`; then it takes no more messages, lets
/// deliveries under way end within the grace, and acknowledges them.
///
/// # Errors
/// See [`Error`]. A broker or a processor that is away is none.
pub async fn run(
    config: &Config,
    checked: Checked,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (readiness, metrics) = (Readiness::default(), Metrics::default());
    let observed = Observed::new(&metrics);
    let status = Arc::new(Status::new(checked.collector, observed.clone()));
    let processor = Arc::new(Processor::new(
        checked.processor,
        config.ingest_calls.into(),
        config.hold(),
        readiness.condition("processor"),
        observed.clone(),
    ));
    let problems = Arc::new(Problems::new(readiness.condition("topology"), observed.clone()));
    let topology = Topology::new(&config.broker.queue_namespace);
    let parts = Arc::new(Parts {
        wanted: Wanted {
            topology: topology.clone(),
            queues: config.queues,
            queue_max_bytes: config.queue_max_bytes,
        },
        contract: decode::Contract::new()?,
        prefetch: config.prefetch(),
        drain: config.common.shutdown_grace(),
        processor: processor.clone(),
        status: status.clone(),
        problems: problems.clone(),
        observed: observed.clone(),
    });
    let connected = readiness.condition("broker");
    // If one of the servers fails, the others are asked to end.
    let stop = shutdown.child_token();
    let service = Service::new(status.clone(), processor.clone(), problems, stop.clone());
    let routes = Routes::new(CollectorServiceServer::new(service));

    let grpc = async {
        let grace = config.common.shutdown_grace();
        let served = kit::grpc::serve(listeners.grpc, routes, readiness.clone(), grace, stop.clone()).await;
        stop.cancel();
        served
    };
    let admin = async {
        let served = kit::admin::serve(listeners.admin, readiness.clone(), metrics, stop.clone()).await;
        stop.cancel();
        served
    };
    let consuming = broker::supervise(checked.broker, parts, connected, stop.clone());
    let (sender, commands) = mpsc::channel(MAX_COMMANDS);
    let publishing = broker::publish_commands(checked.commands, topology, commands, observed, stop.clone());
    let following = processor.follow(status.collector(), sender, stop.clone());
    let probing = processor.keep_probing(stop.clone());
    let (grpc, admin, (), (), (), ()) = tokio::join!(grpc, admin, consuming, publishing, following, probing);
    grpc?;
    admin.map_err(Error::Admin)
}
