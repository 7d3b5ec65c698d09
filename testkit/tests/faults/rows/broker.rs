//! A broker of the row's own that is killed, restarted, and out of memory or disk.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use testkit::private::Broker;

use crate::{
    agent::Agent,
    bed::{Bed, Ground},
    fleet::Fleet,
    oracle::check,
    row::{self, Run},
};

/// A publish is given up after 10 s; the rest is for the agent to say so.
const DEADLINE: Duration = Duration::from_secs(15);

struct Stage {
    broker: Broker,
    bed: Bed,
    agent: Agent,
    fleet: Fleet,
}

impl Stage {
    async fn set(run: &mut Run) -> Self {
        let broker = Broker::start().await;
        let bed = Bed::start(Ground { amqp: Some(broker.url()), database: None }).await;
        let agent = Agent::start(&bed).await;
        let fleet = bed.fleet(run.seed);
        fleet.confirms(run.rng.random_range(20..120)).await;
        Self { broker, bed, agent, fleet }
    }

    /// The fault has ended: what a real agent and a simulated one saw meanwhile
    /// and see now must come through.
    async fn healed(&mut self, run: &mut Run, after: &str) {
        let since = Instant::now();
        self.agent.install(&format!("healed-{}", run.faults));
        let (fleet, agent) = (self.fleet.fresh(), format!("healed-{}", run.faults));
        let (fleet, agent) = tokio::join!(self.bed.seen(&fleet, since), self.bed.seen(&agent, since));
        run.recovered(&format!("{after}, simulated node"), fleet);
        run.recovered(&format!("{after}, real agent"), agent);
    }

    async fn end(mut self, run: &mut Run) {
        self.bed.all_ready().await;
        check(run, &self.bed, &[&self.fleet], 0).await;
        self.agent.check(run, &self.bed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_loses_nothing_that_it_confirmed() {
    row::run("broker_killed", async |run| {
        let mut stage = Stage::set(run).await;
        for _ in 0..if run.short { 1 } else { 3 } {
            run.faults += 1;
            stage.agent.burst(u32::try_from(run.faults).unwrap()).await;
            stage.broker.kill();
            stage.agent.install(&format!("while-killed-{}", run.faults));
            stage.agent.disconnected(DEADLINE).await;
            stage.broker.start_again().await;
            stage.healed(run, "the broker's start after a kill").await;
            stage.fleet.confirms(run.rng.random_range(20..120)).await;
        }
        stage.end(run).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_restarted_loses_nothing() {
    row::run("broker_restarted", async |run| {
        if run.short {
            println!(
                "SKIPPED broker_restarted: a restart is milder than the kill; `cargo xtask faults` runs it"
            );
            return;
        }
        let mut stage = Stage::set(run).await;
        for _ in 0..2 {
            run.faults += 1;
            stage.broker.stop().await;
            stage.agent.install(&format!("while-stopped-{}", run.faults));
            stage.agent.disconnected(DEADLINE).await;
            stage.broker.start_again().await;
            stage.healed(run, "the broker's restart").await;
        }
        stage.end(run).await;
    })
    .await;
}

async fn alarm(run: &mut Run, disk: bool) {
    let mut stage = Stage::set(run).await;
    let name = if disk { "disk alarm" } else { "memory alarm" };
    run.faults += 1;
    let set = async |stage: &Stage, on| {
        if disk { stage.broker.disk_alarm(on).await } else { stage.broker.memory_alarm(on).await }
    };
    set(&stage, true).await;
    let asked = Instant::now();
    stage.agent.install("while-alarmed");
    // No publish waits past its deadline: the agent gives it up and says why.
    stage.agent.disconnected(DEADLINE).await;
    println!("  {name}: the agent gave up publishing after {:.1} s", asked.elapsed().as_secs_f64());
    let waits = stage.agent.status().await.unwrap();
    run.holds(waits.outbox_batches > 0, || format!("the outbox is empty during the {name}"));
    set(&stage, false).await;
    stage.healed(run, &format!("the end of the {name}")).await;
    stage.end(run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_memory_alarm_of_the_broker_no_publish_waits_past_its_deadline() {
    row::run("broker_memory_alarm", async |run| alarm(run, false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_disk_alarm_of_the_broker_no_publish_waits_past_its_deadline() {
    row::run("broker_disk_alarm", async |run| {
        if run.short {
            println!(
                "SKIPPED broker_disk_alarm: blocks as the memory alarm does; `cargo xtask faults` runs it"
            );
            return;
        }
        alarm(run, true).await;
    })
    .await;
}
