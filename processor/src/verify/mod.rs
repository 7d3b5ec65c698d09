//! Whether the record still is what the log says: base and log folded once more,
//! against the current state, its digests and the streams. Node by node, each in
//! one snapshot of the database, in portions.
//!
//! Of the node that is at work, about 350 bytes an asset are in memory.

mod compare;
mod streams;

use std::collections::{HashMap, HashSet};

use contracts::v1::{AssetKind, AssetState, Difference, DifferenceType, EventType};
use diesel::result::Error as QueryError;
use diesel_async::AsyncPgConnection;
use kit::{
    digest::{Digest, StateHash},
    identity::Collection,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    domain::refold::{Gap, Refold, Source, Told, content_hash, shortened},
    store::integrity::{
        StoredRow, ToldRow, Whose, base_in_txn, count_assets, digests, doubled_in_txn, hold_log_in_txn,
        log_in_txn, nodes, stored_in_txn, wrong_history_in_txn,
    },
};
pub use compare::true_hash;
pub use streams::Streams;

/// What was done or found.
#[derive(Debug)]
pub enum Step {
    /// What there is to do: assets and nodes.
    Total(i64, i64),
    /// So many more assets are verified.
    Assets(i64),
    /// One more node is verified.
    Node,
    /// Something differs.
    Found(Difference),
}

/// Why verifying ended early.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Nobody listens any more.
    #[error("nobody listens")]
    Gone,
}

impl From<mpsc::error::SendError<Step>> for VerifyError {
    fn from(_: mpsc::error::SendError<Step>) -> Self {
        Self::Gone
    }
}

type Steps = mpsc::Sender<Step>;

/// Verifies one node, or all and what is on none.
///
/// # Errors
/// See [`VerifyError`].
pub async fn verify(
    connection: &mut AsyncPgConnection,
    node: Option<Uuid>,
    steps: &Steps,
) -> Result<(), VerifyError> {
    let all: Vec<Whose> = match node {
        Some(node) => vec![Some(node)],
        None => nodes(connection).await?.into_iter().map(Some).chain([None]).collect(),
    };
    let assets = count_assets(connection, node.map(Some)).await?;
    let count = all.iter().flatten().count();
    steps.send(Step::Total(assets, i64::try_from(count).unwrap_or(i64::MAX))).await?;
    for whose in all {
        connection
            .build_transaction()
            .repeatable_read()
            .read_only()
            .run(async |connection| Verified::new(whose, steps).run(connection).await)
            .await?;
        if whose.is_some() {
            steps.send(Step::Node).await?;
        }
    }
    Ok(())
}

/// One node, or what is on none.
struct Verified<'a> {
    whose: Whose,
    steps: &'a Steps,
    streams: Streams,
    told: HashMap<Uuid, Box<Refold>>,
    /// Events of these assets are known to be doubled.
    doubled: HashSet<Uuid>,
    digests: HashMap<i16, Digest>,
    /// Assets of which a difference was told.
    reported: HashSet<Uuid>,
}

impl<'a> Verified<'a> {
    fn new(whose: Whose, steps: &'a Steps) -> Self {
        Self {
            whose,
            steps,
            streams: Streams::default(),
            told: HashMap::new(),
            doubled: HashSet::new(),
            digests: HashMap::new(),
            reported: HashSet::new(),
        }
    }

