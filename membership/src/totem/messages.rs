//! The layer above frames: messages of processes and services, groups, and the sync of a ring. The
//! calls of the embedder are in [`application`](super::application).

use std::collections::BTreeSet;
use std::mem;

use bytes::Bytes;

use super::flow::Limits;
use super::local::Local;
use super::outbox::Lane;
use crate::bug;
use crate::groups::{LONGEST_WHOLE, parts};
use crate::sync::{CPG, Step, Sync, VOTEQUORUM};
use crate::wire::body::{Body, CpgMcast, CpgPart, CpgPartial, QUORATE, SERVICES, SYNC};
use crate::wire::packing::{self, Addressed, Pieces};
use crate::wire::{Draft, Multicast};
use crate::{
    Cause, Delivery, Event, Group, GroupChange, Guarantee, NodeId, Refusal, RingId, Service, ServiceMessage,
    Time,
};

impl Local {
    /// Messages up to this size, in bytes, are copied when they are accepted. Copying costs less
    /// than assembling them later.
    const SHORT: usize = 2048;

    /// Inserts a frame into the installed ring's window.
    pub(super) fn keep(&mut self, frame: Multicast) {
        if let Err(refusal) = self.ring.insert(frame) {
            self.out.refuse(refusal);
        }
    }

    /// Delivers all frames that are in order.
    pub(super) fn deliver_ready(&mut self) {
        while self.deliver_next() {}
    }

    /// Delivers the next frame, if it is in order.
    pub(super) fn deliver_next(&mut self) -> bool {
        let frame = self.ring.next_delivery();
        if let Some(frame) = &frame {
            self.deliver(frame);
        }
        frame.is_some()
    }

    /// Delivers all frames that are in order, if that cannot wait until the application asks for
    /// events. The sync has to continue, and a leaving node waits for its own farewells. A member
    /// that is a rotation behind holds up the others, because undelivered frames are not released.
    pub(super) fn deliver_urgent(&mut self) {
        if !self.synced() || self.leaving.is_some() || self.ring.undelivered() > self.limits.window {
            self.deliver_ready();
        }
    }

    /// Delivers the messages that a frame completes.
    pub(super) fn deliver(&mut self, frame: &Multicast) {
        if frame.encapsulated {
            // Carried messages were delivered as messages of the ring they come from.
            return;
        }
        let packet = match Pieces::read(frame.payload.clone(), frame.order()) {
            Ok(packet) => packet,
            Err(refusal) => return self.out.refuse(refusal),
        };
        let mut messages = mem::take(&mut self.complete);
        if let Err(refusal) = self.assemblies.add(frame.from, packet, &mut messages) {
            self.out.refuse(refusal);
        }
        for message in messages.drain(..) {
            if let Err(refusal) = self.deliver_message(frame, message) {
                self.out.refuse(refusal);
            }
        }
        self.complete = messages;
    }

    fn deliver_message(&mut self, frame: &Multicast, message: Bytes) -> Result<(), Refusal> {
        let order = frame.order();
        let mut known = None;
        let body = Addressed::read(message, order, |group| {
            known = known.or_else(|| [SERVICES, SYNC, QUORATE].into_iter().find(|known| group == *known));
        })?;
        // Ignore a message for groups that this node does not know.
        let Some(group) = known else { return Ok(()) };
        let service = |service, message| {
            Event::Service(ServiceMessage { ring: frame.ring, from: frame.from, service, message })
        };
        match Body::decode_in(group, &body, order)? {
            sync @ (Body::ServiceBuild { .. } | Body::Barrier { .. }) => self.advance_sync(frame, &sync),
            Body::NodeInfo(_) | Body::Reconfigure(_) | Body::Qdevice { .. } | Body::QdeviceRenamed { .. } => {
                self.out.tell(service(Service::Votequorum, body));
            }
            Body::Quorate(message) => self.out.tell(service(Service::Quorate, message)),
            Body::Capacity { frames } => self.widen(frame, frames),
            Body::CpgJoin(process) => {
                let change = self.groups.handle_process(frame.ring, frame.from, process, true)?;
                self.tell_changes(change);
            }
            Body::CpgLeave(process) => {
                let change = self.groups.handle_process(frame.ring, frame.from, process, false)?;
                self.tell_changes(change);
            }
            Body::CpgJoinList(members) => self.groups.handle_join_list(frame.from, members)?,
            Body::CpgMcast(CpgMcast { group, pid, payload, .. }) => {
                self.hand_over(frame, pid, group, payload);
            }
            Body::CpgPartial(partial) => {
                let (pid, group) = (partial.pid, partial.group.clone());
                if let Some(payload) = self.partials.add(frame.from, partial)? {
                    self.hand_over(frame, pid, group, payload);
                }
            }
            Body::KillNode { node, reason } if node == self.me => {
                // corosync includes the terminating NUL in the length.
                let reason = String::from_utf8_lossy(&reason).trim_end_matches('\0').to_owned();
                self.killed.get_or_insert(Cause::Killed { by: frame.from, reason });
            }
            Body::Shutdown => tracing::info!(node = %frame.from, "a node is shutting down"),
            Body::Reload(source) => {
                self.out.tell(Event::Reload { from: frame.from, request: source.connection });
            }
            // The remaining messages concern only real corosync daemons: the newest configuration,
            // keys, members that were seen to leave (each node knows by itself), and load for
            // tests.
            _ => {}
        }
        Ok(())
    }

