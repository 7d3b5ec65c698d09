//! Giving an asset the managed fields of an earlier revision again.

use contracts::v1::{Asset, AssetKind, EventType, ManagedFields, RevertAssetRequest};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use kit::{
    identity::Collection,
    status::{invalid_field, not_found},
};
use tonic::Status;
use uuid::Uuid;

use super::{
    Api, convert,
    custom_field::definitions_in_txn,
    edit::{before, kind, locked, read, refuse_deleted},
    errors, request,
    write::WriteError,
};
use crate::{
    domain::managed::{self, Editable, Rules},
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
        let call = self.call("RevertAssetRequest", &request, &request.request_id, request.validate_only)?;
        let uid = request::name("name", &request.name, Collection::Assets)?;
        check_revision("revision", request.revision)?;
        let api = self.clone();
        self.write(call, move |connection| {
            async move {
                api.apply_revert(connection, uid, &request).await?;
                read(connection, uid).await
            }
            .boxed()
        })
        .await
    }

    async fn apply_revert(
        &self,
        connection: &mut AsyncPgConnection,
        uid: Uuid,
        request: &RevertAssetRequest,
    ) -> Result<(), WriteError> {
        let row = locked(connection, uid, &request.etag, "etag").await?;
        refuse_deleted(&row)?;
        let (then, _, _, managed) = event::revision(connection, uid, request.revision)
            .await?
            .ok_or_else(|| missing_revision(uid, request.revision))?;
        let before = before(&row);
        let created_by_person = kind(&row) == AssetKind::Custom;
        let after = Editable {
            display_name: if created_by_person { then.display_name } else { row.display_name.clone() },
            managed: convert::managed(managed.as_deref()).unwrap_or_default(),
        };
        // What was allowed then may not be any more, but for the lifecycle: a revert
        // undoes a mistake.
        let lifecycle = after.managed.lifecycle;
        let held_against = Editable {
            managed: ManagedFields { lifecycle, ..before.managed.clone() },
            display_name: before.display_name.clone(),
        };
        let definitions = definitions_in_txn(connection).await?;
        let rules = Rules { kind: kind(&row), definitions: &definitions };
        managed::check(Some(&held_against), &after, rules)
            .map_err(|refused| errors::edit(&refused, &request.name))?;
        let changed = managed::changed(&before, &after);
        if changed.is_empty() {
            return Ok(());
        }
        self.record(connection, row, &after, EventType::Edited, changed).await
    }
}
