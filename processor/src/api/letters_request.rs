//! What DeadLetterService may be asked: which letters, how fast.

use chrono::{DateTime, Utc};
use contracts::v1::{DeadLetterFilter, DeadLetterReason};
use kit::{decode::rules::is_time, identity::Collection, status::invalid_field};
use prost_types::Timestamp;
use tonic::Status;

use super::{errors, request};
use crate::{
    domain::page_token::TokenError,
    store::{
        dead_letter::{Filter, Place, Selection},
        ingest::small,
    },
};

const MAX_NAMES: usize = 1000;
const MAX_REASONS: usize = 16;
/// Longest name of an AMQP queue, in bytes.
const MAX_QUEUE_BYTES: usize = 255;
const DEFAULT_RATE: u32 = 100;
const MAX_RATE: u32 = 10_000;

/// A filter; absent is all.
pub fn filter(filter: Option<&DeadLetterFilter>) -> Result<Filter, Status> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    let count = filter.reasons.len();
    if count > MAX_REASONS {
        let problem = format!("are {count}, at most {MAX_REASONS} may be");
        return Err(invalid_field("filter.reasons", "TOO_MANY", problem));
    }
    let mut reasons = Vec::with_capacity(count);
    for (index, number) in filter.reasons.iter().enumerate() {
        match DeadLetterReason::try_from(*number) {
            Ok(DeadLetterReason::Unspecified) | Err(_) => {
                let problem = format!("{number} is no reason that is known");
                return Err(invalid_field(&format!("filter.reasons[{index}]"), "INVALID_FIELD", problem));
            }
            Ok(reason) => reasons.push(small(reason as i32)),
        }
    }
    reasons.sort_unstable();
    reasons.dedup();
    let node = match filter.node.as_str() {
        "" => None,
        node => Some(request::name("filter.node", node, Collection::Nodes)?),
    };
    let queue = &filter.queue;
    if queue.len() > MAX_QUEUE_BYTES || queue.contains('\0') {
        let problem = format!("must have at most {MAX_QUEUE_BYTES} bytes and no NUL");
        return Err(invalid_field("filter.queue", "INVALID_FIELD", problem));
    }
    let since = time("filter.since_time", filter.since_time.as_ref())?;
    let before = time("filter.before_time", filter.before_time.as_ref())?;
    if let (Some(since), Some(before)) = (since, before)
        && since >= before
    {
        let problem = "must be after filter.since_time";
        return Err(invalid_field("filter.before_time", "INVALID_FIELD", problem));
    }
    let queue = Some(queue.clone()).filter(|queue| !queue.is_empty());
    Ok(Filter { reasons, node, queue, since, before })
}

fn time(field: &str, time: Option<&Timestamp>) -> Result<Option<DateTime<Utc>>, Status> {
    let Some(time) = time else { return Ok(None) };
    let known = u32::try_from(time.nanos)
        .ok()
        .filter(|_| is_time(time))
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
    known.map(Some).ok_or_else(|| {
        let problem = format!("{} s and {} ns is no time of the years 1 to 9999", time.seconds, time.nanos);
        invalid_field(field, "INVALID_FIELD", problem)
    })
}

/// What a page token of a list is bound to.
pub fn question(filter: &Filter) -> [String; 6] {
    let reasons: Vec<String> = filter.reasons.iter().map(i16::to_string).collect();
    let time = |time: Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339()).unwrap_or_default();
    [
        "dead-letters".to_owned(),
        reasons.join(" "),
        filter.node.map(|node| node.to_string()).unwrap_or_default(),
        filter.queue.clone().unwrap_or_default(),
        time(filter.since),
        time(filter.before),
    ]
}

/// A letter's place out of a page token.
pub fn place(place: Option<Vec<String>>) -> Result<Option<Place>, Status> {
    let Some(place) = place else { return Ok(None) };
    let micros: Option<i64> = place[0].parse().ok();
    let time = micros.and_then(DateTime::from_timestamp_micros);
    match (time, place.get(1).and_then(|uid| uid.parse().ok())) {
        (Some(time), Some(uid)) => Ok(Some((time, uid))),
        _ => Err(errors::token(TokenError::Foreign)),
    }
}

/// Which letters are to be replayed or deleted: exactly one of the three ways.
pub fn selection(
    names: &[String],
    of_filter: Option<&DeadLetterFilter>,
    all: bool,
) -> Result<Selection, Status> {
    let ways = [("names", !names.is_empty()), ("filter", of_filter.is_some()), ("all", all)];
    let given: Vec<&str> = ways.iter().filter(|(_, given)| *given).map(|(field, _)| *field).collect();
    match given.as_slice() {
        [] => {
            let problem = "or filter or all must be given: nothing says which letters are meant";
            return Err(invalid_field("names", "NOTHING_SELECTED", problem));
        }
        [_] => {}
        [first, second, ..] => {
            let problem = format!("is given beside {first}; give one of names, filter and all");
            return Err(invalid_field(second, "AMBIGUOUS", problem));
        }
    }
    if all {
        return Ok(Selection::All);
    }
    if let Some(of_filter) = of_filter {
        let filter = filter(Some(of_filter))?;
        // Nobody empties the table because a condition got lost on its way.
        if filter == Filter::default() {
            let problem = "is empty; say all, if all letters are meant";
            return Err(invalid_field("filter", "NOTHING_SELECTED", problem));
        }
        return Ok(Selection::Filter(filter));
    }
    if names.len() > MAX_NAMES {
        let problem = format!("are {}, at most {MAX_NAMES} may be", names.len());
        return Err(invalid_field("names", "TOO_MANY", problem));
    }
    let letters = names
        .iter()
        .enumerate()
        .map(|(index, name)| request::name(&format!("names[{index}]"), name, Collection::DeadLetters));
    Ok(Selection::Letters(letters.collect::<Result<_, Status>>()?))
}

/// Letters a second: 0 is the default.
pub fn rate(messages_per_second: i32) -> Result<u32, Status> {
    match u32::try_from(messages_per_second) {
        Ok(0) => Ok(DEFAULT_RATE),
        Ok(rate @ 1..=MAX_RATE) => Ok(rate),
        _ => {
            let problem = format!("{messages_per_second} is not 1 to {MAX_RATE}, or 0 for {DEFAULT_RATE}");
            Err(invalid_field("messages_per_second", "INVALID_FIELD", problem))
        }
    }
}
