//! Reading assets as they were at an earlier time (`read_time`).

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use contracts::v1::{Asset, AssetState, ListAssetsRequest, ListAssetsResponse};
use diesel_async::AsyncPgConnection;
use kit::status::{error, invalid_field, retry_later};
use prost_types::Timestamp;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Api, asset::missing, convert, errors, request, task::in_task};
use crate::{
    domain::filter::{divide, read},
    store::{
        filter_sql::compile,
        past::{self, COLUMNS, Horizon, LASTING, PastRow, Wanted},
    },
};

/// How long a time that is not settled is waited for. What records anything takes
/// some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A time of a request, as times are recorded: whole microseconds, the rest is cut.
pub(super) fn time(field: &str, given: Option<&Timestamp>) -> Result<Option<DateTime<Utc>>, Status> {
    let Some(given) = given else { return Ok(None) };
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let time = nanos.and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
    // The years that ProtoJSON can write.
    match time.filter(|time| (1..=9999).contains(&chrono::Datelike::year(time))) {
        Some(time) => Ok(Some(time.trunc_subsecs(6))),
        None => Err(invalid_field(field, "INVALID_TIME", "is no time between the years 1 and 9999")),
    }
}

/// A time for people and programs.
pub(super) fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn too_old(field: &str, earliest: DateTime<Utc>) -> Status {
    let earliest = shown(earliest);
    let text = format!("{field}: nothing is kept of before {earliest}");
    let metadata = [("field", field), ("earliest_time", earliest.as_str())];
    error(Code::OutOfRange, "READ_TIME_TOO_OLD", text, &metadata)
}

fn in_future(field: &str, now: DateTime<Utc>) -> Status {
    let problem = format!("is in the future; by the database's clock it is {}", shown(now));
    invalid_field(field, "READ_TIME_IN_FUTURE", problem)
}

/// What a list of an earlier time is asked for. What can be told by lasting fields
/// is kept apart, for the indexes.
pub(super) fn wanted(api: &Api, filter: &str, show_deleted: bool) -> Result<Wanted, Status> {
    let predicate = read(filter, &api.asset_schema(), Utc::now()).map_err(|error| errors::filter(&error))?;
    let (lasting, state) = predicate.map_or((None, None), |predicate| divide(predicate, LASTING));
    let sql = |part| compile(&part, &COLUMNS);
    Ok(Wanted { lasting: lasting.map(sql), state: state.map(sql), show_deleted })
}

