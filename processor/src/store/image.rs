//! The tables `image`, `image_content` and `image_package`: what is in container
//! images.

use std::ops::Bound;

use chrono::{DateTime, Utc};
use contracts::v1::PackageDetails;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bytea, Integer, Multirange, Nullable, SmallInt, Text, Timestamptz, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::sql::{Bind, Sql, execute, load};
use crate::domain::image::{Complete, ListKey, Part};

/// Most lists of an image of which parts are missing; the oldest go first.
const MAX_INCOMPLETE: i64 = 16;

#[derive(QueryableByName)]
struct CompleteRow {
    #[diesel(sql_type = Uid)]
    image_uid: Uuid,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = SmallInt)]
    source: i16,
}

impl From<CompleteRow> for Complete {
    fn from(row: CompleteRow) -> Self {
        Self { image: row.image_uid, content: row.id, source: row.source }
    }
}

/// The complete lists of these images.
///
/// # Errors
/// The query fails.
pub async fn complete(connection: &mut AsyncPgConnection, images: &[Uuid]) -> QueryResult<Vec<Complete>> {
    let query = Sql::new(
        "SELECT image_uid, id, source FROM image_content WHERE complete_time IS NOT NULL AND image_uid = ANY(",
    )
    .bind(Bind::Uuids(images.to_vec()))
    .text(")");
    Ok(load::<CompleteRow>(connection, query).await?.into_iter().map(Complete::from).collect())
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Uid)]
    #[allow(dead_code)]
    uid: Uuid,
}

/// Locks the images, in order of their UUIDs, and makes those that are new: as
/// (UUID, digest), each once and sorted. Lists are written under this lock, which
/// comes after those of nodes and assets.
///
/// # Errors
/// A statement fails.
pub async fn lock_in_txn(connection: &mut AsyncPgConnection, images: &[(Uuid, String)]) -> QueryResult<()> {
    let uids: Vec<Uuid> = images.iter().map(|(uid, _)| *uid).collect();
    let insert = Sql::new(
        "INSERT INTO image (uid, digest, create_time) SELECT uid, digest, clock_timestamp() FROM unnest(",
    )
    .binds([
        Bind::Uuids(uids.clone()),
        Bind::Texts(images.iter().map(|(_, digest)| digest.clone()).collect()),
    ])
    .text(") AS new (uid, digest) ORDER BY uid ON CONFLICT (uid) DO NOTHING");
    execute(connection, insert).await?;
    let lock = Sql::new("SELECT uid FROM image WHERE uid = ANY(")
        .bind(Bind::Uuids(uids))
        .text(") ORDER BY uid FOR UPDATE");
    load::<Locked>(connection, lock).await.map(drop)
}

/// A list and the parts of it that are here.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its number.
    pub id: i64,
    /// Which list.
    pub key: ListKey,
    /// The parts that are here, as PostgreSQL keeps ranges: [from, to).
    pub received: Vec<(Bound<i32>, Bound<i32>)>,
}

#[derive(QueryableByName)]
struct ContentRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Uid)]
    image_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    source: i16,
    #[diesel(sql_type = Bytea)]
    content_hash: Vec<u8>,
    #[diesel(sql_type = Integer)]
    parts: i32,
    #[diesel(sql_type = Multirange<Integer>)]
    received: Vec<(Bound<i32>, Bound<i32>)>,
}

/// Makes the lists that are new, of locked images, and loads all of them.
///
/// # Errors
/// A statement fails.
pub async fn contents_in_txn(
    connection: &mut AsyncPgConnection,
    lists: &[ListKey],
) -> QueryResult<Vec<Content>> {
    let insert = Sql::new(
        "INSERT INTO image_content (image_uid, source, content_hash, parts, create_time) \
         SELECT image_uid, source, content_hash, parts, clock_timestamp() FROM unnest(",
    )
    .binds([
        Bind::Uuids(lists.iter().map(|list| list.image).collect()),
        Bind::SmallInts(lists.iter().map(|list| list.source).collect()),
        Bind::ByteStrings(lists.iter().map(|list| Some(list.content_hash.clone())).collect()),
        Bind::Integers(lists.iter().map(|list| list.parts).collect()),
    ])
    .text(") AS new (image_uid, source, content_hash, parts) ON CONFLICT DO NOTHING");
    execute(connection, insert).await?;
    let query = Sql::new(
        "SELECT id, image_uid, source, content_hash, parts, received FROM image_content WHERE image_uid = ANY(",
    )
    .bind(Bind::Uuids(lists.iter().map(|list| list.image).collect()))
    .text(")");
    let content = |row: ContentRow| Content {
        id: row.id,
        key: ListKey {
            image: row.image_uid,
            source: row.source,
            content_hash: row.content_hash,
            parts: row.parts,
        },
        received: row.received,
    };
    Ok(load::<ContentRow>(connection, query).await?.into_iter().map(content).collect())
}

