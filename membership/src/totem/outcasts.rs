//! Nodes that a ring was formed without, and the times at which they are readmitted.
//!
//! A node that does not agree to a ring costs the others their ring each time it is readmitted. For
//! a node that is heard but hears nothing, that is a consensus timeout. So whenever a ring is
//! formed without a node, its next attempt has to wait, and the wait doubles each time until the
//! node has been in a ring for a while. A node whose JOIN shows that it knows of all members waits
//! a quarter of that, so that a node which was deaf and has recovered is soon back.
//!
//! A node whose list does not fit waits from the first time on. A changed list ends all waits.
//!
//! Except at first, a node waits at least twice as long as the others had no ring because of it.
//! The others therefore have a ring for more than half of the time (L7). A ring that is not quorate
//! begins these waits later.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::bug;
use crate::wire::Join;
use crate::{NodeId, Time};

/// A node that was left out.
#[derive(Clone, Copy, Debug)]
struct Outcast {
    /// The number of times in a row that the node was left out.
    times: u32,
    /// The time at which it was last left out.
    at: Time,
    /// The time for which there had been no ring then, at most since the node was left out before.
    cost: Duration,
    /// The time since which the node is in the installed ring.
    back_at: Option<Time>,
}

impl Outcast {
    /// The largest number of times that the wait doubles.
    const DOUBLINGS: u32 = 4;
    /// The longest wait, as a multiple of the shortest.
    const LONGEST: u32 = 2u32.pow(Self::DOUBLINGS);
    /// The number of additional attempts that a ring without quorum allows before the node has to
    /// wait. Two parts that disagree about a third node need them to look for a ring at the same
    /// time. With more attempts, a part would have its own ring for less than half of the time
    /// (seed 902 of the swarm).
    const EAGER: u32 = 3;
    /// The time in a ring after which the node starts over, as a multiple of its wait. If two nodes
    /// are left out in turn, each is in the ring while the other waits.
    const PROOF: u32 = 4;

    /// Returns the wait of this node, if the shortest wait is `base`. A ring that is not `quorate`
    /// has little to lose.
    fn wait(&self, base: Duration, knows_all: bool, quorate: bool) -> Duration {
        let times = if quorate { self.times } else { self.times.saturating_sub(Self::EAGER) };
        let wait = doubled(base, times);
        // The first time may not have been the node's fault.
        let cost = if times > 2 { 2 * self.cost } else { Duration::ZERO };
        cost.min(base * Self::LONGEST).max(if knows_all { wait / 4 } else { wait })
    }

    /// Returns the time for which the node has to be in a ring to start over.
    fn proof(&self, base: Duration) -> Duration {
        base.max(Self::PROOF * doubled(base, self.times))
    }
}

/// Returns the wait of a node that was left out `times` times in a row.
fn doubled(base: Duration, times: u32) -> Duration {
    times
        .checked_sub(2)
        .map_or(Duration::ZERO, |doublings| base * 2u32.pow(doublings.min(Outcast::DOUBLINGS)))
}

/// The nodes that were left out recently.
#[derive(Clone, Debug)]
pub(super) struct Outcasts {
    /// The first wait, and the shortest time in a ring after which a node starts over.
    base: Duration,
    /// The nodes by id. `None` stands for all nodes that never asked to join from an address of
    /// their own. Without a node list, their ids may be arbitrary.
    nodes: BTreeMap<Option<NodeId>, Outcast>,
    /// The time since which no ring is installed.
    ringless_since: Time,
}

impl Outcasts {
    pub(super) fn new(consensus: Duration, now: Time) -> Self {
        Self { base: 2 * consensus, nodes: BTreeMap::new(), ringless_since: now }
    }

    /// Records that a ring was agreed on without these nodes. A node that had been in the previous
    /// ring (`mates`) may try again at once the first time.
    pub(super) fn leave_out(
        &mut self,
        left_out: impl Iterator<Item = Option<NodeId>>,
        mates: &BTreeSet<NodeId>,
        now: Time,
    ) {
        for node in left_out {
            if self.nodes.len() > Join::MAX_NODES && !self.nodes.contains_key(&node) {
                continue;
            }
            let before = self.nodes.get(&node);
            // If the node was left out of a ring that was then not formed, the time before that is
            // not its doing again (seed 50608 of the swarm).
            let since = before.map_or(self.ringless_since, |outcast| outcast.at.max(self.ringless_since));
            let first = if node.is_some_and(|node| mates.contains(&node)) { 1 } else { 2 };
            let times = (before.map_or(0, |outcast| outcast.times) + 1).max(first);
            let times = times.min(2 + Outcast::DOUBLINGS);
            self.nodes.insert(node, Outcast { times, at: now, cost: now - since, back_at: None });
        }
    }

