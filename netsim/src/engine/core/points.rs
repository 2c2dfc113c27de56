//! Named situations. Each has to occur now and then, or the simulator tests nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_election::{Inquorate, Lease, Status};
use quorate_membership::wire::{CommitToken, Message, Token};
use quorate_membership::{Cause, Guarantee, NodeId, Phase, RingId, Seq};

use super::{Micros, micros};
use crate::fault::Kind;
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
    "a host said that a member is gone",
    "a lie about a member was believed",
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
    "the DC's application hung and another took over",
    "a DC released its role and another acted without waiting",
    "a higher priority preempted",
    "a ring ended before its members had spoken",
    "an application fell behind for good",
    "a receive buffer overflowed",
    "all members could take more than the configured window",
    "a node started without its record",
    "a record waited for the disk",
    "a message was cut in the middle by a ring change",
    "a node lost its ring and had no other in time",
    "numbers wrapped in a ring that was being formed",
    "two recoveries in a row were given up",
    "three recoveries in a row were given up",
    "two old rings had frames to carry into a new one",
    "the network lost a token to the representative in gather",
    "the network lost a token to the representative in commit",
    "the network lost a token to the representative in recovery",
    "the network lost a token to the representative",
    "the network lost a token to another in gather",
    "the network lost a token to another in commit",
    "the network lost a token to another in recovery",
    "the network lost a token to another",
    "the network lost a commit token on its first hop, first rotation",
    "the network lost a commit token on its way, first rotation",
    "the network lost a commit token on its last hop, first rotation",
    "the network lost a commit token on its first hop, second rotation",
    "the network lost a commit token on its way, second rotation",
    "the network lost a commit token on its last hop, second rotation",
    "a token came in gather",
    "a frame came in gather",
    "a JOIN came in gather",
    "a commit token came in gather",
    "a probe came in gather",
    "a hold cancel came in gather",
    "a token came in commit",
    "a frame came in commit",
    "a JOIN came in commit",
    "a commit token came in commit",
    "a probe came in commit",
    "a hold cancel came in commit",
    "a token came in recovery",
    "a frame came in recovery",
    "a JOIN came in recovery",
    "a commit token came in recovery",
    "a probe came in recovery",
    "a hold cancel came in recovery",
    "a token came in operational",
    "a frame came in operational",
    "a JOIN came in operational",
    "a commit token came in operational",
    "a probe came in operational",
    "a hold cancel came in operational",
];

/// The [`POINTS`] for lost tokens, by whether the receiver is the representative and by its phase.
const LOST_TOKENS: [[&str; 4]; 2] = [
    [
        "the network lost a token to another in gather",
        "the network lost a token to another in commit",
        "the network lost a token to another in recovery",
        "the network lost a token to another",
    ],
    [
        "the network lost a token to the representative in gather",
        "the network lost a token to the representative in commit",
        "the network lost a token to the representative in recovery",
        "the network lost a token to the representative",
    ],
];

/// The [`POINTS`] for lost commit tokens, by rotation and by hop.
const LOST_COMMITS: [[&str; 3]; 2] = [
    [
        "the network lost a commit token on its first hop, first rotation",
        "the network lost a commit token on its way, first rotation",
        "the network lost a commit token on its last hop, first rotation",
    ],
    [
        "the network lost a commit token on its first hop, second rotation",
        "the network lost a commit token on its way, second rotation",
        "the network lost a commit token on its last hop, second rotation",
    ],
];

/// The kinds of inputs. Their points are the last ones of [`POINTS`], ordered by phase and then by
/// kind.
pub(crate) const INPUTS: [Kind; 6] =
    [Kind::Token, Kind::Frame, Kind::Join, Kind::Commit, Kind::Probe, Kind::HoldCancel];

/// Returns the index of a phase in the tables.
fn place(phase: Phase) -> Option<usize> {
    [Phase::Gather, Phase::Commit, Phase::Recovery, Phase::Operational]
        .iter()
        .position(|other| *other == phase)
}

/// The number of times that each situation occurred, and the state that is needed to detect them.
#[derive(Default)]
pub(super) struct Points {
    hits: BTreeMap<&'static str, u64>,
    nodes: BTreeMap<NodeId, Node>,
    /// The ring that was tried with each ring sequence number.
    tried: BTreeMap<u64, RingId>,
    /// For each new ring, the first old ring whose frames were carried into it.
    carried: BTreeMap<RingId, RingId>,
    /// The reasons for which tenures ended before their rings, by ring sequence number and
    /// hand-overs.
    relieved: BTreeMap<(u64, u32), Relief>,
    inputs: [[u64; INPUTS.len()]; 4],
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

impl Points {
    pub(super) fn hit(&mut self, point: &'static str) {
        *self.hits.entry(point).or_default() += 1;
    }

