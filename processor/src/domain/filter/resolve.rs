//! Gives fields and values their types, from the descriptors of the contract.

use chrono::{DateTime, Utc};
use kit::identity::{Collection, parse_uuid};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use uuid::Uuid;

use super::{
    FilterError, Operator,
    parse::{Segment, Tree, Word},
};

/// The resource that a filter is about.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Its message.
    pub message: MessageDescriptor,
    /// Fields that hold names of resources.
    pub names: &'static [(&'static str, Collection)],
    /// Fields that no filter can name.
    pub unsearchable: &'static [&'static str],
}

/// A checked condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// All hold.
    And(Vec<Predicate>),
    /// One holds.
    Or(Vec<Predicate>),
    /// It does not hold.
    Not(Box<Predicate>),
    /// A field compares.
    Compare {
        /// Which.
        field: Field,
        /// How.
        operator: Operator,
        /// With what.
        value: Literal,
    },
    /// A word is found in the texts that people search. `*` stands for any
    /// text if it is not escaped by `\`.
    Text(String),
}

/// A field of the resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its path; the last part may be the key of a map.
    pub path: Vec<String>,
    /// Its type.
    pub field_type: FieldType,
    /// How many parts of the path lead to a list of messages, of which one has to
    /// fit.
    pub in_list: Option<usize>,
    /// Whether it may be absent, which is not the same as having its default
    /// value.
    pub optional: bool,
}

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    Text,
    /// An integer.
    Number,
    /// True or false.
    Bool,
    /// A point in time.
    Time,
    /// An enum.
    Enum,
    /// A resource's name, stored as its UUID.
    Name,
    /// A list of texts.
    TextList,
    /// A list of messages or a message.
    Message,
    /// A map from text to text.
    Map,
    /// A value of such a map.
    MapValue,
}

/// A typed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Text; `*` stands for any text if it is not escaped by `\`.
    Text(String),
    /// An integer.
    Number(i64),
    /// True or false.
    Bool(bool),
    /// A point in time.
    Time(DateTime<Utc>),
    /// An enum's number and full name.
    Enum(i32, String),
    /// A UUID.
    Uuid(Uuid),
    /// `:*`: the field is set.
    Present,
}

pub(super) fn resolve(tree: &Tree, schema: &Schema) -> Result<Predicate, FilterError> {
    let all = |parts: &[Tree]| parts.iter().map(|part| resolve(part, schema)).collect::<Result<Vec<_>, _>>();
    Ok(match tree {
        Tree::And(parts) => Predicate::And(all(parts)?),
        Tree::Or(parts) => Predicate::Or(all(parts)?),
        Tree::Not(inner) => Predicate::Not(Box::new(resolve(inner, schema)?)),
        Tree::Text(word) => Predicate::Text(word.text.clone()),
        Tree::Compare { path, operator, value } => compare(path, *operator, value, schema)?,
    })
}

fn compare(
    path: &[Segment],
    operator: Operator,
    value: &Word,
    schema: &Schema,
) -> Result<Predicate, FilterError> {
    let (field, leaf) = field(path, schema)?;
    if operator == Operator::Has && value.text == "*" {
        return Ok(Predicate::Compare { field, operator, value: Literal::Present });
    }
    check_operator(path, &field, operator)?;
    let value = literal(&field, leaf.as_ref(), value, schema)?;
    Ok(Predicate::Compare { field, operator, value })
}

fn check_operator(path: &[Segment], field: &Field, operator: Operator) -> Result<(), FilterError> {
    use FieldType::{Bool, Enum, Map, Message, Name, TextList};
    let name = field.path.join(".");
    if let Some(list) = field.in_list
        && (operator != Operator::Has || matches!(field.field_type, Message | Map))
    {
        let (list, allowed) =
            (field.path[..list].join("."), if field.field_type == Message { "`:*`" } else { "`:`" });
        let problem = format!("`{list}` is a list, so `{name}` can be compared by {allowed} alone");
        return Err(FilterError::new(path[0].position, problem));
    }
    let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual | Operator::Has);
    let refused = match field.field_type {
        Bool | Enum | Name => ordered,
        Map | TextList => operator != Operator::Has,
        Message => true,
        _ => false,
    };
    if !refused {
        return Ok(());
    }
    let allowed = match field.field_type {
        Bool | Enum | Name => "`=`, `!=` and `:`",
        Map | TextList => "`:`",
        _ => "`:*`",
    };
    Err(FilterError::new(path[0].position, format!("`{name}` can be compared by {allowed} alone")))
}

