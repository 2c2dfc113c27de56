//! The last JOIN of each node, and what it shows about the node.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::wire::Join;
use crate::{NodeId, Time};

/// The last JOIN of a node.
#[derive(Clone)]
pub(super) struct LastJoin {
    proc: Vec<NodeId>,
    pub(super) failed: Vec<NodeId>,
    /// Whether this node can agree with the JOIN: it proposes only nodes that are listed here, and
    /// its ring number is believed.
    pub(super) whole: bool,
    /// The time of the first JOIN in the node's latest series of JOINs with this content.
    pub(super) since: Time,
    /// The time of the first JOIN in the node's latest series of JOINs that [want the
    /// same](Joins::wants_the_same).
    pub(super) wants_since: Time,
    /// The time of the latest JOIN.
    pub(super) at: Time,
}

impl LastJoin {
    pub(super) fn says(&self, proc: &BTreeSet<NodeId>, failed: &BTreeSet<NodeId>) -> bool {
        let set = |nodes: &[NodeId]| nodes.iter().copied().collect::<BTreeSet<_>>();
        set(&self.proc) == *proc && set(&self.failed) == *failed
    }

    pub(super) fn names(&self, node: NodeId) -> bool {
        self.proc.contains(&node)
    }
}

/// The last JOINs of the other nodes.
#[derive(Clone)]
pub(super) struct Joins {
    me: NodeId,
    /// The silence after which a node no longer counts as up. If attempts to form a ring have
    /// failed for as long, such a node may be called failed immediately.
    long: Duration,
    last: BTreeMap<NodeId, LastJoin>,
}

impl Joins {
    pub(super) fn new(me: NodeId, consensus: Duration) -> Self {
        Self { me, long: 2 * consensus, last: BTreeMap::new() }
    }

    /// Records a JOIN. With `whole`, this node may agree with it.
    pub(super) fn note(&mut self, join: &Join, whole: bool, now: Time) {
        if join.leave {
            self.last.remove(&join.from);
        } else if self.last.len() < Join::MAX_NODES || self.last.contains_key(&join.from) {
            let (proc, failed) = (join.proc.clone(), join.failed.clone());
            // An old JOIN does not show that the node has held the same lists ever since.
            let last = self.last.get(&join.from).filter(|last| now < last.at + self.long);
            let same = last.filter(|last| (&last.proc, &last.failed) == (&proc, &failed));
            let since = same.map_or(now, |last| last.since);
            let wants = last.filter(|last| self.wants_the_same(last, join, now));
            let wants_since = wants.map_or(now, |last| last.wants_since);
            self.last.insert(join.from, LastJoin { proc, failed, whole, since, wants_since, at: now });
        }
    }

    /// Returns the last JOIN of a node, however old it is.
    pub(super) fn of(&self, node: NodeId) -> Option<&LastJoin> {
        self.last.get(&node)
    }

    /// Returns the nodes that have sent a JOIN.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.last.keys().copied()
    }

    /// Returns `true` unless the node's last JOIN proposes an unlisted node or has a ring number
    /// that is not believed.
    pub(super) fn is_whole(&self, node: NodeId) -> bool {
        self.of(node).is_none_or(|last| last.whole)
    }

    /// Returns those of `nodes` that this node has not heard for long, although another node has
    /// proposed them for as long. The other node hears both sides, and would try to form a ring of
    /// them again and again. Attempts to form a ring have failed since `disagreed_since`. If that
    /// is not long ago, returns no nodes.
    pub(super) fn unheard_for_long(
        &self,
        nodes: &BTreeSet<NodeId>,
        disagreed_since: Option<Time>,
        now: Time,
    ) -> BTreeSet<NodeId> {
        let long = self.long;
        if disagreed_since.is_none_or(|since| now < since + long) {
            return BTreeSet::new();
        }
        let firm: Vec<&LastJoin> =
            self.last.values().filter(|last| now < last.at + long && now >= last.since + long).collect();
        let named = |node: &NodeId| firm.iter().any(|last| last.names(*node) && !last.failed.contains(node));
        nodes.iter().copied().filter(|node| !self.is_up(*node, now) && named(node)).collect()
    }

    /// Returns `true` if a node's new JOIN proposes the same nodes as its last one, and calls the
    /// same nodes failed among those that are heard here. A node that forms rings alone in between
    /// calls the same dead nodes failed after each of these rings, which changes nothing (seed
    /// 17634 of the swarm).
    fn wants_the_same(&self, last: &LastJoin, join: &Join, now: Time) -> bool {
        let up = |failed: &[NodeId]| {
            failed.iter().copied().filter(|node| self.is_up(*node, now)).collect::<BTreeSet<_>>()
        };
        last.proc == join.proc && up(&last.failed) == up(&join.failed)
    }

    fn is_up(&self, node: NodeId, now: Time) -> bool {
        node == self.me || self.of(node).is_some_and(|last| now < last.at + self.long)
    }

    /// See [`super::Totem::fingerprint`]. Ages above `old` count as equal.
    pub(super) fn fingerprint(&self, now: Time, old: Duration, state: &mut impl Hasher) {
        for (node, LastJoin { proc, failed, whole, since, wants_since, at }) in &self.last {
            let times = [since, wants_since, at].map(|time| (now - *time).min(old));
            (node, proc, failed, whole, times).hash(state);
        }
    }
}
