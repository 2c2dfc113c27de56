//! State of this node that is independent of the protocol state: the installed ring, its own
//! messages, and its output to the application.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::mem;
use std::time::Duration;

use bytes::Bytes;

use super::Totem;
use super::assembly::Assemblies;
use super::clusters::Clusters;
use super::flow::Limits;
use super::outbox::Outbox;
use super::outcasts::Outcasts;
use super::outputs::Outputs;
use super::reachability::Reachability;
use super::ring::Ring;
use crate::bug;
use crate::config::TotemConfig;
use crate::groups::{Groups, LONGEST_WHOLE, Partials};
use crate::sync::{CPG, Step, Sync, VOTEQUORUM};
use crate::wire::body::{Body, CpgMcast, CpgPart, CpgPartial, QUORATE, SERVICES, SYNC};
use crate::wire::packing::{self, Addressed, Pieces};
use crate::wire::{self, Draft, HoldCancel, Join, MergeDetect, Message, Multicast, Order};
use crate::{
    Cause, Config, Delivery, Event, Group, GroupChange, Guarantee, NodeId, Notice, Refusal, RingId, Seq,
    Service, ServiceMessage, Stored, Time,
};

/// The data that outlives every protocol state.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) me: NodeId,
    pub(super) config: TotemConfig,
    pub(super) clusters: Clusters,
    pub(super) reachability: Reachability,
    /// The node list, or `None` if any node may join.
    pub(super) listed: Option<BTreeSet<NodeId>>,
    /// The installed ring. Only messages of its own are added to it until the next ring is
    /// complete.
    pub(super) ring: Ring,
    /// The highest ring sequence number that this node has taken part in, installed or not.
    pub(super) attempted: u64,
    /// The highest believed ring sequence number heard from other nodes.
    heard: u64,
    /// The value of `heard` when forming a ring last failed.
    heard_before: u64,
    /// Whether this node has been in a ring with others since it started.
    pub(super) had_peers: bool,
    /// The last JOIN of each node.
    pub(super) joins: BTreeMap<NodeId, LastJoin>,
    /// The time at which this node sent its last JOIN.
    pub(super) join_sent_at: Option<Time>,
    /// The members whose hosts have reported that no process listens there.
    pub(super) suspects: BTreeMap<NodeId, Suspicion>,
    pub(super) outcasts: Outcasts,
    /// See [`super::Totem::set_quorate`].
    pub(super) quorate: bool,
    /// The time at which a consensus timeout first ended without agreement, or an agreement failed,
    /// since this node was last in a ring with another node.
    pub(super) disagreed_since: Option<Time>,
    pub(super) durable: Stored,
    pub(super) wanted: Stored,
    pub(super) outbox: Outbox,
    assemblies: Assemblies,
    /// An empty buffer, kept for its allocation.
    complete: Vec<Bytes>,
    pub(super) partials: Partials,
    pub(super) groups: Groups,
    pub(super) sync: Option<Sync>,
    /// The time at which a token of an installed ring was last accepted.
    pub(super) token_at: Option<Time>,
    /// The number of the frame that ended the sync.
    synced_by: Option<Seq>,
    /// Whether delivered messages belong to a transitional configuration.
    pub(super) transitional: bool,
    pub(super) sync_messages: BTreeMap<Service, Bytes>,
    /// The announced capacity of each member of the installed ring, in frames per rotation.
    capacities: BTreeMap<NodeId, u32>,
    /// The limits that follow from the capacities for the ring.
    pub(super) limits: Limits,
    pub(super) out: Outputs,
    /// The time since which the size of unread events has exceeded the limit.
    overdue: Option<Time>,
    /// The latest time at which this node leaves, and the cause. Its processes leave their groups
    /// first.
    pub(super) leaving: Option<(Time, Cause)>,
    /// The cause, if an operator has killed this node.
    pub(super) killed: Option<Cause>,
    entropy: [u8; 32],
    drawn: usize,
}

/// The state of a member whose host refuses datagrams to it. A firewall that rejects them for a
/// moment has the same effect.
#[derive(Clone, Copy, Hash)]
pub(super) struct Suspicion {
    /// The time at which the member is asked again. From then on, a refusal is believed.
    ask_at: Time,
    asked: bool,
}

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
    /// same](Local::wants_the_same).
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

