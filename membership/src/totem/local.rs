//! This node, whatever state it is in: the installed ring, its own messages, what it tells the application.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::mem;
use std::time::Duration;

use bytes::Bytes;

use super::assembly::Assemblies;
use super::clusters::Clusters;
use super::flow::Limits;
use super::gather::{DEAF, Lists, note, two_joins};
use super::hearing::Hearing;
use super::outbox::Outbox;
use super::outcasts::Outcasts;
use super::outputs::Outputs;
use super::ring::Ring;
use super::{Totem, Transition};
use crate::config::TotemConfig;
use crate::groups::{Groups, LONGEST_WHOLE, Partials};
use crate::mutants::Mutant;
use crate::sync::{CPG, Step, Sync, VOTEQUORUM};
use crate::wire::body::{Body, CpgMcast, CpgPart, CpgPartial, QUORATE, SERVICES, SYNC};
use crate::wire::packing::{self, Addressed, Pieces};
use crate::wire::{self, Draft, HoldCancel, Join, MergeDetect, Message, Multicast, Order};
use crate::{
    Cause, Config, Delivery, Event, Group, GroupChange, Guarantee, NodeId, Refusal, RingId, Seq, Service,
    ServiceMessage, Stored, Time,
};

/// What outlives every state.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) me: NodeId,
    pub(super) config: TotemConfig,
    pub(super) clusters: Clusters,
    pub(super) hearing: Hearing,
    /// The node list; `None`: whoever is heard.
    pub(super) listed: Option<BTreeSet<NodeId>>,
    /// The installed ring. Nothing but messages of its own is added to it until the next one is complete.
    pub(super) ring: Ring,
    /// The highest ring sequence number this node has taken part in, installed or not.
    pub(super) attempted: u64,
    /// The highest ring sequence number heard of, as far as it is believed.
    heard: u64,
    /// What it was when a ring failed to be formed last.
    heard_before: u64,
    /// Whether this node has been in a ring with others since it started.
    pub(super) had_company: bool,
    /// The last JOIN of each node,
    pub(super) joins: BTreeMap<NodeId, LastJoin>,
    /// and when this node sent its own.
    pub(super) join_sent_at: Option<Time>,
    /// Members whose hosts have said that nobody listens there.
    pub(super) suspects: BTreeMap<NodeId, Suspicion>,
    pub(super) outcasts: Outcasts,
    /// See [`super::Totem::set_quorate`].
    pub(super) quorate: bool,
    /// When a consensus timeout first ended without agreement, or an agreement came to nothing, since this node was in a ring
    /// with another.
    pub(super) disagreed_since: Option<Time>,
    pub(super) durable: Stored,
    pub(super) wanted: Stored,
    pub(super) outbox: Outbox,
    assemblies: Assemblies,
    /// Empty; kept for its memory.
    complete: Vec<Bytes>,
    partials: Partials,
    pub(super) groups: Groups,
    pub(super) sync: Option<Sync>,
    /// When a token of an installed ring was accepted last.
    pub(super) token_at: Option<Time>,
    /// The frame that ended the sync.
    synced_by: Option<Seq>,
    /// What is delivered comes in a transitional configuration.
    pub(super) transitional: bool,
    pub(super) sync_messages: BTreeMap<Service, Bytes>,
    /// How many frames a rotation each member of the ring that stands has said it can take.
    capacities: BTreeMap<NodeId, u32>,
    /// What follows for the ring.
    pub(super) limits: Limits,
    pub(super) out: Outputs,
    /// Since when more events are unread than may be.
    overdue: Option<Time>,
    /// This node is about to leave, then at the latest. Its processes leave their groups first.
    pub(super) leaving: Option<(Time, Cause)>,
    /// An operator has told this node to go.
    pub(super) killed: Option<Cause>,
    entropy: [u8; 32],
    drawn: usize,
}

/// What is known of a member whose host refuses what is sent to it. A firewall that rejects for a moment does the same.
#[derive(Clone, Copy, Hash)]
pub(super) struct Suspicion {
    /// When it is asked again; from then on, a refusal is believed.
    ask_at: Time,
    asked: bool,
}

