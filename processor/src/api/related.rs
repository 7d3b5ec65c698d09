//! AssetService.ListRelatedAssets.

use std::collections::HashMap;

use contracts::v1::{
    AssetDetails, AssetKind, ListRelatedAssetsRequest, ListRelatedAssetsResponse, RelatedAsset,
    RelationDirection, RelationStep, RelationType,
};
use kit::{identity::Collection, status::invalid_field};
use prost::Message as _;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{Api, asset::missing, convert, errors, request, task::in_task};
use crate::{
    domain::{
        page_token::TokenError,
        relations::{DERIVED, Direction, Found, Graph, Member, Reached, Step, Walk},
    },
    store::{
        asset::{self, AssetRow},
        related,
    },
};

const MAX_DEPTH: i32 = 5;
const MAX_TYPES: usize = 32;
const MAX_KINDS: usize = 64;
/// Most assets of a node that are looked at.
const MAX_MEMBERS: i64 = 20_000;

/// Where a page ended, as in its token: distance, display name, UUID.
type Place = (usize, String, Uuid);

/// What was asked for, checked.
struct Question {
    walk: Walk,
    kinds: Vec<i16>,
    page: usize,
    after: Option<Place>,
}

impl Api {
    pub(super) async fn related(
        &self,
        request: Request<ListRelatedAssetsRequest>,
    ) -> Result<ListRelatedAssetsResponse, Status> {
        let request = request.into_inner();
        // All but the page: another question has other tokens.
        let asked =
            format!("{:?} {:?} {:?} {}", request.direction, request.types, request.kinds, request.depth);
        let question = ["related", &request.parent, &asked];
        let after = self.tokens.open(&request.page_token, &question, 3).map_err(errors::token)?;
        let Question { walk, kinds, page, after } = read(&request, after)?;

        let api = self.clone();
        let answer = in_task(async move {
            let mut connection = api.connection().await?;
            let mut transaction = connection.build_transaction().read_only().repeatable_read();
            // One snapshot: what the walk found is there when it is read.
            let read = transaction.run(async |connection| {
                let Some((start, ..)) = asset::get(connection, walk.start).await? else { return Ok(None) };
                let (graph, cut) = graph_of(connection, start).await?;
                let mut found = graph.walk(&walk);
                found.cut |= cut;
                found.assets.retain(|reached| kinds.is_empty() || kinds.contains(&kind(&graph, reached)));
                let total = found.assets.len();
                let (names, more) = cut_page(&graph, &mut found, after, page);
                let uids: Vec<Uuid> = found.assets.iter().filter_map(Reached::asset).collect();
                let rows = related::assets(connection, &uids).await?;
                Ok(Some((found, names, more, total, rows)))
            });
            let read: Result<_, diesel::result::Error> = read.await;
            read.map_err(|error| errors::query(&error))?.ok_or_else(|| missing(walk.start))
        });
        let (found, last, more, total, rows) = answer.await?;
        let next_page_token = match last.filter(|_| more) {
            Some((distance, name, uid)) => {
                self.tokens.issue(&question, vec![distance.to_string(), name, uid.to_string()])
            }
            None => String::new(),
        };
        let mut assets: HashMap<Uuid, _> = rows.into_iter().map(|row| (row.0.uid, row)).collect();
        let related = |reached: &Reached| {
            let row = reached.asset().and_then(|uid| assets.remove(&uid));
            RelatedAsset {
                asset: row.map(convert::asset),
                distance: i32::try_from(reached.path.len()).unwrap_or(i32::MAX),
                path: reached.path.iter().map(step).collect(),
            }
        };
        Ok(ListRelatedAssetsResponse {
            related_assets: found.assets.iter().map(related).collect(),
            next_page_token,
            total_size: i32::try_from(total).unwrap_or(i32::MAX),
            truncated: found.cut,
        })
    }
}

