//! A field of a request that breaks its rule, and the rules of texts.

/// A field of a request that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field in the request.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl FieldError {
    /// A fault of one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A value as an error quotes it: long ones are cut, as errors travel in headers.
pub fn shown(value: &str) -> String {
    const MOST: usize = 100;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// Text of at most `limit` bytes that PostgreSQL can hold.
///
/// # Errors
/// It is longer, or holds a NUL.
pub fn text(field: &str, value: &str, limit: usize) -> Result<(), FieldError> {
    if value.len() > limit {
        let problem = format!("is {} bytes long; at most {limit} are allowed", value.len());
        return Err(FieldError::new(field, problem));
    }
    if value.contains('\0') {
        return Err(FieldError::new(field, "holds a NUL character"));
    }
    Ok(())
}

/// One line of at most `limit` bytes, without white space at its ends.
///
/// # Errors
/// It is anything else.
pub fn line(field: &str, value: &str, limit: usize) -> Result<(), FieldError> {
    text(field, value, limit)?;
    if value.chars().any(char::is_control) {
        return Err(FieldError::new(field, "holds a control character; one line is allowed"));
    }
    if value.trim() != value {
        return Err(FieldError::new(field, "begins or ends with white space"));
    }
    Ok(())
}

/// As [`line`], and not empty.
///
/// # Errors
/// It is anything else.
pub fn required_line(field: &str, value: &str, limit: usize) -> Result<(), FieldError> {
    if value.is_empty() {
        return Err(FieldError::new(field, "is required"));
    }
    line(field, value, limit)
}
