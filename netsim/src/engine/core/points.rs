//! Situations that have to come about now and then, or the laboratory looks at nothing.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::wire::Token;
use quorate_membership::{Cause, Guarantee, NodeId, Phase, RingId, Seq};

use super::Micros;
use crate::history::{Inside, Life, What};

/// The named situations; [`Summary::points`](super::Summary::points) counts them.
pub const POINTS: &[&str] = &[
    "a ring of all",
    "a ring of one",
    "a ring lost its token",
    "the representative lost its token",
    "a commit token was lost",
    "the token of a recovery was lost",
    "a recovery was given up",
    "a commit was given up",
    "three attempts at a ring in a row",
    "six attempts at a ring in a row",
    "consensus needed a silent one named failed",
    "a ring merged two rings",
    "a ring merged three rings",
    "both of two merging rings had members",
    "two representatives tried the same ring sequence number",
    "a member restarted within a ring's detection time",
    "a member restarted after its ring had gone on",
    "a member left in order",
    "a member was told failed by another",
    "a member failed to receive",
    "a node was heard on another ring",
    "old frames were carried into a new ring",
    "many old frames were carried into a new ring",
    "messages were delivered in a transitional configuration",
    "a safe message was delivered in a transitional configuration",
    "a safe message was delivered in a regular configuration",
    "a hole in a transitional configuration",
    "numbers wrapped",
    "numbers wrapped while a ring was recovered",
    "a token asked for frames",
    "a token's list of wanted frames was full",
    "a frame was sent again",
    "a window was full",
    "one member held back aru",
    "a token was sent again",
    "a commit token was sent again",
    "a JOIN named all others failed",
    "a message of no bytes",
    "a message longer than a frame",
    "a message of a megabyte",
    "messages waited over a ring change",
    "a node stood still and noticed it",
    "quorum was lost",
    "quorum came back",
    "the DC changed",
    "the DC stayed over a ring change",
    "a ring ended before its members had spoken",
    "an application fell behind for good",
    "a receive buffer overflowed",
    "a node started without its record",
    "a record waited for the disk",
];

/// How often each situation came about, and what is needed to tell.
#[derive(Default)]
pub(super) struct Points {
    hits: BTreeMap<&'static str, u64>,
    nodes: BTreeMap<NodeId, Node>,
    /// Who tried which ring sequence number.
    tried: BTreeMap<u64, RingId>,
    pub(super) configurations: u64,
    pub(super) accepted: u64,
    pub(super) deliveries: u64,
}

/// What is known of a node's present life, and of the end of the one before.
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
    waiting: u64,
    token: Option<(RingId, Seq)>,
    commit: Option<(RingId, u32)>,
    quorate: bool,
    dc: Option<NodeId>,
    persisting: Option<Micros>,
    /// The ring of its last life.
    last_ring: Option<RingId>,
    lives: u32,
}

impl Points {
    pub(super) fn hit(&mut self, point: &'static str) {
        *self.hits.entry(point).or_default() += 1;
    }

