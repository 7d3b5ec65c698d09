//! SQL of a predicate: column or JSON path, operator, binds.

use chrono::{DateTime, Utc};

use super::sql::{Bind, Sql};
use crate::domain::filter::{Field, FieldType, Literal, Operator, Pattern, Predicate};

/// Where the fields of a resource are.
pub struct Columns {
    /// SQL of each field that has a column, by its path joined with dots.
    pub columns: &'static [(&'static str, &'static str)],
    /// JSON column that holds the fields below these; none if there are none.
    pub json: Option<&'static str>,
    /// SQL expressions that a word alone is looked for in.
    pub texts: &'static [&'static str],
}

/// By the database's letters: with the order "C" only ASCII has cases.
const ANY_CASE: &str = " COLLATE \"default\" ILIKE ";

/// SQL of a predicate.
pub fn compile(predicate: &Predicate, columns: &Columns) -> Sql {
    match predicate {
        Predicate::And(parts) => join(parts, " AND ", columns),
        Predicate::Or(parts) => join(parts, " OR ", columns),
        // Unknown counts as not holding, so that NOT turns it into holding.
        Predicate::Not(inner) => Sql::new("NOT coalesce(").then(compile(inner, columns)).text(", false)"),
        Predicate::Text(word) => {
            let pattern = wide(word);
            let mut sql = Sql::new("(");
            for (index, text) in columns.texts.iter().enumerate() {
                let or = if index > 0 { " OR " } else { "" };
                sql = sql.text(format!("{or}{text}{ANY_CASE}")).bind(Bind::Text(pattern.clone()));
            }
            sql.text(")")
        }
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

fn compare(field: &Field, operator: Operator, value: &Literal, columns: &Columns) -> Sql {
    let path = field.path.join(".");
    if let Some((_, column)) = columns.columns.iter().find(|(name, _)| *name == path) {
        return compare_field(Sql::new(*column), field.field_type, operator, value);
    }
    let Some(json) = columns.json else { return Sql::new("false") };
    if let Some(list) = field.in_list {
        let inner = Field {
            path: field.path[list..].to_vec(),
            field_type: field.field_type,
            in_list: None,
            ..*field
        };
        return Sql::new(format!("EXISTS (SELECT FROM jsonb_array_elements({json} #> "))
            .bind(Bind::Texts(field.path[..list].to_vec()))
            .text(") AS item WHERE ")
            .then(compare_json("item", &inner, exact(operator), value))
            .text(")");
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
        (FieldType::Map, Literal::Text(key)) => at().text(" ? ").bind(Bind::Text(key.clone())),
        (FieldType::TextList, Literal::Text(item)) => {
            Sql::new("EXISTS (SELECT FROM jsonb_array_elements_text(")
                .then(at())
                .text(") AS item WHERE item LIKE ")
                .bind(Bind::Text(Pattern::new(item).like()))
                .text(")")
        }
        (FieldType::MapValue, _) => absent_differs(compare_column(text(), operator, value), operator),
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

/// `:` on an enum is equality.
fn exact(operator: Operator) -> Operator {
    if operator == Operator::Has { Operator::Equal } else { operator }
}

fn compare_column(column: Sql, operator: Operator, value: &Literal) -> Sql {
    let symbol = match operator {
        Operator::Equal | Operator::Has => " = ",
        Operator::NotEqual => " <> ",
        Operator::Less => " < ",
        Operator::LessOrEqual => " <= ",
        Operator::Greater => " > ",
        Operator::GreaterOrEqual => " >= ",
    };
    match value {
        Literal::Present => column.text(" IS NOT NULL"),
        Literal::Text(text) => compare_text(column, operator, symbol, text),
        Literal::Number(number) => column.text(symbol).bind(Bind::BigInt(*number)),
        Literal::Bool(value) => column.text(symbol).bind(Bind::Bool(*value)),
        Literal::Time(time) => column.text(symbol).bind(time_bind(*time)),
        Literal::Enum(number, _) => column.text(symbol).bind(Bind::Integer(*number)),
        Literal::Uuid(uid) => column.text(symbol).bind(Bind::Uuid(*uid)),
    }
}

fn time_bind(time: DateTime<Utc>) -> Bind {
    Bind::Time(Some(time))
}

fn compare_text(column: Sql, operator: Operator, symbol: &str, text: &str) -> Sql {
    let pattern = Pattern::new(text);
    match operator {
        Operator::Has => column.text(ANY_CASE).bind(Bind::Text(wide(text))),
        Operator::Equal if pattern.is_wild() => column.text(" LIKE ").bind(Bind::Text(pattern.like())),
        Operator::NotEqual if pattern.is_wild() => column.text(" NOT LIKE ").bind(Bind::Text(pattern.like())),
        Operator::Equal | Operator::NotEqual => column.text(symbol).bind(Bind::Text(pattern.text())),
        // By the characters' numbers, whatever the order of the database is.
        _ => column.text(" COLLATE \"C\"").text(symbol).bind(Bind::Text(pattern.text())),
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

    #[test]
    fn values_only_travel_as_binds() {
        let path = vec!["managed".into(), "owner".into()];
        let field = Field { path, field_type: FieldType::Text, in_list: None, optional: false };
        let value = Literal::Text("'; DROP TABLE asset; --".to_owned());
        let predicate = Predicate::Compare { field, operator: Operator::Equal, value };
        let columns = Columns { columns: &[], json: Some("attributes"), texts: &[] };
        let (text, binds) = compile(&predicate, &columns).shown();
        assert_eq!(text, "coalesce((attributes #>> ?), '') = ?");
        assert_eq!(binds[1], Bind::Text("'; DROP TABLE asset; --".to_owned()));
    }
}