impl Api {
    /// Sees that a time can be read: that it is kept, and that nothing can be
    /// recorded as of it any more. Waits a moment for what is being recorded.
    pub(super) async fn settle(&self, field: &str, at: DateTime<Utc>) -> Result<(), Status> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let Horizon { earliest_time, now, is_settled } = self.horizon(at).await?;
            if at < earliest_time {
                return Err(too_old(field, earliest_time));
            }
            if is_settled {
                return Ok(());
            }
            let ahead = at - now;
            if ahead > TimeDelta::from_std(PATIENCE).unwrap_or_default() {
                return Err(in_future(field, now));
            }
            if began.elapsed() >= PATIENCE {
                let text =
                    format!("{field}: something is still being recorded that may belong to it; try again");
                return Err(retry_later(Code::Unavailable, "READ_TIME_NOT_SETTLED", text, PATIENCE));
            }
            tokio::time::sleep(pause.max(ahead.to_std().unwrap_or_default())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Each look has a connection of its own: nobody waits while holding one.
    async fn horizon(&self, at: DateTime<Utc>) -> Result<Horizon, Status> {
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            past::horizon(&mut connection, at).await.map_err(|error| errors::query(&error))
        })
        .await
    }

    /// The time by the database's clock.
    pub(super) async fn now(&self) -> Result<DateTime<Utc>, Status> {
        Ok(self.horizon(DateTime::UNIX_EPOCH).await?.now)
    }

    /// An asset as it was.
    pub(super) async fn get_at(&self, uid: Uuid, at: DateTime<Utc>) -> Result<Asset, Status> {
        self.settle("read_time", at).await?;
        self.state_at("read_time", uid, at).await?.map(asset).ok_or_else(|| missing(uid))
    }

    /// An asset as it was at a settled time.
    pub(super) async fn state_at(
        &self,
        field: &'static str,
        uid: Uuid,
        at: DateTime<Utc>,
    ) -> Result<Option<PastRow>, Status> {
        let api = self.clone();
        in_task(async move {
            let mut connection = api.connection().await?;
            let row = past::get(&mut connection, at, uid).await.map_err(|error| errors::query(&error))?;
            let mut rows: Vec<PastRow> = row.into_iter().collect();
            whole(&mut connection, field, at, &mut rows).await?;
            Ok::<_, Status>(rows.pop())
        })
        .await
    }

    /// A page of the assets as they were.
    pub(super) async fn list_at(
        &self,
        request: ListAssetsRequest,
        at: DateTime<Utc>,
    ) -> Result<ListAssetsResponse, Status> {
        let page = request::page_size(request.page_size)?;
        let wanted = wanted(self, &request.filter, request.show_deleted)?;
        let deleted = if request.show_deleted { "deleted" } else { "" };
        let micros = at.timestamp_micros().to_string();
        let question = ["assets", &request.filter, deleted, &micros];
        let after = self.tokens.open(&request.page_token, &question, 2).map_err(errors::token)?;
        let after = request::name_and_uid(after)?;
        self.settle("read_time", at).await?;

        let api = self.clone();
        let rows = in_task(async move {
            let mut connection = api.connection().await?;
            let mut rows = past::list(&mut connection, at, &wanted, after, request::limit(page))
                .await
                .map_err(|error| errors::query(&error))?;
            let more = rows.len() > page;
            rows.truncate(page);
            whole(&mut connection, "read_time", at, &mut rows).await?;
            Ok::<_, Status>((rows, more))
        });
        let (rows, more) = rows.await?;
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => self.tokens.issue(&question, vec![last.display_name.clone(), last.uid.to_string()]),
            None => String::new(),
        };
        Ok(ListAssetsResponse { assets: rows.into_iter().map(asset).collect(), next_page_token })
    }
}

/// Gives rows their details, and sees that retention took nothing of that time
/// while they were read.
pub(super) async fn whole(
    connection: &mut AsyncPgConnection,
    field: &str,
    at: DateTime<Utc>,
    rows: &mut [PastRow],
) -> Result<(), Status> {
    past::fill(connection, rows).await.map_err(|error| errors::query(&error))?;
    let horizon = past::horizon(connection, at).await.map_err(|error| errors::query(&error))?;
    if at < horizon.earliest_time {
        return Err(too_old(field, horizon.earliest_time));
    }
    if let Some(row) = rows.iter().find(|row| !row.is_whole) {
        // Somebody altered the log; `assettrack verify` tells what.
        tracing::error!(asset = %row.uid, revision = row.revision, "the log does not have a revision that was superseded");
    }
    Ok(())
}

/// An asset as it was. When its node was last heard then is not known.
pub(super) fn asset(row: PastRow) -> Asset {
    let asset = convert::asset(row.into());
    let last_seen_time = asset.last_seen_time.filter(|_| asset.state != AssetState::Active as i32);
    Asset { last_seen_time, ..asset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_to_what_is_recorded() {
        let at = |seconds, nanos| time("t", Some(&Timestamp { seconds, nanos }));
        assert_eq!(at(7, 1_999).unwrap().unwrap().timestamp_micros(), 7_000_001);
        assert_eq!(at(-7, 1_999).unwrap().unwrap().timestamp_micros(), -6_999_999);
        assert_eq!(time("t", None).unwrap(), None);
        for (seconds, nanos) in
            [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (253_402_300_800, 0), (-62_135_596_801, 0)]
        {
            assert_eq!(at(seconds, nanos).unwrap_err().code(), Code::InvalidArgument, "{seconds} {nanos}");
        }
    }
}