    async fn run(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        hold_log_in_txn(connection).await?;
        if let Some(node) = self.whose {
            self.streams = Streams::load(connection, node).await?;
        }
        let base = base_in_txn(connection, self.whose).await?;
        loop {
            let rows: Vec<ToldRow> = base.portion(connection).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                self.told.entry(row.asset_uid).or_default().take(&told(&row, true, &self.streams));
            }
        }
        self.fold_log(connection).await?;
        self.find_doubled(connection).await?;
        self.compare_assets(connection).await?;
        self.find_missing(connection).await?;
        self.compare_digests(connection).await?;
        self.compare_history(connection).await
    }

    async fn fold_log(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        let log = log_in_txn(connection, self.whose).await?;
        loop {
            let rows: Vec<ToldRow> = log.portion(connection).await?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                if let Some(detail) = self.streams.complaint(&row) {
                    self.found(DifferenceType::WrongStream, row.kind, Some(row.asset_uid), detail).await?;
                }
                self.told.entry(row.asset_uid).or_default().take(&told(&row, false, &self.streams));
            }
            if self.steps.is_closed() {
                return Err(VerifyError::Gone);
            }
        }
    }

    async fn find_doubled(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        for row in doubled_in_txn(connection, self.whose).await? {
            let detail = format!("event {} is in the log {} times, should be once", row.event_uid, row.count);
            self.doubled.insert(row.asset_uid);
            self.found(DifferenceType::WrongStream, row.kind, Some(row.asset_uid), detail).await?;
        }
        Ok(())
    }

    async fn compare_assets(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        let stored = stored_in_txn(connection, self.whose).await?;
        loop {
            let rows: Vec<StoredRow> = stored.portion(connection).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            for row in rows {
                self.count(&row);
                if let Some(detail) = compare::wrong_hash(&row) {
                    self.found(DifferenceType::WrongStateHash, row.kind, Some(row.uid), detail).await?;
                }
                self.compare_asset(connection, &row).await?;
            }
            self.steps.send(Step::Assets(count)).await?;
        }
    }

    async fn compare_asset(
        &mut self,
        connection: &mut AsyncPgConnection,
        row: &StoredRow,
    ) -> Result<(), VerifyError> {
        let refold = self.told.remove(&row.uid);
        let Some((refold, expected)) =
            refold.and_then(|told| told.expected().map(|expected| (told, expected)))
        else {
            let detail = format!("asset: is {:?}, should not be there", compare::cut(&row.natural_key));
            return self.found(DifferenceType::UnknownAsset, row.kind, Some(row.uid), detail).await;
        };
        for detail in compare::differences(connection, row, &expected, &self.streams).await? {
            self.found(DifferenceType::AlteredAsset, row.kind, Some(row.uid), detail).await?;
        }
        self.check_revisions(row.uid, row.kind, &refold).await
    }

    async fn check_revisions(&mut self, asset: Uuid, kind: i16, refold: &Refold) -> Result<(), VerifyError> {
        let (difference, detail) = match refold.gap() {
            None => return Ok(()),
            Some(Gap::Doubled(_)) if self.doubled.contains(&asset) => return Ok(()),
            Some(Gap::Doubled(count)) => (
                DifferenceType::WrongStream,
                format!("revisions: {count} are in the log twice, should be once"),
            ),
            Some(Gap::Missing(count)) => {
                (DifferenceType::AlteredAsset, format!("revisions: {count} are missing in the log"))
            }
            Some(Gap::Mixed) => (
                DifferenceType::AlteredAsset,
                "revisions: some are missing and some are twice in the log".to_owned(),
            ),
        };
        self.found(difference, kind, Some(asset), detail).await
    }

    async fn find_missing(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        for (asset, refold) in std::mem::take(&mut self.told) {
            let Some(expected) = refold.expected() else { continue };
            let key = crate::store::integrity::content(connection, asset, expected.newest).await?;
            let key = key.map(|row| row.natural_key).unwrap_or_default();
            let detail = format!(
                "asset: is not there, should be {:?} at revision {}",
                compare::cut(&key),
                expected.revision
            );
            self.found(DifferenceType::MissingAsset, expected.kind, Some(asset), detail).await?;
            self.check_revisions(asset, expected.kind, &refold).await?;
        }
        Ok(())
    }

    fn count(&mut self, row: &StoredRow) {
        if row.state != AssetState::Active as i16 {
            return;
        }
        let hash = row.state_hash.as_deref().and_then(|hash| StateHash::try_from(hash).ok());
        self.digests.entry(row.kind).or_default().add(&hash.unwrap_or_default());
    }

    async fn compare_digests(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        let Some(node) = self.whose else { return Ok(()) };
        let mut kept: HashMap<i16, (i64, String)> = digests(connection, node)
            .await?
            .into_iter()
            .map(|row| (row.kind, (row.count, row.sum)))
            .collect();
        let mut kinds: Vec<i16> = self.digests.keys().chain(kept.keys()).copied().collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let digest = self.digests.remove(&kind).unwrap_or_default();
            let should = (digest.count.cast_signed(), digest.sum.to_string());
            let is = kept.remove(&kind).unwrap_or_else(|| (0, "0".to_owned()));
            if is != should {
                let detail = format!(
                    "digest: is {} assets with sum {}, should be {} with sum {}",
                    is.0, is.1, should.0, should.1
                );
                self.found(DifferenceType::WrongDigest, kind, None, detail).await?;
            }
        }
        Ok(())
    }

    /// What is kept of superseded states against what the log says of them. Of assets
    /// of which something else differs, that is enough.
    async fn compare_history(&mut self, connection: &mut AsyncPgConnection) -> Result<(), VerifyError> {
        for row in wrong_history_in_txn(connection, self.whose).await? {
            if !self.reported.contains(&row.uid) {
                let detail = compare::wrong_history(&row);
                self.found(DifferenceType::WrongHistory, row.kind, Some(row.uid), detail).await?;
            }
        }
        Ok(())
    }

    async fn found(
        &mut self,
        difference: DifferenceType,
        kind: i16,
        asset: Option<Uuid>,
        detail: String,
    ) -> Result<(), VerifyError> {
        self.reported.extend(asset);
        let found = Difference {
            r#type: difference.into(),
            node: self.whose.map(|node| Collection::Nodes.name(node)).unwrap_or_default(),
            kind: AssetKind::try_from(i32::from(kind)).unwrap_or_default().into(),
            asset: asset.map(|asset| Collection::Assets.name(asset)).unwrap_or_default(),
            detail,
        };
        Ok(self.steps.send(Step::Found(found)).await?)
    }
}

/// A row as the refold takes it.
pub fn told(row: &ToldRow, base: bool, streams: &Streams) -> Told {
    Told {
        source: if base { Source::Base } else { Source::Log(row.record_time, row.id) },
        record_time: row.record_time,
        event_type: EventType::try_from(i32::from(row.event_type)).unwrap_or_default(),
        kind: row.kind,
        natural_key: content_hash(row.natural_key.as_bytes()),
        display_name: content_hash(row.display_name.as_bytes()),
        revision: row.revision,
        managed_revision: row.managed_revision,
        state: row.state,
        details: row.details.as_deref().map(shortened),
        managed: row.managed.as_deref().map(shortened),
        version: streams.version(row),
    }
}