impl Local {
    /// The number of ring sequence numbers that are made durable at a time.
    const BLOCK: u64 = 1024;
    /// The time for which a firewall may reject datagrams to any node without the node being taken
    /// for dead.
    const BLIP: Duration = Duration::from_millis(60);
    /// Messages up to this size, in bytes, are copied when they are accepted. Copying costs less
    /// than assembling them later.
    const SHORT: usize = 2048;
    /// The increment from the highest number that members state to the number of their new ring.
    const STEP: u64 = 4;
    /// Half of the highest number. A first start takes its number from the wall clock, in ms since
    /// 1970, and each ring adds a step, so this is reached in the year 2248.
    const PLAUSIBLE_RING_SEQ: u64 = Totem::MAX_RING_SEQ / 2;
    /// The highest number that a node without peers follows. The rest is room for rings.
    const FOLLOWED_RING_SEQ: u64 = Totem::MAX_RING_SEQ - (1 << 32);
    /// The largest lead over a member's own number that an implausible number may have.
    const JUMP: u64 = 1 << 12;
    /// The largest lead of a ring's number over the numbers that this node has heard in JOINs, of
    /// which it may have missed one. It allows the clocks of two first starts, which give numbers
    /// in ms, to be 49 days apart.
    const UNHEARD: u64 = 1 << 32;

