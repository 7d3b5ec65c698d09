//! `assettrack-processor`.

use kit::settings::{self, EXIT_USAGE};
use processor::{Error, config::Config};

// Ingest makes and drops many small texts (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() {
    let config: Config = settings::parse();
    if let Err(error) = start(config).await {
        if let Error::Setting(problem) = &error {
            settings::exit_usage(problem);
        }
        tracing::error!(%error, "processor ended");
        eprintln!("error: {error}");
        std::process::exit(if matches!(error, Error::Setting(_)) { EXIT_USAGE } else { 1 });
    }
}

async fn start(config: Config) -> Result<(), Error> {
    config.database()?;
    kit::telemetry::init(&config.common)?;
    let grpc = kit::grpc::bind("grpc-address", config.grpc_address).await?;
    let admin = kit::grpc::bind("admin-address", config.admin_address()).await?;
    processor::run(config, grpc, admin, kit::shutdown::on_signals()?).await
}
