//! What a BatchUpdateAssets is about: checked before anything is read.

use std::collections::{HashMap, HashSet};

use contracts::v1::{Asset, AssetEdit, BatchUpdateAssetsRequest};
use kit::{identity::Collection, status::invalid_field};
use tonic::Status;
use uuid::Uuid;

use super::{MAX_NAMED, MAX_PATCHED};
use crate::{
    api::request,
    domain::{filter::Schema, managed::writes_custom_fields},
    store::{asset::COLUMNS, sql::Sql},
};

/// Which assets, and what each gets.
pub(super) enum Target {
    /// Each its own, by asset, with its place in the request.
    Edits(HashMap<Uuid, (usize, Patch)>),
    /// These, all the same.
    Named(Vec<Uuid>, Patch),
    /// Those under a filter, all the same.
    Filtered { condition: Sql, expected: Option<i32>, patch: Patch },
}

/// What an edit writes.
pub(super) struct Patch {
    pub(super) asset: Asset,
    pub(super) mask: Vec<String>,
}

impl Target {
    pub(super) fn of(request: BatchUpdateAssetsRequest, schema: &Schema) -> Result<Self, Status> {
        let BatchUpdateAssetsRequest { edits, names, filter, patch, update_mask, expected_count, .. } =
            request;
        let given = [!edits.is_empty(), !names.is_empty(), !filter.is_empty()];
        if given.iter().filter(|given| **given).count() != 1 {
            let problem = "exactly one of edits, names and filter must say which assets are meant";
            return Err(invalid_field("filter", "REQUIRED", problem));
        }
        if expected_count.is_some() && filter.is_empty() {
            return Err(invalid_field("expected_count", "INVALID_FIELD", "belongs to a filter alone"));
        }
        let mask = update_mask.map(|mask| mask.paths).unwrap_or_default();
        if !edits.is_empty() {
            if patch.is_some() || !mask.is_empty() {
                return Err(invalid_field("patch", "INVALID_FIELD", "edits have values of their own"));
            }
            return Self::each(edits);
        }
        let patch = one_for_all(patch, mask)?;
        if !names.is_empty() {
            return Ok(Self::Named(uids(&names, "names", MAX_PATCHED)?, patch));
        }
        let condition = request::condition(&filter, schema, &COLUMNS)?.unwrap_or_else(|| Sql::new("true"));
        Ok(Self::Filtered { condition, expected: expected_count, patch })
    }

    fn each(edits: Vec<AssetEdit>) -> Result<Self, Status> {
        if edits.len() > MAX_NAMED {
            return Err(too_many("edits", edits.len(), MAX_NAMED));
        }
        let mut checked = HashMap::with_capacity(edits.len());
        for (index, edit) in edits.into_iter().enumerate() {
            let at = |field: &str| format!("edits[{index}].{field}");
            let asset = edit.asset.ok_or_else(|| invalid_field(&at("asset"), "REQUIRED", "is required"))?;
            let uid = request::name(&at("asset.name"), &asset.name, Collection::Assets)?;
            let mask = edit.update_mask.map(|mask| mask.paths).unwrap_or_default();
            if checked.insert(uid, (index, Patch { asset, mask })).is_some() {
                return Err(invalid_field(&at("asset.name"), "DUPLICATE", "stands there twice"));
            }
        }
        Ok(Self::Edits(checked))
    }

    /// What an asset gets.
    pub(super) fn patch(&self, asset: Uuid) -> Option<&Patch> {
        match self {
            Self::Edits(edits) => edits.get(&asset).map(|(_, patch)| patch),
            Self::Named(_, patch) | Self::Filtered { patch, .. } => Some(patch),
        }
    }

    /// A field at fault, by its place in the request: the rules know one `asset`.
    pub(super) fn field(&self, asset: Uuid, field: &str) -> String {
        match (self, field.strip_prefix("asset.")) {
            (Self::Edits(edits), _) => {
                let index = edits.get(&asset).map_or(0, |(index, _)| *index);
                format!("edits[{index}].{field}")
            }
            (_, Some(rest)) => format!("patch.{rest}"),
            (_, None) => field.to_owned(),
        }
    }

    /// Whether custom fields may be written.
    pub(super) fn writes_custom_fields(&self) -> bool {
        let writes = |patch: &Patch| writes_custom_fields(&patch.asset, &patch.mask);
        match self {
            Self::Edits(edits) => edits.values().any(|(_, patch)| writes(patch)),
            Self::Named(_, patch) | Self::Filtered { patch, .. } => writes(patch),
        }
    }
}

/// A patch for many assets: no name or etag, which each has of its own.
fn one_for_all(patch: Option<Asset>, mask: Vec<String>) -> Result<Patch, Status> {
    let asset = patch.unwrap_or_default();
    let others = Asset { managed: None, ..asset.clone() };
    if others != Asset::default() {
        return Err(invalid_field("patch", "INVALID_FIELD", "may have managed fields alone"));
    }
    if mask.iter().any(|path| path == "display_name") {
        let problem = "`display_name` is nothing that many assets get alike";
        return Err(invalid_field("update_mask", "INVALID_FIELD", problem));
    }
    let all = |path: String| if path == "*" { "managed".to_owned() } else { path };
    Ok(Patch { asset, mask: mask.into_iter().map(all).collect() })
}

/// UUIDs of assets, each once, 1 to `most`.
pub(super) fn uids(names: &[String], field: &str, most: usize) -> Result<Vec<Uuid>, Status> {
    if names.is_empty() {
        return Err(invalid_field(field, "REQUIRED", "is required"));
    }
    if names.len() > most {
        return Err(too_many(field, names.len(), most));
    }
    let mut seen = HashSet::with_capacity(names.len());
    let mut uids = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let uid = request::name(&at, name, Collection::Assets)?;
        if !seen.insert(uid) {
            return Err(invalid_field(&at, "DUPLICATE", "stands there twice"));
        }
        uids.push(uid);
    }
    Ok(uids)
}

fn too_many(field: &str, count: usize, most: usize) -> Status {
    invalid_field(field, "TOO_MANY", format!("has {count}; at most {most} are allowed"))
}
