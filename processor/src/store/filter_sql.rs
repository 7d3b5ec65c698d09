//! SQL of a predicate: column or JSON path, operator, binds.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::sql::{Bind, Sql};
use crate::domain::filter::{Decimal, Field, FieldType, Literal, Operator, Pattern, Predicate};

/// Where the fields of a resource are.
pub struct Columns {
    /// SQL of each field that has a column, by its path joined with dots.
    pub columns: &'static [(&'static str, &'static str)],
    /// JSON column that holds the fields below these; none if there are none.
    pub json: Option<&'static str>,
    /// The `managed` part of it once more, where a column with an index has it.
    pub managed: Option<&'static str>,
    /// Texts of the row itself that a word alone is looked for in.
    pub texts: &'static [&'static str],
    /// The same texts, one a line, as they have an index of trigrams.
    pub lines: Option<&'static str>,
    /// The column that names the node, whose display name such a word may be in.
    pub node: &'static str,
}

/// By the database's letters: with the order "C" only ASCII has cases.
const ANY_CASE: &str = " COLLATE \"default\" ILIKE ";
/// Texts that are numbers: those that [`Decimal`] reads.
const IS_NUMBER: &str = " ~ '^-?[0-9]{1,30}([.][0-9]{1,30})?$'";

/// SQL of a predicate.
pub fn compile(predicate: &Predicate, columns: &Columns) -> Sql {
    match predicate {
        Predicate::And(parts) => join(parts, " AND ", columns),
        Predicate::Or(parts) => join(parts, " OR ", columns),
        // Unknown counts as not holding, so that NOT turns it into holding.
        Predicate::Not(inner) => Sql::new("NOT coalesce(").then(compile(inner, columns)).text(", false)"),
        Predicate::Text(word) => word_alone(word, columns),
        Predicate::Compare { field, operator, value } => compare(field, *operator, value, columns),
    }
}

fn join(parts: &[Predicate], by: &str, columns: &Columns) -> Sql {
    let mut sql = Sql::new("(");
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sql = sql.text(by);
        }
        sql = sql.then(compile(part, columns));
    }
    sql.text(")")
}

/// The names of nodes are asked apart: joined, no index could help.
fn word_alone(word: &str, columns: &Columns) -> Sql {
    let like = wide(word);
    let mut own = Sql::new("(");
    for (index, text) in columns.texts.iter().enumerate() {
        let or = if index > 0 { " OR " } else { "" };
        own = own.text(format!("{or}{text}{ANY_CASE}")).bind(Bind::Text(like.clone()));
    }
    Sql::new("(")
        .then(with_lines(own.text(")"), word, columns))
        .text(format!(
            " OR {} = ANY (ARRAY(SELECT named.uid FROM node AS named WHERE named.display_name{ANY_CASE}",
            columns.node
        ))
        .bind(Bind::Text(like))
        .text(")))")
}

/// A search for text, preceded by one that the index of trigrams can answer if
/// the pattern has a trigram.
fn with_lines(search: Sql, pattern: &str, columns: &Columns) -> Sql {
    let pattern = Pattern::new(pattern);
    match columns.lines {
        Some(lines) if pattern.longest() >= 3 => Sql::new(format!("({lines}{ANY_CASE}"))
            .bind(Bind::Text(pattern.anywhere().like()))
            .text(" AND ")
            .then(search)
            .text(")"),
        _ => search,
    }
}

fn compare(field: &Field, operator: Operator, value: &Literal, columns: &Columns) -> Sql {
    let path = field.path.join(".");
    if let Some((_, column)) = columns.columns.iter().find(|(name, _)| *name == path) {
        let compared = compare_field(Sql::new(*column), field.field_type, operator, value);
        return match value {
            Literal::Text(text) if operator == Operator::Has && columns.texts.contains(column) => {
                with_lines(compared, text, columns)
            }
            _ => compared,
        };
    }
    let Some(json) = columns.json else { return Sql::new("false") };
    if let Some(list) = field.in_list {
        let inner = Field {
            path: field.path[list..].to_vec(),
            field_type: field.field_type,
            in_list: None,
            ..*field
        };
        if *value == Literal::Present && inner.path.is_empty() {
            return Sql::new(format!("({json} #> "))
                .bind(Bind::Texts(field.path.clone()))
                .text(") IS NOT NULL");
        }
        return Sql::new(format!("EXISTS (SELECT FROM jsonb_array_elements({json} #> "))
            .bind(Bind::Texts(field.path[..list].to_vec()))
            .text(") AS item WHERE ")
            .then(compare_json("item", &inner, exact(operator), value))
            .text(")");
    }
    if let Some(contained) = columns.managed.and_then(|managed| contains(managed, field, operator, value)) {
        return contained;
    }
    let found = compare_json(json, field, operator, value);
    // A field that is not there has its default value, but only where the message
    // around it is there: a disk has no package version, not an empty one.
    if *value != Literal::Present && field.path.len() > 2 && field.path[0] == "details" {
        let around = Sql::new(format!("(({json} #> ")).bind(Bind::Texts(field.path[..2].to_vec()));
        return around.text(") IS NOT NULL AND ").then(found).text(")");
    }
    found
}