    pub(super) fn take(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.hits)
    }

    pub(super) fn see(&mut self, now: Micros, life: Life, what: &What) {
        match what {
            What::Accepted { content, .. } => {
                self.accepted += 1;
                self.node(life).waiting += 1;
                match content.length {
                    0 => self.hit("a message of no bytes"),
                    1_000_000.. => self.hit("a message of a megabyte"),
                    1400.. => self.hit("a message longer than a frame"),
                    _ => {}
                }
            }
            What::Delivered(delivered) => {
                self.deliveries += 1;
                let node = self.node(life);
                if delivered.message.is_some_and(|message| message.sender == life) {
                    node.waiting = node.waiting.saturating_sub(1);
                }
                let transitional = node.transitional;
                let hole = transitional && node.seq.is_some_and(|seq| seq.next().before(delivered.seq));
                node.seq = Some(delivered.seq);
                match (transitional, delivered.guarantee) {
                    (true, Guarantee::Safe) => {
                        self.hit("a safe message was delivered in a transitional configuration");
                        self.hit("messages were delivered in a transitional configuration");
                    }
                    (true, Guarantee::Agreed) => {
                        self.hit("messages were delivered in a transitional configuration");
                    }
                    (false, Guarantee::Safe) => {
                        self.hit("a safe message was delivered in a regular configuration");
                    }
                    (false, Guarantee::Agreed) => {}
                }
                if hole {
                    self.hit("a hole in a transitional configuration");
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
                let (waits, unsynced) = (node.waiting > 0, !node.synced);
                if waits {
                    self.hit("messages waited over a ring change");
                }
                if unsynced {
                    self.hit("a ring ended before its members had spoken");
                }
            }
            What::Regular(regular) => self.see_ring(life, regular),
            What::Synced(_) => self.node(life).synced = true,
            What::Status(status) if status.settled => {
                let node = self.node(life);
                let (quorate, dc) = (node.quorate, node.dc);
                node.quorate = status.quorate;
                node.dc = status.dc;
                match (quorate, status.quorate) {
                    (true, false) => self.hit("quorum was lost"),
                    (false, true) if dc.is_some() => self.hit("quorum came back"),
                    _ => {}
                }
                match (dc, status.dc) {
                    (Some(before), Some(now)) if before != now => self.hit("the DC changed"),
                    (Some(_), Some(_)) => self.hit("the DC stayed over a ring change"),
                    _ => {}
                }
            }
            What::Stalled(_) => self.hit("a node stood still and noticed it"),
            What::Left(Cause::EventsUnread { .. }) => self.hit("an application fell behind for good"),
            What::Inside(inside) => self.see_inside(now, life, inside),
            _ => {}
        }
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
        let size = regular.members.len();
        if size == all && all > 1 {
            self.hit("a ring of all");
        }
        if size == 1 && !first {
            self.hit("a ring of one");
        }
        if !from.is_empty() && !first {
            self.hit("a ring merged two rings");
            if regular.members.len() > regular.joined.len() + 1 && regular.joined.len() > 1 {
                self.hit("both of two merging rings had members");
            }
        }
        if from.len() > 1 && !first {
            self.hit("a ring merged three rings");
        }
        if restarted {
            self.hit("a member restarted within a ring's detection time");
        } else if again {
            self.hit("a member restarted after its ring had gone on");
        }
        if carried > 0 {
            self.hit("old frames were carried into a new ring");
        }
        if carried > 20 {
            self.hit("many old frames were carried into a new ring");
        }
        if wrapped && carried > 0 {
            self.hit("numbers wrapped while a ring was recovered");
        }
        for cause in &regular.causes {
            match cause {
                Cause::TokenLost { .. } => {
                    self.hit("a ring lost its token");
                    if regular.members.first() == Some(&life.node) {
                        self.hit("the representative lost its token");
                    }
                }
                Cause::CommitLost { .. } => self.hit("a commit token was lost"),
                Cause::RecoveryLost { .. } => self.hit("the token of a recovery was lost"),
                Cause::Silent { .. } => self.hit("consensus needed a silent one named failed"),
                Cause::LeaveFrom { .. } => self.hit("a member left in order"),
                Cause::FailedBy { .. } => self.hit("a member was told failed by another"),
                Cause::FailedToReceive { .. } => self.hit("a member failed to receive"),
                Cause::Heard { .. } => self.hit("a node was heard on another ring"),
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
                    (Phase::Recovery, Phase::Gather | Phase::Commit) => self.hit("a recovery was given up"),
                    (Phase::Commit, Phase::Gather) => self.hit("a commit was given up"),
                    _ => {}
                }
                if *from == Phase::Gather && attempts == 3 {
                    self.hit("three attempts at a ring in a row");
                }
                if *from == Phase::Gather && attempts == 6 {
                    self.hit("six attempts at a ring in a row");
                }
            }
            Inside::Received(frame) | Inside::Numbered(frame) if frame.encapsulated => {
                self.node(life).carried += 1;
            }
            Inside::Numbered(frame) if frame.seq == Seq::new(u32::MAX) => self.hit("numbers wrapped"),
            Inside::Resent(_) => self.hit("a frame was sent again"),
            Inside::Token(token) => self.see_token(life, token),
            Inside::TokenSent { token, .. } => {
                let place = Some((token.ring, token.token_seq));
                if std::mem::replace(&mut self.node(life).token, place) == place {
                    self.hit("a token was sent again");
                }
            }
            Inside::CommitSent { token, .. } => {
                let place = Some((token.ring, token.token_seq));
                if std::mem::replace(&mut self.node(life).commit, place) == place {
                    self.hit("a commit token was sent again");
                }
                let ring = *self.tried.entry(token.ring.seq).or_insert(token.ring);
                if ring != token.ring {
                    self.hit("two representatives tried the same ring sequence number");
                }
            }
            Inside::JoinSent(join)
                if !join.leave && join.failed.len() > 1 && join.failed.len() + 1 == join.proc.len() =>
            {
                self.hit("a JOIN named all others failed");
            }
            Inside::Persist(_) => self.node(life).persisting = Some(now),
            Inside::Persisted(stored) => {
                let began_at = self.node(life).persisting.take();
                if began_at.is_some_and(|at| at < now) {
                    self.hit("a record waited for the disk");
                }
                if stored.boots == 1 && life.start > 1 && began_at.is_some() {
                    self.hit("a node started without its record");
                }
            }
            _ => {}
        }
    }

    fn see_token(&mut self, life: Life, token: &Token) {
        if token.rtr.len() == Token::MAX_RTR {
            self.hit("a token's list of wanted frames was full");
        }
        if !token.rtr.is_empty() {
            self.hit("a token asked for frames");
        }
        if token.backlog > token.fcc && token.fcc > 0 {
            self.hit("a window was full");
        }
        if token.aru_addr.is_some_and(|node| node != life.node) && token.aru != token.seq {
            self.hit("one member held back aru");
        }
    }
}