fn read(request: &ListRelatedAssetsRequest, after: Option<Vec<String>>) -> Result<Question, Status> {
    let start = request::name("parent", &request.parent, Collection::Assets)?;
    let page = request::page_size(request.page_size)?;
    let direction = match RelationDirection::try_from(request.direction) {
        Ok(RelationDirection::Unspecified | RelationDirection::Both) => {
            Direction { outgoing: true, incoming: true }
        }
        Ok(RelationDirection::Outgoing) => Direction { outgoing: true, incoming: false },
        Ok(RelationDirection::Incoming) => Direction { outgoing: false, incoming: true },
        Err(_) => {
            let problem = format!("{} is no direction", request.direction);
            return Err(invalid_field("direction", "INVALID_FIELD", problem));
        }
    };
    at_most("types", request.types.len(), MAX_TYPES)?;
    let mut types = Vec::with_capacity(request.types.len());
    for (index, number) in request.types.iter().enumerate() {
        match RelationType::try_from(*number) {
            Ok(relation) if relation != RelationType::Unspecified => types.push(relation),
            _ => return Err(no_value("types", index, *number, "type of relation")),
        }
    }
    at_most("kinds", request.kinds.len(), MAX_KINDS)?;
    let mut kinds = Vec::with_capacity(request.kinds.len());
    for (index, number) in request.kinds.iter().enumerate() {
        match (AssetKind::try_from(*number), i16::try_from(*number)) {
            (Ok(kind), Ok(number)) if kind != AssetKind::Unspecified => kinds.push(number),
            _ => return Err(no_value("kinds", index, *number, "kind of asset")),
        }
    }
    let depth = match request.depth {
        0 => 1,
        1..=MAX_DEPTH => usize::try_from(request.depth).unwrap_or(1),
        depth => {
            let problem = format!("{depth} is not 1 to {MAX_DEPTH}");
            return Err(invalid_field("depth", "INVALID_FIELD", problem));
        }
    };
    Ok(Question { walk: Walk { start, direction, types, depth }, kinds, page, after: place(after)? })
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), Status> {
    if count > most {
        return Err(invalid_field(field, "INVALID_FIELD", format!("are {count}, at most {most} may be")));
    }
    Ok(())
}

fn no_value(field: &str, index: usize, number: i32, what: &str) -> Status {
    invalid_field(&format!("{field}[{index}]"), "INVALID_FIELD", format!("{number} is no {what}"))
}

fn place(after: Option<Vec<String>>) -> Result<Option<Place>, Status> {
    let Some(after) = after else { return Ok(None) };
    let foreign = || errors::token(TokenError::Foreign);
    let [distance, name, uid] = <[String; 3]>::try_from(after).map_err(|_| foreign())?;
    match (distance.parse(), uid.parse()) {
        (Ok(distance), Ok(uid)) => Ok(Some((distance, name, uid))),
        _ => Err(foreign()),
    }
}

/// The assets of the node of one, and whether there are more.
async fn graph_of(
    connection: &mut diesel_async::AsyncPgConnection,
    start: AssetRow,
) -> diesel::QueryResult<(Graph, bool)> {
    // What people created is on no node, and relates to nothing.
    let Some(node) = start.node_uid else { return Ok((Graph::new(start.uid), false)) };
    let mut graph = Graph::new(node);
    let mut rows = related::members(connection, node, &DERIVED, MAX_MEMBERS + 1).await?;
    let cut = rows.len() > usize::try_from(MAX_MEMBERS).unwrap_or(usize::MAX);
    rows.truncate(usize::try_from(MAX_MEMBERS).unwrap_or(usize::MAX));
    for row in rows.into_iter().filter(|row| row.uid != start.uid) {
        let details = decode(row.details.as_deref());
        graph.add(row.uid, Member { kind: row.kind, display_name: row.display_name }, details.as_ref());
    }
    // It may not be ACTIVE, and is walked from all the same.
    let details = decode(start.details.as_deref());
    graph.add(start.uid, Member { kind: start.kind, display_name: start.display_name }, details.as_ref());
    Ok((graph, cut))
}

/// What cannot be decoded was checked before it was stored.
fn decode(details: Option<&[u8]>) -> Option<AssetDetails> {
    details.and_then(|details| AssetDetails::decode(details).ok())
}

fn kind(graph: &Graph, reached: &Reached) -> i16 {
    reached.asset().and_then(|asset| graph.member(asset)).map_or(0, |member| member.kind)
}

/// Leaves one page, and tells where it ends and whether there is a next one.
fn cut_page(graph: &Graph, found: &mut Found, after: Option<Place>, page: usize) -> (Option<Place>, bool) {
    let place = |reached: &Reached| {
        let uid = reached.asset()?;
        Some((reached.path.len(), graph.member(uid)?.display_name.clone(), uid))
    };
    if let Some(after) = after {
        found.assets.retain(|reached| place(reached).is_some_and(|place| place > after));
    }
    let more = found.assets.len() > page;
    found.assets.truncate(page);
    (found.assets.last().and_then(place), more)
}

fn step(step: &Step) -> RelationStep {
    let direction = if step.back { RelationDirection::Incoming } else { RelationDirection::Outgoing };
    RelationStep {
        r#type: step.relation.into(),
        direction: direction.into(),
        asset: Collection::Assets.name(step.to),
        through: step.through.clone(),
    }
}
