//! Starts the gateway.

use std::process::ExitCode;

use gateway::Config;
use kit::{grpc::bind, settings::exit_usage, shutdown, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = kit::settings::parse();
    if let Err(error) = telemetry::init(&config.common) {
        exit_usage(&error);
    }
    let public =
        bind("listen-address", config.listen_address).await.unwrap_or_else(|error| exit_usage(&error));
    let admin =
        bind("admin-address", config.admin_address()).await.unwrap_or_else(|error| exit_usage(&error));
    tracing::info!(address = %config.listen_address, "gateway listens");
    let ended = match shutdown::on_signals() {
        Ok(shutdown) => {
            gateway::run(config, public, admin, shutdown).await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "gateway ended");
            ExitCode::FAILURE
        }
    }
}
