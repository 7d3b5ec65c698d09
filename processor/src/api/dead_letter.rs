//! DeadLetterService. What it may be asked is in `letters_request`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use contracts::v1::{
    DeadLetter, DeadLetterCount, DeleteDeadLettersRequest, DeleteDeadLettersResponse, EventBatch,
    GetDeadLetterRequest, ListDeadLettersRequest, ListDeadLettersResponse, ReplayDeadLettersRequest,
    ReplayDeadLettersResponse, dead_letter_service_server::DeadLetterService,
};
use contracts::walk::Walk as _;
use kit::{
    decode::{KEPT_ENCODING, Unpacker, rules::is_time},
    identity::Collection,
    shutdown::CancellationToken,
    status::{not_found, retry_later},
};
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::{Api, convert::timestamp, errors, letters_request, request, task::in_task};
use crate::{
    ingest::{Progress, Replay, lost_a_race},
    store::dead_letter::{self, ContentRow, LetterRow, Selection, Walk, WholeRow},
};

/// Time between two answers of a replay; twice as often as is promised.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Letters that one statement deletes.
const DELETE_CHUNK: i64 = 1000;
/// How often a statement that lost a race is tried again.
const RACES: u32 = 4;

/// The service.
#[derive(Clone)]
pub struct DeadLetterApi {
    api: Api,
    replay: Replay,
    shutdown: CancellationToken,
}

impl DeadLetterApi {
    pub(super) fn new(api: Api, replay: Replay, shutdown: CancellationToken) -> Self {
        Self { api, replay, shutdown }
    }
}

fn letter(row: LetterRow) -> DeadLetter {
    DeadLetter {
        name: Collection::DeadLetters.name(row.uid),
        reason: row.reason.into(),
        detail: row.detail,
        queue: row.queue,
        message_id: row.message_id,
        node: row.node_uid.map(|node| Collection::Nodes.name(node)).unwrap_or_default(),
        node_display_name: row.node_display_name.unwrap_or_default(),
        stream: row.stream.map(|stream| stream.to_string()).unwrap_or_default(),
        sequence: row.sequence.unwrap_or(0),
        count: row.count,
        create_time: Some(timestamp(row.create_time)),
        last_time: Some(timestamp(row.last_time)),
        body_size_bytes: row.body_size_bytes,
        ..DeadLetter::default()
    }
}

fn whole(row: WholeRow) -> DeadLetter {
    let ContentRow { headers, body } = row.content;
    let headers: HashMap<String, String> = serde_json::from_value(headers).unwrap_or_default();
    let batch = batch(headers.get(KEPT_ENCODING).map(String::as_str), &body);
    DeadLetter { headers, batch, body, ..letter(row.letter) }
}

/// A body as a batch, whatever rules it breaks: but none of more than 64 KiB, and
/// none with a time that JSON has no form for, or the whole letter would have none.
fn batch(encoding: Option<&str>, body: &[u8]) -> Option<EventBatch> {
    let mut unpacker = Unpacker::default();
    let plain = unpacker.unpack(encoding, body).ok()?;
    EventBatch::decode(plain).ok().filter(has_json)
}

fn has_json(batch: &EventBatch) -> bool {
    let mut fits = true;
    for observation in &batch.observations {
        fits &= observation.observe_time.as_ref().is_none_or(is_time);
        if let Some(details) = &observation.details {
            details.times(&mut |_, time| fits &= is_time(time));
        }
    }
    fits
}

fn answer(progress: Progress, done: bool) -> ReplayDeadLettersResponse {
    ReplayDeadLettersResponse {
        total: progress.total,
        committed: progress.committed,
        duplicates: progress.duplicates,
        still_dead: progress.still_dead,
        gone: progress.gone,
        done,
    }
}

