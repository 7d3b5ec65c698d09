//! Puts the processor together and runs it until shutdown.

use std::{sync::Arc, time::Duration};

use deadpool::managed::PoolError;
use kit::{
    metrics::Metrics,
    readiness::{Condition, Readiness},
    settings::{Secret, SettingError},
    shutdown::CancellationToken,
};
use tokio::net::TcpListener;

use crate::{
    api::{Api, Watches, routes},
    config::Config,
    delivery::{
        DeliveryMetrics, measure,
        streams::{CommandStreams, Patience},
    },
    domain::{changes::Descriptors, page_token::PageTokens},
    duty::{Duties, DutyMetrics, PARTITION_DAYS},
    feed::{Feed, FeedMetrics},
    ingest::{Ingest, IngestMetrics, LetterMetrics},
    store::{
        self,
        command::delete_expired,
        dead_letter::{Filter, count_by_reason},
        node::clock_and_contact,
        pool::{self, DatabaseError, Pool, Pooled},
        signing_key, upkeep,
    },
};

/// How long the database may take to come up at the start.
const START_DEADLINE: Duration = Duration::from_secs(60);
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// A look at the clock takes a millisecond. A database that takes longer than
/// this is away, or the connection is half open.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Time between two counts of the dead letters.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// Longer than PostgreSQL lets a statement run.
const COUNT_DEADLINE: Duration = Duration::from_secs(25);
/// Connections for what collectors deliver.
const INGEST_CONNECTIONS: usize = 4;
/// Connections for what collectors are told: a poll, and a stream that opens.
const COMMAND_CONNECTIONS: usize = 2;
const UPKEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// Why the processor ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A wrong setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The database cannot be used.
    #[error("database: {0}")]
    Database(#[from] DatabaseError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] kit::grpc::ServeError),
    /// The admin endpoint failed.
    #[error("admin endpoint: {0}")]
    Admin(#[from] std::io::Error),
}

/// Migrates, then serves on both listeners until `shutdown`.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    config: Config,
    grpc: TcpListener,
    admin: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let url = config.database()?;
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    let database = readiness.condition("database");
    let admin = tokio::spawn(kit::admin::serve(admin, readiness.clone(), metrics.clone(), shutdown.clone()));

    tokio::select! {
        migrated = migrate(&url) => migrated?,
        () = shutdown.cancelled() => return Ok(()),
    }
    let pool = pool::pool(&url, usize::from(config.database_connections))?;
    let key = page_token_key(&pool).await?;
    adopt_feed(&pool).await?;
    // Before the first row of today is written.
    create_partitions(&pool).await;

    let descriptors = Arc::new(Descriptors::default());
    // Connections of its own: slow searches must not hold up what arrives.
    let ingest_pool = pool::pool(&url, INGEST_CONNECTIONS)?;
    let ingest_metrics = IngestMetrics::register(&metrics);
    let letters = ingest_metrics.letters.clone();
    let ingest = Ingest::new(ingest_pool.clone(), descriptors.clone(), ingest_metrics);
    let commands = pool::pool(&url, COMMAND_CONNECTIONS)?;
    let page_tokens = PageTokens::new(key);
    let feed_metrics = FeedMetrics::register(&metrics);
    let feed = Feed::new(url.clone(), pool.clone(), feed_metrics, shutdown.clone());
    let patience = Duration::from_secs(config.watch_patience_seconds);
    let watches = Watches::new(feed.clone(), page_tokens.clone(), usize::from(config.watch_limit), patience);
    let tail = tokio::spawn(feed.run());
    let duties = Duties {
        url,
        descriptors: descriptors.clone(),
        retention_days: config.retention_days,
        scrub_interval: config.scrub_interval(),
        metrics: DutyMetrics::register(&metrics),
    };
    // Who finds it ready finds its metrics too.
    database.holds();
    let api = Api::new(pool.clone(), page_tokens, descriptors, watches);
    let pools = [pool.clone(), ingest_pool.clone(), commands.clone()];
    let delivery = DeliveryMetrics::register(&metrics);
    let streams = CommandStreams::new(commands, delivery.clone(), Patience::default());
    let hand_out = tokio::spawn(streams.clone().run(shutdown.clone()));
    let measure = tokio::spawn(measure(pool.clone(), delivery.clone(), shutdown.clone()));
    let watch = tokio::spawn(watch_database(pools, database, shutdown.clone()));
    let keep = tokio::spawn(keep_commands(pool.clone(), shutdown.clone()));
    let count = tokio::spawn(count_letters(pool, letters, shutdown.clone()));
    let duties = tokio::spawn(duties.run(shutdown.clone()));
    tracing::info!(address = %grpc.local_addr()?, "processor is up");
    let grace = config.common.shutdown_grace();
    let routes = routes(api, ingest, ingest_pool, streams, delivery, shutdown.clone());
    let served = kit::grpc::serve(grpc, routes, readiness, grace, shutdown.clone()).await;

    shutdown.cancel();
    for task in [watch, keep, count, hand_out, measure, tail, duties] {
        if let Err(died) = task.await {
            tracing::error!(error = %died, "a background task ended");
        }
    }
    if let Ok(ended) = admin.await {
        ended?;
    }
    Ok(served?)
}

