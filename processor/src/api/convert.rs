//! Rows as the contract shows them.

use contracts::v1::{Asset, AssetDetails, AssetRevision, Event, ManagedFields};
use kit::identity::Collection;
use prost::Message;
use uuid::Uuid;

use crate::store::{
    asset::{AssetOnNode, AssetRow},
    event::{EventOnNode, EventRow, RevisionRow},
};
pub use crate::timestamp::timestamp;

/// The etag of a write: it names the asset and its count of managed edits, and
/// so does not change with what agents see.
pub fn etag(uid: Uuid, managed_revision: i64) -> String {
    format!("\"{}-{managed_revision}\"", &uid.simple().to_string()[24..])
}

/// Managed fields of a row.
pub fn managed(encoded: Option<&[u8]>) -> Option<ManagedFields> {
    encoded.and_then(|encoded| ManagedFields::decode(encoded).ok())
}

fn details(encoded: Option<&[u8]>) -> Option<AssetDetails> {
    encoded.and_then(|encoded| AssetDetails::decode(encoded).ok())
}

fn node_name(node: Option<Uuid>) -> String {
    node.map(|node| Collection::Nodes.name(node)).unwrap_or_default()
}

/// An asset.
pub fn asset((row, node_display_name, heartbeat): AssetOnNode) -> Asset {
    let last_seen = row.last_seen(heartbeat);
    Asset {
        name: Collection::Assets.name(row.uid),
        kind: row.kind.into(),
        node: node_name(row.node_uid),
        node_display_name: node_display_name.unwrap_or_default(),
        state: row.state.into(),
        details: details(row.details.as_deref()),
        managed: managed(row.managed.as_deref()),
        revision: row.revision,
        managed_revision: row.managed_revision,
        etag: etag(row.uid, row.managed_revision),
        first_seen_time: row.first_seen_time.map(timestamp),
        last_seen_time: last_seen.map(timestamp),
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
        delete_time: row.delete_time.map(timestamp),
        display_name: row.display_name,
        natural_key: row.natural_key,
    }
}

/// An event.
pub fn event((row, node_display_name): EventOnNode) -> Event {
    Event {
        name: Collection::Events.name(row.event_uid),
        r#type: row.event_type.into(),
        asset: Collection::Assets.name(row.asset_uid),
        kind: row.kind.into(),
        node: node_name(row.node_uid),
        node_display_name: node_display_name.unwrap_or_default(),
        revision: row.revision.unwrap_or(0),
        record_time: Some(timestamp(row.record_time)),
        observe_time: row.observe_time.map(timestamp),
        display_name: row.display_name,
        actor: row.actor,
        changed_fields: row.changed_fields,
    }
}

/// A revision: the event, and the asset as it was after it.
pub fn revision((row, node_display_name, details, managed): RevisionRow, now: &AssetRow) -> AssetRevision {
    let mut asset = as_of(&row, now);
    asset.node_display_name = node_display_name.clone().unwrap_or_default();
    asset.details = self::details(details.as_deref());
    asset.managed = self::managed(managed.as_deref());
    let number = row.revision.unwrap_or(0);
    AssetRevision {
        name: format!("{}/revisions/{number}", Collection::Assets.name(row.asset_uid)),
        revision: number,
        record_time: Some(timestamp(row.record_time)),
        asset: Some(asset),
        event: Some(event((row, node_display_name))),
    }
}

fn as_of(row: &EventRow, now: &AssetRow) -> Asset {
    let deleted = row.event_type == contracts::v1::EventType::Deleted as i16;
    Asset {
        name: Collection::Assets.name(row.asset_uid),
        kind: row.kind.into(),
        display_name: row.display_name.clone(),
        node: node_name(row.node_uid),
        node_display_name: String::new(),
        natural_key: row.natural_key.clone(),
        state: row.state.into(),
        details: None,
        managed: None,
        revision: row.revision.unwrap_or(0),
        managed_revision: row.managed_revision,
        etag: etag(row.asset_uid, row.managed_revision),
        first_seen_time: now.first_seen_time.map(timestamp),
        last_seen_time: None,
        create_time: Some(timestamp(now.create_time)),
        update_time: Some(timestamp(row.record_time)),
        delete_time: deleted.then(|| timestamp(row.record_time)),
    }
}
