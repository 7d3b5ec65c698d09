//! Why the tool does not end with exit status 0, as one line for people.

use std::{error::Error, fmt, io};

use tonic::Status;
use tonic_types::StatusExt;

use crate::{args::Command, cell};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing answered at the gateway's address.
    #[error("no answer from the gateway at {url}: {cause}")]
    Away {
        /// Address that was tried.
        url: String,
        /// What the transport says.
        cause: String,
    },
    /// The gateway, or what is behind it, refused the call.
    #[error("{}", Refused(.status, .request_id))]
    Refused {
        /// What it answered.
        status: Box<Status>,
        /// ID under which the call stands in the logs.
        request_id: String,
    },
    /// What would be done must be confirmed.
    #[error("{0}; say --yes if that is meant")]
    Unconfirmed(String),
    /// A call ended before what it was to do.
    #[error("ended too early: {0}")]
    Unfinished(String),
    /// The record is not what its log says.
    #[error("{0} differences")]
    Differs(u64),
    /// The answer could not be written out.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A message has no form to show, such as a time out of range.
    #[error("the answer cannot be shown: {0}")]
    Unshowable(String),
}

impl Failure {
    /// From the error of a call. One with a cause was made on this side: the
    /// transport failed, and nothing answered.
    pub fn of_call(status: Status, url: &str, request_id: &str) -> Self {
        match status.source() {
            Some(cause) => Self::Away { url: url.to_owned(), cause: root(cause) },
            None => Self::Refused { status: Box::new(status), request_id: request_id.to_owned() },
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused { status, .. } => kit::grpc::is_transient(status),
            Self::Unconfirmed(_) | Self::Unfinished(_) | Self::Differs(_) => false,
            Self::Output(_) | Self::Unshowable(_) => false,
        }
    }

    /// Whether the reader of the output went away, as `head` does: no fault.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Exit status. Verifying answers a question, as diff(1) does: there 1 is an
    /// answer.
    pub fn exit_status(&self, command: &Command) -> u8 {
        match (self, command) {
            (Self::Differs(_), _) => 1,
            (Self::Unconfirmed(_), _) => u8::try_from(kit::settings::EXIT_USAGE).unwrap_or(1),
            (_, Command::Verify(_)) => 2,
            _ => 1,
        }
    }

    /// The one line for stderr.
    pub fn line(&self) -> String {
        match self {
            Self::Differs(_) => self.to_string(),
            _ => format!("error: {}", cell::escaped(&self.to_string())),
        }
    }
}

/// The innermost cause: tonic's own say no more than "transport error".
pub fn root(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// A refusal: message, fields at fault, request ID.
struct Refused<'a>(&'a Status, &'a str);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, request_id) = self;
        match status.message() {
            "" => write!(f, "{}", status.code())?,
            message => f.write_str(message)?,
        }
        f.write_str(" (")?;
        for violation in status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations) {
            write!(f, "field {}, ", violation.field)?;
        }
        write!(f, "request {request_id})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_refusal_names_message_field_and_request_on_one_line() {
        let cases = [
            (
                kit::status::invalid_field("filter", "INVALID_FILTER", "expected `=`\nat 3"),
                r"error: filter: expected `=`\nat 3 (field filter, request r-1)",
                false,
            ),
            (
                kit::status::not_found("assettrack/Asset", "assets/x"),
                "error: assets/x does not exist (request r-1)",
                false,
            ),
            (
                Status::new(Code::Unavailable, ""),
                "error: The service is currently unavailable (request r-1)",
                true,
            ),
        ];
        for (status, expected, transient) in cases {
            let failure = Failure::of_call(status, "http://a", "r-1");
            assert_eq!(failure.line(), expected);
            assert_eq!(failure.is_transient(), transient, "{expected}");
            assert!(!failure.is_closed_pipe(), "{expected}");
        }
    }

    #[test]
    fn a_failure_of_the_transport_names_the_address_and_the_innermost_cause() {
        let status = Status::from_error(Box::new(io::Error::new(io::ErrorKind::ConnectionReset, "reset")));
        let failure = Failure::of_call(status, "http://a:1", "r-1");
        assert_eq!(failure.line(), "error: no answer from the gateway at http://a:1: reset");
        assert!(failure.is_transient());
    }

    #[test]
    fn only_a_closed_pipe_is_no_fault() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_closed_pipe());
    }
}
