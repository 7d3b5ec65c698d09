//! The running agent, put together from its parts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::v1::agent_service_server::AgentServiceServer;
use contracts::v1::{AssetKind, NodeIdentity};
use kit::amqp::Broker;
use kit::grpc::{Routes, ServeError};
use kit::metrics::Metrics;
use kit::queue::Topology;
use kit::readiness::Readiness;
use kit::settings::SettingError;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commander::Commander;
use crate::config::{Config, host_root};
use crate::host::HostRoot;
use crate::metrics::AgentMetrics;
use crate::probe::{self, Probe};
use crate::publisher::Publisher;
use crate::scheduler::Scheduler;
use crate::service::Service;
use crate::status::Status;
use crate::store::{Store, StoreError};
use crate::watch::{Sources, Wakes};

/// Frames of the agent's connection: the memory that they take counts for more
/// here than the copies that a batch of 64 KiB in four frames costs.
const FRAME_BYTES: u32 = 16 * 1024;

/// How often the disk is tried again while the store is in memory.
const DISK_INTERVAL: Duration = Duration::from_secs(10);
/// And at the least.
const LONGEST_DISK_INTERVAL: Duration = Duration::from_secs(600);

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting names what cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gRPC server failed.
    #[error(transparent)]
    Grpc(#[from] ServeError),
    /// The admin endpoint failed.
    #[error("admin endpoint: {0}")]
    Admin(std::io::Error),
    /// A part ended that should not.
    #[error("a task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// An agent whose settings have been checked.
pub struct Agent {
    config: Config,
    host: Arc<HostRoot>,
    node: NodeIdentity,
    node_uid: Uuid,
    broker: Broker,
}

impl Agent {
    /// Checks the settings; nothing is bound or written.
    ///
    /// # Errors
    /// A setting is wrong; it is named.
    pub fn new(config: Config) -> Result<Self, SettingError> {
        let host = host_root(&config.node.host_root)?;
        let (node, node_uid) = config.node.identity(&host)?;
        let broker = config.amqp.broker(&format!("assettrack-agent {}", node.display_name))?;
        let broker = broker.with_frame_max(FRAME_BYTES);
        Ok(Self { config, host: Arc::new(host), node, node_uid, broker })
    }

    /// Runs until `shutdown`, or until a part fails.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(
        self,
        grpc: TcpListener,
        admin: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let metrics = Metrics::default();
        let agent_metrics = AgentMetrics::new(&metrics);
        let readiness = Readiness::default();
        let (first_scan, store_works) = (readiness.condition("first_scan"), readiness.condition("store"));
        let store = Arc::new(self.open_store()?);
        let probes = self.probes(&store)?;
        let names: Vec<&'static str> = probes.iter().map(|probe| probe.name).collect();
        let status = Status::new(names.iter().copied());
        tracing::info!(
            node = %self.node_uid, name = %self.node.display_name, cluster = %self.node.cluster,
            stream = %store.figures().stream, "agent started"
        );

        let wakes = Wakes::new(&probes, agent_metrics.clone());
        let sources = Sources::new(self.host.clone(), &probes, wakes.sender());
        let container_wakes = wakes.sender();
        let (triggers, triggered) = mpsc::channel(16);
        let kinds = probes.iter().map(|probe| probe.kind).collect();
        let topology = Topology::new(self.config.amqp.queue_namespace.clone());
        let scheduler = Scheduler {
            settings: self.config.scheduling(),
            probes,
            host: self.host.clone(),
            wakes,
            store: store.clone(),
            status: status.clone(),
            metrics: agent_metrics.clone(),
            first_scan,
            store_works,
        };
        let publisher = Publisher {
            broker: self.broker.clone(),
            topology: topology.clone(),
            store: store.clone(),
            status: status.clone(),
            metrics: agent_metrics.clone(),
            heartbeat_interval: Duration::from_secs(self.config.heartbeat_interval_seconds),
            commander: Commander::new(
                topology,
                store.clone(),
                status.clone(),
                agent_metrics.clone(),
                kinds,
                triggers.clone(),
            ),
        };
        let service = Service { store: store.clone(), status, probes: names, triggers };
        let routes = Routes::new(AgentServiceServer::new(service));
        let grace = self.config.common.shutdown_grace();

        let mut parts: JoinSet<Result<(), Error>> = JoinSet::new();
        let token = shutdown.child_token();
        let serving = kit::grpc::serve(grpc, routes, readiness.clone(), grace, token.clone());
        parts.spawn(async move { Ok(serving.await?) });
        let administering = kit::admin::serve(admin, readiness, metrics, token.clone());
        parts.spawn(async move { administering.await.map_err(Error::Admin) });
        let returning = return_to_disk(store.clone(), token.clone());
        parts.spawn(async move {
            returning.await;
            Ok(())
        });
        let watching = show_store(store, agent_metrics, token.clone());
        parts.spawn(async move {
            watching.await;
            Ok(())
        });
        // Before the first scans, so that no change falls between.
        let waking = sources.run(token.clone());
        parts.spawn(async move {
            waking.await;
            Ok(())
        });
        let (host, args) = (self.host.clone(), self.config.probes.clone());
        let following = token.clone();
        parts.spawn(async move {
            probe::follow_containers(host, &args, container_wakes, following).await;
            Ok(())
        });
        let scheduling = scheduler.run(triggered, token.clone());
        parts.spawn(async move {
            scheduling.await;
            Ok(())
        });
        let publishing = publisher.run(token.clone());
        parts.spawn(async move {
            publishing.await;
            Ok(())
        });

        let mut result = Ok(());
        while let Some(ended) = parts.join_next().await {
            // The first failure is the cause; the others end because of it.
            let ended = ended.map_err(Error::from).and_then(|ended| ended);
            if result.is_ok() {
                result = ended;
            }
            token.cancel();
        }
        result
    }

    fn open_store(&self) -> Result<Store, Error> {
        let opened = Store::open(crate::store::Settings {
            folder: self.config.store_dir.clone(),
            node: self.node.clone(),
            node_uid: self.node_uid,
            outbox_limit_bytes: self.config.outbox_limit_bytes,
        });
        opened.map_err(|error| match error {
            StoreError::Locked { .. } | StoreError::Unusable { .. } => {
                SettingError::new("store-dir", error.to_string()).into()
            }
            other => other.into(),
        })
    }

    fn probes(&self, store: &Arc<Store>) -> Result<Vec<Probe>, StoreError> {
        let sockets = store.assets(Some(AssetKind::ListeningSocket), None, usize::MAX)?;
        let images = store.assets(Some(AssetKind::ContainerImage), None, 1)?;
        let contents = store.clone();
        Ok(probe::all(&probe::Context {
            known_sockets: sockets.into_iter().map(|socket| socket.natural_key).collect(),
            known_images: !images.is_empty(),
            settings: self.config.probes.clone(),
            // A store that fails now is asked again with the next scan.
            knows_image: Arc::new(move |digest| contents.knows_image(digest).unwrap_or(true)),
            // Its probes run one by one.
            sockets_wait: false,
        }))
    }
}

async fn show_store(store: Arc<Store>, metrics: AgentMetrics, shutdown: CancellationToken) {
    let mut changes = store.watch();
    let mut counted = 0;
    loop {
        counted = metrics.show_store(&changes.borrow_and_update().clone(), counted);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Tries the disk again while the store is in memory; less often when it was
/// left again soon after the last return, as each return begins a new stream.
async fn return_to_disk(store: Arc<Store>, shutdown: CancellationToken) {
    let mut pause = DISK_INTERVAL;
    let mut returned: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if store.figures().in_memory.is_none() {
            if returned.is_some_and(|at| at.elapsed() > 4 * pause) {
                (pause, returned) = (DISK_INTERVAL, None);
            }
            continue;
        }
        if returned.take().is_some() {
            pause = (2 * pause).min(LONGEST_DISK_INTERVAL);
            tracing::warn!(seconds = pause.as_secs(), "the disk failed again, it is tried less often");
            continue;
        }
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.return_to_disk()).await {
            Ok(Err(error)) => tracing::debug!(%error, "the store stays in memory"),
            Ok(Ok(_)) => returned = Some(Instant::now()),
            Err(_) => return,
        }
    }
}
