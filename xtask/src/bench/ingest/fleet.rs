//! Fills the queues by `assettrack simulate`.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    bench::ingest::{Mix, wrong},
    command::{self, describe},
    error::{Context, Error},
    interrupt::Interrupt,
};

/// A simulated fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The operator's tool.
    pub program: PathBuf,
    /// URL of the broker. Secret.
    pub amqp: String,
    /// Before the names of the queues.
    pub namespace: String,
    pub seed: u64,
    pub nodes: u32,
    /// Of each node.
    pub assets: u32,
    pub batch_size: u16,
    /// Observations in changes, about.
    pub changes: u32,
    /// Where files may be put.
    pub directory: PathBuf,
}

/// What is in the queues.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filled {
    pub messages: u64,
    pub observations: u64,
    /// Observations published and confirmed, a second.
    pub rate: f64,
    /// Assets that are ACTIVE once all is applied.
    pub active: u64,
}

/// A fleet that lives beside what is measured; it is killed when this goes.
pub struct Living(Child);

impl Drop for Living {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Fleet {
    /// Publishes, while nobody consumes.
    pub fn fill(&self, mix: Mix, interrupt: &Interrupt) -> Result<Filled, Error> {
        interrupt.check()?;
        let expect = self.directory.join("expect.json");
        let mut simulate = self.command();
        simulate.args(["--heartbeat-seconds", "0", "--expect"]).arg(&expect);
        self.go_on(mix, &mut simulate);
        let report = command::output(&mut simulate)?;
        let expected = fs::read_to_string(&expect).on("read", &expect)?;
        Filled::read(&report, &expected).ok_or_else(|| wrong("understand what the simulator says"))
    }

    /// Writes to a file what [`Self::fill`] would publish.
    pub fn record(&self, mix: Mix, interrupt: &Interrupt) -> Result<PathBuf, Error> {
        interrupt.check()?;
        let file = self.directory.join(format!("recorded-{mix:?}"));
        let mut simulate = self.command();
        simulate.arg("--record").arg(&file);
        self.go_on(mix, &mut simulate);
        command::output(&mut simulate)?;
        Ok(file)
    }

    fn go_on(&self, mix: Mix, simulate: &mut Command) {
        if mix != Mix::Fresh {
            simulate.args(["--after-rounds", "0", "--rounds", &self.rounds().to_string()]);
        }
    }

    /// Lives for so many seconds with so many changes a second on each node, as a
    /// cluster of this name.
    pub fn live(&self, cluster: &str, changes: f64, seconds: u64) -> Result<Living, Error> {
        let mut simulate = self.command();
        simulate.args(["--cluster", cluster, "--churn", &changes.to_string()]);
        simulate.args(["--duration", &seconds.to_string()]);
        let what = describe(&simulate);
        simulate.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        simulate.spawn().trying(|| format!("run {what}")).map(Living)
    }

    fn command(&self) -> Command {
        let mut simulate = Command::new(&self.program);
        simulate.env("ASSETTRACK_AMQP_URL", &self.amqp);
        simulate.env("ASSETTRACK_QUEUE_NAMESPACE", &self.namespace);
        simulate.args(["simulate", "--output", "json", "--connections", "4"]);
        for (flag, value) in [
            ("--seed", self.seed),
            ("--nodes", self.nodes.into()),
            ("--assets", self.assets.into()),
            ("--batch-size", self.batch_size.into()),
        ] {
            simulate.arg(format!("{flag}={value}"));
        }
        simulate
    }

    /// Rounds of changes that make up the observations that are wanted.
    fn rounds(&self) -> u32 {
        // What 64 KiB hold.
        let in_batch = u32::from(self.batch_size).min(190).min(self.assets);
        (self.changes / self.nodes / in_batch).max(1)
    }
}

impl Filled {
    fn read(report: &str, expected: &str) -> Option<Self> {
        let report: Value = serde_json::from_str(report).ok()?;
        let expected: Value = serde_json::from_str(expected).ok()?;
        let number = |name: &str| report[name].as_u64();
        let nodes = expected["nodes"].as_array()?.iter();
        let kinds = nodes.flat_map(|node| node["kinds"].as_array().into_iter().flatten());
        Some(Self {
            messages: number("confirmed")?,
            observations: number("present")? + number("absent")? + number("listed")?,
            rate: report["observations_per_second"].as_f64()?,
            active: kinds.filter_map(|kind| kind["count"].as_u64()).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Filled;

    #[test]
    fn the_simulators_report_is_read() {
        let report =
            r#"{"confirmed": 3, "present": 5, "absent": 1, "listed": 0, "observations_per_second": 2.5}"#;
        let expected = r#"{"nodes": [{"kinds": [{"count": 2}, {"count": 3}]}, {"kinds": [{"count": 4}]}]}"#;
        let filled = Filled { messages: 3, observations: 6, rate: 2.5, active: 9 };
        assert_eq!(Filled::read(report, expected), Some(filled));
        assert_eq!(Filled::read("{}", expected), None);
        assert_eq!(Filled::read(report, ""), None);
    }
}
