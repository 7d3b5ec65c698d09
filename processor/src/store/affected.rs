//! Packages by name and version: those of nodes in `asset`, those of images in
//! `image_package`.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bool, Bytea, Integer, Nullable, SmallInt, Text, Uuid as Uid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    image::{PackageRow, Place},
    sql::{Bind, Sql, load},
};

/// A version that packages of a name have.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct VersionRow {
    #[diesel(sql_type = Text)]
    pub manager: String,
    /// Whether the package has the name itself, not its source package alone.
    #[diesel(sql_type = Bool)]
    pub by_name: bool,
    #[diesel(sql_type = Text)]
    pub version: String,
    #[diesel(sql_type = Text)]
    pub source_version: String,
}

/// The columns of [`VersionRow`] of a package of a node; before and after the
/// name. The display name of a package is its name.
const OF_NODE: &str = "coalesce(attributes #>> '{details,package,manager}', ''), display_name = ";
const OF_NODE_AFTER: &str = ", coalesce(attributes #>> '{details,package,version}', ''), \
     coalesce(attributes #>> '{details,package,source_version}', '')";

fn name(package: &str) -> Bind {
    Bind::Text(package.to_owned())
}

/// Condition: packages on nodes that have this name, or were built from a source
/// package that has. As the indexes `asset_by_kind` and `asset_by_source_package`
/// want it, and nothing more, as the planner would take it for very rare.
fn on_nodes(package: &str) -> Sql {
    Sql::new("asset.kind = 5 AND asset.state = 1 AND asset.delete_time IS NULL AND (asset.display_name = ")
        .bind(name(package))
        .text(" OR asset.source_package = ")
        .bind(name(package))
        .text(")")
}

/// The same in the lists of images that are complete. What has 200 characters
/// may be cut, and no name that is asked for has.
fn in_images(package: &str) -> Sql {
    Sql::new("image_content.complete_time IS NOT NULL AND (left(image_package.package, 200) = ")
        .bind(name(package))
        .text(" OR image_package.source <> '' AND left(image_package.source, 200) = ")
        .bind(name(package))
        .text(")")
}

/// The versions that packages of this name, or of this source package, have
/// anywhere; at most `limit`.
///
/// # Errors
/// The query fails.
pub async fn versions(
    connection: &mut AsyncPgConnection,
    package: &str,
    limit: i64,
) -> QueryResult<Vec<VersionRow>> {
    let query = Sql::new("SELECT manager, by_name, version, source_version FROM (SELECT ")
        .text(OF_NODE)
        .bind(name(package))
        .text(OF_NODE_AFTER)
        .text(" FROM asset WHERE ")
        .then(on_nodes(package))
        .text(" UNION SELECT manager, package = ")
        .bind(name(package))
        .text(
            ", version, image_package.source_version FROM image_package JOIN image_content \
             ON image_content.id = image_package.content_id WHERE ",
        )
        .then(in_images(package))
        .text(") AS one (manager, by_name, version, source_version) LIMIT ")
        .bind(Bind::BigInt(limit));
    load(connection, query).await
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of the package or of its source package.
    pub package: String,
    /// The versions that are affected.
    pub versions: Vec<VersionRow>,
    /// `PackagePlace`s to look in.
    pub places: Vec<i16>,
}

/// `PACKAGE_PLACE_NODE`; the others are in images.
const ON_NODE: i16 = 1;

impl Wanted {
    fn looks_in_images(&self) -> bool {
        self.places.iter().any(|place| *place != ON_NODE)
    }
}

/// A node that may have something affected.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct NodeRow {
    #[diesel(sql_type = Uid)]
    pub uid: Uuid,
    #[diesel(sql_type = Text)]
    pub display_name: String,
}

/// Where rows end: node by name and UUID, place, asset, place in the list of an
/// image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Key {
    pub node_display_name: String,
    pub node: Uuid,
    pub place: i16,
    pub asset: Uuid,
    pub package: Place,
}

impl Key {
    /// After all rows of a node.
    pub fn end_of(node: &NodeRow) -> Self {
        Self {
            node_display_name: node.display_name.clone(),
            node: node.uid,
            place: i16::MAX,
            asset: Uuid::max(),
            package: (i64::MAX, i32::MAX, i32::MAX),
        }
    }
}

