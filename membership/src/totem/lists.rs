//! The beliefs that nodes exchange in JOINs, and how each adopts the others'.

use std::collections::BTreeSet;

use super::local::Local;
use crate::bug;
use crate::wire::Join;
use crate::{Cause, NodeId, Time};

/// The beliefs of a node about a future ring.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Lists {
    /// The nodes considered.
    pub(super) proc: BTreeSet<NodeId>,
    /// The considered nodes that failed. Never contains this node itself.
    pub(super) failed: BTreeSet<NodeId>,
    /// The failed nodes that have left or whose process is gone. They need not wait to be
    /// readmitted.
    excused: BTreeSet<NodeId>,
    /// The failed nodes that are only left out because node lists differ.
    misfits: BTreeSet<NodeId>,
    /// Whether a consensus timeout has ended without agreement.
    pub(super) overdue: bool,
}

/// The effect of a JOIN on this node's lists.
pub(super) enum Considered {
    /// The JOIN has the same lists, so its sender agrees.
    Same,
    /// The JOIN has nothing new. Its sender will adopt this node's lists.
    Nothing,
    /// The lists have changed.
    Changed(Cause),
    /// With the nodes that the JOIN names, the lists would exceed the size of a JOIN and a ring.
    TooMany,
}

impl Lists {
    /// Returns lists with the members of a ring that is over or was not formed, none of them
    /// failed. Nodes that were called failed when the ring was formed are not members, and are not
    /// called failed again without a new reason. Otherwise two rings that meet while one of them is
    /// being formed could exclude each other forever (B16, B17).
    pub(super) fn of(members: &BTreeSet<NodeId>) -> Self {
        let none = BTreeSet::new;
        Self { proc: members.clone(), failed: none(), excused: none(), misfits: none(), overdue: false }
    }

    /// Returns the nodes that would form the ring.
    pub(super) fn candidates(&self) -> BTreeSet<NodeId> {
        &self.proc - &self.failed
    }

    /// Calls a node failed that is gone, and may come back at any time.
    pub(super) fn excuse(&mut self, node: NodeId) {
        self.failed.insert(node);
        self.excused.insert(node);
        self.misfits.remove(&node);
    }

    /// Returns the nodes to leave out because node lists differ, by what is known now. A node that
    /// is not heard any more stays left out.
    pub(super) fn misfits_now(&self, now: Time, local: &Local) -> BTreeSet<NodeId> {
        let candidates = &self.candidates() | &self.misfits;
        let gone = &self.misfits - &local.up(&self.misfits, now);
        &local.misfits(&(&candidates - &gone), now) | &gone
    }

    /// Replaces the misfits by [`Lists::misfits_now`]. Returns `true` if that changes them.
    pub(super) fn choose_misfits(&mut self, now: Time, local: &Local) -> bool {
        let misfits = self.misfits_now(now, local);
        self.failed = &(&self.failed - &self.misfits) | &misfits;
        std::mem::replace(&mut self.misfits, misfits) != self.misfits
    }

    /// Calls these nodes failed, and no others but the misfits.
    pub(super) fn accuse(&mut self, failed: &BTreeSet<NodeId>) {
        self.misfits = &self.misfits - failed;
        self.failed = failed | &self.misfits;
    }

    /// Returns the misfits that were chosen.
    pub(super) fn misfits(&self) -> &BTreeSet<NodeId> {
        &self.misfits
    }

    /// Returns the nodes that are left out of the ring and may have to wait before they try again.
    pub(super) fn left_out(&self) -> impl Iterator<Item = NodeId> {
        self.failed.iter().copied().filter(|node| !self.excused.contains(node))
    }

    /// Returns `true` if the sender would form the same ring. The sender may not know or not list
    /// the nodes that are left out.
    fn forms_the_same(&self, join: &Join) -> bool {
        let candidates = join.proc.iter().copied().filter(|node| !join.failed.contains(node));
        !join.leave
            && !self.failed.contains(&join.from)
            && bug!(ListsNeverEqual: false; candidates.collect::<BTreeSet<_>>() == self.candidates())
    }

