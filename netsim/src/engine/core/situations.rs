//! Counts the named situations of a run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_election::{Inquorate, Lease, Status};
use quorate_membership::wire::{CommitToken, Message, Token};
use quorate_membership::{Cause, Guarantee, NodeId, Phase, RingId, Seq};

use super::{Micros, micros};
use crate::fault::Kind;
use crate::history::{Inside, Life, What};
use crate::situation::{Hop, Situation};

/// The number of times that each situation occurred, and the state that is needed to detect them.
#[derive(Default)]
pub(super) struct Situations {
    hits: BTreeMap<Situation, u64>,
    nodes: BTreeMap<NodeId, Node>,
    /// The ring that was tried with each ring sequence number.
    tried: BTreeMap<u64, RingId>,
    /// For each new ring, the first old ring whose frames were carried into it.
    carried: BTreeMap<RingId, RingId>,
    /// The reasons for which tenures ended before their rings, by ring sequence number and
    /// hand-overs.
    relieved: BTreeMap<(u64, u32), Relief>,
    /// The datagrams received, by the receiver's state and by kind. A map would take too long.
    received: [[u64; Situation::KINDS.len()]; Situation::PHASES.len()],
    pub(super) configurations: u64,
    pub(super) accepted: u64,
    pub(super) deliveries: u64,
}

/// The reason why a DC gave up its role.
#[derive(Clone, Copy)]
enum Relief {
    Hung,
    /// An operator asked for it. The node could have acted until this time.
    Released(Micros),
    /// The DC gave up the role as soon as it was elected.
    Preempted,
    Other,
}

/// The state of a node's current life, and of the end of the one before.
#[derive(Default)]
struct Node {
    phase: Option<Phase>,
    ring: Option<RingId>,
    members: BTreeSet<NodeId>,
    synced: bool,
    transitional: bool,
    seq: Option<Seq>,
    attempts: u32,
    carried: u32,
    given_up: u32,
    /// The lengths of its own messages that are not delivered.
    waiting: VecDeque<usize>,
    /// The frames that it numbered after its last delivered message, and their lengths.
    sent: VecDeque<(Seq, usize)>,
    token: Option<(RingId, Seq)>,
    commit: Option<(RingId, u32)>,
    quorate: bool,
    dc: Option<NodeId>,
    /// The ring in which it received a term of its own.
    judged: Option<u64>,
    hung: bool,
    released: Option<Micros>,
    persisting: Option<Micros>,
    /// The ring of its last life.
    last_ring: Option<RingId>,
    lives: u32,
    /// The most frames in a rotation. 0: the same as at the start.
    window: u32,
}

impl Situations {
    pub(super) fn hit(&mut self, situation: Situation) {
        *self.hits.entry(situation).or_default() += 1;
    }

    pub(super) fn take(&mut self) -> BTreeMap<Situation, u64> {
        let received = Situation::received().zip(self.received.as_flattened().iter().copied());
        self.hits.extend(received.filter(|(_, times)| *times > 0));
        std::mem::take(&mut self.hits)
    }

    /// Counts a datagram that is about to be handled.
    pub(super) fn input(&mut self, phase: Phase, kind: Kind) {
        let phase = Situation::PHASES.iter().position(|other| *other == phase);
        let kind = Situation::KINDS.iter().position(|other| *other == kind);
        if let (Some(phase), Some(kind)) = (phase, kind) {
            self.received[phase][kind] += 1;
        }
    }

    /// Counts a token or commit token that the network loses on its way to a node in this phase.
    pub(super) fn lost(&mut self, message: &Message, to: NodeId, phase: Phase) {
        match message {
            Message::Token(token) if phase != Phase::Left => {
                let to_representative = token.ring.representative == to;
                self.hit(Situation::TokenDropped { to_representative, phase });
            }
            Message::Commit(CommitToken { token_seq, ring, members, .. }) => {
                let second = token_seq.saturating_sub(1) as usize / members.len() > 0;
                let hop = match token_seq.saturating_sub(1) as usize % members.len() {
                    _ if to == ring.representative => Hop::Last,
                    0 => Hop::First,
                    _ => Hop::Middle,
                };
                self.hit(Situation::CommitTokenDropped { second, hop });
            }
            _ => {}
        }
    }

