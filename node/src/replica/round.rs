//! The replicas of a ring: their announcements, and the conclusions that all of them draw.
//!
//! This is a fold over messages in the ring's order, so it is the same at every member.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{NodeId, RingId, bug};

use super::Closed;
use super::message::{Remembers, Transfer};
use super::version::{Electorate, Version};

/// The replicas of a ring.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) ring: RingId,
    members: BTreeSet<NodeId>,
    /// What each member remembered when it entered the ring, and how it counts the votes now.
    said: BTreeMap<NodeId, Remembers>,
    /// The snapshots that were announced in this ring, by the members that take them.
    transfers: BTreeMap<NodeId, Transfer>,
    /// The last snapshot that each member has received completely.
    received: BTreeMap<NodeId, Transfer>,
    lead: Option<Lead>,
    is_open: bool,
}

/// The state that this ring continues.
#[derive(Debug)]
struct Lead {
    /// The version with which members entered the ring. `None` if the cluster starts.
    base: Option<Version>,
    /// The current version. `None` if the cluster starts and no write can have been made.
    version: Option<Version>,
    /// The electorates of which the members that have the state need a majority, besides the
    /// present ones. They do not depend on where a member has seen the ring break.
    electorates: Vec<Electorate>,
}

/// Where a member is on its way to the leading state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It has not spoken, or what it needs depends on a member that has not.
    Unknown,
    /// It has the state, and applies writes as they come.
    Holds,
    /// It is taking this snapshot.
    Follows(Transfer),
    /// It needs the rest of a snapshot from an earlier ring, whose sender still has it.
    Resumes(Transfer),
    /// It needs a snapshot.
    Lacks,
}

impl Round {
    pub(super) fn new(ring: RingId, members: BTreeSet<NodeId>) -> Self {
        Self {
            ring,
            members,
            said: BTreeMap::new(),
            transfers: BTreeMap::new(),
            received: BTreeMap::new(),
            lead: None,
            is_open: false,
        }
    }

    /// Notes a member's first message.
    pub(super) fn hear(&mut self, from: NodeId, remembers: Remembers) {
        self.said.entry(from).or_insert(remembers);
    }

    /// Notes that a member counts the votes differently now.
    pub(super) fn recount(&mut self, from: NodeId, electorate: Option<Electorate>) {
        if let Some(said) = self.said.get_mut(&from) {
            said.electorate = electorate;
        }
    }

    /// Notes that a member has received a snapshot.
    pub(super) fn receive(&mut self, from: NodeId, transfer: Transfer) {
        self.received.insert(from, transfer);
    }

    /// Notes a snapshot that a member takes now. Returns the members that it is for.
    pub(super) fn begin(&mut self, transfer: Transfer) -> BTreeSet<NodeId> {
        if self.standing(transfer.from) != Standing::Holds {
            return BTreeSet::new();
        }
        // It replaces the one that the sender has kept.
        if let Some(sender) = self.said.get_mut(&transfer.from) {
            sender.keeps = None;
        }
        let lacking = self.all(|standing| standing == Standing::Lacks);
        self.transfers.extend(lacking.iter().map(|&node| (node, transfer)));
        lacking
    }

    /// Counts a write. Returns whether the ring accepts it.
    pub(super) fn write(&mut self) -> bool {
        match self.lead.as_mut().and_then(|lead| lead.version.as_mut()) {
            Some(version) if self.is_open => {
                version.writes += 1;
                true
            }
            _ => false,
        }
    }

    /// The ring is over, and this one follows.
    pub(super) fn end(&mut self, next: RingId) {
        let version = self.lead.as_mut().and_then(|lead| lead.version.as_mut());
        if let Some(version) = version.filter(|version| version.ring == self.ring) {
            version.next = Some(next);
        }
    }

    /// Finds out whether there is a leading state, and whether the ring accepts writes. `next` is
    /// the ring that follows, if this one is over.
    pub(super) fn judge(&mut self, next: Option<RingId>) {
        if self.lead.is_none() {
            self.lead = self.newest();
        }
        self.is_open = self.opens(next);
    }

