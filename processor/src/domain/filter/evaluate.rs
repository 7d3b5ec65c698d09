//! What a predicate says of one resource, without a database: the same as the
//! SQL that `store::filter_sql` makes of it.

use std::cmp::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Decimal, Field, FieldType, Literal, Operator, Pattern, Predicate};

/// What a predicate is asked about.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Values of the fields that have a column, by their path joined with dots.
    pub columns: Vec<(&'static str, Value)>,
    /// The fields below: `{"details": …, "managed": …}`, as `attributes` of the
    /// table has them.
    pub attributes: Json,
    /// What a word alone is looked for in.
    pub texts: Vec<String>,
}

/// Value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Absent,
    /// Text.
    Text(String),
    /// A number, or an enum's.
    Number(i64),
    /// A point in time.
    Time(DateTime<Utc>),
    /// The UUID of a resource.
    Uuid(Uuid),
}

impl Predicate {
    /// Whether it holds.
    pub fn matches(&self, subject: &Subject) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(subject)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(subject)),
            Self::Not(inner) => !inner.matches(subject),
            Self::Text(word) => {
                let pattern = wide(Pattern::new(word));
                subject.texts.iter().any(|text| pattern.fits_any_case(text))
            }
            Self::Compare { field, operator, value } => compare(field, *operator, value, subject),
        }
    }
}

/// With any text around it, unless it says itself where there may be some.
fn wide(pattern: Pattern) -> Pattern {
    if pattern.is_wild() { pattern } else { pattern.anywhere() }
}

fn compare(field: &Field, operator: Operator, value: &Literal, subject: &Subject) -> bool {
    let path = field.path.join(".");
    if let Some((_, found)) = subject.columns.iter().find(|(name, _)| *name == path) {
        return compare_column(found, field.field_type, operator, value);
    }
    if let Some(list) = field.in_list {
        let inner = Field {
            path: field.path[list..].to_vec(),
            field_type: field.field_type,
            in_list: None,
            ..*field
        };
        if *value == Literal::Present && inner.path.is_empty() {
            return at(&subject.attributes, &field.path).is_some();
        }
        // `:` asks for an item with exactly this value.
        let operator = if operator == Operator::Has { Operator::Equal } else { operator };
        let items = at(&subject.attributes, &field.path[..list]).and_then(Json::as_array);
        return items
            .is_some_and(|items| items.iter().any(|item| compare_json(item, &inner, operator, value)));
    }
    // A field that is not there has its default value, but only where the message
    // around it is there.
    if *value != Literal::Present
        && field.path.len() > 2
        && field.path[0] == "details"
        && at(&subject.attributes, &field.path[..2]).is_none()
    {
        return false;
    }
    compare_json(&subject.attributes, field, operator, value)
}

fn compare_column(found: &Value, field_type: FieldType, operator: Operator, value: &Literal) -> bool {
    match (found, value) {
        (Value::Absent, Literal::Present) => false,
        (Value::Text(text), Literal::Present) => field_type != FieldType::Text || !text.is_empty(),
        (Value::Number(number), Literal::Present) => *number != 0,
        (_, Literal::Present) => true,
        // What is absent differs from every value.
        (Value::Absent, _) => operator == Operator::NotEqual,
        (Value::Text(text), Literal::Text(wanted)) => compare_text(text, operator, wanted),
        (Value::Number(number), Literal::Number(wanted)) => {
            holds(Decimal::from(*number).cmp(wanted), operator)
        }
        (Value::Number(number), Literal::Enum(wanted, _)) => holds(number.cmp(&i64::from(*wanted)), operator),
        (Value::Time(time), Literal::Time(wanted)) => holds(time.cmp(wanted), operator),
        (Value::Uuid(uid), Literal::Uuid(wanted)) => holds(uid.cmp(wanted), operator),
        _ => false,
    }
}

