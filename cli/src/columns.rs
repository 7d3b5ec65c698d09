//! Columns of what is listed.

use std::collections::HashMap;

use contracts::v1::{
    AffectedPackage, Asset, AssetChange, AssetChangeType, AssetDifference, AssetDifferenceType, AssetKind,
    AssetRevision, AssetState, CollectorState, Completeness, Difference, DifferenceType, Event, EventType,
    FieldDifference, FieldSide, ImageContentSource, ImagePackage, Lifecycle, ManagedFields, Node, NodeHealth,
    PackageDetails, PackagePlace, RelatedAsset, RelationDirection, RelationStep, RelationType, VersionOrder,
};

use crate::{
    cell::{Clock, word},
    diff,
    output::{Column, Row},
};

/// A column of the table and of CSV.
fn shown<T>(name: &'static str, text: fn(&T, Clock) -> String) -> Column<T> {
    Column { name, in_table: true, text }
}

/// A column of CSV alone.
fn more<T>(name: &'static str, text: fn(&T, Clock) -> String) -> Column<T> {
    Column { name, in_table: false, text }
}

/// `PACKAGE` and so on.
pub fn kind(number: i32) -> String {
    word(AssetKind::try_from(number).ok().map(|kind| kind.as_str_name()), "ASSET_KIND_", number)
}

/// `ACTIVE` and so on.
pub fn state(number: i32) -> String {
    word(AssetState::try_from(number).ok().map(|state| state.as_str_name()), "ASSET_STATE_", number)
}

/// `HEALTHY` and so on.
pub fn health(number: i32) -> String {
    word(NodeHealth::try_from(number).ok().map(|health| health.as_str_name()), "NODE_HEALTH_", number)
}

/// `COMPLETE` and so on.
fn completeness(number: i32) -> String {
    let completeness = Completeness::try_from(number).ok();
    word(completeness.map(|known| known.as_str_name()), "COMPLETENESS_", number)
}

/// `CONSUMING` and so on.
pub fn collector_state(number: i32) -> String {
    let state = CollectorState::try_from(number).ok();
    word(state.map(|state| state.as_str_name()), "COLLECTOR_STATE_", number)
}

fn event_type(number: i32) -> String {
    word(EventType::try_from(number).ok().map(|event| event.as_str_name()), "EVENT_TYPE_", number)
}

fn lifecycle(number: i32) -> String {
    word(Lifecycle::try_from(number).ok().map(|lifecycle| lifecycle.as_str_name()), "LIFECYCLE_", number)
}

fn image_source(number: i32) -> String {
    let source = ImageContentSource::try_from(number).ok();
    word(source.map(|source| source.as_str_name()), "IMAGE_CONTENT_SOURCE_", number)
}

fn difference_type(number: i32) -> String {
    let difference = DifferenceType::try_from(number).ok();
    word(difference.map(|difference| difference.as_str_name()), "DIFFERENCE_TYPE_", number)
}

fn relation(number: i32) -> String {
    let relation = RelationType::try_from(number).ok();
    word(relation.map(|relation| relation.as_str_name()), "RELATION_TYPE_", number)
}

fn package_place(number: i32) -> String {
    word(PackagePlace::try_from(number).ok().map(|place| place.as_str_name()), "PACKAGE_PLACE_", number)
}

fn version_order(number: i32) -> String {
    word(VersionOrder::try_from(number).ok().map(|order| order.as_str_name()), "VERSION_ORDER_", number)
}

/// What is seldom true stands out if nothing is said otherwise.
fn flag(set: bool) -> String {
    if set { "yes".to_owned() } else { String::new() }
}

fn managed(asset: &Asset, field: fn(&ManagedFields) -> String) -> String {
    asset.managed.as_ref().map(field).unwrap_or_default()
}

/// `key=value` pairs by key.
fn labels(labels: &HashMap<String, String>) -> String {
    let mut pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join(" ")
}

