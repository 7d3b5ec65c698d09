//! One simulated agent: what it knows of its node, and the batches that tell of
//! it. The same settings give the same batches, whatever the network does. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use contracts::v1::{AssetKind, EventBatch, Heartbeat, NodeIdentity, Presence};
use kit::digest::Digest;
use kit::queue::SCHEMA_VERSION;
use prost::Message;
use uuid::Uuid;

use super::assets::{Asset, Place, asset, mix, node_name};
use super::corrupt::{FAULTS, corrupt};
use super::dice::Dice;
use super::pack::{Batch, Seen, hash_of};
use super::parcel::{Content, Observations, Parcel};

/// Of the changes of assets that are there, so many are departures.
const DEPARTURES: f64 = 0.08;
/// Most batches of its stream that overtake one that is late.
const REORDER_WINDOW: u32 = 4;
/// Identifiers have times from 2026-01-01T00:00:00Z on, in milliseconds: they
/// must be the same in each run.
const FIRST_MILLIS: u64 = 1_767_225_600_000;
/// What identifiers are drawn for.
const MESSAGES: u64 = 1;
const EVENTS: u64 = 2;
const STREAMS: u64 = 3;
const CHANCES: u64 = 4;
/// Changes of an agent that wait at most, as a share of its assets: an agent
/// that cannot send reports the newest state once it can, and not each change.
const MOST_DUE: u32 = 1;

/// What all agents of a fleet have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Assets of a node; 1 or more.
    pub assets: u32,
    /// Most observations of a batch; 1 to 500.
    pub batch_size: usize,
    /// Share of the batches that are sent twice.
    pub duplicate_rate: f64,
    /// Share of the batches that later ones of their stream overtake.
    pub reorder_rate: f64,
    /// Share of the batches that can never be applied.
    pub corrupt_rate: f64,
    /// Name of the cluster.
    pub cluster: String,
}

/// What was made up so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Batches that can be applied, each counted once.
    pub batches: u64,
    /// Those of them that are sent twice.
    pub duplicates: u64,
    /// Those of them that later ones overtake.
    pub reordered: u64,
    /// Messages that can never be applied.
    pub corrupted: u64,
    /// Observations of new or changed assets.
    pub present: u64,
    /// Observations of assets that are gone.
    pub absent: u64,
    /// Observations in full listings.
    pub listed: u64,
}

/// A kind of assets of one node.
#[derive(Clone, Debug)]
struct Kind {
    kind: AssetKind,
    /// Where its assets begin among those of the node.
    first: u32,
    count: u32,
    digest: Digest,
    /// Whether the digest has all its assets.
    counted: bool,
    /// Whether it was listed in this stream.
    known: bool,
}

/// A full listing under way.
#[derive(Clone, Copy, Debug)]
struct Listing {
    kind: usize,
    next: u32,
    /// Of the batch that it began with.
    first_sequence: Option<i64>,
}

/// What an asset has come to, in four bytes.
#[derive(Clone, Copy, Debug, Default)]
struct State(u32);

impl State {
    fn is_gone(self) -> bool {
        self.0 & 1 == 1
    }

    fn revision(self) -> u32 {
        self.0 >> 1
    }

    fn changed(self) -> Self {
        Self((self.revision().wrapping_add(1)) << 1)
    }

    fn gone(self) -> Self {
        Self(self.0 | 1)
    }
}

/// A simulated agent.
#[derive(Clone, Debug)]
pub struct Agent {
    plan: Arc<Plan>,
    number: u32,
    uid: Uuid,
    identity: NodeIdentity,
    streams: u64,
    stream: Uuid,
    sequence: i64,
    kinds: Vec<Kind>,
    states: Vec<State>,
    chances: Dice,
    listings: VecDeque<Listing>,
    rounds: u64,
    due: u32,
    /// Goes out after so many more.
    late: Option<(u32, Parcel)>,
    /// Go out next.
    ready: VecDeque<Parcel>,
    made: Made,
}