/// A field within JSON. One that is not there has its default value, unless it
/// is one that may be absent.
fn compare_json(json: &Json, field: &Field, operator: Operator, value: &Literal) -> bool {
    let found = at(json, &field.path);
    if *value == Literal::Present {
        return found.is_some();
    }
    match (field.field_type, value) {
        (FieldType::Map, Literal::Text(key)) => {
            found.is_some_and(|map| map.get(Pattern::new(key).text()).is_some())
        }
        _ => {
            let default = match field.field_type {
                _ if field.optional => None,
                FieldType::MapValue | FieldType::Time => None,
                FieldType::Number => Some(Json::from(0)),
                FieldType::Bool => Some(Json::from(false)),
                _ => Some(Json::from("")),
            };
            match found.filter(|found| !found.is_null()).or(default.as_ref()) {
                Some(found) => compare_value(found, field.field_type, operator, value),
                None => operator == Operator::NotEqual,
            }
        }
    }
}

fn compare_value(found: &Json, field_type: FieldType, operator: Operator, value: &Literal) -> bool {
    match value {
        Literal::Text(wanted) if field_type == FieldType::MapValue => {
            compare_map_value(found, operator, wanted)
        }
        Literal::Text(wanted) => compare_text(&text(found), operator, wanted),
        Literal::Number(wanted) => {
            Decimal::parse(&text(found)).is_some_and(|found| holds(found.cmp(wanted), operator))
        }
        Literal::Bool(wanted) => found.as_bool().is_some_and(|found| holds(found.cmp(wanted), operator)),
        Literal::Time(wanted) => {
            found.as_str().and_then(time).is_some_and(|found| holds(found.cmp(wanted), operator))
        }
        // The value 0 is left out.
        Literal::Enum(number, name) => {
            let wanted = if *number == 0 { "" } else { name };
            holds(text(found).as_str().cmp(wanted), operator)
        }
        Literal::Uuid(wanted) => text(found) == wanted.to_string(),
        Literal::Present => true,
    }
}

/// `=` compares numbers with numbers; the order is that of numbers where both
/// read as such.
fn compare_map_value(found: &Json, operator: Operator, wanted: &str) -> bool {
    let number = |text: &str| Decimal::parse(text);
    let read = match operator {
        Operator::Has => None,
        Operator::Equal | Operator::NotEqual => {
            Some(found).filter(|found| found.is_number()).and_then(|found| number(&text(found)))
        }
        _ => number(&text(found)),
    };
    match read.zip(number(&Pattern::new(wanted).text())) {
        Some((found, wanted)) => holds(found.cmp(&wanted), operator),
        None => compare_text(&text(found), operator, wanted),
    }
}

fn compare_text(found: &str, operator: Operator, wanted: &str) -> bool {
    let pattern = Pattern::new(wanted);
    match operator {
        Operator::Has => wide(pattern).fits_any_case(found),
        Operator::Equal => pattern.fits(found),
        Operator::NotEqual => !pattern.fits(found),
        // The order of the characters' numbers, which UTF-8 keeps.
        _ => holds(found.cmp(&pattern.text()), operator),
    }
}

fn holds(order: Ordering, operator: Operator) -> bool {
    match operator {
        Operator::Equal | Operator::Has => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    }
}

fn at<'a>(json: &'a Json, path: &[String]) -> Option<&'a Json> {
    path.iter().try_fold(json, |json, name| json.get(name))
}

/// As the operator `#>>` has it: numbers with all of their digits.
fn text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Number(number) => {
            let short = number.to_string();
            let long =
                number.as_f64().filter(|_| short.contains(['e', 'E'])).map(|number| number.to_string());
            long.unwrap_or(short)
        }
        other => other.to_string(),
    }
}

/// A time to the microsecond, rounded as PostgreSQL reads it: its fraction is a
/// double there (`ParseFractionalSecond` in datetime.c).
fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    let micros = (f64::from(time.timestamp_subsec_nanos()) / 1e9 * 1e6).round_ties_even();
    #[allow(clippy::cast_possible_truncation)]
    DateTime::from_timestamp(time.timestamp(), 0)?.checked_add_signed(TimeDelta::microseconds(micros as i64))
}

