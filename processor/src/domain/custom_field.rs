//! Custom fields: what a definition may be, and which values fit it.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use contracts::v1::{AssetKind, CustomField, CustomFieldType};
use regex::{Regex, RegexBuilder};

use super::field::{FieldError, line, required_line, shown, text};

/// Definitions there may be.
pub const MAX_DEFINITIONS: i64 = 256;
const MAX_KEY: usize = 63;
const MAX_TITLE_BYTES: usize = 256;
const MAX_DESCRIPTION_BYTES: usize = 2048;
const MAX_PATTERN_BYTES: usize = 512;
/// Memory of a compiled pattern, in bytes: `\w{1000}` is short and large.
const MAX_PATTERN_SIZE: usize = 256 * 1024;
const MAX_VALUES: usize = 256;
const MAX_ENUM_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 1024;
const MAX_NUMBER_BYTES: usize = 64;

/// A definition that holds what it must.
#[derive(Clone, Debug)]
pub struct Definition {
    field: CustomField,
    pattern: Option<Regex>,
}

impl Definition {
    /// Checks a definition.
    ///
    /// # Errors
    /// A field breaks its rule; it is named as `custom_field.` has it.
    pub fn new(field: CustomField) -> Result<Self, FieldError> {
        line("custom_field.title", &field.title, MAX_TITLE_BYTES)?;
        text("custom_field.description", &field.description, MAX_DESCRIPTION_BYTES)?;
        let Ok(
            CustomFieldType::Text
            | CustomFieldType::Number
            | CustomFieldType::Bool
            | CustomFieldType::Date
            | CustomFieldType::Enum
            | CustomFieldType::Url,
        ) = CustomFieldType::try_from(field.r#type)
        else {
            return Err(FieldError::new("custom_field.type", "is required: what its values are"));
        };
        check_kinds(&field.kinds)?;
        check_belongs(&field)?;
        check_bounds(&field)?;
        check_values(&field)?;
        let pattern = pattern(&field.pattern)?;
        Ok(Self { field, pattern })
    }

    /// The definition as it is told.
    pub fn field(&self) -> &CustomField {
        &self.field
    }

    /// Whether assets of a kind may have it.
    pub fn applies(&self, kind: AssetKind) -> bool {
        self.field.kinds.is_empty() || self.field.kinds.contains(&kind.into())
    }

    /// Checks a value of an asset.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self, value: &str, kind: AssetKind) -> Result<(), String> {
        if !self.applies(kind) {
            let kinds: Vec<&str> = self.field.kinds().map(short).collect();
            return Err(format!(
                "is for assets of kind {}, and this one is {}",
                kinds.join(", "),
                short(kind)
            ));
        }
        text("", value, MAX_VALUE_BYTES).map_err(|error| error.problem)?;
        if value.is_empty() {
            return Err("is empty; take it away by a mask that names it".to_owned());
        }
        match self.field.r#type() {
            CustomFieldType::Unspecified => Ok(()),
            CustomFieldType::Text => self.check_text(value),
            CustomFieldType::Url if is_url(value) => self.check_text(value),
            CustomFieldType::Url => Err(format!("`{}` is no URL like https://host/path", shown(value))),
            CustomFieldType::Number => self.check_number(value),
            CustomFieldType::Bool if matches!(value, "true" | "false") => Ok(()),
            CustomFieldType::Bool => Err(format!("`{}` is neither true nor false", shown(value))),
            CustomFieldType::Date if is_date(value) => Ok(()),
            CustomFieldType::Date => Err(format!("`{}` is no day like 2027-02-28", shown(value))),
            CustomFieldType::Enum if self.field.values.iter().any(|known| known == value) => Ok(()),
            CustomFieldType::Enum => {
                Err(format!("`{}` is not one of {}", shown(value), shown(&self.field.values.join(", "))))
            }
        }
    }

    fn check_text(&self, value: &str) -> Result<(), String> {
        let (least, most) = (self.field.min_length, self.field.max_length);
        let length = i32::try_from(value.chars().count()).unwrap_or(i32::MAX);
        if length < least {
            return Err(format!("has {length} characters; at least {least} are needed"));
        }
        if most > 0 && length > most {
            return Err(format!("has {length} characters; at most {most} are allowed"));
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(value) => {
                Err(format!("`{}` does not fit the pattern {}", shown(value), shown(&self.field.pattern)))
            }
            _ => Ok(()),
        }
    }

    fn check_number(&self, value: &str) -> Result<(), String> {
        let Some(number) = number(value) else {
            let value = shown(value);
            return Err(format!(
                "`{value}` is no number like -12 or 3.5, of at most {MAX_NUMBER_BYTES} bytes"
            ));
        };
        if let Some(least) = self.field.min_value.filter(|least| number < *least) {
            return Err(format!("{value} is below {least}"));
        }
        if let Some(most) = self.field.max_value.filter(|most| number > *most) {
            return Err(format!("{value} is above {most}"));
        }
        Ok(())
    }
}

/// All definitions, by key.
#[derive(Clone, Debug, Default)]
pub struct Definitions(BTreeMap<String, Definition>);