impl Row for Asset {
    fn columns() -> Vec<Column<Self>> {
        vec![
            shown("name", |asset, _| asset.name.clone()),
            shown("kind", |asset, _| kind(asset.kind)),
            shown("state", |asset, _| state(asset.state)),
            shown("display_name", |asset, _| asset.display_name.clone()),
            shown("node_display_name", |asset, _| asset.node_display_name.clone()),
            more("node", |asset, _| asset.node.clone()),
            more("natural_key", |asset, _| asset.natural_key.clone()),
            shown("owner", |asset, _| managed(asset, |managed| managed.owner.clone())),
            more("lifecycle", |asset, _| managed(asset, |managed| lifecycle(managed.lifecycle))),
            more("location", |asset, _| managed(asset, |managed| managed.location.clone())),
            more("labels", |asset, _| managed(asset, |managed| labels(&managed.labels))),
            more("revision", |asset, _| asset.revision.to_string()),
            more("first_seen_time", |asset, clock| clock.show(asset.first_seen_time.as_ref())),
            more("last_seen_time", |asset, clock| clock.show(asset.last_seen_time.as_ref())),
            more("create_time", |asset, clock| clock.show(asset.create_time.as_ref())),
            shown("update_time", |asset, clock| clock.show(asset.update_time.as_ref())),
            more("delete_time", |asset, clock| clock.show(asset.delete_time.as_ref())),
        ]
    }
}

