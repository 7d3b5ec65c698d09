//! What people may record, and how an edit changes it.

use contracts::v1::{Asset, Lifecycle, ManagedFields};

const MAX_OWNER_BYTES: usize = 256;
const MAX_LOCATION_BYTES: usize = 256;
const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE_BYTES: usize = 256;
const MAX_NOTES_BYTES: usize = 16_384;
const MAX_DISPLAY_NAME_BYTES: usize = kit::queue::MAX_DISPLAY_NAME_BYTES;

/// A field of a request that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field in the request.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl FieldError {
    /// A fault of one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// The editable side of an asset.
#[derive(Clone, Debug, PartialEq)]
pub struct Editable {
    /// Name; editable for what people created alone.
    pub display_name: String,
    /// What people recorded.
    pub managed: ManagedFields,
}

/// A field that an edit writes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    DisplayName,
    Owner,
    Lifecycle,
    Location,
    Labels,
    Label(String),
    Notes,
}

const ALL_MANAGED: [Path; 5] = [Path::Owner, Path::Lifecycle, Path::Location, Path::Labels, Path::Notes];

/// Applies an edit to what is recorded and tells the paths that it changed,
/// sorted. `created_by_person` decides whether the display name is editable.
///
/// # Errors
/// A path of the mask is not editable, or a value breaks its rule; the error
/// names the field.
pub fn edit(
    before: &Editable,
    asset: &Asset,
    mask: &[String],
    created_by_person: bool,
) -> Result<(Editable, Vec<String>), FieldError> {
    let given = asset.managed.clone().unwrap_or_default();
    let mut after = before.clone();
    for path in paths(asset, mask, created_by_person)? {
        match path {
            Path::DisplayName => after.display_name.clone_from(&asset.display_name),
            Path::Owner => after.managed.owner.clone_from(&given.owner),
            Path::Lifecycle => after.managed.lifecycle = given.lifecycle,
            Path::Location => after.managed.location.clone_from(&given.location),
            Path::Labels => after.managed.labels.clone_from(&given.labels),
            Path::Label(key) => match given.labels.get(&key) {
                Some(value) => drop(after.managed.labels.insert(key, value.clone())),
                None => drop(after.managed.labels.remove(&key)),
            },
            Path::Notes => after.managed.notes.clone_from(&given.notes),
        }
    }
    check(&after, created_by_person)?;
    let changed = changed(before, &after);
    Ok((after, changed))
}

/// Checks what a person recorded.
///
/// # Errors
/// A value breaks its rule; the error names the field.
pub fn check(editable: &Editable, created_by_person: bool) -> Result<(), FieldError> {
    let managed = &editable.managed;
    if created_by_person {
        if editable.display_name.trim().is_empty() {
            return Err(FieldError::new("asset.display_name", "is required"));
        }
        text("asset.display_name", &editable.display_name, MAX_DISPLAY_NAME_BYTES)?;
    }
    text("asset.managed.owner", &managed.owner, MAX_OWNER_BYTES)?;
    text("asset.managed.location", &managed.location, MAX_LOCATION_BYTES)?;
    text("asset.managed.notes", &managed.notes, MAX_NOTES_BYTES)?;
    if Lifecycle::try_from(managed.lifecycle).is_err() {
        let problem = format!("{} is not a value of Lifecycle", managed.lifecycle);
        return Err(FieldError::new("asset.managed.lifecycle", problem));
    }
    if managed.labels.len() > MAX_LABELS {
        let problem = format!("has {} labels; at most {MAX_LABELS} are allowed", managed.labels.len());
        return Err(FieldError::new("asset.managed.labels", problem));
    }
    for (key, value) in &managed.labels {
        let field = format!("asset.managed.labels[{key:?}]");
        let first = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest = key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._/-".contains(&byte));
        if !first || !rest || key.len() > MAX_LABEL_KEY {
            let problem =
                "a key is 1 to 63 characters of a-z 0-9 . _ / - and begins with a letter or a digit";
            return Err(FieldError::new(field, problem));
        }
        text(&field, value, MAX_LABEL_VALUE_BYTES)?;
    }
    Ok(())
}

fn text(field: &str, value: &str, limit: usize) -> Result<(), FieldError> {
    if value.len() > limit {
        return Err(FieldError::new(
            field,
            format!("is {} bytes long; at most {limit} are allowed", value.len()),
        ));
    }
    if value.contains('\0') {
        return Err(FieldError::new(field, "holds a NUL character"));
    }
    Ok(())
}

fn paths(asset: &Asset, mask: &[String], created_by_person: bool) -> Result<Vec<Path>, FieldError> {
    if mask.is_empty() {
        return set_fields(asset, created_by_person);
    }
    let mut paths = Vec::new();
    for path in mask {
        match path.as_str() {
            "*" | "managed" => paths.extend(ALL_MANAGED),
            "managed.owner" => paths.push(Path::Owner),
            "managed.lifecycle" => paths.push(Path::Lifecycle),
            "managed.location" => paths.push(Path::Location),
            "managed.labels" => paths.push(Path::Labels),
            "managed.notes" => paths.push(Path::Notes),
            "display_name" if created_by_person => paths.push(Path::DisplayName),
            // Sent along to say which asset and version; they write nothing.
            "name" | "etag" => {}
            other => match other.strip_prefix("managed.labels.") {
                Some(key) => paths.push(Path::Label(key.trim_matches('`').to_owned())),
                None => return Err(FieldError::new("update_mask", not_editable(other, created_by_person))),
            },
        }
    }
    Ok(paths)
}