/// Follows a path through the descriptors.
fn field(path: &[Segment], schema: &Schema) -> Result<(Field, Option<FieldDescriptor>), FilterError> {
    let mut message = schema.message.clone();
    let mut names: Vec<String> = Vec::new();
    let mut in_list = None;
    for (index, segment) in path.iter().enumerate() {
        let found = message
            .get_field_by_name(&segment.text)
            .or_else(|| message.get_field_by_json_name(&segment.text));
        let known = |field: &FieldDescriptor| names.is_empty() && schema.unsearchable.contains(&field.name());
        let Some(found) = found.filter(|field| !known(field)) else {
            return Err(unknown(segment, &names, &message, schema));
        };
        names.push(found.name().to_owned());
        let rest = &path[index + 1..];
        if found.is_map() {
            return map(names, rest, found);
        }
        match (found.kind(), rest.is_empty()) {
            (Kind::Message(inner), false) if !is_time(&inner) && (in_list.is_none() || !found.is_list()) => {
                if found.is_list() {
                    in_list = Some(names.len());
                }
                message = inner;
            }
            (kind, true) => {
                let field_type = field_type(&names, &found, schema);
                let optional = found.supports_presence() && !matches!(kind, Kind::Message(_));
                return Ok((Field { path: names, field_type, in_list, optional }, Some(found)));
            }
            (_, false) => {
                let problem = format!("`{}` has no fields of its own", names.join("."));
                return Err(FilterError::new(rest[0].position, problem));
            }
        }
    }
    Err(FilterError::new(0, "a field is missing"))
}

fn map(
    mut names: Vec<String>,
    rest: &[Segment],
    found: FieldDescriptor,
) -> Result<(Field, Option<FieldDescriptor>), FilterError> {
    if rest.is_empty() {
        let field = Field { path: names, field_type: FieldType::Map, in_list: None, optional: false };
        return Ok((field, Some(found)));
    }
    // Keys may hold dots: what follows the map is the key.
    let key: Vec<&str> = rest.iter().map(|segment| segment.text.as_str()).collect();
    names.push(key.join("."));
    Ok((Field { path: names, field_type: FieldType::MapValue, in_list: None, optional: false }, None))
}

fn unknown(segment: &Segment, names: &[String], message: &MessageDescriptor, schema: &Schema) -> FilterError {
    let mut known: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
    if names.is_empty() {
        known.retain(|name| !schema.unsearchable.contains(&name.as_str()));
    }
    known.sort_unstable();
    let of = if names.is_empty() { String::new() } else { format!(" in `{}`", names.join(".")) };
    let problem = format!(
        "there is no field `{}`{of}; there are {} (put a word that holds `:` or `=` in quotes)",
        segment.text,
        known.join(", ")
    );
    FilterError::new(segment.position, problem)
}

fn is_time(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Timestamp"
}

fn field_type(names: &[String], field: &FieldDescriptor, schema: &Schema) -> FieldType {
    if names.len() == 1 && schema.names.iter().any(|(name, _)| *name == names[0]) {
        return FieldType::Name;
    }
    if field.cardinality() == Cardinality::Repeated {
        return if field.kind() == Kind::String { FieldType::TextList } else { FieldType::Message };
    }
    match field.kind() {
        Kind::Message(message) if is_time(&message) => FieldType::Time,
        Kind::Message(_) => FieldType::Message,
        Kind::Enum(_) => FieldType::Enum,
        Kind::Bool => FieldType::Bool,
        Kind::String | Kind::Bytes => FieldType::Text,
        _ => FieldType::Number,
    }
}

fn literal(
    field: &Field,
    leaf: Option<&FieldDescriptor>,
    value: &Word,
    schema: &Schema,
) -> Result<Literal, FilterError> {
    let name = field.path.join(".");
    let wrong = |wanted: &str| {
        FilterError::new(value.position, format!("`{}` is not {wanted}, which `{name}` needs", value.text))
    };
    Ok(match field.field_type {
        FieldType::Text | FieldType::TextList | FieldType::Map | FieldType::MapValue | FieldType::Message => {
            Literal::Text(value.text.clone())
        }
        FieldType::Number => Literal::Number(value.text.parse().map_err(|_| wrong("a whole number"))?),
        FieldType::Bool => Literal::Bool(value.text.parse().map_err(|_| wrong("true or false"))?),
        FieldType::Time => Literal::Time(
            DateTime::parse_from_rfc3339(&value.text)
                .map_err(|_| wrong("a time like \"2026-03-03T00:00:00Z\""))?
                .to_utc(),
        ),
        FieldType::Enum => {
            let Some(Kind::Enum(values)) = leaf.map(FieldDescriptor::kind) else {
                return Err(wrong("a value"));
            };
            let (number, full) = enum_value(&values, &value.text)
                .ok_or_else(|| wrong(&format!("one of {}", short_names(&values).join(", "))))?;
            Literal::Enum(number, full)
        }
        FieldType::Name => {
            let collection = schema.names.iter().find(|(field, _)| *field == field_name(&name));
            let uid = collection
                .and_then(|(_, collection)| collection.parse(&value.text))
                .or_else(|| parse_uuid(&value.text));
            let wanted = collection.map_or("assets", |(_, collection)| collection.segment());
            Literal::Uuid(uid.ok_or_else(|| wrong(&format!("a name like {wanted}/{{uuid}}")))?)
        }
    })
}