    /// Records the capacity that a member announced. Once all members have announced theirs, the
    /// ring's limits follow the smallest.
    fn widen(&mut self, frame: &Multicast, frames: u32) {
        if frame.ring != self.ring.id || !self.ring.members.contains(&frame.from) {
            return;
        }
        self.capacities.insert(frame.from, frames);
        let all = self.capacities.len() == self.ring.members.len();
        if bug!(WidenedUnasked: all || self.capacities.len() > 1; all)
            && let Some(least) = self.capacities.values().copied().min()
        {
            self.limits = Limits::agreed(&self.config, least);
            tracing::debug!(frames = self.limits.window, "the members agreed on a window");
        }
    }

    /// Delivers a message of a process.
    fn hand_over(&mut self, frame: &Multicast, pid: u32, group: Group, payload: Bytes) {
        self.out.stats.delivered += 1;
        self.out.tell(Event::Deliver(Delivery {
            ring: frame.ring,
            seq: frame.seq,
            from: frame.from,
            pid,
            group,
            guarantee: frame.guarantee,
            transitional: self.transitional,
            payload,
        }));
    }

    fn tell_changes(&mut self, changes: impl IntoIterator<Item = GroupChange>) {
        for change in changes {
            self.partials.forget(&change);
            self.out.tell(Event::GroupChange(change));
        }
    }

    /// Returns `true` if every member knows that this node's processes have left their groups.
    /// Delivery at this node does not imply that. A member that lacks the messages has no node to
    /// request them from once this node is gone.
    pub(super) fn has_parted(&self) -> bool {
        let said = !self.groups.any_local() && self.outbox.application.is_empty();
        said && self.ring.all_have_what_came_from(self.me)
    }

    /// Queues a message of a process of this node.
    pub(super) fn say_to_group(&mut self, pid: u32, group: &Group, guarantee: Guarantee, payload: &Bytes) {
        let node = self.me.get();
        let lane = &mut self.outbox.application;
        if payload.len() <= Self::SHORT {
            lane.push_short(payload, guarantee, |head| {
                packing::write_prefix(head, SERVICES);
                CpgMcast::write_head(head, group, pid, node, payload.len());
            });
            return;
        }
        let mut head = packing::prefix(SERVICES).to_vec();
        if payload.len() <= LONGEST_WHOLE {
            CpgMcast::write_head(&mut head, group, pid, node, payload.len());
            return lane.push(head.into(), payload.clone(), guarantee);
        }
        let whole = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        for (part, payload) in parts(payload) {
            let partial = CpgPartial { group: group.clone(), pid, node, part, whole, payload };
            let mut head = head.clone();
            partial.write_head(&mut head);
            let push = if part == CpgPart::Last { Lane::push } else { Lane::push_part };
            push(lane, head.into(), partial.payload, guarantee);
        }
    }

    /// Queues a message of a service of corosync's, after all earlier multicasts of this node.
    pub(super) fn say_in_order(&mut self, body: &Body) {
        self.outbox.application.push(packing::prefix(SERVICES), body.encode(), Guarantee::Agreed);
    }

    /// Ends the installed ring's sync if it is still running, and begins the sync of `ring`.
    pub(super) fn begin_sync(&mut self, ring: RingId, members: BTreeSet<NodeId>, left: &BTreeSet<NodeId>) {
        self.assemblies.sync_begins(left);
        self.groups.begin_sync(left);
        self.outbox.control.clear();
        self.capacities.clear();
        self.limits = Limits::configured(&self.config);
        bug!(CutMessageGoesOn: (); self.outbox.application.start_over());
        let sync = Sync::new(ring, members);
        self.synced_by = None;
        self.say(SYNC, &sync.opening().encode());
        self.sync = Some(sync);
    }

