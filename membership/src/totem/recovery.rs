//! RECOVERY: the new ring's token circulates, and members forward frames that others of their old
//! ring lack. The old ring only gains messages. If the new ring fails, only the new one is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::Transition;
use super::commit::{give_up, pass_on};
use super::flow::{Limits, Visited};
use super::gather::failed_to_receive;
use super::lists::{Lists, note};
use super::local::Local;
use super::ring::Ring;
use super::rotation::{Due, Rotation};
use crate::bug;
use crate::wire::{CommitEntry, CommitToken, Draft, Join, Multicast, Token};
use crate::{Cause, Guarantee, NodeId, RingId, Seq, Time};

/// The state of a node whose new ring circulates a token but is not installed yet.
#[derive(Clone)]
pub(super) struct Recovery {
    pub(super) causes: Vec<Cause>,
    /// The new ring.
    pub(super) ring: Ring,
    pub(super) rotation: Rotation,
    /// The members of the old ring that move along, including this node.
    pub(super) transitional: BTreeSet<NodeId>,
    /// The highest number of the old ring that one of them has delivered. Safe messages up to it
    /// are safe.
    high_delivered: Seq,
    /// The frames of the old ring that this node forwards and no member has sent yet, by their
    /// place in the old ring's window.
    pub(super) queue: BTreeMap<u32, Carried>,
    /// Whether this node, as representative, has sent the first token.
    originated: bool,
    /// Whether this node set the token's flag "a member still has frames to recover" (B09: per
    /// recovery).
    raised_flag: bool,
    /// Consecutive visits of the token without the flag.
    unflagged: u32,
    /// The number at which the recovered messages end, once it is known.
    install_seq: Seq,
    /// Consecutive rotations in which all members had all recovered messages.
    complete: u32,
}

/// A frame of the old ring that is carried over to the new one.
#[derive(Clone, Hash)]
pub(super) struct Carried {
    frame: Bytes,
    /// Whether the frame must be delivered even behind a hole. The carrying frame indicates this by
    /// its guarantee, which has no other meaning there, and none for corosync.
    owed: bool,
}

/// The data that becomes the installed ring.
pub(super) struct Recovered {
    pub(super) ring: Ring,
    pub(super) rotation: Rotation,
    pub(super) transitional: BTreeSet<NodeId>,
    pub(super) high_delivered: Seq,
    pub(super) causes: Vec<Cause>,
}

impl Recovery {
    pub(super) fn enter(causes: Vec<Cause>, token: CommitToken, now: Time, local: &mut Local) -> Self {
        let members: BTreeSet<NodeId> = token.members.iter().copied().collect();
        let old = &local.ring;
        // A restarted member has a member id of this node's ring, but not the ring (B06).
        let same: Vec<(NodeId, CommitEntry)> = token
            .members
            .iter()
            .copied()
            .zip(token.entries.iter().copied())
            .filter(|(node, entry)| {
                let same = bug!(TransitionalByIdOnly: true; entry.ring == old.id);
                old.members.contains(node) && same
            })
            .collect();
        let high_delivered = same.iter().map(|(_, entry)| entry.high_delivered).fold(old.delivered, Seq::max);
        let mut queue = BTreeMap::new();
        // Without another survivor of the old ring there is no member to forward frames to.
        if same.len() > 1 && same.iter().any(|(_, entry)| !entry.received) {
            // Every member has the released frames, so a lower number is wrong, and might be any
            // distance away.
            let arus = same.iter().map(|(_, entry)| entry.aru);
            let low = bug!(
                WrapUnsafeRecovery: Seq::new(arus.map(Seq::get).min().unwrap_or_default());
                arus.fold(old.window.high(), Seq::min)
            );
            let low = bug!(RecoveredFromOwnAru: old.window.aru(); low);
            let low = low.max(old.window.released());
            let held = low.up_to(old.window.high()).filter_map(|seq| old.window.get(seq));
            let most = bug!(RecoveryQueueTooShort: 206; usize::MAX);
            queue.extend(held.take(most).map(|frame| {
                let owed = bug!(ObligationsNotShared: false; old.owes(frame.seq));
                let carried = Carried { frame: frame.raw.clone(), owed };
                (old.window.place(frame.seq), carried)
            }));
        }
        let ring = Ring::new(token.ring, members, local.config.first_seq);
        let commit_token = pass_on(token, local);
        let rotation =
            Rotation::begin(local.me, &ring.members, commit_token, now, &local.config, &mut local.out);
        Self {
            causes,
            rotation,
            transitional: same.into_iter().map(|(node, _)| node).collect(),
            high_delivered,
            queue,
            originated: false,
            raised_flag: false,
            unflagged: 0,
            install_seq: ring.delivered,
            complete: 0,
            ring,
        }
    }

