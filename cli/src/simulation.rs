//! `assettrack simulate`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use assettrack_cli::simulate::{Outcome, Settings, SimulateError, run};

use crate::{args::Format, cell};

/// Why it ended with exit status 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Simulation(SimulateError),
    #[error("{outstanding} messages are not confirmed by the broker")]
    Unconfirmed { outstanding: u64 },
    #[error("cannot write what to expect to {path}: {cause}")]
    Expectation { path: String, cause: io::Error },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the simulation, tells how it goes on stderr and the report on stdout.
pub fn simulate(settings: &Settings, format: Format) -> ExitCode {
    if format == Format::Csv {
        kit::settings::exit_usage(&"--output: a simulation has no CSV, but `table` or `json`");
    }
    match try_simulate(settings, format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Simulation(SimulateError::Setting(wrong))) => kit::settings::exit_usage(&wrong),
        Err(failure) => {
            tell(&format!("error: {}", cell::escaped(&failure.to_string())));
            ExitCode::FAILURE
        }
    }
}

fn try_simulate(settings: &Settings, format: Format) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let shutdown = kit::shutdown::on_signals()?;
        run(settings, shutdown, |line| tell(&cell::escaped(line))).await.map_err(Failure::Simulation)
    })?;
    let Outcome { report, expectation, .. } = &outcome;
    if let Some(path) = &settings.expect {
        let written = serde_json::to_vec_pretty(expectation)
            .map_err(io::Error::from)
            .and_then(|bytes| std::fs::write(path, bytes));
        written.map_err(|cause| Failure::Expectation { path: path.display().to_string(), cause })?;
    }
    let text = match format {
        Format::Json => serde_json::to_string(report).map_err(io::Error::from)?,
        Format::Table | Format::Csv => report.to_string(),
    };
    writeln!(io::stdout(), "{text}")?;
    match report.outstanding {
        0 => Ok(()),
        outstanding => Err(Failure::Unconfirmed { outstanding }),
    }
}

fn tell(line: &str) {
    // Nothing is left to tell it to if stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}
