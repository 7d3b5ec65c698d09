//! The agent's program: settings, listeners, run.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use agent::config::{ADMIN_PORT, Cli, Command, Config};
use agent::inventory::InventoryError;
use agent::run::{Agent, Error};
use kit::settings::exit_usage;

fn main() -> ExitCode {
    let cli: Cli = kit::settings::parse();
    if let Some(Command::Scan(args)) = cli.command {
        return match agent::inventory::print(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(InventoryError::Setting(error)) => exit_usage(&error),
            Err(error) => failed(&error),
        };
    }
    agent::memory::make_thrifty();
    if let Err(error) = kit::telemetry::init(&cli.config.common) {
        exit_usage(&error);
    }
    // One thread for all that waits; probes and the store have their own, which
    // must not run out even if all probes hang.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(cli.config));
            // A probe that hangs in the kernel would keep the process for ever.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(error) => failed(&error),
    }
}

async fn serve(config: Config) -> ExitCode {
    let grpc_address = config.grpc_address;
    let admin = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ADMIN_PORT));
    let admin = config.common.admin_address.unwrap_or(admin);
    let agent = Agent::new(config).unwrap_or_else(|error| exit_usage(&error));
    let grpc = kit::grpc::bind("grpc-address", grpc_address).await.unwrap_or_else(|error| exit_usage(&error));
    let admin = kit::grpc::bind("admin-address", admin).await.unwrap_or_else(|error| exit_usage(&error));
    let shutdown = match kit::shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => return failed(&error),
    };
    match agent.run(grpc, admin, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Setting(error)) => exit_usage(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
