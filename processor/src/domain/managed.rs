//! What people may record, and how an edit changes it.

mod mask;
#[cfg(test)]
mod tests;

use contracts::v1::{Asset, AssetKind, Lifecycle, ManagedFields};

use super::{
    custom_field::Definitions,
    field::{FieldError, line, shown, text},
    label,
    lifecycle::{self, IllegalTransition},
};
use mask::Path;
pub use mask::writes_custom_fields;

const MAX_OWNER_BYTES: usize = 256;
const MAX_LOCATION_BYTES: usize = 256;
const MAX_LABELS: usize = 64;
const MAX_NOTES_BYTES: usize = 16_384;
const MAX_DISPLAY_NAME_BYTES: usize = kit::queue::MAX_DISPLAY_NAME_BYTES;
const MAX_CUSTOM_FIELDS: usize = 64;

/// The editable side of an asset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Editable {
    /// Name; editable for what people created alone.
    pub display_name: String,
    /// What people recorded.
    pub managed: ManagedFields,
}

/// What the rules of an edit depend on.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Kind of the asset; CUSTOM for what people created.
    pub kind: AssetKind,
    /// Custom fields there are; needed where custom fields may change.
    pub definitions: &'a Definitions,
}

/// Why an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field breaks its rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The lifecycle may not go there from where it is.
    #[error("{0}")]
    Transition(#[from] IllegalTransition),
}

/// Applies an edit to what is recorded and tells the paths that it changed,
/// sorted.
///
/// # Errors
/// A path of the mask is not editable, or a value breaks its rule; the error
/// names the field.
pub fn edit(
    before: &Editable,
    asset: &Asset,
    mask: &[String],
    rules: Rules<'_>,
) -> Result<(Editable, Vec<String>), Refused> {
    let nothing = ManagedFields::default();
    let given = asset.managed.as_ref().unwrap_or(&nothing);
    let mut after = before.clone();
    for path in mask::paths(asset, mask, rules.kind == AssetKind::Custom)? {
        let managed = &mut after.managed;
        match path {
            Path::DisplayName => after.display_name.clone_from(&asset.display_name),
            Path::Owner => managed.owner.clone_from(&given.owner),
            Path::Lifecycle => managed.lifecycle = given.lifecycle,
            Path::Location => managed.location.clone_from(&given.location),
            Path::Labels => managed.labels.clone_from(&given.labels),
            Path::Label(key) => match given.labels.get(&key) {
                Some(value) => drop(managed.labels.insert(key, value.clone())),
                None => drop(managed.labels.remove(&key)),
            },
            Path::Notes => managed.notes.clone_from(&given.notes),
            Path::CustomFields => managed.custom_fields.clone_from(&given.custom_fields),
            Path::CustomField(key) => match given.custom_fields.get(&key) {
                Some(value) => drop(managed.custom_fields.insert(key, value.clone())),
                None => drop(managed.custom_fields.remove(&key)),
            },
        }
    }
    check(Some(before), &after, rules)?;
    let changed = changed(before, &after);
    Ok((after, changed))
}

/// Checks what changes, or all of a new asset. What was recorded before a rule
/// hinders no edit of something else.
///
/// # Errors
/// A value breaks its rule; the error names the field.
pub fn check(before: Option<&Editable>, after: &Editable, rules: Rules<'_>) -> Result<(), Refused> {
    let nothing = Editable::default();
    let is_new = before.is_none();
    let before = before.unwrap_or(&nothing);
    let (old, new) = (&before.managed, &after.managed);
    if rules.kind == AssetKind::Custom && (is_new || before.display_name != after.display_name) {
        if after.display_name.trim().is_empty() {
            return Err(FieldError::new("asset.display_name", "is required").into());
        }
        text("asset.display_name", &after.display_name, MAX_DISPLAY_NAME_BYTES)?;
    }
    if old.owner != new.owner {
        line("asset.managed.owner", &new.owner, MAX_OWNER_BYTES)?;
    }
    if old.location != new.location {
        line("asset.managed.location", &new.location, MAX_LOCATION_BYTES)?;
    }
    if old.notes != new.notes {
        text("asset.managed.notes", &new.notes, MAX_NOTES_BYTES)?;
    }
    check_labels(old, new)?;
    if is_new || old.custom_fields != new.custom_fields {
        check_custom_fields(old, new, rules)?;
    }
    let Ok(to) = Lifecycle::try_from(new.lifecycle) else {
        let problem = format!("{} is not a value of Lifecycle", new.lifecycle);
        return Err(FieldError::new("asset.managed.lifecycle", problem).into());
    };
    Ok(lifecycle::check(old.lifecycle(), to)?)
}

fn check_labels(old: &ManagedFields, new: &ManagedFields) -> Result<(), FieldError> {
    if new.labels.len() > MAX_LABELS.max(old.labels.len()) {
        let problem = format!("has {} labels; at most {MAX_LABELS} are allowed", new.labels.len());
        return Err(FieldError::new("asset.managed.labels", problem));
    }
    for (key, value) in &new.labels {
        if old.labels.get(key) != Some(value) {
            let field = || format!("asset.managed.labels[{:?}]", shown(key));
            label::check(key, value).map_err(|problem| FieldError::new(field(), problem))?;
        }
    }
    Ok(())
}

fn check_custom_fields(old: &ManagedFields, new: &ManagedFields, rules: Rules<'_>) -> Result<(), FieldError> {
    let count = new.custom_fields.len();
    if count > MAX_CUSTOM_FIELDS.max(old.custom_fields.len()) {
        let problem = format!("has {count} custom fields; at most {MAX_CUSTOM_FIELDS} are allowed");
        return Err(FieldError::new("asset.managed.custom_fields", problem));
    }
    let at = |key: &str| format!("asset.managed.custom_fields.{}", shown(key));
    for (key, value) in &new.custom_fields {
        if old.custom_fields.get(key) != Some(value) {
            rules
                .definitions
                .check(key, value, rules.kind)
                .map_err(|problem| FieldError::new(at(key), problem))?;
        }
    }
    match rules.definitions.required(rules.kind).find(|key| !new.custom_fields.contains_key(*key)) {
        Some(key) => Err(FieldError::new(at(key), "is required of assets of this kind")),
        None => Ok(()),
    }
}

/// Paths that differ, sorted, such as `managed.labels.env`.
pub fn changed(before: &Editable, after: &Editable) -> Vec<String> {
    let (old, new) = (&before.managed, &after.managed);
    let fields = [
        (before.display_name != after.display_name, "display_name"),
        (old.owner != new.owner, "managed.owner"),
        (old.lifecycle != new.lifecycle, "managed.lifecycle"),
        (old.location != new.location, "managed.location"),
        (old.notes != new.notes, "managed.notes"),
    ];
    let mut changed: Vec<String> =
        fields.iter().filter(|(differs, _)| *differs).map(|(_, path)| (*path).to_owned()).collect();
    let maps =
        [("labels", &old.labels, &new.labels), ("custom_fields", &old.custom_fields, &new.custom_fields)];
    for (name, old, new) in maps {
        for key in old.keys().chain(new.keys()) {
            if old.get(key) != new.get(key) {
                changed.push(format!("managed.{name}.{key}"));
            }
        }
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}
