//! GATHER: finding the members of a new ring, until all of them agree.
//!
//! A node multicasts its beliefs in JOINs: the nodes considered, and those of them that failed. It
//! adopts the beliefs of others, until all remaining nodes believe the same. Then the lowest id
//! sends the commit token.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::Transition;
use super::joins::LastJoin;
use super::lists::{Considered, Lists, cause_of, note};
use super::local::Local;
use super::misfits::{Pair, cannot_be_together, ordered};
use super::rotation::successor;
use crate::bug;
use crate::wire::{CommitToken, Join, Multicast};
use crate::{Cause, NodeId, Notice, Refusal, RingId, Time};

/// JOINs that a node may leave unanswered before it is called silent, if all others agree.
const UNANSWERED: u32 = 4;
/// The number of nodes above which a node spaces its JOINs. If each of n starting nodes answered
/// each JOIN at once, they would send n * n JOINs and receive n times as many.
const CROWD: usize = 16;
/// The time from one JOIN to the next in a crowd. The next one carries all changes made meanwhile.
const SPACING: Duration = Duration::from_millis(1);
/// Consensus timeouts without a ring after which every node that still disagrees is called failed.
const ROUNDS: u32 = 16;
/// Consensus timeouts without a ring after which a node keeps calling failed the nodes that cannot
/// be with the others.
const APART: u32 = 6;
/// Consensus timeouts without a ring after which a node also disagrees if its lists change, as long
/// as it wants the same of the nodes that are up. Earlier than that, lists change because the
/// others' do.
const FICKLE: u32 = 12;

/// The state of a node that is looking for others.
#[derive(Clone)]
pub(super) struct Gather {
    pub(super) lists: Lists,
    /// The causes so far.
    pub(super) causes: Vec<Cause>,
    /// The nodes that are known to believe the same lists.
    pub(super) consensus: BTreeSet<NodeId>,
    /// The time at which the lists were made.
    since: Time,
    join_at: Time,
    /// Whether a JOIN with these lists has been sent.
    said: bool,
    /// The time at which silent nodes are given up, if all others agree.
    silent_at: Option<Time>,
    wait: Wait,
}

/// The event that a gathering node waits for.
#[derive(Clone, Copy)]
enum Wait {
    /// Agreement of all nodes, until the given time.
    Consensus(Time),
    /// The commit token after agreement, until the given time.
    Commit(Time),
}

impl Gather {
    pub(super) fn enter(
        mut lists: Lists,
        mut causes: Vec<Cause>,
        agreeing: Option<NodeId>,
        now: Time,
        local: &mut Local,
    ) -> Self {
        lists.proc.insert(local.me);
        bug!(BelievesItselfFailed: false; lists.failed.remove(&local.me));
        lists.failed.extend(local.joins.unheard_for_long(&lists.proc, local.disagreed_since, now));
        let has_changed = lists.choose_misfits(now, local);
        if has_changed && !lists.misfits().is_empty() {
            local.notice_misfits(&lists.proc, now);
            note(&mut causes, Cause::Misfit { nodes: lists.misfits().clone() });
        }
        let agreeing = agreeing.filter(|_| !has_changed);
        let consensus = agreeing.into_iter().chain([local.me]).collect();
        let delay = local.random_delay(local.config.send_join).max(spacing(&lists, now, local));
        let mut gather = Self {
            lists,
            causes,
            consensus,
            since: now,
            join_at: now + delay,
            said: false,
            silent_at: local.config.failure_evidence.then(|| now + patience(local)),
            wait: Wait::Consensus(now + local.config.consensus),
        };
        if delay.is_zero() {
            gather.send_join(now, local);
        }
        gather
    }

    fn send_join(&mut self, now: Time, local: &mut Local) {
        self.join_at = now + local.config.join + local.random_delay(local.config.send_join);
        local.join_sent_at = Some(now);
        self.said = true;
        let join = Join {
            from: local.me,
            leave: false,
            ring_seq: local.attempted,
            proc: self.lists.proc.iter().copied().collect(),
            failed: self.lists.failed.iter().copied().collect(),
        };
        local.send_join(join);
    }

