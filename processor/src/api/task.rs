//! Work that goes on when its caller goes away.

use kit::status::error;
use tonic::{Code, Status};

/// Runs work with a pooled connection as a task of its own. A caller that goes
/// away must not hand back a connection inside a transaction, with its locks, or
/// in the middle of a query, for whose end its next borrower would wait.
pub async fn in_task<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: Into<Status> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(died) => Err(ended(&died)),
    }
}

/// A task ended without an answer.
pub fn ended(died: &tokio::task::JoinError) -> Status {
    tracing::error!(error = %died, "a call's task ended");
    error(Code::Internal, "INTERNAL", "the call failed; the processor's log says why", &[])
}