fn field_name(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// A value by its full or short name: `ASSET_KIND_PACKAGE` or `PACKAGE`.
fn enum_value(values: &EnumDescriptor, text: &str) -> Option<(i32, String)> {
    let prefix = enum_prefix(values);
    values
        .values()
        .find(|value| value.name() == text || value.name().strip_prefix(&prefix) == Some(text))
        .map(|value| (value.number(), value.name().to_owned()))
}

fn short_names(values: &EnumDescriptor) -> Vec<String> {
    let prefix = enum_prefix(values);
    values
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_owned())
        .collect()
}

/// What all values begin with: the enum's name, as buf's lint asks for.
fn enum_prefix(values: &EnumDescriptor) -> String {
    let zero = values.values().find(|value| value.number() == 0);
    zero.map(|value| value.name().trim_end_matches("UNSPECIFIED").to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{changes::Descriptors, filter::read};

    fn schema() -> Schema {
        Schema {
            message: Descriptors::default().message("Asset").unwrap(),
            names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
            unsearchable: &["etag"],
        }
    }

    fn one(text: &str) -> (String, FieldType, Literal) {
        match read(text, &schema()).unwrap().unwrap() {
            Predicate::Compare { field, value, .. } => (field.path.join("/"), field.field_type, value),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_and_values_have_the_types_of_the_contract() {
        let package = Literal::Enum(5, "ASSET_KIND_PACKAGE".to_owned());
        assert_eq!(one("kind=PACKAGE"), ("kind".to_owned(), FieldType::Enum, package.clone()));
        assert_eq!(one("kind=ASSET_KIND_PACKAGE").2, package);
        assert_eq!(one("revision>=3").2, Literal::Number(3));
        assert_eq!(one("details.disk.size_bytes>5").1, FieldType::Number);
        assert_eq!(one("details.disk.rotational=true").2, Literal::Bool(true));
        assert_eq!(one("details.filesystem.options:ro").1, FieldType::TextList);
        assert_eq!(one("details.container.image:nginx").1, FieldType::Text);
        assert_eq!(one("details.user.sudoers:alice").1, FieldType::TextList);
        assert_eq!(one("details.certificate.notAfterTime<2027-01-01T00:00:00Z").1, FieldType::Time);
        assert_eq!(one("details.pci_device.numa_node=0").2, Literal::Number(0));
        assert_eq!(one("details.relations:*").1, FieldType::Message);
        let related = one("details.relations.kind:DISK");
        assert_eq!(related.0, "details/relations/kind");
        assert_eq!(related.2, Literal::Enum(2, "ASSET_KIND_DISK".to_owned()));
        assert_eq!(one("details.processor.caches.level:3").2, Literal::Number(3));
        assert_eq!(one("managed.labels.a.b/c=x").0, "managed/labels/a.b/c");
        assert_eq!(one("managed.labels:env").1, FieldType::Map);
        assert_eq!(one("managed.owner:*").2, Literal::Present);
        assert_eq!(one("displayName=x").0, "display_name");
        let uid = Uuid::from_u128(9);
        assert_eq!(one(&format!("node=nodes/{uid}")).2, Literal::Uuid(uid));
        assert!(matches!(one("update_time<2026-03-03T00:00:00+01:00").2, Literal::Time(_)));
    }

    #[test]
    fn wrong_fields_and_values_are_told_precisely() {
        for (text, position, problem) in [
            ("kindd=PACKAGE", 0, "there is no field `kindd`; there are"),
            ("a=1 etag=x", 0, "there is no field `a`"),
            ("etag=x", 0, "there is no field `etag`"),
            ("kind=PAKAGE", 5, "`PAKAGE` is not one of NODE, DISK"),
            ("details.package.vrsion=1", 16, "there is no field `vrsion` in `details.package`"),
            ("revision=x", 9, "not a whole number"),
            ("update_time>yesterday", 12, "not a time like"),
            ("node=x", 5, "not a name like nodes/{uuid}"),
            ("kind>DISK", 0, "by `=`, `!=` and `:` alone"),
            ("details=x", 0, "by `:*` alone"),
            ("kind.x=1", 5, "has no fields of its own"),
            ("details.disk.rotational=yes", 24, "not true or false"),
            (
                "details.contaner.image:x",
                8,
                "there is no field `contaner` in `details`; there are accelerator, board,",
            ),
            (
                "details.container.imag:x",
                18,
                "there is no field `imag` in `details.container`; there are container,",
            ),
            (
                "details.relations.kind=DISK",
                0,
                "`details.relations` is a list, so `details.relations.kind` can be compared by `:` alone",
            ),
            (
                "details.relations.knd:DISK",
                18,
                "there is no field `knd` in `details.relations`; there are kind, natural_key, type",
            ),
            ("details.relations.kind:DISC", 23, "`DISC` is not one of NODE, DISK"),
            ("details.relations=x", 0, "by `:*` alone"),
            ("details.pod.pod.x=1", 16, "`details.pod.pod` has no fields of its own"),
        ] {
            let error = read(text, &schema()).unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert_eq!(error.position, position, "{text}: {error}");
        }
    }
}
