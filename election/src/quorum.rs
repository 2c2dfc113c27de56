//! How many votes are enough: votequorum's arithmetic, without its optional rules.
//!
//! Each member says once a ring, in the sync stage, how many votes it has and how many it expects in all
//! ([`NodeInfo`]). A ring is judged when all of them have spoken, from what they said and nothing else, so that all
//! its members judge alike:
//!
//! - *total* is the sum of the members' votes;
//! - *expected* is the highest number that a quorate member announced; if none was quorate, the highest that anybody
//!   announced; at least *total*. A member is quorate in this sense if the last ring that it saw judged was;
//! - *quorum* is a majority of *expected*: corosync's `max((expected + 2) / 2, (total + 2) / 2)`;
//! - the ring is quorate if *total* reaches *quorum*.
//!
//! What a node expects changes only so: it takes over *expected* of a ring that is quorate, or in which a member was.
//! Hence it grows when more votes are present than were expected, and the quorum never falls, with one exception: a
//! node that was not quorate adopts the lower number of one that was.
//!
//! # Decided differently from corosync
//! - Inquorate members with different settings count the highest of them, each for this ring only: the ring agrees
//!   on its quorum. corosync lets each use its own, and members of one ring disagree.
//! - A member without node info makes the ring inquorate. (corosync counts no votes for it; but it may be the one
//!   that knows of more expected votes.)
//! - Without `expected_votes` and without a node list, corosync does not start; a node of ours starts, and is not
//!   quorate until somebody in its ring knows.
//! - Node info that comes after the judgement (a corosync member was reconfigured) counts from the next ring on.
//!
//! # Not there yet
//! `two_node`, `wait_for_all`, `auto_tie_breaker`, `last_man_standing`, `allow_downscale`,
//! `expected_votes_tracking`, quorum devices, and lowering the expected votes at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_membership::NodeId;
use quorate_membership::config::QuorumConfig;
use quorate_membership::mutants::Mutant;
use quorate_membership::wire::body::NodeInfo;
use serde::{Serialize, Serializer};

/// One node's account of votes. See the [module](self) for the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quorum {
    votes: u32,
    expected_votes: Option<u32>,
    /// By the last judgement.
    quorate: bool,
    /// It has had no company since it started.
    first: bool,
}

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
}

/// Why a node is not quorate. Prints as a clause, and serialises as that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inquorate {
    /// The members have not yet said what they are, or there is no ring.
    Unsettled,
    /// Nobody has said how many votes to expect.
    NoExpectedVotes,
    /// These members did not say how many votes they have.
    NoNodeInfo(BTreeSet<NodeId>),
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
            Self::Unsettled => write!(f, "the members have not yet said what they are"),
            Self::NoExpectedVotes => write!(f, "nobody has said how many votes to expect"),
            Self::NoNodeInfo(nodes) => write!(f, "no node info came from {nodes:?}"),
            Self::TooFewVotes { total, quorum } => write!(f, "{total} of {quorum} votes needed are present"),
        }
    }
}

impl Serialize for Inquorate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Quorum {
    /// A node that has just started (corosync.conf: section `quorum`, and the node list's `quorum_votes`).
    pub fn new(config: &QuorumConfig) -> Self {
        let expected_votes = config.expected_votes.filter(|&expected| expected > 0);
        Self { votes: config.votes, expected_votes, quorate: false, first: true }
    }

    /// The votes this node expects in all; `None`: not known.
    pub fn expected_votes(&self) -> Option<u32> {
        self.expected_votes
    }

    /// What this node, `me`, says of itself in the sync of a new ring with these members.
    pub fn node_info(&mut self, me: NodeId, members: &BTreeSet<NodeId>) -> NodeInfo {
        self.first &= members.len() == 1;
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        NodeInfo {
            node: Some(me),
            votes: self.votes,
            expected_votes: self.expected_votes.unwrap_or(0),
            flags: flag(self.quorate, NodeInfo::QUORATE) | flag(self.first, NodeInfo::FIRST),
        }
    }

