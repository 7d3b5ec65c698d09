//! Work that goes on when its caller goes away.

use std::time::Duration;

use kit::status::error;
use tonic::{Code, Status};

/// Beyond the longest call there is: what goes on then waits for a database
/// that does not answer, and would keep its connection for ever.
const LONGEST_TASK: Duration = Duration::from_secs(65);

/// Runs work with a pooled connection as a task of its own. A caller that goes
/// away must not hand back a connection inside a transaction, with its locks, or
/// in the middle of a query, for whose end its next borrower would wait.
pub async fn in_task<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: Into<Status> + Send + 'static,
{
    match tokio::spawn(tokio::time::timeout(LONGEST_TASK, work)).await {
        Ok(Ok(done)) => done.map_err(Into::into),
        Ok(Err(_)) => {
            tracing::error!("a call's task is given up: the database does not answer");
            Err(error(
                Code::Unavailable,
                "DATABASE_UNAVAILABLE",
                "the database does not answer; try again",
                &[],
            ))
        }
        Err(died) => Err(ended(&died)),
    }
}

/// A task ended without an answer.
pub fn ended(died: &tokio::task::JoinError) -> Status {
    tracing::error!(error = %died, "a call's task ended");
    error(Code::Internal, "INTERNAL", "the call failed; the processor's log says why", &[])
}
