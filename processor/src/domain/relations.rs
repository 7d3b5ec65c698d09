//! How the assets of a node relate: what agents report, and what follows from
//! other details. Pure.
//!
//! Whatever an asset relates to is on its own node, and its UUID follows from
//! kind and natural key. So all the assets of a node are all there is to know.

use std::collections::HashMap;

use contracts::v1::{AssetDetails, AssetKind, RelationType, asset_details::Details};
use kit::identity::asset_uid;
use uuid::Uuid;

/// Most assets that a walk finds.
pub const MAX_FOUND: usize = 10_000;

/// Kinds of which relations are read from other details than those that agents
/// report as relations.
pub const DERIVED: [AssetKind; 3] = [AssetKind::SystemdUnit, AssetKind::CronEntry, AssetKind::KernelModule];

/// A relation, read from the asset that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What it is to the other.
    pub relation: RelationType,
    /// The other, which may not be there.
    pub to: Uuid,
    /// What lies between them and is no asset itself.
    pub through: String,
}

/// The relations of an asset of a node; all but the one to the node itself.
pub fn edges(node: Uuid, details: &AssetDetails) -> Vec<Edge> {
    let mut edges = Vec::with_capacity(details.relations.len());
    for reported in &details.relations {
        // What this build does not know comes from a newer agent.
        let Ok(relation) = RelationType::try_from(reported.r#type) else { continue };
        let Ok(kind) = AssetKind::try_from(reported.kind) else { continue };
        let to = asset_uid(node, kind, &reported.natural_key);
        edges.push(Edge { relation, to, through: through(relation, details).to_owned() });
    }
    let mut derive = |relation, kind, natural_key: &str| {
        let to = asset_uid(node, kind, natural_key);
        edges.push(Edge { relation, to, through: String::new() });
    };
    match &details.details {
        // Without `User=` it may be root, or one made up as it starts.
        Some(Details::SystemdUnit(unit)) if !unit.user.is_empty() => {
            derive(RelationType::RunsAs, AssetKind::User, &unit.user);
        }
        Some(Details::CronEntry(entry)) => derive(RelationType::RunsAs, AssetKind::User, &entry.user),
        Some(Details::KernelModule(module)) => {
            for user in &module.used_by {
                derive(RelationType::UsedBy, AssetKind::KernelModule, user);
            }
        }
        _ => {}
    }
    edges
}

/// What is between an asset and what it relates to: processes and partitions
/// are no assets.
fn through(relation: RelationType, details: &AssetDetails) -> &str {
    match (&details.details, relation) {
        (Some(Details::ListeningSocket(socket)), RelationType::RunsIn | RelationType::InstalledBy) => {
            &socket.program
        }
        (Some(Details::Filesystem(filesystem)), RelationType::StoredOn) => &filesystem.source,
        (Some(Details::Swap(area)), RelationType::StoredOn) => &area.path,
        _ => "",
    }
}

/// Which way relations are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// From the asset that has it.
    pub outgoing: bool,
    /// To the asset that has it.
    pub incoming: bool,
}

/// What a walk follows.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Where it begins.
    pub start: Uuid,
    /// Which way.
    pub direction: Direction,
    /// Which relations; all if there are none.
    pub types: Vec<RelationType>,
    /// Most steps.
    pub depth: usize,
}

/// One step along a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The relation.
    pub relation: RelationType,
    /// Whether it was followed back.
    pub back: bool,
    /// What it led to.
    pub to: Uuid,
    /// See [`Edge::through`].
    pub through: String,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The assets, each once, the nearest first.
    pub assets: Vec<Reached>,
    /// Whether there are more.
    pub cut: bool,
}

/// An asset that a walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The steps to it; the last one leads to it.
    pub path: Vec<Step>,
}

impl Reached {
    /// The asset.
    pub fn asset(&self) -> Option<Uuid> {
        self.path.last().map(|step| step.to)
    }
}

/// An asset that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its kind.
    pub kind: i16,
    /// Its display name.
    pub display_name: String,
}

