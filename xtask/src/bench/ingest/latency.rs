//! From publishing to visible for another session of the database, while a fleet
//! keeps the pipeline busy.

use std::time::Duration;

use crate::{bench::figures::Figure, command, error::Error, interrupt::Interrupt};

use super::{database::Database, fleet::Fleet, wrong};

/// The bars in milliseconds.
const MEDIAN_MILLIS: f64 = 150.0;
const P99_MILLIS: f64 = 1000.0;
/// Cluster of the node whose events are watched.
const PROBE: &str = "probe";
/// The load runs for this long before, and after.
const MARGIN_SECONDS: u64 = 4;

/// Watches the events of one node for `seconds`, with `rate` observations a second
/// of others beside them.
pub fn measure(
    fleet: &Fleet,
    database: &Database,
    rate: f64,
    seconds: u64,
    interrupt: &Interrupt,
) -> Result<Vec<Figure>, Error> {
    let probe = Fleet { nodes: 1, assets: 20, seed: 99, ..fleet.clone() };
    let lifetime = seconds + 2 * MARGIN_SECONDS;
    let _load = fleet.live("load", rate / f64::from(fleet.nodes), lifetime)?;
    let _probe = probe.live(PROBE, 15.0, lifetime)?;
    interrupt.pause(Duration::from_secs(MARGIN_SECONDS))?;
    let text = command::output(database.psql().args(["--command", &watch(seconds), "--command", SUMMARY]))?;
    let [count, median, p99, most] = numbers(&text).ok_or_else(|| wrong("see any event of the probe"))?;
    let name = |what: &str| format!("publish → visible, {what}, at {rate:.0} events/s");
    Ok(vec![
        Figure::of(&name("median"), "ms", median)
            .against(&format!("≤ {MEDIAN_MILLIS} ms"), median <= MEDIAN_MILLIS),
        Figure::of(&name("99th percentile"), "ms", p99)
            .against(&format!("≤ {P99_MILLIS} ms"), p99 <= P99_MILLIS),
        Figure::of(&name("most"), "ms", most),
        Figure::of("events of the probe", "", count),
    ])
}

/// Looks each 5 ms; what was there at the first look does not count.
fn watch(seconds: u64) -> String {
    format!(
        "CREATE TABLE seen (event uuid PRIMARY KEY, millis double precision);
         DO $$
         DECLARE
             probe uuid := (SELECT uid FROM node WHERE cluster = '{PROBE}');
             until timestamptz := clock_timestamp() + interval '{seconds} s';
         BEGIN
             INSERT INTO seen SELECT event_uid, NULL FROM asset_event WHERE node_uid = probe;
             WHILE clock_timestamp() < until LOOP
                 INSERT INTO seen
                 SELECT event_uid, extract(epoch FROM clock_timestamp() - observe_time) * 1000
                 FROM asset_event
                 WHERE node_uid = probe AND record_time > clock_timestamp() - interval '60 s'
                 ON CONFLICT DO NOTHING;
                 PERFORM pg_sleep(0.005);
             END LOOP;
         END $$"
    )
}

const SUMMARY: &str = "SELECT count(millis), percentile_cont(0.5) WITHIN GROUP (ORDER BY millis), \
     percentile_cont(0.99) WITHIN GROUP (ORDER BY millis), max(millis) FROM seen WHERE millis IS NOT NULL";

/// The four numbers of the last line.
fn numbers(text: &str) -> Option<[f64; 4]> {
    let line = text.lines().rfind(|line| line.contains('|'))?;
    let numbers: Vec<f64> = line.split('|').filter_map(|number| number.trim().parse().ok()).collect();
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn the_summary_is_read_and_nothing_seen_is_no_measurement() {
        assert_eq!(numbers("DO\n300|12.5|80.25|91\n"), Some([300.0, 12.5, 80.25, 91.0]));
        assert_eq!(numbers("DO\n0|||\n"), None);
        assert_eq!(numbers(""), None);
    }
}
