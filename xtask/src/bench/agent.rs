//! The agent's footprint and its first scan, beside prometheus-node-exporter and
//! FusionInventory on the same node.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    apt,
    bench::{
        containers::Containers,
        figures::{Figure, Run},
        found,
        idle::{self, Idleness, Subject},
        machine, packages,
        process::ended_children,
        statistics::Sample,
    },
    build,
    checkout::Checkout,
    command::describe,
    error::{Context, Error},
    http,
    instance::{Instance, Launch},
    interrupt::Interrupt,
    need::{self, Need},
    process::Signal,
    progress::Progress,
    servers::{Durability, Given},
    services::Planner,
    session::Session,
};

/// The bars (and the load that they are promised for).
const PACKAGES: usize = 1000;
const CONTAINERS: usize = 50;
const MEMORY_MB: f64 = 16.0;
const PROCESSOR_PERCENT: f64 = 0.3;
const TIMES_FASTER: f64 = 10.0;

/// Runs of each scan.
const RUNS: usize = 5;
const START_DEADLINE: Duration = Duration::from_secs(90);
/// Time between two looks where milliseconds are measured.
const QUICK_LOOK: Duration = Duration::from_millis(2);
/// Rest before what is called idle.
const REST: Duration = Duration::from_secs(5);

const AGENT: &str = "agent";
const COLLECTOR: &str = "collector-1";
const NODE_EXPORTER: &str = "prometheus-node-exporter";
const FUSION_INVENTORY: &str = "fusioninventory-inventory";
/// The same without its arguments.
const FUSION_PACKAGE: &str = "fusioninventory-agent";

