//! What is known of a cluster while its run goes on: which life is where, and who has received what. It is known from
//! what the members were seen to take in and to do, not from what tokens say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_membership::config::{QuorumOptions, TotemConfig};
use quorate_membership::wire::{CommitToken, Token};
use quorate_membership::{NodeId, Phase, Regular, RingId, Seq};

use super::messages::Messages;
use crate::Electorate;
use crate::history::{Inside, Life, Record, What};

/// What is known. It does not grow with the length of the run.
pub(super) struct Cluster {
    pub(super) totem: TotemConfig,
    /// The node list; `None`: whoever is heard.
    pub(super) listed: Option<BTreeSet<NodeId>>,
    /// All nodes, started or not.
    pub(super) nodes: BTreeSet<NodeId>,
    /// Their votes, and how they count.
    pub(super) electorate: Electorate,
    /// What follows from that, worked out once: the options in force,
    pub(super) options: QuorumOptions,
    /// the votes that a node expects which has just started,
    pub(super) expected: u32,
    /// and whether any two quorate rings have a member in common.
    pub(super) strict: bool,
    pub(super) messages: Messages,
    rings: BTreeMap<RingId, Ring>,
    places: BTreeMap<NodeId, Place>,
}

/// What is known of a ring, installed or tried.
pub(super) struct Ring {
    pub(super) members: BTreeSet<NodeId>,
    /// Who has written itself into its commit token.
    pub(super) took_part: BTreeSet<NodeId>,
    /// What members have of it.
    pub(super) received: BTreeMap<NodeId, Receipts>,
    /// Which of its members were to come along to another ring, for each that was tried after it.
    pub(super) to_come_along: Vec<BTreeSet<NodeId>>,
}

/// What a member has received of a ring.
#[derive(Debug)]
pub(super) struct Receipts {
    /// All up to here,
    pub(super) aru: Seq,
    /// and these.
    pub(super) beyond: BTreeSet<u32>,
    /// Given up up to here.
    pub(super) released: Seq,
}

/// Where a node is.
pub(super) struct Place {
    pub(super) life: Life,
    pub(super) phase: Option<Phase>,
    /// The ring that it has installed.
    pub(super) regular: Option<Regular>,
    /// Between a transitional configuration and the next ring.
    pub(super) in_transition: bool,
    /// The ring that it takes part in, installed or not yet.
    pub(super) forming: Option<RingId>,
    /// The token's visit, until the token is passed on.
    pub(super) visit: Option<Visit>,
}

/// What a member does with a token.
pub(super) struct Visit {
    /// As it came.
    pub(super) token: Box<Token>,
    /// When it came.
    at: Duration,
    /// The token was held, and the visit went on when there was something to send.
    pub(super) taken_up: bool,
    /// Up to where the member had received all when it came.
    pub(super) aru: Seq,
    /// Frames numbered.
    pub(super) numbered: u32,
    /// Frames sent again.
    pub(super) resent: Vec<Seq>,
}

impl Place {
    pub(super) fn installed(&self) -> Option<RingId> {
        self.regular.as_ref().map(|regular| regular.ring)
    }
}

/// A map that forgets its lowest key when it gets too large. Ring ids sort by their sequence number first, so these are
/// the oldest rings.
pub(super) struct Recent<K, V, const N: usize = 256>(BTreeMap<K, V>);

impl<K, V, const N: usize> Default for Recent<K, V, N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V, const N: usize> Recent<K, V, N> {
    pub(super) fn entry(&mut self, key: K, first: impl FnOnce() -> V) -> &mut V {
        if self.0.len() >= N && !self.0.contains_key(&key) {
            self.0.pop_first();
        }
        self.0.entry(key).or_insert_with(first)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }
}

impl Receipts {
    fn new(first: Seq) -> Self {
        Self { aru: first, beyond: BTreeSet::new(), released: first }
    }

    fn take(&mut self, seq: Seq) {
        if seq.at_or_before(self.aru) {
            return;
        }
        self.beyond.insert(seq.get());
        while self.beyond.remove(&self.aru.next().get()) {
            self.aru = self.aru.next();
        }
    }

    pub(super) fn has(&self, seq: Seq) -> bool {
        seq.at_or_before(self.aru) || self.beyond.contains(&seq.get())
    }
}

impl Cluster {
    /// More than are ever about to be installed or to end at the same time.
    const RINGS: usize = 64;