/// What a node said last.
#[derive(Clone)]
pub(super) struct LastJoin {
    proc: Vec<NodeId>,
    pub(super) failed: Vec<NodeId>,
    /// It names nobody else for the ring than is listed here, and a number that is believed: then it may be in a ring with this
    /// node.
    whole: bool,
    /// Since when it says this.
    pub(super) since: Time,
    /// When it said so last.
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

impl Local {
    /// Ring sequence numbers are made durable this many at a time.
    const BLOCK: u64 = 1024;
    /// What a firewall rejects for no longer than this is not taken for a death, whoever it is.
    const BLIP: Duration = Duration::from_millis(60);
    /// A message of no more bytes is copied when it is accepted: that costs less than to put it together later.
    const SHORT: usize = 2048;
    /// What follows for a ring from the numbers that its members say.
    const STEP: u64 = 4;
    /// A first start takes its number from the wall clock, in ms since 1970, and each ring adds a step: this is the year 2248.
    const PLAUSIBLE_RING_SEQ: u64 = Totem::MAX_RING_SEQ / 2;
    /// What a node follows that has no company yet; the rest is room for rings.
    const FOLLOWED_RING_SEQ: u64 = Totem::MAX_RING_SEQ - (1 << 32);
    /// How far numbers that are not plausible in themselves may be ahead of a member's own.
    const JUMP: u64 = 1 << 12;
    /// How far the number of a ring may be ahead of what this node has heard in JOINs, of which it may have missed one: what
    /// the clocks of two first starts may be apart, in ms, is 49 days.
    const UNHEARD: u64 = 1 << 32;

    pub(super) fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Self {
        let me = config.node;
        let stored = if Mutant::RecordNotRead.is_active() { Stored::default() } else { stored };
        // A start is a step of its own, so that the ring id of this incarnation was never anybody's (B01).
        let id = RingId { representative: me, seq: stored.ring_seq.saturating_add(1) };
        let mut local = Self {
            me,
            config: config.totem.clone(),
            clusters: Clusters::new(config),
            hearing: Hearing::new(now),
            listed: (!config.nodes.is_empty()).then(|| config.nodes.iter().map(|node| node.id).collect()),
            ring: Ring::new(id, BTreeSet::new(), config.totem.first_seq),
            attempted: 0,
            heard: 0,
            heard_before: 0,
            had_company: false,
            joins: BTreeMap::new(),
            join_sent_at: None,
            suspects: BTreeMap::new(),
            outcasts: Outcasts::new(config.totem.consensus, now),
            quorate: true,
            disagreed_since: None,
            wanted: Stored { boots: stored.boots.saturating_add(1), ..stored.clone() },
            durable: stored,
            outbox: Outbox::default(),
            assemblies: Assemblies::default(),
            complete: Vec::new(),
            partials: Partials::default(),
            groups: Groups::new(me),
            sync: None,
            token_at: None,
            synced_by: None,
            transitional: false,
            sync_messages: BTreeMap::new(),
            capacities: BTreeMap::new(),
            limits: Limits::configured(&config.totem),
            out: Outputs::default(),
            overdue: None,
            leaving: None,
            killed: None,
            entropy,
            drawn: 0,
        };
        local.attempt(id.seq);
        local
    }

    /// A length of time below `bound`; spreads JOINs, which needs no better randomness.
    pub(super) fn random_delay(&mut self, bound: Duration) -> Duration {
        if bound.is_zero() {
            return bound;
        }
        let byte = self.entropy.get(self.drawn % self.entropy.len()).copied().unwrap_or_default();
        self.drawn += 1;
        bound * u32::from(byte) / 256
    }

    /// This node takes part in forming a ring with this number: it must never name it again after a restart.
    pub(super) fn attempt(&mut self, ring_seq: u64) {
        self.attempted = self.attempted.max(ring_seq);
        self.hear_ring_seq(ring_seq);
        if self.attempted.saturating_add(Self::BLOCK / 2) > self.wanted.ring_seq {
            self.wanted.ring_seq = self.attempted.saturating_add(Self::BLOCK);
        }
    }

