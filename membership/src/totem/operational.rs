//! OPERATIONAL: the ring is installed, the token circulates, and messages are ordered.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::Transition;
use super::flow::Visited;
use super::gather::failed_to_receive;
use super::lists::{Considered, Lists, cause_of};
use super::local::Local;
use super::recovery::Recovered;
use super::rotation::{Due, Rotation};
use crate::bug;
use crate::wire::{self, HoldCancel, Join, Message, Multicast, Order, Token};
use crate::{Cause, Event, NodeId, Notice, Refusal, Regular, RingId, Time, Transitional};

/// The state of a member of an installed ring.
#[derive(Clone)]
pub(super) struct Operational {
    pub(super) rotation: Rotation,
    /// The time at which this node last showed a waiting node that it is a member.
    shown_at: Option<Time>,
}

impl Operational {
    /// Ends the old ring as extended virtual synchrony requires, and installs the new one.
    pub(super) fn enter(recovered: Recovered, now: Time, local: &mut Local) -> Self {
        let Recovered { ring, rotation, transitional, high_delivered, causes } = recovered;

        // A member has delivered all messages up to `high_delivered` in the old ring, so the safe
        // ones among them had reached all members. Members that move along deliver them there too.
        local.ring.safe = bug!(HighDeliveredForgotten: local.ring.safe; local.ring.safe.max(high_delivered));
        bug!(UnsafeDeliveredBeforeTransitional: local.ring.safe = local.ring.window.high(); ());
        local.deliver_ready();
        local.sync = None;
        let left = &local.ring.members - &transitional;
        if !local.ring.members.is_empty() {
            local.out.tell(Event::Transitional(Transitional {
                ring: ring.id,
                previous: local.ring.id,
                members: transitional.clone(),
                left: left.clone(),
            }));
        }
        local.transitional = true;
        for frame in local.ring.remaining(&transitional) {
            local.deliver(&frame);
        }
        local.transitional = false;

        let old_members = std::mem::replace(&mut local.ring, ring).members;
        let members = local.ring.members.clone();
        local.had_peers |= members.len() > 1;
        local.outcasts.install(&members, now);
        // Until the layer above has judged this ring, it counts as quorate.
        local.quorate = true;
        if members.len() > 1 {
            local.disagreed_since = None;
        }
        local.out.stats.rings += 1;
        let kind = causes.first().map_or("unknown", Cause::kind);
        *local.out.stats.ring_changes.entry(kind).or_default() += 1;
        local.partials.forget_nodes(&left);
        local.out.tell(Event::Regular(Regular {
            ring: local.ring.id,
            members: members.clone(),
            joined: bug!(JoinedByDifference: &members - &old_members; &members - &transitional),
            left: left.clone(),
            causes,
        }));
        local.begin_sync(local.ring.id, members, &left);
        local.deliver_ready();
        // A recovery may take long enough that the token is held, and now there is something to
        // send.
        let mut operational = Self { rotation, shown_at: None };
        operational.nudge(local);
        operational
    }

    pub(super) fn handle_token(
        &mut self,
        mut token: Token,
        now: Time,
        local: &mut Local,
    ) -> Option<Transition> {
        if token.ring != local.ring.id {
            return None;
        }
        match self.rotation.accept(&token, &local.ring, local.limits, now, &local.config) {
            Ok(true) => {
                local.out.stats.tokens += 1;
                local.token_at = Some(now);
            }
            Ok(false) => {
                bug!(CopyOfTokenConfirms: local.ring.safe = local.ring.safe.max(token.aru); ());
                return None;
            }
            Err(refusal) => {
                local.out.refuse(refusal);
                return None;
            }
        }
        let stable = self.rotation.note_aru(&token);
        local.ring.safe = local.ring.safe.max(stable);
        let unwanted = bug!(ReleasedAtOwnAru: local.ring.window.aru(); stable);
        local.ring.window.release(unwanted.min(local.ring.delivered));

        let visited = self.visit(&mut token, local);
        if let Some((node, seq)) = self.rotation.lacks(&token, now) {
            local.out.notice(match local.ring.window.get(seq) {
                Some(frame) if node != local.me => Notice::LacksFrame { node, length: frame.raw.len() },
                _ => Notice::FrameMissing,
            });
        }
        match visited {
            Ok(late) => self.pass_on(token, late, now, local),
            Err(node) => return Some(failed_to_receive(local.me, node, &local.ring.members, Vec::new())),
        }
        None
    }

    /// Sends the frames of a token visit, and writes the visit into the token. Returns the number
    /// of frames that may leave after the token.
    ///
    /// # Errors
    /// The member that has held back aru for too many rotations.
    fn visit(&mut self, token: &mut Token, local: &mut Local) -> Result<usize, NodeId> {
        let limits = local.limits;
        let allowed = self.rotation.allowance(token, local.backlog(), limits);
        let wanted = !token.rtr.is_empty();
        let again = self.rotation.retransmit(token, &mut local.ring, allowed, &local.config, &mut local.out);
        let (mut new, mut safe) = (0, false);
        while again + new < allowed
            && Rotation::has_room(token, &local.ring, limits)
            && let Some(draft) = local.next_frame()
        {
            safe |= draft.is_safe();
            self.rotation.number(token, &mut local.ring, draft, &mut local.out);
            new += 1;
        }
        let visit = Visited { sent: again + new, backlog: local.backlog(), slow: local.is_slow() };
        if let Some(node) = self.rotation.account(token, &local.ring, &visit, limits, &local.config) {
            return Err(node);
        }
        // A member that sees the token before its frames lowers aru, which would delay safe
        // delivery by a rotation.
        let late = new <= limits.late() && !safe && !wanted;
        Ok(if late { new as usize } else { 0 })
    }

