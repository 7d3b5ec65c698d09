//! The processor's settings.

use std::{net::SocketAddr, path::PathBuf};

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
    /// deliver and are told has 6 more of its own.
    #[arg(long, env = "ASSETTRACK_DATABASE_CONNECTIONS", default_value_t = 12,
          value_parser = clap::value_parser!(u16).range(2..=500))]
    pub database_connections: u16,
    /// Address of the gRPC services.
    #[arg(long, env = "ASSETTRACK_GRPC_ADDRESS", default_value = "0.0.0.0:50051")]
    pub grpc_address: SocketAddr,
    /// What every service has.
    #[command(flatten)]
    pub common: Common,
}

impl Config {
    /// Address of the admin endpoint.
    pub fn admin_address(&self) -> SocketAddr {
        self.common.admin_address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 9103)))
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