#[cfg(test)]
mod tests {
    use kit::identity::Collection;
    use serde_json::json;

    use super::*;
    use crate::domain::{
        changes::Descriptors,
        filter::{Schema, read},
    };

    fn subject() -> Subject {
        Subject {
            columns: vec![
                ("name", Value::Uuid(Uuid::from_u128(1))),
                ("kind", Value::Number(5)),
                ("display_name", Value::Text("OpenSSL".to_owned())),
                ("node", Value::Absent),
                ("node_display_name", Value::Text(String::new())),
                ("revision", Value::Number(3)),
                ("update_time", Value::Time(DateTime::from_timestamp(1_800_000_000, 0).unwrap())),
                ("delete_time", Value::Absent),
            ],
            attributes: json!({
                "details": {
                    "package": {"version": "3.0.17", "installed_size_bytes": u64::MAX},
                    "relations": [{"kind": "ASSET_KIND_DISK", "natural_key": "a*b"}],
                },
                "managed": {
                    "labels": {"env": "prod", "a.b/c": "", "rack": "12"},
                    "lifecycle": "LIFECYCLE_PLANNED",
                },
            }),
            texts: vec!["OpenSSL".to_owned(), "dpkg/openssl:amd64".to_owned()],
        }
    }

    #[test]
    fn says_what_the_filter_says() {
        let schema = Schema {
            message: Descriptors::default().message("Asset").unwrap(),
            names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
            unsearchable: &["etag"],
        };
        for (filter, expected) in [
            ("kind=PACKAGE", true),
            ("kind!=PACKAGE", false),
            ("ssl AMD64", true),
            ("ssl*", false),
            ("open*", true),
            ("display_name=OpenSSL", true),
            ("display_name=openssl", false),
            ("display_name:openssl", true),
            ("display_name=\"Open*\"", true),
            ("display_name!=\"Open*\"", false),
            ("display_name>=A", true),
            ("node=nodes/00000000-0000-0000-0000-000000000001", false),
            ("node!=nodes/00000000-0000-0000-0000-000000000001", true),
            ("node:*", false),
            ("NOT node:*", true),
            ("node_display_name:*", false),
            ("revision>2 revision<4", true),
            ("update_time>\"2020-01-01T00:00:00Z\"", true),
            ("delete_time<\"2020-01-01T00:00:00Z\"", false),
            ("delete_time!=\"2020-01-01T00:00:00Z\"", true),
            ("details.package.version:\"3.0*\"", true),
            ("details.package.installed_size_bytes>9223372036854775807", true),
            ("details.package.section=\"\"", true),
            ("details.disk.size_bytes=0", false),
            ("details.disk.size_bytes!=0", false),
            ("details.relations.kind:DISK", true),
            ("details.relations.natural_key:\"a\\*b\"", true),
            ("details.relations.natural_key:\"a*\"", true),
            ("details.relations.natural_key:\"A*\"", false),
            ("details.relations.natural_key:a", false),
            ("details.relations.kind:NODE", false),
            ("details.package:*", true),
            ("details.disk:*", false),
            ("managed.labels:env", true),
            ("managed.labels:e", false),
            ("managed.labels.env=prod", true),
            ("managed.labels.a.b/c:*", true),
            ("managed.labels.zone!=x", true),
            ("managed.labels.rack>9", true),
            ("managed.labels.rack>\"9x\"", false),
            ("managed.labels.rack=12.0", false),
            ("managed.labels.env=(test OR prod)", true),
            ("managed.labels.env!=(test OR prod)", false),
            ("update_time>ago(1d)", true),
            ("update_time<2026-03-03", false),
            ("details:package", true),
            ("details:disk", false),
            ("managed.lifecycle=PLANNED", true),
            ("managed.owner=\"\"", true),
            ("managed.owner:*", false),
            ("kind=DISK OR ssl", true),
        ] {
            let predicate = read(filter, &schema, Utc::now()).unwrap().unwrap();
            assert_eq!(predicate.matches(&subject()), expected, "{filter}");
        }
    }
}
