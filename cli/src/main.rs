//! `assettrack`: the operator's tool. It reads and asks through the gateway and
//! keeps nothing.
//!
//! Exit status: 0, also if the reader of the output goes away; 1 with one line
//! on stderr if the call failed; 64 if it was told wrong. Of `verify` 1 says that
//! something differs, and 2 that the call failed.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod cell;
mod columns;
mod commands;
mod dead_letters;
mod diff;
mod failure;
mod fields;
mod follow;
mod gateway;
mod manage;
mod output;
mod relations;
mod simulation;
mod table;
mod verify;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use args::{Arguments, Command};
use failure::Failure;
use output::Output;
use tonic::transport::Endpoint;

fn main() -> ExitCode {
    let arguments: Arguments = kit::settings::parse();
    if let Command::Simulate(settings) = &arguments.command {
        return simulation::simulate(settings, arguments.output);
    }
    let endpoint = match gateway::endpoint(&arguments.gateway_url) {
        Ok(endpoint) => endpoint,
        Err(wrong) => kit::settings::exit_usage(&wrong),
    };
    match run(&arguments, &endpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to tell it to if stderr is gone too.
            let _ = writeln!(std::io::stderr(), "{}", failure.line());
            ExitCode::from(failure.exit_status(&arguments.command))
        }
    }
}

fn run(arguments: &Arguments, endpoint: &Endpoint) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stdout = std::io::stdout();
    let to_terminal = stdout.is_terminal();
    let mut output = Output::new(stdout.lock(), arguments.output, arguments.utc, to_terminal)?;
    runtime.block_on(async {
        let gateway = gateway::Gateway::connect(&arguments.gateway_url, endpoint).await?;
        commands::run(&arguments.command, &gateway, &mut output).await
    })
}