    /// Probes the nodes that have not answered, so that a host reports a process that is gone.
    fn probe_silent(&self, local: &mut Local) {
        if local.config.failure_evidence && !local.config.probe.is_zero() {
            for node in &self.lists.candidates() - &self.consensus {
                if local.joins.of(node).is_none_or(|last| last.at < self.since) {
                    local.probe(node);
                }
            }
        }
    }

    fn agreed(&self) -> bool {
        let all = self.lists.candidates().is_subset(&self.consensus);
        bug!(CommitBeforeConsensus: all || self.consensus.len() > 1; all)
    }

    /// Forms the ring if all agree and this node is the lowest of them.
    ///
    /// The others accept a commit token only with a number that is plausible to them. So this node
    /// first says its own number, even if the others' JOINs came before its own (seed 64741 of the
    /// swarm).
    pub(super) fn commit(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        let candidates = self.lists.candidates();
        if !self.agreed() || candidates.first() != Some(&local.me) {
            return None;
        }
        if !self.said && candidates.len() > 1 {
            self.send_join(now, local);
        }
        let token = CommitToken {
            from: local.me,
            token_seq: 0,
            ring: RingId { representative: local.me, seq: local.next_ring_seq() },
            members: candidates.into_iter().collect(),
            entries: Vec::new(),
        };
        Some(self.agree_to(token, Cause::Consensus))
    }

    fn agree_to(&mut self, token: CommitToken, cause: Cause) -> Transition {
        let causes = std::mem::take(&mut self.causes);
        Transition::Commit { cause, agreed: self.lists.clone(), causes, token }
    }

    /// Starts over with the current beliefs.
    pub(super) fn again(&mut self, cause: Cause, agreeing: Option<NodeId>) -> Transition {
        let mut causes = std::mem::take(&mut self.causes);
        note(&mut causes, cause);
        Transition::Gather { lists: self.lists.clone(), causes, agreeing }
    }

    pub(super) fn handle_join(&mut self, join: &Join, now: Time, local: &mut Local) -> Option<Transition> {
        if !self.lists.proc.contains(&join.from) && local.has_to_wait(join, now) {
            return None;
        }
        match self.lists.consider(join, &self.silent(now, local), local) {
            Considered::Same | Considered::Nothing
                if self.lists.misfits_now(now, local) != *self.lists.misfits() =>
            {
                Some(self.again(cause_of(join, local), None))
            }
            Considered::Same if !join.leave && local.joins.is_whole(join.from) => {
                self.consensus.insert(join.from);
                self.commit(now, local)
            }
            Considered::Same | Considered::Nothing => {
                self.consensus.remove(&join.from);
                None
            }
            Considered::Changed(cause) => {
                let agreeing = self.lists.agrees(join, local);
                Some(self.again(cause, agreeing))
            }
            Considered::TooMany => {
                local.out.refuse(Refusal::TooMany);
                None
            }
        }
    }

    pub(super) fn handle_commit(
        &mut self,
        token: CommitToken,
        now: Time,
        local: &Local,
    ) -> Option<Transition> {
        let members: BTreeSet<NodeId> = token.members.iter().copied().collect();
        let new = bug!(StaleCommitTokenAccepted: true; token.ring.seq > local.attempted);
        if members != self.lists.candidates() || !new {
            return None;
        }
        // Without a node list, the address of a node is known from its JOINs alone. If no JOIN of
        // the successor comes before this token comes again, this node cannot pass the token on,
        // and the others would try forever (seed 92286 of the swarm).
        let next = successor(local.me, &members);
        if bug!(CommitTokenToStranger: false; next != local.me && !local.is_known(next)) {
            return self.silent(now, local).contains(&next).then(|| {
                self.lists.failed.insert(next);
                self.again(Cause::NeverHeard { node: next }, None)
            });
        }
        let cause = Cause::CommitToken { ring: token.ring };
        Some(self.agree_to(token, cause))
    }

