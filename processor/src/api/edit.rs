//! AssetService: writing. Each act is one transaction: lock, check, write the
//! row, append the edit to the log.

use contracts::v1::{
    Asset, AssetKind, AssetState, CreateAssetRequest, DeleteAssetRequest, EventType, ManagedFields,
    UpdateAssetRequest,
};
use diesel::result::Error as QueryError;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use kit::{
    identity::Collection,
    queue::MAX_NATURAL_KEY_BYTES,
    status::{error, invalid_field, precondition},
};
use prost::Message;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::{Api, asset::missing, convert, errors, request, task::in_task};
use crate::{
    domain::{
        attributes::searchable,
        managed::{self, Editable},
    },
    store::{
        asset::{self, AssetRow},
        event::{NewEdit, append_edit_in_txn},
    },
};

/// Who edits, until there is access control: nobody can tell.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Why an edit did not happen.
pub(super) enum EditError {
    Query(QueryError),
    Refused(Box<Status>),
}

impl From<QueryError> for EditError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Status> for EditError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<EditError> for Status {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Query(error) => errors::query(&error),
            EditError::Refused(status) => *status,
        }
    }
}

impl Api {
    pub(super) async fn create(&self, request: Request<CreateAssetRequest>) -> Result<Asset, Status> {
        let given =
            request.into_inner().asset.ok_or_else(|| invalid_field("asset", "REQUIRED", "is required"))?;
        check_new(&given)?;
        let editable =
            Editable { display_name: given.display_name, managed: given.managed.unwrap_or_default() };
        managed::check(&editable, true).map_err(|error| errors::field(&error))?;
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let created = connection
                .transaction(async |connection| api.insert(connection, editable, given.natural_key).await)
                .await?;
            Ok::<_, EditError>(convert::asset((created, None, None)))
        })
        .await
    }

    async fn insert(
        &self,
        connection: &mut AsyncPgConnection,
        editable: Editable,
        natural_key: String,
    ) -> Result<AssetRow, EditError> {
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
        asset::insert_in_txn(connection, &row, self.searchable(&row)).await?;
        append(connection, &row, EventType::Created, &[]).await?;
        Ok(row)
    }

    pub(super) async fn update(&self, request: Request<UpdateAssetRequest>) -> Result<Asset, Status> {
        let request = request.into_inner();
        let given = request.asset.ok_or_else(|| invalid_field("asset", "REQUIRED", "is required"))?;
        let uid = request::name("asset.name", &given.name, Collection::Assets)?;
        let mask = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let edited = connection.transaction(async |connection| {
                api.apply_edit(connection, uid, &given, &mask).await?;
                api.read(connection, uid).await
            });
            edited.await
        })
        .await
    }

    async fn apply_edit(
        &self,
        connection: &mut AsyncPgConnection,
        uid: Uuid,
        given: &Asset,
        mask: &[String],
    ) -> Result<(), EditError> {
        let mut row = lock(connection, uid, &given.etag, "asset.etag").await?;
        refuse_deleted(&row)?;
        let before = Editable {
            display_name: row.display_name.clone(),
            managed: convert::managed(row.managed.as_deref()).unwrap_or_default(),
        };
        let created_by_person = row.kind == AssetKind::Custom as i16;
        let (after, changed) = managed::edit(&before, given, mask, created_by_person)
            .map_err(|error| EditError::from(errors::field(&error)))?;
        if changed.is_empty() {
            return Ok(());
        }
        row.display_name = after.display_name;
        row.managed = Some(ManagedFields::encode_to_vec(&after.managed));
        self.save(connection, &mut row, EventType::Edited, &changed).await
    }

    pub(super) async fn delete(&self, request: Request<DeleteAssetRequest>) -> Result<Asset, Status> {
        let request = request.into_inner();
        let uid = request::name("name", &request.name, Collection::Assets)?;
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let deleted = connection.transaction(async |connection| {
                api.mark_deleted(connection, uid, &request.etag).await?;
                api.read(connection, uid).await
            });
            deleted.await
        })
        .await
    }

    async fn mark_deleted(
        &self,
        connection: &mut AsyncPgConnection,
        uid: Uuid,
        etag: &str,
    ) -> Result<(), EditError> {
        let mut row = lock(connection, uid, etag, "etag").await?;
        refuse_deleted(&row)?;
        if row.state == AssetState::Active as i16 {
            let text = "an agent still sees it; a record can be deleted once the asset is REMOVED";
            return Err(precondition("STILL_OBSERVED", &Collection::Assets.name(uid), text).into());
        }
        row.delete_time = Some(row.update_time);
        self.save(connection, &mut row, EventType::Deleted, &["delete_time".to_owned()]).await
    }

    /// Writes the managed side as a new revision.
    pub(super) async fn save(
        &self,
        connection: &mut AsyncPgConnection,
        row: &mut AssetRow,
        event_type: EventType,
        changed: &[String],
    ) -> Result<(), EditError> {
        row.update_time = asset::record_time_in_txn(connection, Some(row.update_time)).await?;
        row.delete_time = row.delete_time.map(|_| row.update_time);
        row.revision += 1;
        row.managed_revision += 1;
        asset::save_managed_in_txn(connection, row, self.searchable(row)).await?;
        append(connection, row, event_type, changed).await?;
        Ok(())
    }

    fn searchable(&self, row: &AssetRow) -> serde_json::Value {
        let descriptor = self.descriptors.message("ManagedFields").expect("the contracts have ManagedFields");
        searchable(&descriptor, row.managed.as_deref().unwrap_or_default())
    }

    pub(super) async fn read(
        &self,
        connection: &mut AsyncPgConnection,
        uid: Uuid,
    ) -> Result<Asset, EditError> {
        let row = asset::get(connection, uid).await?.ok_or_else(|| missing(uid))?;
        Ok(convert::asset(row))
    }
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

pub(super) async fn lock(
    connection: &mut AsyncPgConnection,
    uid: Uuid,
    given_etag: &str,
    field: &str,
) -> Result<AssetRow, EditError> {
    let row = asset::lock_in_txn(connection, uid).await?.ok_or_else(|| missing(uid))?;
    let current = convert::etag(uid, row.managed_revision);
    if given_etag.is_empty() || given_etag == current {
        return Ok(row);
    }
    let text =
        format!("{field}: someone edited the asset in between; read it again (its etag is now {current})");
    Err(error(Code::Aborted, "ETAG_MISMATCH", text, &[("field", field), ("current", &current)]).into())
}

pub(super) fn refuse_deleted(row: &AssetRow) -> Result<(), EditError> {
    if row.delete_time.is_none() {
        return Ok(());
    }
    Err(precondition("DELETED", &Collection::Assets.name(row.uid), "the record is deleted").into())
}

async fn append(
    connection: &mut AsyncPgConnection,
    row: &AssetRow,
    event_type: EventType,
    changed: &[String],
) -> Result<(), QueryError> {
    let edit = NewEdit {
        record_time: row.update_time,
        event_uid: Uuid::now_v7(),
        event_type: event_type as i16,
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
        changed_fields: changed,
        actor: ANONYMOUS,
    };
    append_edit_in_txn(connection, &edit).await
}
