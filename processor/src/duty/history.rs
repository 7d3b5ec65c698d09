//! Superseded states that are not kept as base and log have them, because somebody
//! altered them, or the row that they are copies of: they are made anew.

use diesel::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use uuid::Uuid;

use super::Duties;
use crate::store::{
    event,
    integrity::wrong_history_in_txn,
    scrub::{forget_state_in_txn, lock_node_in_txn, restore_state_in_txn},
};

impl Duties {
    /// Of the assets of a node, at most 1,000 states.
    pub(super) async fn restore_history(
        &self,
        connection: &mut AsyncPgConnection,
        node: Uuid,
    ) -> QueryResult<()> {
        // Nothing is locked to find that all is well.
        if wrong_history_in_txn(connection, Some(node)).await?.is_empty() {
            return Ok(());
        }
        let restored = connection
            .transaction(async |connection| self.restore_history_in_txn(connection, node).await)
            .await?;
        self.metrics.history_restored.inc_by(restored);
        if restored > 0 {
            tracing::warn!(%node, restored, "the scrub found superseded states that were altered");
        }
        Ok(())
    }

    async fn restore_history_in_txn(
        &self,
        connection: &mut AsyncPgConnection,
        node: Uuid,
    ) -> QueryResult<u64> {
        if !lock_node_in_txn(connection, node).await? {
            return Ok(0);
        }
        let mut restored = 0;
        for wrong in wrong_history_in_txn(connection, Some(node)).await? {
            forget_state_in_txn(connection, wrong.uid, wrong.revision).await?;
            if wrong.should_revision.is_some()
                && let Some((_, _, details, managed)) =
                    event::revision(connection, wrong.uid, wrong.revision).await?
            {
                let attributes = self.attributes(details.as_deref(), managed.as_deref());
                restore_state_in_txn(connection, wrong.uid, wrong.revision, attributes).await?;
            }
            restored += 1;
        }
        Ok(restored)
    }
}
