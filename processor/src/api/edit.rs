//! AssetService: writing one asset. Each act is one transaction: lock, check, write
//! the row, append the edit to the log. Many at once are in `batch`.

use chrono::TimeDelta;
use contracts::v1::{
    Asset, AssetKind, AssetState, CreateAssetRequest, DeleteAssetRequest, EventType, UndeleteAssetRequest,
    UpdateAssetRequest,
};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use kit::{
    identity::Collection,
    queue::MAX_NATURAL_KEY_BYTES,
    status::{error, invalid_field, precondition},
};
use prost::Message;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::{
    Api,
    asset::missing,
    convert,
    custom_field::definitions_in_txn,
    errors, request,
    write::{ANONYMOUS, WriteError},
};
use crate::{
    domain::{
        attributes::searchable,
        custom_field::Definitions,
        managed::{self, Editable, Rules, writes_custom_fields},
    },
    store::{
        asset::{self, AssetRow},
        asset_edit::{self, EditRow, NewRevision},
        event::{NewEdit, append_edit_in_txn},
    },
};

impl Api {
    pub(super) async fn create(&self, request: Request<CreateAssetRequest>) -> Result<Asset, Status> {
        let request = request.into_inner();
        let call = self.call("CreateAssetRequest", &request, &request.request_id, request.validate_only)?;
        let given = request.asset.ok_or_else(|| invalid_field("asset", "REQUIRED", "is required"))?;
        check_new(&given)?;
        let editable =
            Editable { display_name: given.display_name, managed: given.managed.unwrap_or_default() };
        let api = self.clone();
        self.write(call, move |connection| {
            async move {
                let definitions = definitions_in_txn(connection).await?;
                let rules = Rules { kind: AssetKind::Custom, definitions: &definitions };
                managed::check(None, &editable, rules).map_err(|refused| errors::edit(&refused, "asset"))?;
                let created = api.insert(connection, editable, given.natural_key).await?;
                Ok(convert::asset((created, None, None)))
            }
            .boxed()
        })
        .await
    }

    async fn insert(
        &self,
        connection: &mut AsyncPgConnection,
        editable: Editable,
        natural_key: String,
    ) -> Result<AssetRow, WriteError> {
        let now = asset::record_time_in_txn(connection, None).await?;
        let row = AssetRow {
            uid: Uuid::now_v7(),
            kind: AssetKind::Custom as i16,
            display_name: editable.display_name,
            node_uid: None,
            natural_key,
            state: AssetState::Unspecified as i16,
            details: None,
            managed: Some(editable.managed.encode_to_vec()),
            revision: 1,
            managed_revision: 1,
            first_seen_time: None,
            remove_time: None,
            create_time: now,
            update_time: now,
            delete_time: None,
        };
        let searched = self.searchable(row.managed.as_deref().unwrap_or_default());
        asset::insert_in_txn(connection, &row, searched).await?;
        append_created(connection, &row).await?;
        Ok(row)
    }

    pub(super) async fn update(&self, request: Request<UpdateAssetRequest>) -> Result<Asset, Status> {
        let request = request.into_inner();
        let call = self.call("UpdateAssetRequest", &request, &request.request_id, request.validate_only)?;
        let given = request.asset.ok_or_else(|| invalid_field("asset", "REQUIRED", "is required"))?;
        let uid = request::name("asset.name", &given.name, Collection::Assets)?;
        let mask = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let api = self.clone();
        self.write(call, move |connection| {
            async move {
                let row = locked(connection, uid, &given.etag, "asset.etag").await?;
                refuse_deleted(&row)?;
                let definitions = match writes_custom_fields(&given, &mask) {
                    true => definitions_in_txn(connection).await?,
                    false => Definitions::default(),
                };
                let rules = Rules { kind: kind(&row), definitions: &definitions };
                let (after, changed) = managed::edit(&before(&row), &given, &mask, rules)
                    .map_err(|refused| errors::edit(&refused, &given.name))?;
                if !changed.is_empty() {
                    api.record(connection, row, &after, EventType::Edited, changed).await?;
                }
                read(connection, uid).await
            }
            .boxed()
        })
        .await
    }

    pub(super) async fn delete(&self, request: Request<DeleteAssetRequest>) -> Result<Asset, Status> {
        let request = request.into_inner();
        let call = self.call("DeleteAssetRequest", &request, &request.request_id, request.validate_only)?;
        let uid = request::name("name", &request.name, Collection::Assets)?;
        let api = self.clone();
        self.write(call, move |connection| {
            async move {
                let row = locked(connection, uid, &request.etag, "etag").await?;
                refuse_deleted(&row)?;
                if row.state == AssetState::Active as i16 {
                    let text = "an agent still sees it; a record can be deleted once the asset is REMOVED";
                    return Err(precondition("STILL_OBSERVED", &request.name, text).into());
                }
                let (after, changed) = (before(&row), vec!["delete_time".to_owned()]);
                api.record(connection, row, &after, EventType::Deleted, changed).await?;
                read(connection, uid).await
            }
            .boxed()
        })
        .await
    }

    pub(super) async fn undelete(&self, request: Request<UndeleteAssetRequest>) -> Result<Asset, Status> {
        let request = request.into_inner();
        let call = self.call("UndeleteAssetRequest", &request, &request.request_id, request.validate_only)?;
        let uid = request::name("name", &request.name, Collection::Assets)?;
        let api = self.clone();
        self.write(call, move |connection| {
            async move {
                let row = locked(connection, uid, &request.etag, "etag").await?;
                if row.delete_time.is_none() {
                    // As AIP-164 wants it.
                    let text = format!("{}: the record is not deleted", request.name);
                    let about = [("resource", request.name.as_str())];
                    return Err(error(Code::AlreadyExists, "NOT_DELETED", text, &about).into());
                }
                let (after, changed) = (before(&row), vec!["delete_time".to_owned()]);
                api.record(connection, row, &after, EventType::Undeleted, changed).await?;
                read(connection, uid).await
            }
            .boxed()
        })
        .await
    }