    fn advance_sync(&mut self, frame: &Multicast, body: &Body) {
        let Some(sync) = &mut self.sync else { return };
        let step = sync.handle(frame.from, body);
        if let Step::Stage { closed: Some(CPG), .. } | Step::Done { closed: Some(CPG) } = step {
            let changes = self.groups.settle(self.ring.id, &self.ring.members);
            self.tell_changes(changes);
        }
        match step {
            Step::Wait => {}
            Step::Stage { service, last, .. } => {
                let Some(sync) = &mut self.sync else { return };
                tracing::trace!(stage = sync.stage(), "sync");
                let barrier = sync.barrier_of(service);
                if service == CPG {
                    for message in self.groups.sync_messages() {
                        self.say(SERVICES, &message.encode());
                    }
                }
                if service == VOTEQUORUM {
                    for message in self.sync_messages_of(Service::Votequorum) {
                        self.say(SERVICES, &message);
                    }
                }
                if last {
                    for message in self.sync_messages_of(Service::Quorate) {
                        self.say(QUORATE, &Body::Quorate(message).encode());
                    }
                }
                if last && self.config.largest_window > self.config.window_size {
                    self.say(QUORATE, &Body::Capacity { frames: self.config.largest_window }.encode());
                }
                if let Some(barrier) = barrier {
                    self.say(SYNC, &barrier.encode());
                }
            }
            Step::Done { .. } => {
                self.assemblies.sync_done();
                self.synced_by = Some(frame.seq);
                self.out.tell(Event::Synced(self.ring.id));
            }
        }
    }

    fn sync_messages_of(&self, service: Service) -> Vec<Bytes> {
        self.sync_messages.get(&service).cloned().unwrap_or_default()
    }

    /// Ends this node's hold of the stage of votequorum, if there is one.
    pub(super) fn end_hold(&mut self) {
        if let Some(barrier) = self.sync.as_mut().and_then(Sync::go_on) {
            self.say(SYNC, &barrier.encode());
        }
    }

    /// Queues a message of a service outside the sync. Messages among Quorate nodes are sent as
    /// safe: no member acts on one before all have it, and every member that has it delivers it
    /// before any other ring.
    pub(super) fn say_as(&mut self, service: Service, message: &Bytes) {
        let (group, body, guarantee) = match service {
            Service::Votequorum => (SERVICES, message.clone(), Guarantee::Agreed),
            Service::Quorate => (QUORATE, Body::Quorate(message.clone()).encode(), Guarantee::Safe),
        };
        self.outbox.control.push(packing::prefix(group), body, guarantee);
    }

    /// Queues a message of the sync.
    fn say(&mut self, group: &[u8], body: &Bytes) {
        self.outbox.control.push(packing::prefix(group), body.clone(), Guarantee::Agreed);
    }

    /// Returns `true` if every member is known to have received the whole sync.
    pub(super) fn synced_everywhere(&self) -> bool {
        self.synced_by.is_some_and(|seq| seq.at_or_before(self.ring.safe))
    }

    pub(super) fn synced(&self) -> bool {
        self.sync.as_ref().is_some_and(Sync::is_done)
    }

    /// Returns the room for packets in a frame. corosync subtracts two frame headers from `netmtu`,
    /// so that a frame still fits when another one carries it.
    fn capacity(&self) -> usize {
        let headers = bug!(NoRoomForSecondHeader: 1; 2);
        (self.config.netmtu as usize).saturating_sub(headers * Multicast::HEADER)
    }

    /// Returns the next frame that this node may send: those of the sync first, those of the
    /// application once the sync is done.
    pub(super) fn next_frame(&mut self) -> Option<Draft> {
        let capacity = self.capacity();
        let synced = bug!(SentBeforeSynced: true; self.synced());
        // Receivers join the parts of a message by their place in the sender's sequence. No frame
        // may come between them, not even one that would otherwise go first (seed 1235 of the
        // laboratory).
        let begun = synced && self.outbox.application.is_begun();
        let control = if begun { None } else { self.outbox.control.next_frame(capacity) };
        match control {
            None if synced => self.outbox.application.next_frame(capacity),
            control => control,
        }
    }

    /// Returns the number of frames that wait for the token.
    pub(super) fn backlog(&self) -> u32 {
        let capacity = self.capacity();
        let application = if self.synced() { self.outbox.application.frames(capacity) } else { 0 };
        self.outbox.control.frames(capacity).saturating_add(application)
    }

    /// Returns `true` if there is anything to send.
    pub(super) fn has_work(&self) -> bool {
        !self.outbox.control.is_empty() || self.synced() && !self.outbox.application.is_empty()
    }

    /// Returns `true` if the application falls behind.
    pub(super) fn is_slow(&self) -> bool {
        self.out.unread > self.config.unread_limit / 2
    }

    /// Updates the time since which the unread events have exceeded the limit.
    pub(super) fn note_unread(&mut self, now: Time) {
        let too_much = self.out.unread > self.config.unread_limit;
        self.overdue = too_much.then(|| self.overdue.unwrap_or(now));
    }

    /// Returns `true` if the unread events have exceeded the limit for a token timeout. When a hole
    /// is filled or a ring ends, all messages held back are delivered at once, and even an
    /// application that reads as fast as it can needs a moment for them (seed 39293).
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.overdue.is_some_and(|since| now - since >= self.config.token)
    }
}