impl Definitions {
    /// Takes them.
    pub fn new(all: impl IntoIterator<Item = (String, Definition)>) -> Self {
        Self(all.into_iter().collect())
    }

    /// Checks a value of an asset.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self, key: &str, value: &str, kind: AssetKind) -> Result<(), String> {
        match self.0.get(key) {
            Some(definition) => definition.check(value, kind),
            None => Err("is not defined; define it with CreateCustomField".to_owned()),
        }
    }

    /// Keys of those that assets of a kind must have.
    pub fn required(&self, kind: AssetKind) -> impl Iterator<Item = &str> {
        let needed = move |definition: &Definition| definition.field.required && definition.applies(kind);
        self.0.iter().filter(move |(_, definition)| needed(definition)).map(|(key, _)| key.as_str())
    }
}

/// Checks the key of a definition.
///
/// # Errors
/// It is not formed as keys are.
pub fn check_key(field: &str, key: &str) -> Result<(), FieldError> {
    let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if begins && rest && key.len() <= MAX_KEY {
        return Ok(());
    }
    let key = shown(key);
    let problem =
        format!("`{key}` is no key: 1 to {MAX_KEY} characters of a-z 0-9 _ that begin with a letter");
    Err(FieldError::new(field, problem))
}

fn check_kinds(kinds: &[i32]) -> Result<(), FieldError> {
    for (index, kind) in kinds.iter().enumerate() {
        let field = format!("custom_field.kinds[{index}]");
        if matches!(AssetKind::try_from(*kind), Ok(AssetKind::Unspecified) | Err(_)) {
            return Err(FieldError::new(field, format!("{kind} is no kind of assets")));
        }
        if kinds[..index].contains(kind) {
            return Err(FieldError::new(field, "stands there twice"));
        }
    }
    Ok(())
}

/// What one type alone has.
fn check_belongs(field: &CustomField) -> Result<(), FieldError> {
    let textual = matches!(field.r#type(), CustomFieldType::Text | CustomFieldType::Url);
    let number = field.r#type() == CustomFieldType::Number;
    let choice = field.r#type() == CustomFieldType::Enum;
    for (set, belongs, name) in [
        (!field.pattern.is_empty(), textual, "pattern"),
        (field.min_length != 0, textual, "min_length"),
        (field.max_length != 0, textual, "max_length"),
        (field.min_value.is_some(), number, "min_value"),
        (field.max_value.is_some(), number, "max_value"),
        (!field.values.is_empty(), choice, "values"),
    ] {
        if set && !belongs {
            let problem = format!("is nothing that a field of type {} has", type_name(field.r#type()));
            return Err(FieldError::new(format!("custom_field.{name}"), problem));
        }
    }
    Ok(())
}

fn check_bounds(field: &CustomField) -> Result<(), FieldError> {
    let most = i32::try_from(MAX_VALUE_BYTES).unwrap_or(i32::MAX);
    for (name, length) in [("min_length", field.min_length), ("max_length", field.max_length)] {
        if !(0..=most).contains(&length) {
            return Err(FieldError::new(format!("custom_field.{name}"), format!("must be 0 to {most}")));
        }
    }
    if field.max_length > 0 && field.max_length < field.min_length {
        return Err(FieldError::new("custom_field.max_length", "is below min_length"));
    }
    for (name, value) in [("min_value", field.min_value), ("max_value", field.max_value)] {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(FieldError::new(format!("custom_field.{name}"), "is no finite number"));
        }
    }
    if matches!((field.min_value, field.max_value), (Some(least), Some(most)) if most < least) {
        return Err(FieldError::new("custom_field.max_value", "is below min_value"));
    }
    Ok(())
}

fn check_values(field: &CustomField) -> Result<(), FieldError> {
    let count = field.values.len();
    if (field.r#type() == CustomFieldType::Enum && count == 0) || count > MAX_VALUES {
        let problem = format!("has {count} values; 1 to {MAX_VALUES} are needed");
        return Err(FieldError::new("custom_field.values", problem));
    }
    for (index, value) in field.values.iter().enumerate() {
        let at = format!("custom_field.values[{index}]");
        required_line(&at, value, MAX_ENUM_BYTES)?;
        if field.values[..index].contains(value) {
            return Err(FieldError::new(at, "stands there twice"));
        }
    }
    Ok(())
}

fn pattern(text: &str) -> Result<Option<Regex>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    super::field::text("custom_field.pattern", text, MAX_PATTERN_BYTES)?;
    let wrong = |error: &regex::Error| {
        // It says where on several lines.
        let problem = error.to_string();
        let last = problem.lines().last().unwrap_or_default();
        FieldError::new("custom_field.pattern", format!("is no regular expression: {last}"))
    };
    // Alone first: `a)|(b` would become one by what is put around it.
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_PATTERN_SIZE).build();
    build(text).map_err(|error| wrong(&error))?;
    build(&format!(r"\A(?:{text})\z")).map(Some).map_err(|error| wrong(&error))
}

/// A decimal number without exponent.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() > MAX_NUMBER_BYTES || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    text.parse().ok()
}

