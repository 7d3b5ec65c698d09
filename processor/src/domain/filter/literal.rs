//! Values of filters, by the type of the field that they are compared with.

use base64::{
    Engine,
    engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, DurationRound, NaiveDate, NaiveTime, TimeDelta, Utc};
use kit::identity::parse_uuid;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};

use super::{
    Decimal, Field, FieldType, FilterError, Literal, Schema,
    nearest::{known, nearest, question},
    parse::{Call, Word},
};

/// Functions that give a time.
const FUNCTIONS: [&str; 3] = ["now", "ago", "ahead"];

/// A value.
pub(super) fn literal(
    field: &Field,
    leaf: Option<&FieldDescriptor>,
    value: &Word,
    schema: &Schema,
) -> Result<Literal, FilterError> {
    let name = field.path.join(".");
    let text = value.plain();
    let wrong = |wanted: &str| {
        FilterError::new(value.position, format!("`{text}` is not {wanted}, which `{name}` needs"))
    };
    Ok(match field.field_type {
        FieldType::Text | FieldType::Map | FieldType::MapValue | FieldType::Message => {
            Literal::Text(value.text.clone())
        }
        FieldType::Number => {
            let fractions = matches!(leaf.map(FieldDescriptor::kind), Some(Kind::Double | Kind::Float));
            let wanted = if fractions { "a number" } else { "a whole number" };
            let number = Decimal::parse(&text).filter(|number| fractions || number.is_whole());
            Literal::Number(number.ok_or_else(|| wrong(wanted))?)
        }
        FieldType::Bool => Literal::Bool(text.parse().map_err(|_| wrong("true or false"))?),
        FieldType::Time => Literal::Time(
            time(&text).ok_or_else(|| wrong("a time like 2026-03-03T00:00:00Z or a date like 2026-03-03"))?,
        ),
        FieldType::Bytes => Literal::Text(base64(&text).ok_or_else(|| wrong("base64"))?),
        FieldType::Enum => {
            let Some(Kind::Enum(values)) = leaf.map(FieldDescriptor::kind) else {
                return Err(wrong("a value"));
            };
            let Some((number, full)) = enum_value(&values, &text) else {
                let names = short_names(&values);
                let near = question(&nearest(&text, names.iter().map(String::as_str)));
                let problem =
                    format!("`{text}` is not one of {}, which `{name}` needs{near}", names.join(", "));
                return Err(FilterError::new(value.position, problem));
            };
            Literal::Enum(number, full)
        }
        FieldType::Name => {
            let first = field.path.first().map_or("", String::as_str);
            let collection = schema.names.iter().find(|(field, _)| *field == first);
            let uid =
                collection.and_then(|(_, collection)| collection.parse(&text)).or_else(|| parse_uuid(&text));
            let wanted = collection.map_or("assets", |(_, collection)| collection.segment());
            Literal::Uuid(uid.ok_or_else(|| wrong(&format!("a name like {wanted}/{{uuid}}")))?)
        }
    })
}

/// What a function gives: `now()`, `ago("24h")`, `ahead("30d")`.
pub(super) fn call(field: &Field, call: &Call, now: DateTime<Utc>) -> Result<Literal, FilterError> {
    let Call { name, arguments, position } = call;
    let error = |problem: String| Err(FilterError::new(*position, problem));
    if !FUNCTIONS.contains(&name.as_str()) {
        let known = known(&nearest(name, FUNCTIONS), &FUNCTIONS.join(", "));
        return error(format!("there is no function `{name}`{known} (put a value that holds `(` in quotes)"));
    }
    if field.field_type != FieldType::Time {
        return error(format!("`{name}` gives a time, and `{}` is none", field.path.join(".")));
    }
    let micros = TimeDelta::microseconds(1);
    let now = now.duration_trunc(micros).unwrap_or(now);
    match (name.as_str(), arguments.as_slice()) {
        ("now", []) => Ok(Literal::Time(now)),
        ("now", _) => error("`now` takes nothing between its parentheses".to_owned()),
        (_, [long]) => {
            let text = long.plain();
            let Some(long) = duration(&text) else {
                let problem = format!("`{text}` is not a duration like 90s, 15m, 24h, 7d or 2w");
                return Err(FilterError::new(arguments[0].position, problem));
            };
            let time =
                if name == "ago" { now.checked_sub_signed(long) } else { now.checked_add_signed(long) };
            time.map_or_else(
                || error(format!("`{name}({text})` is out of all time")),
                |time| Ok(Literal::Time(time)),
            )
        }
        _ => error(format!("`{name}` takes one duration, such as `{name}(24h)`")),
    }
}

/// At most 100,000 of a unit.
fn duration(text: &str) -> Option<TimeDelta> {
    let split = text.len().checked_sub(1).filter(|split| text.is_char_boundary(*split))?;
    let (number, unit) = text.split_at(split);
    let digits = number.bytes().all(|digit| digit.is_ascii_digit());
    let number: i64 = number.parse().ok().filter(|number| digits && *number <= 100_000)?;
    match unit {
        "s" => TimeDelta::try_seconds(number),
        "m" => TimeDelta::try_minutes(number),
        "h" => TimeDelta::try_hours(number),
        "d" => TimeDelta::try_days(number),
        "w" => TimeDelta::try_weeks(number),
        _ => None,
    }
}

/// RFC 3339, or a date, which means its beginning in UTC. To the microsecond, as
/// the database keeps times.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc(),
        Err(_) => NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|_| text.len() == "2026-03-03".len())?
            .and_time(NaiveTime::MIN)
            .and_utc(),
    };
    // Beyond what nanoseconds can count, chrono does not round.
    Some(time.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(time))
}

/// Any base64, as ProtoJSON writes it.
fn base64(text: &str) -> Option<String> {
    let engines: [GeneralPurpose; 4] = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
    let bytes = engines.iter().find_map(|engine| engine.decode(text).ok())?;
    Some(STANDARD.encode(bytes))
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

    #[test]
    fn reads_durations_times_and_base64() {
        assert_eq!(duration("90s"), Some(TimeDelta::seconds(90)));
        assert_eq!(duration("2w"), Some(TimeDelta::days(14)));
        for wrong in ["", "s", "5", "-5s", "5y", "1.5h", "100001d", "5é", "99999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        let midnight = DateTime::from_timestamp(1_772_496_000, 0);
        for text in ["2026-03-03", "2026-03-03T00:00:00Z", "2026-03-03T01:00:00.0000009+01:00"] {
            assert_eq!(time(text), midnight, "{text}");
        }
        for wrong in ["2026-3-3", "2026-02-30", "yesterday", "2026-03-03T00:00:00", "20260303"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        assert_eq!(time("9999-12-31T23:59:59.9999999Z").unwrap().timestamp(), 253_402_300_799);
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(base64(text).as_deref(), Some("+/8="), "{text}");
        }
        assert_eq!(base64("a b"), None);
    }
}