    /// Writes the managed side of a row that is locked, and was checked, as a new
    /// revision, with its event.
    pub(super) async fn record(
        &self,
        connection: &mut AsyncPgConnection,
        row: EditRow,
        after: &Editable,
        event_type: EventType,
        changed: Vec<String>,
    ) -> Result<(), WriteError> {
        let now = asset::record_time_in_txn(connection, None).await?;
        let revision = self.revision(row, after, event_type, changed, now);
        Ok(asset_edit::save_in_txn(connection, &[revision], ANONYMOUS).await?)
    }

    /// The revision that an edit makes of a locked row. Its time is later than that
    /// of the one before.
    pub(super) fn revision(
        &self,
        row: EditRow,
        after: &Editable,
        event_type: EventType,
        changed: Vec<String>,
        now: chrono::DateTime<chrono::Utc>,
    ) -> NewRevision {
        let record_time = now.max(row.update_time + TimeDelta::microseconds(1));
        let managed = match event_type {
            EventType::Edited => Some(after.managed.encode_to_vec()),
            // What nobody wrote stays as it is, absent too.
            _ => row.managed,
        };
        NewRevision {
            uid: row.uid,
            event_type,
            display_name: after.display_name.clone(),
            searchable: self.searchable(managed.as_deref().unwrap_or_default()),
            managed,
            revision: row.revision + 1,
            managed_revision: row.managed_revision + 1,
            record_time,
            delete_time: (event_type == EventType::Deleted).then_some(record_time),
            changed,
        }
    }

    fn searchable(&self, managed: &[u8]) -> serde_json::Value {
        let descriptor = self.descriptors.message("ManagedFields").expect("the contracts have ManagedFields");
        searchable(&descriptor, managed)
    }
}

/// The editable side of a row.
pub(super) fn before(row: &EditRow) -> Editable {
    let managed = convert::managed(row.managed.as_deref()).unwrap_or_default();
    Editable { display_name: row.display_name.clone(), managed }
}

/// Kind of a row.
pub(super) fn kind(row: &EditRow) -> AssetKind {
    AssetKind::try_from(i32::from(row.kind)).unwrap_or_default()
}

/// Locks an asset, and its node before it. NOT_FOUND if there is none, ABORTED if
/// an etag is given and stale.
pub(super) async fn locked(
    connection: &mut AsyncPgConnection,
    uid: Uuid,
    given_etag: &str,
    field: &str,
) -> Result<EditRow, WriteError> {
    asset_edit::lock_in_txn(connection, &[uid]).await?;
    let row = asset_edit::read(connection, &[uid]).await?.pop().ok_or_else(|| missing(uid))?;
    let current = convert::etag(uid, row.managed_revision);
    if given_etag.is_empty() || given_etag == current {
        return Ok(row);
    }
    Err(errors::stale(field, &current).into())
}

/// FAILED_PRECONDITION for a deleted record.
pub(super) fn refuse_deleted(row: &EditRow) -> Result<(), Status> {
    if row.delete_time.is_none() {
        return Ok(());
    }
    let text = "the record is deleted; undelete it first";
    Err(precondition("DELETED", &Collection::Assets.name(row.uid), text))
}

pub(super) async fn read(connection: &mut AsyncPgConnection, uid: Uuid) -> Result<Asset, WriteError> {
    let row = asset::get(connection, uid).await?.ok_or_else(|| missing(uid))?;
    Ok(convert::asset(row))
}

fn check_new(given: &Asset) -> Result<(), Status> {
    let kind = given.kind();
    if AssetKind::try_from(given.kind).is_err() || !matches!(kind, AssetKind::Unspecified | AssetKind::Custom)
    {
        let problem = "only assets of kind CUSTOM can be created; agents report the others";
        return Err(invalid_field("asset.kind", "NOT_CREATABLE", problem));
    }
    let observed = [
        (!given.node.is_empty(), "asset.node"),
        (given.details.is_some(), "asset.details"),
        (given.state != 0, "asset.state"),
    ];
    for (set, field) in observed {
        if set {
            return Err(invalid_field(field, "OBSERVED_FIELD", "is observed: only agents write it"));
        }
    }
    if given.natural_key.len() > MAX_NATURAL_KEY_BYTES || given.natural_key.contains('\0') {
        let problem = format!("must be at most {MAX_NATURAL_KEY_BYTES} bytes, without NUL");
        return Err(invalid_field("asset.natural_key", "INVALID_FIELD", problem));
    }
    Ok(())
}

async fn append_created(connection: &mut AsyncPgConnection, row: &AssetRow) -> Result<(), WriteError> {
    let edit = NewEdit {
        record_time: row.update_time,
        event_uid: Uuid::now_v7(),
        event_type: EventType::Created as i16,
        asset_uid: row.uid,
        kind: row.kind,
        display_name: &row.display_name,
        node_uid: row.node_uid,
        natural_key: &row.natural_key,
        revision: row.revision,
        managed_revision: row.managed_revision,
        state: row.state,
        details: row.details.as_deref(),
        managed: row.managed.as_deref(),
        changed_fields: &[],
        actor: ANONYMOUS,
    };
    Ok(append_edit_in_txn(connection, &edit).await?)
}
