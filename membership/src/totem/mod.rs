//! The protocol core: Totem's state machine, without input or output of its own.
//!
//! ```text
//!              token lost, JOIN, stranger heard
//!      ┌────────────────────────────────────────────────┐
//!      ▼                                                │
//!   GATHER ──────────▶ COMMIT ──────────▶ RECOVERY ──────────▶ OPERATIONAL
//!      ▲   consensus,    │   commit token    │   all members have
//!      │   or the commit │   complete        │   all frames
//!      │   token         │                   │
//!      └─────────────────┴───────────────────┘
//!            token lost, JOIN of a member
//! ```
//!
//! Each state has its own file and owns its data. Data that outlives the states is in `local`.
//! Handlers return the transition they request. [`Totem::apply`] performs it, and contains the only
//! assignment to the state. Requests by applications are handled in `application`.

mod application;
mod assembly;
mod clusters;
mod commit;
mod flow;
mod gather;
mod joins;
mod left;
mod lists;
mod local;
mod messages;
mod misfits;
mod numbers;
mod operational;
mod outbox;
mod outcasts;
mod outputs;
mod reachability;
mod recovery;
mod ring;
mod rotation;
mod snapshot;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;

pub use self::application::MulticastError;
use self::commit::Commit;
use self::gather::{Gather, without};
use self::left::Left;
use self::lists::Lists;
use self::local::Local;
use self::operational::Operational;
use self::recovery::{Recovered, Recovery};
use self::ring::Ring;
pub use self::snapshot::{Phase, RingView, Snapshot};
use crate::bug;
use crate::groups::Partials;
use crate::wire::{self, Announcement, ClusterTag, CommitToken, Join, Message, Order};
use crate::{
    Cause, Config, ConfigError, Event, Group, NodeId, Notice, Process, Refusal, RingId, Stats, Stored, Time,
};

/// The origin of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Origin {
    /// The node that the source address belongs to, if the transport knows it.
    pub peer: Option<NodeId>,
    /// The source address. It is named in a [`Notice`](crate::Notice), and distinguishes clusters
    /// with different names that share a group.
    pub source: Option<SocketAddr>,
    /// Whether the source address sorts before this node's own. If two processes start with the
    /// same id and there is no node list to decide, the one at the lower address stays.
    pub outranks_us: bool,
}

impl Origin {
    /// Returns the origin of a datagram from the address of `peer`. `None` stands for an address
    /// that belongs to no known node.
    pub fn of(peer: Option<NodeId>) -> Self {
        Self { peer, ..Self::default() }
    }
}

/// A datagram to be sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transmit {
    /// The destination.
    pub to: Destination,
    /// The bytes to send.
    pub datagram: Bytes,
}

/// The destination of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Destination {
    /// All nodes except this one, by multicast.
    Everyone,
    /// A single node, perhaps this one, by unicast.
    Member(NodeId),
}

/// The protocol state of one node.
///
/// The methods are of four kinds:
///
/// - *Inputs* take the time and something that happened: `handle_*`,
///   [`multicast`](Totem::multicast), [`join_group`](Totem::join_group),
///   [`leave_group`](Totem::leave_group), [`consumed`](Totem::consumed), and
///   [`leave`](Totem::leave).
/// - *Outputs* are polled after each input, each until it is empty, in this order:
///   [`must_store`](Totem::must_store), [`poll_transmit`](Totem::poll_transmit),
///   [`poll_event`](Totem::poll_event), [`poll_timeout`](Totem::poll_timeout). Only events may wait
///   for later inputs, so a token can overtake messages that are still to be delivered. After
///   [`multicast`](Totem::multicast) and the calls for groups, events may be polled first. A member
///   that holds a resting token then delivers its own message before it is sent.
/// - [`set_sync_messages`](Totem::set_sync_messages) is called while an event is handled.
/// - The remaining methods are getters.
///
/// There are no other inputs, so the same calls give the same outputs.
///
/// The caller passes in every multicast that arrived before a token ahead of that token. Otherwise
/// the core requests frames that are already in the socket.
#[derive(Clone)]
pub struct Totem {
    local: Local,
    state: State,
    started_at: Time,
    /// The time at which another process with this node's id was last told that this one stays.
    answered_at: Option<Time>,
    /// The time at which a pause of this node was last noticed.
    awake_at: Option<Time>,
}