    pub(super) fn take(&mut self) -> BTreeMap<&'static str, u64> {
        let inputs = self.inputs.as_flattened();
        let names = &POINTS[POINTS.len() - inputs.len()..];
        let reached = names.iter().copied().zip(inputs.iter().copied()).filter(|(_, times)| *times > 0);
        self.hits.extend(reached);
        std::mem::take(&mut self.hits)
    }

    /// Counts a datagram that is about to be handled.
    pub(super) fn input(&mut self, phase: Phase, kind: Kind) {
        let kind = INPUTS.iter().position(|other| *other == kind);
        if let (Some(phase), Some(kind)) = (place(phase), kind) {
            self.inputs[phase][kind] += 1;
        }
    }

    /// Counts a token or commit token that the network loses on its way to a node in this phase.
    pub(super) fn lost(&mut self, message: &Message, to: NodeId, phase: Phase) {
        match message {
            Message::Token(token) => {
                if let Some(phase) = place(phase) {
                    self.hit(LOST_TOKENS[usize::from(token.ring.representative == to)][phase]);
                }
            }
            Message::Commit(CommitToken { token_seq, ring, members, .. }) => {
                let rotation = (token_seq.saturating_sub(1) as usize / members.len()).min(1);
                let hop = match token_seq.saturating_sub(1) as usize % members.len() {
                    _ if to == ring.representative => 2,
                    0 => 0,
                    _ => 1,
                };
                self.hit(LOST_COMMITS[rotation][hop]);
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
                let (waits, unsynced) = (!node.waiting.is_empty(), !node.synced);
                let begun: usize = node.sent.drain(..).map(|(_, length)| length).sum();
                // Sync messages are short.
                let cut = begun > 1000 && node.waiting.front().is_some_and(|length| *length > begun);
                if cut {
                    self.hit("a message was cut in the middle by a ring change");
                }
                if waits {
                    self.hit("messages waited over a ring change");
                }
                if unsynced {
                    self.hit("a ring ended before its members had spoken");
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
            What::Status(status) if matches!(status.inquorate, Some(Inquorate::RingLost { .. })) => {
                self.hit("a node lost its ring and had no other in time");
            }
            What::Stalled(_) => self.hit("a node stood still and noticed it"),
            What::Left(Cause::EventsUnread { .. }) => self.hit("an application fell behind for good"),
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
                    Some(Relief::Hung) => self.hit("the DC's application hung and another took over"),
                    Some(Relief::Released(until)) if now < until => {
                        self.hit("a DC released its role and another acted without waiting");
                    }
                    Some(Relief::Preempted) => self.hit("a higher priority preempted"),
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
                    (Phase::Recovery, Phase::Gather | Phase::Commit) => {
                        self.hit("a recovery was given up");
                        let node = self.node(life);
                        node.given_up += 1;
                        match node.given_up {
                            2 => self.hit("two recoveries in a row were given up"),
                            3 => self.hit("three recoveries in a row were given up"),
                            _ => {}
                        }
                    }
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
                if frame.seq == Seq::new(u32::MAX) {
                    self.hit("numbers wrapped in a ring that was being formed");
                }
                if let (Inside::Numbered(frame), Some(old)) = (inside, self.node(life).ring)
                    && *self.carried.entry(frame.ring).or_insert(old) != old
                {
                    self.hit("two old rings had frames to carry into a new one");
                }
            }
            Inside::Numbered(frame) => {
                self.node(life).sent.push_back((frame.seq, frame.content.length));
                if frame.seq == Seq::new(u32::MAX) {
                    self.hit("numbers wrapped");
                }
            }
            Inside::Resent(_) => self.hit("a frame was sent again"),
            Inside::Limits { window, .. } => {
                // The limits grow when the members have agreed, and are reset with the ring.
                let before = std::mem::replace(&mut self.node(life).window, *window);
                if before < *window {
                    self.hit("all members could take more than the configured window");
                }
            }
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
            Inside::Released(until) => self.node(life).released = until.ok().map(micros),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_has_one_name() {
        let names: BTreeSet<&str> = POINTS.iter().copied().collect();
        assert_eq!(names.len(), POINTS.len());
        let tables = LOST_TOKENS.as_flattened().iter().chain(LOST_COMMITS.as_flattened());
        tables.for_each(|name| assert!(names.contains(name), "{name}"));
        let inputs: Vec<String> = ["gather", "commit", "recovery", "operational"]
            .iter()
            .flat_map(|phase| {
                ["token", "frame", "JOIN", "commit token", "probe", "hold cancel"]
                    .map(|kind| format!("a {kind} came in {phase}"))
            })
            .collect();
        assert_eq!(POINTS[POINTS.len() - inputs.len()..], inputs, "as the table of inputs has them");
    }
}
