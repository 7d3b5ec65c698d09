//! The scrub: goes round all nodes and sees that what is stored still is what was
//! reported. It repairs so that the next comparison of digests finds the rest.
//!
//! - A row that is missing is made anew from the log, so that its revisions go
//!   on and what people recorded of it is not lost.
//! - Of a row that is not as the log has it, the state hash becomes that of what
//!   is stored: with the true one a listing would be taken for known.
//! - Digests become those of the stored rows, so that they differ from the
//!   agent's where a row does, and the agent is asked for a full listing.
//! - Superseded states become those of the log ([`super::history`]).
//!
//! It looks in a snapshot, and takes the node's lock, as ingest does, only where
//! there is something to repair.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use contracts::v1::AssetState;
use diesel::{QueryResult, result::Error as QueryError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use kit::digest::{Digest, StateHash};
use serde_json::json;
use uuid::Uuid;

use super::{Duties, RETRY, SESSION};
use crate::{
    domain::{
        attributes::searchable,
        refold::{ContentHash, Refold, content_hash},
    },
    store::{
        integrity::{StoredRow, ToldRow, Whose, active_in_txn, content, digests, told_of},
        pool::{DatabaseError, connect},
        scrub::{
            Restored, begin_round, lock_node_in_txn, missing_assets, next_node, note_round,
            replace_hashes_in_txn, restore_in_txn, round, write_digests_in_txn,
        },
    },
    verify::{Streams, told, true_hash},
};

/// A second of work is followed by so many of rest: a twentieth of the time.
const REST: u32 = 19;
/// Longest time between two looks at whether a round is due.
const LOOK: Duration = Duration::from_secs(600);
/// Rows of one restoring transaction.
const RESTORED: usize = 100;

/// What one node's rows say.
#[derive(Debug, Default)]
struct Found {
    assets: u64,
    /// Of the rows as they are, with the hashes as they must become.
    digests: HashMap<i16, Digest>,
    /// Rows that do not have the hash that is stored beside them.
    suspects: Vec<Suspect>,
    kept: HashMap<i16, (i64, String)>,
}

#[derive(Debug)]
struct Suspect {
    asset: Uuid,
    kind: i16,
    stored: StateHash,
    true_hash: Vec<u8>,
    content: (Vec<u8>, ContentHash),
}

impl Duties {
    /// Goes on for ever.
    pub(super) async fn scrub(&self) {
        let Some(interval) = self.scrub_interval else { return std::future::pending().await };
        loop {
            let rest = match self.scrub_round(interval).await {
                Ok(rest) => rest,
                Err(error) => {
                    tracing::warn!(%error, "the scrub failed; trying again");
                    RETRY
                }
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// Goes on with a round, or begins one if it is due; tells how long there is
    /// nothing to do.
    async fn scrub_round(&self, interval: Duration) -> Result<Duration, DatabaseError> {
        let mut connection = connect(&self.url, SESSION).await?;
        let mut after = match round(&mut connection).await? {
            Some(round) if !round.ended => round.after_node,
            Some(round) => {
                let age = Duration::from_secs(round.age_seconds.try_into().unwrap_or(0));
                if age < interval {
                    return Ok((interval - age).min(LOOK));
                }
                begin_round(&mut connection).await?;
                None
            }
            None => {
                begin_round(&mut connection).await?;
                None
            }
        };
        while let Some(node) = next_node(&mut connection, after).await? {
            let started = Instant::now();
            match self.scrub_node(&mut connection, node).await {
                Ok(()) => drop(self.metrics.scrubbed_nodes.inc()),
                // One node must not keep the others from their turn.
                Err(error) => tracing::warn!(%node, %error, "cannot scrub a node; going on with the next"),
            }
            note_round(&mut connection, Some(node)).await?;
            after = Some(node);
            tokio::time::sleep(started.elapsed() * REST).await;
        }
        self.restore_missing(&mut connection, None).await?;
        note_round(&mut connection, None).await?;
        Ok(Duration::ZERO)
    }

    async fn scrub_node(&self, connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<()> {
        self.restore_missing(connection, Some(node)).await?;
        let found = connection
            .build_transaction()
            .repeatable_read()
            .read_only()
            .run(async |connection| look_in_txn(connection, node).await)
            .await?;
        self.metrics.scrubbed_assets.inc_by(found.assets);
        self.restore_history(connection, node).await?;
        if found.is_right() && altered(connection, &found.suspects).await?.is_empty() {
            return Ok(());
        }
        // Once more, and nothing moves now.
        let (replaced, corrected) =
            connection.transaction(async |connection| repair_in_txn(connection, node).await).await?;
        self.metrics.hashes_replaced.inc_by(replaced);
        self.metrics.digests_corrected.inc_by(corrected);
        if replaced + corrected > 0 {
            tracing::warn!(%node, replaced, corrected, "the scrub found assets that were altered and not reported");
        }
        Ok(())
    }

    /// Makes rows anew that are missing, from the log.
    async fn restore_missing(&self, connection: &mut AsyncPgConnection, whose: Whose) -> QueryResult<()> {
        loop {
            let missing = missing_assets(connection, whose).await?;
            if missing.is_empty() {
                return Ok(());
            }
            let mut restored = 0;
            for some in missing.chunks(RESTORED) {
                restored += connection
                    .transaction(async |connection| self.restore_some_in_txn(connection, whose, some).await)
                    .await?;
            }
            self.metrics.assets_restored.inc_by(restored);
            if restored == 0 {
                // Others were quicker, or it cannot be done.
                return Ok(());
            }
            tracing::warn!(node = ?whose, restored, "the scrub restored assets that were missing from the log");
        }
    }

    async fn restore_some_in_txn(
        &self,
        connection: &mut AsyncPgConnection,
        whose: Whose,
        assets: &[Uuid],
    ) -> QueryResult<u64> {
        let mut streams = Streams::default();
        if let Some(node) = whose {
            if !lock_node_in_txn(connection, node).await? {
                return Ok(0);
            }
            streams = Streams::load(connection, node).await?;
        }
        let mut restored = 0;
        for (asset, refold) in refolds(connection, assets, &streams).await? {
            let Some(row) = self.restored(connection, whose, asset, &refold).await? else { continue };
            restored += u64::from(restore_in_txn(connection, row).await?);
        }
        Ok(restored)
    }

    async fn restored(
        &self,
        connection: &mut AsyncPgConnection,
        whose: Whose,
        asset: Uuid,
        refold: &Refold,
    ) -> QueryResult<Option<Restored>> {
        let Some(expected) = refold.expected() else { return Ok(None) };
        let Some(newest) = content(connection, asset, expected.newest).await? else { return Ok(None) };
        let Some(observed) = content(connection, asset, expected.content).await? else { return Ok(None) };
        let attributes = self.attributes(observed.details.as_deref(), newest.managed.as_deref());
        let mut row = Restored {
            asset,
            node: whose,
            natural_key: newest.natural_key,
            display_name: observed.display_name,
            details: observed.details,
            managed: newest.managed,
            attributes,
            state_hash: None,
            expected,
        };
        row.state_hash = (row.expected.state == AssetState::Active as i16).then(|| {
            let details = row.details.as_deref().unwrap_or_default();
            true_hash(row.expected.kind, &row.natural_key, &row.display_name, details).to_vec()
        });
        Ok(Some(row))
    }

    /// Searchable form of an asset.
    pub(super) fn attributes(&self, details: Option<&[u8]>, managed: Option<&[u8]>) -> serde_json::Value {
        let mut attributes = serde_json::Map::new();
        if let Some(details) = details {
            attributes.insert("details".to_owned(), json!(searchable(self.descriptors.details(), details)));
        }
        let descriptor = self.descriptors.message("ManagedFields");
        if let (Some(descriptor), Some(managed)) = (descriptor, managed) {
            attributes.insert("managed".to_owned(), json!(searchable(&descriptor, managed)));
        }
        attributes.into()
    }
}

impl Found {
    /// Whether the digests that are kept are those of the rows.
    fn is_right(&self) -> bool {
        self.wrong_digests().is_empty()
    }

    /// Digests that must be written.
    fn wrong_digests(&self) -> Vec<(i16, Digest)> {
        let mut wrong: Vec<(i16, Digest)> = self
            .digests
            .iter()
            .map(|(kind, digest)| (*kind, *digest))
            .chain(
                self.kept
                    .keys()
                    .filter(|kind| !self.digests.contains_key(kind))
                    .map(|kind| (*kind, Digest::default())),
            )
            .filter(|(kind, digest)| {
                let kept = self.kept.get(kind).map_or((0, "0"), |(count, sum)| (*count, sum.as_str()));
                kept != (digest.count.cast_signed(), digest.sum.to_string().as_str())
            })
            .collect();
        wrong.sort_unstable_by_key(|(kind, _)| *kind);
        wrong
    }
}

async fn look_in_txn(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<Found> {
    let mut found = Found::default();
    for row in digests(connection, node).await? {
        found.kept.insert(row.kind, (row.count, row.sum));
    }
    let active = active_in_txn(connection, node).await?;
    loop {
        let rows: Vec<StoredRow> = active.portion(connection).await?;
        if rows.is_empty() {
            return Ok(found);
        }
        found.assets += rows.len() as u64;
        for row in rows {
            let details = row.details.as_deref().unwrap_or_default();
            let true_hash = true_hash(row.kind, &row.natural_key, &row.display_name, details);
            let stored = row.state_hash.as_deref().and_then(|hash| StateHash::try_from(hash).ok());
            let stored = stored.unwrap_or_default();
            found.digests.entry(row.kind).or_default().add(&stored);
            if stored != true_hash {
                found.suspects.push(Suspect {
                    asset: row.uid,
                    kind: row.kind,
                    stored,
                    true_hash: true_hash.to_vec(),
                    content: (row.display_name.into_bytes(), content_hash(details)),
                });
            }
        }
    }
}

async fn repair_in_txn(connection: &mut AsyncPgConnection, node: Uuid) -> QueryResult<(u64, u64)> {
    if !lock_node_in_txn(connection, node).await? {
        return Ok((0, 0));
    }
    let mut found = look_in_txn(connection, node).await?;
    let altered = altered(connection, &found.suspects).await?;
    let mut hashes: Vec<(Uuid, Vec<u8>)> = Vec::new();
    for suspect in found.suspects.iter().filter(|suspect| altered.contains(&suspect.asset)) {
        let digest = found.digests.entry(suspect.kind).or_default();
        digest.subtract(&suspect.stored);
        digest.add(&StateHash::try_from(suspect.true_hash.as_slice()).unwrap_or_default());
        hashes.push((suspect.asset, suspect.true_hash.clone()));
    }
    hashes.sort_unstable();
    replace_hashes_in_txn(connection, &hashes).await?;
    let wrong = found.wrong_digests();
    write_digests_in_txn(connection, node, &wrong).await?;
    Ok((hashes.len() as u64, wrong.len() as u64))
}

/// Those of the suspects that are not as the log has them. The others came like
/// this: an agent of a newer version hashes fields that are unknown here. To
/// replace their hashes would be to ask for them for ever.
async fn altered(connection: &mut AsyncPgConnection, suspects: &[Suspect]) -> QueryResult<Vec<Uuid>> {
    let mut altered = Vec::new();
    for some in suspects.chunks(RESTORED) {
        let assets: Vec<Uuid> = some.iter().map(|suspect| suspect.asset).collect();
        let refolds: HashMap<Uuid, Refold> =
            refolds(connection, &assets, &Streams::default()).await?.into_iter().collect();
        for suspect in some {
            let (display_name, details) = &suspect.content;
            let same = refolds.get(&suspect.asset).and_then(Refold::expected).is_some_and(|expected| {
                expected.display_name == content_hash(display_name) && expected.details == Some(*details)
            });
            if !same {
                altered.push(suspect.asset);
            }
        }
    }
    Ok(altered)
}

/// What base and log say of assets.
async fn refolds(
    connection: &mut AsyncPgConnection,
    assets: &[Uuid],
    streams: &Streams,
) -> Result<Vec<(Uuid, Refold)>, QueryError> {
    let (base, log): (Vec<ToldRow>, Vec<ToldRow>) = told_of(connection, assets).await?;
    let mut refolds: HashMap<Uuid, Refold> = HashMap::new();
    for (row, is_base) in base.iter().map(|row| (row, true)).chain(log.iter().map(|row| (row, false))) {
        refolds.entry(row.asset_uid).or_default().take(&told(row, is_base, streams));
    }
    let mut refolds: Vec<(Uuid, Refold)> = refolds.into_iter().collect();
    refolds.sort_unstable_by_key(|(asset, _)| *asset);
    Ok(refolds)
}