/// Waits for the database to come up, within limits, and migrates.
async fn migrate(url: &Secret) -> Result<(), DatabaseError> {
    let started = tokio::time::Instant::now();
    loop {
        match pool::migrate(url).await {
            Err(DatabaseError::Connect(error)) if started.elapsed() < START_DEADLINE => {
                tracing::warn!(%error, "the database is not there yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            ended => return ended,
        }
    }
}

async fn page_token_key(pool: &Pool) -> Result<Vec<u8>, DatabaseError> {
    let mut connection = first(pool).await?;
    Ok(signing_key::get_or_create(&mut connection, "page-token").await?)
}

/// Places in the feed are told anew if the database is another one now.
async fn adopt_feed(pool: &Pool) -> Result<(), DatabaseError> {
    let mut connection = first(pool).await?;
    if store::feed::adopt(&mut connection).await? {
        tracing::warn!("the log comes from another database system: watches begin anew");
    }
    Ok(())
}

async fn first(pool: &Pool) -> Result<Pooled, DatabaseError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(diesel_async::pooled_connection::PoolError::QueryError(error)) => {
            DatabaseError::Query(error)
        }
        other => DatabaseError::Connect(diesel::ConnectionError::BadConnection(other.to_string())),
    })
}

/// Keeps the readiness true to the database, and pools free of connections that
/// nobody answers on.
async fn watch_database(pools: [Pool; 3], condition: Condition, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        match pools[0].get().await {
            Ok(mut connection) => {
                match tokio::time::timeout(ANSWER_DEADLINE, clock_and_contact(&mut connection)).await {
                    Ok(Ok(_)) => condition.holds(),
                    Ok(Err(error)) => condition.fails(error.to_string()),
                    Err(_) => {
                        condition.fails("the database does not answer");
                        drop(Pooled::take(connection));
                        for pool in &pools {
                            pool.retain(|_, _| false);
                        }
                    }
                }
            }
            // Busy is not gone.
            Err(PoolError::Timeout(deadpool::managed::TimeoutType::Wait)) => {}
            Err(error) => condition.fails(error.to_string()),
        }
    }
}

/// Keeps the count of the dead letters in the metrics.
async fn count_letters(pool: Pool, metrics: LetterMetrics, shutdown: CancellationToken) {
    let mut next = tokio::time::interval(COUNT_INTERVAL);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = next.tick() => {}
            () = shutdown.cancelled() => return,
        }
        // What is the matter with the database others say.
        let Ok(mut connection) = pool.get().await else { continue };
        let all = Filter::default();
        let counted = count_by_reason(&mut connection, &all);
        match tokio::time::timeout(COUNT_DEADLINE, counted).await {
            Ok(Ok(rows)) => metrics.stored(rows.into_iter().map(|row| (row.reason, row.count))),
            Ok(Err(error)) => tracing::warn!(%error, "cannot count the dead letters"),
            Err(_) => drop(Pooled::take(connection)),
        }
    }
}

/// Keeps commands that nobody takes few.
async fn keep_commands(pool: Pool, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        match pool.get().await {
            Ok(mut connection) => {
                if let Err(error) = delete_expired(&mut connection).await {
                    tracing::error!(%error, "cannot delete expired commands");
                }
            }
            Err(error) => tracing::error!(%error, "cannot delete expired commands"),
        }
    }
}

async fn create_partitions(pool: &Pool) {
    match pool.get().await {
        Ok(mut connection) => match upkeep::create_partitions(&mut connection, PARTITION_DAYS).await {
            Ok(0) => {}
            Ok(created) => tracing::info!(created, "made partitions of the log"),
            Err(error) => tracing::error!(%error, "cannot make partitions of the log"),
        },
        Err(error) => tracing::error!(%error, "cannot make partitions of the log"),
    }
}
