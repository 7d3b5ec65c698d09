//! Which fields differ between two states of an asset, and what they were: by
//! descriptor, for answers. What the log notes of each change is in `changes`.

use chrono::{DateTime, SecondsFormat, Utc};
use contracts::v1::{AssetKind, AssetState};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};

use super::changes::Descriptors;

/// A state of an asset, as far as it is compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// `AssetKind`.
    pub kind: i16,
    /// Its name.
    pub display_name: String,
    /// `AssetState`.
    pub state: i16,
    /// When the record was deleted.
    pub delete_time: Option<DateTime<Utc>>,
    /// Encoded AssetDetails.
    pub details: Option<Vec<u8>>,
    /// Encoded ManagedFields.
    pub managed: Option<Vec<u8>>,
}

/// Who writes a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Agents.
    Observed,
    /// People.
    Managed,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Path, such as `details.package.version`.
    pub path: String,
    /// Who writes it.
    pub side: Side,
    /// What it was, as ProtoJSON; none if it was not set.
    pub before: Option<Value>,
    /// What it became.
    pub after: Option<Value>,
}

/// What differs, by path. A state that is none has no field set.
#[must_use]
pub fn differences(
    descriptors: &Descriptors,
    before: Option<&State>,
    after: Option<&State>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let custom = before.or(after).is_some_and(|state| state.kind == AssetKind::Custom as i16);
    let named_by = if custom { Side::Managed } else { Side::Observed };
    let text =
        |state: &State| (!state.display_name.is_empty()).then(|| Value::from(state.display_name.as_str()));
    compare("display_name", named_by, before.and_then(text), after.and_then(text), &mut found);
    compare("state", Side::Observed, before.and_then(presence), after.and_then(presence), &mut found);
    let deleted = |state: &State| {
        state.delete_time.map(|time| Value::from(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
    };
    compare("delete_time", Side::Managed, before.and_then(deleted), after.and_then(deleted), &mut found);
    let sides = [
        ("details", Side::Observed, Some(descriptors.details().clone())),
        ("managed", Side::Managed, descriptors.message("ManagedFields")),
    ];
    for (path, side, descriptor) in sides {
        let Some(descriptor) = descriptor else { continue };
        let encoded = |state: Option<&State>| {
            let state = state?;
            let bytes = if side == Side::Managed { &state.managed } else { &state.details };
            bytes.clone()
        };
        messages(path, side, &descriptor, encoded(before), encoded(after), &mut found);
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn presence(state: &State) -> Option<Value> {
    let named = AssetState::try_from(i32::from(state.state)).ok()?;
    (named != AssetState::Unspecified).then(|| Value::from(named.as_str_name()))
}

fn messages(
    path: &str,
    side: Side,
    descriptor: &MessageDescriptor,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    found: &mut Vec<Difference>,
) {
    if before == after {
        return;
    }
    let decoded = |bytes: Option<Vec<u8>>| {
        bytes.and_then(|bytes| DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).ok())
    };
    let (before, after) = (decoded(before), decoded(after));
    let places = found.len();
    compare(path, side, before.as_ref().and_then(json), after.as_ref().and_then(json), found);
    if found.len() == places
        && before.unwrap_or_else(|| DynamicMessage::new(descriptor.clone()))
            != after.unwrap_or_else(|| DynamicMessage::new(descriptor.clone()))
    {
        // In fields that only a newer build knows.
        found.push(Difference { path: path.to_owned(), side, before: None, after: None });
    }
}

/// A message as an object; none if nothing of it is set.
fn json(message: &DynamicMessage) -> Option<Value> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options).ok()?;
    json.as_object().is_some_and(|fields| !fields.is_empty()).then_some(json)
}

/// Objects by their keys, all else as a whole.
fn compare(path: &str, side: Side, before: Option<Value>, after: Option<Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let is_object = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_object);
    let is_empty =
        |value: &Option<Value>| value.as_ref().and_then(Value::as_object).is_some_and(Map::is_empty);
    // A message that is set, with nothing in it, differs from none.
    let leaf = (before.is_none() && is_empty(&after)) || (after.is_none() && is_empty(&before));
    if leaf || !is_object(&before) || !is_object(&after) {
        found.push(Difference { path: path.to_owned(), side, before, after });
        return;
    }
    let fields = |value: Option<Value>| match value {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (mut before, mut after) = (fields(before), fields(after));
    let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        compare(&format!("{path}.{key}"), side, before.remove(&key), after.remove(&key), found);
    }
}

