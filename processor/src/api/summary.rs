//! SummarizeAssets: answers are shared for a short time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::Utc;
use contracts::v1::{AssetGroup, SummarizeAssetsRequest, SummarizeAssetsResponse};
use kit::status::invalid_field;
use tonic::Status;

use super::{Api, errors, task::in_task};
use crate::{
    domain::filter::{self, Group},
    store::{
        asset::{self, Source},
        filter_sql::compile,
        summary::{COUNTED_FIELDS, Question, summarize},
    },
    timestamp::timestamp,
};

const MAX_FIELDS: usize = 3;
const DEFAULT_GROUPS: i32 = 100;
const MAX_GROUPS: i32 = 1000;
/// How long an answer is good for.
const SHARED_FOR: Duration = Duration::from_secs(5);
/// Answers that are kept, at most.
const MAX_SHARED: usize = 64;

/// An answer, once there is one. Locked while it is counted: who asks the same
/// meanwhile waits for it.
type Shared = Arc<tokio::sync::Mutex<Option<(Instant, SummarizeAssetsResponse)>>>;

/// Answers by their questions, with the time when each was last begun.
#[derive(Clone, Default)]
pub(super) struct Summaries(Arc<Mutex<HashMap<String, (Instant, Shared)>>>);

impl Summaries {
    fn of(&self, question: String) -> Shared {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = shared.get(&question) {
            return found.clone();
        }
        // One that is still counted may outlive its place here; its askers have it.
        shared.retain(|_, (begun, answer)| begun.elapsed() < SHARED_FOR || answer.try_lock().is_err());
        if shared.len() >= MAX_SHARED {
            let oldest = shared.iter().min_by_key(|(_, (begun, _))| *begun).map(|(key, _)| key.clone());
            oldest.map(|oldest| shared.remove(&oldest));
        }
        let fresh = Shared::default();
        shared.insert(question, (Instant::now(), fresh.clone()));
        fresh
    }
}

impl Api {
    pub(super) async fn summarize(
        &self,
        request: SummarizeAssetsRequest,
    ) -> Result<SummarizeAssetsResponse, Status> {
        let schema = self.asset_schema();
        let predicate =
            filter::read(&request.filter, &schema, Utc::now()).map_err(|error| errors::filter(&error))?;
        let fields = &request.group_by;
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            let text = format!("has {} fields; 1 to {MAX_FIELDS} are possible", fields.len());
            return Err(invalid_field("group_by", "INVALID_GROUP_BY", text));
        }
        let mut groups: Vec<Group> = Vec::with_capacity(fields.len());
        for (index, text) in fields.iter().enumerate() {
            let group = filter::group(text, &schema).map_err(|error| {
                invalid_field(&format!("group_by[{index}]"), "INVALID_GROUP_BY", error.to_string())
            })?;
            if groups.iter().any(|other| other.field == group.field) {
                let text = format!("`{text}` is there twice");
                return Err(invalid_field(&format!("group_by[{index}]"), "INVALID_GROUP_BY", text));
            }
            groups.push(group);
        }
        let max_groups = match request.max_groups {
            0 => DEFAULT_GROUPS,
            1.. => request.max_groups.min(MAX_GROUPS),
            less => {
                return Err(invalid_field("max_groups", "INVALID_MAX_GROUPS", format!("{less} is negative")));
            }
        };
        let by_kind = predicate.as_ref().is_none_or(|predicate| predicate.asks_only(&COUNTED_FIELDS))
            && groups.iter().all(|group| COUNTED_FIELDS.contains(&group.field.path.join(".").as_str()));
        let question = Question {
            source: Source::Now,
            condition: predicate.map(|predicate| compile(&predicate, &asset::COLUMNS)),
            show_deleted: request.show_deleted,
            by_kind,
            group_by: groups.iter().map(|group| group.field.clone()).collect(),
            max_groups: max_groups.into(),
        };

        let shared = self.summaries.of(format!("{request:?}"));
        let api = self.clone();
        // It goes on when its caller has waited long enough: the next one finds it.
        in_task(async move {
            let mut newest = shared.lock().await;
            if let Some((counted, answer)) = newest.as_ref()
                && counted.elapsed() < SHARED_FOR
            {
                return Ok(answer.clone());
            }
            let (begun, time) = (Instant::now(), Utc::now());
            let mut connection = api.connection().await?;
            let found = summarize(&mut connection, &question, &asset::COLUMNS)
                .await
                .map_err(|error| errors::query(&error))?;
            let total_count = found.first().map_or(0, |group| group.total);
            let told: i64 = found.iter().map(|group| group.count).sum();
            let all = found.first().map_or(0, |group| group.groups);
            let other_groups = all - i64::try_from(found.len()).unwrap_or(i64::MAX);
            let values = |keys: Vec<String>| groups.iter().zip(keys).map(|(group, key)| group.shown(key));
            let answer = SummarizeAssetsResponse {
                groups: found
                    .into_iter()
                    .map(|group| AssetGroup { values: values(group.keys).collect(), count: group.count })
                    .collect(),
                other_groups,
                other_count: total_count - told,
                total_count,
                compute_time: Some(timestamp(time)),
            };
            *newest = Some((begun, answer.clone()));
            Ok::<_, Status>(answer)
        })
        .await
    }
}
