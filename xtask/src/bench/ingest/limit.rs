//! PostgreSQL's own speed: the same batches, folded beforehand, by clients that do
//! nothing but run the statements of ingest (`processor/benches/replay.rs`).

use std::process::Command;

use serde_json::Value;

use crate::{checkout::Checkout, command, error::Error, interrupt::Interrupt};

use super::{Mix, database::Database, fleet::Fleet, wrong};

/// How many clients are tried; on two cores more than three were never faster.
pub const CLIENTS: [u8; 2] = [2, 3];
/// Observations a statement: what the collector sends in a call.
const OBSERVATIONS: &str = "500";

/// Builds it as the processor is shipped.
pub fn build(checkout: &Checkout, interrupt: &Interrupt) -> Result<(), Error> {
    command::run(cargo(checkout).arg("--no-run"), interrupt)
}

fn cargo(checkout: &Checkout) -> Command {
    let mut cargo = checkout.cargo();
    cargo.args(["bench", "--quiet", "--package", "assettrack-processor", "--bench", "replay"]);
    cargo
}

/// Events a second of a fleet's listings, then of its changes, on an empty
/// database.
pub fn replay(
    checkout: &Checkout,
    fleet: &Fleet,
    database: &Database,
    clients: u8,
    interrupt: &Interrupt,
) -> Result<[f64; 2], Error> {
    let files = [fleet.record(Mix::Fresh, interrupt)?, fleet.record(Mix::Changed, interrupt)?];
    let mut replay = cargo(checkout);
    replay.arg("--").args(["--database-url", &database.url()]);
    replay.args(["--clients", &clients.to_string(), "--observations", OBSERVATIONS]).args(&files);
    let text = command::output(&mut replay)?;
    rates(&text).ok_or_else(|| wrong("understand what the replay says"))
}

/// A line of JSON for each file.
fn rates(text: &str) -> Option<[f64; 2]> {
    let mut rates = text.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["events_per_second"].as_f64()
    });
    Some([rates.next()?, rates.next()?])
}

#[cfg(test)]
mod tests {
    use super::rates;

    #[test]
    fn the_rates_are_read_in_the_order_of_the_files() {
        let text = "{\"events_per_second\": 10}\n{\"events_per_second\": 20.5}\n";
        assert_eq!(rates(text), Some([10.0, 20.5]));
        assert_eq!(rates("{\"events_per_second\": 10}\nerror"), None);
    }
}
