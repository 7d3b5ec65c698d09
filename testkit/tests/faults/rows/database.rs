//! A database of the row's own that crashes, goes read-only, and is replaced by
//! its standby.

use std::time::Instant;

use rand::RngExt as _;
use testkit::{authority, private::Postgres};

use crate::{
    bed::{Bed, Ground, PATIENCE},
    fleet::Fleet,
    oracle::check,
    row::{self, Run},
};

async fn stage(run: &mut Run) -> (Postgres, Bed, Fleet) {
    let database = Postgres::start().await;
    let bed = Bed::start(Ground { amqp: None, database: Some(database.url()) }).await;
    let fleet = bed.fleet(run.seed);
    fleet.confirms(run.rng.random_range(20..120)).await;
    (database, bed, fleet)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_is_waited_for() {
    row::run("database_restarted", async |run| {
        let (mut database, mut bed, fleet) = stage(run).await;
        for _ in 0..if run.short { 1 } else { 4 } {
            run.faults += 1;
            database.stop_immediately().await;
            fleet.reports(run.rng.random_range(5..30)).await;
            database.start_again().await;
            let took = bed.seen(&fleet.fresh(), Instant::now()).await;
            run.recovered("the database's start after an immediate stop", took);
            fleet.confirms(run.rng.random_range(20..120)).await;
        }
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_waited_for_and_makes_no_dead_letter() {
    row::run("database_read_only", async |run| {
        let (database, mut bed, fleet) = stage(run).await;
        for turn in 0..if run.short { 1 } else { 4 } {
            run.faults += 1;
            let before = bed.processor.log().matches("read-only transaction").count();
            database.read_only(true).await;
            testkit::wait_until(PATIENCE, "a refused transaction", async || {
                bed.processor.log().matches("read-only transaction").count() > before
            })
            .await;
            fleet.reports(run.rng.random_range(5..30)).await;
            database.read_only(false).await;
            let took = bed.seen(&fleet.fresh(), Instant::now()).await;
            run.recovered(&format!("the end of read-only {turn}"), took);
        }
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_synchronous_standby_has_lost_nothing() {
    row::run("database_promoted", async |run| {
        let (mut primary, mut bed, fleet) = stage(run).await;
        let standby = primary.synchronous_standby().await;
        fleet.confirms(run.rng.random_range(20..120)).await;
        run.faults += 1;
        primary.kill();
        standby.promote().await;
        bed.database_url = standby.url();
        bed.lines.processor_database.redirect(authority(&standby.url()).to_owned());
        let took = bed.seen(&fleet.fresh(), Instant::now()).await;
        run.recovered("the standby's promotion", took);
        fleet.confirms(50).await;
        bed.all_ready().await;
        check(run, &bed, &[&fleet], 0).await;
    })
    .await;
}