/// Writes parts that are not here yet, each once, with the number of its list,
/// and answers which lists are complete by them.
///
/// # Errors
/// A statement fails.
pub async fn receive_parts_in_txn(
    connection: &mut AsyncPgConnection,
    parts: &[(i64, &Part)],
) -> QueryResult<Vec<Complete>> {
    let mut rows: Vec<(i64, i32, i32, &PackageDetails)> = Vec::new();
    for (content, part) in parts {
        for (place, package) in (1..).zip(&part.packages) {
            rows.push((*content, part.number, place, package));
        }
    }
    let texts = |field: fn(&PackageDetails) -> &String| {
        Bind::Texts(rows.iter().map(|(.., package)| field(package).clone()).collect())
    };
    let insert = Sql::new(
        "INSERT INTO image_package (content_id, part, place, package, version, architecture, manager, source, \
         source_version, maintainer, section, installed_size_bytes, status, summary, license, homepage) \
         SELECT * FROM unnest(",
    )
    .binds([
        Bind::BigInts(rows.iter().map(|(content, ..)| *content).collect()),
        Bind::Integers(rows.iter().map(|(_, part, ..)| *part).collect()),
        Bind::Integers(rows.iter().map(|(_, _, place, _)| *place).collect()),
        texts(|package| &package.package),
        texts(|package| &package.version),
        texts(|package| &package.architecture),
        texts(|package| &package.manager),
        texts(|package| &package.source),
        texts(|package| &package.source_version),
        texts(|package| &package.maintainer),
        texts(|package| &package.section),
        // What an image says of itself may be any number; PostgreSQL has no
        // unsigned ones.
        Bind::BigInts(
            rows.iter()
                .map(|(.., package)| i64::try_from(package.installed_size_bytes).unwrap_or(i64::MAX))
                .collect(),
        ),
        texts(|package| &package.status),
        texts(|package| &package.summary),
        texts(|package| &package.license),
        texts(|package| &package.homepage),
    ])
    .text(") ON CONFLICT DO NOTHING");
    if !rows.is_empty() {
        execute(connection, insert).await?;
    }
    let update = Sql::new(
        "UPDATE image_content SET received = image_content.received + new.ranges, complete_time = CASE \
         WHEN image_content.received + new.ranges @> int4range(1, image_content.parts, '[]') \
         THEN clock_timestamp() END \
         FROM (SELECT content_id, range_agg(int4range(part, part, '[]')) AS ranges FROM unnest(",
    )
    .binds([
        Bind::BigInts(parts.iter().map(|(content, _)| *content).collect()),
        Bind::Integers(parts.iter().map(|(_, part)| part.number).collect()),
    ])
    .text(
        ") AS one (content_id, part) GROUP BY content_id) AS new WHERE image_content.id = new.content_id \
         RETURNING image_content.image_uid, image_content.id, image_content.source, image_content.complete_time",
    );
    let rows: Vec<ReceivedRow> = load(connection, update).await?;
    let complete = rows.into_iter().filter(|row| row.complete_time.is_some());
    Ok(complete.map(|row| Complete { image: row.image_uid, content: row.id, source: row.source }).collect())
}

#[derive(QueryableByName)]
struct ReceivedRow {
    #[diesel(sql_type = Uid)]
    image_uid: Uuid,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = SmallInt)]
    source: i16,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    complete_time: Option<DateTime<Utc>>,
}

/// Drops lists of locked images that count no more: beside a complete one all
/// that could not take its place, and too many incomplete ones.
///
/// # Errors
/// A statement fails.
pub async fn drop_in_txn(
    connection: &mut AsyncPgConnection,
    images: &[Uuid],
    complete: &[Complete],
) -> QueryResult<()> {
    let beside = Sql::new("DELETE FROM image_content USING unnest(")
        .binds([
            Bind::Uuids(complete.iter().map(|one| one.image).collect()),
            Bind::BigInts(complete.iter().map(|one| one.content).collect()),
            Bind::SmallInts(complete.iter().map(|one| one.source).collect()),
        ])
        // The layers have the lower number.
        .text(
            ") AS stays (image_uid, id, source) WHERE image_content.image_uid = stays.image_uid \
             AND image_content.id <> stays.id AND image_content.source >= stays.source",
        );
    if !complete.is_empty() {
        execute(connection, beside).await?;
    }
    let surplus = Sql::new(
        "DELETE FROM image_content USING (SELECT id, row_number() OVER (PARTITION BY image_uid ORDER BY id DESC) \
         AS place FROM image_content WHERE complete_time IS NULL AND image_uid = ANY(",
    )
    .bind(Bind::Uuids(images.to_vec()))
    .text(")) AS old WHERE image_content.id = old.id AND old.place > ")
    .bind(Bind::BigInt(MAX_INCOMPLETE));
    execute(connection, surplus).await.map(drop)
}

/// The list of an image that counts: the complete one, else the one of which most
/// parts are here.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ListRow {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = SmallInt)]
    pub source: i16,
    #[diesel(sql_type = Integer)]
    pub parts: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub complete_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    pub received_parts: i64,
    #[diesel(sql_type = BigInt)]
    pub packages: i64,
}