/// Equality of a managed field as containment, which has an index.
fn contains(managed: &str, field: &Field, operator: Operator, value: &Literal) -> Option<Sql> {
    if field.path.first().map(String::as_str) != Some("managed") || field.optional {
        return None;
    }
    let mut wanted = Vec::new();
    match (field.field_type, operator, value) {
        (FieldType::Text, Operator::Equal, Literal::Text(text)) => {
            let pattern = Pattern::new(text);
            // An empty text is left out, as is what is not there.
            if pattern.is_wild() || text.is_empty() {
                return None;
            }
            wanted.push(json!(pattern.text()).to_string());
        }
        (FieldType::MapValue, Operator::Equal, Literal::Text(text)) => {
            let pattern = Pattern::new(text);
            if pattern.is_wild() {
                return None;
            }
            let text = pattern.text();
            wanted.push(json!(text).to_string());
            if matches!(text.as_str(), "true" | "false") {
                wanted.push(text);
            } else if let Some(number) = Decimal::parse(&text) {
                wanted.push(number.to_string());
            }
        }
        (FieldType::Enum, Operator::Equal | Operator::Has, Literal::Enum(number, name)) if *number != 0 => {
            wanted.push(json!(name).to_string());
        }
        _ => return None,
    }
    let mut sql = Sql::new("(");
    for (index, wanted) in wanted.into_iter().enumerate() {
        let mut json = wanted;
        for name in field.path[1..].iter().rev() {
            json = format!("{{{}:{json}}}", json!(name));
        }
        let or = if index > 0 { " OR " } else { "" };
        sql = sql.text(format!("{or}{managed} @> ")).bind(Bind::Text(json)).text("::jsonb");
    }
    Some(sql.text(")"))
}

/// A field within JSON. One that is not there has its default value.
fn compare_json(json: &str, field: &Field, operator: Operator, value: &Literal) -> Sql {
    let at = || Sql::new(format!("({json} #> ")).bind(Bind::Texts(field.path.clone())).text(")");
    let text = || Sql::new(format!("({json} #>> ")).bind(Bind::Texts(field.path.clone())).text(")");
    if *value == Literal::Present {
        return at().text(" IS NOT NULL");
    }
    if field.optional {
        let typed = match field.field_type {
            FieldType::Number => text().text("::numeric"),
            FieldType::Bool => text().text("::boolean"),
            _ => text(),
        };
        return absent_differs(compare_column(typed, operator, value), operator);
    }
    match (field.field_type, value) {
        (FieldType::Map, Literal::Text(key)) => at().text(" ? ").bind(Bind::Text(Pattern::new(key).text())),
        (FieldType::MapValue, Literal::Text(wanted)) => {
            absent_differs(compare_map_value(at, text, operator, wanted), operator)
        }
        (FieldType::Number, _) => {
            compare_column(Sql::new("coalesce(").then(text()).text("::numeric, 0)"), operator, value)
        }
        (FieldType::Bool, _) => {
            compare_column(Sql::new("coalesce(").then(text()).text("::boolean, false)"), operator, value)
        }
        (FieldType::Time, _) => {
            absent_differs(compare_column(text().text("::timestamptz"), operator, value), operator)
        }
        (FieldType::Enum, Literal::Enum(0, _)) => {
            let is = if operator == Operator::NotEqual { " IS NOT NULL" } else { " IS NULL" };
            text().text(is)
        }
        (FieldType::Enum, Literal::Enum(_, name)) => {
            let name = Literal::Text(name.clone());
            compare_column(Sql::new("coalesce(").then(text()).text(", '')"), exact(operator), &name)
        }
        _ => compare_column(Sql::new("coalesce(").then(text()).text(", '')"), operator, value),
    }
}

/// A value of a map, which is a text, a number, true or false. `=` compares
/// numbers with numbers; the order is that of numbers where both read as such.
fn compare_map_value(at: impl Fn() -> Sql, text: impl Fn() -> Sql, operator: Operator, wanted: &str) -> Sql {
    let pattern = Pattern::new(wanted);
    let number = Decimal::parse(&pattern.text());
    let Some(number) = number.filter(|_| operator != Operator::Has) else {
        return compare_text(text(), operator, wanted);
    };
    let is_number = match operator {
        Operator::Equal | Operator::NotEqual => Sql::new("jsonb_typeof(").then(at()).text(") = 'number'"),
        _ => text().text(IS_NUMBER),
    };
    Sql::new("CASE WHEN ")
        .then(is_number)
        .text(" THEN ")
        .then(text())
        .text(format!("::numeric{}", symbol(operator)))
        .bind(Bind::Text(number.to_string()))
        .text("::numeric ELSE ")
        .then(compare_text(text(), operator, wanted))
        .text(" END")
}

/// What is absent differs from every value.
fn absent_differs(compared: Sql, operator: Operator) -> Sql {
    let absent = if operator == Operator::NotEqual { ", true)" } else { ", false)" };
    Sql::new("coalesce(").then(compared).text(absent)
}