impl Agent {
    /// Agent number `number` of a fleet, from 0. It has told of nothing yet.
    pub fn new(plan: Arc<Plan>, number: u32) -> Self {
        let uid = kit::identity::node_uid(&plan.cluster, &format!("simulated {} {number}", plan.seed));
        let identity = NodeIdentity {
            uid: uid.to_string(),
            cluster: plan.cluster.clone(),
            display_name: node_name(number),
        };
        let mut kinds = Vec::new();
        let mut first = 0;
        for (kind, count) in mix(plan.assets) {
            let digest = Digest::default();
            kinds.push(Kind { kind, first, count, digest, counted: false, known: false });
            first += count;
        }
        let states = vec![State::default(); first as usize];
        let chances = Dice::of(&[plan.seed, CHANCES, u64::from(number)]);
        let mut agent = Self {
            plan,
            number,
            uid,
            identity,
            streams: 0,
            stream: Uuid::nil(),
            sequence: 0,
            kinds,
            states,
            chances,
            listings: VecDeque::new(),
            rounds: 0,
            due: 0,
            late: None,
            ready: VecDeque::new(),
            made: Made::default(),
        };
        agent.new_stream();
        agent
    }

    /// Begins a new stream, which begins with a listing of each kind.
    pub fn new_stream(&mut self) {
        self.streams += 1;
        self.stream = self.dice(STREAMS, 0).uuid();
        self.sequence = 0;
        self.listings.clear();
        for kind in &mut self.kinds {
            kind.known = false;
            if !kind.counted {
                kind.digest = Digest::default();
            }
        }
        self.resync(&[]);
    }

    /// Lists these kinds in full; all if there are none.
    pub fn resync(&mut self, kinds: &[AssetKind]) {
        for (place, one) in self.kinds.iter().enumerate() {
            let is_wanted = kinds.is_empty() || kinds.contains(&one.kind);
            if is_wanted && !self.listings.iter().any(|listing| listing.kind == place) {
                self.listings.push_back(Listing { kind: place, next: 0, first_sequence: None });
            }
        }
    }

    /// So many more batches of changes, each as large as a batch may be.
    pub fn change_rounds(&mut self, rounds: u64) {
        self.rounds += rounds;
    }

    /// So many more assets change.
    pub fn change(&mut self, assets: u32) {
        self.due = self.due.saturating_add(assets).min(self.plan.assets.saturating_mul(MOST_DUE));
    }

    /// Tells of all that is to be told already, to nobody.
    pub fn skip(&mut self) {
        while self.next().is_some() {}
        self.made = Made::default();
    }

    /// Begins nothing new; what is made up already still goes out.
    pub fn stop(&mut self) {
        self.listings.clear();
        (self.rounds, self.due) = (0, 0);
    }

    /// Number of the agent.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// UUID of its node.
    pub fn uid(&self) -> Uuid {
        self.uid
    }

    /// Name of its node for people.
    pub fn name(&self) -> &str {
        &self.identity.display_name
    }

    /// Its newest stream.
    pub fn stream(&self) -> Uuid {
        self.stream
    }

    /// Sequence of the newest batch of that; 0 for none.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// What it made up.
    pub fn made(&self) -> Made {
        self.made
    }