fn not_editable(path: &str, created_by_person: bool) -> String {
    let editable = if created_by_person { "managed.* and display_name" } else { "managed.*" };
    let observed = ["kind", "display_name", "node", "natural_key", "state", "details"];
    let first = path.split('.').next().unwrap_or_default();
    if observed.contains(&first) && !created_by_person {
        return format!("`{path}` is observed: only agents write it; editable are {editable}");
    }
    format!("`{path}` cannot be edited; editable are {editable}")
}

/// Without a mask: the managed fields that are set.
fn set_fields(asset: &Asset, created_by_person: bool) -> Result<Vec<Path>, FieldError> {
    let managed = asset.managed.clone().unwrap_or_default();
    let mut paths = Vec::new();
    let set = [
        (!managed.owner.is_empty(), Path::Owner),
        (managed.lifecycle != 0, Path::Lifecycle),
        (!managed.location.is_empty(), Path::Location),
        (!managed.labels.is_empty(), Path::Labels),
        (!managed.notes.is_empty(), Path::Notes),
        (created_by_person && !asset.display_name.is_empty(), Path::DisplayName),
    ];
    for (set, path) in set {
        if set {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(FieldError::new(
            "update_mask",
            "is empty, and no managed field is set: nothing to write",
        ));
    }
    Ok(paths)
}

/// Paths in which an edit differs, sorted.
#[must_use]
pub fn changed(before: &Editable, after: &Editable) -> Vec<String> {
    let (old, new) = (&before.managed, &after.managed);
    let mut changed: Vec<String> = Vec::new();
    let fields = [
        (before.display_name != after.display_name, "display_name"),
        (old.owner != new.owner, "managed.owner"),
        (old.lifecycle != new.lifecycle, "managed.lifecycle"),
        (old.location != new.location, "managed.location"),
        (old.notes != new.notes, "managed.notes"),
    ];
    changed.extend(fields.iter().filter(|(differs, _)| *differs).map(|(_, path)| (*path).to_owned()));
    for key in old.labels.keys().chain(new.labels.keys()) {
        if old.labels.get(key) != new.labels.get(key) {
            changed.push(format!("managed.labels.{key}"));
        }
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Editable {
        let managed = ManagedFields {
            owner: "ops".to_owned(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..ManagedFields::default()
        };
        Editable { display_name: "rack 12".to_owned(), managed }
    }

    fn asset(managed: ManagedFields) -> Asset {
        Asset { managed: Some(managed), ..Asset::default() }
    }

    fn mask(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn an_edit_writes_what_the_mask_names() {
        let given = ManagedFields { notes: "n".to_owned(), ..ManagedFields::default() };
        let edited = |paths: &[&str]| edit(&recorded(), &asset(given.clone()), &mask(paths), false).unwrap();
        assert_eq!(edited(&[]).1, ["managed.notes"]);
        assert_eq!(edited(&["managed.owner"]).1, ["managed.owner"]);
        assert_eq!(edited(&["managed.labels.env"]).1, ["managed.labels.env"]);
        assert_eq!(edited(&["*"]).1, ["managed.labels.env", "managed.notes", "managed.owner"]);
        assert_eq!(edited(&["managed.location"]).1, [""; 0]);
    }

    #[test]
    fn what_may_not_be_edited_is_named() {
        let error = |asset: &Asset, paths: &[&str], person| {
            edit(&recorded(), asset, &mask(paths), person).unwrap_err().to_string()
        };
        let empty = Asset::default();
        assert!(error(&empty, &["details.package.version"], false).contains("is observed"));
        assert!(
            error(&empty, &["display_name"], false).starts_with("update_mask: `display_name` is observed")
        );
        assert!(error(&empty, &["display_name"], true).starts_with("asset.display_name: is required"));
        assert!(error(&empty, &["revision"], true).contains("cannot be edited"));
        assert!(error(&empty, &[], false).contains("nothing to write"));
        let labels = |key: &str, value: &str| {
            let labels = [(key.to_owned(), value.to_owned())].into();
            asset(ManagedFields { labels, ..ManagedFields::default() })
        };
        for key in ["", "Ä", "-x", &"k".repeat(64)] {
            assert!(error(&labels(key, ""), &[], false).contains("a key is 1 to 63"), "{key}");
        }
        assert!(error(&labels("k", "a\0b"), &[], false).contains("NUL"));
        let long = ManagedFields { owner: "x".repeat(257), ..ManagedFields::default() };
        assert_eq!(
            error(&asset(long), &[], false),
            "asset.managed.owner: is 257 bytes long; at most 256 are allowed"
        );
        let odd = ManagedFields { lifecycle: 77, ..ManagedFields::default() };
        assert!(error(&asset(odd), &[], false).contains("77 is not a value"));
    }
}