    /// The highest number of others that is believed. Whoever may send JOINs may say any number, and what a ring has taken
    /// over is in the records of all its members. So a member takes over a number that no cluster has come to by itself in
    /// small steps, one for each ring that is formed, or that could not be. A node that starts follows the others at once:
    /// where it is led to harms nobody but itself.
    fn limit(&self) -> u64 {
        if !self.had_company {
            return Self::FOLLOWED_RING_SEQ;
        }
        let own = self.attempted.max(self.heard_before);
        own.max(Self::PLAUSIBLE_RING_SEQ).saturating_add(Self::JUMP)
    }

    /// Whether this node is alone, and a node that says this number in a JOIN does not follow it: see `limit`. This node was
    /// led astray when it started, or its record is damaged.
    pub(super) fn is_not_followed_by(&self, ring_seq: u64) -> bool {
        let followed = ring_seq.max(Self::PLAUSIBLE_RING_SEQ).saturating_add(Self::JUMP);
        !self.has_company() && self.attempted > followed
    }

    /// A ring that was agreed on was not formed: its number may have been the reason.
    pub(super) fn catch_up(&mut self) {
        self.heard_before = self.heard;
    }

    /// Whether a ring may have this number, by what its members have said in JOINs.
    pub(super) fn may_be_formed(&self, ring_seq: u64) -> bool {
        let unheard = if self.heard < Self::PLAUSIBLE_RING_SEQ { Self::UNHEARD } else { 4 * Self::JUMP };
        ring_seq <= self.heard.saturating_add(unheard) || Mutant::AnyRingSeqBelieved.is_active()
    }

    /// Takes note of a JOIN; `whole`: it may be agreed with.
    pub(super) fn note_join(&mut self, join: &Join, whole: bool, now: Time) {
        if join.leave {
            self.joins.remove(&join.from);
        } else if self.joins.len() < Join::MAX_NODES || self.joins.contains_key(&join.from) {
            let (proc, failed) = (join.proc.clone(), join.failed.clone());
            // What it said of a ring long ago, it has not said ever since.
            let last = self.joins.get(&join.from).filter(|last| now < last.at + DEAF * self.config.consensus);
            let same = last.filter(|last| (&last.proc, &last.failed) == (&proc, &failed));
            let since = same.map_or(now, |last| last.since);
            self.joins.insert(join.from, LastJoin { proc, failed, whole, since, at: now });
        }
    }

    /// Whether a node would be in a ring of listed nodes alone, as far as its last JOIN says.
    pub(super) fn is_whole(&self, node: NodeId) -> bool {
        self.joins.get(&node).is_none_or(|last| last.whole)
    }

    /// Those of these nodes that were not heard since long before the last ring, though another has wanted them for as long:
    /// it hears both sides, and would try to form a ring of them again and again.
    pub(super) fn unheard_for_long(&self, nodes: &BTreeSet<NodeId>, now: Time) -> BTreeSet<NodeId> {
        let long = DEAF * self.config.consensus;
        if self.disagreed_since.is_none_or(|since| now < since + long) {
            return BTreeSet::new();
        }
        let heard = |node: &NodeId| self.joins.get(node).is_some_and(|last| now < last.at + long);
        let firm: Vec<&LastJoin> =
            self.joins.values().filter(|last| now < last.at + long && now >= last.since + long).collect();
        let named = |node: &NodeId| firm.iter().any(|last| last.names(*node) && !last.failed.contains(node));
        nodes.iter().copied().filter(|node| *node != self.me && !heard(node) && named(node)).collect()
    }

    /// A ring was agreed on.
    pub(super) fn note_agreed(&mut self, lists: &Lists, now: Time) {
        let left_out: Vec<_> = lists.left_out().map(|node| self.is_known(node).then_some(node)).collect();
        self.outcasts.leave_out(left_out.into_iter(), &self.ring.members, now);
    }

