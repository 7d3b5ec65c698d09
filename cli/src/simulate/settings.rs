//! What a simulation can be told.

use std::{path::PathBuf, time::Duration};

use kit::queue::{MAX_NODE_NAME_BYTES, MAX_OBSERVATIONS};

use super::agent::Plan;

/// A fleet, and what goes wrong in it.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "simulation")]
pub struct Settings {
    /// The broker.
    #[command(flatten)]
    pub broker: kit::amqp::Settings,
    /// Decides everything but time: the same seed and settings give the same
    /// messages with the same IDs. Drawn, and printed, if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Name of the cluster that the nodes are of.
    #[arg(long, default_value = "simulated", value_parser = check_cluster)]
    pub cluster: String,
    /// Nodes, each with an agent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub nodes: u32,
    /// Assets on each node: packages mostly, then units, sockets, disks and so on.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub assets: u32,
    /// Most observations of a batch. 64 KiB, about 200 packages, are the other
    /// limit.
    #[arg(long, default_value_t = 500,
          value_parser = clap::value_parser!(u16).range(1..=MAX_OBSERVATIONS as i64))]
    pub batch_size: u16,
    /// Batches of changes of each node, as many observations each as a batch may
    /// have, one after the other and as fast as can be.
    #[arg(long, default_value_t = 0)]
    pub rounds: u64,
    /// Takes the listing and so many rounds as published by an earlier run of the
    /// same seed and settings, and goes on from there.
    #[arg(long)]
    pub after_rounds: Option<u64>,
    /// Assets that change on each node, a second. An agent that cannot send
    /// reports the newest state later, as real ones do.
    #[arg(long, default_value_t = 0.0, value_parser = check_churn)]
    pub churn: f64,
    /// Seconds that the fleet lives; if it is not given, until all is published.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub duration: Option<u64>,
    /// Observations a second of the whole fleet at most.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Share of the batches that are sent twice, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = check_share)]
    pub duplicate_rate: f64,
    /// Share of the batches that up to 4 later ones of their stream overtake.
    #[arg(long, default_value_t = 0.0, value_parser = check_share)]
    pub reorder_rate: f64,
    /// Share of the messages that can never be applied, each in a place of its
    /// own in its stream: garbage, an unknown version, a NUL in a text and so on.
    #[arg(long, default_value_t = 0.0, value_parser = check_share)]
    pub corrupt_rate: f64,
    /// Seconds between two heartbeats of an agent; 0 for none.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub heartbeat_seconds: u32,
    /// Connections that all agents share.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000),
          conflicts_with = "connection_per_node")]
    pub connections: u32,
    /// One connection for each agent, as real ones have.
    #[arg(long)]
    pub connection_per_node: bool,
    /// Obey commands: resync and new_stream.
    #[arg(long)]
    pub obey_commands: bool,
    /// File to which is written, as JSON, what the inventory must come to: count
    /// and digest of each kind on each node.
    #[arg(long)]
    pub expect: Option<PathBuf>,
    /// File to which the batches are written, each an `EventBatch` with its length
    /// before it, in the order in which agents take turns; nothing is published.
    /// Corrupt messages, doubled ones and heartbeats are left out.
    #[arg(long, conflicts_with_all = ["duration", "churn"])]
    pub record: Option<PathBuf>,
}

impl Settings {
    /// What the agents have in common.
    pub(super) fn plan(&self, seed: u64) -> Plan {
        Plan {
            seed,
            assets: self.assets,
            batch_size: usize::from(self.batch_size),
            duplicate_rate: self.duplicate_rate,
            reorder_rate: self.reorder_rate,
            corrupt_rate: self.corrupt_rate,
            cluster: self.cluster.clone(),
        }
    }

    pub(super) fn lanes(&self) -> u32 {
        if self.connection_per_node { self.nodes } else { self.connections.min(self.nodes) }
    }

    pub(super) fn heartbeat_interval(&self) -> Option<Duration> {
        (self.heartbeat_seconds > 0).then(|| Duration::from_secs(self.heartbeat_seconds.into()))
    }
}

fn check_cluster(name: &str) -> Result<String, String> {
    let fits = !name.is_empty() && name.len() <= MAX_NODE_NAME_BYTES && !name.contains('\0');
    fits.then(|| name.to_owned()).ok_or_else(|| format!("must have 1 to {MAX_NODE_NAME_BYTES} bytes"))
}

fn check_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        // With 1 nothing else would ever be sent.
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("must be 0 to 0.9".to_owned()),
    }
}

fn check_churn(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(changes) if (0.0..=1e6).contains(&changes) => Ok(changes),
        _ => Err("must be 0 to 1,000,000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Settings;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn wrong_settings_are_named() {
        for (flag, value) in [
            ("--nodes", "0"),
            ("--batch-size", "501"),
            ("--duplicate-rate", "1"),
            ("--corrupt-rate", "NaN"),
            ("--churn", "-1"),
            ("--cluster", ""),
        ] {
            let error = Program::try_parse_from(["x", &format!("{flag}={value}")]).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
        let program = Program::try_parse_from(["x", "--nodes", "3", "--connection-per-node"]).unwrap();
        assert_eq!(program.settings.lanes(), 3);
        assert_eq!(Program::try_parse_from(["x", "--nodes", "3"]).unwrap().settings.lanes(), 3);
    }
}
