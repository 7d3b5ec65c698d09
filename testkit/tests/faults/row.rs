//! Runs a row of the table of faults, once a seed, and reports what came of it.

use std::{
    env,
    fs::File,
    io::Write as _,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use rand::{SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use testkit::Seed;

/// Seeds of a long run; `cargo xtask faults` sets it. Without it each row runs
/// once, shortened.
const SEEDS: &str = "ASSETTRACK_TEST_FAULT_SEEDS";
/// Rows to run, by comma; all if it is not set.
const ROWS: &str = "ASSETTRACK_TEST_FAULT_ROWS";
/// File that a line of JSON is added to for each row.
const REPORT: &str = "ASSETTRACK_TEST_FAULT_REPORT";
/// How long a fresh event may take to be seen after a fault has ended.
pub const RECOVERY: Duration = Duration::from_secs(10);
/// The same in a short run, where other tests are at work beside it.
const SHORT_RECOVERY: Duration = Duration::from_secs(30);

/// One run of a row with one seed.
pub struct Run {
    pub seed: u64,
    pub rng: StdRng,
    /// Number of the seed in this run, from 0.
    pub turn: usize,
    /// Whether time is short: the selection within `cargo xtask test`.
    pub short: bool,
    pub events: usize,
    pub faults: usize,
    pub violations: Vec<String>,
    pub recoveries: Vec<Duration>,
}

impl Run {
    /// Notes how long a fresh event took; it has a bound.
    pub fn recovered(&mut self, after: &str, took: Duration) {
        println!("  {after}: a fresh event was seen after {:.2} s", took.as_secs_f64());
        self.recoveries.push(took);
        if took > if self.short { SHORT_RECOVERY } else { RECOVERY } {
            self.violations.push(format!("{after}: a fresh event took {:.1} s", took.as_secs_f64()));
        }
    }

    /// Notes a violation unless something holds.
    pub fn holds(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            println!("  VIOLATION: {what}");
            self.violations.push(what);
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    row: &'a str,
    first_seed: u64,
    seeds: usize,
    events: usize,
    faults: usize,
    violations: Vec<String>,
    recovery_millis: Vec<u64>,
    seconds: f64,
}

/// Runs a row: once in a short run, else with so many seeds as are asked for.
///
/// # Panics
/// When an invariant is violated, naming the seed.
pub async fn run(name: &str, row: impl AsyncFn(&mut Run)) {
    if env::var(ROWS).is_ok_and(|rows| !rows.split(',').any(|wanted| wanted == name)) {
        println!("SKIPPED {name}: not one of the rows that were asked for");
        return;
    }
    let long = env::var(SEEDS).ok().map(|seeds| seeds.parse::<usize>().unwrap());
    let seed = Seed::draw().value();
    let began = Instant::now();
    let mut report = Report {
        row: name,
        first_seed: seed,
        seeds: long.unwrap_or(1),
        events: 0,
        faults: 0,
        violations: Vec::new(),
        recovery_millis: Vec::new(),
        seconds: 0.0,
    };
    for turn in 0..report.seeds {
        let seed = seed.wrapping_add(turn as u64);
        println!("{name}, seed {seed}");
        let mut run = Run {
            seed,
            rng: StdRng::seed_from_u64(seed),
            turn,
            short: long.is_none(),
            events: 0,
            faults: 0,
            violations: Vec::new(),
            recoveries: Vec::new(),
        };
        if let Err(panic) = AssertUnwindSafe(row(&mut run)).catch_unwind().await {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            run.violations.push(text.to_owned());
        }
        report.events += run.events;
        report.faults += run.faults;
        report.violations.extend(run.violations.iter().map(|what| format!("seed {seed}: {what}")));
        let millis = run.recoveries.iter().map(|took| u64::try_from(took.as_millis()).unwrap());
        report.recovery_millis.extend(millis);
    }
    report.seconds = began.elapsed().as_secs_f64();
    let line = serde_json::to_string(&report).unwrap();
    println!("{line}");
    if let Ok(path) = env::var(REPORT) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    assert!(report.violations.is_empty(), "{name}: {:#?}", report.violations);
}