    /// Records that some of the nodes just left out are misfits. They would be left out again, so
    /// each of them has to wait, even the first time.
    pub(super) fn leave_out_misfits(&mut self, misfits: &BTreeSet<NodeId>) {
        for node in misfits {
            if let Some(outcast) = self.nodes.get_mut(&Some(*node)) {
                outcast.times = outcast.times.max(2);
            }
        }
    }

    /// Records that a ring with these members was installed.
    pub(super) fn install(&mut self, members: &BTreeSet<NodeId>, now: Time) {
        for node in members {
            if let Some(outcast) = self.nodes.get_mut(&Some(*node)) {
                outcast.back_at = Some(now);
            }
        }
    }

    /// Records that the installed ring is over.
    pub(super) fn lose_ring(&mut self, now: Time) {
        self.ringless_since = now;
        let base = self.base;
        self.nodes
            .retain(|_, outcast| outcast.back_at.take().is_none_or(|at| now - at < outcast.proof(base)));
    }

    /// Readmits all nodes at once.
    pub(super) fn forgive(&mut self) {
        self.nodes.clear();
    }

    /// Returns `true` if a node that was heard has to wait. With `knows_all`, it asked to join and
    /// knows of all members of the ring. `quorate` states whether the ring is quorate.
    pub(super) fn has_to_wait(
        &self,
        node: Option<NodeId>,
        knows_all: bool,
        quorate: bool,
        now: Time,
    ) -> bool {
        let Some(outcast) = bug!(NoBackOff: None; self.nodes.get(&node)) else {
            return false;
        };
        now < outcast.at + outcast.wait(self.base, knows_all, quorate)
    }