    /// Returns the state that the ring has to continue, as soon as there can be no newer one with
    /// an acknowledged write.
    fn newest(&self) -> Option<Lead> {
        let counting = self.said.iter().filter(|(_, said)| said.electorate.is_some());
        let newest = self.said.values().filter_map(|said| said.version.as_ref()).max();
        let Some(newest) = newest else {
            let all = counting.count() == self.members.len();
            let mut electorates = self.electorates(&self.members);
            let starts = all && electorates.all(|electorate| electorate.is_whole(&self.members));
            return starts.then(|| Lead { base: None, version: None, electorates: Vec::new() });
        };
        let remembering =
            counting.filter(|(_, said)| said.would_know_after(newest)).map(|(&node, _)| node).collect();
        let enough = newest.electorates.iter().all(|electorate| electorate.has_majority(&remembering));
        let electorates = newest.electorates.clone();
        let (base, version) = (Some(newest.clone()), Some(newest.clone()));
        bug!(AnyStateLeads: true; enough).then_some(Lead { base, version, electorates })
    }

    /// Returns whether the ring accepts writes, and if so, begins a version of this ring.
    fn opens(&mut self, next: Option<RingId>) -> bool {
        let hold = self.all(|standing| standing == Standing::Holds);
        let counts = |node: &NodeId| self.said.get(node).is_some_and(|said| said.electorate.is_some());
        let hold: BTreeSet<NodeId> = hold.into_iter().filter(counts).collect();
        let Some(lead) = &self.lead else { return false };
        let enough = {
            let mut needed = self.electorates(&hold).chain(&lead.electorates);
            !hold.is_empty() && needed.all(|electorate| electorate.has_majority(&hold))
        };
        if !bug!(OpenedByFew: !hold.is_empty(); enough) {
            return false;
        }
        let now: BTreeSet<Electorate> =
            self.electorates(&hold).map(|electorate| electorate.with_absent(&lead.electorates)).collect();
        let ring = self.ring;
        let Some(lead) = &mut self.lead else { return false };
        lead.electorates = now.iter().cloned().collect();
        // After the ring broke, it is not known whether members elsewhere have come this far. They
        // may have stayed with the earlier electorates.
        let mut electorates = now;
        if next.is_some() {
            electorates.extend(lead.version.iter().flat_map(|version| version.electorates.clone()));
        }
        let electorates = electorates.into_iter().collect();
        match &mut lead.version {
            Some(version) if version.ring == ring => version.electorates = electorates,
            version => *version = Some(Version { ring, writes: 0, next, electorates }),
        }
        true
    }

    /// Returns the ways in which these members count the votes.
    fn electorates(&self, nodes: &BTreeSet<NodeId>) -> impl Iterator<Item = &Electorate> {
        nodes.iter().filter_map(|node| self.said.get(node)?.electorate.as_ref())
    }

    /// Returns the members with such a standing.
    fn all(&self, is: impl Fn(Standing) -> bool) -> BTreeSet<NodeId> {
        self.members.iter().copied().filter(|&node| is(self.standing(node))).collect()
    }

    /// Returns `true` if a member that enters the ring with this version has the leading state.
    pub(super) fn is_base(&self, version: Option<&Version>) -> bool {
        match (&self.lead, version) {
            (Some(Lead { base: Some(base), .. }), Some(version)) => base.is_same(version),
            (Some(Lead { base: None, .. }), None) => true,
            _ => false,
        }
    }