    /// Handles a frame. A frame of the old ring may still fill a gap, and one of another ring
    /// reveals a node.
    pub(super) fn handle_multicast(
        &mut self,
        frame: Multicast,
        now: Time,
        local: &mut Local,
    ) -> Option<Transition> {
        if frame.ring == local.ring.id {
            local.keep(frame);
            return None;
        }
        self.hear(frame.from, now, local)
    }

    /// Considers a node that was heard and may not be known yet. A node that receives this node's
    /// JOINs answers them. So without a node list only a node that has sent a JOIN is added, since
    /// invented ids could delay an agreement forever.
    pub(super) fn hear(&mut self, node: NodeId, now: Time, local: &Local) -> Option<Transition> {
        if local.stranger_has_to_wait(node, now)
            || bug!(StrangersDelayAgreement: false; !local.is_known(node))
        {
            return None;
        }
        let room = self.lists.proc.len() < Join::MAX_NODES;
        (room && self.lists.proc.insert(node)).then(|| self.again(Cause::Heard { node }, None))
    }

    pub(super) fn handle_timeout(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        if now >= self.join_at {
            if self.said {
                self.probe_silent(local);
            }
            if let Some(transition) = self.give_up_misfits(now, local) {
                return Some(transition);
            }
            self.send_join(now, local);
        }
        if self.silent_at.take_if(|at| now >= *at).is_some()
            && let Some(transition) = self.give_up_silent(now, local)
        {
            return Some(transition);
        }
        match self.wait {
            Wait::Consensus(at) if now >= at => {
                if !self.agreed() {
                    return self.accuse(now, local);
                }
                self.consensus = [local.me].into();
                self.wait = Wait::Commit(now + local.config.token);
                None
            }
            Wait::Commit(at) if now >= at => {
                if !self.agreed() {
                    return self.accuse(now, local);
                }
                local.catch_up();
                Some(self.again(Cause::CommitLost { after: local.config.token }, None))
            }
            _ => None,
        }
    }

    /// Returns the nodes that were not heard for the time of two JOINs.
    fn silent(&self, now: Time, local: &Local) -> BTreeSet<NodeId> {
        let two_joins = local.two_joins();
        if now < self.since + two_joins { BTreeSet::new() } else { self.unheard(now, two_joins, local) }
    }

    /// Returns the nodes that were not heard for the time `long`.
    fn unheard(&self, now: Time, long: Duration, local: &Local) -> BTreeSet<NodeId> {
        let heard = |node: &NodeId| {
            *node == local.me || local.joins.of(*node).is_some_and(|last| now < last.at + long)
        };
        self.lists.proc.iter().copied().filter(|node| !heard(node)).collect()
    }

    /// Handles a consensus timeout that ends without agreement.
    ///
    /// This node returns to its first-hand knowledge: only nodes that it has not heard are called
    /// failed. Accusations from others may have been true of another ring, and would circulate
    /// forever (B16, seeds 1102 and 1406 of the swarm; corosync calls all of the nodes failed at
    /// once). All nodes that are up do the same.
    ///
    /// A node that believes something else for longer than that does not hear the nodes that this
    /// one hears. They cannot all be in the same ring, so some of them are called failed as well.
    /// In the end, this applies to every node that has not agreed.
    fn accuse(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        local.catch_up();
        let consensus = local.config.consensus;
        self.lists.overdue = true;
        let since = *local.disagreed_since.get_or_insert(now);
        let last_call = now >= since + ROUNDS * consensus;
        if last_call {
            local.disagreed_since = Some(now);
        }
        let unheard = self.unheard(now, consensus, local);
        let heard = &self.lists.proc - &unheard;
        let firm_at = consensus + local.two_joins();
        let is_firm = |node: &NodeId| match local.joins.of(*node) {
            // A node whose number is not believed may want the same, but cannot be agreed with
            // (seed 70345 of the swarm).
            Some(last) if last.says(&self.lists.proc, &unheard) && last.whole => false,
            Some(last) if last_call || now >= last.since + firm_at => true,
            Some(last) if now >= (since + FICKLE * consensus).max(last.wants_since + firm_at) => true,
            // The node still calls failed some nodes that are heard here. Forgetting that would
            // mean starting over. If it calls most of them failed, the cause is not a lost link,
            // and such accusations would keep each other alive (seed 20289 of the swarm).
            Some(last) => {
                let missed = last.failed.iter().filter(|other| heard.contains(other)).count();
                now >= since + APART * consensus
                    && self.lists.failed.contains(node)
                    && (1..=heard.len() / 2).contains(&missed)
            }
            None => true,
        };
        let differing = &(&self.lists.proc - &self.consensus) - &unheard;
        let firm: BTreeSet<NodeId> = differing.iter().copied().filter(is_firm).collect();
        let failed = bug!(
            AllWhoDifferAccused: &(&self.lists.failed | &unheard) | &differing;
            &unheard | &misfits_of(&firm, &heard, local)
        );
        let mut lists = self.lists.clone();
        lists.accuse(&failed);
        lists.choose_misfits(now, local);
        if lists.failed == self.lists.failed {
            self.wait = Wait::Consensus(now + local.two_joins());
            return None;
        }
        let nodes = &(&lists.failed - &self.lists.failed) - lists.misfits();
        if !nodes.is_empty() {
            note(&mut self.causes, Cause::Silent { nodes, after: consensus });
        }
        self.lists = lists;
        let causes = std::mem::take(&mut self.causes);
        Some(Transition::Gather { lists: self.lists.clone(), causes, agreeing: None })
    }

