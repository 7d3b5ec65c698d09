//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Developer commands of AssetTrack.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "All state stands under .local/ of the checkout."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    /// Build everything and run the whole system on this machine
    ///
    /// Installs what is missing (PostgreSQL, RabbitMQ, Node.js) after saying so, starts private
    /// instances of both servers on free loopback ports, builds, starts one processor, two
    /// collectors, an agent for this machine and the gateway, waits until each is ready, and prints
    /// the URL. Data survives `down`; `reset` wipes it. Where a system runs already, what was
    /// rebuilt is restarted.
    ///
    /// ASSETTRACK_DATABASE_URL and ASSETTRACK_AMQP_URL name servers to be used in place of private
    /// ones.
    Up(Up),
    /// Stop the system in order; its data stays
    Down,
    /// Show each process; exits with 0 only when all are there and ready
    Status,
    /// Show the logs of one process or all
    Logs(Logs),
    /// Stop the system and delete its data, logs and passwords
    Reset,
    /// Run every test against private servers of their own
    ///
    /// Prints each step with its time, what it skipped and why, and as the last line
    /// `N passed, N failed, N skipped`. Exits with 1 when anything failed.
    Test(Test),
    /// Measure, beside other tools on the same load, and keep the figures
    ///
    /// Installs what it compares with after saying so, without starting its services; builds as
    /// it is shipped. The run is put first into bench/results/<suite>.json, and is printed as a table that
    /// shows which bars are met. Exits with 1 only when it could not be measured.
    Bench(Bench),
    /// Let faults happen while events flow, and check that nothing is lost or doubled
    ///
    /// Kills, crashes, alarms, cut and silent lines, replays and bad messages, each with several
    /// seeds, against private servers. `test` runs a short selection of the same. The report is put
    /// first into bench/results/faults.json. Exits with 1 when an invariant was violated.
    Faults(Faults),
    /// Format check, clippy, and everything that `test` runs; the same as .ci/run
    Ci,
}

#[derive(Args, Debug)]
pub struct Up {
    /// Return once all is healthy, and leave it running
    #[arg(long, conflicts_with = "watch")]
    pub detach: bool,
    /// Rebuild and restart what changes; serve the web UI by Vite with hot reload
    #[arg(long)]
    pub watch: bool,
    /// Port of the gateway on 127.0.0.1 [default: the last one used, at first 8080]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

#[derive(Args, Debug)]
pub struct Logs {
    /// Process to show, as `status` names it; all when left out
    pub service: Option<String>,
    /// Go on as lines are written, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Lines to show of each log
    #[arg(short = 'n', long, default_value_t = 50)]
    pub lines: usize,
}

#[derive(Args, Debug, Default)]
pub struct Test {
    /// A step (rust, buf, ui, browser), or a part of a Rust test's name; everything when left out
    pub filter: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum, default_value_t = Suite::Agent)]
    pub suite: Suite,
    /// Seconds for which memory and processor time are watched while all is idle
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub seconds: u64,
    /// Measure little: only enough to see that all of it works
    #[arg(long)]
    pub quick: bool,
}

#[derive(Args, Debug)]
pub struct Faults {
    /// First seed of each row, to repeat an earlier run [default: another one each time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Rows to run, by comma; all when left out
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Seeds to run each row with
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub seeds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// The agent's memory, processor time and first scan, on a node with 1,000 packages and 50
    /// running containers, beside prometheus-node-exporter and fusioninventory-agent
    Agent,
    /// Searches on a million assets through a processor: filtered and sorted pages, the first and the
    /// ten thousandth, free text, counts in groups, beside a read by key
    Api,
    /// From full queues to committed and acknowledged, beside a consumer of the usual kind in
    /// Node.js; latency, memory, and how speed depends on the inventory's size. Takes a quarter of an hour
    Ingest,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