    pub(super) fn see(&mut self, now: Micros, life: Life, what: &What) {
        match what {
            What::Accepted { content, .. } => {
                self.accepted += 1;
                self.node(life).waiting.push_back(content.length);
                match content.length {
                    0 => self.hit(Situation::EmptyMessage),
                    1_000_000.. => self.hit(Situation::MegabyteMessage),
                    1400.. => self.hit(Situation::FragmentedMessage),
                    _ => {}
                }
            }
            What::Delivered(delivered) => {
                self.deliveries += 1;
                let node = self.node(life);
                if delivered.message.is_some_and(|message| message.sender == life) {
                    node.waiting.pop_front();
                    while node.sent.front().is_some_and(|(seq, _)| !delivered.seq.before(*seq)) {
                        node.sent.pop_front();
                    }
                }
                let transitional = node.transitional;
                let hole = transitional && node.seq.is_some_and(|seq| seq.next().before(delivered.seq));
                node.seq = Some(delivered.seq);
                match (transitional, delivered.guarantee) {
                    (true, Guarantee::Safe) => {
                        self.hit(Situation::TransitionalSafeDelivery);
                        self.hit(Situation::TransitionalDelivery);
                    }
                    (true, Guarantee::Agreed) => {
                        self.hit(Situation::TransitionalDelivery);
                    }
                    (false, Guarantee::Safe) => {
                        self.hit(Situation::RegularSafeDelivery);
                    }
                    (false, Guarantee::Agreed) => {}
                }
                if hole {
                    self.hit(Situation::TransitionalHole);
                }
            }
            What::Started => {
                let lives = self.node(life).lives + 1;
                let last_ring = self.node(life).ring.or(self.node(life).last_ring);
                self.nodes.insert(life.node, Node { lives, last_ring, ..Node::default() });
            }
            What::Transitional(_) => {
                let node = self.node(life);
                node.transitional = true;
                let (waits, unsynced) = (!node.waiting.is_empty(), !node.synced);
                let begun: usize = node.sent.drain(..).map(|(_, length)| length).sum();
                // Sync messages are short.
                let cut = begun > 1000 && node.waiting.front().is_some_and(|length| *length > begun);
                if cut {
                    self.hit(Situation::MessageCut);
                }
                if waits {
                    self.hit(Situation::MessagesWaited);
                }
                if unsynced {
                    self.hit(Situation::RingEndedInSync);
                }
            }
            What::Regular(regular) => self.see_ring(life, regular),
            What::Synced(_) => self.node(life).synced = true,
            What::Hung(hung) => self.node(life).hung = *hung,
            What::Status(status) if status.settled => {
                self.see_lease(now, life, status);
                let node = self.node(life);
                let (quorate, dc) = (node.quorate, node.dc);
                node.quorate = status.quorate;
                node.dc = status.dc;
                match (quorate, status.quorate) {
                    (true, false) => self.hit(Situation::QuorumLost),
                    (false, true) if dc.is_some() => self.hit(Situation::QuorumRegained),
                    _ => {}
                }
                match (dc, status.dc) {
                    (Some(before), Some(now)) if before != now => self.hit(Situation::DcChanged),
                    (Some(_), Some(_)) => self.hit(Situation::DcStayed),
                    _ => {}
                }
            }
            What::Status(status) if matches!(status.inquorate, Some(Inquorate::RingLost { .. })) => {
                self.hit(Situation::RingLostForLong);
            }
            What::Stalled(_) => self.hit(Situation::StallNoticed),
            What::Left(Cause::EventsUnread { .. }) => self.hit(Situation::ApplicationFellBehind),
            What::Inside(inside) => self.see_inside(now, life, inside),
            _ => {}
        }
    }