    /// Gives up nodes that have left several JOINs unanswered, without waiting for the consensus
    /// timeout. This requires that all nodes that answer agree, and that the silent ones were
    /// members of the lost ring. A stranger may be about to form a ring of its own. It would then
    /// find this ring without it, and the two would alternate (seed 1913 of the lockstep lab).
    fn give_up_silent(&mut self, now: Time, local: &Local) -> Option<Transition> {
        let after = patience(local);
        let missing = &self.lists.candidates() - &self.consensus;
        let mut silent = self.unheard(now, after, local);
        bug!(StrangersGivenUpSoon: (); silent.retain(|node| local.ring.members.contains(node)));
        if missing.is_empty() || !missing.is_subset(&silent) {
            return None;
        }
        self.lists.failed.extend(missing.iter().copied());
        Some(self.again(Cause::Silent { nodes: missing, after }, None))
    }

    /// Gives up nodes that cannot be in one ring with the others, long before the consensus
    /// timeout.
    ///
    /// Such nodes are heard here and have left each other out in several JOINs, although they
    /// receive this node's JOINs and so know its lists. Their node lists differ, or no path leads
    /// from one to the other. The largest possible set stays together. In a tie, members of the
    /// ring stay.
    fn give_up_misfits(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        let candidates = self.lists.candidates();
        let (me, patience) = (local.me, patience(local));
        let is_steady = |last: &&LastJoin| {
            last.names(me) && last.at >= self.since && now >= last.since.max(self.since) + patience
        };
        // A node that is not heard may not exist (seed 60594 of the swarm). It is given up as
        // silent.
        let is_heard = |node: &NodeId| local.joins.of(*node).is_some();
        let mut apart = BTreeSet::new();
        for &node in &candidates {
            let Some(last) = local.joins.of(node).filter(is_steady) else { continue };
            for &other in candidates.iter().filter(|other| is_heard(other) && !last.names(**other)) {
                apart.insert(ordered((node, other)));
                local.out.stats.notices.note(now, Notice::LeavesOut { peer: node, node: other }, None);
            }
        }
        let misfits =
            cannot_be_together(apart, me, |node, others| (others.len(), !local.ring.members.contains(&node)));
        if misfits.is_empty() {
            return None;
        }
        self.lists.failed.extend(misfits.iter().copied());
        Some(self.again(Cause::Misfit { nodes: misfits }, None))
    }

    /// Calls a node failed because its host reports that its process is gone.
    pub(super) fn accuse_refused(&mut self, node: NodeId) -> Transition {
        self.lists.excuse(node);
        self.again(Cause::Refused { node }, None)
    }