/// Measures all of it.
pub fn measure(
    checkout: &Checkout,
    seconds: u64,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Run, Error> {
    let commit = machine::commit(checkout)?;
    let given = Given::broker_only();
    let mut needs = vec![Need::Compiler, Need::NodeExporter, Need::FusionInventory, Need::Containerd];
    needs.extend(given.needs());
    progress.part("tools", || need::provide(&needs, checkout, interrupt, progress))?;
    progress.part("build as shipped", || {
        build::small(checkout, &["assettrack-agent", "assettrack-collector"], interrupt)
    })?;
    let mut session = Session::start(checkout, "bench", given, Durability::Thrown, interrupt, progress)?;
    let mut load = vec![packages::show(PACKAGES, session.instance.directory())?];
    let containers =
        progress.part("containers", || Containers::start(CONTAINERS, &mut session.instance, interrupt))?;
    load.push(match &containers {
        Ok(containers) => format!("{} running containers of a private containerd", containers.count),
        Err(absence) => format!("no containers: {absence}"),
    });

    let bench = Bench {
        checkout,
        socket: containers.as_ref().ok().map(|containers| containers.socket().to_owned()),
        amqp: session.urls.amqp.clone(),
        interrupt,
    };
    bench.start_collector(&mut session.instance)?;
    let mut figures = Vec::new();
    let scans = progress.part("scans", || bench.scans())?;
    let starts = progress.part("starts of the agent", || bench.starts(&mut session.instance))?;
    let idle = progress.part("idle", || bench.idle(&mut session.instance, seconds))?;
    let [ours, theirs] = idle.as_slice() else { return Err(Error::Missing(Vec::new())) };
    idle_figures(&mut figures, ours, theirs);
    scan_figures(&mut figures, &scans, &starts);
    let mut versions = vec![("assettrack-agent".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    let others = [NODE_EXPORTER, FUSION_PACKAGE, "containerd", "runc", "rabbitmq-server"];
    versions.extend(machine::versions(&others));
    // Pods go while their runtime is there.
    drop(containers);
    Ok(Run { commit, machine: machine::describe(), versions, load, figures })
}

struct Bench<'a> {
    checkout: &'a Checkout,
    /// Of the container runtime.
    socket: Option<PathBuf>,
    amqp: String,
    interrupt: &'a Interrupt,
}

/// Times and findings of ours and FusionInventory's scans.
struct Scans {
    ours: Times,
    theirs: Times,
    /// What is found: its name, ours, theirs.
    found: Vec<(&'static str, usize, usize)>,
}

struct Times {
    wall: Sample,
    processor: Sample,
}

impl Bench<'_> {
    /// The broker's queues are declared by a collector; batches then stay in them,
    /// as there is no processor to take them.
    fn start_collector(&self, instance: &mut Instance) -> Result<(), Error> {
        let (_, mut launch) = self.planner(instance).launch(COLLECTOR, "assettrack-collector")?;
        launch.set("ASSETTRACK_AMQP_URL", &self.amqp);
        launch.set("ASSETTRACK_PROCESSOR_URL", "http://127.0.0.1:1");
        let port = launch.admin_port.unwrap_or_default();
        instance.start(launch)?.await_ready(START_DEADLINE, self.interrupt, || {
            http::body(port, "/livez").map(drop).ok_or_else(|| "/livez does not answer".to_owned())
        })
    }

    /// Both scan in turns. The first turn only fills the caches.
    fn scans(&self) -> Result<Scans, Error> {
        let agent = self.checkout.small_binaries().join("assettrack-agent");
        let fusion = apt::find_in_path(FUSION_INVENTORY).unwrap_or_else(|| FUSION_INVENTORY.into());
        let socket = self.socket.as_ref().map(|socket| socket.display().to_string());
        let mut arguments = vec!["scan", "--output", "json"];
        if let Some(socket) = &socket {
            arguments.extend(["--cri-socket", socket]);
        }
        let ours = || timed(Command::new(&agent).args(&arguments));
        let theirs = || timed(&mut Command::new(&fusion));
        let (our_output, their_output) = (ours()?.output, theirs()?.output);
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            self.interrupt.check()?;
            our_times.push(ours()?);
            their_times.push(theirs()?);
        }
        let assets = found::ours(&our_output).ok_or_else(|| Error::Io {
            action: "read the agent's JSON".to_owned(),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        let sections = found::theirs(&String::from_utf8_lossy(&their_output));
        let found = found::KINDS
            .into_iter()
            .map(|(kind, section, name)| {
                let ours = assets.get(kind).copied().unwrap_or_default();
                (name, ours, sections.get(section).copied().unwrap_or_default())
            })
            .collect();
        Ok(Scans { ours: times(&our_times)?, theirs: times(&their_times)?, found })
    }

    /// Starts the agent on nothing, several times; the last one goes on to run.
    fn starts(&self, instance: &mut Instance) -> Result<Sample, Error> {
        let mut seconds = Vec::new();
        for _ in 0..RUNS {
            instance.stop(AGENT, Signal::SIGTERM, Duration::from_secs(10))?;
            let store = instance.directory().join(AGENT);
            if store.exists() {
                fs::remove_dir_all(&store).on("remove", &store)?;
            }
            let launch = self.agent(instance, store)?;
            let port = launch.admin_port.unwrap_or_default();
            let start = Instant::now();
            let mut started = instance.start(launch)?;
            while http::ready(port).is_err() && start.elapsed() < START_DEADLINE {
                self.interrupt.check()?;
                thread::sleep(QUICK_LOOK);
            }
            seconds.push(start.elapsed().as_secs_f64());
            // Tells what is wrong, if it is.
            started.await_ready(START_DEADLINE, self.interrupt, || http::ready(port))?;
        }
        sample(seconds)
    }

    /// Watches the running agent and a node exporter.
    fn idle(&self, instance: &mut Instance, seconds: u64) -> Result<Vec<Idleness>, Error> {
        let port = instance.port(NODE_EXPORTER)?;
        let program = apt::find_in_path(NODE_EXPORTER).unwrap_or_else(|| NODE_EXPORTER.into());
        let mut exporter = instance.start(Launch {
            name: NODE_EXPORTER.to_owned(),
            program,
            arguments: vec![format!("--web.listen-address=127.0.0.1:{port}").into()],
            environment: Vec::new(),
            hidden: Vec::new(),
            account: None,
            directory: self.checkout.root().to_owned(),
            port: Some(port),
            admin_port: None,
        })?;
        let answers = || http::body(port, "/metrics").map(drop).ok_or_else(|| "no metrics".to_owned());
        exporter.await_ready(START_DEADLINE, self.interrupt, answers)?;
        let agent_port = instance.port(&format!("{AGENT}-admin"))?;
        await_confirmed(agent_port, self.interrupt)?;
        let subject = |name: &str, metrics| {
            let process = instance.state.process(name);
            Subject { pid: process.map_or(0, |process| process.id.pid), metrics }
        };
        let subjects = [subject(AGENT, agent_port), subject(NODE_EXPORTER, port)];
        let rest = Instant::now();
        while rest.elapsed() < REST {
            self.interrupt.pause(Duration::from_millis(100))?;
        }
        idle::watch(&subjects, Duration::from_secs(seconds), self.interrupt)
    }

    fn agent(&self, instance: &mut Instance, store: PathBuf) -> Result<Launch, Error> {
        let (_, mut launch) = self.planner(instance).launch(AGENT, "assettrack-agent")?;
        launch.set("ASSETTRACK_AMQP_URL", &self.amqp);
        launch.set("ASSETTRACK_STORE_DIR", store);
        launch.set("ASSETTRACK_HOST_ROOT", "/");
        if let Some(socket) = &self.socket {
            launch.set("ASSETTRACK_CRI_SOCKET", socket);
        }
        Ok(launch)
    }

    fn planner<'a>(&'a self, instance: &'a mut Instance) -> Planner<'a> {
        Planner { checkout: self.checkout, instance, binaries: self.checkout.small_binaries() }
    }
}

/// Waits until the broker has all that the agent has found.
fn await_confirmed(port: u16, interrupt: &Interrupt) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        let metrics = http::body(port, "/metrics").unwrap_or_default();
        if metrics.lines().any(|line| line == "assettrack_agent_outbox_batches 0") {
            return Ok(());
        }
        if start.elapsed() > START_DEADLINE {
            return Err(Error::Io {
                action: "see the agent's batches confirmed".to_owned(),
                source: std::io::ErrorKind::TimedOut.into(),
            });
        }
        interrupt.pause(Duration::from_millis(50))?;
    }
}

struct Timed {
    wall: f64,
    processor: f64,
    output: Vec<u8>,
}

/// Runs a program to its end. Nothing else of ours may end meanwhile.
fn timed(command: &mut Command) -> Result<Timed, Error> {
    let what = describe(command);
    let before = ended_children()?;
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().trying(|| format!("run {what}"))?;
    let wall = start.elapsed().as_secs_f64();
    let processor = ended_children()?.saturating_sub(before).as_secs_f64();
    if !output.status.success() {
        let output_text = format!("\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
        return Err(Error::Command { command: what, status: output.status.to_string(), output: output_text });
    }
    Ok(Timed { wall, processor, output: output.stdout })
}

fn times(runs: &[Timed]) -> Result<Times, Error> {
    Ok(Times {
        wall: sample(runs.iter().map(|run| run.wall).collect())?,
        processor: sample(runs.iter().map(|run| run.processor).collect())?,
    })
}

fn sample(values: Vec<f64>) -> Result<Sample, Error> {
    Sample::new(values).ok_or_else(|| Error::Io {
        action: "measure anything".to_owned(),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

fn idle_figures(figures: &mut Vec<Figure>, ours: &Idleness, theirs: &Idleness) {
    const MB: f64 = 1e6;
    let in_mb = |sample: &Sample| (sample.least() / MB, sample.most() / MB);
    let most = ours.resident.most() / MB;
    let mut figure = Figure::of("idle, resident memory, most", "MB", most)
        .beside(NODE_EXPORTER, theirs.resident.most() / MB)
        .against(
            &format!("≤ {MEMORY_MB} MB and less than the rival"),
            most <= MEMORY_MB && ours.resident.most() < theirs.resident.most(),
        );
    figure.spread = Some(in_mb(&ours.resident));
    figures.push(figure);
    figures.push(
        Figure::of("idle, resident memory, median", "MB", ours.resident.median() / MB)
            .beside(NODE_EXPORTER, theirs.resident.median() / MB),
    );
    if let (Some(ours), Some(theirs)) = (&ours.proportional, &theirs.proportional) {
        let mut figure = Figure::of("idle, proportional memory (PSS), median", "MB", ours.median() / MB)
            .beside(NODE_EXPORTER, theirs.median() / MB);
        figure.spread = Some(in_mb(ours));
        figures.push(figure);
    }
    figures.push(
        Figure::of("resident memory at its peak since start", "MB", ours.peak as f64 / MB)
            .beside(NODE_EXPORTER, theirs.peak as f64 / MB),
    );
    figures.push(
        Figure::of("idle, processor time of one core", "%", ours.processor)
            .beside(NODE_EXPORTER, theirs.processor)
            .against(&format!("≤ {PROCESSOR_PERCENT} %"), ours.processor <= PROCESSOR_PERCENT),
    );
}

fn scan_figures(figures: &mut Vec<Figure>, scans: &Scans, starts: &Sample) {
    let wall = Figure::median("first full scan", "s", &scans.ours.wall)
        .beside(FUSION_PACKAGE, scans.theirs.wall.median());
    let met = wall.ratio.is_some_and(|ratio| ratio >= TIMES_FASTER);
    figures.push(wall.against(&format!("≥ {TIMES_FASTER}x faster"), met));
    figures.push(
        Figure::median("first full scan, processor time", "s", &scans.ours.processor)
            .beside(FUSION_PACKAGE, scans.theirs.processor.median()),
    );
    figures.push(
        Figure::median("agent from start to first scan recorded", "s", starts)
            .beside(FUSION_PACKAGE, scans.theirs.wall.median()),
    );
    for (name, ours, theirs) in &scans.found {
        let mut figure =
            Figure::of(&format!("found: {name}"), "", *ours as f64).beside(FUSION_PACKAGE, *theirs as f64);
        // More is not faster.
        figure.ratio = None;
        figures.push(figure);
    }
}

#[cfg(test)]
mod tests {
    use super::{Idleness, Sample, Scans, Times, idle_figures, scan_figures};
    use crate::bench::figures::Figure;

    fn idleness(megabytes: f64, processor: f64) -> Idleness {
        let resident = Sample::new(vec![megabytes * 1e6, megabytes * 1e6 - 1e6]).unwrap();
        Idleness { proportional: Some(resident.clone()), resident, peak: 20_000_000, processor }
    }

    fn named<'a>(figures: &'a [Figure], start: &str) -> &'a Figure {
        figures.iter().find(|figure| figure.name.starts_with(start)).unwrap()
    }

    #[test]
    fn idle_bars_are_met_by_the_limit_and_by_the_rival() {
        for (ours, theirs, memory, processor) in [
            ((15.9, 0.3), (20.0, 0.1), true, true),
            ((16.1, 0.31), (20.0, 9.0), false, false),
            ((12.0, 0.0), (11.9, 0.0), false, true),
        ] {
            let mut figures = Vec::new();
            idle_figures(&mut figures, &idleness(ours.0, ours.1), &idleness(theirs.0, theirs.1));
            assert_eq!(named(&figures, "idle, resident memory, most").met, Some(memory), "{ours:?}");
            assert_eq!(named(&figures, "idle, processor").met, Some(processor), "{ours:?}");
        }
    }

    #[test]
    fn a_scan_must_be_ten_times_faster_than_the_rivals() {
        let times = |wall| Times {
            wall: Sample::new(vec![wall]).unwrap(),
            processor: Sample::new(vec![wall]).unwrap(),
        };
        for (ours, theirs, met) in [(0.1, 1.0, true), (0.1, 0.99, false)] {
            let scans = Scans { ours: times(ours), theirs: times(theirs), found: vec![("disks", 2, 1)] };
            let mut figures = Vec::new();
            scan_figures(&mut figures, &scans, &Sample::new(vec![0.2]).unwrap());
            assert_eq!(named(&figures, "first full scan").met, Some(met));
            let found = named(&figures, "found: disks");
            assert_eq!((found.value, found.rival_value, found.ratio), (2.0, Some(1.0), None));
        }
    }
}