impl Row for AssetChange {
    fn columns() -> Vec<Column<Self>> {
        fn asset(change: &AssetChange, field: fn(&Asset) -> String) -> String {
            change.asset.as_ref().map(field).unwrap_or_default()
        }
        vec![
            shown("type", |change, _| {
                let name = AssetChangeType::try_from(change.r#type).ok().map(|one| one.as_str_name());
                word(name, "ASSET_CHANGE_TYPE_", change.r#type)
            }),
            shown("name", |change, _| change.name.clone()),
            shown("revision", |change, _| change.revision.to_string()),
            shown("kind", |change, _| asset(change, |asset| kind(asset.kind))),
            shown("state", |change, _| asset(change, |asset| state(asset.state))),
            shown("display_name", |change, _| asset(change, |asset| asset.display_name.clone())),
            shown("node_display_name", |change, _| asset(change, |asset| asset.node_display_name.clone())),
            shown("owner", |change, _| {
                asset(change, |asset| managed(asset, |managed| managed.owner.clone()))
            }),
            shown("update_time", |change, clock| {
                clock.show(change.asset.as_ref().and_then(|asset| asset.update_time.as_ref()))
            }),
        ]
    }
}

impl Row for AssetRevision {
    fn columns() -> Vec<Column<Self>> {
        fn event(revision: &AssetRevision, field: fn(&Event) -> String) -> String {
            revision.event.as_ref().map(field).unwrap_or_default()
        }
        vec![
            shown("revision", |revision, _| revision.revision.to_string()),
            shown("record_time", |revision, clock| clock.show(revision.record_time.as_ref())),
            shown("type", |revision, _| event(revision, |event| event_type(event.r#type))),
            shown("actor", |revision, _| event(revision, |event| event.actor.clone())),
            shown("changed_fields", |revision, _| event(revision, |event| event.changed_fields.join(" "))),
            more("name", |revision, _| revision.name.clone()),
        ]
    }
}

impl Row for Event {
    fn columns() -> Vec<Column<Self>> {
        vec![
            shown("record_time", |event, clock| clock.show(event.record_time.as_ref())),
            shown("type", |event, _| event_type(event.r#type)),
            shown("kind", |event, _| kind(event.kind)),
            shown("display_name", |event, _| event.display_name.clone()),
            shown("node_display_name", |event, _| event.node_display_name.clone()),
            shown("actor", |event, _| event.actor.clone()),
            shown("changed_fields", |event, _| event.changed_fields.join(" ")),
            more("asset", |event, _| event.asset.clone()),
            more("node", |event, _| event.node.clone()),
            more("revision", |event, _| event.revision.to_string()),
            more("observe_time", |event, clock| clock.show(event.observe_time.as_ref())),
            more("name", |event, _| event.name.clone()),
        ]
    }
}

impl Row for Node {
    fn columns() -> Vec<Column<Self>> {
        vec![
            shown("name", |node, _| node.name.clone()),
            shown("display_name", |node, _| node.display_name.clone()),
            shown("cluster", |node, _| node.cluster.clone()),
            shown("health", |node, _| health(node.health)),
            shown("completeness", |node, _| completeness(node.completeness)),
            shown("last_heartbeat_time", |node, clock| clock.show(node.last_heartbeat_time.as_ref())),
            shown("active_assets", |node, _| node.active_assets.to_string()),
            shown("outbox_batches", |node, _| node.outbox_batches.to_string()),
            shown("agent_version", |node, _| node.agent_version.clone()),
            shown("identity_conflict", |node, _| flag(node.identity_conflict)),
            more("heartbeat_interval_seconds", |node, _| node.heartbeat_interval_seconds.to_string()),
            more("stream", |node, _| node.stream.clone()),
            more("last_sequence", |node, _| node.last_sequence.to_string()),
            more("received_sequence", |node, _| node.received_sequence.to_string()),
            more("complete_time", |node, clock| clock.show(node.complete_time.as_ref())),
            more("retire_time", |node, clock| clock.show(node.retire_time.as_ref())),
            more("create_time", |node, clock| clock.show(node.create_time.as_ref())),
        ]
    }
}

impl Row for PackageDetails {
    fn columns() -> Vec<Column<Self>> {
        vec![
            shown("package", |package, _| package.package.clone()),
            shown("version", |package, _| package.version.clone()),
            shown("architecture", |package, _| package.architecture.clone()),
            shown("manager", |package, _| package.manager.clone()),
            shown("source", |package, _| package.source.clone()),
            more("source_version", |package, _| package.source_version.clone()),
            shown("license", |package, _| package.license.clone()),
            more("installed_size_bytes", |package, _| package.installed_size_bytes.to_string()),
            more("status", |package, _| package.status.clone()),
            more("maintainer", |package, _| package.maintainer.clone()),
            more("section", |package, _| package.section.clone()),
            more("summary", |package, _| package.summary.clone()),
            more("homepage", |package, _| package.homepage.clone()),
        ]
    }
}

impl Row for ImagePackage {
    fn columns() -> Vec<Column<Self>> {
        fn of(found: &ImagePackage, field: fn(&PackageDetails) -> &String) -> String {
            found.package.as_ref().map(|package| field(package).clone()).unwrap_or_default()
        }
        vec![
            shown("image_digest", |found, _| found.image_digest.clone()),
            shown("package", |found, _| of(found, |package| &package.package)),
            shown("version", |found, _| of(found, |package| &package.version)),
            shown("architecture", |found, _| of(found, |package| &package.architecture)),
            shown("active_nodes", |found, _| found.active_nodes.to_string()),
            shown("source", |found, _| image_source(found.source)),
            more("manager", |found, _| of(found, |package| &package.manager)),
            more("license", |found, _| of(found, |package| &package.license)),
        ]
    }
}

impl Row for Difference {
    fn columns() -> Vec<Column<Self>> {
        vec![
            shown("type", |difference, _| difference_type(difference.r#type)),
            shown("kind", |difference, _| kind(difference.kind)),
            shown("node", |difference, _| difference.node.clone()),
            shown("asset", |difference, _| difference.asset.clone()),
            shown("detail", |difference, _| difference.detail.clone()),
        ]
    }
}

fn side(number: i32) -> String {
    word(FieldSide::try_from(number).ok().map(|side| side.as_str_name()), "FIELD_SIDE_", number)
}

fn asset_difference_type(number: i32) -> String {
    let difference = AssetDifferenceType::try_from(number).ok();
    word(difference.map(|difference| difference.as_str_name()), "ASSET_DIFFERENCE_TYPE_", number)
}

impl Row for FieldDifference {
    fn columns() -> Vec<Column<Self>> {
        vec![
            shown("path", |field, _| field.path.clone()),
            shown("side", |field, _| side(field.side)),
            shown("before", |field, _| diff::text(field.before.as_ref())),
            shown("after", |field, _| diff::text(field.after.as_ref())),
        ]
    }
}

/// The relations on the way, each with an arrow from the asset that has it.
fn way(path: &[RelationStep]) -> String {
    let arrow = |step: &RelationStep| match step.direction() {
        RelationDirection::Incoming => format!("<-{}", relation(step.r#type)),
        _ => format!("{}->", relation(step.r#type)),
    };
    path.iter().map(arrow).collect::<Vec<_>>().join(" ")
}

/// A text of each step that is not empty.
fn of_steps(path: &[RelationStep], text: fn(&RelationStep) -> &String) -> String {
    let texts: Vec<&str> =
        path.iter().map(|step| text(step).as_str()).filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

impl Row for RelatedAsset {
    fn columns() -> Vec<Column<Self>> {
        fn of(related: &RelatedAsset, field: fn(&Asset) -> String) -> String {
            related.asset.as_ref().map(field).unwrap_or_default()
        }
        vec![
            shown("distance", |related, _| related.distance.to_string()),
            shown("path", |related, _| way(&related.path)),
            shown("kind", |related, _| of(related, |asset| kind(asset.kind))),
            shown("display_name", |related, _| of(related, |asset| asset.display_name.clone())),
            shown("name", |related, _| of(related, |asset| asset.name.clone())),
            shown("through", |related, _| of_steps(&related.path, |step| &step.through)),
            more("node_display_name", |related, _| of(related, |asset| asset.node_display_name.clone())),
            more("steps", |related, _| of_steps(&related.path, |step| &step.asset)),
        ]
    }
}

impl Row for AssetDifference {
    fn columns() -> Vec<Column<Self>> {
        fn fields(difference: &AssetDifference) -> String {
            let change = |field: &FieldDifference| {
                let (before, after) = (diff::text(field.before.as_ref()), diff::text(field.after.as_ref()));
                format!("{}: {before} → {after}", field.path)
            };
            difference.fields.iter().map(change).collect::<Vec<_>>().join("; ")
        }
        vec![
            shown("type", |difference, _| asset_difference_type(difference.r#type)),
            shown("kind", |difference, _| kind(difference.kind)),
            shown("display_name", |difference, _| difference.display_name.clone()),
            shown("asset", |difference, _| difference.asset.clone()),
            more("node", |difference, _| difference.node.clone()),
            more("natural_key", |difference, _| difference.natural_key.clone()),
            more("base_revision", |difference, _| difference.base_revision.to_string()),
            more("revision", |difference, _| difference.revision.to_string()),
            shown("fields", |difference, _| fields(difference)),
        ]
    }
}

impl Row for AffectedPackage {
    fn columns() -> Vec<Column<Self>> {
        fn of(row: &AffectedPackage, field: fn(&PackageDetails) -> &String) -> String {
            row.package.as_ref().map(|package| field(package).clone()).unwrap_or_default()
        }
        vec![
            shown("node_display_name", |row, _| row.node_display_name.clone()),
            shown("place", |row, _| package_place(row.place)),
            shown("asset_display_name", |row, _| row.asset_display_name.clone()),
            shown("package", |row, _| of(row, |package| &package.package)),
            shown("compared_version", |row, _| row.compared_version.clone()),
            shown("version_order", |row, _| version_order(row.version_order)),
            shown("incomparable", |row, _| flag(row.incomparable)),
            more("node", |row, _| row.node.clone()),
            more("asset", |row, _| row.asset.clone()),
            more("kind", |row, _| kind(row.kind)),
            more("image_digest", |row, _| row.image_digest.clone()),
            more("version", |row, _| of(row, |package| &package.version)),
            more("architecture", |row, _| of(row, |package| &package.architecture)),
            more("source", |row, _| of(row, |package| &package.source)),
        ]
    }
}