    pub(super) fn new(
        nodes: BTreeSet<NodeId>,
        electorate: Electorate,
        totem: &TotemConfig,
        listed: Option<BTreeSet<NodeId>>,
    ) -> Self {
        Self {
            totem: totem.clone(),
            listed,
            options: electorate.options(&nodes),
            expected: electorate.expected(&nodes),
            strict: electorate.is_strict(&nodes),
            nodes,
            electorate,
            messages: Messages::default(),
            rings: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn ring(&self, id: RingId) -> Option<&Ring> {
        self.rings.get(&id)
    }

    /// Where a life is; `None` if it has ended.
    pub(super) fn place(&self, life: Life) -> Option<&Place> {
        self.places.get(&life.node).filter(|place| place.life == life)
    }

    /// The ring that a life is in, until the next one.
    pub(super) fn regular(&self, life: Life) -> Option<&Regular> {
        self.place(life)?.regular.as_ref()
    }

    /// Where a node is that is up and takes part in a ring.
    pub(super) fn member(&self, node: NodeId, ring: RingId) -> Option<&Place> {
        self.places.get(&node).filter(|place| place.installed() == Some(ring) || place.forming == Some(ring))
    }

    /// What a node has of a ring.
    pub(super) fn receipts(&self, node: NodeId, ring: RingId) -> Option<&Receipts> {
        self.rings.get(&ring)?.received.get(&node)
    }

    /// The first member of a ring, and what it has, of which this is not so. A member that has nothing yet has nothing
    /// but the beginning.
    pub(super) fn find_member(&self, ring: RingId, lacks: impl Fn(&Receipts) -> bool) -> Option<NodeId> {
        let ring = self.rings.get(&ring)?;
        let nothing = Receipts::new(self.totem.first_seq);
        let receipts = |node| ring.received.get(node).unwrap_or(&nothing);
        ring.members.iter().find(|node| lacks(receipts(node))).copied()
    }

    /// The token's visit at a life, if that token is of this ring.
    pub(super) fn visit(&self, life: Life, ring: RingId) -> Option<&Visit> {
        self.place(life)?.visit.as_ref().filter(|visit| visit.token.ring == ring)
    }

    fn enter(&mut self, id: RingId, members: impl Fn() -> BTreeSet<NodeId>) -> &mut Ring {
        if self.rings.len() >= Self::RINGS && !self.rings.contains_key(&id) {
            let used = |ring: &RingId| {
                self.places.values().any(|place| [place.installed(), place.forming].contains(&Some(*ring)))
            };
            // Ring ids sort by their sequence number first.
            if let Some(oldest) = self.rings.keys().copied().find(|ring| !used(ring)) {
                self.rings.remove(&oldest);
            }
        }
        self.rings.entry(id).or_insert_with(|| Ring {
            members: members(),
            took_part: BTreeSet::new(),
            received: BTreeMap::new(),
            to_come_along: Vec::new(),
        })
    }

    fn receipts_mut(&mut self, node: NodeId, ring: RingId) -> Option<&mut Receipts> {
        let first = self.totem.first_seq;
        let ring = self.rings.get_mut(&ring)?;
        Some(ring.received.entry(node).or_insert_with(|| Receipts::new(first)))
    }

    fn commit(&mut self, node: NodeId, token: &CommitToken) {
        let members = || token.members.iter().copied().collect();
        self.enter(token.ring, members).took_part.insert(node);
        if token.entries.len() < token.members.len() {
            return;
        }
        for entry in &token.entries {
            let Some(old) = self.rings.get_mut(&entry.ring) else { continue };
            let come = token.members.iter().zip(&token.entries).filter(|(_, other)| other.ring == entry.ring);
            let come: BTreeSet<NodeId> = come.map(|(node, _)| *node).collect();
            if !old.to_come_along.contains(&come) {
                old.to_come_along.push(come);
            }
        }
    }

    /// Takes note of a line, after everybody has looked at it.
    pub(super) fn learn(&mut self, record: &Record) {
        let Some(life) = record.life else { return };
        self.messages.learn(life, record);
        let node = life.node;
        let Some(place) = self.places.get_mut(&node).filter(|place| place.life == life) else {
            if record.what == What::Started {
                let place = Place {
                    life,
                    phase: None,
                    regular: None,
                    in_transition: false,
                    forming: None,
                    visit: None,
                };
                self.places.insert(node, place);
            }
            return;
        };
        match &record.what {
            What::Crashed => drop(self.places.remove(&node)),
            What::Transitional(_) => place.in_transition = true,
            What::Regular(regular) => {
                place.regular = Some(regular.clone());
                place.in_transition = false;
                self.enter(regular.ring, || regular.members.clone());
            }
            What::Inside(inside) => match inside {
                Inside::Numbered(frame) | Inside::Received(frame) => {
                    if let (Inside::Numbered(_), Some(visit)) = (inside, &mut place.visit) {
                        visit.numbered += 1;
                        visit.taken_up |= record.at > visit.at;
                    }
                    if let Some(receipts) = self.receipts_mut(node, frame.ring) {
                        receipts.take(frame.seq);
                    }
                }
                Inside::Resent(frame) => {
                    if let Some(visit) = &mut place.visit {
                        visit.resent.push(frame.seq);
                    }
                }
                Inside::Stable { ring, released, .. } => {
                    if let Some(receipts) = self.receipts_mut(node, *ring) {
                        receipts.released = *released;
                    }
                }
                Inside::Token(token) => {
                    let first = self.totem.first_seq;
                    let aru = self.receipts(node, token.ring).map_or(first, |receipts| receipts.aru);
                    let visit = Visit {
                        token: token.clone(),
                        at: record.at,
                        taken_up: false,
                        aru,
                        numbered: 0,
                        resent: Vec::new(),
                    };
                    if let Some(place) = self.places.get_mut(&node) {
                        place.visit = Some(visit);
                    }
                }
                Inside::TokenSent { .. } => place.visit = None,
                Inside::CommitSent { token, .. } => {
                    place.forming = Some(token.ring);
                    self.commit(node, token);
                }
                Inside::Phase { to, .. } => {
                    place.phase = Some(*to);
                    if *to == Phase::Gather {
                        place.forming = None;
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}
