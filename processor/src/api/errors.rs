//! Where failures become statuses, once. Causes are logged, never sent.

use std::time::Duration;

use deadpool::managed::{PoolError, TimeoutType};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_async::pooled_connection::PoolError as Inner;
use kit::status::{error, invalid_field, precondition_with, retry_later};
use tonic::{Code, Status};

use crate::{
    delivery::streams::OpenError,
    domain::{field::FieldError, filter::FilterError, lifecycle, managed::Refused, page_token::TokenError},
    ingest::IngestError,
};

const RETRY: Duration = Duration::from_millis(500);

/// No connection.
pub fn pool(cause: &PoolError<Inner>) -> Status {
    if matches!(cause, PoolError::Timeout(TimeoutType::Wait)) {
        return busy();
    }
    tracing::error!(error = %cause, "no connection to the database");
    unavailable()
}

/// A query failed.
pub fn query(cause: &QueryError) -> Status {
    if let QueryError::DatabaseError(kind, information) = cause {
        let message = information.message();
        if message.contains("lock timeout") {
            let text = "another change of the same asset takes long; try again";
            return retry_later(Code::Aborted, "CONCURRENT_CHANGE", text, RETRY);
        }
        if message.contains("statement timeout") {
            tracing::warn!(error = %cause, "query took too long");
            let text = "the query takes too long; narrow the filter";
            return error(Code::DeadlineExceeded, "QUERY_TOO_SLOW", text, &[]);
        }
        let unreachable = matches!(kind, DatabaseErrorKind::UnableToSendCommand)
            || matches!(kind, DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::ReadOnlyTransaction);
        if unreachable
            || message.contains("the database system is")
            || message.contains("recovery is in progress")
            || message.contains("terminating connection")
        {
            tracing::error!(error = %cause, "the database went away");
            return unavailable();
        }
        if message.contains("could not serialize") || message.contains("deadlock detected") {
            return retry_later(Code::Aborted, "CONCURRENT_CHANGE", "another change won; try again", RETRY);
        }
    }
    tracing::error!(error = %cause, "query failed");
    error(Code::Internal, "INTERNAL", "the query failed; the processor's log says why", &[])
}

/// Nothing was ingested. All of these may be tried again.
pub fn ingest(cause: &IngestError) -> Status {
    match cause {
        IngestError::Busy => busy(),
        IngestError::Unreachable(_) | IngestError::Silent | IngestError::Died(_) => {
            tracing::error!(error = %cause, "nothing ingested");
            unavailable()
        }
        IngestError::Failed(inner) => {
            tracing::error!(error = %inner, "nothing ingested");
            retry_later(Code::Unavailable, "NOT_COMMITTED", "the transaction failed; send it again", RETRY)
        }
    }
}

/// No commands are streamed.
pub fn open(cause: &OpenError) -> Status {
    match cause {
        OpenError::Pool(cause) => pool(cause),
        OpenError::Query(cause) => query(cause),
        OpenError::Ending => retry_later(
            Code::Unavailable,
            "SHUTTING_DOWN",
            "the processor is shutting down; try again",
            RETRY,
        ),
        OpenError::TooMany => {
            retry_later(Code::ResourceExhausted, "TOO_MANY_STREAMS", format!("{cause}; try again"), RETRY)
        }
    }
}

fn busy() -> Status {
    retry_later(Code::ResourceExhausted, "DATABASE_BUSY", "the database is busy; try again", RETRY)
}

fn unavailable() -> Status {
    retry_later(Code::Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be reached; try again", RETRY)
}

/// What was asked about has changed meanwhile.
pub fn aborted(reason: &str, text: &str) -> Status {
    error(Code::Aborted, reason, text, &[])
}

/// A filter is refused.
pub fn filter(cause: &FilterError) -> Status {
    invalid_field("filter", "INVALID_FILTER", cause.to_string())
}

/// A page token is refused.
pub fn token(cause: TokenError) -> Status {
    invalid_field("page_token", "INVALID_PAGE_TOKEN", cause.to_string())
}

/// A field breaks its rule.
pub fn field(cause: &FieldError) -> Status {
    invalid_field(&cause.field, "INVALID_FIELD", cause.problem.clone())
}

/// An edit of an asset is refused by the rules.
pub fn edit(cause: &Refused, asset: &str) -> Status {
    match cause {
        Refused::Field(cause) => field(cause),
        Refused::Transition(cause) => {
            let allowed = lifecycle::names(lifecycle::allowed(cause.from));
            let metadata = [
                ("field", "managed.lifecycle"),
                ("from", lifecycle::name(cause.from)),
                ("to", lifecycle::name(cause.to)),
                ("allowed", &allowed),
            ];
            precondition_with("ILLEGAL_TRANSITION", asset, cause.to_string(), &metadata)
        }
    }
}

/// The etag of a write is not the current one.
pub fn stale(field: &str, current: &str) -> Status {
    let text = format!("{field}: someone edited it in between; read it again (its etag is now {current})");
    error(Code::Aborted, "ETAG_MISMATCH", text, &[("field", field), ("current", current)])
}