    fn pass_on(&mut self, token: Token, late: usize, now: Time, local: &mut Local) {
        self.rotation.forward(token, late, now, &local.config, &mut local.out);
        local.deliver_urgent();
        self.nudge(local);
    }

    /// Handles a message from the application. If the token is held here, the visit continues with
    /// it, so the token need not complete a rotation first.
    pub(super) fn send(&mut self, now: Time, local: &mut Local) {
        if local.has_work()
            && let Some(mut token) = self.rotation.take_up()
        {
            // A token that can be taken up shows that all members have all frames, so no member
            // holds back aru.
            let late = self.visit(&mut token, local).unwrap_or(0);
            self.pass_on(token, late, now, local);
        } else {
            self.nudge(local);
        }
    }

    pub(super) fn handle_multicast(
        &mut self,
        frame: Multicast,
        now: Time,
        local: &mut Local,
    ) -> Option<Transition> {
        if frame.ring != local.ring.id {
            return self.handle_stranger(frame.from, frame.ring, now, local);
        }
        self.rotation.hear();
        local.keep(frame);
        local.deliver_urgent();
        self.nudge(local);
        None
    }

    /// Handles a message of another ring. If a member of this ring sent it on an earlier one, the
    /// message is late and is ignored.
    pub(super) fn handle_stranger(
        &mut self,
        node: NodeId,
        ring: RingId,
        now: Time,
        local: &Local,
    ) -> Option<Transition> {
        let member = local.ring.members.contains(&node);
        if ring == local.ring.id || member && ring.seq <= local.ring.id.seq {
            return None;
        }
        if !member && local.stranger_has_to_wait(node, now) {
            return None;
        }
        let mut lists = Lists::of(&local.ring.members);
        lists.proc.insert(node);
        Some(Transition::Gather { lists, causes: vec![Cause::Heard { node }], agreeing: None })
    }

    pub(super) fn handle_join(&mut self, join: &Join, now: Time, local: &mut Local) -> Option<Transition> {
        let member = local.ring.members.contains(&join.from);
        let stale = member && join.ring_seq < local.ring.id.seq;
        // The LEAVE of a node that this ring has already lost is a repetition.
        let gone = join.leave && !member;
        let accused = join.failed.contains(&local.me);
        if bug!(StaleJoinEndsRing: false; stale) || gone || accused {
            return None;
        }
        if !member && local.has_to_wait(join, now) {
            self.show_itself(now, local);
            return None;
        }
        let mut lists = Lists::of(&local.ring.members);
        let cause = match lists.consider(join, &BTreeSet::new(), local) {
            Considered::Changed(cause) => cause,
            // A gathering member has lost this ring, so the ring is over.
            Considered::Same | Considered::Nothing => cause_of(join, local),
            Considered::TooMany => {
                local.out.refuse(Refusal::TooMany);
                return None;
            }
        };
        let agreeing = lists.agrees(join, local);
        Some(Transition::Gather { lists, causes: vec![cause], agreeing })
    }

    /// Shows a waiting node that this one is a member. Each member does this, because a node that
    /// knows all members is readmitted sooner.
    fn show_itself(&mut self, now: Time, local: &mut Local) {
        if self.shown_at.is_none_or(|at| now - at >= local.config.merge) {
            self.shown_at = Some(now);
            local.detect_merge();
        }
    }

    pub(super) fn handle_hold_cancel(&mut self, ring: RingId, local: &mut Local) {
        if ring == local.ring.id {
            self.rotation.release(&mut local.out);
        }
    }

    /// Requests a held token if there is something to send. If all members are Quorate nodes, the
    /// request goes only to the holder, so that the others need not wake up for it. Otherwise it is
    /// multicast, as corosync does.
    pub(super) fn nudge(&mut self, local: &mut Local) {
        if !local.has_work() || !self.rotation.nudge(&mut local.out) {
            return;
        }
        let cancel = Self::hold_cancel(local);
        match local.limits.ours {
            true => local.out.unicast(self.rotation.holder, cancel),
            false => local.out.multicast(cancel),
        }
    }

    fn hold_cancel(local: &Local) -> Bytes {
        let cancel = HoldCancel { from: local.me, ring: local.ring.id };
        wire::encode(&Message::HoldCancel(cancel), Order::Little)
    }

    pub(super) fn handle_timeout(&mut self, now: Time, local: &mut Local) -> Option<Transition> {
        self.rotation.due_for_probes(now, &local.config).for_each(|neighbour| local.probe(neighbour));
        match self.rotation.handle_timeout(now, &local.config, &mut local.out) {
            Due::Nothing => None,
            Due::Wanted => {
                let cancel = Self::hold_cancel(local);
                local.out.unicast(local.ring.id.representative, cancel);
                None
            }
            Due::Merge => {
                local.detect_merge();
                None
            }
            Due::Lost => Some(Transition::Gather {
                lists: Lists::of(&local.ring.members),
                causes: vec![Cause::TokenLost { after: local.config.token }],
                agreeing: None,
            }),
        }
    }

    pub(super) fn forgive(&mut self, now: Time, local: &Local) {
        self.rotation.loss_at = now + local.config.token;
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.rotation.poll_timeout()
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, local: &Local, state: &mut impl Hasher) {
        let Self { rotation, shown_at } = self;
        rotation.fingerprint(now, state);
        shown_at.map(|at| (now - at).min(local.config.merge)).hash(state);
    }
}