    /// Detects a DC that is relieved while its ring stands. It keeps the term but loses the lease,
    /// and then the next node may act.
    fn see_lease(&mut self, now: Micros, life: Life, status: &Status) {
        let Some(term) = status.term.filter(|term| term.node == life.node) else { return };
        match status.lease {
            Lease::None => {
                let node = self.node(life);
                let relief = match node.released.take() {
                    _ if node.hung => Relief::Hung,
                    Some(until) => Relief::Released(until),
                    None if node.judged != Some(term.ring_seq) => Relief::Preempted,
                    None => Relief::Other,
                };
                self.relieved.entry((term.ring_seq, term.hand_over)).or_insert(relief);
            }
            Lease::Held if term.hand_over > 0 => {
                match self.relieved.remove(&(term.ring_seq, term.hand_over - 1)) {
                    Some(Relief::Hung) => self.hit(Situation::HungDcReplaced),
                    Some(Relief::Released(until)) if now < until => {
                        self.hit(Situation::DcReleased);
                    }
                    Some(Relief::Preempted) => self.hit(Situation::DcPreempted),
                    _ => {}
                }
            }
            _ => {}
        }
        self.node(life).judged = Some(term.ring_seq);
    }

    fn node(&mut self, life: Life) -> &mut Node {
        self.nodes.entry(life.node).or_default()
    }

    fn see_ring(&mut self, life: Life, regular: &quorate_membership::Regular) {
        self.configurations += 1;
        let all = self.nodes.len();
        let from: BTreeSet<RingId> = regular
            .joined
            .iter()
            .filter_map(|node| self.nodes.get(node)?.ring)
            .filter(|ring| *ring != regular.ring)
            .collect();
        let restarted = regular.joined.intersection(&regular.left).next().is_some();
        let node = self.node(life);
        let first = node.ring.is_none();
        let again = first && node.last_ring.is_some();
        let carried = std::mem::take(&mut node.carried);
        let wrapped = node.seq.is_some_and(|seq| seq.get() > u32::MAX - 1000);
        node.ring = Some(regular.ring);
        node.members.clone_from(&regular.members);
        node.synced = false;
        node.transitional = false;
        node.seq = None;
        node.attempts = 0;
        node.given_up = 0;
        let size = regular.members.len();
        if size == all && all > 1 {
            self.hit(Situation::RingOfAll);
        }
        if size == 1 && !first {
            self.hit(Situation::RingOfOne);
        }
        if !from.is_empty() && !first {
            self.hit(Situation::TwoRingsMerged);
            if regular.members.len() > regular.joined.len() + 1 && regular.joined.len() > 1 {
                self.hit(Situation::BothMergingRingsHadMembers);
            }
        }
        if from.len() > 1 && !first {
            self.hit(Situation::ThreeRingsMerged);
        }
        if restarted {
            self.hit(Situation::RestartUndetected);
        } else if again {
            self.hit(Situation::RestartAfterRing);
        }
        if carried > 0 {
            self.hit(Situation::FramesRecovered);
        }
        if carried > 20 {
            self.hit(Situation::ManyFramesRecovered);
        }
        if wrapped && carried > 0 {
            self.hit(Situation::NumbersWrappedInRecovery);
        }
        for cause in &regular.causes {
            match cause {
                Cause::TokenLost { .. } => {
                    self.hit(Situation::TokenLost);
                    if regular.members.first() == Some(&life.node) {
                        self.hit(Situation::RepresentativeLostToken);
                    }
                }
                Cause::CommitLost { .. } => self.hit(Situation::CommitTokenLost),
                Cause::RecoveryLost { .. } => self.hit(Situation::RecoveryTokenLost),
                Cause::Silent { .. } => self.hit(Situation::SilentNodeFailed),
                Cause::LeaveFrom { .. } => self.hit(Situation::MemberLeft),
                Cause::FailedBy { .. } => self.hit(Situation::DeclaredFailed),
                Cause::FailedToReceive { .. } => self.hit(Situation::FailedToReceive),
                Cause::Heard { .. } => self.hit(Situation::ForeignRingHeard),
                _ => {}
            }
        }
    }

