//! What the steps came to.

use std::{process::ExitCode, time::Instant};

use crate::{error::Error, test::Counts};

/// Prints each step as it ends and keeps the sum.
#[derive(Debug)]
pub struct Report {
    start: Instant,
    sum: Counts,
    failed: Vec<String>,
}

impl Report {
    pub fn new() -> Self {
        Self { start: Instant::now(), sum: Counts::default(), failed: Vec::new() }
    }

    /// Does what tests need before they can run. It is counted only when it fails;
    /// then the answer is `None`.
    pub fn prepare<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let start = Instant::now();
        println!("\n== {name}");
        match work() {
            Ok(done) => {
                println!("ready {name} ({:.1} s)", start.elapsed().as_secs_f64());
                Ok(Some(done))
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.fail(name, &error.to_string(), start);
                Ok(None)
            }
        }
    }

    /// Runs a step. What it answers is added up; an error is a failure, and only
    /// an interrupt ends the whole.
    pub fn step(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<Counts, Error>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        println!("\n== {name}");
        match work(&mut |line| println!("{line}")) {
            Ok(counts) => {
                self.sum += counts;
                let seconds = start.elapsed().as_secs_f64();
                if counts.failed == 0 {
                    println!("passed {name}: {counts} ({seconds:.1} s)");
                } else {
                    println!("FAILED {name}: {counts} ({seconds:.1} s)");
                    self.failed.push(name.to_owned());
                }
                Ok(())
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.fail(name, &error.to_string(), start);
                Ok(())
            }
        }
    }

    /// Says what did not run, and why.
    pub fn skip(&mut self, what: &str, reason: &str) {
        println!("SKIPPED {what}: {reason}");
        self.sum.skipped += 1;
    }

    /// Prints the sum as the last line.
    pub fn finish(&self) -> ExitCode {
        println!("\n{:.0} s in all", self.start.elapsed().as_secs_f64());
        if !self.failed.is_empty() {
            println!("failed: {}; the logs are in .local/test/log", self.failed.join(", "));
        }
        println!("{}", self.sum);
        if self.sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn fail(&mut self, name: &str, reason: &str, start: Instant) {
        println!("{reason}\nFAILED {name} ({:.1} s)", start.elapsed().as_secs_f64());
        self.sum.failed += 1;
        self.failed.push(name.to_owned());
    }
}
