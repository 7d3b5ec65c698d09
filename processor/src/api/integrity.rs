//! IntegrityService.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::v1::{
    VerifyInventoryRequest, VerifyInventoryResponse, integrity_service_server::IntegrityService,
};
use diesel_async::AsyncPgConnection;
use kit::{
    identity::Collection,
    status::{not_found, retry_later},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_postgres::NoTls;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::{
    Api, errors, request,
    task::{ended, in_task},
};
use crate::{
    store::{node, pool::Pooled},
    verify::{Step, VerifyError, verify},
};

/// How many may verify at a time: each reads all there is, with a connection of
/// its own.
const AT_ONCE: usize = 2;
const RETRY: Duration = Duration::from_secs(5);
/// Between two answers if nothing differs; the contract says a second at most.
const PROGRESS: Duration = Duration::from_millis(500);
/// Differences of one answer.
const DIFFERENCES: usize = 200;
/// How long a client may not read. Below the time after which PostgreSQL ends a
/// transaction that waits.
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Result<VerifyInventoryResponse, Status>;

/// The service.
pub struct IntegrityApi {
    api: Api,
    at_once: Arc<Semaphore>,
}

impl IntegrityApi {
    pub(super) fn new(api: Api) -> Self {
        Self { api, at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    async fn check_node(&self, name: &str) -> Result<Option<Uuid>, Status> {
        if name.is_empty() {
            return Ok(None);
        }
        let uid = request::name("node", name, Collection::Nodes)?;
        let api = self.api.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            node::get(&mut connection, uid).await.map_err(|error| errors::query(&error))
        });
        match found.await? {
            Some(_) => Ok(Some(uid)),
            None => Err(not_found("assettrack.v1.Node", name)),
        }
    }
}

#[tonic::async_trait]
impl IntegrityService for IntegrityApi {
    type VerifyInventoryStream = ReceiverStream<Answer>;

    async fn verify_inventory(
        &self,
        request: Request<VerifyInventoryRequest>,
    ) -> Result<Response<Self::VerifyInventoryStream>, Status> {
        let node = self.check_node(&request.into_inner().node).await?;
        let Ok(permit) = self.at_once.clone().try_acquire_owned() else {
            let text = "the inventory is being verified already; try again";
            return Err(retry_later(Code::ResourceExhausted, "BUSY_VERIFYING", text, RETRY));
        };
        let connection = self.api.connection().await?;
        let (answers, stream) = mpsc::channel(2);
        tokio::spawn(answer(connection, node, answers, permit));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Verifies, and tells what comes of it. Ends when the caller goes away: the
/// statement at work is cancelled.
async fn answer(
    mut connection: Pooled,
    node: Option<Uuid>,
    answers: mpsc::Sender<Answer>,
    permit: OwnedSemaphorePermit,
) {
    let cancel = AsyncPgConnection::cancel_token(&connection);
    let (steps, mut found) = mpsc::channel(64);
    // A task of its own, which brings its transaction to an end in any case.
    let work = tokio::spawn(async move {
        let verified = verify(&mut connection, node, &steps).await;
        (verified, connection, permit)
    });
    let mut told = VerifyInventoryResponse::default();
    let listening = listen(&mut told, &mut found, &answers).await;
    drop(found);
    if !listening {
        if let Err(error) = cancel.cancel_query(NoTls).await {
            tracing::warn!(%error, "cannot cancel verifying; it ends by itself");
        }
        // Only now, so that no other borrower's statement was cancelled.
        drop(work.await);
        return;
    }
    let last = match work.await {
        Ok((Ok(()), ..)) => {
            told.done = true;
            Ok(told)
        }
        Ok((Err(VerifyError::Query(error)), ..)) => Err(errors::query(&error)),
        Ok((Err(VerifyError::Gone), ..)) => return,
        Err(died) => Err(ended(&died)),
    };
    // Whoever does not read it has gone.
    let _ = answers.send_timeout(last, PATIENCE).await;
}

/// Gathers steps into answers until there are no more; tells whether the caller
/// still listens.
async fn listen(
    told: &mut VerifyInventoryResponse,
    found: &mut mpsc::Receiver<Step>,
    answers: &mpsc::Sender<Answer>,
) -> bool {
    let mut last = Instant::now();
    loop {
        let step = tokio::select! {
            step = found.recv() => match step {
                Some(step) => Some(step),
                None => return true,
            },
            () = tokio::time::sleep(PROGRESS.saturating_sub(last.elapsed())) => None,
            () = answers.closed() => return false,
        };
        match step {
            Some(Step::Total(assets, nodes)) => (told.total_assets, told.total_nodes) = (assets, nodes),
            Some(Step::Assets(more)) => told.verified_assets += more,
            Some(Step::Node) => told.verified_nodes += 1,
            Some(Step::Found(difference)) => told.differences.push(difference),
            None => {}
        }
        if last.elapsed() >= PROGRESS || told.differences.len() >= DIFFERENCES {
            let answer = told.clone();
            told.differences.clear();
            if answers.send_timeout(Ok(answer), PATIENCE).await.is_err() {
                return false;
            }
            last = Instant::now();
        }
    }
}
