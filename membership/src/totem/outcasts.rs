//! Nodes that a ring was formed without, and when they are let in again.
//!
//! A node that does not agree to a ring costs the others theirs each time it is let in: a consensus timeout, for a node that
//! is heard and hears nothing. So whenever a ring is formed without a node, its next attempt has to wait, and each time
//! twice as long, until it has been in a ring for a while. A node that shows by its JOIN that it knows of all members waits
//! a quarter of that, so that one which was deaf and is not any more is back soon.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::mutants::Mutant;
use crate::wire::Join;
use crate::{NodeId, Time};

/// A node that was left out.
#[derive(Clone, Copy, Debug)]
struct Outcast {
    /// How often in a row.
    times: u32,
    /// When last.
    at: Time,
    /// When a ring was agreed on that it is in.
    back_at: Option<Time>,
}

/// All nodes that were left out of late.
#[derive(Clone, Debug)]
pub(super) struct Outcasts {
    /// The first wait, and how long it takes in a ring to be as good as new.
    base: Duration,
    /// By id; without one, nodes that never asked to join from an address of their own. Without a node list, their ids
    /// may be anything.
    nodes: BTreeMap<Option<NodeId>, Outcast>,
}

impl Outcasts {
    /// How often the wait doubles at most.
    const DOUBLINGS: u32 = 4;

    pub(super) fn new(consensus: Duration) -> Self {
        Self { base: 2 * consensus, nodes: BTreeMap::new() }
    }

    /// A ring of these members was agreed on, without `left_out`; those of them who had been `mates` in the ring before may
    /// try again at once, the first time.
    pub(super) fn note(
        &mut self,
        members: &BTreeSet<NodeId>,
        left_out: impl Iterator<Item = Option<NodeId>>,
        mates: &BTreeSet<NodeId>,
        now: Time,
    ) {
        for node in members {
            if let Some(outcast) = self.nodes.get_mut(&Some(*node)) {
                outcast.back_at = outcast.back_at.or(Some(now));
            }
        }
        for node in left_out {
            if self.nodes.len() > Join::MAX_NODES && !self.nodes.contains_key(&node) {
                continue;
            }
            let proven = |outcast: &Outcast| outcast.back_at.is_some_and(|at| now - at >= self.base);
            let before =
                self.nodes.get(&node).filter(|outcast| !proven(outcast)).map_or(0, |outcast| outcast.times);
            let first = if node.is_some_and(|node| mates.contains(&node)) { 1 } else { 2 };
            let times = (before + 1).max(first).min(2 + Self::DOUBLINGS);
            self.nodes.insert(node, Outcast { times, at: now, back_at: None });
        }
        self.nodes.retain(|_, outcast| outcast.back_at.is_none_or(|at| now - at < self.base));
    }

    /// Whether a node that was heard has to wait. `knows_all`: it asked to join, and knows of all members of the ring.
    pub(super) fn has_to_wait(&self, node: Option<NodeId>, knows_all: bool, now: Time) -> bool {
        let Some(outcast) = self.nodes.get(&node).filter(|_| !Mutant::NoBackOff.is_active()) else {
            return false;
        };
        let delay = self.delay(outcast.times);
        now < outcast.at + if knows_all { delay / 4 } else { delay }
    }

    fn delay(&self, times: u32) -> Duration {
        match times.checked_sub(2) {
            Some(doublings) => self.base * 2u32.pow(doublings.min(Self::DOUBLINGS)),
            None => Duration::ZERO,
        }
    }

    /// How long it may take at most until all of them are let in, should they be left out once more.
    pub(super) fn longest_wait(&self) -> Duration {
        self.nodes.values().map(|outcast| self.delay((outcast.times + 1).max(2))).max().unwrap_or_default()
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        for (node, Outcast { times, at, back_at }) in &self.nodes {
            let waited = (now - *at).min(self.delay(*times));
            (node, times, waited, back_at.map(|at| (now - at).min(self.base))).hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(2);

    fn ids(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().filter_map(|&id| NodeId::new(id)).collect()
    }

    fn at(seconds: u64) -> Time {
        Time::default() + Duration::from_secs(seconds)
    }

    /// Leaves node 3 out at these times; how long it then has to wait.
    fn wait(times: &[u64], mates: &[u32], knows_all: bool) -> u64 {
        let mut outcasts = Outcasts::new(BASE / 2);
        for &time in times {
            outcasts.note(&ids(&[1, 2]), [NodeId::new(3)].into_iter(), &ids(mates), at(time));
        }
        let last = times.last().copied().unwrap();
        (0..).find(|&waited| !outcasts.has_to_wait(NodeId::new(3), knows_all, at(last + waited))).unwrap()
    }

    #[test]
    fn the_wait_doubles_up_to_a_bound() {
        let waits: Vec<u64> = (1..9).map(|times| wait(&(0..times).collect::<Vec<_>>(), &[], false)).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 32, 32, 32]);
    }

    #[test]
    fn a_member_that_is_lost_once_may_come_back_at_once() {
        assert_eq!(wait(&[0], &[1, 2, 3], false), 0);
        assert_eq!(wait(&[0, 1], &[1, 2, 3], false), 2);
    }

    #[test]
    fn a_node_that_knows_of_all_members_waits_a_quarter() {
        assert_eq!(wait(&[0, 1, 2, 3, 4], &[], true), 8);
    }

    #[test]
    fn a_node_that_has_been_in_a_ring_for_a_while_starts_over() {
        for (stays, waits) in [(1, 8), (2, 2)] {
            let mut outcasts = Outcasts::new(BASE / 2);
            let three = NodeId::new(3);
            for time in [0, 1] {
                outcasts.note(&ids(&[1, 2]), [three].into_iter(), &ids(&[]), at(time));
            }
            outcasts.note(&ids(&[1, 2, 3]), [].into_iter(), &ids(&[]), at(10));
            outcasts.note(&ids(&[1, 2]), [three].into_iter(), &ids(&[]), at(10 + stays));
            let waited = (0..).find(|&waited| !outcasts.has_to_wait(three, false, at(10 + stays + waited)));
            assert_eq!(waited, Some(waits), "after {stays} s in a ring");
        }
    }

    #[test]
    fn made_up_names_fill_no_memory() {
        let mut outcasts = Outcasts::new(BASE);
        outcasts.note(&ids(&[1]), (1..10_000).map(NodeId::new), &ids(&[]), at(0));
        assert!(outcasts.nodes.len() <= Join::MAX_NODES + 1);
    }
}
