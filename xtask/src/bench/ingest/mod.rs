//! From full queues to committed and acknowledged: ours beside a consumer of the
//! usual kind, on the same broker, database and batches.
//!
//! Queues are filled while nobody consumes, and then drained. Beside it stands what
//! PostgreSQL does with the same batches when nothing but SQL is to be done.

mod database;
mod drain;
mod fleet;
mod latency;
mod limit;
mod rival;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    bench::{
        figures::{Figure, Run},
        machine,
        process::Usage,
        statistics::Sample,
    },
    build,
    checkout::Checkout,
    error::Error,
    http,
    instance::Instance,
    interrupt::Interrupt,
    need::{self, Need},
    process::Signal,
    progress::Progress,
    servers::{Durability, Given, postgres},
    services::Planner,
    session::Session,
};

pub use database::Database;
use drain::Drained;
use fleet::{Filled, Fleet};
use rival::Rival;

/// The bars.
const TIMES_FASTER: f64 = 1.5;
const OF_LIMIT: f64 = 0.6;
const LIMIT: f64 = 50_000.0;
const COLLECTOR_MB: f64 = 40.0;
const PROCESSOR_MB: f64 = 80.0;
const PUBLISHED: f64 = 150_000.0;

const BATCH_SIZES: [u16; 2] = [50, 500];
const WRITERS: [u8; 3] = [1, 2, 4];
/// What `--ingest-calls` is if nobody says.
const USUAL_WRITERS: u8 = 4;

const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_GRACE: Duration = Duration::from_secs(30);
const MB: f64 = 1e6;

const PROCESSOR: &str = "processor";
const COLLECTOR: &str = "collector-1";
const RIVAL: &str = "amqplib + pg";
const REPLAY: &str = "replayed SQL";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    repeats: usize,
    nodes: u32,
    assets: u32,
    /// Observations in changes, about.
    changes: u32,
    inventories: &'static [u32],
    latency_seconds: u64,
    /// After this long nothing optional is begun.
    limit: Duration,
}

impl Extent {
    /// Everything, in a quarter of an hour at most; with `quick` only enough to see
    /// that all of it works.
    pub fn new(quick: bool) -> Self {
        if quick {
            return Self {
                repeats: 1,
                nodes: 20,
                assets: 1000,
                changes: 20_000,
                inventories: &[10_000, 50_000],
                latency_seconds: 8,
                limit: Duration::from_secs(300),
            };
        }
        Self {
            repeats: 3,
            nodes: 40,
            assets: 2500,
            changes: 100_000,
            inventories: &[10_000, 100_000, 1_000_000],
            latency_seconds: 20,
            limit: Duration::from_secs(780),
        }
    }
}

/// What the queues are filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Listings of nodes that nobody knows.
    Fresh,
    /// Changes of what is known.
    Changed,
    /// The same changes again.
    Duplicate,
}

const MIXES: [(Mix, &str); 3] =
    [(Mix::Fresh, "fresh"), (Mix::Changed, "changed"), (Mix::Duplicate, "duplicate")];