    fn see_inside(&mut self, now: Micros, life: Life, inside: &Inside) {
        match inside {
            Inside::Phase { from, to, .. } => {
                let node = self.node(life);
                node.phase = Some(*to);
                if matches!(to, Phase::Commit | Phase::Recovery) && *from == Phase::Gather {
                    node.attempts += 1;
                }
                let attempts = node.attempts;
                match (from, to) {
                    (Phase::Recovery, Phase::Gather | Phase::Commit) => {
                        self.hit(Situation::RecoveryGivenUp);
                        let node = self.node(life);
                        node.given_up += 1;
                        match node.given_up {
                            2 => self.hit(Situation::TwoRecoveriesGivenUp),
                            3 => self.hit(Situation::ThreeRecoveriesGivenUp),
                            _ => {}
                        }
                    }
                    (Phase::Commit, Phase::Gather) => self.hit(Situation::CommitGivenUp),
                    _ => {}
                }
                if *from == Phase::Gather && attempts == 3 {
                    self.hit(Situation::ThreeAttempts);
                }
                if *from == Phase::Gather && attempts == 6 {
                    self.hit(Situation::SixAttempts);
                }
            }
            Inside::Received(frame) | Inside::Numbered(frame) if frame.encapsulated => {
                self.node(life).carried += 1;
                if frame.seq == Seq::new(u32::MAX) {
                    self.hit(Situation::NumbersWrappedInFormation);
                }
                if let (Inside::Numbered(frame), Some(old)) = (inside, self.node(life).ring)
                    && *self.carried.entry(frame.ring).or_insert(old) != old
                {
                    self.hit(Situation::TwoRingsRecovered);
                }
            }
            Inside::Numbered(frame) => {
                self.node(life).sent.push_back((frame.seq, frame.content.length));
                if frame.seq == Seq::new(u32::MAX) {
                    self.hit(Situation::NumbersWrapped);
                }
            }
            Inside::Resent(_) => self.hit(Situation::FrameResent),
            Inside::Limits { window, .. } => {
                // The limits grow when the members have agreed, and are reset with the ring.
                let before = std::mem::replace(&mut self.node(life).window, *window);
                if before < *window {
                    self.hit(Situation::WindowWidened);
                }
            }
            Inside::Token(token) => self.see_token(life, token),
            Inside::TokenSent { token, .. } => {
                let place = Some((token.ring, token.token_seq));
                if std::mem::replace(&mut self.node(life).token, place) == place {
                    self.hit(Situation::TokenResent);
                }
            }
            Inside::CommitSent { token, .. } => {
                let place = Some((token.ring, token.token_seq));
                if std::mem::replace(&mut self.node(life).commit, place) == place {
                    self.hit(Situation::CommitTokenResent);
                }
                let ring = *self.tried.entry(token.ring.seq).or_insert(token.ring);
                if ring != token.ring {
                    self.hit(Situation::SameRingNumberTried);
                }
            }
            Inside::JoinSent(join)
                if !join.leave && join.failed.len() > 1 && join.failed.len() + 1 == join.proc.len() =>
            {
                self.hit(Situation::JoinWithoutOthers);
            }
            Inside::Released(until) => self.node(life).released = until.ok().map(micros),
            Inside::Persist(_) => self.node(life).persisting = Some(now),
            Inside::Persisted(stored) => {
                let began_at = self.node(life).persisting.take();
                if began_at.is_some_and(|at| at < now) {
                    self.hit(Situation::RecordWaited);
                }
                if stored.boots == 1 && life.start > 1 && began_at.is_some() {
                    self.hit(Situation::RecordMissing);
                }
            }
            _ => {}
        }
    }

    fn see_token(&mut self, life: Life, token: &Token) {
        if token.rtr.len() == Token::MAX_RTR {
            self.hit(Situation::RequestListFull);
        }
        if !token.rtr.is_empty() {
            self.hit(Situation::FramesRequested);
        }
        if token.backlog > token.fcc && token.fcc > 0 {
            self.hit(Situation::WindowFull);
        }
        if token.aru_addr.is_some_and(|node| node != life.node) && token.aru != token.seq {
            self.hit(Situation::AruHeldBack);
        }
    }
}
