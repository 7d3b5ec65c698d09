//! Searches on a large inventory, through a processor: beside a read by key, from
//! the first page to far behind, and counts in groups.
//!
//! The calls are those of `processor/benches/api.rs`.

use std::{fs, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    bench::{
        figures::{Figure, Run},
        ingest::{Database, wrong},
        machine,
        statistics::Sample,
    },
    build,
    checkout::Checkout,
    command,
    error::{Context, Error},
    http,
    interrupt::Interrupt,
    need::{self, Need},
    process::Signal,
    progress::Progress,
    servers::{Durability, Given, postgres},
    services::Planner,
    session::Session,
};

/// The bars in milliseconds.
const PAGE_MILLIS: f64 = 50.0;
const GROUPS_MILLIS: f64 = 1000.0;
/// How many times longer a page far behind may take than the first.
const FLAT: f64 = 2.0;
/// How many times longer a page of the past may take than the same of now.
const PAST: f64 = 2.0;

const PROCESSOR: &str = "processor";
const BY_KEY: &str = "read by key";
const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_GRACE: Duration = Duration::from_secs(30);
const LOAD: &str = include_str!("load.sql");
/// Assets of a node in `load.sql`.
const ASSETS_PER_NODE: u32 = 1000;

/// Measures all of it on a million assets; with `quick` on 50,000.
pub fn measure(
    checkout: &Checkout,
    quick: bool,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Run, Error> {
    let commit = machine::commit(checkout)?;
    let given = Given::default();
    let mut needs = vec![Need::Compiler];
    needs.extend(given.needs());
    progress.part("tools", || need::provide(&needs, checkout, interrupt, progress))?;
    let packages = ["assettrack-processor"];
    progress.part("build as shipped", || build::release(checkout, &packages, interrupt))?;
    progress.part("build of the calls", || command::run(cargo(checkout).arg("--no-run"), interrupt))?;
    let mut session = Session::start(checkout, "bench", given, Durability::Measured, interrupt, progress)?;

    let (nodes, calls) = if quick { (50, 20) } else { (1000, 300) };
    let server = postgres::server(&mut session.instance)?;
    let database = Database::create(server, "api")?;
    let port = start_processor(checkout, &mut session, &database, interrupt)?;
    let assets = nodes * ASSETS_PER_NODE;
    progress.part(&format!("load of {assets} assets"), || load(&session, &database, nodes))?;
    let text = progress.part("calls", || {
        let mut calls_of = cargo(checkout);
        calls_of.args(["--", "--plans", "--calls", &calls.to_string()]);
        calls_of.args(["--database-url", &database.url(), "--grpc", &format!("http://127.0.0.1:{port}")]);
        command::output(&mut calls_of)
    })?;
    session.instance.stop(PROCESSOR, Signal::SIGTERM, STOP_GRACE)?;

    let answers = answers(&text).ok_or_else(|| wrong("understand what the calls say"))?;
    let plans = checkout.root().join("bench/results/api-plans.txt");
    let explained = answers.iter().filter_map(|answer| Some((answer, answer.plan.as_ref()?)));
    let explained: String =
        explained.map(|(answer, plan)| format!("{}: {}\n{plan}\n", answer.suite, answer.name)).collect();
    fs::write(&plans, explained).on("write", &plans)?;
    let load = vec![
        format!("{assets} assets on {nodes} nodes, {calls} calls a question, one after another"),
        "PostgreSQL with fsync and synchronous_commit, shared_buffers 2 GB".to_owned(),
        "how PostgreSQL answers each question: bench/results/api-plans.txt".to_owned(),
    ];
    let mut versions = vec![("assettrack".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    versions.extend(machine::versions(&["postgresql-15"]));
    Ok(Run { commit, machine: machine::describe(), versions, load, figures: figures(&answers)? })
}

fn cargo(checkout: &Checkout) -> Command {
    let mut cargo = checkout.cargo();
    cargo.args(["bench", "--quiet", "--package", "assettrack-processor", "--bench", "api"]);
    cargo
}

/// Starts it on an empty database, so that it makes the tables. Its port.
fn start_processor(
    checkout: &Checkout,
    session: &mut Session,
    database: &Database,
    interrupt: &Interrupt,
) -> Result<u16, Error> {
    let binaries = checkout.release_binaries();
    let mut planner = Planner { checkout, instance: &mut session.instance, binaries };
    let (port, mut launch) = planner.launch(PROCESSOR, "assettrack-processor")?;
    launch.set("ASSETTRACK_DATABASE_URL", database.url());
    // Nothing but the questions is to be measured.
    launch.set("ASSETTRACK_SCRUB_INTERVAL_SECONDS", "0");
    let admin = launch.admin_port.unwrap_or_default();
    let mut started = session.instance.start(launch)?;
    started.await_ready(START_DEADLINE, interrupt, || http::ready(admin))?;
    Ok(port)
}

fn load(session: &Session, database: &Database, nodes: u32) -> Result<(), Error> {
    let file = session.instance.directory().join("load.sql");
    fs::write(&file, LOAD).on("write", &file)?;
    let mut psql = database.psql();
    psql.args(["--set", "ON_ERROR_STOP=1", "--set", &format!("nodes={nodes}"), "--file"]).arg(&file);
    command::output(&mut psql)?;
    database.expect("SELECT count(*) FROM asset", (nodes * ASSETS_PER_NODE).into())
}

/// What the calls of one question took.
struct Answer {
    suite: String,
    name: String,
    millis: Vec<f64>,
    plan: Option<String>,
}

/// A line of JSON for each question.
fn answers(text: &str) -> Option<Vec<Answer>> {
    let answers: Vec<Answer> = text
        .lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(Answer {
                suite: line["suite"].as_str()?.to_owned(),
                name: line["name"].as_str()?.to_owned(),
                millis: line["millis"].as_array()?.iter().filter_map(Value::as_f64).collect(),
                plan: line["plan"].as_str().map(str::to_owned),
            })
        })
        .collect();
    (!answers.is_empty()).then_some(answers)
}

/// The value that 99 of 100 do not exceed.
fn p99(millis: &[f64]) -> f64 {
    let mut sorted = millis.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * 99).div_ceil(100).saturating_sub(1)]
}

