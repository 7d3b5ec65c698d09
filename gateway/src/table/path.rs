//! Percent-encoding in paths, by the rules of googleapis/google/api/http.proto:
//! a variable of one segment is decoded wholly; in one of several, `%2F` stays
//! as it is, so that a slash inside a segment can be told from one between two.

use std::borrow::Cow;

use super::template::{Segment, Template, Variable};

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `%` without two hexadecimal digits.
    #[error("`{0}` has a `%` that two hexadecimal digits do not follow")]
    Percent(String),
    /// Bytes that are no UTF-8.
    #[error("`{0}` is not UTF-8 once decoded")]
    Utf8(String),
    /// A control character, which no name holds.
    #[error("`{0}` holds a control character once decoded")]
    Control(String),
}

/// Decodes one segment wholly.
///
/// # Errors
/// See [`PathError`].
pub fn decode(segment: &str) -> Result<Cow<'_, str>, PathError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let bytes = segment.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let digits = bytes.get(index + 1..index + 3);
        if *byte == b'%' && !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(PathError::Percent(segment.to_owned()));
        }
    }
    let text = percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| PathError::Utf8(segment.to_owned()))?;
    if text.chars().any(char::is_control) {
        return Err(PathError::Control(segment.to_owned()));
    }
    Ok(text)
}

/// The value that a path gives to a variable.
///
/// # Errors
/// See [`PathError`].
pub fn value(variable: &Variable, template: &Template, segments: &[&str]) -> Result<String, PathError> {
    let takes_rest =
        template.segments.get(variable.start..variable.end).is_some_and(|own| own.contains(&Segment::Multi));
    let end = if takes_rest { segments.len() } else { variable.end };
    let own = segments.get(variable.start..end).unwrap_or_default();
    if !takes_rest && let [only] = own {
        return decode(only).map(Cow::into_owned);
    }
    let mut value = String::new();
    for (index, segment) in own.iter().enumerate() {
        if index > 0 {
            value.push('/');
        }
        value.push_str(&decode(segment)?.replace('/', "%2F"));
    }
    Ok(value)
}

/// Encodes a text as one segment.
#[cfg(test)]
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::template;

    #[test]
    fn values_are_decoded_by_the_rules_of_http_proto() {
        for (text, segments, expected) in [
            ("/v1/{name}", &["v1", "a%2Fb%20c"][..], "a/b c"),
            ("/v1/{name=assets/*}", &["v1", "assets", "a%2Fb%20c"], "assets/a%2Fb c"),
            ("/v1/{path=**}", &["v1", "a", "b%2fc"], "a/b%2Fc"),
            ("/v1/{path=**}", &["v1"], ""),
        ] {
            let template = template::parse(text).unwrap();
            assert_eq!(value(&template.variables[0], &template, segments).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn broken_encoding_is_refused() {
        for (segment, error) in [
            ("a%", PathError::Percent("a%".into())),
            ("a%2", PathError::Percent("a%2".into())),
            ("%zz", PathError::Percent("%zz".into())),
            ("%ff", PathError::Utf8("%ff".into())),
            ("a%00", PathError::Control("a%00".into())),
        ] {
            assert_eq!(decode(segment), Err(error));
        }
    }
}
