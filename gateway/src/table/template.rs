//! Path templates of google.api.http, such as `/v1/{parent=assets/*}/revisions`.
//! Grammar and meaning: googleapis/google/api/http.proto, "Path template syntax".

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What each segment of a path must be.
    pub segments: Vec<Segment>,
    /// Text after the last `:`, as in `/v1/assets:watch`; empty for none.
    pub verb: String,
    /// The fields that the path sets.
    pub variables: Vec<Variable>,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// `*`: any text but none.
    Single,
    /// `**`: any number of segments, none included. Only the last one.
    Multi,
}

/// A field that takes its value from the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Names from the request message down to the field.
    pub field_path: Vec<String>,
    /// Index of its first segment in the template.
    pub start: usize,
    /// Index after its last segment.
    pub end: usize,
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not begin with `/`.
    #[error("does not begin with `/`")]
    NoSlash,
    /// Two slashes in a row, or one at the end.
    #[error("has an empty segment")]
    EmptySegment,
    /// `{` without `}`, or the other way round, or one in another.
    #[error("has unbalanced or nested braces")]
    Braces,
    /// A variable without a proper name.
    #[error("`{0}` is not a field path")]
    FieldPath(String),
    /// `**` before the end.
    #[error("has `**` before the last segment")]
    MultiNotLast,
    /// A `*` beside other text.
    #[error("`{0}` is neither a literal nor a wildcard")]
    Wildcard(String),
}

/// Parses a template.
///
/// # Errors
/// See [`TemplateError`].
pub fn parse(text: &str) -> Result<Template, TemplateError> {
    let rest = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
    // A verb follows the last segment; a `:` inside braces cannot occur, since
    // neither field paths nor segments may hold one.
    let (rest, verb) = match rest.rsplit_once(':') {
        Some((before, verb)) if !verb.contains(['/', '}']) => (before, verb),
        _ => (rest, ""),
    };
    let mut template = Template { segments: Vec::new(), verb: verb.to_owned(), variables: Vec::new() };
    for part in split_outside_braces(rest)? {
        if let Some(inner) = part.strip_prefix('{') {
            let inner = inner.strip_suffix('}').ok_or(TemplateError::Braces)?;
            let (path, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
            let start = template.segments.len();
            for segment in pattern.split('/') {
                template.segments.push(segment_of(segment)?);
            }
            let end = template.segments.len();
            template.variables.push(Variable { field_path: field_path(path)?, start, end });
        } else {
            template.segments.push(segment_of(part)?);
        }
    }
    let before_last = template.segments.split_last().map_or(&[][..], |(_, before)| before);
    if before_last.contains(&Segment::Multi) {
        return Err(TemplateError::MultiNotLast);
    }
    Ok(template)
}

fn split_outside_braces(text: &str) -> Result<Vec<&str>, TemplateError> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (index, character) in text.char_indices() {
        match character {
            '{' if inside || index != start => return Err(TemplateError::Braces),
            '{' => inside = true,
            '}' if !inside => return Err(TemplateError::Braces),
            '}' => inside = false,
            '/' if !inside => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(TemplateError::Braces);
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn segment_of(text: &str) -> Result<Segment, TemplateError> {
    match text {
        "" => Err(TemplateError::EmptySegment),
        "*" => Ok(Segment::Single),
        "**" => Ok(Segment::Multi),
        _ if text.contains('*') => Err(TemplateError::Wildcard(text.to_owned())),
        _ if text.contains(['{', '}']) => Err(TemplateError::Braces),
        _ => Ok(Segment::Literal(text.to_owned())),
    }
}

fn field_path(text: &str) -> Result<Vec<String>, TemplateError> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let names: Vec<String> = text.split('.').map(str::to_owned).collect();
    if names.iter().all(|name| is_name(name)) {
        Ok(names)
    } else {
        Err(TemplateError::FieldPath(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a template back in its longest form.
    fn write(template: &Template) -> String {
        let mut text = String::new();
        for (index, segment) in template.segments.iter().enumerate() {
            let variable =
                template.variables.iter().find(|variable| variable.start <= index && index < variable.end);
            text.push('/');
            if let Some(variable) = variable.filter(|variable| variable.start == index) {
                text.push_str(&format!("{{{}=", variable.field_path.join(".")));
            }
            text.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Single => "*",
                Segment::Multi => "**",
            });
            if variable.is_some_and(|variable| variable.end == index + 1) {
                text.push('}');
            }
        }
        if !template.verb.is_empty() {
            text.push(':');
            text.push_str(&template.verb);
        }
        text
    }

    #[test]
    fn what_is_parsed_can_be_written_back() {
        for (text, long) in [
            ("/v1/assets", "/v1/assets"),
            ("/v1/{name=assets/*}", "/v1/{name=assets/*}"),
            ("/v1/{name}", "/v1/{name=*}"),
            ("/v1/{asset.name=assets/*}", "/v1/{asset.name=assets/*}"),
            ("/v1/{parent=assets/*}/revisions", "/v1/{parent=assets/*}/revisions"),
            ("/v1/{name=assets/*/revisions/*}:diff", "/v1/{name=assets/*/revisions/*}:diff"),
            ("/v1/assets:watch", "/v1/assets:watch"),
            ("/v1/{path=files/**}", "/v1/{path=files/**}"),
            ("/v1/*/x/**", "/v1/*/x/**"),
            ("/v1/{a=x/*}/{b=y/*}:go", "/v1/{a=x/*}/{b=y/*}:go"),
        ] {
            assert_eq!(write(&parse(text).unwrap()), long, "{text}");
            assert_eq!(parse(long).unwrap(), parse(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, error) in [
            ("v1", TemplateError::NoSlash),
            ("/", TemplateError::EmptySegment),
            ("/v1/", TemplateError::EmptySegment),
            ("/v1//x", TemplateError::EmptySegment),
            ("/v1/{name", TemplateError::Braces),
            ("/v1/name}", TemplateError::Braces),
            ("/v1/{a={b}}", TemplateError::Braces),
            ("/v1/x{a}", TemplateError::Braces),
            ("/v1/{a}x", TemplateError::Braces),
            ("/v1/{=x}", TemplateError::FieldPath(String::new())),
            ("/v1/{a..b}", TemplateError::FieldPath("a..b".to_owned())),
            ("/v1/{1a}", TemplateError::FieldPath("1a".to_owned())),
            ("/v1/**/x", TemplateError::MultiNotLast),
            ("/v1/{a=**}/x", TemplateError::MultiNotLast),
            ("/v1/a*", TemplateError::Wildcard("a*".to_owned())),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
