//! State of this node that is independent of the protocol state: the installed ring, its own
//! messages, and its output to the application.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;

use super::assembly::Assemblies;
use super::clusters::Clusters;
use super::flow::Limits;
use super::joins::Joins;
use super::misfits::NodeLists;
use super::outbox::Outbox;
use super::outcasts::Outcasts;
use super::outputs::Outputs;
use super::reachability::Reachability;
use super::ring::Ring;
use crate::bug;
use crate::config::TotemConfig;
use crate::groups::{Groups, Partials};
use crate::sync::Sync;
use crate::wire::{self, Announcement, HoldCancel, Join, MergeDetect, Message, Order};
use crate::{Cause, Config, NodeId, Notice, RingId, Seq, Service, Stored, Time};

/// The data that outlives every protocol state.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) me: NodeId,
    pub(super) config: TotemConfig,
    pub(super) clusters: Clusters,
    pub(super) reachability: Reachability,
    /// The node list, or `None` if any node may join.
    pub(super) listed: Option<BTreeSet<NodeId>>,
    /// The node lists of the others.
    pub(super) node_lists: NodeLists,
    /// The installed ring. Only messages of its own are added to it until the next ring is
    /// complete.
    pub(super) ring: Ring,
    /// The highest ring sequence number that this node has taken part in, installed or not.
    pub(super) attempted: u64,
    /// The highest believed ring sequence number heard from other nodes.
    pub(super) heard: u64,
    /// The value of `heard` when forming a ring last failed.
    pub(super) heard_before: u64,
    /// Whether this node has been in a ring with others since it started.
    pub(super) had_peers: bool,
    /// The last JOIN of each node.
    pub(super) joins: Joins,
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
    pub(super) assemblies: Assemblies,
    /// An empty buffer, kept for its allocation.
    pub(super) complete: Vec<Bytes>,
    pub(super) partials: Partials,
    pub(super) groups: Groups,
    pub(super) sync: Option<Sync>,
    /// The time at which a token of an installed ring was last accepted.
    pub(super) token_at: Option<Time>,
    /// The number of the frame that ended the sync.
    pub(super) synced_by: Option<Seq>,
    /// Whether delivered messages belong to a transitional configuration.
    pub(super) transitional: bool,
    pub(super) sync_messages: BTreeMap<Service, Vec<Bytes>>,
    /// The announced capacity of each member of the installed ring, in frames per rotation.
    pub(super) capacities: BTreeMap<NodeId, u32>,
    /// The limits that follow from the capacities for the ring.
    pub(super) limits: Limits,
    pub(super) out: Outputs,
    /// The time since which the size of unread events has exceeded the limit.
    pub(super) overdue: Option<Time>,
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

impl Local {
    /// The time for which a firewall may reject datagrams to any node without the node being taken
    /// for dead.
    const BLIP: Duration = Duration::from_millis(60);
    /// The longest time between two refusals by a host whose process stays gone. A Linux host sends
    /// at most six of them to a peer in a row, and then one a second (`icmp_ratelimit`). A process
    /// that is killed again and again uses these six up.
    const BETWEEN_REFUSALS: Duration = Duration::from_millis(1100);

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
            node_lists: NodeLists::default(),
            ring: Ring::new(id, BTreeSet::new(), config.totem.first_seq),
            attempted: 0,
            heard: 0,
            heard_before: 0,
            had_peers: false,
            joins: Joins::new(me, config.totem.consensus),
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

    /// Records that a ring of `members` was agreed on without the nodes in `left_out`. Some of
    /// these are `misfits`.
    pub(super) fn leave_out(
        &mut self,
        left_out: &[NodeId],
        misfits: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
        now: Time,
    ) {
        for &node in left_out {
            self.notice_whom_it_leaves_out(node, members, now);
        }
        let left_out: Vec<_> = left_out.iter().map(|&node| self.is_known(node).then_some(node)).collect();
        self.outcasts.leave_out(left_out.into_iter(), &self.ring.members, now);
        self.outcasts.leave_out_misfits(misfits);
    }

