//! `cargo xtask faults`: the rows of `testkit/tests/faults`, each with as many
//! seeds as are asked for, one after another, and a report of them in
//! `bench/results/faults.json`.

use std::{
    collections::BTreeSet,
    fs,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        figures::{Machine, keep},
        machine,
    },
    checkout::Checkout,
    cli::Faults,
    command,
    error::{Context, Error},
    interrupt::Interrupt,
    need::{self, Need},
    progress::Progress,
    servers::{Durability, Given},
    session::Session,
    test,
};

/// One run of the suite.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Run {
    /// What was tested; ends with `-dirty` when files differed from it.
    commit: String,
    machine: Machine,
    /// Programs and their versions, name first.
    versions: Vec<(String, String)>,
    /// Of the last minute before and after: what else runs lengthens recovery.
    load_average: (f64, f64),
    /// The first seed of each row: `cargo xtask faults --seed` repeats it.
    seed: u64,
    rows: Vec<Row>,
}

/// What came of one row, as `testkit/tests/faults/row.rs` writes it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Row {
    row: String,
    first_seed: u64,
    seeds: usize,
    /// Events that were published and found in the log.
    events: usize,
    /// Faults that happened: kills, cuts, alarms, bad messages.
    faults: usize,
    /// What did not hold, with its seed.
    violations: Vec<String>,
    /// How long a fresh event took to be seen after each fault had ended.
    recovery_millis: Vec<u64>,
    seconds: f64,
}

/// Runs rows; fails when an invariant was violated, or a row did not come to its end.
pub fn run(checkout: &Checkout, options: &Faults, interrupt: &Interrupt) -> Result<ExitCode, Error> {
    let progress = Progress::start();
    let commit = machine::commit(checkout)?;
    let needs = [Need::Compiler, Need::Postgres, Need::RabbitMq];
    progress.part("tools", || need::provide(&needs, checkout, interrupt, &progress))?;
    progress.part("build", || test::build(checkout, interrupt))?;
    let session =
        Session::start(checkout, "faults", Given::default(), Durability::Thrown, interrupt, &progress)?;
    let report = session.instance.directory().join("report.jsonl");
    if report.exists() {
        fs::remove_file(&report).on("remove", &report)?;
    }
    let seed = options.seed.unwrap_or_else(seed_of_now);
    let load_before = load_average();
    println!("seed {seed}, {} seeds a row", options.seeds);
    let mut cargo = checkout.cargo();
    cargo
        .args(["test", "--workspace", "--test", "faults", "--color=never", "--", "rows::"])
        // Alone, so that recovery times are those of the fault.
        .args(["--test-threads=1", "--nocapture"])
        .env("ASSETTRACK_TEST_DATABASE_URL", &session.urls.database)
        .env("ASSETTRACK_TEST_AMQP_URL", &session.urls.amqp)
        .env("ASSETTRACK_BIN_DIR", checkout.binaries())
        .env("ASSETTRACK_TEST_SEED", seed.to_string())
        .env("ASSETTRACK_TEST_FAULT_SEEDS", options.seeds.to_string())
        .env("ASSETTRACK_TEST_FAULT_REPORT", &report);
    if !options.rows.is_empty() {
        cargo.env("ASSETTRACK_TEST_FAULT_ROWS", options.rows.join(","));
    }
    let status = command::run_lines(&mut cargo, interrupt, |line| println!("{line}"))?;

    let rows = read(&fs::read_to_string(&report).unwrap_or_default(), &report.display().to_string())?;
    let ran: BTreeSet<&str> = rows.iter().map(|row| row.row.as_str()).collect();
    let unknown: Vec<&String> = options.rows.iter().filter(|row| !ran.contains(row.as_str())).collect();
    println!("\n{}", table(&rows));
    for row in &unknown {
        println!("row {row} did not run: there is none of that name, or it broke off");
    }
    let held = rows.iter().all(|row| row.violations.is_empty());
    if !rows.is_empty() {
        let path = checkout.root().join("bench/results/faults.json");
        let versions = machine::versions(&["postgresql-15", "rabbitmq-server"]);
        let load_average = (load_before, load_average());
        keep(&path, &Run { commit, machine: machine::describe(), versions, load_average, seed, rows })?;
        println!("kept in bench/results/faults.json");
    }
    let all_well = status.success() && held && unknown.is_empty();
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Zero where the kernel does not tell: it decides nothing.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// Some number that differs from run to run.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}

fn read(text: &str, path: &str) -> Result<Vec<Row>, Error> {
    text.lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|source| Error::ForeignResults { path: path.to_owned(), source })
}

/// The rows for a person: recovery as median and most.
fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<20} {:>5} {:>9} {:>7} {:>10} {:>10} {:>10} {:>8}\n",
        "ROW", "SEEDS", "EVENTS", "FAULTS", "VIOLATIONS", "RECOVERY", "MOST", "TIME"
    );
    for row in rows {
        let mut times = row.recovery_millis.clone();
        times.sort_unstable();
        let seconds = |millis: Option<&u64>| match millis {
            Some(millis) => format!("{:.2} s", *millis as f64 / 1000.0),
            None => "–".to_owned(),
        };
        text.push_str(&format!(
            "{:<20} {:>5} {:>9} {:>7} {:>10} {:>10} {:>10} {:>6.0} s\n",
            row.row,
            row.seeds,
            row.events,
            row.faults,
            row.violations.len(),
            seconds(times.get(times.len() / 2)),
            seconds(times.last()),
            row.seconds
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{read, table};

    const LINE: &str = r#"{"row":"replay","first_seed":7,"seeds":2,"events":100,"faults":3,"violations":["seed 8: x"],"recovery_millis":[300,100,2000],"seconds":12.4}"#;

    #[test]
    fn rows_are_read_as_the_tests_write_them_and_shown() {
        let rows = read(LINE, "report").unwrap();
        let text = table(&rows);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["replay", "2", "100", "3", "1", "0.30", "s", "2.00", "s", "12", "s"]);
        assert!(read("garbage", "report").is_err());
        assert!(table(&read("", "report").unwrap()).lines().count() == 1);
    }
}
