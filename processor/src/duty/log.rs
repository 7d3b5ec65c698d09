//! Partitions of the log: made ahead of the clock, dropped when they are old.

use std::time::Duration;

use diesel::result::Error as QueryError;
use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::{Duties, SESSION};
use crate::store::{
    pool::{DatabaseError, connect},
    upkeep::{
        Part, carry_default, carry_partition_in_txn, create_partitions, create_past_partitions,
        drop_default_past, drop_partition_in_txn, old_partitions, old_past_partitions,
    },
};

/// Days for which the log has partitions ahead.
pub const PARTITION_DAYS: i32 = 7;
/// Months for which superseded states have partitions ahead.
const PAST_MONTHS: i32 = 2;
const INTERVAL: Duration = Duration::from_secs(3600);
/// Before the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// How often the drop of one partition is tried, and the pause between. Below
/// the time after which PostgreSQL ends an idle transaction.
const DROPS: u32 = 60;
const DROP_PAUSE: Duration = Duration::from_millis(500);
/// Rows of the default partition that are carried at a time.
const DEFAULT_ROWS: i32 = 5000;

impl Duties {
    /// Goes on for ever.
    pub(super) async fn keep_log(&self) {
        loop {
            let pause = match self.keep_log_once().await {
                Ok(()) => INTERVAL,
                Err(error) => {
                    tracing::error!(%error, "cannot keep the partitions of the log; trying again");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn keep_log_once(&self) -> Result<(), DatabaseError> {
        let mut connection = connect(&self.url, SESSION).await?;
        let created = create_partitions(&mut connection, PARTITION_DAYS).await?;
        if created > 0 {
            tracing::info!(created, "made partitions of the log");
        }
        let created = create_past_partitions(&mut connection, PAST_MONTHS).await?;
        if created > 0 {
            tracing::info!(created, "made partitions of superseded states");
        }
        if self.retention_days == 0 {
            return Ok(());
        }
        self.drop_log(&mut connection).await?;
        self.drop_past(&mut connection).await
    }

    async fn drop_log(&self, connection: &mut AsyncPgConnection) -> Result<(), DatabaseError> {
        for name in old_partitions(connection, self.retention_days).await? {
            let carried = connection
                .transaction(async |connection| {
                    let carried = carry_partition_in_txn(connection, &name).await?;
                    drop_when_free_in_txn(connection, Part::Log, &name).await?;
                    Ok::<_, QueryError>(carried)
                })
                .await?;
            self.metrics.partitions_dropped.inc();
            tracing::info!(partition = %name, carried, "dropped a day of the log; its newest revisions are kept");
        }
        loop {
            let taken = carry_default(connection, self.retention_days, DEFAULT_ROWS).await?;
            if taken == 0 {
                return Ok(());
            }
            tracing::info!(taken, "dropped old rows of the log's default partition");
        }
    }

    /// What is older than the past can be read.
    async fn drop_past(&self, connection: &mut AsyncPgConnection) -> Result<(), DatabaseError> {
        for name in old_past_partitions(connection).await? {
            connection
                .transaction(async |connection| drop_when_free_in_txn(connection, Part::Past, &name).await)
                .await?;
            tracing::info!(partition = %name, "dropped a month of superseded states");
        }
        while drop_default_past(connection, DEFAULT_ROWS).await? > 0 {}
        Ok(())
    }
}

/// Tries until nobody is in the way; what was carried stays carried meanwhile.
async fn drop_when_free_in_txn(
    connection: &mut AsyncPgConnection,
    part: Part,
    name: &str,
) -> Result<(), QueryError> {
    let mut drops = 1;
    loop {
        // A savepoint.
        let dropped =
            connection.transaction(async |connection| drop_partition_in_txn(connection, part, name).await);
        match dropped.await {
            Err(QueryError::DatabaseError(_, information))
                if drops < DROPS && information.message().contains("lock timeout") =>
            {
                drops += 1;
                tokio::time::sleep(DROP_PAUSE).await;
            }
            ended => return ended,
        }
    }
}
