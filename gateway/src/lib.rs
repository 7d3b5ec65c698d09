//! The gateway: one port for gRPC, gRPC-Web, REST and the web UI's files.
//!
//! One table, built at start from the descriptors, says which process answers
//! an RPC and how REST reaches it; so a new RPC needs no code here. gRPC bodies
//! pass through without being decoded.
//!
//! REST is the AIP's: JSON as ProtoJSON has it (camelCase, 64-bit integers as
//! strings, defaults left out, but an empty list at the top written as `[]`);
//! errors as AIP-193 has them, with ErrorInfo and RequestInfo. Stricter than
//! others: an unknown or doubled field or query parameter is an error that
//! names it. The path wins over the body; a PATCH without a mask writes what
//! its JSON names. `grpc-timeout` and `x-request-id` are taken, and each answer
//! has `x-request-id`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{io, sync::Arc};

use kit::{
    metrics::Metrics,
    readiness::{Condition, Readiness},
    shutdown::CancellationToken,
};
use tokio::net::TcpListener;

mod body;
mod config;
mod cors;
mod edge;
mod grpc;
mod headers;
mod host;
mod local;
mod observe;
mod overview;
mod refusal;
mod rest;
mod serve;
mod sniff;
mod table;
mod transcode;
mod ui;
mod upstream;

pub use config::{ADMIN_ADDRESS, Config};
pub use local::LocalError;
pub use table::{TableError, template::TemplateError};
pub use upstream::{Address, AddressError};

use edge::Shared;
use observe::{CallMetrics, UpstreamMetrics};
use table::Table;
use upstream::{Peer, Upstreams};

/// Why the gateway cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The contracts cannot be served.
    #[error("contracts: {0}")]
    Table(#[from] TableError),
    /// The gateway's own services cannot be served.
    #[error("own services: {0}")]
    Local(#[from] LocalError),
    /// The admin endpoint failed.
    #[error("admin endpoint: {0}")]
    Admin(#[source] io::Error),
    /// The public port failed.
    #[error("public port: {0}")]
    Public(#[source] io::Error),
}

/// Runs the gateway until `shutdown`; calls in progress then end within the
/// grace that the settings give.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    config: Config,
    public: TcpListener,
    admin: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let table = Table::build(contracts::DESCRIPTOR_SET)?;
    let (metrics, readiness) = (Metrics::default(), Readiness::default());
    let calls = CallMetrics::register(&metrics);
    let connections = UpstreamMetrics::register(&metrics);
    let processor = Peer::connect("processor", config.processor_url.clone(), &connections);
    let collectors = config
        .collector_urls
        .iter()
        .map(|url| Peer::connect("collector", url.clone(), &connections))
        .collect();
    tokio::spawn(
        shutdown
            .clone()
            .run_until_cancelled_owned(follow(processor.clone(), readiness.condition("processor"))),
    );
    let upstreams = Upstreams::new(processor, collectors);
    let overview = overview::Overview::new(upstreams.clone());
    let local = local::routes(&table, overview, readiness.clone(), shutdown.clone())?;
    let shared = Arc::new(Shared {
        table,
        upstreams,
        local,
        calls,
        request_timeout: config.request_timeout(),
        ui: ui::Ui::load(config.ui_dir.clone()),
        room: Shared::room(),
    });
    let cors = cors::CorsLayer::new(config.cors_allowed_origins.iter().cloned());
    let grace = config.common.shutdown_grace();
    let public = serve::serve(public, shared, cors, grace, shutdown.clone());
    let admin = kit::admin::serve(admin, readiness, metrics, shutdown.clone());
    // Whichever fails ends the other and every task.
    let _stop = shutdown.drop_guard();
    tokio::try_join!(async { public.await.map_err(Error::Public) }, async {
        admin.await.map_err(Error::Admin)
    },)?;
    Ok(())
}

/// The gateway is ready while the processor is reachable; without collectors
/// it still answers nearly everything.
async fn follow(mut processor: Peer, condition: Condition) {
    loop {
        match processor.unreachable() {
            None => condition.holds(),
            Some(reason) => condition.fails(reason),
        }
        processor.changed().await;
    }
}