    pub(super) fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Self {
        let me = config.node;
        let stored = bug!(RecordNotRead: Stored::default(); stored);
        // A start counts as a step of its own, so no earlier incarnation had this ring id (B01).
        let id = RingId { representative: me, seq: stored.ring_seq.saturating_add(1) };
        let mut local = Self {
            me,
            config: config.totem.clone(),
            clusters: Clusters::new(config),
            reachability: Reachability::new(now),
            listed: (!config.nodes.is_empty()).then(|| config.nodes.iter().map(|node| node.id).collect()),
            ring: Ring::new(id, BTreeSet::new(), config.totem.first_seq),
            attempted: 0,
            heard: 0,
            heard_before: 0,
            had_peers: false,
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

    /// Returns a random duration below `bound`. It spreads JOINs, for which this randomness is good
    /// enough.
    pub(super) fn random_delay(&mut self, bound: Duration) -> Duration {
        if bound.is_zero() {
            return bound;
        }
        let byte = self.entropy.get(self.drawn % self.entropy.len()).copied().unwrap_or_default();
        self.drawn += 1;
        bound * u32::from(byte) / 256
    }

    /// Returns the time in which a node is heard even if one of its JOINs is lost.
    pub(super) fn two_joins(&self) -> Duration {
        2 * (self.config.join + self.config.send_join)
    }

    /// Returns the time without a ring after which this node immediately calls failed the nodes
    /// that it has not heard for as long.
    fn deaf_after(&self) -> Duration {
        2 * self.config.consensus
    }

    /// Records that this node takes part in forming a ring with this number. It must never name the
    /// number again after a restart.
    pub(super) fn attempt(&mut self, ring_seq: u64) {
        self.attempted = self.attempted.max(ring_seq);
        self.hear_ring_seq(ring_seq);
        if self.attempted.saturating_add(Self::BLOCK / 2) > self.wanted.ring_seq {
            self.wanted.ring_seq = self.attempted.saturating_add(Self::BLOCK);
        }
    }

    /// Returns the highest number of other nodes that is believed.
    ///
    /// Any node that may send JOINs can state any number, and a number that a ring adopts is in the
    /// records of all its members. So a member approaches an implausible number only in small
    /// steps, one for each ring that is formed or fails to form. A node that has just started
    /// follows the others at once, since a wrong number harms only this node.
    fn limit(&self) -> u64 {
        if !self.had_peers {
            return Self::FOLLOWED_RING_SEQ;
        }
        let own = self.attempted.max(self.heard_before);
        own.max(Self::PLAUSIBLE_RING_SEQ).saturating_add(Self::JUMP)
    }

    /// Returns `true` if this node is alone and the sender of a JOIN with this number does not
    /// follow it (see `limit`). Either this node adopted a wrong number when it started, or its
    /// record is damaged.
    pub(super) fn is_not_followed_by(&self, ring_seq: u64) -> bool {
        let followed = ring_seq.max(Self::PLAUSIBLE_RING_SEQ).saturating_add(Self::JUMP);
        self.is_alone() && self.attempted > followed
    }

    /// Raises the limit after a ring that was agreed on was not formed, since its number may have
    /// been the reason.
    pub(super) fn catch_up(&mut self) {
        self.heard_before = self.heard;
    }

    /// Returns `true` if a ring may have this number, judged by the JOINs of its members.
    pub(super) fn may_be_formed(&self, ring_seq: u64) -> bool {
        let unheard = if self.heard < Self::PLAUSIBLE_RING_SEQ { Self::UNHEARD } else { 4 * Self::JUMP };
        bug!(AnyRingSeqBelieved: true; ring_seq <= self.heard.saturating_add(unheard))
    }

    /// Records a JOIN. With `whole`, this node may agree with it.
    pub(super) fn note_join(&mut self, join: &Join, whole: bool, now: Time) {
        if join.leave {
            self.joins.remove(&join.from);
        } else if self.joins.len() < Join::MAX_NODES || self.joins.contains_key(&join.from) {
            let (proc, failed) = (join.proc.clone(), join.failed.clone());
            // An old JOIN does not show that the node has held the same lists ever since.
            let last = self.joins.get(&join.from).filter(|last| now < last.at + self.deaf_after());
            let same = last.filter(|last| (&last.proc, &last.failed) == (&proc, &failed));
            let since = same.map_or(now, |last| last.since);
            let wants = last.filter(|last| self.wants_the_same(last, join, now));
            let wants_since = wants.map_or(now, |last| last.wants_since);
            self.joins.insert(join.from, LastJoin { proc, failed, whole, since, wants_since, at: now });
        }
    }

    /// Returns `true` if a node still wants the same of the nodes that are heard here. A node that
    /// forms rings alone in between calls the same dead nodes failed after each of them. That is no
    /// news (seed 17634 of the swarm).
    fn wants_the_same(&self, last: &LastJoin, join: &Join, now: Time) -> bool {
        let long = self.deaf_after();
        let is_up =
            |node: &NodeId| *node == self.me || self.joins.get(node).is_some_and(|last| now < last.at + long);
        let up = |failed: &[NodeId]| failed.iter().copied().filter(is_up).collect::<BTreeSet<_>>();
        last.proc == join.proc && up(&last.failed) == up(&join.failed)
    }

    /// Returns `true` unless the node's last JOIN proposes an unlisted node or states a number that
    /// is not believed.
    pub(super) fn is_whole(&self, node: NodeId) -> bool {
        self.joins.get(&node).is_none_or(|last| last.whole)
    }

    /// Returns those of `nodes` that have not been heard for long, although another node has wanted
    /// them for as long. The other node hears both sides, and would try to form a ring of them
    /// again and again.
    pub(super) fn unheard_for_long(&self, nodes: &BTreeSet<NodeId>, now: Time) -> BTreeSet<NodeId> {
        let long = self.deaf_after();
        if self.disagreed_since.is_none_or(|since| now < since + long) {
            return BTreeSet::new();
        }
        let heard = |node: &NodeId| self.joins.get(node).is_some_and(|last| now < last.at + long);
        let firm: Vec<&LastJoin> =
            self.joins.values().filter(|last| now < last.at + long && now >= last.since + long).collect();
        let named = |node: &NodeId| firm.iter().any(|last| last.names(*node) && !last.failed.contains(node));
        nodes.iter().copied().filter(|node| *node != self.me && !heard(node) && named(node)).collect()
    }

    /// Records that a ring of `members` was agreed on without the nodes in `left_out`.
    pub(super) fn leave_out(&mut self, left_out: &[NodeId], members: &BTreeSet<NodeId>, now: Time) {
        for &node in left_out {
            self.notice_whom_it_leaves_out(node, members, now);
        }
        let left_out: Vec<_> = left_out.iter().map(|&node| self.is_known(node).then_some(node)).collect();
        self.outcasts.leave_out(left_out.into_iter(), &self.ring.members, now);
    }

    /// Reports the members that a node outside the ring leaves out, although it receives this
    /// node's JOINs. The first member to find that out gives the node up, and the others believe
    /// it. Each of them reports what it has heard itself, since an operator may ask any of them.
    fn notice_whom_it_leaves_out(&mut self, node: NodeId, members: &BTreeSet<NodeId>, now: Time) {
        let two_joins = self.two_joins();
        let Some(last) = self.joins.get(&node) else { return };
        if last.names(self.me) && now >= last.since + two_joins && now <= last.at + two_joins {
            for &other in members.iter().filter(|member| !last.names(**member)) {
                self.out.stats.notices.note(now, Notice::LeavesOut { peer: node, node: other }, None);
            }
        }
    }

    /// Returns `true` if the sender of a JOIN was left out of a ring and has to wait until it is
    /// readmitted. A node that is alone readmits it at once, because it has nothing to lose.
    pub(super) fn has_to_wait(&self, join: &Join, now: Time) -> bool {
        let names = |node: &NodeId| join.proc.contains(node) && !join.failed.contains(node);
        let knows_all = names(&self.me) && self.ring.members.iter().all(names);
        !join.leave
            && !self.is_alone()
            && self.outcasts.has_to_wait(Some(join.from), knows_all, self.quorate, now)
    }

    /// Like [`Local::has_to_wait`], for a node that was heard by other means than a JOIN.
    pub(super) fn stranger_has_to_wait(&self, node: NodeId, now: Time) -> bool {
        let node = self.is_known(node).then_some(node);
        !self.is_alone() && self.outcasts.has_to_wait(node, false, self.quorate, now)
    }

    /// Returns `true` if a node that may be heard is listed, or has sent a JOIN.
    pub(super) fn is_known(&self, node: NodeId) -> bool {
        self.listed.is_some() || self.joins.contains_key(&node)
    }

    fn is_alone(&self) -> bool {
        self.ring.members.len() <= 1
    }

    /// Records a ring number of another node. Returns `true` if it is believed as it is.
    pub(super) fn hear_ring_seq(&mut self, ring_seq: u64) -> bool {
        let followed = bug!(AnyRingSeqBelieved: true; ring_seq <= self.limit());
        // A higher number is not followed, but the next ring's number exceeds the plausible ones.
        let believed = if followed { ring_seq } else { Self::PLAUSIBLE_RING_SEQ };
        if bug!(RingSeqNotLearnt: ring_seq <= self.attempted; true) {
            self.heard = self.heard.max(believed);
        }
        followed
    }

    /// Returns the number of a ring that this node creates.
    pub(super) fn next_ring_seq(&self) -> u64 {
        self.heard.saturating_add(Self::STEP)
    }

    /// Returns `true` if this node may send, which requires that the numbers it names are durable.
    pub(super) fn may_speak(&self) -> bool {
        bug!(SentBeforeStored: true; self.attempted <= self.durable.ring_seq)
    }

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
                // corosync includes the terminating NUL in the length.
                let reason = String::from_utf8_lossy(&reason).trim_end_matches('\0').to_owned();
                self.killed.get_or_insert(Cause::Killed { by: frame.from, reason });
            }
            Body::Shutdown => tracing::info!(node = %frame.from, "a node is shutting down"),
            Body::Reload(_) => {
                tracing::warn!(
                    node = %frame.from,
                    "an operator told all nodes to reload their configuration; restart this node to apply \
                     changes"
                );
            }
            // The remaining messages concern only real corosync daemons: the newest configuration,
            // quorum devices, keys, members that were seen to leave (each node knows by itself),
            // and load for tests.
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

    /// Queues the announcement that a process of this node joins or leaves a group.
    pub(super) fn say_of_process(&mut self, body: &Body) {
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

    /// Sends a node a datagram that has no meaning to it or to a corosync daemon. If the node's
    /// process is gone, its host will report that.
    pub(super) fn probe(&mut self, node: NodeId) {
        let nowhere = self.nowhere();
        self.out.unicast(node, nowhere);
    }

    /// Returns a HOLD CANCEL for a ring that never existed. It shows that this node is alive, and
    /// has no other effect.
    pub(super) fn nowhere(&self) -> Bytes {
        self.wish_of(self.me)
    }

    /// Asks a node for a sign of life, with a HOLD CANCEL for a ring of that node that never
    /// existed.
    fn question(&mut self, node: NodeId) {
        let question = self.wish_of(node);
        self.out.unicast(node, question);
    }

    fn wish_of(&self, representative: NodeId) -> Bytes {
        let nowhere = RingId { representative, seq: 0 };
        wire::encode(&Message::HoldCancel(HoldCancel { from: self.me, ring: nowhere }), Order::Little)
    }

    /// Answers a node that asks for a sign of life.
    pub(super) fn answer(&mut self, wish: &HoldCancel) {
        let asks = wish.ring == RingId { representative: self.me, seq: 0 } && wish.from != self.me;
        if bug!(QuestionUnanswered: false; asks) {
            self.probe(wish.from);
        }
    }

    /// Returns the time for which a host has to refuse datagrams to a node before the refusals are
    /// believed. With `shows`, the node shows itself within two probes if it is up, whatever
    /// datagrams reach it. Without, it may not.
    pub(super) fn evidence_lasts(&self, shows: bool) -> Duration {
        if self.config.probe.is_zero() {
            return self.config.token_retransmit;
        }
        let shown = self.config.probe * 5 / 2;
        if shows { shown } else { shown.max(Self::BLIP) }
    }

    /// Records that a node's host refuses datagrams to it. Returns `true` if the host still does so
    /// after `lasts_until` and the node has sent nothing, so that the refusals are believed.
    pub(super) fn suspect(&mut self, node: NodeId, lasts_until: Time, now: Time) -> bool {
        let fresh = Suspicion { ask_at: lasts_until, asked: false };
        let known = self.suspects.get(&node).copied();
        let Some(suspicion) = known.filter(|known| now <= known.ask_at + self.config.token_retransmit) else {
            self.suspects.insert(node, fresh);
            // If the node receives this, it answers.
            self.question(node);
            return bug!(HintNotChecked: true; false);
        };
        bug!(EvidenceOfAMoment: true; now >= suspicion.ask_at)
    }

    /// Repeats the question to nodes whose hosts have refused datagrams, when it is due.
    pub(super) fn ask_suspects(&mut self, now: Time) {
        let due = |suspicion: &Suspicion| !suspicion.asked && now >= suspicion.ask_at;
        let nodes: Vec<NodeId> =
            self.suspects.iter().filter(|(_, suspicion)| due(suspicion)).map(|(node, _)| *node).collect();
        for node in nodes {
            self.suspects.entry(node).and_modify(|suspicion| suspicion.asked = true);
            self.question(node);
        }
    }

    /// Returns the time of the next question.
    pub(super) fn next_question(&self) -> Option<Time> {
        self.suspects.values().filter(|suspicion| !suspicion.asked).map(|suspicion| suspicion.ask_at).min()
    }

    /// Multicasts a JOIN or a LEAVE.
    pub(super) fn send_join(&mut self, join: Join) {
        let join = wire::encode(&Message::Join(join), Order::Little);
        self.out.multicast(self.clusters.announce(&join));
    }

    /// Multicasts the probe with which rings find each other.
    pub(super) fn detect_merge(&mut self) {
        let probe = MergeDetect { from: self.me, ring: self.ring.id };
        let probe = wire::encode(&Message::MergeDetect(probe), Order::Little);
        self.out.multicast(self.clusters.announce(&probe));
    }

    /// Returns the LEAVE of this node.
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

    /// See [`super::Totem::fingerprint`]. Counters are left out, because they depend on how a state
    /// was reached.
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        let Self {
            me,
            config: _,
            listed: _,
            ring,
            attempted,
            heard,
            heard_before,
            had_peers,
            durable,
            wanted,
            ..
        } = self;
        let Self { outbox, assemblies, partials, groups, sync, synced_by: _, sync_messages, out, .. } = self;
        let Self { capacities, limits, .. } = self;
        let Self { overdue, leaving, killed, entropy: _, drawn, .. } = self;
        let Outputs { transmits, events, unread, stats: _, input: _ } = out;
        (me, ring, attempted, heard, heard_before, had_peers, durable, wanted).hash(state);
        (outbox, assemblies, partials, groups, sync, sync_messages, drawn).hash(state);
        (capacities, limits, self.quorate).hash(state);
        (leaving.as_ref().map(|(at, _)| *at - now), killed.is_some()).hash(state);
        (transmits, events.len(), unread, overdue.map(|at| now - at)).hash(state);
        // GATHER makes no distinction between longer times.
        let old = self.config.consensus + self.two_joins();
        for (node, Suspicion { ask_at, asked }) in &self.suspects {
            (node, *ask_at - now, (now - *ask_at).min(old), asked).hash(state);
        }
        self.outcasts.fingerprint(now, state);
        for (node, LastJoin { proc, failed, whole, since, wants_since, at }) in &self.joins {
            let times = [since, wants_since, at].map(|time| (now - *time).min(old));
            (node, proc, failed, whole, times).hash(state);
        }
    }
}