#[derive(Clone)]
enum State {
    Gather(Gather),
    Commit(Commit),
    Recovery(Box<Recovery>),
    Operational(Operational),
    Left(Left),
}

/// The transition that a handler requests.
enum Transition {
    Gather {
        lists: Lists,
        causes: Vec<Cause>,
        /// A node that is known to believe `lists`.
        agreeing: Option<NodeId>,
    },
    Commit {
        cause: Cause,
        agreed: Lists,
        causes: Vec<Cause>,
        token: CommitToken,
    },
    Recovery {
        causes: Vec<Cause>,
        token: CommitToken,
    },
    Operational(Box<Recovered>),
    Leave(Cause),
}

impl Totem {
    /// The longest payload of a message, in bytes.
    pub const MAX_PAYLOAD: usize = Partials::LONGEST;
    /// The size up to which messages are queued, in bytes. It includes about 300 bytes of overhead
    /// for each message, and for each part of a longer one.
    ///
    /// A message that is longer than this is accepted if no other message waits. A message stays in
    /// memory until all of it is sent, and after a ring change, all of it waits again. So at most
    /// `QUEUE` and [`MAX_PAYLOAD`](Self::MAX_PAYLOAD) together wait to be sent ([`Totem::queued`]).
    pub const QUEUE: usize = 4 << 20;
    /// The highest ring sequence number that a stored record can have.
    ///
    /// A first start takes its number from the wall clock, in ms since 1970, and each ring adds 4.
    /// From half of this number on (the year 2248), a ring adopts no number that is more than a few
    /// thousand ahead. A record with a higher number is damaged, and its node would be alone.
    pub const MAX_RING_SEQ: u64 = 1 << 44;
    /// The number of datagrams that may wait for the stored record to be durable.
    const WAITING: usize = 64;

