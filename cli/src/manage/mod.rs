//! Commands that manage: what people record about assets.

pub mod args;
pub mod custom_fields;
pub mod saved_searches;

use std::io::Write;

use contracts::v1::{Asset, BatchUpdateAssetsRequest, EditedAsset, ManagedFields, UndeleteAssetRequest};
use prost_types::FieldMask;

use crate::{
    cell::Clock,
    commands::{asset_name, asset_service, show},
    failure::Failure,
    gateway::Gateway,
    output::{Column, Output, Row},
};
use args::{Entry, SetArguments, UndeleteArguments, Values};

/// Changes that are shown.
const SHOWN: i32 = 100;

impl Row for EditedAsset {
    fn columns() -> Vec<Column<Self>> {
        fn shown(name: &'static str, text: fn(&EditedAsset, Clock) -> String) -> Column<EditedAsset> {
            Column { name, in_table: true, text }
        }
        vec![
            shown("name", |change, _| change.name.clone()),
            shown("display_name", |change, _| change.display_name.clone()),
            shown("changed_fields", |change, _| change.changed_fields.join(" ")),
        ]
    }
}

/// An ID by which a call is done once, however often it is sent.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Sets managed fields; of what is under a filter only if that is confirmed.
pub async fn set<W: Write>(
    arguments: &SetArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let (patch, paths) = patch(&arguments.values);
    let asked = arguments.dry_run || arguments.filter.is_none() || arguments.yes;
    let request = BatchUpdateAssetsRequest {
        names: arguments.names.iter().map(|name| asset_name(name)).collect(),
        filter: arguments.filter.clone().unwrap_or_default(),
        patch: Some(Asset { managed: Some(patch), ..Asset::default() }),
        update_mask: Some(FieldMask { paths }),
        validate_only: arguments.dry_run || !asked,
        request_id: request_id(),
        sample_size: SHOWN,
        ..BatchUpdateAssetsRequest::default()
    };
    let answer = gateway
        .call(request, async |channel, request| asset_service(channel).batch_update_assets(request).await)
        .await?;
    let (matched, changed) = (answer.matched_count, answer.changed_count);
    if !asked {
        return Err(Failure::Unconfirmed(format!("{changed} of {matched} assets would be changed")));
    }
    if output.is_json() {
        return output.message("BatchUpdateAssetsResponse", &answer);
    }
    output.rows(&answer.sample)?;
    let would = if arguments.dry_run { "would be changed" } else { "changed" };
    writeln!(std::io::stderr(), "{changed} of {matched} assets {would}")?;
    Ok(())
}

/// What is set, and the paths of it.
fn patch(values: &Values) -> (ManagedFields, Vec<String>) {
    let Values { owner, lifecycle, location, notes, labels, fields } = values;
    let given = [
        (owner.is_some(), "managed.owner"),
        (lifecycle.is_some(), "managed.lifecycle"),
        (location.is_some(), "managed.location"),
        (notes.is_some(), "managed.notes"),
    ];
    let mut paths: Vec<String> =
        given.iter().filter(|(given, _)| *given).map(|(_, path)| (*path).to_owned()).collect();
    paths.extend(labels.iter().map(|entry| format!("managed.labels.`{}`", entry.key)));
    paths.extend(fields.iter().map(|entry| format!("managed.custom_fields.`{}`", entry.key)));
    let map = |entries: &[Entry]| {
        entries.iter().filter_map(|entry| Some((entry.key.clone(), entry.value.clone()?))).collect()
    };
    let managed = ManagedFields {
        owner: owner.clone().unwrap_or_default(),
        lifecycle: lifecycle.map(i32::from).unwrap_or_default(),
        location: location.clone().unwrap_or_default(),
        notes: notes.clone().unwrap_or_default(),
        labels: map(labels),
        custom_fields: map(fields),
    };
    (managed, paths)
}

/// Takes a deletion back.
pub async fn undelete<W: Write>(
    arguments: &UndeleteArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let request = UndeleteAssetRequest {
        name: asset_name(&arguments.name),
        request_id: request_id(),
        ..UndeleteAssetRequest::default()
    };
    let asset = gateway
        .call(request, async |channel, request| asset_service(channel).undelete_asset(request).await)
        .await?;
    show("Asset", &asset, output)
}