fn is_date(text: &str) -> bool {
    // chrono takes signs and single digits too.
    let plain = text.bytes().enumerate().all(|(place, byte)| byte.is_ascii_digit() || matches!(place, 4 | 7));
    plain && text.len() == "2027-02-28".len() && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let clean = !text.chars().any(|character| character.is_whitespace() || character.is_control());
    clean && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':', '@']))
}

fn short(kind: AssetKind) -> &'static str {
    kind.as_str_name().trim_start_matches("ASSET_KIND_")
}

fn type_name(field_type: CustomFieldType) -> &'static str {
    field_type.as_str_name().trim_start_matches("CUSTOM_FIELD_TYPE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field_type: CustomFieldType) -> CustomField {
        CustomField { r#type: field_type.into(), ..CustomField::default() }
    }

    fn choice(values: &[&str]) -> CustomField {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        CustomField { values, ..of(CustomFieldType::Enum) }
    }

    #[test]
    fn values_fit_their_type_and_bounds() {
        let bounded =
            CustomField { min_value: Some(0.0), max_value: Some(42.5), ..of(CustomFieldType::Number) };
        let fitted = CustomField {
            pattern: "[A-Z]{2}|x+".to_owned(),
            max_length: 3,
            min_length: 2,
            ..of(CustomFieldType::Text)
        };
        for (field, good, bad) in [
            (of(CustomFieldType::Text), vec!["x", "ä b"], vec!["", "a\0"]),
            (fitted, vec!["AB", "xxx"], vec!["A", "ABC", "xAB", "AB\n", "xxxx"]),
            (
                of(CustomFieldType::Number),
                vec!["0", "-12", "3.50"],
                vec!["", "1e3", ".5", "5.", "+1", "1,5", "NaN", "--1"],
            ),
            (bounded, vec!["0", "42.5"], vec!["-0.1", "42.51"]),
            (of(CustomFieldType::Bool), vec!["true", "false"], vec!["yes", "True", "1"]),
            (
                of(CustomFieldType::Date),
                vec!["2028-02-29"],
                vec!["2027-02-29", "2027-2-28", "27-02-28", "+027-02-28"],
            ),
            (choice(&["gold", "no gold"]), vec!["gold", "no gold"], vec!["Gold", "silver"]),
            (
                of(CustomFieldType::Url),
                vec!["https://cmdb/x?y", "http://[::1]:80"],
                vec!["cmdb/x", "ftp://a", "https://", "https:///x", "https://a b", "javascript:x"],
            ),
        ] {
            let definition = Definition::new(field.clone()).unwrap();
            for value in good {
                assert_eq!(definition.check(value, AssetKind::Disk), Ok(()), "{field:?} {value}");
            }
            for value in bad {
                assert!(definition.check(value, AssetKind::Disk).is_err(), "{field:?} {value}");
            }
        }
    }

    #[test]
    fn a_definition_that_cannot_be_is_refused_by_field() {
        let text = || of(CustomFieldType::Text);
        for (field, at) in [
            (CustomField::default(), "type"),
            (CustomField { r#type: 99, ..text() }, "type"),
            (CustomField { title: "a\nb".to_owned(), ..text() }, "title"),
            (CustomField { description: "x".repeat(2049), ..text() }, "description"),
            (CustomField { kinds: vec![0], ..text() }, "kinds[0]"),
            (CustomField { kinds: vec![2, 2], ..text() }, "kinds[1]"),
            (CustomField { pattern: "(".to_owned(), ..text() }, "pattern"),
            (CustomField { pattern: "a)|(b".to_owned(), ..text() }, "pattern"),
            (CustomField { pattern: r"(?:\w{100}){100}".to_owned(), ..text() }, "pattern"),
            (CustomField { pattern: "x".repeat(513), ..text() }, "pattern"),
            (CustomField { pattern: "x".to_owned(), ..of(CustomFieldType::Bool) }, "pattern"),
            (CustomField { min_length: -1, ..text() }, "min_length"),
            (CustomField { min_length: 3, max_length: 2, ..text() }, "max_length"),
            (CustomField { min_value: Some(1.0), ..text() }, "min_value"),
            (CustomField { max_value: Some(f64::NAN), ..of(CustomFieldType::Number) }, "max_value"),
            (
                CustomField { min_value: Some(2.0), max_value: Some(1.0), ..of(CustomFieldType::Number) },
                "max_value",
            ),
            (of(CustomFieldType::Enum), "values"),
            (choice(&["a", "a"]), "values[1]"),
            (choice(&[""]), "values[0]"),
            (CustomField { values: vec!["a".to_owned()], ..text() }, "values"),
        ] {
            let refused = Definition::new(field.clone()).unwrap_err();
            assert_eq!(refused.field, format!("custom_field.{at}"), "{field:?}: {refused}");
        }
        for key in ["", "A", "1a", "a-b", &"k".repeat(64)] {
            assert!(check_key("custom_field_id", key).is_err(), "{key}");
        }
        assert_eq!(check_key("custom_field_id", "rack_units2"), Ok(()));
    }
}
