//! What the steps came to.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use crate::{
    checkout::Checkout,
    error::{Context, Error},
    test::Counts,
};

/// Lines of one step that are shown; a linter gone astray has millions.
const SHOWN_LINES: usize = 2000;

/// Prints each step as it ends and keeps the sum.
#[derive(Debug)]
pub struct Report {
    /// Where each step's whole output goes.
    logs: PathBuf,
    start: Instant,
    sum: Counts,
    failed: Vec<String>,
}

impl Report {
    pub fn new(checkout: &Checkout) -> Result<Self, Error> {
        let logs = checkout.local()?.join("test/steps");
        fs::create_dir_all(&logs).on("make", &logs)?;
        Ok(Self { logs, start: Instant::now(), sum: Counts::default(), failed: Vec::new() })
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
        let path = self.logs.join(format!("{}.log", name.replace(' ', "-")));
        let mut log = BufWriter::new(File::create(&path).on("write", &path)?);
        let mut lines = 0;
        let mut show = |line: &str| {
            // A full disk must not hide what a test says.
            let _ = writeln!(log, "{line}");
            lines += 1;
            match lines {
                ..=SHOWN_LINES => println!("{line}"),
                _ if lines == SHOWN_LINES + 1 => println!("… and so on: {}", path.display()),
                _ => {}
            }
        };
        match work(&mut show) {
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
            println!(
                "failed: {}; the logs are in .local/test/steps and .local/test/log",
                self.failed.join(", ")
            );
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
