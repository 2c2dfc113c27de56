//! Links between this node and others, for notices to an operator about peers that stay out of the
//! ring.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::outputs::Outputs;
use crate::{NodeId, Notice, Time};

/// The state of the links with other nodes. The protocol does not depend on it.
#[derive(Clone, Debug)]
pub(super) struct Reachability {
    look_at: Time,
    peers: BTreeMap<NodeId, Peer>,
}

/// A node that was heard.
#[derive(Clone, Debug)]
struct Peer {
    /// The time at which the node was last heard.
    at: Time,
    /// The time since which the node is heard without a sign that it hears this one.
    deaf_since: Time,
}

impl Reachability {
    /// The time for which a link may be silent or one-way before an operator is notified. It is
    /// longer than a ring takes to form.
    const PATIENCE: Duration = Duration::from_secs(4);
    /// The time between two checks.
    const EVERY: Duration = Duration::from_secs(1);
    /// The largest number of nodes that are remembered.
    const MOST: usize = 512;

    pub(super) fn new(now: Time) -> Self {
        Self { look_at: now + Self::PATIENCE, peers: BTreeMap::new() }
    }

    /// Records a datagram from a node outside this node's ring.
    pub(super) fn hear(&mut self, node: NodeId, now: Time) {
        if let Some(peer) = self.peers.get_mut(&node) {
            if now - peer.at > Self::PATIENCE {
                peer.deaf_since = now;
            }
            peer.at = now;
        } else if self.peers.len() < Self::MOST {
            self.peers.insert(node, Peer { at: now, deaf_since: now });
        }
    }

    /// Records a sign that `node` hears this one.
    pub(super) fn is_heard_by(&mut self, node: NodeId, now: Time) {
        if self.peers.len() < Self::MOST || self.peers.contains_key(&node) {
            self.peers.insert(node, Peer { at: now, deaf_since: now });
        }
    }

    /// Reports problems that persist, at a limited rate. `members` are the members of the installed
    /// ring, and `listed` is the node list. `speaks` is `true` unless something keeps this node
    /// from sending.
    pub(super) fn look(
        &mut self,
        now: Time,
        me: NodeId,
        members: &BTreeSet<NodeId>,
        listed: Option<&BTreeSet<NodeId>>,
        speaks: bool,
        out: &mut Outputs,
    ) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + Self::EVERY;
        for &member in members {
            self.is_heard_by(member, now);
        }
        if !speaks {
            for peer in self.peers.values_mut() {
                peer.deaf_since = now;
            }
        }
        let mut note = |notice| out.stats.notices.note(now, notice, None);
        for (&node, peer) in &self.peers {
            let talks = now - peer.at <= 2 * Self::EVERY;
            if talks && now - peer.deaf_since >= Self::PATIENCE {
                note(Notice::NotHeardBy { node });
            }
        }
        let Some(listed) = listed else { return };
        let others = || listed.iter().copied().filter(|node| *node != me && !members.contains(node));
        let silent = |node: NodeId| self.peers.get(&node).is_none_or(|peer| now - peer.at >= Self::PATIENCE);
        if members.len() <= 1 && others().next().is_some() && others().all(silent) {
            return note(Notice::HearsNobody);
        }
        for node in others().filter(|node| !self.peers.contains_key(node)) {
            note(Notice::NeverHeard { node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(node).collect()
    }

    fn at(ms: u64) -> Time {
        Time::default() + Duration::from_millis(ms)
    }

    /// Returns the notices of node 1 of three after ten seconds in a ring with these members. Calls
    /// `hears` every 100 ms.
    fn after_ten_seconds(members: &[u32], hears: impl FnMut(&mut Reachability, Time)) -> Vec<Notice> {
        said(members, true, hears)
    }

    fn said(members: &[u32], speaks: bool, mut hears: impl FnMut(&mut Reachability, Time)) -> Vec<Notice> {
        let mut reachability = Reachability::new(at(0));
        let mut out = Outputs::default();
        for ms in (0..=10_000).step_by(100) {
            hears(&mut reachability, at(ms));
            reachability.look(at(ms), node(1), &nodes(members), Some(&nodes(&[1, 2, 3])), speaks, &mut out);
            assert!(ms >= 4000 || out.stats.notices.iter().next().is_none(), "too early");
        }
        out.stats.notices.iter().map(|(notice, _)| *notice).collect()
    }

    #[test]
    fn a_complete_ring_has_no_notices() {
        assert_eq!(after_ten_seconds(&[1, 2, 3], |_, _| {}), []);
    }

    #[test]
    fn a_listed_node_that_was_never_heard_is_named() {
        assert_eq!(after_ten_seconds(&[1, 2], |_, _| {}), [Notice::NeverHeard { node: node(3) }]);
    }

    #[test]
    fn a_node_that_hears_none_of_the_list_reports_it() {
        assert_eq!(after_ten_seconds(&[1], |_, _| {}), [Notice::HearsNobody]);
        let once = |reachability: &mut Reachability, now: Time| {
            if now == at(0) {
                reachability.is_heard_by(node(2), now);
                reachability.is_heard_by(node(3), now);
            }
        };
        assert_eq!(after_ten_seconds(&[1], once), [Notice::HearsNobody]);
    }

    #[test]
    fn a_node_that_does_not_hear_this_one_is_named() {
        let hears = |reachability: &mut Reachability, now| reachability.hear(node(3), now);
        assert_eq!(after_ten_seconds(&[1, 2], hears), [Notice::NotHeardBy { node: node(3) }]);
    }

    /// The node's disk does not store the record that must be durable before the node may send.
    #[test]
    fn a_node_that_cannot_send_reports_no_peer() {
        let hears = |reachability: &mut Reachability, now| reachability.hear(node(3), now);
        assert_eq!(said(&[1, 2], false, hears), []);
    }

    #[test]
    fn a_node_that_answers_now_and_then_hears_this_one() {
        let hears = |reachability: &mut Reachability, now: Time| {
            reachability.hear(node(3), now);
            if (now - Time::default()).as_millis().is_multiple_of(2000) {
                reachability.is_heard_by(node(3), now);
            }
        };
        assert_eq!(after_ten_seconds(&[1, 2], hears), []);
    }

    #[test]
    fn a_node_that_was_heard_and_left_is_not_named() {
        let hears = |reachability: &mut Reachability, now| {
            if now < at(1000) {
                reachability.hear(node(3), now);
            }
        };
        assert_eq!(after_ten_seconds(&[1, 2], hears), []);
    }

    #[test]
    fn forged_senders_use_bounded_memory() {
        let mut reachability = Reachability::new(at(0));
        for id in 1..10_000 {
            reachability.hear(node(id), at(0));
            reachability.is_heard_by(node(id + 1), at(0));
        }
        assert_eq!(reachability.peers.len(), Reachability::MOST);
    }
}