    /// Sends the first token when the commit token arrives for the third time, which shows that all
    /// members have seen it complete. This happens only once (B13).
    pub(super) fn handle_commit(&mut self, token: &CommitToken, now: Time, local: &mut Local) {
        let mine = token.ring == self.ring.id && token.ring.representative == local.me;
        let again = bug!(SecondFirstToken: false; self.originated);
        if !mine || again || token.entries.len() != token.members.len() {
            return;
        }
        self.originated = true;
        self.raised_flag = !self.queue.is_empty();
        self.rotation.originate(&self.ring, self.raised_flag, now, &local.config, &mut local.out);
    }

    /// Handles a frame of the new ring. A frame of the old ring that it carries is inserted there.
    pub(super) fn handle_multicast(&mut self, frame: Multicast, local: &mut Local) {
        if frame.ring != self.ring.id {
            return;
        }
        self.rotation.hear();
        let inner = frame.encapsulated.then(|| {
            frame.inner().map(|mut inner| {
                bug!(OuterLengthKept: inner.payload = frame.payload.clone(); ());
                bug!(CarrierTakenForSender: inner.from = frame.from; ());
                inner
            })
        });
        let owed = frame.guarantee == Guarantee::Safe;
        match self.ring.insert(frame) {
            Ok(true) => {}
            Ok(false) => return,
            Err(refusal) => return local.out.refuse(refusal),
        }
        match inner {
            Some(Ok(inner)) if inner.ring == local.ring.id => {
                // Another member has sent the frame for all, so this node need not send it, unless
                // only this node knows that it is owed.
                let place = local.ring.window.place(inner.seq);
                if owed || self.queue.get(&place).is_some_and(|carried| !carried.owed) {
                    self.queue.remove(&place);
                }
                if owed {
                    local.ring.owe(inner.seq);
                }
                local.keep(inner);
            }
            Some(Err(refusal)) => local.out.refuse(refusal),
            _ => {}
        }
    }

    pub(super) fn handle_token(
        &mut self,
        mut token: Token,
        now: Time,
        local: &mut Local,
    ) -> Option<Transition> {
        if token.ring != self.ring.id {
            return None;
        }
        match self.rotation.accept(&token, &self.ring, Limits::configured(&local.config), now, &local.config)
        {
            Ok(true) => local.out.stats.tokens += 1,
            Ok(false) => return None,
            Err(refusal) => {
                local.out.refuse(refusal);
                return None;
            }
        }
        // Make room for more than a window of recovered frames, which come from old rings that were
        // both full.
        let stable = self.rotation.note_aru(&token);
        self.ring.skip_carriers();
        let unwanted = bug!(RecoveryReleasesAtOwnAru: self.ring.window.aru(); stable);
        self.ring.window.release(unwanted.min(self.ring.delivered));
        let config = &local.config;
        let limits = Limits::configured(config);
        let allowed = self.rotation.allowance(&token, self.backlog(), limits);
        let mut sent = self.rotation.retransmit(&mut token, &mut self.ring, allowed, config, &mut local.out);
        while sent < allowed
            && Rotation::has_room(&token, &self.ring, limits)
            && let Some((_, carried)) = self.queue.pop_first()
        {
            let guarantee = if carried.owed { Guarantee::Safe } else { Guarantee::Agreed };
            let draft = Draft::around(&carried.frame, guarantee);
            self.rotation.number(&mut token, &mut self.ring, draft, &mut local.out);
            sent += 1;
        }
        let visit = Visited { sent, backlog: self.backlog(), slow: false };
        let stuck = self.rotation.account(&mut token, &self.ring, &visit, limits, &local.config);
        if let Some(node) = stuck {
            let causes = std::mem::take(&mut self.causes);
            return Some(failed_to_receive(local.me, node, &self.ring.members, causes));
        }
        let stands = self.progress(&mut token, local);
        self.rotation.forward(token, 0, now, &local.config, &mut local.out);
        stands.then(|| {
            let placeholder = Ring::new(self.ring.id, BTreeSet::new(), local.config.first_seq);
            Transition::Operational(Box::new(Recovered {
                ring: std::mem::replace(&mut self.ring, placeholder),
                rotation: self.rotation.clone(),
                transitional: std::mem::take(&mut self.transitional),
                high_delivered: self.high_delivered,
                causes: std::mem::take(&mut self.causes),
            }))
        })
    }