    /// Creates a node that is about to start. It sends nothing until its stored record is durable.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Result<Self, ConfigError> {
        let config = config.effective()?;
        let mut local = Local::new(&config, stored, entropy, now);
        let lists = Lists::of(&BTreeSet::new());
        let mut gather = Gather::enter(lists, vec![Cause::Started], None, now, &mut local);
        let alone = gather.commit(now, &mut local);
        let mut totem =
            Self { local, state: State::Gather(gather), started_at: now, answered_at: None, awake_at: None };
        totem.apply(alone, now);
        Ok(totem)
    }

    /// Handles a received datagram. Every defect of it is counted in [`Stats::refused`].
    pub fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes) {
        self.notice_stall(now);
        self.local.out.input = (now, origin);
        let mut message = match wire::decode(datagram) {
            Ok(message) => message,
            Err(refusal) => return self.local.out.refuse(refusal),
        };
        let announced = wire::announced(datagram);
        if let Some(cluster) = self.other_cluster(origin, announced.as_ref()) {
            return self.reject_cluster(now, cluster, &message);
        }
        if let Err(refusal) = self.admit(origin, &message) {
            self.local.out.refuse_sender(refusal, claimed(&message), self.local.me);
            if refusal == Refusal::Impostor && claimed(&message) == Some(self.local.me) {
                self.handle_namesake(now, origin, &message);
            }
            return;
        }
        if let Some(peer) = origin.peer.filter(|peer| !self.local.ring.members.contains(peer)) {
            self.local.reachability.hear(peer, now);
        }
        if let Some(peer) = origin.peer {
            // The node is alive, whatever its host reports.
            self.local.suspects.remove(&peer);
        }
        if let (Some(node), Some(announced)) = (claimed(&message), announced) {
            self.hear_of_list(node, announced.listed);
        }
        let whole = match &mut message {
            Message::Join(join) => self.pass_over_unlisted(join),
            _ => true,
        };
        let transition = self.handle_message(now, message, whole);
        self.apply(transition, now);
    }

    /// Records a problem that the transport has noticed and an operator should know of.
    pub fn handle_notice(&mut self, now: Time, notice: Notice, source: Option<SocketAddr>) {
        self.local.out.stats.notices.note(now, notice, source);
    }

    /// Returns the other cluster that a datagram belongs to, if any.
    fn other_cluster(&mut self, origin: Origin, announced: Option<&Announcement>) -> Option<ClusterTag> {
        let member = origin.peer.is_some_and(|peer| self.local.ring.members.contains(&peer));
        self.local.clusters.other(origin.source, member, announced)
    }

    /// Ignores a datagram of another cluster, and announces this cluster so that the other ignores
    /// it too.
    fn reject_cluster(&mut self, now: Time, cluster: ClusterTag, message: &Message) {
        let local = &mut self.local;
        local.out.stats.refuse(Refusal::OtherCluster);
        local.out.notice(Notice::OtherCluster { cluster });
        if matches!(message, Message::Join(join) if !join.leave) && local.clusters.may_answer(now) {
            local.detect_merge();
        }
    }

    /// Records the node list that a node announces. Reports a list with nodes that this one lacks,
    /// unless the two are in a ring all the same.
    fn hear_of_list(&mut self, node: NodeId, announced: Option<BTreeSet<NodeId>>) {
        let local = &mut self.local;
        if let (Some(theirs), Some(ours)) = (&announced, &local.listed)
            && let Some(&unlisted) = theirs.difference(ours).next()
            && !local.ring.members.contains(&node)
        {
            local.out.notice(Notice::NamesUnlisted { peer: node, node: unlisted });
        }
        if local.node_lists.note(node, announced, local.listed.as_ref()) {
            // A corrected file ends the waits that the difference has caused.
            local.outcasts.forgive();
        }
    }

    /// Removes unlisted nodes from a JOIN, whose sender may have a longer list than this node. The
    /// rest of the JOIN still counts. Returns `true` if the JOIN names no unlisted node for the
    /// ring.
    fn pass_over_unlisted(&mut self, join: &mut Join) -> bool {
        let Some(listed) = &self.local.listed else { return true };
        let unlisted =
            join.proc.iter().find(|node| !listed.contains(node) && !join.failed.contains(node)).copied();
        join.proc.retain(|node| listed.contains(node));
        join.failed.retain(|node| listed.contains(node));
        if let Some(node) = unlisted {
            self.local.out.notice(Notice::NamesUnlisted { peer: join.from, node });
        }
        unlisted.is_none()
    }

    /// Checks that the sender is the node it claims to be, and is in the node list.
    fn admit(&self, origin: Origin, message: &Message) -> Result<(), Refusal> {
        let listed = |node: &NodeId| self.local.listed.as_ref().is_none_or(|listed| listed.contains(node));
        let claimed = claimed(message);
        match (claimed, origin.peer) {
            // Any member may forward a frame, so its author need not be its sender.
            (None, Some(_)) => {}
            (Some(claimed), _) if !listed(&claimed) => return Err(Refusal::Unlisted),
            (Some(claimed), Some(peer)) if claimed == peer => {}
            (Some(_), Some(_)) => return Err(Refusal::Impostor),
            // The address belongs to no known node. Rings that have never met find each other by
            // frames and probes.
            (_, None) if self.local.listed.is_some() => {
                // A claimed id is listed at this point, and therefore at another address.
                return Err(if claimed.is_some() { Refusal::Impostor } else { Refusal::Unlisted });
            }
            (None, None) => {}
            (Some(claimed), None) => {
                if claimed == self.local.me || !matches!(message, Message::MergeDetect(_)) {
                    return Err(Refusal::Impostor);
                }
            }
        }
        if let Message::Multicast(frame) = message
            && bug!(FramesFromAnybody: false; true)
        {
            let ours = &self.local.ring;
            let ring = match self.turning_ring(frame.ring) {
                // Any member may send a frame again, and only members have it.
                Some(ring) => Some(ring),
                // A member that has moved to another ring announces that itself. A stranger that
                // sends frames under its id would cost this ring a change with each frame.
                None if ours.members.contains(&frame.from) => Some(ours),
                None => None,
            };
            if ring.is_some_and(|ring| origin.peer.is_none_or(|peer| !ring.members.contains(&peer))) {
                return Err(Refusal::Outsider);
            }
        }
        let all_listed = match message {
            Message::Multicast(frame) => listed(&frame.from),
            Message::Join(join) => {
                bug!(JoinRefusedWhole: join.proc.iter().chain(&join.failed).all(listed); true)
            }
            Message::Commit(token) => token.members.iter().all(listed),
            _ => true,
        };
        if all_listed { Ok(()) } else { Err(Refusal::Unlisted) }
    }

    /// Returns the installed ring, or the ring in recovery, if it has this id.
    fn turning_ring(&self, id: RingId) -> Option<&Ring> {
        let forming = match &self.state {
            State::Recovery(recovery) => Some(&recovery.ring),
            _ => None,
        };
        [Some(&self.local.ring), forming].into_iter().flatten().find(|ring| ring.id == id)
    }

    /// Handles a message from another process that uses this node's id.
    ///
    /// A node list fixes the owner's address, and transports let a node start only there, so this
    /// process stays. Without a list, a process stays if it is not alone or has been up for long,
    /// and announces that it stays. Of two processes that are starting, the one at the lower
    /// address stays, so one of them does whichever messages are lost.
    fn handle_namesake(&mut self, now: Time, origin: Origin, message: &Message) {
        let node = self.local.me;
        let says_it_stays = matches!(message, Message::HoldCancel(_));
        if !says_it_stays && !matches!(message, Message::Join(_) | Message::MergeDetect(_)) {
            return;
        }
        let listed = bug!(YouthDecides: false; self.local.listed.is_some());
        let young = now - self.started_at <= self.local.config.consensus;
        let starts = young && self.local.ring.members.len() <= 1;
        if listed && says_it_stays {
            return;
        }
        if !listed && starts && (says_it_stays || bug!(YouthDecides: true; origin.outranks_us)) {
            return self.apply(Some(Transition::Leave(Cause::DuplicateId { node })), now);
        }
        // The interval is short enough for the announcement to reach the other process while that
        // is young.
        if self.answered_at.is_none_or(|at| now - at >= self.local.config.consensus / 8) {
            self.answered_at = Some(now);
            let nowhere = self.local.nowhere();
            self.local.out.multicast(nowhere);
        }
    }

    fn handle_message(&mut self, now: Time, message: Message, whole: bool) -> Option<Transition> {
        let local = &mut self.local;
        match message {
            Message::Join(join) => self.handle_join(now, &join, whole),
            Message::Token(token) => match &mut self.state {
                State::Operational(operational) => operational.handle_token(token, now, local),
                State::Recovery(recovery) => recovery.handle_token(token, now, local),
                State::Gather(_) if bug!(GatherPassesTokenOn: true; false) => {
                    let successor = rotation::successor(local.me, &local.ring.members);
                    local.out.unicast(successor, wire::encode(&Message::Token(token), Order::Little));
                    None
                }
                _ => None,
            },
            Message::Multicast(frame) => match &mut self.state {
                State::Operational(operational) => operational.handle_multicast(frame, now, local),
                State::Recovery(recovery) => {
                    recovery.handle_multicast(frame, local);
                    None
                }
                State::Gather(gather) => gather.handle_multicast(frame, now, local),
                State::Commit(_) if bug!(FramesTakenInCommit: frame.ring == local.ring.id; false) => {
                    local.keep(frame);
                    None
                }
                // The commit token already states which frames of the old ring this node has.
                State::Commit(_) | State::Left(_) => None,
            },
            Message::Commit(token) => {
                if !local.may_be_formed(token.ring.seq) {
                    local.out.refuse(Refusal::RingNumber);
                    return None;
                }
                let me = local.me;
                let index = token.members.iter().position(|&node| node == me);
                let complete = token.entries.len() == token.members.len();
                match &mut self.state {
                    State::Gather(gather) if index == Some(token.entries.len()) => {
                        gather.handle_commit(token, now, local)
                    }
                    State::Commit(commit) if complete => commit.handle_commit(token),
                    State::Recovery(recovery) => {
                        recovery.handle_commit(&token, now, local);
                        None
                    }
                    _ => None,
                }
            }
            Message::MergeDetect(probe) if probe.ring.seq > Self::MAX_RING_SEQ => {
                local.out.refuse(Refusal::RingNumber);
                None
            }
            Message::MergeDetect(probe) => match &mut self.state {
                State::Operational(operational) => {
                    operational.handle_stranger(probe.from, probe.ring, now, local)
                }
                State::Gather(gather) => gather.hear(probe.from, now, local),
                _ => None,
            },
            Message::HoldCancel(cancel) => {
                local.answer(&cancel);
                match &mut self.state {
                    State::Operational(operational) => operational.handle_hold_cancel(cancel.ring, local),
                    State::Recovery(recovery) => recovery.handle_hold_cancel(cancel.ring, local),
                    _ => {}
                }
                None
            }
        }
    }

    fn handle_join(&mut self, now: Time, join: &Join, whole: bool) -> Option<Transition> {
        let local = &mut self.local;
        if join.from == local.me {
            return None;
        }
        let followed = local.hear_ring_seq(join.ring_seq);
        if !followed {
            local.out.notice(Notice::RingNumber { peer: join.from });
        }
        if local.is_not_followed_by(join.ring_seq) {
            local.out.notice(Notice::OwnRingNumber { peer: join.from });
        }
        local.joins.note(join, whole && followed, now);
        if join.proc.contains(&local.me) {
            local.reachability.is_heard_by(join.from, now);
        }
        match &mut self.state {
            State::Gather(gather) => gather.handle_join(join, now, local),
            State::Commit(commit) => commit.handle_join(join, local),
            State::Recovery(recovery) => recovery.handle_join(join, local),
            State::Operational(operational) => operational.handle_join(join, now, local),
            State::Left(left) => {
                left.handle_join(join, local);
                None
            }
        }
    }

    /// Handles a report by a node's host that no process listens there any more.
    ///
    /// Any host on the path can send such a report, and a firewall does while its rules change. So
    /// the report is believed only if the refusals last for longer than a live node stays silent. A
    /// live node answers when it is asked: datagrams to it may be rejected, but the ones it sends
    /// are not. In a ring of Quorate nodes, a member that misses the token probes its neighbours.
    /// They therefore wait for two and a half probe intervals from the time at which it must have
    /// missed the token. Elsewhere the wait is 60 ms.
    ///
    /// A ring is then formed without the node, by JOINs that call it failed, like the JOINs after a
    /// timeout. If the node is alive, it will ask to join.
    ///
    /// Has no effect if [`failure_evidence`](crate::config::TotemConfig::failure_evidence) is off.
    pub fn handle_refused(&mut self, now: Time, node: NodeId) {
        self.notice_stall(now);
        let local = &mut self.local;
        let is_one_of_us = match &self.state {
            State::Gather(gather) => gather.lists.candidates().contains(&node),
            State::Commit(commit) => commit.members.contains(&node),
            State::Recovery(recovery) => recovery.ring.members.contains(&node),
            State::Operational(_) => local.ring.members.contains(&node),
            State::Left(_) => false,
        };
        if !is_one_of_us || node == local.me || !local.config.failure_evidence {
            return;
        }
        local.out.stats.hints += 1;
        let lasts_until = match &self.state {
            // The neighbours of the node will decide, since a live node shows itself to them.
            State::Operational(operational) if !operational.rotation.is_neighbour(node) => return,
            State::Operational(operational) => {
                let from = bug!(TokenMissedAtOnce: now; now.max(operational.rotation.missed_at));
                from + local.evidence_lasts(local.limits.ours)
            }
            _ => now + local.evidence_lasts(false),
        };
        if !local.suspect(node, lasts_until, now) {
            return;
        }
        local.suspects.remove(&node);
        local.out.stats.accusations += 1;
        let transition = match &mut self.state {
            State::Gather(gather) => gather.accuse_refused(node),
            State::Commit(commit) => without(node, &commit.members, &mut commit.causes),
            State::Recovery(recovery) => without(node, &recovery.ring.members, &mut recovery.causes),
            State::Operational(_) => without(node, &local.ring.members, &mut Vec::new()),
            State::Left(_) => return,
        };
        self.apply(Some(transition), now);
    }

    /// Runs the timers that are due. The call is due at the time that [`Totem::poll_timeout`]
    /// returned, and harmless at any other time.
    pub fn handle_timeout(&mut self, now: Time) {
        self.notice_stall(now);
        if self.leave_if_due(now) {
            return;
        }
        let local = &mut self.local;
        local.ask_suspects(now);
        let transition = match &mut self.state {
            State::Gather(gather) => gather.handle_timeout(now, local),
            State::Commit(commit) => commit.handle_timeout(now, local),
            State::Recovery(recovery) => recovery.handle_timeout(now, local),
            State::Operational(operational) => operational.handle_timeout(now, local),
            State::Left(left) => {
                left.handle_timeout(now, local);
                None
            }
        };
        self.apply(transition, now);
        // The node may be leaving and may have waited for messages that were delivered since the
        // last input.
        self.leave_if_due(now);
    }

    fn leave_if_due(&mut self, now: Time) -> bool {
        let leaving = self.local.leaving.take_if(|(at, _)| now >= *at);
        let Some((_, cause)) = leaving else { return false };
        self.apply(Some(Transition::Leave(cause)), now);
        true
    }

    /// Detects a pause of this node by a timer that fires late. Messages that arrived meanwhile are
    /// still in the socket, so no node is called silent because of the pause: the timers that
    /// accuse start again. This grace is limited, since a node that is always late must also find
    /// out that the others are gone.
    fn notice_stall(&mut self, now: Time) {
        let Some(due) = self.poll_timeout() else { return };
        let late = now - due;
        let config = &self.local.config;
        // Timers that were due before the pause was noticed and have not run yet are late for the
        // same reason.
        let known = self.awake_at.is_some_and(|at| due <= at);
        if bug!(StallForgotten: true; late <= config.token / 4 || known) {
            return;
        }
        let excused = self.awake_at.is_some_and(|at| due <= at + config.token.max(config.consensus));
        self.awake_at = Some(now);
        tracing::warn!(?late, "this node was paused");
        self.local.out.stats.stalls += 1;
        self.local.out.tell(Event::Stalled(late));
        if excused {
            return;
        }
        match &mut self.state {
            State::Gather(gather) => gather.forgive(now, &self.local),
            State::Commit(commit) => commit.forgive(now, &self.local),
            State::Recovery(recovery) => recovery.forgive(now, &self.local),
            State::Operational(operational) => operational.forgive(now, &self.local),
            State::Left(_) => {}
        }
    }

    /// Returns `true` if the durable record does not continue that of this node's earlier runs
    /// ([`Stored::lost`]).
    pub fn record_lost(&self) -> bool {
        self.local.durable.lost
    }

    /// Records that other nodes have made up for the content of a lost record. The next start does
    /// not know of the loss.
    pub fn recovered(&mut self) {
        self.local.wanted.lost = false;
    }

    /// Sets whether the installed ring is quorate by the votes that are counted in the layer above.
    /// A ring that is not quorate has little to lose, so it readmits sooner the nodes that it was
    /// formed without. A ring counts as quorate until this is called.
    pub fn set_quorate(&mut self, quorate: bool) {
        self.local.quorate = quorate;
    }

    /// Sets the votes of nodes that count in the layer above. While the node lists of nodes differ,
    /// so that they cannot all be in one ring, those with the most votes stay together. Without
    /// this, the largest set of nodes does.
    pub fn set_voters(&mut self, voters: BTreeMap<NodeId, u32>) {
        self.local.node_lists.voters = voters;
    }

    /// Keeps this text in the record, in place of the previous one ([`Stored::kept`]). It is
    /// durable when [`Totem::handle_stored`] reports it. Nothing waits for that.
    pub fn keep(&mut self, kept: String) {
        self.local.wanted.kept = kept;
    }

    /// Handles the report that the record is durable.
    pub fn handle_stored(&mut self, _now: Time, stored: Stored) {
        self.local.durable = stored;
    }

    /// Performs a transition, and the ones that follow from it at once.
    fn apply(&mut self, transition: Option<Transition>, now: Time) {
        let mut next = transition;
        while let Some(transition) = next.take() {
            if matches!(self.state, State::Left(_)) {
                return;
            }
            let local = &mut self.local;
            if matches!(self.state, State::Operational(_)) {
                // These messages precede the transition.
                local.deliver_ready();
                local.outcasts.lose_ring(now);
            }
            self.state = match transition {
                Transition::Gather { lists, causes, agreeing } => {
                    local.out.stats.gathers += 1;
                    tracing::debug!(cause = %display_last(&causes), proc = ?lists.proc, failed = ?lists.failed, "gather");
                    State::Gather(Gather::enter(lists, causes, agreeing, now, local))
                }
                Transition::Commit { cause, agreed, causes, token } => {
                    tracing::debug!(%cause, ring = %token.ring, members = ?token.members, "commit");
                    State::Commit(Commit::enter(agreed, causes, token, now, local))
                }
                Transition::Recovery { causes, token } => {
                    let cause = Cause::CommitToken { ring: token.ring };
                    tracing::debug!(%cause, "recovery");
                    State::Recovery(Box::new(Recovery::enter(causes, token, now, local)))
                }
                Transition::Operational(recovered) => {
                    let cause = Cause::Recovered { ring: recovered.ring.id };
                    tracing::debug!(%cause, members = ?recovered.ring.members, "operational");
                    State::Operational(Operational::enter(*recovered, now, local))
                }
                Transition::Leave(cause) => {
                    tracing::debug!(%cause, "left");
                    State::Left(Left::enter(cause, now, local))
                }
            };
            next = match &mut self.state {
                State::Gather(gather) => gather.commit(now, local),
                _ => None,
            };
        }
        self.settle(now);
    }

    /// Performs the checks that are due after every input.
    fn settle(&mut self, now: Time) {
        self.local.note_unread(now);
        let speaks = self.local.may_speak();
        let Local { reachability, me, ring, listed, out, .. } = &mut self.local;
        reachability.look(now, *me, &ring.members, listed.as_ref(), speaks, out);
        if self.local.is_overdue(now) && !matches!(self.state, State::Left(_)) {
            let bytes = self.local.out.unread;
            return self.apply(Some(Transition::Leave(Cause::EventsUnread { bytes })), now);
        }
        // Act on a delivered kill order only at the next input, after this input's output has been
        // polled.
        if let Some(cause) = self.local.killed.take() {
            self.local.leaving = Some((now, cause));
        }
        let parted = self.local.leaving.is_some() && self.local.has_parted();
        if let Some((at, _)) = self.local.leaving.as_mut().filter(|_| parted) {
            *at = now.min(*at);
        }
    }

    /// Returns the record that must be written, if it has changed. Datagrams that it covers are not
    /// sent before [`Totem::handle_stored`].
    pub fn must_store(&self) -> Option<Stored> {
        (self.local.wanted != self.local.durable).then(|| self.local.wanted.clone())
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.local.may_speak() {
            return self.local.out.transmits.pop_front();
        }
        // While the disk is slow, drop datagrams that would be stale when it is done.
        let waiting = self.local.out.transmits.len();
        self.local.out.transmits.drain(..waiting.saturating_sub(Self::WAITING));
        None
    }

    /// Returns the next event for the application.
    ///
    /// Deferrable messages are delivered here rather than on receipt. A token that arrives in the
    /// meantime is passed on first, so the next member works while this one delivers.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.poll_urgent_event();
            let waits = event.is_none() && matches!(self.state, State::Operational(_));
            if !waits || !self.local.deliver_next() {
                return event;
            }
        }
    }

    /// Returns the next event that is already queued, without delivering further messages. Intended
    /// for a layer above this one, which must learn of a new ring before any other input.
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        self.local.out.events.pop_front()
    }

    /// Returns the time at which [`Totem::handle_timeout`] is due, or `None` once the node has left
    /// for good.
    pub fn poll_timeout(&self) -> Option<Time> {
        let timeout = match &self.state {
            State::Gather(gather) => gather.poll_timeout(),
            State::Commit(commit) => commit.poll_timeout(),
            State::Recovery(recovery) => recovery.poll_timeout(),
            State::Operational(operational) => operational.poll_timeout(),
            State::Left(left) => return left.poll_timeout(),
        };
        let leaving = self.local.leaving.as_ref().map(|(at, _)| *at);
        [Some(timeout), leaving, self.local.next_question()].into_iter().flatten().min()
    }

    /// Returns this node's id.
    pub fn me(&self) -> NodeId {
        self.local.me
    }

    /// Returns the installed ring, or `None` before the first.
    pub fn ring(&self) -> Option<RingId> {
        (!self.local.ring.members.is_empty()).then_some(self.local.ring.id)
    }

    /// Returns the members of the installed ring, ascending. The set is empty before the first
    /// ring.
    pub fn members(&self) -> &BTreeSet<NodeId> {
        &self.local.ring.members
    }

    /// Returns the processes in a group, in order, as of the last event. A group that does not
    /// exist has no processes.
    pub fn group(&self, group: &Group) -> impl Iterator<Item = Process> {
        self.local.groups.members(group).into_iter().flatten().copied()
    }

    /// Returns all groups that have members, with their members, as of the last event.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, &BTreeSet<Process>)> {
        self.local.groups.iter()
    }

    /// Returns the time at which this node last accepted a token of a ring that it had installed,
    /// or `None` if it has not since it started. At least until that time, every other member of
    /// that ring could count on this node.
    pub fn token_at(&self) -> Option<Time> {
        self.local.token_at
    }

    /// Returns a time after which every member of the installed ring had its token, and so was in
    /// the ring. The time is just before the first transmission of the last token that has since
    /// completed a rotation.
    ///
    /// Returns `None` while this node has no installed ring, or while a member is not known to have
    /// received the whole sync. A lease begins at this time, because neither a token's receipt nor
    /// its retransmission says anything about the other members.
    pub fn whole_since(&self) -> Option<Time> {
        match &self.state {
            State::Operational(operational) if self.local.synced_everywhere() => {
                operational.rotation.whole_since()
            }
            _ => None,
        }
    }

    /// Returns the number of frames that all members together may send in a rotation.
    pub fn window(&self) -> u32 {
        self.local.limits.window
    }

    /// Returns the counters.
    pub fn stats(&self) -> &Stats {
        &self.local.out.stats
    }
}

/// Returns the node that a message claims as its direct sender. A frame claims none, since any
/// member may send it again.
fn claimed(message: &Message) -> Option<NodeId> {
    match message {
        Message::Token(token) => Some(token.from),
        Message::Commit(token) => Some(token.from),
        Message::Join(join) => Some(join.from),
        Message::MergeDetect(probe) => Some(probe.from),
        Message::HoldCancel(cancel) => Some(cancel.from),
        Message::Multicast(_) => None,
    }
}

fn display_last(causes: &[Cause]) -> String {
    causes.last().map(ToString::to_string).unwrap_or_default()
}
