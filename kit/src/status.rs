//! Errors as clients see them (AIP-193): a status with a
//! google.rpc.ErrorInfo of domain `assettrack`, and the field at fault.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every ErrorInfo.
pub const DOMAIN: &str = "assettrack";

/// A status with an ErrorInfo. `reason` is UPPER_SNAKE_CASE.
pub fn error(code: Code, reason: &str, message: impl Into<String>, metadata: &[(&str, &str)]) -> Status {
    Status::with_error_details(code, message, details(reason, metadata))
}

/// INVALID_ARGUMENT that names the field and says what would be right.
pub fn invalid_field(field: &str, reason: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let mut details = details(reason, &[("field", field)]);
    details.add_bad_request_violation(field, description.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

/// INVALID_ARGUMENT that names several fields: each with what would be right. There
/// must be one at least.
pub fn invalid_fields(reason: &str, violations: &[(String, String)], metadata: &[(&str, &str)]) -> Status {
    let first = violations.first().map_or("", |(field, _)| field.as_str());
    let metadata: Vec<(&str, &str)> = metadata.iter().copied().chain([("field", first)]).collect();
    let mut details = details(reason, &metadata);
    for (field, description) in violations {
        details.add_bad_request_violation(field, description);
    }
    let told: Vec<String> =
        violations.iter().map(|(field, description)| format!("{field}: {description}")).collect();
    Status::with_error_details(Code::InvalidArgument, told.join("; "), details)
}

/// NOT_FOUND for a resource that does not exist.
pub fn not_found(resource_type: &str, name: &str) -> Status {
    let mut details = details("RESOURCE_NOT_FOUND", &[("resource", name)]);
    details.set_resource_info(resource_type, name, "", "does not exist");
    Status::with_error_details(Code::NotFound, format!("{name} does not exist"), details)
}

/// FAILED_PRECONDITION that says how to make it hold.
pub fn precondition(reason: &str, subject: &str, description: impl Into<String>) -> Status {
    precondition_with(reason, subject, description, &[])
}

/// As [`precondition`], with more for programs beside the `resource`.
pub fn precondition_with(
    reason: &str,
    subject: &str,
    description: impl Into<String>,
    metadata: &[(&str, &str)],
) -> Status {
    let description = description.into();
    let metadata: Vec<(&str, &str)> = metadata.iter().copied().chain([("resource", subject)]).collect();
    let mut details = details(reason, &metadata);
    details.add_precondition_failure_violation(reason, subject, description.clone());
    Status::with_error_details(Code::FailedPrecondition, format!("{subject}: {description}"), details)
}

/// FAILED_PRECONDITION about several subjects, each with what must hold.
pub fn preconditions(
    reason: &str,
    message: impl Into<String>,
    violations: &[(String, String)],
    metadata: &[(&str, &str)],
) -> Status {
    let mut details = details(reason, metadata);
    for (subject, description) in violations {
        details.add_precondition_failure_violation(reason, subject, description);
    }
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

/// RESOURCE_EXHAUSTED or UNAVAILABLE, with the time after which to try again.
pub fn retry_later(code: Code, reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    let mut details = details(reason, &[]);
    details.set_retry_info(Some(delay));
    Status::with_error_details(code, message, details)
}

fn details(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