/// A package in a list.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct PackageRow {
    #[diesel(sql_type = Integer)]
    pub part: i32,
    #[diesel(sql_type = Integer)]
    pub place: i32,
    #[diesel(sql_type = Text)]
    pub package: String,
    #[diesel(sql_type = Text)]
    pub version: String,
    #[diesel(sql_type = Text)]
    pub architecture: String,
    #[diesel(sql_type = Text)]
    pub manager: String,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub source_version: String,
    #[diesel(sql_type = Text)]
    pub maintainer: String,
    #[diesel(sql_type = Text)]
    pub section: String,
    #[diesel(sql_type = BigInt)]
    pub installed_size_bytes: i64,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Text)]
    pub summary: String,
    #[diesel(sql_type = Text)]
    pub license: String,
    #[diesel(sql_type = Text)]
    pub homepage: String,
}

/// Where a page of packages ended: list, part, place.
pub type Place = (i64, i32, i32);

/// Reads which list of an image counts and, if it is complete, a page of its
/// packages by name, architecture and version, after a place in it.
///
/// # Errors
/// A query fails.
pub async fn page(
    connection: &mut AsyncPgConnection,
    image: Uuid,
    after: Option<Place>,
    limit: i64,
) -> QueryResult<Option<(ListRow, Vec<PackageRow>)>> {
    // One snapshot: the list may be replaced at any time.
    let mut transaction = connection.build_transaction().read_only().repeatable_read();
    let read = transaction.run(async |connection| {
        let Some(list) = list_of(connection, image).await? else { return Ok(None) };
        let rows = match list.complete_time {
            Some(_) => packages_of(connection, list.id, after, limit).await?,
            None => Vec::new(),
        };
        Ok(Some((list, rows)))
    });
    read.await
}

async fn list_of(connection: &mut AsyncPgConnection, image: Uuid) -> QueryResult<Option<ListRow>> {
    let query = Sql::new(
        "SELECT id, source, parts, complete_time, \
         (SELECT coalesce(sum(upper(range) - lower(range)), 0) FROM unnest(received) AS range) AS received_parts, \
         (SELECT count(*) FROM image_package WHERE content_id = image_content.id) AS packages \
         FROM image_content WHERE image_uid = ",
    )
    .bind(Bind::Uuid(image))
    .text(" ORDER BY complete_time IS NULL, received_parts DESC, id LIMIT 1");
    Ok(load(connection, query).await?.pop())
}

async fn packages_of(
    connection: &mut AsyncPgConnection,
    content: i64,
    after: Option<Place>,
    limit: i64,
) -> QueryResult<Vec<PackageRow>> {
    let mut query = Sql::new("SELECT * FROM image_package WHERE content_id = ").bind(Bind::BigInt(content));
    if let Some((_, part, place)) = after {
        // Names out of images may be too long for a page token.
        query = query
            .text(
                " AND (package, architecture, version, part, place) > (SELECT package, architecture, version, \
                 part, place FROM image_package WHERE (content_id, part, place) = (",
            )
            .binds([Bind::BigInt(content), Bind::Integer(part), Bind::Integer(place)])
            .text("))");
    }
    let query = query.text(" ORDER BY package, architecture, version, part, place LIMIT ");
    load(connection, query.bind(Bind::BigInt(limit))).await
}

/// A package in an image.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct FoundRow {
    #[diesel(sql_type = BigInt)]
    pub content_id: i64,
    #[diesel(sql_type = Text)]
    pub digest: String,
    #[diesel(sql_type = SmallInt)]
    pub read_from: i16,
    #[diesel(sql_type = BigInt)]
    pub active_nodes: i64,
    #[diesel(embed)]
    pub package: PackageRow,
}

/// Finds a package by its exact name in all complete lists, by list, after a
/// place.
///
/// # Errors
/// The query fails.
pub async fn search(
    connection: &mut AsyncPgConnection,
    package: &str,
    after: Option<Place>,
    limit: i64,
) -> QueryResult<Vec<FoundRow>> {
    let name = || Bind::Text(package.to_owned());
    let mut query = Sql::new(
        "SELECT image_package.*, image.digest, image_content.source AS read_from, (SELECT count(*) FROM asset \
         WHERE asset.kind = 28 AND asset.natural_key = image.digest AND asset.state = 1) AS active_nodes \
         FROM image_package JOIN image_content ON image_content.id = image_package.content_id \
         JOIN image ON image.uid = image_content.image_uid \
         WHERE image_content.complete_time IS NOT NULL AND left(image_package.package, 200) = left(",
    )
    .bind(name())
    .text(", 200) AND image_package.package = ")
    .bind(name());
    if let Some((content, part, place)) = after {
        query = query
            .text(" AND (content_id, part, place) > (")
            .binds([Bind::BigInt(content), Bind::Integer(part), Bind::Integer(place)])
            .text(")");
    }
    load(connection, query.text(" ORDER BY content_id, part, place LIMIT ").bind(Bind::BigInt(limit))).await
}
