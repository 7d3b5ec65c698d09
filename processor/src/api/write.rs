//! Calls that write: one transaction, done once under a request_id (AIP-155), or
//! rehearsed (AIP-163).

use diesel::result::Error as QueryError;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures::future::BoxFuture;
use kit::status::invalid_field;
use prost::Message;
use tonic::Status;
use uuid::Uuid;

use super::{Api, errors, task::in_task};
use crate::{
    domain::once::fingerprint,
    store::request::{Done, Once, begin_in_txn, finish_in_txn},
};

/// Who edits, until there is access control: nobody can tell.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Why nothing was written.
pub(super) enum WriteError {
    Query(QueryError),
    Refused(Box<Status>),
}

impl From<QueryError> for WriteError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Status> for WriteError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<WriteError> for Status {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Query(error) => errors::query(&error),
            WriteError::Refused(status) => *status,
        }
    }
}

/// How a call is done.
pub(super) struct Call {
    once: Option<Once>,
    validate_only: bool,
}

impl Api {
    /// What a request says of how it is done. `method` is the name of its message.
    pub(super) fn call<Q: Message>(
        &self,
        method: &'static str,
        request: &Q,
        request_id: &str,
        validate_only: bool,
    ) -> Result<Call, Status> {
        if request_id.is_empty() {
            return Ok(Call { once: None, validate_only });
        }
        // Hyphenated, in upper or lower case; any version but the nil UUID.
        let uid = Uuid::try_parse(request_id).ok().filter(|uid| !uid.is_nil() && request_id.len() == 36);
        let request_id = uid.ok_or_else(|| {
            let problem =
                format!("`{request_id}` is no UUID like {}", "65a2e1d9-0c1e-4b6f-9a3e-5f0d1c2b3a49");
            invalid_field("request_id", "INVALID_FIELD", problem)
        })?;
        let descriptor = self.descriptors.message(method).expect("the contracts have each request");
        let fingerprint = fingerprint(&descriptor, &request.encode_to_vec());
        let once = Once { actor: ANONYMOUS, request_id, method, fingerprint };
        Ok(Call { once: Some(once).filter(|_| !validate_only), validate_only })
    }

    /// Does a call in a transaction of its own. The same one again gets the first
    /// answer, also if both come at once; a rehearsal is rolled back.
    pub(super) async fn write<A>(
        &self,
        call: Call,
        act: impl for<'c> FnOnce(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<A, WriteError>>
        + Send
        + 'static,
    ) -> Result<A, Status>
    where
        A: Message + Default + 'static,
    {
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let mut rehearsed = None;
            let ended = connection
                .transaction(async |connection| {
                    if let Some(once) = &call.once
                        && let Some(done) = begin_in_txn(connection, once).await?
                    {
                        return Ok(again(once, &done)?);
                    }
                    let answer = act(connection).await?;
                    if call.validate_only {
                        rehearsed = Some(answer);
                        return Err(QueryError::RollbackTransaction.into());
                    }
                    if let Some(once) = &call.once {
                        finish_in_txn(connection, once, answer.encode_to_vec()).await?;
                    }
                    Ok::<A, WriteError>(answer)
                })
                .await;
            match (ended, rehearsed) {
                (Err(WriteError::Query(QueryError::RollbackTransaction)), Some(answer)) => Ok(answer),
                (ended, _) => ended,
            }
        })
        .await
    }
}

/// The answer of a call that was done before.
fn again<A: Message + Default>(once: &Once, done: &Done) -> Result<A, Status> {
    if done.method != once.method || done.fingerprint != once.fingerprint {
        let problem = format!(
            "`{}` was another call's ({}); each call needs an ID of its own",
            once.request_id, done.method
        );
        return Err(invalid_field("request_id", "REQUEST_ID_REUSED", problem));
    }
    A::decode(done.answer.as_deref().unwrap_or_default()).map_err(|error| {
        tracing::error!(%error, request = %once.request_id, "the answer that is kept of a call cannot be read");
        errors::query(&QueryError::NotFound)
    })
}