    /// Whether the sender of a JOIN was left out of a ring, and has to wait until it is let in. A node that is alone has nothing
    /// to lose by letting it in.
    pub(super) fn has_to_wait(&self, join: &Join, now: Time) -> bool {
        let names = |node: &NodeId| join.proc.contains(node) && !join.failed.contains(node);
        let knows_all = names(&self.me) && self.ring.members.iter().all(names);
        !join.leave
            && self.has_company()
            && self.outcasts.has_to_wait(Some(join.from), knows_all, self.quorate, now)
    }

    /// The same of a node that was heard otherwise.
    pub(super) fn stranger_has_to_wait(&self, node: NodeId, now: Time) -> bool {
        let node = self.is_known(node).then_some(node);
        self.has_company() && self.outcasts.has_to_wait(node, false, self.quorate, now)
    }

    /// Whether a node that may be heard is listed, or has sent a JOIN.
    pub(super) fn is_known(&self, node: NodeId) -> bool {
        self.listed.is_some() || self.joins.contains_key(&node)
    }

    fn has_company(&self) -> bool {
        self.ring.members.len() > 1
    }

    /// Takes note of a number that another says; whether it is believed as it is.
    pub(super) fn hear_ring_seq(&mut self, ring_seq: u64) -> bool {
        let all = Mutant::AnyRingSeqBelieved.is_active();
        let followed = ring_seq <= self.limit() || all;
        // Who says more is not followed, but what is plausible is left behind.
        let believed = if followed { ring_seq } else { Self::PLAUSIBLE_RING_SEQ };
        if ring_seq <= self.attempted || !Mutant::RingSeqNotLearnt.is_active() {
            self.heard = self.heard.max(believed);
        }
        followed
    }

    /// The number of a ring that this node creates.
    pub(super) fn next_ring_seq(&self) -> u64 {
        self.heard.saturating_add(Self::STEP)
    }

    /// Whether anything may be sent: what it names is durable.
    pub(super) fn may_speak(&self) -> bool {
        self.attempted <= self.durable.ring_seq || Mutant::SentBeforeStored.is_active()
    }

    /// Takes a frame into the installed ring's window.
    pub(super) fn keep(&mut self, frame: Multicast) {
        if let Err(refusal) = self.ring.insert(frame) {
            self.out.refuse(refusal);
        }
    }

    /// Delivers all that is in order.
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