    /// Judges a ring by what its members said; entries of nodes that are no members are not looked at.
    pub fn judge(&mut self, members: &BTreeSet<NodeId>, said: &BTreeMap<NodeId, NodeInfo>) -> Verdict {
        let infos = || members.iter().filter_map(|member| said.get(member));
        let was_quorate = |info: &&NodeInfo| info.flags & NodeInfo::QUORATE != 0 && info.expected_votes > 0;

        let total_votes = infos().fold(0, |total: u32, info| total.saturating_add(info.votes));
        let in_force = infos().filter(was_quorate).map(|info| info.expected_votes).max();
        let announced = infos().map(|info| info.expected_votes).max().filter(|&expected| expected > 0);
        let expected_votes = match in_force.or(announced) {
            Some(_) if Mutant::ExpectedVotesFollowMembers.is_active() => Some(total_votes),
            expected => expected.map(|expected| expected.max(total_votes)),
        };
        let one_more = u32::from(!Mutant::HalfIsQuorate.is_active());
        let quorum = expected_votes.map(|expected| expected / 2 + one_more);

        let silent: BTreeSet<NodeId> = members.iter().copied().filter(|id| !said.contains_key(id)).collect();
        let inquorate = match quorum {
            _ if !silent.is_empty() => Some(Inquorate::NoNodeInfo(silent)),
            None => Some(Inquorate::NoExpectedVotes),
            Some(quorum) if total_votes < quorum => {
                Some(Inquorate::TooFewVotes { total: total_votes, quorum })
            }
            Some(_) => None,
        };

        self.quorate = inquorate.is_none();
        // An inquorate ring without a word from a quorate node leaves nothing behind: one member with a wrong
        // setting would block the others for good.
        if self.quorate || in_force.is_some() {
            self.expected_votes = expected_votes;
        }
        Verdict { total_votes, expected_votes, quorum, inquorate }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn node(expected_votes: impl Into<Option<u32>>, votes: u32) -> Quorum {
        Quorum::new(&QuorumConfig { expected_votes: expected_votes.into(), votes })
    }

    /// These nodes, with ids from 1, in one ring: each judges what all say.
    fn ring(nodes: &mut [&mut Quorum]) -> Verdict {
        let members: BTreeSet<NodeId> = (1..).take(nodes.len()).map(id).collect();
        let said = members.iter().zip(nodes.iter_mut()).map(|(&id, n)| (id, n.node_info(id, &members)));
        let said: BTreeMap<NodeId, NodeInfo> = said.collect();
        let verdicts: Vec<Verdict> = nodes.iter_mut().map(|node| node.judge(&members, &said)).collect();
        assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{verdicts:?}");
        verdicts[0].clone()
    }

    fn is_quorate(verdict: &Verdict) -> bool {
        verdict.inquorate.is_none()
    }

    #[test]
    fn a_majority_of_the_expected_votes_is_quorate_and_a_half_is_not() {
        for (expected, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (8, 5)] {
            for present in 1..=expected {
                let mut nodes = vec![node(expected, 1); present as usize];
                let verdict = ring(&mut nodes.iter_mut().collect::<Vec<_>>());
                assert_eq!(verdict.quorum, Some(quorum));
                assert_eq!(verdict.total_votes, present);
                assert_eq!(is_quorate(&verdict), present >= quorum, "{present} of {expected}");
            }
        }
    }

    #[test]
    fn votes_count_and_not_nodes() {
        let (mut heavy, mut light) = (node(5, 3), node(5, 1));
        assert!(is_quorate(&ring(&mut [&mut heavy])));
        assert_eq!(
            ring(&mut [&mut light, &mut node(5, 1)]).inquorate,
            Some(Inquorate::TooFewVotes { total: 2, quorum: 3 })
        );
    }

    #[test]
    fn without_expected_votes_nobody_is_quorate() {
        let verdict = ring(&mut [&mut node(None, 1), &mut node(0, 1), &mut node(None, 1)]);
        assert_eq!(verdict.inquorate, Some(Inquorate::NoExpectedVotes));
        assert_eq!((verdict.total_votes, verdict.expected_votes, verdict.quorum), (3, None, None));
    }

    #[test]
    fn one_member_that_knows_the_expected_votes_tells_the_others() {
        let mut ignorant = node(None, 1);
        assert!(is_quorate(&ring(&mut [&mut ignorant, &mut node(3, 1)])));
        assert_eq!(ignorant.expected_votes(), Some(3));
    }

    #[test]
    fn expected_votes_grow_with_the_votes_present_and_stay() {
        let (mut a, mut b) = (node(2, 1), node(2, 1));
        assert_eq!(
            ring(&mut [&mut a, &mut b, &mut node(2, 1), &mut node(2, 1), &mut node(2, 1)]).quorum,
            Some(3)
        );
        let verdict = ring(&mut [&mut a, &mut b]);
        assert_eq!((verdict.expected_votes, verdict.quorum), (Some(5), Some(3)));
        assert!(!is_quorate(&verdict));
    }

    #[test]
    fn an_inquorate_node_adopts_what_a_quorate_one_expects() {
        let (mut a, mut b, mut late) = (node(3, 1), node(3, 1), node(9, 1));
        assert!(is_quorate(&ring(&mut [&mut a, &mut b])));
        let verdict = ring(&mut [&mut a, &mut b, &mut late]);
        assert_eq!(verdict.expected_votes, Some(3));
        assert!(is_quorate(&verdict));
        assert_eq!(late.expected_votes(), Some(3));
    }

    #[test]
    fn a_joiner_cannot_take_quorum_from_a_quorate_side() {
        let (mut a, mut b) = (node(3, 1), node(3, 1));
        assert!(is_quorate(&ring(&mut [&mut a, &mut b])));
        assert!(is_quorate(&ring(&mut [&mut a, &mut b, &mut node(1000, 1)])));
    }

    #[test]
    fn the_highest_of_several_settings_counts_at_the_start_and_leaves_no_trace_if_it_is_not_reached() {
        let (mut a, mut b) = (node(3, 1), node(3, 1));
        let verdict = ring(&mut [&mut a, &mut b, &mut node(1000, 1)]);
        assert_eq!(verdict.inquorate, Some(Inquorate::TooFewVotes { total: 3, quorum: 501 }));
        assert!(is_quorate(&ring(&mut [&mut a, &mut b])));
    }

    #[test]
    fn a_member_without_node_info_makes_the_ring_inquorate() {
        let mut a = node(1, 1);
        let members = BTreeSet::from([id(1), id(2)]);
        let said = BTreeMap::from([(id(1), a.node_info(id(1), &members))]);
        let verdict = a.judge(&members, &said);
        assert_eq!(verdict.inquorate, Some(Inquorate::NoNodeInfo(BTreeSet::from([id(2)]))));
        assert_eq!(verdict.inquorate.unwrap().to_string(), "no node info came from {2}");
    }

    #[test]
    fn what_strangers_say_does_not_count() {
        let mut a = node(3, 1);
        let members = BTreeSet::from([id(1)]);
        let mut stranger = node(3, 5);
        let said = BTreeMap::from([
            (id(1), a.node_info(id(1), &members)),
            (id(2), stranger.node_info(id(2), &members)),
        ]);
        assert_eq!(a.judge(&members, &said).total_votes, 1);
    }

    #[test]
    fn a_node_says_first_until_it_has_had_company() {
        let mut a = node(3, 1);
        let (alone, both) = (BTreeSet::from([id(1)]), BTreeSet::from([id(1), id(2)]));
        assert_eq!(a.node_info(id(1), &alone).flags, NodeInfo::FIRST);
        assert_eq!(a.node_info(id(1), &both).flags, 0);
        assert_eq!(a.node_info(id(1), &alone).flags, 0);
    }

    proptest! {
        /// Any claims at all, hostile ones included.
        #[test]
        fn the_rules_hold_for_any_claims(
            claims in proptest::collection::vec((any::<u32>(), any::<u32>(), 0_u32..16), 1..8),
            silent in any::<bool>(),
        ) {
            let members: BTreeSet<NodeId> = (1..).take(claims.len()).map(id).collect();
            let mut said: BTreeMap<NodeId, NodeInfo> = members.iter().zip(&claims)
                .map(|(&id, &(votes, expected_votes, flags))| (id, NodeInfo { node: Some(id), votes, expected_votes, flags }))
                .collect();
            if silent {
                said.pop_last();
            }
            let mut judge = node(3, 1);
            let verdict = judge.judge(&members, &said);
            let others = node(None, 7).judge(&members, &said);
            prop_assert_eq!(&verdict, &others, "a judgement depends on nothing private");
            if is_quorate(&verdict) {
                let (expected, quorum) = (verdict.expected_votes.unwrap(), verdict.quorum.unwrap());
                prop_assert!(!silent);
                prop_assert!(expected >= verdict.total_votes && verdict.total_votes >= quorum);
                prop_assert!(u64::from(quorum) * 2 > u64::from(expected), "two quorums share a vote");
                prop_assert_eq!(quorum, (expected / 2 + 1).max(verdict.total_votes / 2 + 1));
                prop_assert_eq!(judge.expected_votes(), Some(expected));
            }
        }
    }
}
