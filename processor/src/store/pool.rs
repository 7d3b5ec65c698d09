//! Connections: a pool whose sessions have time limits, and the migrations.

use std::time::Duration;

use diesel::{QueryResult, sql_query, sql_types::Bool};
use diesel_async::{
    AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{BuildError, Hook, HookError, Object, Pool as Deadpool},
    },
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use kit::settings::Secret;

/// The pool of the process.
pub type Pool = Deadpool<AsyncPgConnection>;
/// A connection on loan from it.
pub type Pooled = Object<AsyncPgConnection>;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
/// Key of the advisory lock under which one replica migrates: "asset" in ASCII.
const MIGRATION_LOCK: i64 = 0x0061_7373_6574;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limits of each session: no statement, lock or idle transaction holds others
/// up for longer.
const SESSION: &str = "SET statement_timeout = '20s'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '30s'; SET timezone = 'UTC'";

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement failed.
    #[error("{0}")]
    Query(#[from] diesel::result::Error),
    /// A migration failed.
    #[error("migration: {0}")]
    Migration(String),
    /// The pool cannot be made.
    #[error("pool: {0}")]
    Pool(#[from] BuildError),
}

/// Makes the pool; it connects on first use.
///
/// # Errors
/// The pool cannot be made.
pub fn pool(url: &Secret, size: usize) -> Result<Pool, DatabaseError> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(url.expose(), config);
    let limits = Hook::async_fn(|connection: &mut AsyncPgConnection, _| {
        Box::pin(async move {
            connection.batch_execute(SESSION).await.map_err(|error| {
                HookError::Backend(diesel_async::pooled_connection::PoolError::QueryError(error))
            })
        })
    });
    Ok(Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(Duration::from_secs(5)))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(Duration::from_secs(5)))
        .runtime(deadpool::Runtime::Tokio1)
        .post_create(limits)
        .build()?)
}

/// Opens a connection outside the pool, with the same limits and what `settings`
/// sets. Dropping it, even in the middle of a statement, leaves nothing behind.
///
/// # Errors
/// The database cannot be reached or refuses a setting.
pub async fn connect(url: &Secret, settings: &'static str) -> Result<AsyncPgConnection, DatabaseError> {
    let connecting = AsyncPgConnection::establish(url.expose());
    let mut connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(diesel::ConnectionError::BadConnection("no answer in time".to_owned()).into()),
    };
    connection.batch_execute(SESSION).await?;
    connection.batch_execute(settings).await?;
    Ok(connection)
}

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Brings the schema up to date, one replica at a time.
///
/// # Errors
/// The database cannot be reached, or a migration fails.
pub async fn migrate(url: &Secret) -> Result<(), DatabaseError> {
    let mut connection = AsyncPgConnection::establish(url.expose()).await?;
    // Not the blocking lock: waiting in it is a transaction that CREATE INDEX
    // CONCURRENTLY of the holder would wait for.
    while !try_lock(&mut connection).await? {
        tracing::info!("another replica migrates; waiting");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut harness = AsyncMigrationHarness::new(connection);
    let versions = harness
        .run_pending_migrations(MIGRATIONS)
        .map_err(|error| DatabaseError::Migration(error.to_string()))?;
    for version in versions {
        tracing::info!(%version, "migrated");
    }
    // Closing the session gives the lock back.
    Ok(())
}

async fn try_lock(connection: &mut AsyncPgConnection) -> QueryResult<bool> {
    let locked: Locked = sql_query(format!("SELECT pg_try_advisory_lock({MIGRATION_LOCK}) AS locked"))
        .get_result(connection)
        .await?;
    Ok(locked.locked)
}
