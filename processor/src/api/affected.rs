//! ImageService.SearchAffectedPackages.

use std::collections::HashMap;

use contracts::v1::{
    AffectedPackage, AssetDetails, PackageDetails, PackagePlace, SearchAffectedPackagesRequest,
    SearchAffectedPackagesResponse, VersionOrder, asset_details::Details,
};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use kit::{
    identity::Collection,
    status::{error, invalid_field},
};
use prost::Message as _;
use tonic::{Code, Request, Status};

use super::{Api, errors, image::details, request, task::in_task};
use crate::{
    domain::{
        affected::{Asked, Criteria, Package, Verdict},
        page_token::TokenError,
        version::Order,
    },
    store::{
        affected::{self, AffectedRow, Key, VersionRow, Wanted},
        image::Place,
    },
};

/// Most different versions that packages of one name may have.
const MAX_VERSIONS: usize = 10_000;
const MAX_PLACES: usize = 16;
/// Most packages and images that nodes are told by; with more, nodes are looked at
/// one after the other.
const MAX_CANDIDATES: usize = 2000;
/// Nodes that are looked at for a page, by rounds: few are enough where most are
/// affected. After the last it is answered short.
const ROUNDS: [i64; 6] = [8, 16, 32, 64, 128, 256];

/// A page of what is affected.
#[derive(Default)]
struct Page {
    rows: Vec<AffectedRow>,
    packages: HashMap<Place, PackageDetails>,
    /// Where the next one begins.
    next: Option<Key>,
}

enum Answer {
    Page(Page),
    TooManyVersions,
}

impl Api {
    pub(super) async fn affected(
        &self,
        request: Request<SearchAffectedPackagesRequest>,
    ) -> Result<SearchAffectedPackagesResponse, Status> {
        let request = request.into_inner();
        let criteria = criteria(&request)?;
        let places = places(&request.places)?;
        let page = request::page_size(request.page_size)?;
        let rest = format!("{} {places:?}", request.version_order);
        let question = [
            "affected",
            &request.package,
            &request.from_version,
            &request.below_version,
            &request.through_version,
            &request.exact_version,
            &rest,
        ];
        let after = key(self.tokens.open(&request.page_token, &question, 7).map_err(errors::token)?)?;

        let (api, asked) = (self.clone(), criteria.clone());
        let answer = in_task(async move {
            let mut connection = api.connection().await?;
            // One snapshot: lists of images may be replaced at any time.
            let mut transaction = connection.build_transaction().read_only().repeatable_read();
            let read: QueryResult<Answer> =
                transaction.run(async |connection| read(connection, &asked, places, after, page).await).await;
            read.map_err(|error| errors::query(&error))
        });
        let Answer::Page(found) = answer.await? else {
            let text = format!(
                "packages of the name have more than {MAX_VERSIONS} different versions; none is told"
            );
            return Err(error(Code::FailedPrecondition, "TOO_MANY_VERSIONS", text, &[]));
        };
        let next_page_token =
            found.next.as_ref().map(|next| self.tokens.issue(&question, parts(next))).unwrap_or_default();
        let told = |row| tell(&criteria, row, &found.packages);
        Ok(SearchAffectedPackagesResponse {
            affected_packages: found.rows.into_iter().map(told).collect(),
            next_page_token,
            version_orders: criteria.orders.iter().map(|order| order_number(*order)).collect(),
        })
    }
}

async fn read(
    connection: &mut AsyncPgConnection,
    criteria: &Criteria,
    places: Vec<i16>,
    mut after: Option<Key>,
    page: usize,
) -> QueryResult<Answer> {
    let most = i64::try_from(MAX_VERSIONS).unwrap_or(i64::MAX) + 1;
    let mut versions = affected::versions(connection, &criteria.package, most).await?;
    if versions.len() > MAX_VERSIONS {
        return Ok(Answer::TooManyVersions);
    }
    versions.retain(|row| criteria.judge(seen(row)).is_some());
    let mut found = Page::default();
    if versions.is_empty() {
        return Ok(Answer::Page(found));
    }
    let wanted = Wanted { package: criteria.package.clone(), versions, places };
    let candidates = affected::candidates(connection, &wanted, MAX_CANDIDATES).await?;
    let limit = request::limit(page);
    for nodes_at_once in ROUNDS {
        let nodes = affected::nodes(connection, candidates.as_deref(), after.as_ref(), nodes_at_once).await?;
        let uids: Vec<_> = nodes.iter().map(|node| node.uid).collect();
        let left = limit - i64::try_from(found.rows.len()).unwrap_or(limit);
        found.rows.extend(affected::rows(connection, &wanted, &uids, after.as_ref(), left).await?);
        let are_all = i64::try_from(nodes.len()).is_ok_and(|count| count < nodes_at_once);
        after = nodes.last().filter(|_| !are_all).map(Key::end_of);
        if found.rows.len() > page {
            found.rows.truncate(page);
            after = found.rows.last().map(AffectedRow::key);
            break;
        }
        if are_all {
            break;
        }
    }
    found.next = after;
    let in_images = found.rows.iter().filter(|row| !row.digest.is_empty());
    let places: Vec<Place> = in_images.map(|row| row.key().package).collect();
    for row in affected::packages(connection, &places).await? {
        let place = (row.content_id, row.package.part, row.package.place);
        found.packages.insert(place, details(row.package));
    }
    Ok(Answer::Page(found))
}

