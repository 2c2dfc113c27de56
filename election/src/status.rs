//! What the election says, at its place in the ring's order.

use std::fmt;

use quorate_membership::{NodeId, RingId};
use serde::Serialize;

/// A DC's tenure: the fencing token. Compared field by field, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Term {
    /// The sequence number of the ring that elected the DC.
    pub ring_seq: u64,
    /// Hand-overs within that ring.
    pub hand_over: u32,
    /// The DC.
    pub node: NodeId,
}

impl Term {
    /// As one integer, which orders as the term does.
    pub fn as_u128(self) -> u128 {
        u128::from(self.ring_seq) << 64 | u128::from(self.hand_over) << 32 | u128::from(self.node.get())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_u128())
    }
}

/// The state of the group as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Status {
    /// The ring; `None` before the first.
    pub ring: Option<RingId>,
    /// Whether this ring's members have exchanged what they say of themselves. Until then there is no DC and no
    /// quorum.
    pub settled: bool,
    /// All nodes known: those of the node list and those that were ever a member, ascending by id.
    pub nodes: Vec<NodeStatus>,
    /// The DC.
    pub dc: Option<NodeId>,
    /// The DC's term; only a quorate ring has one.
    pub term: Option<Term>,
    /// Whether the votes present are enough.
    pub quorate: bool,
    /// The votes present.
    pub total_votes: u32,
    /// The votes expected in all; `None`: nobody has said.
    pub expected_votes: Option<u32>,
    /// The votes needed.
    pub quorum: Option<u32>,
    /// Why the ring last changed, as a sentence without a full stop.
    pub cause: String,
}

/// A node as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Whether it is a member of the ring.
    pub online: bool,
    /// Its votes, as last heard.
    pub votes: u32,
}
