//! Reading assets as they were at an earlier time (`read_time`).

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use contracts::v1::{Asset, AssetState};
use diesel_async::AsyncPgConnection;
use kit::status::{error, invalid_field, retry_later};
use prost_types::Timestamp;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Api, asset::missing, convert, errors, task::in_task};
use crate::{
    domain::filter::read,
    store::{
        asset::{AssetOnNode, Source},
        past::{self, Horizon, PastRow, Wanted},
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
fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn too_old(field: &str, earliest: DateTime<Utc>) -> Status {
    let earliest = text(earliest);
    let message = format!("{field}: nothing is kept of before {earliest}");
    let metadata = [("field", field), ("earliest_time", earliest.as_str())];
    error(Code::OutOfRange, "READ_TIME_TOO_OLD", message, &metadata)
}

fn in_future(field: &str, now: DateTime<Utc>) -> Status {
    let problem = format!("is in the future; by the database's clock it is {}", text(now));
    invalid_field(field, "READ_TIME_IN_FUTURE", problem)
}

/// Which assets of earlier times a filter names.
pub(super) fn wanted(api: &Api, filter: &str) -> Result<Wanted, Status> {
    let predicate = read(filter, &api.asset_schema(), Utc::now()).map_err(|error| errors::filter(&error))?;
    Ok(Wanted::new(predicate))
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

    /// Where to read from, once that time is settled.
    pub(super) async fn source(&self, at: Option<DateTime<Utc>>) -> Result<Source, Status> {
        let Some(at) = at else { return Ok(Source::Now) };
        self.settle("read_time", at).await?;
        Ok(Source::At(at))
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
    let lacking = rows.iter_mut().filter(|row| !row.is_whole).map(|row| &mut row.asset);
    past::fill(connection, lacking).await.map_err(|error| errors::query(&error))?;
    check_kept(connection, field, Some(at)).await
}

/// Sees that retention took nothing of a time while it was read.
pub(super) async fn check_kept(
    connection: &mut AsyncPgConnection,
    field: &str,
    at: Option<DateTime<Utc>>,
) -> Result<(), Status> {
    let Some(at) = at else { return Ok(()) };
    let horizon = past::horizon(connection, at).await.map_err(|error| errors::query(&error))?;
    if at < horizon.earliest_time { Err(too_old(field, horizon.earliest_time)) } else { Ok(()) }
}

/// An asset as it was. When its node was last heard then is not known.
pub(super) fn asset(row: PastRow) -> Asset {
    shown(row.into(), Some(DateTime::UNIX_EPOCH))
}

/// An asset as it is, or as it was.
pub(super) fn shown(row: AssetOnNode, at: Option<DateTime<Utc>>) -> Asset {
    let asset = convert::asset(row);
    if at.is_none() || asset.state != AssetState::Active as i32 {
        return asset;
    }
    Asset { last_seen_time: None, ..asset }
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
