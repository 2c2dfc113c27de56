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
    /// The votes of the members, and of absent nodes that are known to have votes.
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
        let (present, all) = (sum(electorate.votes.values()), electorate.all());
        let is_majority = expected > 0 && (electorate.majority()..=all).contains(&present);
        (status.settled && status.quorate && is_majority).then_some(electorate)
    }

    /// Returns this electorate with the votes that absent nodes had in earlier ones, unless the sum
    /// would exceed the votes that are expected. Nodes that it does not name have no votes.
    ///
    /// The sum never exceeds them, so two majorities of an electorate have a node in common.
    pub(super) fn with_absent(&self, earlier: &[Self]) -> Self {
        let mut votes = self.votes.clone();
        for (&node, &before) in earlier.iter().flat_map(|earlier| &earlier.votes) {
            votes.entry(node).or_insert(before);
        }
        let fits = sum(votes.values()) <= self.expected.into();
        Self { expected: self.expected, votes: if fits { votes } else { self.votes.clone() } }
    }

    /// Returns the votes of these nodes.
    pub(super) fn count(&self, nodes: &BTreeSet<NodeId>) -> u64 {
        sum(nodes.iter().filter_map(|node| self.votes.get(node)))
    }

    /// Returns the votes of all nodes.
    pub(super) fn all(&self) -> u64 {
        self.expected.into()
    }

    /// Returns the number of votes that is more than half.
    pub(super) fn majority(&self) -> u64 {
        u64::from(self.expected / 2) + 1
    }

    /// Returns `true` if these nodes have a majority.
    pub(super) fn has_majority(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.expected > 0 && self.count(nodes) >= self.majority()
    }

    /// Returns `true` if these nodes have all votes.
    pub(super) fn is_whole(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.expected > 0 && self.count(nodes) >= u64::from(self.expected)
    }
}

fn sum<'a>(votes: impl IntoIterator<Item = &'a u32>) -> u64 {
    votes.into_iter().map(|&votes| u64::from(votes)).sum()
}
