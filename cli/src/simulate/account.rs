//! What was done, and what must come of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent::{Agent, Made};

/// What all connections together have done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that are published, heartbeats aside, each attempt counted.
    pub published: AtomicU64,
    /// Messages that are confirmed, heartbeats aside.
    pub confirmed: AtomicU64,
    /// Observations in them.
    pub confirmed_observations: AtomicU64,
    /// Messages that no queue took.
    pub returned: AtomicU64,
    /// Messages that the broker refused.
    pub refused: AtomicU64,
    /// Messages that were sent again.
    pub resent: AtomicU64,
    /// Heartbeats that are confirmed.
    pub heartbeats: AtomicU64,
    /// Connections that were lost.
    pub disconnects: AtomicU64,
    /// Commands that were obeyed.
    pub commands: AtomicU64,
    /// Messages that are published or to be sent again, and not confirmed.
    pub outstanding: AtomicU64,
    /// Bytes of them.
    pub outstanding_bytes: AtomicU64,
}

/// What a simulation has done.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Seed that repeats it.
    pub seed: u64,
    /// Nodes.
    pub nodes: u64,
    /// Batches that can be applied, each counted once.
    pub batches: u64,
    /// Observations of new or changed assets in them.
    pub present: u64,
    /// Observations of assets that are gone.
    pub absent: u64,
    /// Observations in full listings.
    pub listed: u64,
    /// Batches that were sent twice on purpose.
    pub duplicates: u64,
    /// Batches that later ones overtook on purpose.
    pub reordered: u64,
    /// Messages that can never be applied.
    pub corrupted: u64,
    /// Messages that the broker confirmed, duplicates and corrupted ones too.
    pub confirmed: u64,
    /// Messages that are not confirmed at the end.
    pub outstanding: u64,
    /// Messages that no queue took, and were sent again.
    pub returned: u64,
    /// Messages that the broker refused, and were sent again.
    pub refused: u64,
    /// Messages that were sent again.
    pub resent: u64,
    /// Heartbeats that were confirmed.
    pub heartbeats: u64,
    /// Connections that were lost.
    pub disconnects: u64,
    /// Commands that were obeyed.
    pub commands: u64,
    /// From the first message to the last confirm.
    pub seconds: f64,
    /// Observations that were confirmed, a second.
    pub observations_per_second: f64,
}

/// What an inventory must come to once all is applied.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// Seed of the fleet.
    pub seed: u64,
    /// Its cluster.
    pub cluster: String,
    /// Messages that must be dead letters.
    pub dead_letters: u64,
    /// All nodes.
    pub nodes: Vec<NodeExpectation>,
}

/// What must be known of one node.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct NodeExpectation {
    /// UUID of the node.
    pub node: String,
    /// Its name for people.
    pub display_name: String,
    /// Its current stream.
    pub stream: String,
    /// Sequence of the newest message of that.
    pub last_sequence: i64,
    /// Each kind that it has, or had.
    pub kinds: Vec<KindExpectation>,
}

/// What must be known of one kind on one node.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct KindExpectation {
    /// Name of the kind, such as `ASSET_KIND_PACKAGE`.
    pub kind: String,
    /// Assets that are ACTIVE.
    pub count: u64,
    /// Sum of their state hashes modulo 2^128, 32 hexadecimal digits.
    pub sum: String,
}

impl Report {
    pub(super) fn new(seed: u64, agents: &[Agent], counters: &Counters, took: Duration) -> Self {
        let sum = |of: fn(&Made) -> u64| agents.iter().map(|agent| of(&agent.made())).sum();
        let seconds = took.as_secs_f64();
        let observations = counters.confirmed_observations.load(Relaxed) as f64;
        Self {
            seed,
            nodes: agents.len() as u64,
            batches: sum(|made| made.batches),
            present: sum(|made| made.present),
            absent: sum(|made| made.absent),
            listed: sum(|made| made.listed),
            duplicates: sum(|made| made.duplicates),
            reordered: sum(|made| made.reordered),
            corrupted: sum(|made| made.corrupted),
            confirmed: counters.confirmed.load(Relaxed),
            outstanding: counters.outstanding.load(Relaxed),
            returned: counters.returned.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            resent: counters.resent.load(Relaxed),
            heartbeats: counters.heartbeats.load(Relaxed),
            disconnects: counters.disconnects.load(Relaxed),
            commands: counters.commands.load(Relaxed),
            seconds,
            observations_per_second: if seconds > 0.0 { observations / seconds } else { 0.0 },
        }
    }

    /// Observations in the batches, each counted once.
    pub fn observations(&self) -> u64 {
        self.present + self.absent + self.listed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observations = self.observations();
        writeln!(f, "seed           {}", self.seed)?;
        writeln!(f, "nodes          {}", self.nodes)?;
        writeln!(
            f,
            "batches        {}, {} of them sent twice, {} overtaken",
            self.batches, self.duplicates, self.reordered
        )?;
        writeln!(
            f,
            "observations   {observations}: {} listed, {} new or changed, {} gone",
            self.listed, self.present, self.absent
        )?;
        writeln!(f, "corrupted      {}", self.corrupted)?;
        writeln!(f, "confirmed      {}, {} outstanding", self.confirmed, self.outstanding)?;
        writeln!(
            f,
            "sent again     {}: {} returned, {} refused, {} connections lost",
            self.resent, self.returned, self.refused, self.disconnects
        )?;
        writeln!(f, "heartbeats     {}", self.heartbeats)?;
        writeln!(f, "commands       {}", self.commands)?;
        write!(
            f,
            "took           {:.1} s, {:.0} observations/s confirmed",
            self.seconds, self.observations_per_second
        )
    }
}

impl Expectation {
    pub(super) fn new(seed: u64, cluster: &str, agents: &[Agent]) -> Self {
        Self {
            seed,
            cluster: cluster.to_owned(),
            dead_letters: agents.iter().map(|agent| agent.made().corrupted).sum(),
            nodes: agents.iter().map(NodeExpectation::of).collect(),
        }
    }
}

impl NodeExpectation {
    fn of(agent: &Agent) -> Self {
        let kinds = agent.digests().map(|(kind, digest)| KindExpectation {
            kind: kind.as_str_name().to_owned(),
            count: digest.count,
            sum: format!("{:032x}", digest.sum),
        });
        Self {
            node: agent.uid().to_string(),
            display_name: agent.name().to_owned(),
            stream: agent.stream().to_string(),
            last_sequence: agent.sequence(),
            kinds: kinds.collect(),
        }
    }
}