/// CTEs: `wanted` versions, and `hit`: such packages in images.
fn with(wanted: &Wanted) -> Sql {
    let versions = &wanted.versions;
    Sql::new("WITH wanted AS MATERIALIZED (SELECT * FROM unnest(")
        .binds([
            Bind::Texts(versions.iter().map(|one| one.manager.clone()).collect()),
            Bind::Bools(versions.iter().map(|one| one.by_name).collect()),
            Bind::Texts(versions.iter().map(|one| one.version.clone()).collect()),
            Bind::Texts(versions.iter().map(|one| one.source_version.clone()).collect()),
        ])
        .text(
            ") AS one (manager, by_name, version, source_version)), \
             hit AS MATERIALIZED (SELECT image.digest, image_package.content_id, image_package.part, \
             image_package.place FROM image_package \
             JOIN image_content ON image_content.id = image_package.content_id \
             JOIN image ON image.uid = image_content.image_uid WHERE ",
        )
        .text(if wanted.looks_in_images() { "" } else { "false AND " })
        .then(in_images(&wanted.package))
        .text(" AND (image_package.manager, image_package.package = ")
        .bind(name(&wanted.package))
        .text(", image_package.version, image_package.source_version) IN (SELECT * FROM wanted))")
}

/// Condition: packages on nodes that are wanted.
fn installed(wanted: &Wanted) -> Sql {
    Sql::new(if wanted.places.contains(&ON_NODE) { "" } else { "false AND " })
        .then(on_nodes(&wanted.package))
        .text(" AND (")
        .text(OF_NODE)
        .bind(name(&wanted.package))
        .text(OF_NODE_AFTER)
        .text(") IN (SELECT * FROM wanted)")
}

#[derive(QueryableByName)]
struct CandidateRow {
    #[diesel(sql_type = Uid)]
    node_uid: Uuid,
}

/// The nodes of packages and images that are wanted; none if these are more than
/// `most`, which are too many to look at for a page.
///
/// # Errors
/// The query fails.
pub async fn candidates(
    connection: &mut AsyncPgConnection,
    wanted: &Wanted,
    most: usize,
) -> QueryResult<Option<Vec<Uuid>>> {
    let query = with(wanted)
        .text(" SELECT node_uid FROM (SELECT node_uid FROM asset WHERE ")
        .then(installed(wanted))
        .text(
            " UNION ALL SELECT asset.node_uid FROM (SELECT DISTINCT digest FROM hit) AS digest \
             JOIN asset ON asset.kind = 28 AND asset.natural_key = digest.digest \
             WHERE asset.state = 1 AND asset.delete_time IS NULL) AS one LIMIT ",
        )
        .bind(Bind::BigInt(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1)));
    let rows: Vec<CandidateRow> = load(connection, query).await?;
    if rows.len() > most {
        return Ok(None);
    }
    Ok(Some(rows.into_iter().map(|row| row.node_uid).collect()))
}

/// Nodes by name and UUID, from that of a key on; of all or of some.
///
/// # Errors
/// The query fails.
pub async fn nodes(
    connection: &mut AsyncPgConnection,
    of: Option<&[Uuid]>,
    from: Option<&Key>,
    limit: i64,
) -> QueryResult<Vec<NodeRow>> {
    let mut query = Sql::new("SELECT uid, display_name FROM node WHERE true");
    if let Some(of) = of {
        query = query.text(" AND uid = ANY(").bind(Bind::Uuids(of.to_vec())).text(")");
    }
    if let Some(key) = from {
        query = query
            .text(" AND (display_name, uid) >= (")
            .binds([Bind::Text(key.node_display_name.clone()), Bind::Uuid(key.node)])
            .text(")");
    }
    load(connection, query.text(" ORDER BY display_name, uid LIMIT ").bind(Bind::BigInt(limit))).await
}

/// An affected package in one place.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct AffectedRow {
    #[diesel(sql_type = Uid)]
    pub node_uid: Uuid,
    #[diesel(sql_type = Text)]
    pub node_display_name: String,
    /// `PackagePlace`.
    #[diesel(sql_type = SmallInt)]
    pub place: i16,
    #[diesel(sql_type = Uid)]
    pub asset_uid: Uuid,
    #[diesel(sql_type = SmallInt)]
    pub kind: i16,
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// Empty for a package of the node.
    #[diesel(sql_type = Text)]
    pub digest: String,
    /// Place in the list of the image.
    #[diesel(sql_type = BigInt)]
    pub content_id: i64,
    #[diesel(sql_type = Integer)]
    pub part: i32,
    #[diesel(sql_type = Integer)]
    pub seat: i32,
    /// Of a package of the node.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub details: Option<Vec<u8>>,
}

