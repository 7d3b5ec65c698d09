//! A message as a list of fields and values: whatever a new version of the
//! contract adds is shown without code for it.

use contracts::v1::Overview;
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, Value};
use prost_types::Timestamp;

use crate::{
    cell::{Clock, word},
    columns,
    output::{Column, Row},
};

/// One field that has a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Path, as in filters: `details.package.version`.
    pub path: String,
    /// Its value.
    pub value: String,
}

impl Row for Field {
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column { name: "field", in_table: true, text: |field, _| field.path.clone() },
            Column { name: "value", in_table: true, text: |field, _| field.value.clone() },
        ]
    }
}

/// The fields of a message that are set, in the order of the contract.
pub fn of_message(message: &DynamicMessage, clock: Clock) -> Vec<Field> {
    let mut fields = Vec::new();
    visit_message(message, "", clock, &mut fields);
    fields
}

fn visit_message(message: &DynamicMessage, above: &str, clock: Clock, fields: &mut Vec<Field>) {
    for (field, value) in message.fields() {
        visit(&field, value, join(above, field.name()), clock, fields);
    }
}

fn visit(field: &FieldDescriptor, value: &Value, path: String, clock: Clock, fields: &mut Vec<Field>) {
    match value {
        Value::Message(message) if message_is_time(field) => {
            let time = message.transcode_to::<Timestamp>().ok();
            fields.push(Field { path, value: clock.show(time.as_ref()) });
        }
        Value::Message(message) => visit_message(message, &path, clock, fields),
        Value::Map(entries) => {
            let mut entries: Vec<(String, &Value)> =
                entries.iter().map(|(key, value)| (key_text(key), value)).collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            for (key, value) in entries {
                visit(field, value, join(&path, &key), clock, fields);
            }
        }
        Value::List(items) if matches!(field.kind(), Kind::Message(_)) => {
            for (index, item) in items.iter().enumerate() {
                visit(field, item, format!("{path}[{index}]"), clock, fields);
            }
        }
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| scalar(field, item)).collect();
            fields.push(Field { path, value: items.join(", ") });
        }
        _ => fields.push(Field { path, value: scalar(field, value) }),
    }
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

fn message_is_time(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp")
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(key) => key.clone(),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}

fn scalar(field: &FieldDescriptor, value: &Value) -> String {
    match (value, field.kind()) {
        (Value::EnumNumber(number), Kind::Enum(of)) => enum_word(&of, *number),
        (Value::String(text), _) => text.clone(),
        (Value::Bytes(bytes), _) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        (value, _) => value.to_string(),
    }
}

/// The names of an enum begin alike: as the name of its zero does before
/// `UNSPECIFIED`.
fn enum_word(of: &EnumDescriptor, number: i32) -> String {
    let zero = of.default_value();
    let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default();
    word(of.get_value(number).as_ref().map(prost_reflect::EnumValueDescriptor::name), prefix, number)
}

/// The overview as such a list: every count with what it counts.
pub fn of_overview(overview: &Overview, clock: Clock) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut add = |path: String, value: String| fields.push(Field { path, value });
    add("measured".to_owned(), clock.show(overview.measure_time.as_ref()));
    for count in &overview.kinds {
        let path = join("assets", &columns::kind(count.kind));
        let state = columns::state(count.state);
        add(if state.is_empty() { path } else { join(&path, &state) }, count.count.to_string());
    }
    for count in &overview.nodes {
        add(join("nodes", &columns::health(count.health)), count.count.to_string());
    }
    add("events.last_hour".to_owned(), overview.events_last_hour.to_string());
    add("dead_letters".to_owned(), overview.dead_letters.to_string());
    for collector in &overview.collectors {
        let of = join("collectors", &collector.collector);
        let mut state = columns::collector_state(collector.state);
        if !collector.state_reason.is_empty() {
            state = format!("{state}: {}", collector.state_reason);
        }
        add(join(&of, "state"), state);
        for queue in &collector.queues {
            add(format!("{of}.queue_depth.{}", queue.queue), queue.depth.to_string());
        }
        if let Some(minute) = collector.total.as_ref().and_then(|total| total.last_minute.as_ref()) {
            add(join(&of, "events.last_minute"), minute.events.to_string());
        }
        add(join(&of, "in_flight_messages"), collector.in_flight_messages.to_string());
    }
    for part in &overview.unavailable {
        add(join("unavailable", &part.part), part.reason.clone());
    }
    fields
}
