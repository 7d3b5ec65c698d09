//! Which fields an edit writes (AIP-134, AIP-161).

use contracts::v1::{Asset, ManagedFields};

use crate::domain::field::{FieldError, shown};

const MAX_PATHS: usize = 256;

/// A field that an edit writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    DisplayName,
    Owner,
    Lifecycle,
    Location,
    Labels,
    Label(String),
    Notes,
    CustomFields,
    CustomField(String),
}

const ALL_MANAGED: [Path; 6] =
    [Path::Owner, Path::Lifecycle, Path::Location, Path::Labels, Path::Notes, Path::CustomFields];

/// Whether an edit may write custom fields, and so needs their definitions.
pub fn writes_custom_fields(asset: &Asset, mask: &[String]) -> bool {
    if mask.is_empty() {
        return asset.managed.as_ref().is_some_and(|managed| !managed.custom_fields.is_empty());
    }
    mask.iter()
        .any(|path| matches!(path.as_str(), "*" | "managed") || path.starts_with("managed.custom_fields"))
}

/// The fields that a mask names; without one, those that are set.
pub(super) fn paths(
    asset: &Asset,
    mask: &[String],
    created_by_person: bool,
) -> Result<Vec<Path>, FieldError> {
    if mask.is_empty() {
        return set_fields(asset, created_by_person);
    }
    if mask.len() > MAX_PATHS {
        let problem = format!("has {} paths; at most {MAX_PATHS} are allowed", mask.len());
        return Err(FieldError::new("update_mask", problem));
    }
    let mut paths = Vec::new();
    for path in mask {
        match path.as_str() {
            "*" => {
                paths.extend(ALL_MANAGED);
                if created_by_person {
                    paths.push(Path::DisplayName);
                }
            }
            "managed" => paths.extend(ALL_MANAGED),
            "managed.owner" => paths.push(Path::Owner),
            "managed.lifecycle" => paths.push(Path::Lifecycle),
            "managed.location" => paths.push(Path::Location),
            "managed.labels" => paths.push(Path::Labels),
            "managed.notes" => paths.push(Path::Notes),
            "managed.custom_fields" => paths.push(Path::CustomFields),
            "display_name" if created_by_person => paths.push(Path::DisplayName),
            // Sent along to say which asset and version; they write nothing.
            "name" | "etag" => {}
            other => paths.push(
                entry(other)
                    .ok_or_else(|| FieldError::new("update_mask", not_editable(other, created_by_person)))?,
            ),
        }
    }
    Ok(paths)
}

/// An entry of a map. What follows the map is the key, which may stand in
/// backticks (AIP-161) and hold dots without them, as in filters.
fn entry(path: &str) -> Option<Path> {
    let key = |rest: &str| {
        let quoted = rest.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        Some(quoted.unwrap_or(rest).to_owned()).filter(|key| !key.is_empty())
    };
    if let Some(rest) = path.strip_prefix("managed.labels.") {
        return key(rest).map(Path::Label);
    }
    key(path.strip_prefix("managed.custom_fields.")?).map(Path::CustomField)
}

fn not_editable(path: &str, created_by_person: bool) -> String {
    let editable = if created_by_person { "managed.* and display_name" } else { "managed.*" };
    let observed = ["kind", "display_name", "node", "natural_key", "state", "details"];
    let first = path.split('.').next().unwrap_or_default();
    let is_observed = observed.contains(&first);
    let path = shown(path);
    if is_observed && !created_by_person {
        return format!("`{path}` is observed: only agents write it; editable are {editable}");
    }
    format!("`{path}` cannot be edited; editable are {editable}")
}

/// Without a mask: the fields that are set.
fn set_fields(asset: &Asset, created_by_person: bool) -> Result<Vec<Path>, FieldError> {
    let nothing = ManagedFields::default();
    let managed = asset.managed.as_ref().unwrap_or(&nothing);
    let set = [
        (!managed.owner.is_empty(), Path::Owner),
        (managed.lifecycle != 0, Path::Lifecycle),
        (!managed.location.is_empty(), Path::Location),
        (!managed.labels.is_empty(), Path::Labels),
        (!managed.notes.is_empty(), Path::Notes),
        (!managed.custom_fields.is_empty(), Path::CustomFields),
        (created_by_person && !asset.display_name.is_empty(), Path::DisplayName),
    ];
    let paths: Vec<Path> = set.into_iter().filter(|(set, _)| *set).map(|(_, path)| path).collect();
    if paths.is_empty() {
        return Err(FieldError::new(
            "update_mask",
            "is empty, and no managed field is set: nothing to write",
        ));
    }
    Ok(paths)
}
