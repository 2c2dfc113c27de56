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
    /// Whether the node may be in a ring with this one: its JOIN proposes only nodes that are
    /// listed here, and a number that is believed.
    pub(super) whole: bool,
    /// The time of the first of the node's JOINs in a row with this content.
    pub(super) since: Time,
    /// The time of the first of the node's JOINs in a row that [want the
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
    /// The time after which a node that was not heard counts as silent for long. Without a ring for
    /// as long, it is immediately called failed.
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

    /// Returns the last JOIN of a node, however long ago it came.
    pub(super) fn of(&self, node: NodeId) -> Option<&LastJoin> {
        self.last.get(&node)
    }

    /// Returns the nodes that have sent a JOIN.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.last.keys().copied()
    }

    /// Returns `true` unless the node's last JOIN proposes an unlisted node or states a number that
    /// is not believed.
    pub(super) fn is_whole(&self, node: NodeId) -> bool {
        self.of(node).is_none_or(|last| last.whole)
    }

    /// Returns those of `nodes` that have not been heard for long, although another node has wanted
    /// them for as long. The other node hears both sides, and would try to form a ring of them
    /// again and again. No rings were formed since `disagreed_since`.
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

    /// Returns `true` if a node still wants the same of the nodes that are heard here. A node that
    /// forms rings alone in between calls the same dead nodes failed after each of them. That is no
    /// news (seed 17634 of the swarm).
    fn wants_the_same(&self, last: &LastJoin, join: &Join, now: Time) -> bool {
        let up = |failed: &[NodeId]| {
            failed.iter().copied().filter(|node| self.is_up(*node, now)).collect::<BTreeSet<_>>()
        };
        last.proc == join.proc && up(&last.failed) == up(&join.failed)
    }

    fn is_up(&self, node: NodeId, now: Time) -> bool {
        node == self.me || self.of(node).is_some_and(|last| now < last.at + self.long)
    }

    /// See [`super::Totem::fingerprint`]. Times of more than `old` are alike.
    pub(super) fn fingerprint(&self, now: Time, old: Duration, state: &mut impl Hasher) {
        for (node, LastJoin { proc, failed, whole, since, wants_since, at }) in &self.last {
            let times = [since, wants_since, at].map(|time| (now - *time).min(old));
            (node, proc, failed, whole, times).hash(state);
        }
    }
}
