//! AssetService: many assets at once. BatchUpdateAssets is one transaction; it
//! reads, decides and writes in chunks, so that its memory is bounded.

mod faults;
mod target;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contracts::v1::{
    Asset, BatchGetAssetsRequest, BatchGetAssetsResponse, BatchUpdateAssetsRequest,
    BatchUpdateAssetsResponse, EditedAsset, EventType,
};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use kit::{
    identity::Collection,
    status::{invalid_field, precondition_with},
};
use tonic::{Request, Status};
use uuid::Uuid;

use super::{
    Api, convert,
    custom_field::definitions_in_txn,
    edit::{before, kind},
    task::in_task,
    write::{ANONYMOUS, WriteError},
};
use crate::{
    domain::{
        custom_field::Definitions,
        managed::{self, Rules},
    },
    store::{
        asset,
        asset_edit::{EditRow, NewRevision, count_under, found, lock_in_txn, read, save_in_txn, under},
    },
};
use faults::{Fault, Faults, not_found};
use target::{Target, uids};

/// Assets of one BatchGetAssets, and edits of one BatchUpdateAssets.
const MAX_NAMED: usize = 1000;
/// Assets of one patch.
const MAX_PATCHED: usize = 10_000;
/// Assets that are read and written at a time: with the longest notes on each, twice
/// 8 MiB.
const CHUNK: usize = 500;
const DEFAULT_SAMPLE: usize = 20;
const MAX_SAMPLE: usize = 100;

impl Api {
    pub(super) async fn batch_get(
        &self,
        request: Request<BatchGetAssetsRequest>,
    ) -> Result<BatchGetAssetsResponse, Status> {
        let uids = uids(&request.into_inner().names, "names", MAX_NAMED)?;
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            Ok::<_, WriteError>(BatchGetAssetsResponse { assets: in_order(&mut connection, &uids).await? })
        })
        .await
    }

    pub(super) async fn batch_update(
        &self,
        request: Request<BatchUpdateAssetsRequest>,
    ) -> Result<BatchUpdateAssetsResponse, Status> {
        let request = request.into_inner();
        let rehearse = request.validate_only;
        let call = self.call("BatchUpdateAssetsRequest", &request, &request.request_id, rehearse)?;
        let sample = sample_size(request.sample_size)?;
        let order: Vec<Uuid> = request
            .edits
            .iter()
            .filter_map(|edit| Collection::Assets.parse(&edit.asset.as_ref()?.name))
            .collect();
        let target = Target::of(request, &self.asset_schema())?;
        let api = self.clone();
        self.write(call, move |connection| {
            async move {
                let mut batch = Batch { api: &api, target: &target, rehearse, sample, done: Done::default() };
                let mut answer = batch.run(connection).await?;
                if !order.is_empty() && !rehearse {
                    answer.assets = in_order(connection, &order).await?;
                }
                Ok(answer)
            }
            .boxed()
        })
        .await
    }
}

fn sample_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SAMPLE),
        Ok(size @ 1..=MAX_SAMPLE) => Ok(size),
        _ => {
            let problem = format!("{asked} is not 0 to {MAX_SAMPLE}");
            Err(invalid_field("sample_size", "INVALID_FIELD", problem))
        }
    }
}

/// Assets in the order of their names; NOT_FOUND that names those missing.
async fn in_order(connection: &mut AsyncPgConnection, uids: &[Uuid]) -> Result<Vec<Asset>, WriteError> {
    let rows = asset::get_many(connection, uids).await?;
    let mut found: HashMap<Uuid, Asset> =
        rows.into_iter().map(|row| (row.0.uid, convert::asset(row))).collect();
    let missing: Vec<Uuid> = uids.iter().copied().filter(|uid| !found.contains_key(uid)).collect();
    if !missing.is_empty() {
        return Err(not_found(&missing).into());
    }
    Ok(uids.iter().filter_map(|uid| found.remove(uid)).collect())
}

/// One BatchUpdateAssets on its way.
struct Batch<'a> {
    api: &'a Api,
    target: &'a Target,
    /// Only tells: takes no lock and writes nothing.
    rehearse: bool,
    /// Changes that are told.
    sample: usize,
    done: Done,
}

#[derive(Default)]
struct Done {
    changed: i32,
    sample: Vec<EditedAsset>,
    faults: Faults,
}