fn figures(answers: &[Answer]) -> Result<Vec<Figure>, Error> {
    let sample_of =
        |answer: &Answer| Sample::new(answer.millis.clone()).ok_or_else(|| wrong("measure anything"));
    let by_key = answers.iter().find(|answer| answer.suite == "get").ok_or_else(|| wrong("read by key"))?;
    let by_key = sample_of(by_key)?.median();
    let first = answers.iter().find(|answer| answer.name == "page 1").map(sample_of).transpose()?;
    let mut figures = Vec::new();
    for answer in answers {
        let sample = sample_of(answer)?;
        let median = |name: &str| Figure::median(name, "ms", &sample);
        let now = answer.suite.strip_prefix("past ");
        let name = match now.unwrap_or(&answer.suite) {
            "get" => BY_KEY.to_owned(),
            "groups" => format!("counts by {}", answer.name),
            "far" => answer.name.clone(),
            "words" => format!("free text, {}", answer.name),
            "scan" => format!("nothing helps, {}", answer.name),
            _ => format!("page of 50, {}", answer.name),
        };
        if let Some(suite) = now {
            let same = answers.iter().find(|other| other.suite == suite && other.name == answer.name);
            let same = same.map(sample_of).transpose()?.as_ref().map_or(f64::NAN, Sample::median);
            let figure =
                median(&format!("as of before all changed three times: {name}")).beside("as of now", same);
            figures.push(match suite {
                "page" | "words" => {
                    figure.against(&format!("≤ {PAST} x now"), sample.median() <= same * PAST)
                }
                _ => figure,
            });
            continue;
        }
        match answer.suite.as_str() {
            "groups" => {
                let met = sample.median() <= GROUPS_MILLIS;
                figures.push(median(&name).against(&format!("≤ {GROUPS_MILLIS} ms"), met));
            }
            "far" => {
                let begin = first.as_ref().map_or(f64::NAN, Sample::median);
                let met = sample.median() <= begin * FLAT;
                let figure = median(&name).beside("page 1", begin);
                figures.push(figure.against(&format!("≤ {FLAT} x page 1"), met));
            }
            "page" | "words" => {
                let p99 = p99(&answer.millis);
                figures.push(median(&name).beside(BY_KEY, by_key));
                let figure = Figure::of(&format!("{name}, 99th percentile"), "ms", p99);
                figures.push(figure.against(&format!("≤ {PAGE_MILLIS} ms"), p99 <= PAGE_MILLIS));
            }
            _ => figures.push(median(&name)),
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::{answers, figures, p99};

    #[test]
    fn lines_become_figures_with_their_bars() {
        let text = "{\"suite\":\"get\",\"name\":\"k\",\"millis\":[1.0]}\n\
            {\"suite\":\"page\",\"name\":\"kind\",\"millis\":[2.0,4.0,60.0],\"plan\":\"Limit\"}\n\
            {\"suite\":\"far\",\"name\":\"page 1\",\"millis\":[2.0]}\n\
            {\"suite\":\"far\",\"name\":\"page 100\",\"millis\":[5.0]}\n\
            {\"suite\":\"groups\",\"name\":\"kind\",\"millis\":[5.0]}\n\
            {\"suite\":\"past page\",\"name\":\"kind\",\"millis\":[9.0]}\nnoise\n";
        let answers = answers(text).unwrap();
        assert_eq!(answers[1].plan.as_deref(), Some("Limit"));
        let figures = figures(&answers).unwrap();
        let told: Vec<_> =
            figures.iter().map(|figure| (figure.name.as_str(), figure.value, figure.met)).collect();
        assert_eq!(
            told,
            [
                ("read by key", 1.0, None),
                ("page of 50, kind", 4.0, None),
                ("page of 50, kind, 99th percentile", 60.0, Some(false)),
                ("page 1", 2.0, Some(true)),
                ("page 100", 5.0, Some(false)),
                ("counts by kind", 5.0, Some(true)),
                ("as of before all changed three times: page of 50, kind", 9.0, Some(false)),
            ]
        );
        assert!(super::answers("noise").is_none());
    }

    #[test]
    fn one_in_a_hundred_may_be_slower() {
        let mut millis = vec![1.0; 99];
        millis.push(9.0);
        assert_eq!(p99(&millis), 1.0);
        assert_eq!(p99(&[1.0, 9.0]), 9.0);
    }
}