    pub(super) fn standing(&self, node: NodeId) -> Standing {
        let (Some(said), Some(_)) = (self.said.get(&node), &self.lead) else { return Standing::Unknown };
        if self.is_base(said.version.as_ref()) {
            return Standing::Holds;
        }
        let received = |transfer| self.received.get(&node) == Some(&transfer);
        if let Some(&transfer) = self.transfers.get(&node) {
            return if received(transfer) { Standing::Holds } else { Standing::Follows(transfer) };
        }
        let continues = |version| bug!(AnySnapshotResumed: true; self.is_base(Some(version)));
        let partial = said.partial.as_ref().filter(|partial| continues(&partial.version));
        let Some(transfer) = partial.map(|partial| partial.transfer) else { return Standing::Lacks };
        if received(transfer) {
            return Standing::Holds;
        }
        match self.said.get(&transfer.from) {
            Some(sender) if sender.keeps == Some(transfer) && self.is_base(sender.version.as_ref()) => {
                Standing::Resumes(transfer)
            }
            None if self.members.contains(&transfer.from) => Standing::Unknown,
            _ => Standing::Lacks,
        }
    }

    /// Returns `true` if there is a leading state.
    pub(super) fn is_led(&self) -> bool {
        self.lead.is_some()
    }

    /// Returns `true` if the ring accepts writes.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns the version of the leading state.
    pub(super) fn version(&self) -> Option<&Version> {
        self.lead.as_ref()?.version.as_ref()
    }

    /// Returns the member that sends snapshots to those that lack one, if any does.
    pub(super) fn sender(&self) -> Option<NodeId> {
        let lacking = self.members.iter().any(|&node| self.standing(node) == Standing::Lacks);
        let mut holders = self.members.iter().copied().filter(|&node| self.standing(node) == Standing::Holds);
        holders.next().filter(|_| lacking)
    }

    /// Returns the members that wait for the rest of this snapshot, with the index of the first
    /// part that they lacked when they entered the ring.
    pub(super) fn resuming(&self, transfer: Transfer) -> Vec<(NodeId, u32)> {
        let resuming = |(&node, said): (&NodeId, &Remembers)| {
            let next = said.partial.as_ref()?.next;
            (self.standing(node) == Standing::Resumes(transfer)).then_some((node, next))
        };
        self.said.iter().filter_map(resuming).collect()
    }

    /// Returns `true` if a member may still need this snapshot.
    pub(super) fn needs(&self, transfer: Transfer) -> bool {
        let needs = |standing| match standing {
            Standing::Unknown => true,
            Standing::Follows(other) | Standing::Resumes(other) => other == transfer,
            Standing::Holds | Standing::Lacks => false,
        };
        self.members.iter().any(|&node| needs(self.standing(node)))
    }

    /// Returns why the ring does not accept writes, as far as all members are concerned. `me` is
    /// this member.
    pub(super) fn closed(&self, me: NodeId) -> Option<Closed> {
        let Some(said) = self.said.get(&me) else { return Some(Closed::Unsettled) };
        let Some(now) = &said.electorate else { return Some(Closed::NotQuorate) };
        let silent = self.members.iter().copied().filter(|node| !self.said.contains_key(node));
        let silent: BTreeSet<NodeId> = silent.collect();
        if self.lead.is_none() {
            return Some(match self.said.values().filter_map(|said| said.version.as_ref()).max() {
                _ if !silent.is_empty() => Closed::Awaits { nodes: silent },
                None => Closed::Starts { votes: now.count(&self.members), expected: now.all() },
                Some(newest) => {
                    let remembering = self.said.iter().filter(|(_, said)| said.would_know_after(newest));
                    let remembering = remembering.map(|(&node, _)| node).collect();
                    let mut electorates = newest.electorates.iter();
                    let short = electorates.find(|electorate| !electorate.has_majority(&remembering));
                    let short = short.unwrap_or(now);
                    Closed::Forgotten { votes: short.count(&remembering), needed: short.majority() }
                }
            });
        }
        let hold = self.all(|standing| standing == Standing::Holds);
        if !hold.contains(&me) {
            return Some(Closed::CatchingUp);
        }
        (!self.is_open).then(|| Closed::TooFewHold { votes: now.count(&hold), needed: now.majority() })
    }

    /// Returns the number of members that have the leading state.
    pub(super) fn holders(&self) -> usize {
        self.all(|standing| standing == Standing::Holds).len()
    }
}