impl Batch<'_> {
    async fn run(
        &mut self,
        connection: &mut AsyncPgConnection,
    ) -> Result<BatchUpdateAssetsResponse, WriteError> {
        let assets = self.choose(connection).await?;
        let definitions = match self.target.writes_custom_fields() {
            true => definitions_in_txn(connection).await?,
            false => Definitions::default(),
        };
        let now = asset::record_time_in_txn(connection, None).await?;
        for chunk in assets.chunks(CHUNK) {
            let mut revisions = Vec::new();
            for row in read(connection, chunk).await? {
                revisions.extend(self.decide(row, &definitions, now));
            }
            // What was written before a fault is rolled back; the rest is only looked
            // at, to count what is at fault.
            if !self.rehearse && self.done.faults.is_empty() {
                save_in_txn(connection, &revisions, ANONYMOUS).await?;
            }
        }
        if let Some(refusal) = self.done.faults.status(self.target) {
            return Err(refusal.into());
        }
        Ok(BatchUpdateAssetsResponse {
            assets: Vec::new(),
            matched_count: i32::try_from(assets.len()).unwrap_or(i32::MAX),
            changed_count: self.done.changed,
            sample: std::mem::take(&mut self.done.sample),
        })
    }

    /// The assets that are meant, by UUID, locked.
    async fn choose(&self, connection: &mut AsyncPgConnection) -> Result<Vec<Uuid>, WriteError> {
        let mut named: Vec<Uuid> = match self.target {
            Target::Edits(edits) => edits.keys().copied().collect(),
            Target::Named(uids, _) => uids.clone(),
            Target::Filtered { .. } => return self.choose_filtered(connection).await,
        };
        named.sort_unstable();
        let there = match self.rehearse {
            true => found(connection, &named).await?,
            false => lock_in_txn(connection, &named).await?,
        };
        let missing: Vec<Uuid> = named.into_iter().filter(|uid| there.binary_search(uid).is_err()).collect();
        if missing.is_empty() { Ok(there) } else { Err(not_found(&missing).into()) }
    }

    async fn choose_filtered(&self, connection: &mut AsyncPgConnection) -> Result<Vec<Uuid>, WriteError> {
        let Target::Filtered { condition, expected, .. } = self.target else { return Ok(Vec::new()) };
        let most = i64::try_from(MAX_PATCHED).unwrap_or(i64::MAX);
        let mut chosen = under(connection, condition, None, most + 1).await?;
        if chosen.len() > MAX_PATCHED {
            let count = count_under(connection, condition).await?;
            let text = format!(
                "{count} assets are under it; at most {MAX_PATCHED} can be edited at once: narrow it"
            );
            let about = [("count", count.to_string()), ("limit", MAX_PATCHED.to_string())];
            return Err(count_refused("TOO_MANY_ASSETS", text, &about).into());
        }
        if !self.rehearse {
            lock_in_txn(connection, &chosen).await?;
            // Some may have changed before the lock.
            chosen = under(connection, condition, Some(&chosen), most).await?;
        }
        match expected {
            Some(expected) if usize::try_from(*expected) != Ok(chosen.len()) => {
                let text = format!("{} assets are under it, and {expected} were expected", chosen.len());
                let about = [("count", chosen.len().to_string()), ("expected", expected.to_string())];
                Err(count_refused("OTHER_COUNT", text, &about).into())
            }
            _ => Ok(chosen),
        }
    }

    /// What becomes of one asset; none if nothing, or if it is at fault.
    fn decide(&mut self, row: EditRow, definitions: &Definitions, now: DateTime<Utc>) -> Option<NewRevision> {
        let (patch, done) = (self.target.patch(row.uid)?, &mut self.done);
        if row.delete_time.is_some() {
            done.faults.add(row.uid, Fault::Deleted);
            return None;
        }
        let etag = convert::etag(row.uid, row.managed_revision);
        if !patch.asset.etag.is_empty() && patch.asset.etag != etag {
            done.faults.add(row.uid, Fault::Stale(etag));
            return None;
        }
        let before = before(&row);
        let rules = Rules { kind: kind(&row), definitions };
        let (after, changed) = match managed::edit(&before, &patch.asset, &patch.mask, rules) {
            Ok(edited) => edited,
            Err(refused) => {
                done.faults.add(row.uid, Fault::Refused(refused));
                return None;
            }
        };
        if changed.is_empty() {
            return None;
        }
        done.changed += 1;
        if done.sample.len() < self.sample {
            done.sample.push(EditedAsset {
                name: Collection::Assets.name(row.uid),
                display_name: row.display_name.clone(),
                changed_fields: changed.clone(),
                before: Some(before.managed),
                after: Some(after.managed.clone()),
            });
        }
        Some(self.api.revision(row, &after, EventType::Edited, changed, now))
    }
}

fn count_refused(reason: &str, text: String, about: &[(&str, String)]) -> Status {
    let about: Vec<(&str, &str)> = about.iter().map(|(key, value)| (*key, value.as_str())).collect();
    precondition_with(reason, "filter", text, &about)
}
