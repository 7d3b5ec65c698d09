//! Dead letters: listed, shown, replayed, deleted.

use std::{io::Write, ops::ControlFlow};

use contracts::v1::{
    DeadLetter, DeadLetterFilter, DeadLetterReason, DeleteDeadLettersRequest, GetDeadLetterRequest,
    ListDeadLettersRequest, ReplayDeadLettersRequest, ReplayDeadLettersResponse,
    dead_letter_service_client::DeadLetterServiceClient,
};
use tonic::transport::Channel;

use crate::{
    args::{DeadLettersCommand, LetterFilter, Letters},
    cell::{Clock, word},
    failure::Failure,
    fields::{self, Field},
    gateway::{Gateway, MAX_PAGE_BYTES, pages},
    output::{Column, Output, Row},
};

/// Most bytes of a body that people are shown.
const SHOWN_BODY_BYTES: usize = 256;

/// Does what the command says.
///
/// # Errors
/// See [`Failure`].
pub async fn run<W: Write>(
    command: &DeadLettersCommand,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List { filter, limit } => list(filter, *limit, gateway, output).await,
        DeadLettersCommand::Show { name } => show(name, gateway, output).await,
        DeadLettersCommand::Replay { letters, rate, yes } => {
            replay(letters, *rate, *yes, gateway, output).await
        }
        DeadLettersCommand::Delete { letters, dry_run, yes } => {
            delete(letters, *dry_run, *yes, gateway, output).await
        }
    }
}

fn service(channel: Channel) -> DeadLetterServiceClient<Channel> {
    DeadLetterServiceClient::new(channel).max_decoding_message_size(MAX_PAGE_BYTES)
}

/// `deadLetters/{uuid}` of what may be the UUID alone.
fn letter_name(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("deadLetters/{name}") }
}

/// What the flags say; `None` if they say nothing.
fn condition(flags: &LetterFilter) -> Option<DeadLetterFilter> {
    let node = flags.node.clone().unwrap_or_default();
    let condition = DeadLetterFilter {
        reasons: flags.reason.iter().map(|reason| i32::from(*reason)).collect(),
        node: if node.is_empty() || node.contains('/') { node } else { format!("nodes/{node}") },
        queue: flags.queue.clone().unwrap_or_default(),
        since_time: flags.since,
        before_time: flags.before,
    };
    (condition != DeadLetterFilter::default()).then_some(condition)
}

/// `INVALID_FIELD` and so on.
fn reason(number: i32) -> String {
    let reason = DeadLetterReason::try_from(number).ok();
    word(reason.map(|reason| reason.as_str_name()), "DEAD_LETTER_REASON_", number)
}

impl Row for DeadLetter {
    fn columns() -> Vec<Column<Self>> {
        fn shown(name: &'static str, text: fn(&DeadLetter, Clock) -> String) -> Column<DeadLetter> {
            Column { name, in_table: true, text }
        }
        fn more(name: &'static str, text: fn(&DeadLetter, Clock) -> String) -> Column<DeadLetter> {
            Column { name, in_table: false, text }
        }
        vec![
            shown("name", |letter, _| letter.name.clone()),
            shown("create_time", |letter, clock| clock.show(letter.create_time.as_ref())),
            shown("reason", |letter, _| reason(letter.reason)),
            shown("count", |letter, _| letter.count.to_string()),
            shown("node_display_name", |letter, _| letter.node_display_name.clone()),
            shown("detail", |letter, _| letter.detail.clone()),
            more("queue", |letter, _| letter.queue.clone()),
            more("message_id", |letter, _| letter.message_id.clone()),
            more("node", |letter, _| letter.node.clone()),
            more("stream", |letter, _| letter.stream.clone()),
            more("sequence", |letter, _| letter.sequence.to_string()),
            more("last_time", |letter, clock| clock.show(letter.last_time.as_ref())),
            more("body_size_bytes", |letter, _| letter.body_size_bytes.to_string()),
        ]
    }
}

async fn list<W: Write>(
    filter: &LetterFilter,
    limit: Option<u64>,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = ListDeadLettersRequest { page_size, page_token, filter: condition(filter) };
        let page = gateway
            .call(request, async |channel, request| service(channel).list_dead_letters(request).await)
            .await?;
        Ok((page.dead_letters, page.next_page_token))
    };
    let show = |page: Vec<_>| output.messages("DeadLetter", &page).map(ControlFlow::Continue);
    pages(limit, fetch, show).await
}

async fn show<W: Write>(name: &str, gateway: &Gateway, output: &mut Output<W>) -> Result<(), Failure> {
    let request = GetDeadLetterRequest { name: letter_name(name) };
    let mut letter = gateway
        .call(request, async |channel, request| service(channel).get_dead_letter(request).await)
        .await?;
    if output.is_json() {
        return output.message("DeadLetter", &letter);
    }
    letter.body.truncate(SHOWN_BODY_BYTES);
    let fields = fields::of_message(&output.reflect("DeadLetter", &letter)?, output.clock());
    output.rows(&fields)
}

async fn replay<W: Write>(
    letters: &Letters,
    rate: i32,
    yes: bool,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    if letters.all && !yes {
        return Err(Failure::Unconfirmed("all dead letters would be replayed".to_owned()));
    }
    let request = ReplayDeadLettersRequest {
        names: letters.names.iter().map(|name| letter_name(name)).collect(),
        filter: condition(&letters.filter),
        all: letters.all,
        messages_per_second: rate,
    };
    let mut told = ReplayDeadLettersResponse::default();
    let ended = gateway
        .stream(
            request,
            async |channel, request| service(channel).replay_dead_letters(request).await,
            |answer: ReplayDeadLettersResponse| {
                if answer != told && !answer.done {
                    // Nobody is there to read it, if stderr is gone.
                    let _ = writeln!(std::io::stderr(), "{}", progress(&answer));
                }
                told = answer;
            },
        )
        .await;
    ended?;
    if !told.done {
        return Err(Failure::Unfinished(progress(&told)));
    }
    if output.is_json() {
        return output.message("ReplayDeadLettersResponse", &told);
    }
    output.rows(&[
        figure("total", told.total),
        figure("committed", told.committed),
        figure("duplicates", told.duplicates),
        figure("still_dead", told.still_dead),
        figure("gone", told.gone),
    ])
}

fn figure(path: &str, value: i64) -> Field {
    Field { path: path.to_owned(), value: value.to_string() }
}

fn progress(told: &ReplayDeadLettersResponse) -> String {
    let ReplayDeadLettersResponse { total, committed, duplicates, still_dead, gone, .. } = told;
    let turns = committed + duplicates + still_dead + gone;
    format!(
        "replayed {turns} of {total}: {committed} committed, {duplicates} duplicates, {still_dead} still dead, \
         {gone} gone"
    )
}

async fn delete<W: Write>(
    letters: &Letters,
    dry_run: bool,
    yes: bool,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let validate_only = dry_run || !yes;
    let request = DeleteDeadLettersRequest {
        names: letters.names.iter().map(|name| letter_name(name)).collect(),
        filter: condition(&letters.filter),
        all: letters.all,
        validate_only,
    };
    let told = gateway
        .call(request, async |channel, request| service(channel).delete_dead_letters(request).await)
        .await?;
    if validate_only && !dry_run {
        let count = told.deleted_count;
        return Err(Failure::Unconfirmed(format!(
            "{count} dead letters would be deleted, and what they say lost"
        )));
    }
    if output.is_json() {
        return output.message("DeleteDeadLettersResponse", &told);
    }
    output.rows(&[figure("deleted_count", told.deleted_count)])
}
