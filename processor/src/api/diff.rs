//! What differs between two states of one asset.

use chrono::{DateTime, Utc};
use contracts::v1::{Asset, DiffAssetRequest, DiffAssetResponse, EventType, FieldDifference, FieldSide};
use kit::{identity::Collection, status::invalid_field};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::Value as Json;
use tonic::Status;
use uuid::Uuid;

use super::{
    Api,
    asset::missing,
    convert, errors, past, request,
    revert::{check_revision, missing_revision},
    task::in_task,
};
use crate::{
    domain::differences::{Difference, Side, State, differences},
    store::{asset, event, event::RevisionRow, past::PastRow},
};

/// What is compared.
enum Ends {
    Revisions(i64, Option<i64>),
    Times(DateTime<Utc>, Option<DateTime<Utc>>),
}

/// One of the two states.
type End = Option<(State, Asset)>;

impl Api {
    pub(super) async fn diff(&self, request: DiffAssetRequest) -> Result<DiffAssetResponse, Status> {
        let uid = request::name("name", &request.name, Collection::Assets)?;
        let (before, after) = match ends(&request)? {
            Ends::Revisions(base, newer) => self.revisions(uid, base, newer).await?,
            Ends::Times(base, newer) => self.states(uid, base, newer).await?,
        };
        let state = |end: &End| end.as_ref().map(|(state, _)| state.clone());
        let found = differences(&self.descriptors, state(&before).as_ref(), state(&after).as_ref());
        Ok(DiffAssetResponse {
            base_asset: before.map(|(_, asset)| asset),
            asset: after.map(|(_, asset)| asset),
            differences: found.into_iter().map(field_difference).collect(),
        })
    }

    async fn revisions(&self, uid: Uuid, base: i64, newer: Option<i64>) -> Result<(End, End), Status> {
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let query = |error| errors::query(&error);
            let (now, ..) =
                asset::get(&mut connection, uid).await.map_err(query)?.ok_or_else(|| missing(uid))?;
            let mut ends = Vec::new();
            for number in [base, newer.unwrap_or(now.revision)] {
                let row = event::revision(&mut connection, uid, number).await.map_err(query)?;
                let row = row.ok_or_else(|| missing_revision(uid, number))?;
                let state = state_of_revision(&row);
                let asset = convert::revision(row, &now).asset.unwrap_or_default();
                ends.push(Some((state, asset)));
            }
            Ok::<_, Status>((ends.remove(0), ends.remove(0)))
        })
        .await
    }

    async fn states(
        &self,
        uid: Uuid,
        base: DateTime<Utc>,
        newer: Option<DateTime<Utc>>,
    ) -> Result<(End, End), Status> {
        let newer = match newer {
            Some(newer) => newer,
            None => self.now().await?,
        };
        // The later one is settled last, and all before it with it.
        self.settle("base_read_time", base).await?;
        self.settle("read_time", newer).await?;
        let before = self.state_at("base_read_time", uid, base).await?;
        let after = self.state_at("read_time", uid, newer).await?;
        if before.is_none() && after.is_none() {
            return Err(missing(uid));
        }
        let end = |row: Option<PastRow>| row.map(|row| (state_of(&row), past::asset(row)));
        Ok((end(before), end(after)))
    }
}

fn ends(request: &DiffAssetRequest) -> Result<Ends, Status> {
    let base = past::time("base_read_time", request.base_read_time.as_ref())?;
    let newer = past::time("read_time", request.read_time.as_ref())?;
    match (request.base_revision, base) {
        (0, None) => {
            let problem = "is required, or base_read_time: what is compared with";
            Err(invalid_field("base_revision", "REQUIRED", problem))
        }
        (0, Some(base)) => {
            if request.revision != 0 {
                return Err(mixed("revision"));
            }
            if newer.is_some_and(|newer| newer < base) {
                let problem = "is before base_read_time";
                return Err(invalid_field("read_time", "WRONG_ORDER", problem));
            }
            Ok(Ends::Times(base, newer))
        }
        (_, Some(_)) => Err(mixed("base_read_time")),
        (base, None) => {
            if newer.is_some() {
                return Err(mixed("read_time"));
            }
            check_revision("base_revision", base)?;
            let newer = (request.revision != 0).then_some(request.revision);
            if let Some(newer) = newer {
                check_revision("revision", newer)?;
                if newer < base {
                    return Err(invalid_field("revision", "WRONG_ORDER", "is before base_revision"));
                }
            }
            Ok(Ends::Revisions(base, newer))
        }
    }
}

fn mixed(field: &str) -> Status {
    invalid_field(field, "MIXED_ENDS", "give two revisions or two times, not one of each")
}

/// A state out of a row of an earlier time.
pub(super) fn state_of(row: &PastRow) -> State {
    State {
        kind: row.kind,
        display_name: row.display_name.clone(),
        state: row.state,
        delete_time: row.delete_time,
        details: row.details.clone(),
        managed: row.managed.clone(),
    }
}

fn state_of_revision((row, _, details, managed): &RevisionRow) -> State {
    let deleted = row.event_type == EventType::Deleted as i16;
    State {
        kind: row.kind,
        display_name: row.display_name.clone(),
        state: row.state,
        delete_time: deleted.then_some(row.record_time),
        details: details.clone(),
        managed: managed.clone(),
    }
}

/// A difference as the contract has it.
pub(super) fn field_difference(difference: Difference) -> FieldDifference {
    let side = match difference.side {
        Side::Observed => FieldSide::Observed,
        Side::Managed => FieldSide::Managed,
    };
    FieldDifference {
        path: difference.path,
        side: side.into(),
        before: difference.before.map(value),
        after: difference.after.map(value),
    }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        // Those that need more bits than a double has are texts in ProtoJSON.
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.into_iter().map(value).collect() }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(name, json)| (name, value(json))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    #[test]
    fn two_revisions_or_two_times_are_compared() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let request = |base_revision, revision, base_read_time, read_time| DiffAssetRequest {
            base_revision,
            revision,
            base_read_time,
            read_time,
            ..DiffAssetRequest::default()
        };
        assert!(matches!(ends(&request(1, 0, None, None)), Ok(Ends::Revisions(1, None))));
        assert!(matches!(ends(&request(2, 2, None, None)), Ok(Ends::Revisions(2, Some(2)))));
        assert!(matches!(ends(&request(0, 0, at(1), at(1))), Ok(Ends::Times(..))));
        for (wrong, field) in [
            (request(0, 0, None, None), "base_revision"),
            (request(0, 3, None, None), "base_revision"),
            (request(1, 0, at(1), None), "base_read_time"),
            (request(1, 0, None, at(1)), "read_time"),
            (request(0, 1, at(1), None), "revision"),
            (request(-1, 0, None, None), "base_revision"),
            (request(1, -1, None, None), "revision"),
            (request(3, 2, None, None), "revision"),
            (request(0, 0, at(2), at(1)), "read_time"),
        ] {
            let Err(status) = ends(&wrong) else { panic!("{wrong:?}") };
            assert!(status.message().starts_with(&format!("{field}: ")), "{wrong:?} {status:?}");
        }
    }
}
