//! Puts a fleet together and runs it to its end.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kit::amqp::ConnectError;
use kit::queue::Topology;
use kit::settings::SettingError;
use kit::shutdown::CancellationToken;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use contracts::v1::AssetKind;

use super::account::{Counters, Expectation, Report};
use super::agent::Agent;
use super::lane::{Lane, Shared};
use super::pace::Pace;
use super::record;
use super::settings::Settings;

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// The client keeps 64 frames of a connection in memory.
const FRAME_BYTES_OF_MANY: u32 = 8 * 1024;
/// More connections than this are many.
const MANY: u32 = 16;

/// Why a simulation could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A wrong setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The broker cannot be reached at the start.
    #[error("cannot connect to the broker at {address}: {cause}")]
    Connect {
        /// Where it was looked for.
        address: String,
        /// Why not.
        cause: ConnectError,
    },
    /// The recording cannot be written.
    #[error("cannot record to {}: {cause}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// A part of the simulation ended early.
    #[error("the simulation broke: {0}")]
    Broke(#[from] JoinError),
}

/// What a simulation came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub report: Report,
    /// What must come of it.
    pub expectation: Expectation,
    agents: Vec<Agent>,
}

impl Outcome {
    /// Every asset that must be ACTIVE: node, kind, natural key, display name.
    pub fn assets(&self) -> impl Iterator<Item = (Uuid, AssetKind, String, String)> + '_ {
        self.agents.iter().flat_map(|agent| {
            agent.assets().map(|(kind, asset)| (agent.uid(), kind, asset.natural_key, asset.display_name))
        })
    }
}

/// Runs a fleet until all is confirmed and its time is over, or `shutdown`. Each
/// line of progress is handed to `say`.
///
/// # Errors
/// See [`SimulateError`]. What fails later than at the start is tried again.
pub async fn run(
    settings: &Settings,
    shutdown: CancellationToken,
    mut say: impl FnMut(&str),
) -> Result<Outcome, SimulateError> {
    let mut broker = settings.broker.broker("assettrack-simulate")?;
    if settings.lanes() > MANY {
        broker = broker.with_frame_max(FRAME_BYTES_OF_MANY);
    }
    let seed = settings.seed.unwrap_or_else(rand::random);
    say(&format!("seed {seed}: repeat with --seed {seed}"));
    if let Some(path) = &settings.record {
        let began = Instant::now();
        let mut agents: Vec<Agent> = agents(settings, seed).await?.into_iter().flatten().collect();
        agents.sort_by_key(Agent::number);
        let written = tokio::task::spawn_blocking({
            let path = path.clone();
            move || record::record(&path, &mut agents).map(|()| agents)
        });
        let agents = written.await?.map_err(|cause| SimulateError::Record { path: path.clone(), cause })?;
        return Ok(Outcome {
            report: Report::new(seed, &agents, &Counters::default(), began.elapsed()),
            expectation: Expectation::new(seed, &settings.cluster, &agents),
            agents,
        });
    }
    // What is wrong with the URL shows at once; later on all is tried again.
    match broker.connect().await {
        Ok(connection) => drop(connection),
        Err(cause) => return Err(SimulateError::Connect { address: broker.address(), cause }),
    }
    let agents = agents(settings, seed).await?;
    let shared = Arc::new(Shared {
        broker,
        topology: Topology::new(&settings.broker.queue_namespace),
        counters: Counters::default(),
        trouble: Mutex::new(None),
        pace: Pace::new(settings.rate),
        heartbeat_interval: settings.heartbeat_interval(),
        churn: settings.churn,
        until: settings.duration.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        obey_commands: settings.obey_commands,
        shutdown,
    });
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for agents in agents {
        lanes.spawn(Lane::new(shared.clone(), agents).run());
    }
    let mut agents = Vec::new();
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
    let mut before = 0;
    loop {
        tokio::select! {
            ended = lanes.join_next() => match ended {
                None => break,
                Some(ended) => agents.extend(ended?),
            },
            _ = tick.tick() => say(&progress(&shared, began.elapsed(), &mut before)),
        }
    }
    let took = began.elapsed();
    agents.sort_by_key(Agent::number);
    Ok(Outcome {
        report: Report::new(seed, &agents, &shared.counters, took),
        expectation: Expectation::new(seed, &settings.cluster, &agents),
        agents,
    })
}

/// The agents of each connection.
async fn agents(settings: &Settings, seed: u64) -> Result<Vec<Vec<Agent>>, SimulateError> {
    let plan = Arc::new(settings.plan(seed));
    let lanes = settings.lanes();
    let (nodes, rounds, after) = (settings.nodes, settings.rounds, settings.after_rounds);
    let mut making = Vec::new();
    // Two at a time, for the work of runs before this.
    for half in 0..2 {
        let plan = plan.clone();
        making.push(tokio::task::spawn_blocking(move || {
            let mine = (0..lanes).filter(|lane| lane % 2 == half);
            mine.map(|lane| {
                (lane..nodes)
                    .step_by(lanes as usize)
                    .map(|number| {
                        let mut agent = Agent::new(plan.clone(), number);
                        if let Some(after) = after {
                            agent.change_rounds(after);
                            agent.skip();
                        }
                        agent.change_rounds(rounds);
                        agent
                    })
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
        }));
    }
    let mut all = Vec::new();
    for made in making {
        all.extend(made.await?);
    }
    Ok(all)
}

fn progress(shared: &Shared, elapsed: Duration, before: &mut u64) -> String {
    let counters = &shared.counters;
    let observations = counters.confirmed_observations.load(Relaxed);
    let mut line = format!(
        "{:6.1} s  {:7} observations/s  {} messages confirmed, {} outstanding",
        elapsed.as_secs_f64(),
        observations.saturating_sub(*before) * 1000 / PROGRESS.as_millis() as u64,
        counters.confirmed.load(Relaxed),
        counters.outstanding.load(Relaxed),
    );
    *before = observations;
    if let Some(trouble) = shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
        line.push_str("  (");
        line.push_str(&trouble);
        line.push(')');
    }
    line
}
