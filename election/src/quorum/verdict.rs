//! What a ring was judged to be.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_membership::NodeId;
use serde::{Serialize, Serializer};

/// The judgement of a ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The votes present.
    pub total_votes: u32,
    /// The votes expected in all; `None`: nobody has said.
    pub expected_votes: Option<u32>,
    /// The votes needed; `None` if not known.
    pub quorum: Option<u32>,
    /// Why the votes present are not enough; `None`: the ring is quorate.
    pub inquorate: Option<Inquorate>,
    /// The options in force, and whether the ring is quorate, by corosync-quorumtool's words and in its order.
    pub flags: Vec<&'static str>,
}

/// Why a node is not quorate. Prints as a clause, and serialises as that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inquorate {
    /// This node is in no ring: it has just started, or has left.
    NoRing,
    /// This node has lost its ring: no token of it has come for the token timeout.
    RingLost {
        /// The token timeout.
        after: Duration,
    },
    /// The members of the new ring have not yet said what they are, or the old one is over and the new one about to be
    /// installed.
    Unsettled,
    /// Nobody has said how many votes to expect.
    NoExpectedVotes,
    /// These members did not say how many votes they have.
    NoNodeInfo(BTreeSet<NodeId>),
    /// Two members have different quorum options.
    OptionsDiffer {
        /// The first option that differs, by its name in corosync.conf.
        option: &'static str,
        /// The member with the lowest id.
        one: NodeId,
        /// The first that has another setting.
        other: NodeId,
    },
    /// Not all are there, and some member waits for all.
    WaitsForAll {
        /// The votes present.
        total: u32,
        /// The votes expected.
        expected: u32,
    },
    /// There are too few.
    TooFewVotes {
        /// The votes present.
        total: u32,
        /// The votes needed.
        quorum: u32,
    },
}

impl fmt::Display for Inquorate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRing => write!(f, "this node is in no ring"),
            Self::RingLost { after } => {
                write!(f, "this node is in no ring: no token came for {} ms", after.as_millis())
            }
            Self::Unsettled => write!(f, "the members have not yet said what they are"),
            Self::NoExpectedVotes => write!(f, "no member has said how many votes to expect"),
            Self::NoNodeInfo(nodes) => write!(f, "no node info came from {nodes:?}"),
            Self::OptionsDiffer { option, one, other } => {
                write!(f, "nodes {one} and {other} differ in quorum.{option}; give all nodes the same")
            }
            Self::WaitsForAll { total, expected } => {
                write!(f, "waiting for all: {total} of {expected} votes expected are present")
            }
            Self::TooFewVotes { total, quorum } => write!(f, "{total} of {quorum} votes needed are present"),
        }
    }
}

impl Serialize for Inquorate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
