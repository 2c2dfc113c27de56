//! The state of a cluster while its run continues: where each life is, and which frames each node
//! has received.
//!
//! The state follows from what the members were seen to receive and do, not from what tokens claim.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_membership::config::{QuorumOptions, TotemConfig};
use quorate_membership::wire::{CommitToken, Token};
use quorate_membership::{NodeId, Phase, Regular, RingId, Seq};

use super::messages::Messages;
use crate::Electorate;
use crate::history::{Inside, Life, Record, What};

/// The known state of a cluster. Its size does not grow with the length of the run.
pub(super) struct Cluster {
    pub(super) totem: TotemConfig,
    /// The node list; `None` if nodes are found by their traffic alone.
    pub(super) listed: Option<BTreeSet<NodeId>>,
    /// All nodes, started or not.
    pub(super) nodes: BTreeSet<NodeId>,
    /// The nodes' votes, and the quorum options.
    pub(super) electorate: Electorate,
    /// The quorum options in force, computed once from `electorate`.
    pub(super) options: QuorumOptions,
    /// The votes that a node expects right after its start.
    pub(super) expected: u32,
    /// Whether any two quorate rings have a member in common.
    pub(super) strict: bool,
    pub(super) messages: Messages,
    rings: BTreeMap<RingId, Ring>,
    places: BTreeMap<NodeId, Place>,
}

/// The known state of a ring, installed or attempted.
pub(super) struct Ring {
    pub(super) members: BTreeSet<NodeId>,
    /// The nodes that have added their entry to the ring's commit token.
    pub(super) took_part: BTreeSet<NodeId>,
    /// The frames that each member has received.
    pub(super) received: BTreeMap<NodeId, Receipts>,
    /// For each later ring that was attempted: the members of this ring that were to come along.
    pub(super) to_come_along: Vec<BTreeSet<NodeId>>,
}

/// The frames of a ring that a member has received.
#[derive(Debug)]
pub(super) struct Receipts {
    /// The sequence number up to which all frames were received.
    pub(super) aru: Seq,
    /// The frames received beyond `aru`.
    pub(super) beyond: BTreeSet<u32>,
    /// The sequence number up to which frames were released.
    pub(super) released: Seq,
}

/// The position of a node in the protocol.
pub(super) struct Place {
    pub(super) life: Life,
    pub(super) phase: Option<Phase>,
    /// The installed ring.
    pub(super) regular: Option<Regular>,
    /// Whether the node is between a transitional configuration and the next ring.
    pub(super) in_transition: bool,
    /// The ring that the node takes part in, installed or not yet.
    pub(super) forming: Option<RingId>,
    /// The current visit of the token, until the token is passed on.
    pub(super) visit: Option<Visit>,
}

/// The visit of a token at a member.
pub(super) struct Visit {
    /// The token as it arrived.
    pub(super) token: Box<Token>,
    /// The arrival time.
    at: Duration,
    /// Whether the token was held, and the visit resumed when there was something to send.
    pub(super) taken_up: bool,
    /// The member's aru when the token arrived.
    pub(super) aru: Seq,
    /// The number of frames numbered.
    pub(super) numbered: u32,
    /// The frames sent again.
    pub(super) resent: Vec<Seq>,
}

impl Place {
    pub(super) fn installed(&self) -> Option<RingId> {
        self.regular.as_ref().map(|regular| regular.ring)
    }
}

/// A map that forgets its lowest key when it gets too large. Ring ids sort by their sequence number
/// first, so these are the oldest rings.
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
    /// An upper bound on the rings that are about to be installed or to end at the same time.
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

    /// Returns the position of a life; `None` if it has ended.
    pub(super) fn place(&self, life: Life) -> Option<&Place> {
        self.places.get(&life.node).filter(|place| place.life == life)
    }

    /// Returns the ring that a life is in, until the next one.
    pub(super) fn regular(&self, life: Life) -> Option<&Regular> {
        self.place(life)?.regular.as_ref()
    }

    /// Returns the position of a node that is up and takes part in `ring`.
    pub(super) fn member(&self, node: NodeId, ring: RingId) -> Option<&Place> {
        self.places.get(&node).filter(|place| place.installed() == Some(ring) || place.forming == Some(ring))
    }

    /// Returns what a node has received of a ring.
    pub(super) fn receipts(&self, node: NodeId, ring: RingId) -> Option<&Receipts> {
        self.rings.get(&ring)?.received.get(&node)
    }

    /// Returns the first member of a ring whose receipts satisfy `lacks`. A member that has
    /// received nothing is at the ring's first sequence number.
    pub(super) fn find_member(&self, ring: RingId, lacks: impl Fn(&Receipts) -> bool) -> Option<NodeId> {
        let ring = self.rings.get(&ring)?;
        let nothing = Receipts::new(self.totem.first_seq);
        let receipts = |node| ring.received.get(node).unwrap_or(&nothing);
        ring.members.iter().find(|node| lacks(receipts(node))).copied()
    }

    /// Returns the visit of the token at a life, if that token belongs to `ring`.
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

    /// Updates the state after all properties have checked the record.
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
