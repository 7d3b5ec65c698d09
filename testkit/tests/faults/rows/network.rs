//! Lines that are cut, slow, or silent.

use std::time::{Duration, Instant};

use rand::{RngExt as _, seq::SliceRandom as _};
use testkit::{Proxy, Service, wait_until};

use crate::{
    agent::Agent,
    bed::{Bed, Ground, Lines, PATIENCE},
    fleet::Fleet,
    oracle::check,
    row::{self, Run},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    AgentBroker,
    CollectorBroker,
    CollectorProcessor,
    ProcessorDatabase,
}

impl Line {
    const ALL: [Self; 4] =
        [Self::AgentBroker, Self::CollectorBroker, Self::CollectorProcessor, Self::ProcessorDatabase];

    fn of(self, lines: &Lines) -> &Proxy {
        match self {
            Self::AgentBroker => &lines.agent_broker,
            Self::CollectorBroker => &lines.collector_broker,
            Self::CollectorProcessor => &lines.collector_processor,
            Self::ProcessorDatabase => &lines.processor_database,
        }
    }
}

async fn stage(run: &mut Run) -> (Bed, Agent, Fleet) {
    let bed = Bed::start(Ground::default()).await;
    let agent = Agent::start(&bed).await;
    let fleet = bed.fleet(run.seed);
    fleet.confirms(run.rng.random_range(20..120)).await;
    (bed, agent, fleet)
}

async fn healed(run: &mut Run, bed: &Bed, agent: &mut Agent, fleet: &Fleet, after: &str) {
    let since = Instant::now();
    let (fresh, package) = (fleet.fresh(), format!("healed-{}", run.faults));
    agent.install(&package);
    let (simulated, real) = tokio::join!(bed.seen(&fresh, since), bed.seen(&package, since));
    run.recovered(&format!("{after}, simulated node"), simulated);
    run.recovered(&format!("{after}, real agent"), real);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_loses_nothing() {
    row::run("network_cut", async |run| {
        let (mut bed, mut agent, fleet) = stage(run).await;
        let mut lines = Line::ALL;
        lines.shuffle(&mut run.rng);
        for line in lines {
            run.faults += 1;
            line.of(&bed.lines).cut();
            agent.install(&format!("while-cut-{}", run.faults));
            fleet.reports(run.rng.random_range(5..40)).await;
            line.of(&bed.lines).carry();
            healed(run, &bed, &mut agent, &fleet, &format!("{line:?} cut")).await;
        }
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
        agent.check(run, &bed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_lines_lose_nothing() {
    row::run("network_latency", async |run| {
        let (mut bed, mut agent, fleet) = stage(run).await;
        run.faults += 1;
        for line in Line::ALL {
            let most = if line == Line::ProcessorDatabase { 30 } else { 200 };
            line.of(&bed.lines).slow(Duration::from_millis(run.rng.random_range(5..=most)));
        }
        fleet.reports(run.rng.random_range(20..60)).await;
        for line in Line::ALL {
            line.of(&bed.lines).carry();
        }
        healed(run, &bed, &mut agent, &fleet, "latency on all lines").await;
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
        agent.check(run, &bed).await;
    })
    .await;
}

/// Connections stay open and carry nothing, until that has been noticed. In a
/// short run only the broker's lines, where heartbeats find it within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed_and_built_anew() {
    row::run("network_half_open", async |run| {
        let (mut bed, mut agent, fleet) = stage(run).await;
        let line = Line::ALL[if run.short { run.rng.random_range(0..2) } else { run.turn % 4 }];
        run.faults += 1;
        let told = |bed: &Bed, text: &str| {
            bed.collectors
                .iter()
                .chain([&bed.processor])
                .map(|one| one.log().matches(text).count())
                .sum::<usize>()
        };
        let sign = match line {
            Line::AgentBroker => "",
            Line::CollectorBroker => "the connection to the broker is given up",
            Line::CollectorProcessor => "a call to the processor failed",
            Line::ProcessorDatabase => "nothing ingested",
        };
        let before = told(&bed, sign);
        line.of(&bed.lines).silence();
        let began = Instant::now();
        agent.install("while-silent");
        if line == Line::AgentBroker {
            agent.disconnected(PATIENCE).await;
        } else {
            wait_until(PATIENCE, &format!("{line:?} to be known as dead"), async || {
                told(&bed, sign) > before
            })
            .await;
        }
        println!("  {line:?}: noticed after {:.1} s", began.elapsed().as_secs_f64());
        line.of(&bed.lines).carry();
        healed(run, &bed, &mut agent, &fleet, &format!("{line:?} half open")).await;
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
        agent.check(run, &bed).await;
    })
    .await;
}

/// Until pauses between attempts are at their longest, and until the processor
/// counts as away: even then what is fresh is seen within the bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_long_outage_a_fresh_event_is_seen_as_soon() {
    row::run("network_long_cut", async |run| {
        if run.short {
            println!("SKIPPED network_long_cut: takes minutes; `cargo xtask faults` runs it");
            return;
        }
        let (mut bed, mut agent, fleet) = stage(run).await;
        run.faults += 1;
        let to_broker = run.turn % 2 == 0;
        let lines = if to_broker { &Line::ALL[..2] } else { &Line::ALL[3..] };
        for line in lines {
            line.of(&bed.lines).cut();
        }
        agent.install("while-cut");
        let attempts = |service: &Service, text: &str| service.log().matches(text).count();
        wait_until(PATIENCE, "the longest pauses", async || {
            let away = |one| attempts(one, "the processor stays away") > 0;
            let lost = |one| attempts(one, "the connection to the broker is given up") > 7;
            let cut_off = attempts(&agent.service, "not connected to the broker") > 6;
            if to_broker {
                cut_off && bed.collectors.iter().all(lost)
            } else {
                bed.collectors.iter().any(away)
            }
        })
        .await;
        for line in lines {
            line.of(&bed.lines).carry();
        }
        healed(run, &bed, &mut agent, &fleet, &format!("a long cut of {lines:?}")).await;
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
        agent.check(run, &bed).await;
    })
    .await;
}
