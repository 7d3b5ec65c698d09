//! Calls that are done once are remembered for a day.

use std::time::Duration;

use super::{Duties, SESSION};
use crate::store::{
    pool::{DatabaseError, connect},
    request::forget_old,
};

const INTERVAL: Duration = Duration::from_secs(600);
/// Calls that one statement forgets.
const CHUNK: i64 = 1000;

impl Duties {
    /// Goes on for ever.
    pub(super) async fn forget_requests(&self) {
        loop {
            match self.forget_requests_once().await {
                Ok(0) => {}
                Ok(forgotten) => tracing::debug!(forgotten, "forgot calls that were done once"),
                Err(error) => tracing::warn!(%error, "cannot forget old calls; trying again later"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn forget_requests_once(&self) -> Result<usize, DatabaseError> {
        let mut connection = connect(&self.url, SESSION).await?;
        let mut forgotten = 0;
        loop {
            match forget_old(&mut connection, CHUNK).await? {
                0 => return Ok(forgotten),
                some => forgotten += some,
            }
        }
    }
}
