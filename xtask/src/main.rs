//! AssetTrack's developer commands; `cargo xtask --help` lists them.
//!
//! All that they make stands under `.local/` of the checkout, so that two
//! checkouts on one machine do not meet.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// Standard output is this program's face.
#![allow(clippy::print_stdout)]

mod account;
mod apt;
mod bench;
mod build;
mod checkout;
mod ci;
mod cli;
mod command;
mod credentials;
mod error;
mod faults;
mod fingerprint;
mod http;
mod instance;
mod interrupt;
mod inventory;
mod logs;
mod need;
mod ports;
mod process;
mod progress;
mod reset;
mod servers;
mod services;
mod session;
mod state;
mod status;
mod system;
mod test;
mod up;
mod watch;
mod webui;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    checkout::Checkout,
    cli::{Arguments, Task},
    error::Error,
    interrupt::Interrupt,
};

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(Error::Interrupted) => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let checkout = Checkout::find()?;
    let interrupt = Interrupt::listen()?;
    match arguments.task {
        Task::Up(options) => up::run(&checkout, &options, &interrupt).map(|()| ExitCode::SUCCESS),
        Task::Down => up::down(&checkout).map(|()| ExitCode::SUCCESS),
        Task::Status => status::run(&checkout),
        Task::Logs(options) => logs::run(&checkout, &options, &interrupt).map(|()| ExitCode::SUCCESS),
        Task::Reset => reset::run(&checkout).map(|()| ExitCode::SUCCESS),
        Task::Test(options) => test::run(&checkout, &options, &interrupt),
        Task::Bench(options) => bench::run(&checkout, &options, &interrupt).map(|()| ExitCode::SUCCESS),
        Task::Faults(options) => faults::run(&checkout, &options, &interrupt),
        Task::Ci => ci::run(&checkout, &interrupt),
    }
}
