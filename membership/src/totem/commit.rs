//! COMMIT: the commit token circulates twice. In the first rotation each member writes the ring it
//! comes from and the messages it has of it. In the second rotation all members read these entries.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::Transition;
use super::gather::disagreed;
use super::lists::{Considered, Lists, cause_of, note};
use super::local::Local;
use super::rotation::successor;
use crate::bug;
use crate::wire::{self, CommitEntry, CommitToken, Join, Message, Order};
use crate::{Cause, NodeId, RingId, Seq, Time};

/// The state of a node that has agreed to a ring.
#[derive(Clone)]
pub(super) struct Commit {
    /// The lists that all members agreed on.
    agreed: Lists,
    pub(super) causes: Vec<Cause>,
    pub(super) ring: RingId,
    pub(super) members: BTreeSet<NodeId>,
    last_sent: Bytes,
    retransmit_at: Time,
    loss_at: Time,
}

impl Commit {
    pub(super) fn enter(
        agreed: Lists,
        causes: Vec<Cause>,
        mut token: CommitToken,
        now: Time,
        local: &mut Local,
    ) -> Self {
        local.attempt(token.ring.seq);
        local.leave_out(&agreed.left_out().collect::<Vec<_>>(), agreed.misfits(), &agreed.candidates(), now);
        add_entry(&mut token, local);
        let mut commit = Self {
            agreed,
            causes,
            ring: token.ring,
            members: token.members.iter().copied().collect(),
            last_sent: Bytes::new(),
            retransmit_at: now + local.config.token_retransmit,
            loss_at: now + local.config.token,
        };
        commit.last_sent = pass_on(token, local);
        commit.send(local);
        commit
    }

    fn send(&self, local: &mut Local) {
        local.out.unicast(successor(local.me, &self.members), self.last_sent.clone());
    }

    /// Handles a commit token of the second rotation. It must be complete, and belong to exactly
    /// this ring (B14: the whole id) with the agreed members.
    pub(super) fn handle_commit(&mut self, token: CommitToken) -> Option<Transition> {
        let ours = token.ring == self.ring && token.members.iter().eq(&self.members);
        (ours && token.entries.len() == token.members.len())
            .then(|| Transition::Recovery { causes: std::mem::take(&mut self.causes), token })
    }

    /// Ends the ring at once after a JOIN from a member that has given up this ring, or that will
    /// refuse its token because it knows more than was agreed on. In the latter case corosync waits
    /// for the token timeout. Any other JOIN was sent earlier.
    pub(super) fn handle_join(&mut self, join: &Join, local: &Local) -> Option<Transition> {
        if !self.members.contains(&join.from) {
            return None;
        }
        if join.ring_seq >= self.ring.seq {
            return Some(give_up(&self.members, &mut self.causes, join, local));
        }
        match self.agreed.consider(join, &BTreeSet::new(), local) {
            Considered::Changed(cause) => {
                note(&mut self.causes, cause);
                Some(Transition::Gather {
                    lists: self.agreed.clone(),
                    causes: std::mem::take(&mut self.causes),
                    agreeing: self.agreed.agrees(join, local),
                })
            }
            _ => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        if now >= self.loss_at {
            let mut causes = std::mem::take(&mut self.causes);
            note(&mut causes, Cause::CommitLost { after: local.config.token });
            local.catch_up();
            local.disagreed_since.get_or_insert(now);
            bug!(FailedCommitOverwritesOldRing: local.ring.id = self.ring; ());
            return Some(Transition::Gather { lists: Lists::of(&self.members), causes, agreeing: None });
        }
        if now >= self.retransmit_at {
            self.retransmit_at = now + local.config.token_retransmit;
            local.out.stats.token_retransmits += 1;
            self.send(local);
        }
        None
    }

    pub(super) fn forgive(&mut self, now: Time, local: &Local) {
        self.loss_at = now + local.config.token;
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.loss_at.min(self.retransmit_at)
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, local: &Local, state: &mut impl Hasher) {
        let Self { agreed, causes: _, ring, members, last_sent, retransmit_at, loss_at } = self;
        (agreed, disagreed(now, local)).hash(state);
        (ring, members, last_sent, *retransmit_at - now, *loss_at - now).hash(state);
    }
}

/// Gives up the ring that is being formed, because one of its members gathers again.
pub(super) fn give_up(
    members: &BTreeSet<NodeId>,
    causes: &mut Vec<Cause>,
    join: &Join,
    local: &Local,
) -> Transition {
    let mut lists = Lists::of(members);
    let cause = match lists.consider(join, &BTreeSet::new(), local) {
        Considered::Changed(cause) => cause,
        _ => cause_of(join, local),
    };
    let mut causes = std::mem::take(causes);
    note(&mut causes, cause);
    let agreeing = lists.agrees(join, local);
    Transition::Gather { lists, causes, agreeing }
}

/// Writes the state of this node's last ring into the token. Clears the "received" flag of members
/// of the same ring that have less than another member.
fn add_entry(token: &mut CommitToken, local: &Local) {
    let window = &local.ring.window;
    token.entries.push(CommitEntry {
        ring: local.ring.id,
        aru: window.aru(),
        high_delivered: local.ring.delivered,
        received: window.aru() == window.high(),
    });
    let same_ring = |entry: &&mut CommitEntry| entry.ring == local.ring.id;
    let highest = token.entries.iter_mut().filter(same_ring).map(|entry| entry.aru).reduce(Seq::max);
    for entry in token.entries.iter_mut().filter(same_ring) {
        entry.received &= bug!(ReceivedFlagKept: true; Some(entry.aru) == highest);
    }
}

/// Returns the commit token as this node forwards it.
pub(super) fn pass_on(mut token: CommitToken, local: &Local) -> Bytes {
    token.token_seq = token.token_seq.wrapping_add(1);
    token.from = local.me;
    wire::encode(&Message::Commit(token), Order::Little)
}