#[cfg(test)]
mod tests {
    use contracts::v1::{
        AssetDetails, DiskDetails, ManagedFields, PackageDetails, Partition, PciDeviceDetails,
        asset_details::Details,
    };
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn state(details: Details, managed: Option<ManagedFields>) -> State {
        State {
            kind: AssetKind::Package as i16,
            display_name: "x".to_owned(),
            state: AssetState::Active as i16,
            details: Some(AssetDetails { details: Some(details), ..AssetDetails::default() }.encode_to_vec()),
            managed: managed.map(|managed| managed.encode_to_vec()),
            ..State::default()
        }
    }

    fn package(version: &str, size: u64) -> Details {
        Details::Package(PackageDetails {
            version: version.to_owned(),
            installed_size_bytes: size,
            ..PackageDetails::default()
        })
    }

    fn told(before: Option<&State>, after: Option<&State>) -> Vec<(String, Side, Value, Value)> {
        let found = differences(&Descriptors::default(), before, after);
        let shown = |value: Option<Value>| value.unwrap_or(json!("-"));
        found.into_iter().map(|one| (one.path, one.side, shown(one.before), shown(one.after))).collect()
    }

    #[test]
    fn fields_keys_and_lists_are_told_apart_by_side() {
        use Side::{Managed, Observed};
        let labels = |pairs: &[(&str, &str)]| ManagedFields {
            labels: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            owner: "ops".to_owned(),
            ..ManagedFields::default()
        };
        let before = state(package("1", 5), Some(labels(&[("env", "prod"), ("same", "x")])));
        let after = State {
            display_name: "y".to_owned(),
            state: AssetState::Removed as i16,
            ..state(package("2", u64::MAX), Some(labels(&[("same", "x"), ("team", "a")])))
        };
        assert_eq!(told(Some(&before), Some(&before)), []);
        let path = |path: &str| path.to_owned();
        assert_eq!(
            told(Some(&before), Some(&after)),
            [
                (
                    path("details.package.installed_size_bytes"),
                    Observed,
                    json!("5"),
                    json!(u64::MAX.to_string())
                ),
                (path("details.package.version"), Observed, json!("1"), json!("2")),
                (path("display_name"), Observed, json!("x"), json!("y")),
                (path("managed.labels.env"), Managed, json!("prod"), json!("-")),
                (path("managed.labels.team"), Managed, json!("-"), json!("a")),
                (path("state"), Observed, json!("ASSET_STATE_ACTIVE"), json!("ASSET_STATE_REMOVED")),
            ]
        );
        let sizes = |sizes: &[u64]| {
            let partition = |size: &u64| Partition { size_bytes: *size, ..Partition::default() };
            let partitions = sizes.iter().map(partition).collect();
            state(Details::Disk(DiskDetails { partitions, ..DiskDetails::default() }), None)
        };
        let list =
            |sizes: &[&str]| json!(sizes.iter().map(|size| json!({"size_bytes": size})).collect::<Vec<_>>());
        assert_eq!(
            told(Some(&sizes(&[1, 2])), Some(&sizes(&[1, 3]))),
            [(path("details.disk.partitions"), Observed, list(&["1", "2"]), list(&["1", "3"]))]
        );
    }

    #[test]
    fn a_state_that_is_none_has_no_field_and_what_is_set_to_zero_is_set() {
        let device =
            |numa_node| state(Details::PciDevice(PciDeviceDetails { numa_node, ..Default::default() }), None);
        let paths = |before: Option<&State>, after: Option<&State>| -> Vec<String> {
            told(before, after).into_iter().map(|(path, ..)| path).collect()
        };
        let (none, zero) = (device(None), device(Some(0)));
        assert_eq!(paths(None, Some(&zero)), ["details.pci_device.numa_node", "display_name", "state"]);
        assert_eq!(paths(Some(&zero), None), paths(None, Some(&zero)));
        assert_eq!(told(Some(&none), Some(&zero))[0].3, json!(0));
        assert_eq!(paths(None, Some(&none))[0], "details.pci_device");
        let custom =
            State { kind: AssetKind::Custom as i16, display_name: "a".to_owned(), ..State::default() };
        assert_eq!(told(None, Some(&custom))[0].1, Side::Managed);
    }

    #[test]
    fn fields_of_a_newer_build_are_a_difference_without_a_value() {
        let before = state(package("1", 5), None);
        let mut after = before.clone();
        // Field 30,000, a varint.
        after.details.as_mut().unwrap().extend([0x80, 0xd3, 0x0e, 0x01]);
        assert_eq!(
            told(Some(&before), Some(&after)),
            [("details".to_owned(), Side::Observed, json!("-"), json!("-"))]
        );
    }
}