    /// What it knows of each kind.
    pub fn digests(&self) -> impl Iterator<Item = (AssetKind, Digest)> + '_ {
        self.kinds.iter().filter(|kind| kind.counted).map(|kind| (kind.kind, kind.digest))
    }

    /// Assets that are there, with their kinds.
    pub fn assets(&self) -> impl Iterator<Item = (AssetKind, Asset)> + '_ {
        self.kinds.iter().flat_map(move |kind| {
            (0..kind.count).filter_map(move |number| {
                let state = self.states[(kind.first + number) as usize];
                (!state.is_gone())
                    .then(|| (kind.kind, asset(self.place(kind.kind, number), state.revision())))
            })
        })
    }

    /// Whether there is something to send.
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || self.late.is_some() || self.has_news()
    }

    fn has_news(&self) -> bool {
        !self.listings.is_empty() || self.rounds > 0 || self.due > 0
    }

    /// What is to be sent next; not compressed yet.
    pub fn next(&mut self) -> Option<Parcel> {
        loop {
            if let Some(parcel) = self.ready.pop_front() {
                return Some(parcel);
            }
            if !self.has_news() || matches!(self.late, Some((0, _))) {
                if let Some((_, parcel)) = self.late.take() {
                    return Some(parcel);
                }
                return None;
            }
            if let Some((overtaken_by, _)) = &mut self.late {
                *overtaken_by -= 1;
            }
            if self.chances.happens(self.plan.corrupt_rate) {
                return Some(self.corrupted());
            }
            let parcel = self.batch();
            self.made.batches += 1;
            if self.chances.happens(self.plan.duplicate_rate) {
                self.made.duplicates += 1;
                self.ready.push_back(parcel.clone());
            }
            if self.late.is_none() && self.has_news() && self.chances.happens(self.plan.reorder_rate) {
                self.made.reordered += 1;
                self.late = Some((1 + self.chances.below(REORDER_WINDOW), parcel));
                continue;
            }
            return Some(parcel);
        }
    }

    /// A sign of life, with the digests as of the newest batch.
    pub fn heartbeat(&self, interval_seconds: u32, outbox_batches: u64, outbox_bytes: u64) -> Parcel {
        let known = self.kinds.iter().filter(|kind| kind.known);
        let heartbeat = Heartbeat {
            schema_version: SCHEMA_VERSION,
            node: Some(self.identity.clone()),
            stream: self.stream.to_string(),
            last_sequence: self.sequence,
            agent_version: format!("{} (simulated)", env!("CARGO_PKG_VERSION")),
            interval_seconds,
            outbox_batches,
            outbox_bytes,
            digests: known.map(|kind| kind.digest.of_kind(kind.kind)).collect(),
            identity_conflict: false,
        };
        Parcel {
            agent: self.number,
            node: self.uid,
            stream: self.stream,
            sequence: 0,
            message_id: Uuid::now_v7(),
            compressed: false,
            body: heartbeat.encode_to_vec(),
            content: Content::Heartbeat,
        }
    }

    fn place(&self, kind: AssetKind, number: u32) -> Place {
        Place { seed: self.plan.seed, node: self.number, kind, number }
    }

    /// What is drawn for something about a batch of the stream.
    fn dice(&self, what: u64, sequence: i64) -> Dice {
        Dice::of(&[self.plan.seed, what, u64::from(self.number), self.streams, sequence.cast_unsigned()])
    }

    fn millis(&self) -> u64 {
        // A new stream is a day later: more batches than that has none.
        FIRST_MILLIS + self.streams * 86_400_000 + self.sequence.cast_unsigned() * 10
    }

    fn parcel(&self, body: Vec<u8>, compressed: bool, content: Content) -> Parcel {
        Parcel {
            agent: self.number,
            node: self.uid,
            stream: self.stream,
            sequence: self.sequence,
            message_id: self.dice(MESSAGES, self.sequence).uuid_at(self.millis()),
            compressed,
            body,
            content,
        }
    }

    fn begin(&mut self, limit: usize) -> (Batch, Dice) {
        self.sequence += 1;
        let batch = Batch::new(&self.identity, self.stream, self.sequence, limit, kit::time::now());
        (batch, self.dice(EVENTS, self.sequence))
    }

    fn batch(&mut self) -> Parcel {
        if !self.listings.is_empty() {
            return self.list();
        }
        let limit = self.plan.batch_size.min(self.states.len());
        if self.rounds > 0 {
            self.rounds -= 1;
            return self.changes(limit);
        }
        let parcel = self.changes(limit.min(self.due as usize));
        if let Content::Batch(observations) = parcel.content {
            self.due = self.due.saturating_sub(observations.total().max(1));
        }
        parcel
    }

    /// As much of the listings as one batch takes.
    fn list(&mut self) -> Parcel {
        let (mut batch, mut events) = self.begin(self.plan.batch_size);
        let millis = self.millis();
        'batch: while let Some(mut listing) = self.listings.front().copied() {
            let first_sequence = *listing.first_sequence.get_or_insert(self.sequence);
            let Kind { kind, first, count, .. } = self.kinds[listing.kind];
            while listing.next < count {
                let state = self.states[(first + listing.next) as usize];
                if !state.is_gone() {
                    let asset = asset(self.place(kind, listing.next), state.revision());
                    let presence = Presence::Listed;
                    let seen = Seen { event_id: events.uuid_at(millis), presence, kind, asset: &asset };
                    let Some(hash) = batch.push(&seen) else {
                        self.listings[0] = listing;
                        break 'batch;
                    };
                    if !self.kinds[listing.kind].counted {
                        self.kinds[listing.kind].digest.add(&hash);
                    }
                }
                listing.next += 1;
            }
            if !batch.end_snapshot(kind, first_sequence, self.sequence) {
                self.listings[0] = listing;
                break;
            }
            let kind = &mut self.kinds[listing.kind];
            (kind.counted, kind.known) = (true, true);
            self.listings.pop_front();
        }
        let listed = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.made.listed += u64::from(listed);
        let content = Content::Batch(Observations { listed, ..Observations::default() });
        self.parcel(batch.into_bytes(), false, content)
    }

    /// Changes of neighbours, as an upgrade has them: of no asset twice.
    fn changes(&mut self, limit: usize) -> Parcel {
        let (mut batch, mut events) = self.begin(limit);
        let millis = self.millis();
        let all = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        let begin = self.chances.below(all);
        let mut observations = Observations::default();
        for step in 0..u32::try_from(limit).unwrap_or(u32::MAX) {
            let index = ((u64::from(begin) + u64::from(step)) % u64::from(all)) as u32;
            let of_kind = self.kinds.partition_point(|kind| kind.first <= index) - 1;
            let Kind { kind, first, .. } = self.kinds[of_kind];
            let place = self.place(kind, index - first);
            let state = self.states[index as usize];
            let departs = !state.is_gone() && kind != AssetKind::Node && self.chances.happens(DEPARTURES);
            let before = asset(place, state.revision());
            let (presence, next) =
                if departs { (Presence::Absent, state.gone()) } else { (Presence::Present, state.changed()) };
            let after = asset(place, next.revision());
            let seen = Seen { event_id: events.uuid_at(millis), presence, kind, asset: &after };
            let Some(hash) = batch.push(&seen) else { break };
            self.states[index as usize] = next;
            let digest = &mut self.kinds[of_kind].digest;
            if !state.is_gone() {
                digest.subtract(&hash_of(kind, &before));
            }
            if departs {
                observations.absent += 1;
            } else {
                digest.add(&hash);
                observations.present += 1;
            }
        }
        self.made.present += u64::from(observations.present);
        self.made.absent += u64::from(observations.absent);
        self.parcel(batch.into_bytes(), false, Content::Batch(observations))
    }

    /// A message that has its place in the stream and can never be applied. What
    /// it would have told never happened.
    fn corrupted(&mut self) -> Parcel {
        let (mut batch, mut events) = self.begin(self.plan.batch_size);
        let kind = AssetKind::Package;
        let number = self.chances.below(self.plan.assets);
        // A state that no asset ever comes to.
        let asset = asset(self.place(kind, number), u32::MAX >> 1);
        let event_id = events.uuid_at(self.millis());
        batch.push(&Seen { event_id, presence: Presence::Present, kind, asset: &asset });
        // What was encoded a moment ago.
        let good = EventBatch::decode(batch.into_bytes().as_slice()).unwrap_or_default();
        let fault = self.chances.pick(&FAULTS);
        let (body, compressed) = corrupt(fault, good, &mut events);
        self.made.corrupted += 1;
        self.parcel(body, compressed, Content::Corrupt)
    }
}

#[cfg(test)]
mod tests;
