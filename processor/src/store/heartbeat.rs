//! Writes what heartbeats say into `node`, and who delivered them into
//! `collector_contact`.

use chrono::{DateTime, Utc};
use diesel::{QueryResult, QueryableByName, sql_types::Timestamptz};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};
use crate::domain::completeness::Digests;

/// A heartbeat, checked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Beat {
    pub uid: Uuid,
    pub cluster: String,
    pub display_name: String,
    pub stream: Uuid,
    pub agent_version: String,
    pub interval_seconds: i32,
    pub last_sequence: i64,
    pub outbox_batches: i64,
    pub held_for_millis: i64,
    pub identity_conflict: bool,
    pub digests: Digests,
}

#[derive(QueryableByName)]
struct Contact {
    #[diesel(sql_type = Timestamptz)]
    contact_time: DateTime<Utc>,
}

/// Records that a collector speaks; answers the time, by the database's clock.
/// Not within a transaction, as that it speaks is true whatever else fails.
///
/// # Errors
/// The statement fails.
pub async fn add_contact(connection: &mut AsyncPgConnection, collector: &str) -> QueryResult<DateTime<Utc>> {
    let contact = Sql::new("INSERT INTO collector_contact (collector, contact_time) VALUES (")
        .bind(Bind::Text(collector.to_owned()))
        .text(
            ", clock_timestamp()) ON CONFLICT (collector) DO UPDATE SET contact_time = excluded.contact_time \
             RETURNING contact_time",
        );
    let contact: Option<Contact> = load(connection, contact).await?.pop();
    Ok(contact.ok_or(diesel::result::Error::NotFound)?.contact_time)
}

/// Makes the nodes that are heard for the first time. Sorted by UUID, and before
/// any lock is taken, so that two writers never deadlock.
///
/// # Errors
/// The statement fails.
pub async fn insert_new_in_txn(connection: &mut AsyncPgConnection, beats: &[Beat]) -> QueryResult<()> {
    let insert = Sql::new(
        "INSERT INTO node (uid, cluster, display_name, create_time) \
         SELECT uid, cluster, display_name, clock_timestamp() FROM unnest(",
    )
    .binds([
        Bind::Uuids(beats.iter().map(|beat| beat.uid).collect()),
        Bind::Texts(beats.iter().map(|beat| beat.cluster.clone()).collect()),
        Bind::Texts(beats.iter().map(|beat| beat.display_name.clone()).collect()),
    ])
    .text(
        ") AS beat (uid, cluster, display_name) \
         WHERE NOT EXISTS (SELECT FROM node WHERE node.uid = beat.uid) ORDER BY uid ON CONFLICT DO NOTHING",
    );
    execute(connection, insert).await.map(drop)
}

/// A heartbeat that is the newest of its node, and what it showed.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Heard<'a> {
    pub beat: &'a Beat,
    /// When it arrived.
    pub time: DateTime<Utc>,
    /// Its digests were compared.
    pub compared: bool,
    pub new_stream_time: Option<DateTime<Utc>>,
    pub new_stream_count: i32,
}

/// Writes heartbeats of nodes that are locked. One that arrived after its node
/// was retired brings it back.
///
/// # Errors
/// The statement fails.
pub async fn save_in_txn(connection: &mut AsyncPgConnection, heard: &[Heard<'_>]) -> QueryResult<()> {
    if heard.is_empty() {
        return Ok(());
    }
    let beats = || heard.iter().map(|heard| heard.beat);
    let update = Sql::new(
        "UPDATE node SET cluster = beat.cluster, display_name = beat.display_name, stream = beat.stream, \
         agent_version = beat.agent_version, heartbeat_interval_seconds = beat.interval, \
         last_sequence = beat.last_sequence, outbox_batches = beat.outbox_batches, heartbeat_time = beat.time, \
         identity_conflict_time = CASE WHEN identity_conflict THEN beat.time ELSE identity_conflict_time END, \
         compare_time = CASE WHEN is_compared THEN beat.time ELSE compare_time END, \
         compare_stream = CASE WHEN is_compared THEN beat.stream ELSE compare_stream END, \
         compare_sequence = CASE WHEN is_compared THEN beat.last_sequence ELSE compare_sequence END, \
         new_stream_time = beat.new_stream_time, new_stream_count = beat.new_stream_count, \
         retire_time = CASE WHEN beat.time > retire_time THEN NULL ELSE retire_time END FROM unnest(",
    )
    .binds([
        Bind::Uuids(beats().map(|beat| beat.uid).collect()),
        Bind::Texts(beats().map(|beat| beat.cluster.clone()).collect()),
        Bind::Texts(beats().map(|beat| beat.display_name.clone()).collect()),
        Bind::Uuids(beats().map(|beat| beat.stream).collect()),
        Bind::Texts(beats().map(|beat| beat.agent_version.clone()).collect()),
        Bind::Integers(beats().map(|beat| beat.interval_seconds).collect()),
        Bind::BigInts(beats().map(|beat| beat.last_sequence).collect()),
        Bind::BigInts(beats().map(|beat| beat.outbox_batches).collect()),
        Bind::Times(heard.iter().map(|heard| Some(heard.time)).collect()),
        Bind::Bools(beats().map(|beat| beat.identity_conflict).collect()),
        Bind::Bools(heard.iter().map(|heard| heard.compared).collect()),
        Bind::Times(heard.iter().map(|heard| heard.new_stream_time).collect()),
        Bind::Integers(heard.iter().map(|heard| heard.new_stream_count).collect()),
    ])
    .text(
        ") AS beat (uid, cluster, display_name, stream, agent_version, interval, last_sequence, \
         outbox_batches, time, identity_conflict, is_compared, new_stream_time, new_stream_count) \
         WHERE node.uid = beat.uid",
    );
    execute(connection, update).await.map(drop)
}
