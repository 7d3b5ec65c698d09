//! Giving an asset the managed fields of an earlier revision again.

use contracts::v1::{Asset, AssetKind, EventType, RevertAssetRequest};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use kit::{
    identity::Collection,
    status::{invalid_field, not_found},
};
use prost::Message;
use tonic::Status;
use uuid::Uuid;

use super::{
    Api, convert,
    edit::{EditError, lock, refuse_deleted},
    errors, request,
    task::in_task,
};
use crate::{
    domain::managed::{self, Editable},
    store::event,
};

/// NOT_FOUND for a revision.
pub(super) fn missing_revision(uid: Uuid, revision: i64) -> Status {
    let name = format!("{}/revisions/{revision}", Collection::Assets.name(uid));
    not_found("assettrack.v1.AssetRevision", &name)
}

/// Sees that it is a number that a revision may have.
pub(super) fn check_revision(field: &str, revision: i64) -> Result<(), Status> {
    if revision < 1 {
        return Err(invalid_field(field, "INVALID_REVISION", "revisions count from 1"));
    }
    Ok(())
}

impl Api {
    pub(super) async fn revert(&self, request: RevertAssetRequest) -> Result<Asset, Status> {
        let uid = request::name("name", &request.name, Collection::Assets)?;
        check_revision("revision", request.revision)?;
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let reverted = connection.transaction(async |connection| {
                api.apply_revert(connection, uid, &request).await?;
                api.read(connection, uid).await
            });
            reverted.await
        })
        .await
    }

    async fn apply_revert(
        &self,
        connection: &mut AsyncPgConnection,
        uid: Uuid,
        request: &RevertAssetRequest,
    ) -> Result<(), EditError> {
        let mut row = lock(connection, uid, &request.etag, "etag").await?;
        refuse_deleted(&row)?;
        let (then, _, _, managed) = event::revision(connection, uid, request.revision)
            .await?
            .ok_or_else(|| missing_revision(uid, request.revision))?;
        let before = Editable {
            display_name: row.display_name.clone(),
            managed: convert::managed(row.managed.as_deref()).unwrap_or_default(),
        };
        let created_by_person = row.kind == AssetKind::Custom as i16;
        let after = Editable {
            display_name: if created_by_person { then.display_name } else { row.display_name.clone() },
            managed: convert::managed(managed.as_deref()).unwrap_or_default(),
        };
        // What was allowed then may not be any more.
        managed::check(&after, created_by_person).map_err(|error| EditError::from(errors::field(&error)))?;
        let changed = managed::changed(&before, &after);
        if changed.is_empty() {
            return Ok(());
        }
        row.display_name = after.display_name;
        row.managed = Some(after.managed.encode_to_vec());
        self.save(connection, &mut row, EventType::Edited, &changed).await
    }
}
