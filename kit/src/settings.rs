//! Settings: each is a flag and an `ASSETTRACK_*` variable, checked before
//! anything binds. A wrong one is one line that names it, and exit status 64
//! (EX_USAGE of sysexits.h).

use std::{fmt, net::SocketAddr, path::PathBuf, process, time::Duration};

use clap::{CommandFactory, Parser, ValueEnum, error::ContextKind, error::ErrorKind};

/// Exit status for a wrong setting.
pub const EXIT_USAGE: i32 = 64;

/// What every service can be told.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Every service")]
pub struct Common {
    /// How log lines are written.
    #[arg(long, env = "ASSETTRACK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged: a level, or `target=level` pairs joined by commas. The
    /// broker's client is off, as it logs refusals that its callers expect and
    /// handle.
    #[arg(long, env = "ASSETTRACK_LOG_FILTER", default_value = "info,lapin=off")]
    pub log_filter: String,
    /// Address of /metrics, /livez and /readyz; the service's own default if
    /// it is not given.
    #[arg(long, env = "ASSETTRACK_ADMIN_ADDRESS")]
    pub admin_address: Option<SocketAddr>,
    /// How long calls in progress may take to end after SIGTERM, in seconds.
    #[arg(long, env = "ASSETTRACK_SHUTDOWN_GRACE_SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub shutdown_grace_seconds: u64,
}

impl Common {
    /// How long calls in progress may take to end after SIGTERM.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Pretty,
}

/// A value that no log, error or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret as it stands.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

/// A setting that is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{setting}: {problem}")]
pub struct SettingError {
    /// Flag and variable of the setting.
    pub setting: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl SettingError {
    /// A wrong setting by its flag, such as `database-url`; the variable's name
    /// follows from it.
    pub fn new(flag: &str, problem: impl Into<String>) -> Self {
        Self { setting: setting_name(flag), problem: problem.into() }
    }
}

fn setting_name(flag: &str) -> String {
    format!("--{flag} (ASSETTRACK_{})", flag.to_uppercase().replace('-', "_"))
}

/// Takes a secret from its own setting or from the file that `…_FILE` names
/// (a trailing line end is cut).
///
/// # Errors
/// Neither is given, both are, the file cannot be read, or the secret is empty.
pub fn secret(flag: &str, value: Option<&Secret>, file: Option<&PathBuf>) -> Result<Secret, SettingError> {
    let text = match (value, file) {
        (Some(_), Some(_)) => {
            return Err(SettingError::new(flag, format!("given twice: here and by --{flag}-file; give one")));
        }
        (Some(value), None) => value.expose().to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| {
                SettingError::new(&format!("{flag}-file"), format!("cannot read {}: {error}", path.display()))
            })?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        (None, None) => {
            return Err(SettingError::new(flag, format!("is required; or name a file with --{flag}-file")));
        }
    };
    if text.is_empty() {
        return Err(SettingError::new(flag, "is empty"));
    }
    Ok(Secret(text))
}

/// Reads the settings from flags and environment. `--help` and `--version` are
/// answered; a wrong setting ends the process with one line and status 64.
pub fn parse<C: Parser>() -> C {
    match C::try_parse() {
        Ok(settings) => settings,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.exit()
        }
        Err(error) => exit_usage(&describe::<C>(&error)),
    }
}

/// Ends the process over a wrong setting: one line, status 64.
pub fn exit_usage(problem: &dyn fmt::Display) -> ! {
    eprintln!("error: {problem}");
    process::exit(EXIT_USAGE)
}

/// One line for what clap spreads over several, with the name of the variable.
fn describe<C: CommandFactory>(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let names: Vec<&str> =
            text.lines().skip(1).map(str::trim).take_while(|name| !name.is_empty()).collect();
        line = format!("required settings are missing: {}", names.join(", "));
    }
    let Some(named) = error.get(ContextKind::InvalidArg).map(ToString::to_string) else { return line };
    for arg in C::command().get_arguments() {
        let (Some(long), Some(env)) = (arg.get_long(), arg.get_env()) else { continue };
        if named.split_whitespace().any(|word| word == format!("--{long}")) {
            line.push_str(&format!(" (variable {})", env.to_string_lossy()));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[arg(long, env = "ASSETTRACK_EXAMPLE_PORT")]
        example_port: u16,
    }

    #[test]
    fn a_wrong_setting_is_one_line_that_names_flag_and_variable() {
        let error = Example::try_parse_from(["x", "--example-port", "99999"]).unwrap_err();
        let line = describe::<Example>(&error);
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("--example-port") && line.contains("ASSETTRACK_EXAMPLE_PORT"), "{line}");
        let error = Example::try_parse_from(["x"]).unwrap_err();
        assert!(describe::<Example>(&error).contains("--example-port"), "{error}");
    }

    #[test]
    fn a_secret_has_one_source_and_hides_itself() {
        let value = Secret::new("hunter2");
        assert_eq!(secret("amqp-url", Some(&value), None).unwrap(), value);
        assert!(!format!("{value:?}").contains("hunter2"));
        let both = secret("amqp-url", Some(&value), Some(&PathBuf::from("x"))).unwrap_err();
        assert!(both.to_string().starts_with("--amqp-url (ASSETTRACK_AMQP_URL): given twice"), "{both}");
        let missing = secret("amqp-url", None, Some(&PathBuf::from("/nowhere/at/all"))).unwrap_err();
        assert!(missing.to_string().starts_with("--amqp-url-file (ASSETTRACK_AMQP_URL_FILE)"), "{missing}");
        assert!(secret("amqp-url", Some(&Secret::new("")), None).is_err());
    }
}
