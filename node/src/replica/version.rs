//! The age of a state, and the votes by which a newer one can follow it.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use quorate_election::Status;
use quorate_membership::{NodeId, RingId};

/// The identity of a replica's state. Later states are greater.
///
/// Members whose versions name the same ring, number and successor have the same state: they came
/// from this ring together, so they have applied the same writes (extended virtual synchrony).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub(super) struct Version {
    /// The ring that accepted the last writes.
    #[bincode(with_serde)]
    pub(super) ring: RingId,
    /// The number of writes that this ring has accepted.
    pub(super) writes: u64,
    /// The ring that followed for this member. Members that went to different rings may have
    /// applied different writes at the end of the old one.
    #[bincode(with_serde)]
    pub(super) next: Option<RingId>,
    /// The electorates of the ring. A newer state can exist only where a majority of each has taken
    /// part.
    pub(super) electorates: Vec<Electorate>,
}

impl Version {
    /// Returns `true` if two members with these versions have the same state.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.ring, self.writes, self.next) == (other.ring, other.writes, other.next)
    }
}

/// The votes in a ring, as one of its members counts them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub(super) struct Electorate {
    /// The votes of all nodes, present or not.
    expected: u32,
    /// The votes of the members.
    #[bincode(with_serde)]
    votes: BTreeMap<NodeId, u32>,
}

impl Electorate {
    /// Returns the electorate of a ring with this status. `None` if the ring is not quorate by the
    /// votes of its members.
    ///
    /// A quorum device does not count, because it remembers no writes. Neither do the rules that
    /// make half of the votes enough.
    pub(super) fn of(status: &Status) -> Option<Self> {
        let device = status.device.as_ref().map_or(0, |device| device.votes);
        let expected = status.expected_votes?.saturating_sub(device);
        let online = status.nodes.iter().filter(|node| node.online);
        let votes = online.map(|node| (node.id, node.votes)).collect();
        let electorate = Self { expected, votes };
        let present: u64 = electorate.votes.values().map(|&votes| u64::from(votes)).sum();
        (status.settled && status.quorate && electorate.is_majority(present)).then_some(electorate)
    }

    /// Returns the votes of a node. A node that was not a member has the votes that it has `now`.
    fn votes_of(&self, node: NodeId, now: Option<&Self>) -> u64 {
        let counted = |electorate: &Self| electorate.votes.get(&node).copied();
        counted(self).or_else(|| now.and_then(counted)).unwrap_or(0).into()
    }

    /// Returns the votes of these nodes.
    pub(super) fn count(&self, nodes: &BTreeSet<NodeId>, now: Option<&Self>) -> u64 {
        nodes.iter().map(|&node| self.votes_of(node, now)).sum()
    }

    /// Returns the votes of all nodes.
    pub(super) fn all(&self) -> u64 {
        self.expected.into()
    }

    /// Returns the number of votes that is more than half.
    pub(super) fn majority(&self) -> u64 {
        u64::from(self.expected / 2) + 1
    }

    fn is_majority(&self, votes: u64) -> bool {
        self.expected > 0 && votes >= self.majority()
    }

    /// Returns `true` if these nodes have a majority.
    pub(super) fn has_majority(&self, nodes: &BTreeSet<NodeId>, now: Option<&Self>) -> bool {
        self.is_majority(self.count(nodes, now))
    }

    /// Returns `true` if these nodes have all votes.
    pub(super) fn is_whole(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.expected > 0 && self.count(nodes, None) >= u64::from(self.expected)
    }
}