#[tonic::async_trait]
impl DeadLetterService for DeadLetterApi {
    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<DeadLetter>, Status> {
        let name = request.into_inner().name;
        let uid = request::name("name", &name, Collection::DeadLetters)?;
        let api = self.api.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            dead_letter::get(&mut connection, uid).await.map_err(|error| errors::query(&error))
        });
        let row = found.await?.ok_or_else(|| not_found("assettrack.v1.DeadLetter", &name))?;
        Ok(Response::new(whole(row)))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let page = request::page_size(request.page_size)?;
        let filter = letters_request::filter(request.filter.as_ref())?;
        let question = letters_request::question(&filter);
        let question: Vec<&str> = question.iter().map(String::as_str).collect();
        let before = self.api.tokens.open(&request.page_token, &question, 2).map_err(errors::token)?;
        let before = letters_request::place(before)?;

        let api = self.api.clone();
        let found = in_task(async move {
            let mut connection = api.connection().await?;
            let rows = dead_letter::list(&mut connection, &filter, before, request::limit(page))
                .await
                .map_err(|error| errors::query(&error))?;
            let counts = dead_letter::count_by_reason(&mut connection, &filter)
                .await
                .map_err(|error| errors::query(&error))?;
            Ok::<_, Status>((rows, counts))
        });
        let (mut rows, counts) = found.await?;
        let more = rows.len() > page;
        rows.truncate(page);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => {
                let place = vec![last.create_time.timestamp_micros().to_string(), last.uid.to_string()];
                self.api.tokens.issue(&question, place)
            }
            None => String::new(),
        };
        let counts =
            counts.into_iter().map(|row| DeadLetterCount { reason: row.reason.into(), count: row.count });
        Ok(Response::new(ListDeadLettersResponse {
            dead_letters: rows.into_iter().map(letter).collect(),
            next_page_token,
            counts: counts.collect(),
        }))
    }

    type ReplayDeadLettersStream = ReceiverStream<Result<ReplayDeadLettersResponse, Status>>;

    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<Self::ReplayDeadLettersStream>, Status> {
        let request = request.into_inner();
        let selection = letters_request::selection(&request.names, request.filter.as_ref(), request.all)?;
        let rate = letters_request::rate(request.messages_per_second)?;
        let (answers, told) = mpsc::channel(1);
        tokio::spawn(replay(self.replay.clone(), selection, rate, answers, self.shutdown.clone()));
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn delete_dead_letters(
        &self,
        request: Request<DeleteDeadLettersRequest>,
    ) -> Result<Response<DeleteDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let selection = letters_request::selection(&request.names, request.filter.as_ref(), request.all)?;
        let deleted_count = if request.validate_only {
            let api = self.api.clone();
            let counted = in_task(async move {
                let mut connection = api.connection().await?;
                dead_letter::count(&mut connection, &selection).await.map_err(|error| errors::query(&error))
            });
            counted.await?
        } else {
            delete(&self.api, selection).await?
        };
        Ok(Response::new(DeleteDeadLettersResponse { deleted_count }))
    }
}

/// Deletes letters in chunks, so that no statement takes long. A caller that goes
/// away ends it after the chunk at hand.
async fn delete(api: &Api, selection: Selection) -> Result<i64, Status> {
    let own = api.clone();
    let walk = in_task(async move {
        let mut connection = own.connection().await?;
        dead_letter::begin(&mut connection, selection).await.map_err(|error| errors::query(&error))
    });
    let walk = Arc::new(walk.await?);
    let mut deleted = 0;
    loop {
        let (own, walk) = (api.clone(), walk.clone());
        match in_task(async move { delete_chunk(&own, &walk).await }).await? {
            0 => break,
            count => deleted += i64::try_from(count).unwrap_or(i64::MAX),
        }
    }
    tracing::info!(deleted, "deleted dead letters");
    Ok(deleted)
}

async fn delete_chunk(api: &Api, walk: &Walk) -> Result<usize, Status> {
    let mut connection = api.connection().await?;
    let mut race = 0;
    loop {
        match dead_letter::delete_chunk(&mut connection, walk, DELETE_CHUNK).await {
            Err(error) if race < RACES && lost_a_race(&error) => race += 1,
            deleted => return deleted.map_err(|error| errors::query(&error)),
        }
    }
}

/// Replays letters and tells how far it is, until all had their turn, the
/// caller goes away or the processor ends: never in the middle of a letter.
async fn replay(
    replay: Replay,
    selection: Selection,
    rate: u32,
    answers: mpsc::Sender<Result<ReplayDeadLettersResponse, Status>>,
    shutdown: CancellationToken,
) {
    let (progress, seen) = watch::channel(Progress::default());
    let stop = shutdown.child_token();
    let replaying = replay.run(selection, rate, &progress, &stop);
    tokio::pin!(replaying);
    let mut tell = tokio::time::interval(TELL_EVERY);
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            ended = &mut replaying => break ended,
            // Who reads slowly is told less, and holds nothing up.
            _ = tell.tick() => drop(answers.try_send(Ok(answer(*seen.borrow(), false)))),
            () = answers.closed(), if !stop.is_cancelled() => stop.cancel(),
        }
    };
    let progress = *seen.borrow();
    tracing::info!(
        total = progress.total,
        committed = progress.committed,
        duplicates = progress.duplicates,
        still_dead = progress.still_dead,
        gone = progress.gone,
        stopped = stop.is_cancelled(),
        "replayed dead letters"
    );
    let last = match ended {
        Err(error) => Err(errors::ingest(&error)),
        Ok(()) if shutdown.is_cancelled() => {
            let text = "the processor ends; what was replayed stays done, replay the rest again";
            Err(retry_later(Code::Unavailable, "REPLAY_STOPPED", text, Duration::from_secs(1)))
        }
        Ok(()) => Ok(answer(progress, true)),
    };
    // Nobody is there to hear it, if the caller went away.
    let _ = answers.send(last).await;
}