/// Measures all of it.
pub fn measure(
    checkout: &Checkout,
    extent: Extent,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Run, Error> {
    let commit = machine::commit(checkout)?;
    let given = Given::default();
    let mut needs = vec![Need::Compiler, Need::Node];
    needs.extend(given.needs());
    progress.part("tools", || need::provide(&needs, checkout, interrupt, progress))?;
    let rival = progress.part("the rival's packages", || Rival::install(checkout, interrupt))?;
    let packages = ["assettrack-collector", "assettrack-processor", "assettrack-cli"];
    progress.part("build as shipped", || build::release(checkout, &packages, interrupt))?;
    progress.part("build of the replay", || limit::build(checkout, interrupt))?;
    let session = Session::start(checkout, "bench", given, Durability::Measured, interrupt, progress)?;
    let began = Instant::now();
    let mut bench = Bench {
        checkout,
        session,
        rival,
        extent,
        interrupt,
        memory: Memory::default(),
        namespace: String::new(),
        namespaces: 0,
    };
    let mut figures = Vec::new();
    let mut load = vec![
        format!("{} nodes with {} assets each, {} repeats", extent.nodes, extent.assets, extent.repeats),
        "PostgreSQL with fsync and synchronous_commit, shared_buffers 2 GB, for all".to_owned(),
        format!("replayed SQL: the faster of {:?} clients, repeat by repeat", limit::CLIENTS),
    ];
    let mut peak = f64::INFINITY;
    for batch_size in BATCH_SIZES {
        let rates = progress.part(&format!("batches of {batch_size}"), || bench.rates(batch_size))?;
        load.push(format!("batches of {batch_size}: {:.0} observations each in fact", rates.batch));
        figures.extend(rates.figures(batch_size)?);
        peak = peak.min(rates.ours[1].iter().copied().fold(0.0, f64::max));
    }
    figures.push(memory("collector, resident memory at its peak", bench.memory.collector, COLLECTOR_MB));
    figures.push(memory("processor, resident memory at its peak", bench.memory.processor, PROCESSOR_MB));
    let is_time_left = || began.elapsed() < extent.limit;
    if is_time_left() {
        figures.extend(progress.part("latency", || bench.latency(peak / 2.0))?);
    }
    for assets in extent.inventories {
        // A million takes its time to be loaded.
        if is_time_left() {
            let name = format!("changed, at {assets} assets");
            figures.push(progress.part(&name, || bench.inventory(*assets))?.figure(&name));
        }
    }
    for writers in WRITERS {
        if is_time_left() {
            let name = format!("fresh, {writers} of the collector's calls at once");
            figures.push(progress.part(&name, || bench.writers(writers))?.figure(&name));
        }
    }
    if !is_time_left() {
        load.push("some figures are left out: the time was over".to_owned());
    }
    let mut versions = vec![("assettrack".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    versions.extend(bench.rival.versions.clone());
    versions.extend(machine::versions(&["postgresql-15", "rabbitmq-server"]));
    Ok(Run { commit, machine: machine::describe(), versions, load, figures })
}

struct Bench<'a> {
    checkout: &'a Checkout,
    session: Session,
    rival: Rival,
    extent: Extent,
    interrupt: &'a Interrupt,
    memory: Memory,
    /// Before the names of the queues in use: what a stretch leaves in its queues is
    /// not found by the next.
    namespace: String,
    namespaces: u32,
}

/// Peaks in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    collector: u64,
    processor: u64,
}

/// Events a second by mix and repeat.
#[derive(Debug, Default)]
struct Rates {
    ours: [Vec<f64>; 3],
    theirs: [Vec<f64>; 3],
    /// Replayed SQL: listings and changes; of duplicates there is nothing to write.
    limit: [Vec<f64>; 2],
    published: Vec<f64>,
    /// Observations of a batch, on average.
    batch: f64,
}

impl Rates {
    fn figures(&self, batch_size: u16) -> Result<Vec<Figure>, Error> {
        let mut figures = Vec::new();
        for (place, (_, mix)) in MIXES.iter().enumerate() {
            let ours = sample(&self.ours[place])?;
            let theirs = sample(&self.theirs[place])?;
            let name = format!("{mix}, batches of {batch_size}");
            let figure = Figure::median(&name, "events/s", &ours).ahead_of(RIVAL, theirs.median());
            let met = figure.ratio.is_some_and(|ratio| ratio >= TIMES_FASTER);
            figures.push(figure.against(&format!("≥ {TIMES_FASTER}x faster"), met));
        }
        for (place, (_, mix)) in MIXES.iter().enumerate().take(self.limit.len()) {
            let limit = sample(&self.limit[place])?;
            let name = format!("{mix}, batches of {batch_size}, share of the limit");
            let ours = Figure::median(&name, "events/s", &sample(&self.ours[place])?);
            let figure = ours.ahead_of(REPLAY, limit.median());
            let met = figure.ratio.is_some_and(|ratio| ratio >= OF_LIMIT);
            figures.push(figure.against(&format!("≥ {OF_LIMIT}x of it"), met));
            let name = format!("{REPLAY}, {mix}, batches of {batch_size}");
            let figure = Figure::median(&name, "events/s", &limit);
            figures.push(figure.against(&format!("≥ {LIMIT}"), limit.median() >= LIMIT));
        }
        let published = sample(&self.published)?;
        let figure = Figure::median(&format!("simulator, batches of {batch_size}"), "events/s", &published);
        figures.push(if batch_size == 500 {
            figure.against(&format!("≥ {PUBLISHED}"), published.median() >= PUBLISHED)
        } else {
            figure
        });
        Ok(figures)
    }
}

fn sample(values: &[f64]) -> Result<Sample, Error> {
    Sample::new(values.to_vec()).ok_or_else(|| wrong("measure anything"))
}

fn memory(name: &str, bytes: u64, bar: f64) -> Figure {
    let most = bytes as f64 / MB;
    Figure::of(name, "MB", most).against(&format!("≤ {bar} MB"), most <= bar)
}

/// Something is not as it must be.
pub fn wrong(action: &str) -> Error {
    Error::Io { action: action.to_owned(), source: std::io::ErrorKind::InvalidData.into() }
}

impl Bench<'_> {
    /// Ours and the rival in turns.
    fn rates(&mut self, batch_size: u16) -> Result<Rates, Error> {
        let mut rates = Rates::default();
        for repeat in 0..self.extent.repeats {
            let database = self.database("ours")?;
            self.start_processor(&database)?;
            self.declare_queues()?;
            let fleet = Fleet { seed: 1 + repeat as u64, ..self.fleet(batch_size) };
            let mut events = 0;
            for (place, (mix, _)) in MIXES.iter().enumerate() {
                let filled = fleet.fill(*mix, self.interrupt)?;
                self.start_collector(USUAL_WRITERS)?;
                rates.ours[place].push(self.drain(COLLECTOR, *mix, filled)?.rate());
                self.note_memory()?;
                self.stop(COLLECTOR)?;
                if *mix == Mix::Fresh {
                    rates.published.push(filled.rate);
                    rates.batch = filled.observations as f64 / filled.messages as f64;
                }
                events += if *mix == Mix::Duplicate { 0 } else { filled.observations };
                database.expect("SELECT count(*) FROM asset WHERE state = 1", filled.active)?;
                database.expect("SELECT count(*) FROM asset_event", events)?;
            }
            // It takes a processor to be ready.
            self.declare_queues()?;
            self.stop(PROCESSOR)?;
            let fleet = Fleet { namespace: self.namespace.clone(), ..fleet };
            let database = self.database("theirs")?;
            for (place, (mix, _)) in MIXES.iter().enumerate() {
                let filled = fleet.fill(*mix, self.interrupt)?;
                self.rival.start(&mut self.session, &self.namespace, &database, self.interrupt)?;
                let drained = self.drain(rival::NAME, *mix, filled)?;
                rates.theirs[place].push(drained.rate());
                self.stop(rival::NAME)?;
                database.expect("SELECT count(*) FROM asset_state WHERE active", filled.active)?;
            }
            let mut fastest = [0.0_f64; 2];
            for clients in limit::CLIENTS {
                let database = self.database("replayed")?;
                let rates = limit::replay(self.checkout, &fleet, &database, clients, self.interrupt)?;
                fastest = [fastest[0].max(rates[0]), fastest[1].max(rates[1])];
            }
            rates.limit[0].push(fastest[0]);
            rates.limit[1].push(fastest[1]);
        }
        Ok(rates)
    }

    /// Changes in an inventory of so many assets.
    fn inventory(&mut self, assets: u32) -> Result<Drained, Error> {
        let database = self.database("ours")?;
        self.start_processor(&database)?;
        self.declare_queues()?;
        let mut fleet = self.fleet(500);
        fleet.assets = 1000;
        fleet.nodes = assets / fleet.assets;
        fleet.changes = self.extent.changes / 2;
        self.start_collector(USUAL_WRITERS)?;
        let filled = fleet.fill(Mix::Fresh, self.interrupt)?;
        self.drain(COLLECTOR, Mix::Fresh, filled)?;
        self.stop(COLLECTOR)?;
        let filled = fleet.fill(Mix::Changed, self.interrupt)?;
        self.start_collector(USUAL_WRITERS)?;
        let drained = self.drain(COLLECTOR, Mix::Fresh, filled)?;
        self.stop(COLLECTOR)?;
        self.stop(PROCESSOR)?;
        database.expect("SELECT count(*) FROM asset WHERE state = 1", filled.active)?;
        Ok(drained)
    }

    /// Listings, with so many of the collector's calls at once.
    fn writers(&mut self, writers: u8) -> Result<Drained, Error> {
        let database = self.database("ours")?;
        self.start_processor(&database)?;
        self.declare_queues()?;
        let fleet = self.fleet(500);
        let filled = fleet.fill(Mix::Fresh, self.interrupt)?;
        self.start_collector(writers)?;
        let drained = self.drain(COLLECTOR, Mix::Fresh, filled)?;
        self.stop(COLLECTOR)?;
        self.stop(PROCESSOR)?;
        Ok(drained)
    }

    /// From publishing to visible, with this load beside it.
    fn latency(&mut self, rate: f64) -> Result<Vec<Figure>, Error> {
        let database = self.database("ours")?;
        self.start_processor(&database)?;
        self.declare_queues()?;
        let fleet = self.fleet(50);
        self.start_collector(USUAL_WRITERS)?;
        let filled = fleet.fill(Mix::Fresh, self.interrupt)?;
        self.drain(COLLECTOR, Mix::Fresh, filled)?;
        let seconds = self.extent.latency_seconds;
        let figures = latency::measure(&fleet, &database, rate, seconds, self.interrupt)?;
        self.stop(COLLECTOR)?;
        self.stop(PROCESSOR)?;
        Ok(figures)
    }

    fn fleet(&self, batch_size: u16) -> Fleet {
        Fleet {
            program: self.binaries().join("assettrack"),
            amqp: self.session.urls.amqp.clone(),
            namespace: self.namespace.clone(),
            seed: 1,
            nodes: self.extent.nodes,
            assets: self.extent.assets,
            batch_size,
            changes: self.extent.changes,
            directory: self.session.instance.directory().to_owned(),
        }
    }

    fn binaries(&self) -> PathBuf {
        self.checkout.release_binaries()
    }

    /// An empty database.
    fn database(&mut self, name: &str) -> Result<Database, Error> {
        let server = postgres::server(&mut self.session.instance)?;
        Database::create(server, name)
    }

    fn start_processor(&mut self, database: &Database) -> Result<(), Error> {
        let binaries = self.binaries();
        let mut planner = Planner { checkout: self.checkout, instance: &mut self.session.instance, binaries };
        let (_, mut launch) = planner.launch(PROCESSOR, "assettrack-processor")?;
        launch.set("ASSETTRACK_DATABASE_URL", database.url());
        let port = launch.admin_port.unwrap_or_default();
        let mut started = self.session.instance.start(launch)?;
        started.await_ready(START_DEADLINE, self.interrupt, || http::ready(port))
    }

    /// Starts the collector, and does not wait until it is ready: it consumes
    /// before.
    fn start_collector(&mut self, writers: u8) -> Result<(), Error> {
        let processor = self.session.instance.port(PROCESSOR)?;
        let binaries = self.binaries();
        let mut planner = Planner { checkout: self.checkout, instance: &mut self.session.instance, binaries };
        let (_, mut launch) = planner.launch(COLLECTOR, "assettrack-collector")?;
        launch.set("ASSETTRACK_AMQP_URL", &self.session.urls.amqp);
        launch.set("ASSETTRACK_QUEUE_NAMESPACE", &self.namespace);
        launch.set("ASSETTRACK_PROCESSOR_URL", format!("http://127.0.0.1:{processor}"));
        launch.set("ASSETTRACK_INGEST_CALLS", writers.to_string());
        self.session.instance.start(launch).map(drop)
    }

    /// New queues, which a collector declares.
    fn declare_queues(&mut self) -> Result<(), Error> {
        self.namespaces += 1;
        self.namespace = format!("bench-{}", self.namespaces);
        self.start_collector(USUAL_WRITERS)?;
        let port = self.session.instance.port(&format!("{COLLECTOR}-admin"))?;
        let start = Instant::now();
        while let Err(reason) = http::ready(port) {
            if start.elapsed() > START_DEADLINE {
                return Err(wrong(&format!("see the queues declared: {reason}")));
            }
            self.interrupt.pause(Duration::from_millis(20))?;
        }
        self.stop(COLLECTOR)
    }

    fn drain(&mut self, name: &str, mix: Mix, filled: Filled) -> Result<Drained, Error> {
        let port = self.session.instance.port(&format!("{name}-admin"))?;
        let result = if mix == Mix::Duplicate { "duplicate" } else { "committed" };
        drain::watch(port, result, filled.messages, filled.observations, self.interrupt)
    }

    fn note_memory(&mut self) -> Result<(), Error> {
        let peak = |instance: &Instance, name| {
            let process = instance.state.process(name).map_or(0, |process| process.id.pid);
            Usage::of(process).map(|usage| usage.peak)
        };
        let instance = &self.session.instance;
        self.memory.collector = self.memory.collector.max(peak(instance, COLLECTOR)?);
        self.memory.processor = self.memory.processor.max(peak(instance, PROCESSOR)?);
        Ok(())
    }

    fn stop(&mut self, name: &str) -> Result<(), Error> {
        self.session.instance.stop(name, Signal::SIGTERM, STOP_GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rates, memory};

    #[test]
    fn rates_are_held_against_the_rival_and_the_bar() {
        let rates = |ours: f64| Rates {
            ours: [vec![ours, ours, 1.0], vec![ours], vec![ours]],
            theirs: [vec![100.0], vec![100.0], vec![100.0]],
            limit: [vec![60_000.0], vec![ours]],
            published: vec![200_000.0],
            batch: 50.0,
        };
        for (ours, met) in [(150.0, true), (149.0, false)] {
            let figures = rates(ours).figures(500).unwrap();
            assert_eq!(figures[0].name, "fresh, batches of 500");
            assert_eq!((figures[0].value, figures[0].met), (ours, Some(met)));
            assert_eq!(figures[0].ratio, Some(ours / 100.0));
            let met: Vec<Option<bool>> = figures[3..].iter().map(|figure| figure.met).collect();
            assert_eq!(met, [Some(false), Some(true), Some(true), Some(false), Some(true)]);
        }
        assert!(rates(1.0).figures(50).unwrap().last().unwrap().bar.is_none());
        assert!(Rates::default().figures(50).is_err());
    }

    #[test]
    fn memory_is_held_against_its_bar() {
        assert_eq!(memory("m", 40_000_000, 40.0).met, Some(true));
        assert_eq!(memory("m", 40_100_000, 40.0).met, Some(false));
    }
}
