//! Fields by which resources are grouped.

use kit::identity::Collection;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};
use uuid::Uuid;

use super::{Field, FieldType, FilterError, Schema, field::field, parse::parse_path};

/// A field of which the values make groups.
#[derive(Clone, Debug)]
pub struct Group {
    /// The field.
    pub field: Field,
    values: Option<EnumDescriptor>,
    collection: Option<Collection>,
}

impl Group {
    pub(super) fn read(text: &str, schema: &Schema) -> Result<Self, FilterError> {
        let found = field(&parse_path(text)?, schema)?;
        let what = match found.field.field_type {
            _ if found.field.in_list.is_some() || found.is_list => "a list, or within one",
            FieldType::Time => "a time",
            FieldType::Message => "a message",
            FieldType::Map => "a map; add one of its keys",
            _ => {
                let values = match found.leaf.as_ref().map(FieldDescriptor::kind) {
                    Some(Kind::Enum(values)) => Some(values),
                    _ => None,
                };
                let named = |name: &str| found.field.path.len() == 1 && found.field.path[0] == name;
                let collection = schema.names.iter().find(|(name, _)| named(name)).map(|(_, found)| *found);
                return Ok(Self { field: found.field, values, collection });
            }
        };
        let problem = format!("`{}` is {what}, so nothing can be grouped by it", found.field.path.join("."));
        Err(FilterError::new(0, problem))
    }

    /// A value of the database as the contract shows it.
    pub fn shown(&self, value: String) -> String {
        if let Some(collection) = self.collection {
            return value.parse::<Uuid>().map(|uid| collection.name(uid)).unwrap_or(value);
        }
        let number = || value.parse().ok();
        let named = self.values.as_ref().and_then(|values| values.get_value(number()?));
        named.map_or(value, |named| named.name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{changes::Descriptors, filter::group};

    #[test]
    fn what_has_one_value_makes_groups() {
        let schema = Schema {
            message: Descriptors::default().message("Asset").unwrap(),
            names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
            unsearchable: &["etag"],
        };
        let shown = |text: &str, value: &str| group(text, &schema).unwrap().shown(value.to_owned());
        assert_eq!(shown("kind", "5"), "ASSET_KIND_PACKAGE");
        assert_eq!(shown("kind", "12345"), "12345");
        assert_eq!(shown("managed.lifecycle", "LIFECYCLE_PLANNED"), "LIFECYCLE_PLANNED");
        assert_eq!(shown("node", ""), "");
        assert_eq!(
            shown("node", "00000000-0000-0000-0000-000000000001"),
            "nodes/00000000-0000-0000-0000-000000000001"
        );
        assert_eq!(shown("managed.labels.\"a b\"", "5"), "5");
        for (text, position, problem) in [
            ("", 0, "a field or a word is missing before the end"),
            ("kind=", 4, "`=` is unexpected here"),
            ("knd", 0, "did you mean `kind`?"),
            ("update_time", 0, "`update_time` is a time"),
            ("details", 0, "`details` is a message"),
            ("managed.labels", 0, "`managed.labels` is a map"),
            ("details.relations.kind", 0, "is a list, or within one"),
            ("details.filesystem.options", 0, "is a list, or within one"),
        ] {
            let error = group(text, &schema).unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert_eq!(error.position, position, "{text}: {error}");
        }
    }
}