    /// Delivers all that is in order, if that cannot wait until the application asks for it: the sync has to go on, a node
    /// that leaves waits for its own farewells, and who is a rotation behind holds the others up (what is not delivered is
    /// not released).
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
        // A message for groups that nobody here is in is none of our business.
        let Some(group) = known else { return Ok(()) };
        let service = |service, message| {
            Event::Service(ServiceMessage { ring: frame.ring, from: frame.from, service, message })
        };
        match Body::decode_in(group, &body, order)? {
            sync @ (Body::ServiceBuild { .. } | Body::Barrier { .. }) => self.advance_sync(frame, &sync),
            Body::NodeInfo(_) | Body::Reconfigure(_) => self.out.tell(service(Service::Votequorum, body)),
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
                // corosync counts the C text's end in.
                let reason = String::from_utf8_lossy(&reason).trim_end_matches('\0').to_owned();
                self.killed.get_or_insert(Cause::Killed { by: frame.from, reason });
            }
            Body::Shutdown => tracing::info!(node = %frame.from, "a node says that it shuts down"),
            Body::Reload(_) => {
                tracing::warn!(
                    node = %frame.from,
                    "an operator asks all nodes to read their configuration again; this one has to be restarted for it"
                );
            }
            // The rest concerns real corosync daemons only: whose configuration is the newest, quorum devices, keys,
            // who was seen to leave (each knows by itself), load for tests.
            _ => {}
        }
        Ok(())
    }

    /// A member has said what it can take: once all have, the ring's limits are as large as that.
    fn widen(&mut self, frame: &Multicast, frames: u32) {
        if frame.ring != self.ring.id || !self.ring.members.contains(&frame.from) {
            return;
        }
        self.capacities.insert(frame.from, frames);
        let unasked = Mutant::WidenedUnasked.is_active() && self.capacities.len() > 1;
        if (self.capacities.len() == self.ring.members.len() || unasked)
            && let Some(least) = self.capacities.values().copied().min()
        {
            self.limits = Limits::agreed(&self.config, least);
            tracing::debug!(frames = self.limits.window, "so many may come in a rotation");
        }
    }

    /// A process's message has its place in the order.
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

    /// Whether every member knows that this node's processes are out of their groups. That it was delivered here does not
    /// say so: who has not received it has nobody to ask once this node is gone.
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
        let part = |part, payload| {
            let partial = CpgPartial { group: group.clone(), pid, node, part, whole, payload };
            let mut head = head.clone();
            partial.write_head(&mut head);
            (head.into(), partial.payload)
        };
        let (head, first) = part(CpgPart::First, payload.slice(..LONGEST_WHOLE));
        lane.push_part(head, first, guarantee);
        let (head, last) = part(CpgPart::Last, payload.slice(LONGEST_WHOLE..));
        lane.push(head, last, guarantee);
    }

    /// Queues that a process of this node joins a group or leaves one.
    pub(super) fn say_of_process(&mut self, body: &Body) {
        self.outbox.application.push(packing::prefix(SERVICES), body.encode(), Guarantee::Agreed);
    }

    /// Ends the installed ring's sync, if it was still going on, and begins that of `ring`.
    pub(super) fn begin_sync(&mut self, ring: RingId, members: BTreeSet<NodeId>, left: &BTreeSet<NodeId>) {
        self.assemblies.sync_begins(left);
        self.groups.begin_sync(left);
        self.outbox.control.clear();
        self.capacities.clear();
        self.limits = Limits::configured(&self.config);
        if !Mutant::CutMessageGoesOn.is_active() {
            self.outbox.application.start_over();
        }
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
                let Some(sync) = &self.sync else { return };
                tracing::trace!(stage = sync.stage(), "sync");
                let barrier = sync.barrier().encode();
                if service == CPG {
                    for message in self.groups.sync_messages() {
                        self.say(SERVICES, &message.encode());
                    }
                }
                if service == VOTEQUORUM
                    && let Some(message) = self.sync_messages.get(&Service::Votequorum).cloned()
                {
                    self.say(SERVICES, &message);
                }
                if last && let Some(message) = self.sync_messages.get(&Service::Quorate).cloned() {
                    self.say(QUORATE, &Body::Quorate(message).encode());
                }
                if last && self.config.largest_window > self.config.window_size {
                    self.say(QUORATE, &Body::Capacity { frames: self.config.largest_window }.encode());
                }
                self.say(SYNC, &barrier);
            }
            Step::Done { .. } => {
                self.assemblies.sync_done();
                self.synced_by = Some(frame.seq);
                self.out.tell(Event::Synced(self.ring.id));
            }
        }
    }

    /// Queues a message of a service that is none of the sync. Quorate nodes say theirs as safe ones: nobody acts on it
    /// before all have it, and whoever has it delivers it before any other ring.
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

    /// Whether every member is known to have received all of the sync.
    pub(super) fn synced_everywhere(&self) -> bool {
        self.synced_by.is_some_and(|seq| seq.at_or_before(self.ring.safe))
    }

    pub(super) fn synced(&self) -> bool {
        self.sync.as_ref().is_some_and(Sync::is_done)
    }

    /// The room for packets in a frame: corosync takes two frame headers off `netmtu`, so that a frame still fits
    /// when it is carried in another.
    fn capacity(&self) -> usize {
        let headers = if Mutant::NoRoomForSecondHeader.is_active() { 1 } else { 2 };
        (self.config.netmtu as usize).saturating_sub(headers * Multicast::HEADER)
    }

    /// The next frame this node may send: the sync's first, the application's once the sync is done.
    pub(super) fn next_frame(&mut self) -> Option<Draft> {
        let capacity = self.capacity();
        let synced = self.synced() || Mutant::SentBeforeSynced.is_active();
        // Receivers join the parts of a message by their place in the sender's sequence: nothing may come between them, not
        // even what would otherwise go first (seed 1235 of the laboratory).
        let begun = synced && self.outbox.application.is_begun();
        let control = if begun { None } else { self.outbox.control.next_frame(capacity) };
        match control {
            None if synced => self.outbox.application.next_frame(capacity),
            control => control,
        }
    }

    /// Frames waiting for the token.
    pub(super) fn backlog(&self) -> u32 {
        let capacity = self.capacity();
        let application = if self.synced() { self.outbox.application.frames(capacity) } else { 0 };
        self.outbox.control.frames(capacity).saturating_add(application)
    }

    /// Whether there is anything to send.
    pub(super) fn has_work(&self) -> bool {
        !self.outbox.control.is_empty() || self.synced() && !self.outbox.application.is_empty()
    }

    /// Whether the application falls behind.
    pub(super) fn is_slow(&self) -> bool {
        self.out.unread > self.config.unread_limit / 2
    }

    /// Takes note of since when the application has had more unread than it may.
    pub(super) fn note_unread(&mut self, now: Time) {
        let too_much = self.out.unread > self.config.unread_limit;
        self.overdue = too_much.then(|| self.overdue.unwrap_or(now));
    }

    /// Whether that is a whole token timeout. What was held back is delivered at once when a hole is filled or a ring ends, and
    /// who reads as fast as it can needs a moment for that (seed 39293).
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.overdue.is_some_and(|since| now - since >= self.config.token)
    }

    /// aru stood still for too long because of `node`. The others go on without it (TOCS 1995, section 5.1); a node
    /// that finds itself the one to blame goes on without the others, which comes to the same, where corosync
    /// declares itself failed and has to except itself everywhere (B25).
    pub(super) fn failed_to_receive(
        &self,
        node: NodeId,
        members: &BTreeSet<NodeId>,
        mut causes: Vec<Cause>,
    ) -> Transition {
        let mut lists = Lists::of(members);
        if node == self.me {
            lists.failed = lists.proc.iter().copied().filter(|&other| other != self.me).collect();
        } else {
            lists.failed.insert(node);
        }
        note(&mut causes, Cause::FailedToReceive { node });
        Transition::Gather { lists, causes, agreeing: None }
    }

    /// Sends a node something that means nothing to it, nor to a corosync daemon. If its process is gone, its host will say so.
    pub(super) fn probe(&mut self, node: NodeId) {
        let nowhere = self.nowhere();
        self.out.unicast(node, nowhere);
    }

    /// A wish about a ring that there never was. It says that this node is there, and nothing else.
    pub(super) fn nowhere(&self) -> Bytes {
        self.wish_of(self.me)
    }

    /// The same about a ring of the node that it goes to, which answers.
    fn question(&mut self, node: NodeId) {
        let question = self.wish_of(node);
        self.out.unicast(node, question);
    }

    fn wish_of(&self, representative: NodeId) -> Bytes {
        let nowhere = RingId { representative, seq: 0 };
        wire::encode(&Message::HoldCancel(HoldCancel { from: self.me, ring: nowhere }), Order::Little)
    }

    /// Answers a node that asks whether this one is there.
    pub(super) fn answer(&mut self, wish: &HoldCancel) {
        let asks = wish.ring == RingId { representative: self.me, seq: 0 } && wish.from != self.me;
        if asks && !Mutant::QuestionUnanswered.is_active() {
            self.probe(wish.from);
        }
    }

    /// How long a host has to refuse what is sent to a node that would `show` itself within two probes, whatever comes to it; or
    /// to one that may not.
    pub(super) fn evidence_lasts(&self, shows: bool) -> Duration {
        if self.config.probe.is_zero() {
            return self.config.token_retransmit;
        }
        let shown = self.config.probe * 5 / 2;
        if shows { shown } else { shown.max(Self::BLIP) }
    }

    /// The host of a node refuses what is sent to it; whether it goes on to do so after `lasts_until`, without a word of the
    /// node, and is believed.
    pub(super) fn suspect(&mut self, node: NodeId, lasts_until: Time, now: Time) -> bool {
        let fresh = Suspicion { ask_at: lasts_until, asked: false };
        let known = self.suspects.get(&node).copied();
        let Some(suspicion) = known.filter(|known| now <= known.ask_at + self.config.token_retransmit) else {
            self.suspects.insert(node, fresh);
            // If it hears this, it says so.
            self.question(node);
            return Mutant::HintNotChecked.is_active();
        };
        now >= suspicion.ask_at || Mutant::EvidenceOfAMoment.is_active()
    }

    /// Asks those again whose hosts have refused what was sent to them, if it is time.
    pub(super) fn ask_suspects(&mut self, now: Time) {
        let due = |suspicion: &Suspicion| !suspicion.asked && now >= suspicion.ask_at;
        let nodes: Vec<NodeId> =
            self.suspects.iter().filter(|(_, suspicion)| due(suspicion)).map(|(node, _)| *node).collect();
        for node in nodes {
            self.suspects.entry(node).and_modify(|suspicion| suspicion.asked = true);
            self.question(node);
        }
    }

    /// When to ask next.
    pub(super) fn next_question(&self) -> Option<Time> {
        self.suspects.values().filter(|suspicion| !suspicion.asked).map(|suspicion| suspicion.ask_at).min()
    }

    /// Multicasts a JOIN or a LEAVE.
    pub(super) fn send_join(&mut self, join: Join) {
        let join = wire::encode(&Message::Join(join), Order::Little);
        self.out.multicast(self.clusters.announce(&join));
    }

    /// Multicasts the probe by which rings find each other.
    pub(super) fn detect_merge(&mut self) {
        let probe = MergeDetect { from: self.me, ring: self.ring.id };
        let probe = wire::encode(&Message::MergeDetect(probe), Order::Little);
        self.out.multicast(self.clusters.announce(&probe));
    }

    /// A LEAVE.
    pub(super) fn leave(&self) -> Join {
        let others = self.ring.members.iter().copied().filter(|&node| node != self.me);
        Join {
            from: self.me,
            leave: true,
            ring_seq: self.attempted,
            proc: others.collect(),
            failed: vec![self.me],
        }
    }

    /// See [`super::Totem::fingerprint`]. Counters say how a state was come to, not which one it is.
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        let Self {
            me,
            config: _,
            listed: _,
            ring,
            attempted,
            heard,
            heard_before,
            had_company,
            durable,
            wanted,
            ..
        } = self;
        let Self { outbox, assemblies, partials, groups, sync, synced_by: _, sync_messages, out, .. } = self;
        let Self { capacities, limits, .. } = self;
        let Self { overdue, leaving, killed, entropy: _, drawn, .. } = self;
        let Outputs { transmits, events, unread, stats: _, input: _ } = out;
        (me, ring, attempted, heard, heard_before, had_company, durable, wanted).hash(state);
        (outbox, assemblies, partials, groups, sync, sync_messages, drawn).hash(state);
        (capacities, limits, self.quorate).hash(state);
        (leaving.as_ref().map(|(at, _)| *at - now), killed.is_some()).hash(state);
        (transmits, events.len(), unread, overdue.map(|at| now - at)).hash(state);
        // Older than this is all the same to GATHER.
        let old = self.config.consensus + two_joins(self);
        for (node, Suspicion { ask_at, asked }) in &self.suspects {
            (node, *ask_at - now, (now - *ask_at).min(old), asked).hash(state);
        }
        self.outcasts.fingerprint(now, state);
        for (node, LastJoin { proc, failed, whole, since, at }) in &self.joins {
            (node, proc, failed, whole, (now - *since).min(old), (now - *at).min(old)).hash(state);
        }
    }
}
