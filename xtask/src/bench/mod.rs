//! `cargo xtask bench`: measures, beside other tools on the same load, and keeps
//! the figures in `bench/results/`.

mod agent;
mod api;
mod containers;
mod cri;
pub mod figures;
mod found;
mod idle;
mod ingest;
pub mod machine;
mod packages;
mod process;
mod statistics;

use crate::{
    checkout::Checkout,
    cli::{Bench, Suite},
    error::Error,
    interrupt::Interrupt,
    progress::Progress,
};

/// Runs a suite, keeps its figures and prints them. A bar that is not met is shown
/// and is no error.
pub fn run(checkout: &Checkout, options: &Bench, interrupt: &Interrupt) -> Result<(), Error> {
    let progress = Progress::start();
    let (name, run) = match options.suite {
        Suite::Ingest => {
            let extent = ingest::Extent::new(options.quick);
            ("ingest", ingest::measure(checkout, extent, interrupt, &progress)?)
        }
        Suite::Api => ("api", api::measure(checkout, options.quick, interrupt, &progress)?),
        Suite::Agent => ("agent", agent::measure(checkout, options.seconds, interrupt, &progress)?),
    };
    let path = checkout.root().join("bench/results").join(format!("{name}.json"));
    figures::keep(&path, &run)?;
    println!("\n{}", figures::table(&run));
    println!("kept in bench/results/{name}.json");
    Ok(())
}