fn seen(row: &VersionRow) -> Package<'_> {
    Package {
        manager: &row.manager,
        by_name: row.by_name,
        version: &row.version,
        source_version: &row.source_version,
    }
}

fn tell(criteria: &Criteria, row: AffectedRow, packages: &HashMap<Place, PackageDetails>) -> AffectedPackage {
    let package = match packages.get(&row.key().package) {
        Some(package) if !row.digest.is_empty() => package.clone(),
        _ => package(row.details.as_deref()),
    };
    let verdict = criteria.judge(Package {
        manager: &package.manager,
        by_name: if row.digest.is_empty() { &row.display_name } else { &package.package }
            == &criteria.package,
        version: &package.version,
        source_version: &package.source_version,
    });
    // The same was found affected a moment ago.
    let Verdict { compared, order, incomparable } =
        verdict.unwrap_or(Verdict { compared: String::new(), order: None, incomparable: true });
    AffectedPackage {
        node: Collection::Nodes.name(row.node_uid),
        node_display_name: row.node_display_name,
        place: row.place.into(),
        asset: Collection::Assets.name(row.asset_uid),
        kind: row.kind.into(),
        asset_display_name: row.display_name,
        image_digest: row.digest,
        package: Some(package),
        compared_version: compared,
        version_order: order.map_or(0, order_number),
        incomparable,
    }
}

/// A package of a node. What cannot be decoded was checked before it was stored.
fn package(details: Option<&[u8]>) -> PackageDetails {
    match details.and_then(|details| AssetDetails::decode(details).ok()?.details) {
        Some(Details::Package(package)) => package,
        _ => PackageDetails::default(),
    }
}

fn criteria(request: &SearchAffectedPackagesRequest) -> Result<Criteria, Status> {
    let order = match VersionOrder::try_from(request.version_order) {
        Ok(VersionOrder::Unspecified) => None,
        Ok(VersionOrder::Debian) => Some(Order::Debian),
        Ok(VersionOrder::Rpm) => Some(Order::Rpm),
        Ok(VersionOrder::Apk) => Some(Order::Apk),
        Err(_) => {
            let problem = format!("{} is no order of versions", request.version_order);
            return Err(invalid_field("version_order", "INVALID_FIELD", problem));
        }
    };
    let asked = Asked {
        package: &request.package,
        from: &request.from_version,
        below: &request.below_version,
        through: &request.through_version,
        exact: &request.exact_version,
        order,
    };
    Criteria::new(&asked).map_err(|refused| invalid_field(refused.field, refused.reason, refused.problem))
}

fn order_number(order: Order) -> i32 {
    let order = match order {
        Order::Debian => VersionOrder::Debian,
        Order::Rpm => VersionOrder::Rpm,
        Order::Apk => VersionOrder::Apk,
    };
    order.into()
}

/// Where to look; everywhere if nothing is given.
fn places(places: &[i32]) -> Result<Vec<i16>, Status> {
    if places.len() > MAX_PLACES {
        let problem = format!("are {}, at most {MAX_PLACES} may be", places.len());
        return Err(invalid_field("places", "INVALID_FIELD", problem));
    }
    let mut known = Vec::with_capacity(places.len());
    for (index, number) in places.iter().enumerate() {
        match (PackagePlace::try_from(*number), i16::try_from(*number)) {
            (Ok(place), Ok(number)) if place != PackagePlace::Unspecified => known.push(number),
            _ => {
                let problem = format!("{number} is no place of packages");
                return Err(invalid_field(&format!("places[{index}]"), "INVALID_FIELD", problem));
            }
        }
    }
    if known.is_empty() {
        known.extend([1, 2, 3]);
    }
    known.sort_unstable();
    known.dedup();
    Ok(known)
}

fn parts(key: &Key) -> Vec<String> {
    let (content, part, seat) = key.package;
    vec![
        key.node_display_name.clone(),
        key.node.to_string(),
        key.place.to_string(),
        key.asset.to_string(),
        content.to_string(),
        part.to_string(),
        seat.to_string(),
    ]
}

fn key(parts: Option<Vec<String>>) -> Result<Option<Key>, Status> {
    let Some(parts) = parts else { return Ok(None) };
    let key = || {
        Some(Key {
            node_display_name: parts.first()?.clone(),
            node: parts.get(1)?.parse().ok()?,
            place: parts.get(2)?.parse().ok()?,
            asset: parts.get(3)?.parse().ok()?,
            package: (parts.get(4)?.parse().ok()?, parts.get(5)?.parse().ok()?, parts.get(6)?.parse().ok()?),
        })
    };
    key().map(Some).ok_or_else(|| errors::token(TokenError::Foreign))
}
