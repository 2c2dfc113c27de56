//! The verdict on a ring.

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
    /// The votes expected in total. `None` if no member has announced a number.
    pub expected_votes: Option<u32>,
    /// The votes needed. `None` if not known.
    pub quorum: Option<u32>,
    /// Why the votes present are not enough. `None` if the ring is quorate.
    pub inquorate: Option<Inquorate>,
    /// Whether the ring is quorate by the votes of the quorum device only. Then it has no term, and
    /// its members agree on nothing: the device keeps no record of either.
    pub device_decides: bool,
    /// The differences in members' files (nodes, votes, options) that do not count, one clause
    /// each.
    pub differences: Vec<String>,
    /// The options in force, and whether the ring is quorate, in corosync-quorumtool's words and
    /// order.
    pub flags: Vec<&'static str>,
}

/// Why a node is not quorate. Prints and serialises as a clause.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Inquorate {
    /// This node is in no ring: it has just started, or has left.
    NoRing,
    /// This node has lost its ring: no token of it has come for the token timeout.
    RingLost {
        /// The token timeout.
        after: Duration,
    },
    /// The members of the new ring have not yet exchanged messages, or the old ring is over and the
    /// new one is about to be installed.
    Unsettled,
    /// The sync of the new ring waits for this node's quorum device.
    AwaitsDevice {
        /// How long it waits at most.
        limit: Duration,
    },
    /// No member has announced how many votes to expect.
    NoExpectedVotes,
    /// These members did not announce their votes.
    NoNodeInfo(BTreeSet<NodeId>),
    /// Two members have different quorum options.
    OptionsDiffer {
        /// The first option that differs, by its name in corosync.conf.
        option: &'static str,
        /// The member with the lowest id.
        one: NodeId,
        /// The first member with another setting.
        other: NodeId,
    },
    /// Not all expected votes are present, and a member waits for all.
    WaitsForAll {
        /// The votes present.
        total: u32,
        /// The votes expected.
        expected: u32,
    },
    /// All voters are present for the first time, but not all have stored the agreement yet.
    Founding,
    /// Two members come from clusters that were founded apart, and neither of these is complete
    /// here.
    Apart {
        /// A member of the one cluster.
        one: NodeId,
        /// A member of the other cluster.
        other: NodeId,
    },
    /// The members have never agreed on the voters. The first time, all voters must be present.
    NeverAgreed {
        /// The voters that are not present.
        missing: BTreeSet<NodeId>,
        /// The votes present.
        total: u32,
        /// The votes expected.
        expected: u32,
    },
    /// A first start was begun with these nodes, which are not present any more, and it may have
    /// been finished with them.
    NeverFinished {
        /// The voters that are missing.
        missing: BTreeSet<NodeId>,
    },
    /// The records of these members were lost. They may have accepted a change of the votes, by
    /// which other nodes are quorate. Without them the remaining members are too few.
    RecordsLost(BTreeSet<NodeId>),
    /// The votes that count may have been changed since, and too few are present by that change.
    ChangeUnfinished {
        /// The votes present.
        total: u32,
        /// The votes needed.
        quorum: u32,
    },
    /// Too few votes are present.
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
            Self::Unsettled => write!(f, "the members have not exchanged their votes yet"),
            Self::AwaitsDevice { limit } => write!(
                f,
                "the ring waits for this node's quorum device, for at most {} ms",
                limit.as_millis()
            ),
            Self::NoExpectedVotes => write!(f, "no member has announced how many votes to expect"),
            Self::NoNodeInfo(nodes) => write!(f, "no node info was received from nodes {nodes:?}"),
            Self::OptionsDiffer { option, one, other } => {
                write!(f, "nodes {one} and {other} differ in quorum.{option}; give all nodes the same value")
            }
            Self::WaitsForAll { total, expected } => {
                write!(f, "waiting for all: {total} of {expected} expected votes are present")
            }
            Self::Founding => {
                write!(
                    f,
                    "the cluster is starting for the first time, and its members are storing the list of \
                     voters"
                )
            }
            Self::Apart { one, other } => write!(
                f,
                "nodes {one} and {other} come from clusters that were founded separately; stop one of the \
                 two, remove its state directory, and start it again"
            ),
            Self::NeverFinished { missing } => write!(
                f,
                "a first start began with node {} and cannot finish without it; start it, or another node \
                 with its id",
                listed(missing)
            ),
            Self::NeverAgreed { missing, total, expected } => {
                write!(f, "the cluster is starting for the first time and needs all of its voters once: ")?;
                if missing.is_empty() {
                    return write!(f, "{total} of {expected} votes are present");
                }
                write!(f, "start node {}, or remove it from the node lists", listed(missing))
            }
            Self::RecordsLost(nodes) => write!(
                f,
                "the records of nodes {nodes:?} were lost, and the other members are not a majority; start \
                 the other nodes"
            ),
            Self::ChangeUnfinished { total, quorum } => write!(
                f,
                "a change of the voters may have been agreed on elsewhere: {total} of the {quorum} votes \
                 that it needs are present; start more of its nodes"
            ),
            Self::TooFewVotes { total, quorum } => write!(f, "{total} of {quorum} votes needed are present"),
        }
    }
}

/// Formats the ids as they follow the word "node".
pub(super) fn listed(nodes: &BTreeSet<NodeId>) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(", node ")
}

impl Serialize for Inquorate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