    fn backlog(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Returns `true` if the ring can be installed. After two rotations without any frames left to
    /// send, it is known where the recovered messages end. After two more in which every member's
    /// aru has reached that point, every member knows it.
    fn progress(&mut self, token: &mut Token, local: &mut Local) -> bool {
        if !self.queue.is_empty() {
            if !token.retrans_flg {
                token.retrans_flg = true;
                self.raised_flag = true;
            }
        } else if token.retrans_flg && (self.raised_flag || self.nobody_lowers_it()) {
            token.retrans_flg = false;
            self.raised_flag = bug!(RetransFlagMarkKept: true; false);
        }
        self.unflagged = if token.retrans_flg { 0 } else { self.unflagged + 1 };
        if self.unflagged == 2 {
            self.install_seq = token.seq;
        }
        let complete = self.unflagged >= 2 && self.install_seq.at_or_before(self.ring.window.aru());
        if complete {
            local.ring.owe_to(&self.transitional);
        }
        bug!(InstalledBeforeEverybodyHasAll: return complete; ());
        let all_have_all = bug!(
            WrapUnsafeInstall: self.install_seq.get() <= token.aru.get();
            self.install_seq.at_or_before(token.aru)
        );
        let everybody = self.unflagged >= 3 && all_have_all;
        self.complete = if everybody { self.complete + 1 } else { 0 };
        self.complete >= 2
    }

    /// Returns `true` if the flag is up, nothing moves any more, and so no member is going to lower
    /// it. Normally the member that raised the flag lowers it; here a bit was flipped in transit
    /// (F7). If a member does have frames left, it raises the flag again before any member has seen
    /// it down twice in a row.
    fn nobody_lowers_it(&mut self) -> bool {
        let stands_still = self.rotation.stands_still();
        bug!(FlagBelieved: false; stands_still)
    }

    /// Handles a JOIN as in COMMIT.
    pub(super) fn handle_join(&mut self, join: &Join, local: &Local) -> Option<Transition> {
        if !self.ring.members.contains(&join.from) || join.ring_seq < self.ring.id.seq {
            return None;
        }
        Some(give_up(&self.ring.members, &mut self.causes, join, local))
    }

    pub(super) fn handle_timeout(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        self.rotation.due_for_probes(now, &local.config).for_each(|neighbour| local.probe(neighbour));
        match self.rotation.handle_timeout(now, &local.config, &mut local.out) {
            Due::Lost => {
                let mut causes = std::mem::take(&mut self.causes);
                note(&mut causes, Cause::RecoveryLost { after: local.config.token });
                bug!(FailedRecoveryKeepsRingId: local.ring.id = self.ring.id; ());
                bug!(FailedRecoveryZeroesRingId: local.ring.id.seq = 0; ());
                Some(Transition::Gather { lists: Lists::of(&self.ring.members), causes, agreeing: None })
            }
            // Other rings are not probed before this one is installed.
            Due::Merge | Due::Wanted | Due::Nothing => None,
        }
    }

    pub(super) fn handle_hold_cancel(&mut self, ring: RingId, local: &mut Local) {
        if ring == self.ring.id {
            self.rotation.release(&mut local.out);
        }
    }

    pub(super) fn forgive(&mut self, now: Time, local: &Local) {
        self.rotation.loss_at = now + local.config.token;
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.rotation.poll_timeout()
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        let Self { causes: _, ring, rotation, transitional, high_delivered, queue, .. } = self;
        let Self { originated, raised_flag, unflagged, install_seq, complete, .. } = self;
        (ring, transitional, high_delivered, queue).hash(state);
        (originated, raised_flag, unflagged, install_seq, complete).hash(state);
        rotation.fingerprint(now, state);
    }
}