    /// Adopts the beliefs in `join` (TOCS 1995, section 5.2, with corosync's filters). The nodes in
    /// `silent` are those that this node would have heard if they were up.
    pub(super) fn consider(&mut self, join: &Join, silent: &BTreeSet<NodeId>, local: &Local) -> Considered {
        let proc: BTreeSet<NodeId> = join.proc.iter().copied().collect();
        let failed: BTreeSet<NodeId> = join.failed.iter().copied().collect();
        let failed = bug!(LeaverNotFailed: if join.leave { BTreeSet::new() } else { failed }; failed);
        if bug!(ListsNeverEqual: false; proc == self.proc && failed == self.failed) {
            return Considered::Same;
        }
        let known = proc.is_subset(&self.proc);
        let known = bug!(SubsetAfterFirstHit: known || !proc.is_disjoint(&self.proc); known);
        if known && failed.is_subset(&self.failed) || self.failed.contains(&join.from) {
            return self.agreement(join);
        }
        let cause = self.cause_of_change(join, &failed, local);
        let mut lists = self.clone();
        lists.proc.extend(proc);
        if bug!(LeaverNotFailed: false; join.leave) {
            // A leaving node is believed about itself, whichever ring it was in (B19).
            lists.excuse(join.from);
        }
        lists.believe(join.from, &failed, silent, local);
        if lists.proc.len().max(lists.failed.len()) > Join::MAX_NODES {
            return Considered::TooMany;
        }
        if *self == lists {
            // It may call a node failed that is not considered here, such as one that has left
            // (seed 72601 of the swarm).
            return self.agreement(join);
        }
        *self = lists;
        Considered::Changed(cause)
    }

    /// Judges a JOIN that changes nothing here.
    fn agreement(&self, join: &Join) -> Considered {
        if self.forms_the_same(join) { Considered::Same } else { Considered::Nothing }
    }

    /// Returns why a JOIN changes these lists: its sender calls further nodes failed, or its kind.
    fn cause_of_change(&self, join: &Join, failed: &BTreeSet<NodeId>, local: &Local) -> Cause {
        let mut news: BTreeSet<NodeId> = failed - &self.failed;
        news.remove(&local.me);
        match news.is_empty() || join.leave {
            true => cause_of(join, local),
            false => Cause::FailedBy { node: join.from, failed: news },
        }
    }

    /// Believes `from` about the nodes that it calls failed, as far as it is trusted about them.
    fn believe(&mut self, from: NodeId, failed: &BTreeSet<NodeId>, silent: &BTreeSet<NodeId>, local: &Local) {
        let member = bug!(FailedNotMerged: false; local.ring.members.contains(&from));
        if bug!(BelievesItselfFailed: false; failed.contains(&local.me)) {
            // corosync returns the accusation, and two nodes can then continue forever, each
            // answering the other's last JOIN (B16). Here it is not returned. The accuser's beliefs
            // about other nodes are ignored too.
            bug!(AccusationsAnswered: self.failed.extend([from]); ());
        } else if member && !self.overdue {
            // Members of this node's own ring are believed when they call others failed (B17). If
            // node lists differ, each node chooses by itself which nodes stay together.
            self.failed.extend(failed - &local.disputed());
            self.failed.extend(failed & silent);
        } else {
            // All other nodes are believed only about nodes that are silent here too. The same
            // holds for members once that has not led to agreement.
            self.failed.extend(failed & silent);
        }
    }

    /// Returns the sender of `join` if it has exactly these beliefs.
    pub(super) fn agrees(&self, join: &Join, local: &Local) -> Option<NodeId> {
        let same = !join.leave
            && local.joins.is_whole(join.from)
            && self.proc.iter().eq(&join.proc.iter().copied().collect::<BTreeSet<_>>())
            && self.failed.iter().eq(&join.failed.iter().copied().collect::<BTreeSet<_>>());
        same.then_some(join.from)
    }
}

/// Returns the cause that a JOIN amounts to by itself.
pub(super) fn cause_of(join: &Join, local: &Local) -> Cause {
    let node = join.from;
    if join.leave {
        Cause::LeaveFrom { node }
    } else if !local.ring.members.contains(&node) {
        Cause::JoinFrom { node }
    } else if join.proc.contains(&local.me) {
        Cause::GivenUpBy { node }
    } else {
        Cause::Restarted { node }
    }
}

/// Records a cause once, up to a maximum number. The first causes matter most.
pub(super) fn note(causes: &mut Vec<Cause>, cause: Cause) {
    const TOLD: usize = 6;
    if causes.len() < TOLD && !causes.contains(&cause) {
        causes.push(cause);
    }
}
