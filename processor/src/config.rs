//! The processor's settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use kit::settings::{Common, Secret, SettingError, secret};

/// Owns the inventory in PostgreSQL: takes what collectors deliver, keeps
/// current state and history, answers queries.
#[derive(Clone, Debug, Parser)]
#[command(name = "assettrack-processor", version)]
pub struct Config {
    /// `postgres://user:password@host:port/database`.
    #[arg(long, env = "ASSETTRACK_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<Secret>,
    /// File that holds the URL.
    #[arg(long, env = "ASSETTRACK_DATABASE_URL_FILE")]
    pub database_url_file: Option<PathBuf>,
    /// Connections to the database for queries and edits; what collectors
    /// deliver and are told has 6 more of its own, watches have one.
    #[arg(long, env = "ASSETTRACK_DATABASE_CONNECTIONS", default_value_t = 12,
          value_parser = clap::value_parser!(u16).range(2..=500))]
    pub database_connections: u16,
    /// Address of the gRPC services.
    #[arg(long, env = "ASSETTRACK_GRPC_ADDRESS", default_value = "0.0.0.0:50051")]
    pub grpc_address: SocketAddr,
    /// Days (UTC) for which the history is kept; 0 for ever. Of older days the
    /// newest revision of each asset is kept, for ever.
    #[arg(long, env = "ASSETTRACK_RETENTION_DAYS", default_value_t = 400,
          value_parser = clap::value_parser!(i32).range(0..=36_500))]
    pub retention_days: i32,
    /// Seconds from the beginning of one round of the scrub to the next; 0 for
    /// no scrub. A round compares what is stored of each node with its digests,
    /// repairs, and takes at most a twentieth of the time, so that it may take
    /// longer than this.
    #[arg(long, env = "ASSETTRACK_SCRUB_INTERVAL_SECONDS", default_value_t = 21_600,
          value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub scrub_interval_seconds: u64,
    /// Watches of assets and events at a time.
    #[arg(long, env = "ASSETTRACK_WATCH_LIMIT", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub watch_limit: u16,
    /// Seconds after which a watch is ended whose client takes nothing.
    #[arg(long, env = "ASSETTRACK_WATCH_PATIENCE_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch_patience_seconds: u64,
    /// What every service has.
    #[command(flatten)]
    pub common: Common,
}

impl Config {
    /// Address of the admin endpoint.
    pub fn admin_address(&self) -> SocketAddr {
        self.common.admin_address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 9103)))
    }

    /// From the beginning of one round of the scrub to the next, if there is any.
    pub fn scrub_interval(&self) -> Option<Duration> {
        (self.scrub_interval_seconds > 0).then(|| Duration::from_secs(self.scrub_interval_seconds))
    }

    /// The checked database URL.
    ///
    /// # Errors
    /// It is missing or not a PostgreSQL URL.
    pub fn database(&self) -> Result<Secret, SettingError> {
        let url = secret("database-url", self.database_url.as_ref(), self.database_url_file.as_ref())?;
        if !url.expose().starts_with("postgres://") && !url.expose().starts_with("postgresql://") {
            return Err(SettingError::new(
                "database-url",
                "must be postgres://user:password@host:port/database",
            ));
        }
        Ok(url)
    }
}