/// The assets of a node and their relations.
#[derive(Debug)]
pub struct Graph {
    node: Uuid,
    members: HashMap<Uuid, Member>,
    outgoing: HashMap<Uuid, Vec<Edge>>,
    /// Of each asset, who has a relation to it: as an edge back.
    incoming: HashMap<Uuid, Vec<Edge>>,
}

impl Graph {
    /// A node without assets.
    pub fn new(node: Uuid) -> Self {
        Self { node, members: HashMap::new(), outgoing: HashMap::new(), incoming: HashMap::new() }
    }

    /// Adds an asset, with its details if relations may be in them.
    pub fn add(&mut self, asset: Uuid, member: Member, details: Option<&AssetDetails>) {
        self.members.insert(asset, member);
        let Some(details) = details else { return };
        let edges = edges(self.node, details);
        for edge in &edges {
            self.incoming.entry(edge.to).or_default().push(Edge { to: asset, ..edge.clone() });
        }
        if !edges.is_empty() {
            self.outgoing.insert(asset, edges);
        }
    }

    /// One that was added.
    pub fn member(&self, asset: Uuid) -> Option<&Member> {
        self.members.get(&asset)
    }

    /// Goes from an asset to all within some steps, breadth first. What is not
    /// there is not walked through, nor the node, which leads everywhere.
    pub fn walk(&self, walk: &Walk) -> Found {
        let mut from: HashMap<Uuid, (Uuid, Step)> = HashMap::new();
        let mut order: Vec<Uuid> = Vec::new();
        let mut front = vec![walk.start];
        let mut cut = false;
        'walk: for _ in 0..walk.depth {
            let mut next = Vec::new();
            for &asset in &front {
                if asset == self.node && asset != walk.start {
                    continue;
                }
                for step in self.steps(asset, walk) {
                    if step.to == walk.start || from.contains_key(&step.to) {
                        continue;
                    }
                    if order.len() == MAX_FOUND {
                        cut = true;
                        break 'walk;
                    }
                    next.push(step.to);
                    order.push(step.to);
                    from.insert(step.to, (asset, step));
                }
            }
            front = next;
        }
        let mut assets: Vec<Reached> = order.iter().map(|asset| path(*asset, &from)).collect();
        assets.sort_by(|one, other| self.place(one).cmp(&self.place(other)));
        Found { assets, cut }
    }

    /// Where an asset stands among those found: by distance, name and UUID.
    fn place<'a>(&'a self, reached: &Reached) -> (usize, &'a str, Option<Uuid>) {
        let asset = reached.asset();
        let name = asset.and_then(|asset| self.members.get(&asset)).map_or("", |member| &member.display_name);
        (reached.path.len(), name, asset)
    }

    /// The steps from an asset to others that are there, in an order that does not
    /// depend on that of the rows.
    fn steps(&self, asset: Uuid, walk: &Walk) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut add = |relation: RelationType, back, to, through: &str| {
            let wanted = walk.types.is_empty() || walk.types.contains(&relation);
            if wanted && to != asset && self.members.contains_key(&to) {
                steps.push(Step { relation, back, to, through: through.to_owned() });
            }
        };
        for (wanted, back, edges) in [
            (walk.direction.outgoing, false, &self.outgoing),
            (walk.direction.incoming, true, &self.incoming),
        ] {
            for edge in edges.get(&asset).filter(|_| wanted).into_iter().flatten() {
                add(edge.relation, back, edge.to, &edge.through);
            }
        }
        if walk.direction.outgoing && asset != self.node {
            add(RelationType::BelongsTo, false, self.node, "");
        }
        if walk.direction.incoming && asset == self.node {
            for member in self.members.keys() {
                add(RelationType::BelongsTo, true, *member, "");
            }
        }
        steps.sort_by_key(|step| (step.relation as i32, step.back, step.to));
        steps
    }
}

fn path(asset: Uuid, from: &HashMap<Uuid, (Uuid, Step)>) -> Reached {
    let mut path = Vec::new();
    let mut at = asset;
    while let Some((before, step)) = from.get(&at) {
        path.push(step.clone());
        at = *before;
    }
    path.reverse();
    Reached { path }
}

#[cfg(test)]
mod tests;