impl AffectedRow {
    /// Where it stands among all.
    pub fn key(&self) -> Key {
        Key {
            node_display_name: self.node_display_name.clone(),
            node: self.node_uid,
            place: self.place,
            asset: self.asset_uid,
            package: (self.content_id, self.part, self.seat),
        }
    }
}

/// What is affected on these nodes, after a key. Their images and containers are
/// read node by node.
///
/// # Errors
/// The query fails.
pub async fn rows(
    connection: &mut AsyncPgConnection,
    wanted: &Wanted,
    nodes: &[Uuid],
    after: Option<&Key>,
    limit: i64,
) -> QueryResult<Vec<AffectedRow>> {
    let nodes = || Bind::Uuids(nodes.to_vec());
    let mut query = with(wanted)
        .text(", image_of AS MATERIALIZED (SELECT uid, node_uid, natural_key AS digest FROM asset WHERE kind = 28 \
             AND state = 1 AND delete_time IS NULL AND node_uid = ANY(")
        .bind(nodes())
        .text(
            ")), container AS MATERIALIZED (SELECT uid, node_uid, \
             attributes #>> '{details,container,image_digest}' AS digest FROM asset WHERE kind = 27 \
             AND state = 1 AND delete_time IS NULL AND node_uid = ANY(",
        )
        .bind(nodes())
        .text(
            ")) SELECT one.*, node.display_name AS node_display_name, asset.kind, asset.display_name, \
             CASE WHEN one.place = 1 THEN asset.details END AS details FROM (\
             SELECT node_uid, 1::smallint AS place, uid AS asset_uid, '' AS digest, 0::bigint AS content_id, \
             0 AS part, 0 AS seat FROM asset WHERE asset.node_uid = ANY(",
        )
        .bind(nodes())
        .text(") AND ")
        .then(installed(wanted))
        .text(
            " UNION ALL SELECT container.node_uid, 2::smallint, container.uid, hit.digest, hit.content_id, \
             hit.part, hit.place FROM container JOIN hit ON hit.digest = container.digest \
             UNION ALL SELECT image_of.node_uid, 3::smallint, image_of.uid, hit.digest, hit.content_id, \
             hit.part, hit.place FROM image_of JOIN hit ON hit.digest = image_of.digest \
             WHERE NOT EXISTS (SELECT FROM container WHERE container.node_uid = image_of.node_uid \
             AND container.digest = image_of.digest)\
             ) AS one JOIN node ON node.uid = one.node_uid JOIN asset ON asset.uid = one.asset_uid \
             WHERE one.place = ANY(",
        )
        .bind(Bind::SmallInts(wanted.places.clone()))
        .text(")");
    if let Some(key) = after {
        let (content, part, seat) = key.package;
        query = query
            .text(
                " AND (node.display_name, one.node_uid, one.place, one.asset_uid, one.content_id, one.part, \
                 one.seat) > (",
            )
            .binds([
                Bind::Text(key.node_display_name.clone()),
                Bind::Uuid(key.node),
                Bind::SmallInt(key.place),
                Bind::Uuid(key.asset),
                Bind::BigInt(content),
                Bind::Integer(part),
                Bind::Integer(seat),
            ])
            .text(")");
    }
    let query = query
        .text(
            " ORDER BY node.display_name, one.node_uid, one.place, one.asset_uid, one.content_id, one.part, \
             one.seat LIMIT ",
        )
        .bind(Bind::BigInt(limit));
    load(connection, query).await
}

/// A package in the list of an image.
#[derive(Clone, Debug, QueryableByName)]
#[allow(missing_docs)]
pub struct ListedRow {
    #[diesel(sql_type = BigInt)]
    pub content_id: i64,
    #[diesel(embed)]
    pub package: PackageRow,
}

/// Reads packages by their places in lists of images.
///
/// # Errors
/// The query fails.
pub async fn packages(connection: &mut AsyncPgConnection, places: &[Place]) -> QueryResult<Vec<ListedRow>> {
    let query =
        Sql::new("SELECT * FROM image_package WHERE (content_id, part, place) IN (SELECT * FROM unnest(")
            .binds([
                Bind::BigInts(places.iter().map(|(content, ..)| *content).collect()),
                Bind::Integers(places.iter().map(|(_, part, _)| *part).collect()),
                Bind::Integers(places.iter().map(|(.., place)| *place).collect()),
            ])
            .text("))");
    load(connection, query).await
}
