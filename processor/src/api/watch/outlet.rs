//! What a watch tells its client: a few answers that wait, and then how it ended.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use contracts::v1::{WatchAssetsResponse, WatchEventsResponse};
use futures::{StreamExt, stream, stream::BoxStream};
use kit::{shutdown::CancellationToken, status::error};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use crate::{api::errors, feed::Ending};

/// Answers that wait for the client.
const WAITING: usize = 2;

/// An answer that tells where to go on.
pub trait Resumable: Send + 'static {
    /// Its token.
    fn resume_token(&self) -> &str;
}

impl Resumable for WatchAssetsResponse {
    fn resume_token(&self) -> &str {
        &self.resume_token
    }
}

impl Resumable for WatchEventsResponse {
    fn resume_token(&self) -> &str {
        &self.resume_token
    }
}

/// The end at which answers go in.
pub struct Outlet<T> {
    answers: mpsc::Sender<T>,
    ending: Arc<OnceLock<Ending>>,
    patience: Duration,
}

struct Inlet<T> {
    answers: mpsc::Receiver<T>,
    ending: Arc<OnceLock<Ending>>,
    shutdown: CancellationToken,
    /// Token of the newest answer that was given out; at first the client's own.
    token: String,
    ended: bool,
}

/// Makes both ends. A client that takes nothing for `patience` is given up; with
/// `shutdown` the stream ends at once. `token` is what the client has already.
pub fn outlet<T: Resumable>(
    patience: Duration,
    shutdown: CancellationToken,
    token: String,
) -> (Outlet<T>, BoxStream<'static, Result<T, Status>>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let ending = Arc::new(OnceLock::new());
    let inlet = Inlet { answers: receiver, ending: ending.clone(), shutdown, token, ended: false };
    (Outlet { answers: sender, ending, patience }, stream::unfold(inlet, next).boxed())
}

async fn next<T: Resumable>(mut inlet: Inlet<T>) -> Option<(Result<T, Status>, Inlet<T>)> {
    if inlet.ended {
        return None;
    }
    let answer = tokio::select! {
        biased;
        () = inlet.shutdown.cancelled() => Err(Ending::ShuttingDown),
        answer = inlet.answers.recv() => answer.ok_or(Ending::Gone),
    };
    match answer {
        Ok(answer) => {
            answer.resume_token().clone_into(&mut inlet.token);
            Some((Ok(answer), inlet))
        }
        Err(why) => {
            inlet.ended = true;
            let status = status(inlet.ending.get().unwrap_or(&why), &inlet.token);
            Some((Err(status), inlet))
        }
    }
}

impl<T: Resumable> Outlet<T> {
    /// Ends when the client is gone.
    pub async fn gone(&self) {
        self.answers.closed().await;
    }

    /// Gives an answer to the client.
    ///
    /// # Errors
    /// It is gone, or takes nothing.
    pub async fn send(&self, answer: T) -> Result<(), Ending> {
        match tokio::time::timeout(self.patience, self.answers.send(answer)).await {
            Ok(sent) => sent.map_err(|_| Ending::Gone),
            Err(_) => Err(Ending::Stalled),
        }
    }

    /// Says how it ended; what waits is told before.
    pub fn end(self, ending: Ending) {
        let _ = self.ending.set(ending);
    }
}

/// How a watch ended, and where to go on.
fn status(ending: &Ending, token: &str) -> Status {
    let at = [("resume_token", token)];
    match ending {
        Ending::Stalled => {
            let text = "the client takes nothing; call again with the newest resume_token";
            error(Code::ResourceExhausted, "SLOW_CLIENT", text, &at)
        }
        Ending::Restored => restored(),
        Ending::Dropped => dropped("resume_token"),
        Ending::ShuttingDown | Ending::Gone => {
            let text = "the processor is shutting down; call again with the newest resume_token";
            error(Code::Unavailable, "SHUTTING_DOWN", text, &at)
        }
        Ending::Pool(_) | Ending::Query(_) => {
            let cause = failed(ending);
            error(cause.code(), "WATCH_FAILED", cause.message(), &at)
        }
    }
}

/// Why a watch cannot begin, or go on.
pub fn failed(ending: &Ending) -> Status {
    match ending {
        Ending::Pool(cause) => errors::pool(cause),
        Ending::Query(cause) => errors::query(cause),
        other => status(other, ""),
    }
}

/// A token of another database, or of this one before it was restored.
pub fn restored() -> Status {
    let text = "resume_token: the database was restored or failed over since, so it cannot be told what \
                was missed; start again without a token";
    error(Code::FailedPrecondition, "DATABASE_RESTORED", text, &[("field", "resume_token")])
}

/// A place of which what follows is not kept.
pub fn dropped(field: &str) -> Status {
    let text = format!("{field}: retention has dropped what comes next; start again without a token");
    error(Code::OutOfRange, "OUT_OF_RETENTION", text, &[("field", field)])
}