    /// Returns the longest time until all of them are readmitted, if they are left out once more,
    /// at `then`. There is a ring until then if `operational`.
    pub(super) fn longest_wait(&self, now: Time, then: Time, operational: bool) -> Duration {
        let once_more = |outcast: &Outcast| {
            let since = if operational { now } else { outcast.at.max(self.ringless_since) };
            Outcast { times: (outcast.times + 1).max(2), cost: outcast.cost.max(then - since), ..*outcast }
        };
        self.nodes
            .values()
            .map(|outcast| once_more(outcast).wait(self.base, false, true))
            .max()
            .unwrap_or_default()
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        for (node, outcast) in &self.nodes {
            let Outcast { times, at, cost, back_at } = outcast;
            let waited = (now - *at).min(outcast.wait(self.base, false, true));
            let back = back_at.map(|at| (now - at).min(outcast.proof(self.base)));
            (node, times, waited, cost, back).hash(state);
        }
        (now - self.ringless_since).min(self.base * Outcast::LONGEST).hash(state);
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

    /// Returns the outcasts of node 1, which is in a ring with node 2.
    fn outcasts() -> Outcasts {
        Outcasts::new(BASE / 2, at(0))
    }

    /// Loses the ring, and forms one without node 3 at once.
    fn leave_out(outcasts: &mut Outcasts, mates: &[u32], now: Time) {
        outcasts.lose_ring(now);
        outcasts.leave_out([NodeId::new(3)].into_iter(), &ids(mates), now);
        outcasts.install(&ids(&[1, 2]), now);
    }

    /// Returns the time that node 3 has to wait, in seconds.
    fn wait(outcasts: &Outcasts, knows_all: bool, now: Time) -> Option<u64> {
        wait_of(outcasts, knows_all, true, now)
    }

    fn wait_of(outcasts: &Outcasts, knows_all: bool, quorate: bool, now: Time) -> Option<u64> {
        (0..100).find(|&waited| {
            !outcasts.has_to_wait(NodeId::new(3), knows_all, quorate, now + Duration::from_secs(waited))
        })
    }

    /// Returns the wait of node 3 after it was left out at these times.
    fn wait_after(times: &[u64], mates: &[u32], knows_all: bool) -> Option<u64> {
        let mut outcasts = outcasts();
        times.iter().for_each(|&time| leave_out(&mut outcasts, mates, at(time)));
        wait(&outcasts, knows_all, at(*times.last().unwrap()))
    }

    #[test]
    fn the_wait_doubles_up_to_a_bound() {
        let waits = (1..9).filter_map(|times| wait_after(&(0..times).collect::<Vec<_>>(), &[], false));
        assert_eq!(waits.collect::<Vec<_>>(), [2, 4, 8, 16, 32, 32, 32, 32]);
    }

    #[test]
    fn a_member_that_is_lost_once_may_come_back_at_once() {
        assert_eq!(wait_after(&[0], &[1, 2, 3], false), Some(0));
        assert_eq!(wait_after(&[0, 1], &[1, 2, 3], false), Some(2));
    }

    #[test]
    fn a_ring_without_quorum_readmits_more_often() {
        let mut outcasts = outcasts();
        let waits = (0..6).map(|time| {
            leave_out(&mut outcasts, &[], at(time));
            wait_of(&outcasts, false, false, at(time)).unwrap()
        });
        assert_eq!(waits.collect::<Vec<_>>(), [0, 0, 0, 2, 4, 4]);
    }

    #[test]
    fn a_misfit_waits_even_if_it_was_a_member_until_lists_change() {
        let mut outcasts = outcasts();
        leave_out(&mut outcasts, &[1, 2, 3], at(0));
        outcasts.leave_out_misfits(&ids(&[3, 4]));
        assert_eq!(wait(&outcasts, false, at(0)), Some(2));
        outcasts.forgive();
        assert_eq!(wait(&outcasts, false, at(0)), Some(0));
    }

    #[test]
    fn a_node_that_knows_of_all_members_waits_a_quarter() {
        assert_eq!(wait_after(&[0, 1, 2, 3, 4], &[], true), Some(8));
    }

    #[test]
    fn the_wait_is_twice_as_long_as_the_others_had_no_ring() {
        for (ringless, knows_all, waits) in [(1, false, 4), (7, false, 14), (7, true, 14), (60, false, 32)] {
            let mut outcasts = outcasts();
            leave_out(&mut outcasts, &[], at(0));
            outcasts.lose_ring(at(10));
            outcasts.leave_out([NodeId::new(3)].into_iter(), &ids(&[]), at(10 + ringless));
            assert_eq!(
                wait(&outcasts, knows_all, at(10 + ringless)),
                Some(waits),
                "{ringless} s without a ring"
            );
        }
    }

    #[test]
    fn time_without_a_ring_counts_once_if_several_rings_fail() {
        let mut outcasts = outcasts();
        leave_out(&mut outcasts, &[], at(0));
        outcasts.lose_ring(at(10));
        for second in [17, 18] {
            outcasts.leave_out([NodeId::new(3)].into_iter(), &ids(&[]), at(second));
        }
        assert_eq!(wait(&outcasts, true, at(18)), Some(2));
    }

    #[test]
    fn a_node_that_has_been_in_a_ring_for_a_while_starts_over() {
        for (stays, waits) in [(15, 8), (16, 2)] {
            let mut outcasts = outcasts();
            [0, 1].iter().for_each(|&time| leave_out(&mut outcasts, &[], at(time)));
            outcasts.install(&ids(&[1, 2, 3]), at(10));
            leave_out(&mut outcasts, &[], at(10 + stays));
            assert_eq!(wait(&outcasts, false, at(10 + stays)), Some(waits), "after {stays} s in a ring");
        }
    }

    #[test]
    fn a_ring_that_was_only_agreed_on_does_not_reset_the_wait() {
        let mut outcasts = outcasts();
        [0, 1].iter().for_each(|&time| leave_out(&mut outcasts, &[], at(time)));
        outcasts.lose_ring(at(5));
        outcasts.leave_out([].into_iter(), &ids(&[]), at(6));
        leave_out(&mut outcasts, &[], at(20));
        assert_eq!(wait(&outcasts, false, at(20)), Some(8));
    }

    #[test]
    fn invented_ids_use_bounded_memory() {
        let mut outcasts = outcasts();
        outcasts.leave_out((1..10_000).map(NodeId::new), &ids(&[]), at(0));
        assert!(outcasts.nodes.len() <= Join::MAX_NODES + 1);
    }
}
