//! `assettrack-collector`: assembles the collector.

use std::process::ExitCode;

use collector::{Error, Listeners, config::Config};
use kit::settings::{SettingError, exit_usage, parse};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = parse();
    match start(&config).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tracing::error!(%error, "the collector ends");
            ExitCode::FAILURE
        }
        Err(problem) => exit_usage(&problem),
    }
}

async fn start(config: &Config) -> Result<Result<(), Error>, SettingError> {
    kit::telemetry::init(&config.common)?;
    let checked = config.check()?;
    let grpc = kit::grpc::bind("grpc-address", config.grpc_address).await?;
    let admin = kit::grpc::bind("admin-address", config.admin_address()).await?;
    let shutdown = match kit::shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => return Ok(Err(Error::Signals(error))),
    };
    Ok(collector::run(config, checked, Listeners { grpc, admin }, shutdown).await)
}