    /// Extends the timeouts after a pause of this node, which may have missed the messages it
    /// waited for.
    pub(super) fn forgive(&mut self, now: Time, local: &Local) {
        self.wait = match self.wait {
            Wait::Consensus(_) => Wait::Consensus(now + local.config.consensus),
            Wait::Commit(_) => Wait::Commit(now + local.config.token),
        };
        self.silent_at = self.silent_at.map(|_| now + patience(local));
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let (Wait::Consensus(at) | Wait::Commit(at)) = self.wait;
        self.silent_at.map_or(at, |silent_at| at.min(silent_at)).min(self.join_at)
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, local: &Local, state: &mut impl Hasher) {
        let Self { lists, causes: _, consensus, since, join_at, said, silent_at, wait } = self;
        (lists, disagreed(now, local)).hash(state);
        let wait = match *wait {
            Wait::Consensus(at) => (0, at - now),
            Wait::Commit(at) => (1, at - now),
        };
        let age = (now - *since).min(local.two_joins());
        let spacing = spacing(&self.lists, now, local);
        (consensus, age, *join_at - now, said, spacing, silent_at.map(|at| at - now), wait).hash(state);
    }
}

/// Returns the nodes to leave out among the nodes in `firm`, which keep disagreeing. If some pairs
/// of heard nodes do not hear each other, one node of each pair is left out. The `firm` nodes in no
/// such pair are left out too.
fn misfits_of(firm: &BTreeSet<NodeId>, heard: &BTreeSet<NodeId>, local: &Local) -> BTreeSet<NodeId> {
    let mut apart: BTreeSet<Pair> = BTreeSet::new();
    for &node in firm {
        let others = local.joins.of(node).into_iter().flat_map(|last| &last.failed);
        apart.extend(others.filter(|other| heard.contains(other)).map(|&other| ordered((node, other))));
    }
    let is_apart = |node: &NodeId| apart.iter().any(|(a, b)| node == a || node == b);
    let mut misfits: BTreeSet<NodeId> = firm.iter().copied().filter(|node| !is_apart(node)).collect();
    misfits.extend(cannot_be_together(apart, local.me, |_, others| others.len()));
    misfits
}

/// Gives up the ring of `members`, because a host reports that the process of `node` is gone.
pub(super) fn without(node: NodeId, members: &BTreeSet<NodeId>, causes: &mut Vec<Cause>) -> Transition {
    let mut lists = Lists::of(members);
    lists.excuse(node);
    let mut causes = std::mem::take(causes);
    note(&mut causes, Cause::Refused { node });
    Transition::Gather { lists, causes, agreeing: None }
}

/// Gives up the ring because `node` kept aru from advancing for too long. The others continue
/// without it (TOCS 1995, section 5.1). If this node is the one to blame, it continues without the
/// others, which has the same effect. corosync instead declares itself failed, and then has to make
/// exceptions for itself everywhere (B25).
pub(super) fn failed_to_receive(
    me: NodeId,
    node: NodeId,
    members: &BTreeSet<NodeId>,
    mut causes: Vec<Cause>,
) -> Transition {
    let mut lists = Lists::of(members);
    if node == me {
        lists.failed = lists.proc.iter().copied().filter(|&other| other != me).collect();
    } else {
        lists.failed.insert(node);
    }
    note(&mut causes, Cause::FailedToReceive { node });
    Transition::Gather { lists, causes, agreeing: None }
}

/// Returns the time since which rings have failed, for a fingerprint. Longer times are alike.
pub(super) fn disagreed(now: Time, local: &Local) -> Option<Duration> {
    local.disagreed_since.map(|at| (now - at).min(ROUNDS * local.config.consensus))
}

/// Returns the time until another JOIN may be sent.
fn spacing(lists: &Lists, now: Time, local: &Local) -> Duration {
    match local.join_sent_at {
        Some(last) if lists.proc.len() > CROWD => last + SPACING - now,
        _ => Duration::ZERO,
    }
}

/// Returns the time for which all others wait for a node that does not answer.
fn patience(local: &Local) -> Duration {
    UNANSWERED * (local.config.join + local.config.send_join)
}