    /// Reports the members that a node outside the ring leaves out, although it receives this
    /// node's JOINs. The first member to find that out gives the node up, and the others believe
    /// it. Each of them reports what it has heard itself, since an operator may ask any of them.
    fn notice_whom_it_leaves_out(&mut self, node: NodeId, members: &BTreeSet<NodeId>, now: Time) {
        let two_joins = self.two_joins();
        let Some(last) = self.joins.of(node) else { return };
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

    /// Returns those of `candidates` that are up and have to be left out, because their node lists
    /// and those of others differ.
    pub(super) fn misfits(&self, candidates: &BTreeSet<NodeId>, now: Time) -> BTreeSet<NodeId> {
        let up = self.up(candidates, now);
        self.node_lists.misfits(self.me, &up, &self.ring.members, self.listed.as_ref())
    }

    /// Reports the nodes that others of these nodes do not list.
    pub(super) fn notice_misfits(&mut self, nodes: &BTreeSet<NodeId>, now: Time) {
        for notice in self.node_lists.notices(nodes) {
            self.out.stats.notices.note(now, notice, None);
        }
    }

    /// Returns the nodes that have been heard and cannot be in one ring with all others that have.
    pub(super) fn disputed(&self) -> BTreeSet<NodeId> {
        self.node_lists.disputed(&self.joins.nodes().chain([self.me]).collect())
    }

    /// Returns those of `nodes` that would be heard if they were gathering, and are.
    pub(super) fn up(&self, nodes: &BTreeSet<NodeId>, now: Time) -> BTreeSet<NodeId> {
        let lately = self.two_joins();
        let is_up = |node: &NodeId| {
            *node == self.me || self.joins.of(*node).is_some_and(|last| now < last.at + lately)
        };
        nodes.iter().copied().filter(is_up).collect()
    }

    /// Returns `true` if a node that may be heard is listed, or has sent a JOIN.
    pub(super) fn is_known(&self, node: NodeId) -> bool {
        self.listed.is_some() || self.joins.of(node).is_some()
    }

    pub(super) fn is_alone(&self) -> bool {
        self.ring.members.len() <= 1
    }

    /// Sends a node a datagram that has no meaning to it or to a corosync daemon. If the node's
    /// process is gone, its host will report that.
    ///
    /// A node that has been asked for a sign of life is not probed until it is asked again. The
    /// refusals in between would prove nothing, and a host sends only a few.
    pub(super) fn probe(&mut self, node: NodeId) {
        let asked = self.suspects.get(&node).is_some_and(|suspicion| !suspicion.asked);
        if bug!(SuspectsProbed: true; !asked) {
            self.show_life(node);
        }
    }

    fn show_life(&mut self, node: NodeId) {
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
            self.show_life(wish.from);
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

    /// Returns the time for which a node that does not answer stays suspected.
    fn suspicion_lasts(&self) -> Duration {
        let retransmit = self.config.token_retransmit;
        bug!(SuspicionForgotten: retransmit; retransmit.max(Self::BETWEEN_REFUSALS))
    }

    /// Records that a node's host refuses datagrams to it. Returns `true` if the host still does so
    /// after `lasts_until` and the node has sent nothing, so that the refusals are believed.
    pub(super) fn suspect(&mut self, node: NodeId, lasts_until: Time, now: Time) -> bool {
        let fresh = Suspicion { ask_at: lasts_until, asked: false };
        let known = self.suspects.get(&node).copied();
        let Some(suspicion) = known.filter(|known| now <= known.ask_at + self.suspicion_lasts()) else {
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
        self.announce(&join);
    }

    /// Multicasts the probe with which rings find each other.
    pub(super) fn detect_merge(&mut self) {
        let probe = MergeDetect { from: self.me, ring: self.ring.id };
        let probe = wire::encode(&Message::MergeDetect(probe), Order::Little);
        self.announce(&probe);
    }

    /// Multicasts a message that may reach nodes that do not know this one.
    fn announce(&mut self, message: &Bytes) {
        let announcement = Announcement { cluster: self.clusters.own, listed: self.listed.clone() };
        self.out.multicast(announcement.append_to(message));
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
            (node, *ask_at - now, (now - *ask_at).min(old.max(self.suspicion_lasts())), asked).hash(state);
        }
        self.outcasts.fingerprint(now, state);
        self.joins.fingerprint(now, old, state);
        self.node_lists.hash(state);
    }
}
