//! What differs between two times in all assets that a filter names.
//!
//! What was recorded until a settled time never changes, so the stream needs no
//! snapshot: it reads page after page, each with a connection of its own.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};
use contracts::v1::{AssetDifference, AssetDifferenceType, DiffAssetsRequest, DiffAssetsResponse};
use kit::{
    identity::Collection,
    status::{invalid_field, retry_later},
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{
    Api,
    diff::{field_difference, state_of},
    errors, past,
    task::in_task,
};
use crate::{
    domain::{differences::differences, page_token::TokenError},
    store::past::{PastRow, Wanted, changed_since},
    timestamp::timestamp,
};

/// How many streams there may be at a time.
pub const AT_ONCE: usize = 8;
/// Assets of each time that are compared at a time.
const PAGE: i64 = 200;
/// About the most bytes of one answer; a single difference may be larger.
const ANSWER_BYTES: usize = 1024 * 1024;
/// How long a client may not read.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(2);

type Answer = Result<DiffAssetsResponse, Status>;
/// The answers.
pub type DiffStream = ReceiverStream<Answer>;

/// What is compared.
#[derive(Clone)]
struct Comparison {
    base: DateTime<Utc>,
    newer: DateTime<Utc>,
    wanted: Wanted,
    /// Of its tokens.
    question: [String; 4],
}

impl Api {
    pub(super) async fn diff_fleet(&self, request: DiffAssetsRequest) -> Result<DiffStream, Status> {
        let base = past::time("base_read_time", request.base_read_time.as_ref())?
            .ok_or_else(|| invalid_field("base_read_time", "REQUIRED", "is required"))?;
        let given = past::time("read_time", request.read_time.as_ref())?;
        let wanted = past::wanted(self, &request.filter, false)?;
        let micros = |time: DateTime<Utc>| time.timestamp_micros().to_string();
        let question =
            ["diff".to_owned(), micros(base), given.map(micros).unwrap_or_default(), request.filter.clone()];
        let after = self.opened(&request.resume_token, &question)?;
        let newer = match (given, after) {
            (Some(newer), _) | (None, Some((_, newer))) => newer,
            (None, None) => self.now().await?,
        };
        if newer < base {
            return Err(invalid_field("read_time", "WRONG_ORDER", "is before base_read_time"));
        }
        self.settle("base_read_time", base).await?;
        self.settle("read_time", newer).await?;
        let Ok(permit) = self.diffs.clone().try_acquire_owned() else {
            let text = format!("{AT_ONCE} of these are under way already; try again");
            return Err(retry_later(Code::ResourceExhausted, "BUSY_COMPARING", text, RETRY));
        };
        let (answers, stream) = mpsc::channel(2);
        let comparison = Comparison { base, newer, wanted, question };
        let after = after.map(|(asset, _)| asset);
        tokio::spawn(answer(self.clone(), comparison, after, answers, permit));
        Ok(ReceiverStream::new(stream))
    }

    /// Asset and time of a token.
    fn opened(&self, token: &str, question: &[String; 4]) -> Result<Option<(Uuid, DateTime<Utc>)>, Status> {
        let wrong =
            |error: TokenError| invalid_field("resume_token", "INVALID_RESUME_TOKEN", error.to_string());
        let question = question.each_ref().map(String::as_str);
        let Some(after) = self.tokens.open(token, &question, 2).map_err(wrong)? else { return Ok(None) };
        let time = after[1].parse().ok().and_then(DateTime::from_timestamp_micros);
        match (after[0].parse(), time) {
            (Ok(asset), Some(time)) => Ok(Some((asset, time))),
            _ => Err(wrong(TokenError::Foreign)),
        }
    }

    /// The next assets that differ, and up to which asset that is all; none, up to
    /// the end.
    async fn compared(
        &self,
        comparison: &Comparison,
        after: Option<Uuid>,
    ) -> Result<(Vec<AssetDifference>, Option<Uuid>), Status> {
        let (api, comparison) = (self.clone(), comparison.clone());
        in_task(async move {
            let Comparison { base, newer, wanted, .. } = comparison;
            let mut connection = api.connection().await?;
            let query = |error| errors::query(&error);
            let mut before =
                changed_since(&mut connection, base, base, &wanted, after, PAGE).await.map_err(query)?;
            let mut now =
                changed_since(&mut connection, newer, base, &wanted, after, PAGE).await.map_err(query)?;
            // Of what lies beyond the end of a full page, only the next one tells.
            let is_full = |rows: &Vec<PastRow>| i64::try_from(rows.len()).is_ok_and(|length| length >= PAGE);
            let end = |rows: &Vec<PastRow>| rows.last().filter(|_| is_full(rows)).map(|row| row.uid);
            let end = [end(&before), end(&now)].into_iter().flatten().min();
            if let Some(end) = end {
                before.retain(|row| row.uid <= end);
                now.retain(|row| row.uid <= end);
            }
            past::whole(&mut connection, "base_read_time", base, &mut before).await?;
            past::whole(&mut connection, "read_time", newer, &mut now).await?;
            Ok::<_, Status>((api.merged(before.into(), now.into()), end))
        })
        .await
    }

    /// Both sides by UUID.
    fn merged(&self, mut before: VecDeque<PastRow>, mut after: VecDeque<PastRow>) -> Vec<AssetDifference> {
        let mut found = Vec::new();
        loop {
            let next = [before.front(), after.front()].into_iter().flatten().map(|row| row.uid).min();
            let Some(next) = next else { return found };
            let old = before.pop_front_if(|row| row.uid == next);
            let new = after.pop_front_if(|row| row.uid == next);
            found.extend(self.difference(old, new));
        }
    }

    fn difference(&self, before: Option<PastRow>, after: Option<PastRow>) -> Option<AssetDifference> {
        let revision = |row: &Option<PastRow>| row.as_ref().map_or(0, |row| row.revision);
        let (base_revision, revision) = (revision(&before), revision(&after));
        let mut fields = Vec::new();
        let kind = match (&before, &after) {
            (None, _) => AssetDifferenceType::Added,
            (_, None) => AssetDifferenceType::Removed,
            (Some(old), Some(new)) => {
                if base_revision == revision {
                    return None;
                }
                let found = differences(&self.descriptors, Some(&state_of(old)), Some(&state_of(new)));
                fields.extend(found.into_iter().map(field_difference));
                AssetDifferenceType::Changed
            }
        };
        if kind == AssetDifferenceType::Changed && fields.is_empty() {
            return None;
        }
        let row = after.or(before)?;
        Some(AssetDifference {
            asset: Collection::Assets.name(row.uid),
            r#type: kind.into(),
            kind: row.kind.into(),
            node: row.node_uid.map(|node| Collection::Nodes.name(node)).unwrap_or_default(),
            display_name: row.display_name,
            natural_key: row.natural_key,
            base_revision,
            revision,
            fields,
        })
    }
}

/// Compares page after page, until the end or until the client goes away.
async fn answer(
    api: Api,
    comparison: Comparison,
    mut after: Option<Uuid>,
    answers: mpsc::Sender<Answer>,
    permit: OwnedSemaphorePermit,
) {
    let question = comparison.question.each_ref().map(String::as_str);
    let micros = comparison.newer.timestamp_micros().to_string();
    let made = |differences: Vec<AssetDifference>, after: String| DiffAssetsResponse {
        differences,
        resume_token: api.tokens.issue(&question, vec![after, micros.clone()]),
        read_time: Some(timestamp(comparison.newer)),
        done: false,
    };
    let mut last = after.map(|after| after.to_string());
    loop {
        let compared = tokio::select! {
            compared = api.compared(&comparison, after) => compared,
            () = answers.closed() => return,
        };
        let (found, end) = match compared {
            Ok(compared) => compared,
            Err(status) => {
                let _ = answers.send_timeout(Err(status), PATIENCE).await;
                return;
            }
        };
        let (mut some, mut bytes) = (Vec::new(), 0);
        let mut found = found.into_iter().peekable();
        while let Some(difference) = found.next() {
            bytes += difference.encoded_len();
            last = Collection::Assets.parse(&difference.asset).map(|asset| asset.to_string());
            some.push(difference);
            if bytes < ANSWER_BYTES && found.peek().is_some() {
                continue;
            }
            let answer = made(std::mem::take(&mut some), last.clone().unwrap_or_default());
            bytes = 0;
            if answers.send_timeout(Ok(answer), PATIENCE).await.is_err() {
                return;
            }
        }
        let Some(end) = end else { break };
        after = Some(end);
    }
    let token = last.unwrap_or_else(|| Uuid::nil().to_string());
    let done = DiffAssetsResponse { done: true, ..made(Vec::new(), token) };
    let _ = answers.send_timeout(Ok(done), PATIENCE).await;
    drop(permit);
}