/// A field with a column of its own. As in the JSON fields, a default value
/// counts as absent, and what is absent differs from every value.
fn compare_field(column: Sql, field_type: FieldType, operator: Operator, value: &Literal) -> Sql {
    match (operator, value, field_type) {
        (_, Literal::Present, FieldType::Text) => column.text(" <> ''"),
        (_, Literal::Present, FieldType::Number | FieldType::Enum) => column.text(" <> 0"),
        (Operator::NotEqual, Literal::Uuid(uid), _) => {
            column.text(" IS DISTINCT FROM ").bind(Bind::Uuid(*uid))
        }
        (Operator::NotEqual, Literal::Time(time), _) => {
            column.text(" IS DISTINCT FROM ").bind(time_bind(*time))
        }
        _ => compare_column(column, operator, value),
    }
}

/// `:` on an enum or in a list is equality.
fn exact(operator: Operator) -> Operator {
    if operator == Operator::Has { Operator::Equal } else { operator }
}

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal | Operator::Has => " = ",
        Operator::NotEqual => " <> ",
        Operator::Less => " < ",
        Operator::LessOrEqual => " <= ",
        Operator::Greater => " > ",
        Operator::GreaterOrEqual => " >= ",
    }
}

fn compare_column(column: Sql, operator: Operator, value: &Literal) -> Sql {
    let symbol = symbol(operator);
    match value {
        Literal::Present => column.text(" IS NOT NULL"),
        Literal::Text(text) => compare_text(column, operator, text),
        Literal::Number(number) => column.text(symbol).bind(Bind::Text(number.to_string())).text("::numeric"),
        Literal::Bool(value) => column.text(symbol).bind(Bind::Bool(*value)),
        Literal::Time(time) => column.text(symbol).bind(time_bind(*time)),
        Literal::Enum(number, _) => column.text(symbol).bind(Bind::Integer(*number)),
        Literal::Uuid(uid) => column.text(symbol).bind(Bind::Uuid(*uid)),
    }
}

fn time_bind(time: DateTime<Utc>) -> Bind {
    Bind::Time(Some(time))
}

fn compare_text(column: Sql, operator: Operator, text: &str) -> Sql {
    let pattern = Pattern::new(text);
    match operator {
        Operator::Has => column.text(ANY_CASE).bind(Bind::Text(wide(text))),
        Operator::Equal if pattern.is_wild() => column.text(" LIKE ").bind(Bind::Text(pattern.like())),
        Operator::NotEqual if pattern.is_wild() => column.text(" NOT LIKE ").bind(Bind::Text(pattern.like())),
        Operator::Equal | Operator::NotEqual => {
            column.text(symbol(operator)).bind(Bind::Text(pattern.text()))
        }
        // By the characters' numbers, whatever the order of the database is.
        _ => column.text(" COLLATE \"C\"").text(symbol(operator)).bind(Bind::Text(pattern.text())),
    }
}

/// Found anywhere, whatever its case; with `*` the whole must fit.
fn wide(text: &str) -> String {
    let pattern = Pattern::new(text);
    if pattern.is_wild() { pattern.like() } else { pattern.anywhere().like() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        columns: &[],
        json: Some("attributes"),
        managed: Some("managed_attributes"),
        texts: &["display_name"],
        lines: Some("lines"),
        node: "node_uid",
    };

    fn text(path: &[&str], field_type: FieldType, operator: Operator, text: &str) -> (String, Vec<Bind>) {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        let field = Field { path, field_type, in_list: None, optional: false };
        let predicate = Predicate::Compare { field, operator, value: Literal::Text(text.to_owned()) };
        compile(&predicate, &COLUMNS).shown()
    }

    #[test]
    fn values_only_travel_as_binds() {
        let evil = "'; DROP TABLE asset; --";
        let (sql, binds) = text(&["managed", "owner"], FieldType::Text, Operator::NotEqual, evil);
        assert_eq!(sql, "coalesce((attributes #>> ?), '') <> ?");
        assert_eq!(binds[1], Bind::Text(evil.to_owned()));
        let (sql, binds) = text(&["managed", "labels", "a\"b"], FieldType::MapValue, Operator::Equal, evil);
        assert_eq!(sql, "(managed_attributes @> ?::jsonb)");
        assert_eq!(binds, [Bind::Text(format!(r#"{{"labels":{{"a\"b":"{evil}"}}}}"#))]);
    }

    #[test]
    fn words_with_a_trigram_ask_its_index() {
        let shown = |word: &str| compile(&Predicate::Text(word.to_owned()), &COLUMNS).shown();
        let (sql, binds) = shown("a*ssl");
        assert!(sql.starts_with("((lines COLLATE \"default\" ILIKE ? AND (display_name"), "{sql}");
        assert_eq!(binds[..2], [Bind::Text("%a%ssl%".to_owned()), Bind::Text("a%ssl".to_owned())]);
        assert!(!shown("a*sl").0.contains("lines"));
    }
}
