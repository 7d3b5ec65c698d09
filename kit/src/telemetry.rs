//! Logs: one JSON object a line, or pretty lines for a person.

use tracing_subscriber::{EnvFilter, fmt};

use crate::settings::{Common, LogFormat, SettingError};

/// Starts logging for the process. To be called once, by `main`.
///
/// # Errors
/// `--log-filter` is not a filter.
pub fn init(common: &Common) -> Result<(), SettingError> {
    let filter = EnvFilter::try_new(&common.log_filter)
        .map_err(|error| SettingError::new("log-filter", format!("`{}`: {error}", common.log_filter)))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match common.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).init(),
        LogFormat::Pretty => builder.with_target(false).init(),
    }
    Ok(())
}
