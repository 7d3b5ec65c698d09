//! What the commands that manage can be told.

use clap::{Args, Subcommand};
use contracts::v1::{AssetKind, CustomFieldType, Lifecycle};

use crate::args::kind;

/// For `set`.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// `assets/{uuid}`, or the UUIDs alone; at most 10,000.
    #[arg(required_unless_present = "filter", conflicts_with = "filter")]
    pub names: Vec<String>,
    /// Instead of names: AIP-160, such as `kind=DISK managed.labels.env=prod`; at most
    /// 10,000 assets may be under it.
    #[arg(long)]
    pub filter: Option<String>,
    /// What is set.
    #[command(flatten)]
    pub values: Values,
    /// Only tell what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Confirms what is under a filter.
    #[arg(long)]
    pub yes: bool,
}

/// Managed fields; what is not given stays as it is, and what is empty is taken away.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Values {
    /// Who answers for it.
    #[arg(long)]
    pub owner: Option<String>,
    /// Where it stands in its life, such as `IN_SERVICE`.
    #[arg(long, value_parser = lifecycle)]
    pub lifecycle: Option<Lifecycle>,
    /// Where it is.
    #[arg(long)]
    pub location: Option<String>,
    /// Free text.
    #[arg(long)]
    pub notes: Option<String>,
    /// A label: `key=value`, or `key-` to take it away; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = entry)]
    pub labels: Vec<Entry>,
    /// A custom field: `key=value`, or `key-` to take it away; may be given several
    /// times.
    #[arg(long = "field", value_name = "KEY=VALUE", value_parser = entry)]
    pub fields: Vec<Entry>,
}

/// An entry of a map: set, or taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value; none to take it away.
    pub value: Option<String>,
}

/// For `undelete`.
#[derive(Debug, Args)]
pub struct UndeleteArguments {
    /// `assets/{uuid}`, or the UUID alone.
    pub name: String,
}

/// What to do with saved searches.
#[derive(Debug, Subcommand)]
pub enum SavedSearchesCommand {
    /// Lists them by title.
    List,
    /// Keeps a search for assets.
    Save {
        /// Name for people.
        title: String,
        /// AIP-160, such as `kind=PACKAGE display_name:openssl`; empty for all assets.
        #[arg(long, default_value = "")]
        filter: String,
        /// Fields to order by, such as `update_time desc, display_name`.
        #[arg(long, default_value = "")]
        order_by: String,
        /// A field to show, by path; may be given several times.
        #[arg(long = "column")]
        columns: Vec<String>,
        /// Whose it is.
        #[arg(long, default_value = "")]
        owner: String,
    },
    /// Lists the assets that one finds.
    Run {
        /// `savedSearches/{uuid}`, or the UUID alone.
        name: String,
    },
    /// Deletes one for good.
    Delete {
        /// `savedSearches/{uuid}`, or the UUID alone.
        name: String,
    },
}

/// What to do with custom fields.
#[derive(Debug, Subcommand)]
pub enum CustomFieldsCommand {
    /// Lists them by key.
    List,
    /// Defines one.
    Define(Box<DefineArguments>),
    /// Deletes a definition for good.
    Delete {
        /// `customFields/{key}`, or the key alone.
        name: String,
        /// Although assets have values of it; these stay.
        #[arg(long)]
        force: bool,
    },
}

/// For `custom-fields define`.
#[derive(Debug, Args)]
pub struct DefineArguments {
    /// Its key, such as `cost_centre`.
    pub key: String,
    /// What its values are: TEXT, NUMBER, BOOL, DATE, ENUM or URL.
    #[arg(long = "type", value_parser = field_type)]
    pub field_type: CustomFieldType,
    /// Name for people.
    #[arg(long, default_value = "")]
    pub title: String,
    /// What it is for.
    #[arg(long, default_value = "")]
    pub description: String,
    /// A kind of assets that may have it; may be given several times. All if it is
    /// not given.
    #[arg(long = "kind", value_parser = kind)]
    pub kinds: Vec<AssetKind>,
    /// Assets of these kinds must have a value.
    #[arg(long)]
    pub required: bool,
    /// TEXT and URL: a regular expression for the whole value.
    #[arg(long, default_value = "")]
    pub pattern: String,
    /// NUMBER: the least value.
    #[arg(long, allow_hyphen_values = true)]
    pub min_value: Option<f64>,
    /// NUMBER: the largest value.
    #[arg(long, allow_hyphen_values = true)]
    pub max_value: Option<f64>,
    /// TEXT and URL: the least number of characters.
    #[arg(long, default_value_t = 0)]
    pub min_length: i32,
    /// TEXT and URL: the largest number of characters; 0 for any.
    #[arg(long, default_value_t = 0)]
    pub max_length: i32,
    /// ENUM: a value; may be given several times.
    #[arg(long = "value")]
    pub values: Vec<String>,
}

fn entry(text: &str) -> Result<Entry, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text.strip_suffix('-').ok_or("is neither key=value nor key-")?, None),
    };
    if key.is_empty() {
        return Err("has no key".to_owned());
    }
    Ok(Entry { key: key.to_owned(), value })
}

fn lifecycle(word: &str) -> Result<Lifecycle, String> {
    let found = Lifecycle::from_str_name(&format!("LIFECYCLE_{}", word.to_uppercase()));
    found.filter(|found| *found != Lifecycle::Unspecified).ok_or_else(|| {
        let known = (1..).map_while(|number| Lifecycle::try_from(number).ok());
        known_are(known.map(|one| one.as_str_name().trim_start_matches("LIFECYCLE_")))
    })
}

fn field_type(word: &str) -> Result<CustomFieldType, String> {
    let found = CustomFieldType::from_str_name(&format!("CUSTOM_FIELD_TYPE_{}", word.to_uppercase()));
    found.filter(|found| *found != CustomFieldType::Unspecified).ok_or_else(|| {
        let known = (1..).map_while(|number| CustomFieldType::try_from(number).ok());
        known_are(known.map(|one| one.as_str_name().trim_start_matches("CUSTOM_FIELD_TYPE_")))
    })
}

fn known_are<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("known are {}", names.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_set_or_taken_away() {
        let set = |key: &str, value: &str| Ok(Entry { key: key.to_owned(), value: Some(value.to_owned()) });
        assert_eq!(entry("env=prod"), set("env", "prod"));
        assert_eq!(entry("env="), set("env", ""));
        assert_eq!(entry("a-b=c=d-"), set("a-b", "c=d-"));
        assert_eq!(entry("env-"), Ok(Entry { key: "env".to_owned(), value: None }));
        assert!(entry("env").is_err() && entry("=x").is_err() && entry("-").is_err());
        assert_eq!(lifecycle("in_service"), Ok(Lifecycle::InService));
        let known = lifecycle("UNSPECIFIED").unwrap_err();
        assert!(known.starts_with("known are PLANNED, IN_SERVICE, MAINTENANCE, RETIRED"), "{known}");
        assert_eq!(field_type("url"), Ok(CustomFieldType::Url));
    }
}
